//! Which instruction made the guest exit, in words.
//!
//! After an exit, KVM shows RIP at the instruction or after it: that depends on whether KVM's fast path or its emulator
//! executed it, and on whether it is a string instruction. So the bytes before and after RIP are read, and the
//! instruction that fits the exit is taken.

use super::event::{Code, ExitRecord};
use crate::text::hex;

/// The instruction that caused an exit, with its address; if it is not found, the bytes at RIP.
pub fn instruction(exit: &ExitRecord, code: &Code) -> (u64, String) {
    search::find(exit, code).unwrap_or_else(|| (code.rip, bytes(code.behind())))
}

fn bytes(bytes: &[u8]) -> String {
    match bytes {
        [] => "not memory".into(),
        bytes => hex(&bytes[..bytes.len().min(8)]),
    }
}

mod search {
    use super::{Code, ExitRecord};
    use crate::trace::event::Reason;
    use crate::x86::disassembly;
    use iced_x86::{Instruction, OpKind, Register};

    /// Decodes the instruction that begins `before` bytes before RIP.
    fn decode(code: &Code, before: usize) -> Option<Instruction> {
        if before > code.known.0 {
            return None;
        }
        let bytes = &code.bytes[Code::BEFORE - before..Code::BEFORE + code.known.1];
        disassembly::decode(code.bits, code.rip.wrapping_sub(before as u64), bytes)
    }

    /// The instruction that made the guest exit.
    pub fn find(exit: &ExitRecord, code: &Code) -> Option<(u64, String)> {
        let at = decode(code, 0);
        let found = if exit.reason.is_access() {
            let fits = |instruction: &Instruction| does(instruction, exit);
            let behind = || ending(code).into_iter().find(fits);
            // A string instruction exits between two iterations, with RIP still at it.
            let is_string =
                |instruction: &Instruction| instruction.has_rep_prefix() || instruction.has_repne_prefix();
            at.filter(|at| is_string(at) && fits(at)).or_else(behind).or(at.filter(fits))?
        } else {
            at?
        };
        Some((found.ip(), disassembly::format(&found)))
    }

    /// The instructions that may end at RIP, the most likely first.
    ///
    /// x86 code cannot be decoded backwards, as instructions have different lengths. But decoding forwards from a
    /// wrong byte usually meets the real instructions after a few. So it is tried from each of the 15 bytes before
    /// RIP, and the last instruction that most of these tries arrive at is the most likely.
    fn ending(code: &Code) -> Vec<Instruction> {
        let mut votes: Vec<(usize, Instruction)> = Vec::new();
        for begin in 1..=code.known.0 {
            let mut before = begin;
            while let Some(instruction) = decode(code, before) {
                if instruction.len() < before {
                    before -= instruction.len();
                    continue;
                }
                if instruction.len() == before {
                    match votes.iter_mut().find(|(_, known)| known.ip() == instruction.ip()) {
                        Some((count, _)) => *count += 1,
                        None => votes.push((1, instruction)),
                    }
                }
                break;
            }
        }
        votes.sort_by_key(|&(count, _)| std::cmp::Reverse(count));
        votes.into_iter().map(|(_, instruction)| instruction).collect()
    }

    /// Whether `instruction` moves data the way that `exit` tells.
    fn does(instruction: &Instruction, exit: &ExitRecord) -> bool {
        use iced_x86::Mnemonic::{In, Insb, Insd, Insw, Out, Outsb, Outsd, Outsw};
        let mnemonic = instruction.mnemonic();
        match exit.reason {
            Reason::Out => match mnemonic {
                Out => port(instruction, 0, exit) && width(instruction.op1_register()) == exit.size,
                _ => matches!((mnemonic, exit.size), (Outsb, 1) | (Outsw, 2) | (Outsd, 4)),
            },
            Reason::In => match mnemonic {
                In => port(instruction, 1, exit) && width(instruction.op0_register()) == exit.size,
                _ => matches!((mnemonic, exit.size), (Insb, 1) | (Insw, 2) | (Insd, 4)),
            },
            _ => memory_width(instruction) == Some(exit.size),
        }
    }

    /// Bytes of AL, AX or EAX, the only registers that IN and OUT move data to and from.
    fn width(accumulator: Register) -> usize {
        match accumulator {
            Register::AL => 1,
            Register::AX => 2,
            _ => 4,
        }
    }

    /// Bytes of the operand in memory; `None` if there is none, or it is larger than a device serves.
    fn memory_width(instruction: &Instruction) -> Option<usize> {
        use iced_x86::MemorySize::{Int8, Int16, Int32, Int64, UInt8, UInt16, UInt32, UInt64};
        match instruction.memory_size() {
            UInt8 | Int8 => Some(1),
            UInt16 | Int16 => Some(2),
            UInt32 | Int32 => Some(4),
            UInt64 | Int64 => Some(8),
            _ => None,
        }
    }

    /// Whether the operand names the port that was accessed.
    fn port(instruction: &Instruction, operand: u32, exit: &ExitRecord) -> bool {
        match instruction.op_kind(operand) {
            OpKind::Immediate8 => u64::from(instruction.immediate8()) == exit.address,
            _ => instruction.op_register(operand) == Register::DX && u64::from(exit.dx) == exit.address,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kvm::Exit;

    /// Code with the bytes `before` before RIP and `behind` from RIP on.
    fn code(bits: u32, before: &[u8], behind: &[u8]) -> Code {
        let mut bytes = [0x90; Code::BEFORE + Code::BEHIND];
        bytes[Code::BEFORE - before.len()..Code::BEFORE].copy_from_slice(before);
        bytes[Code::BEFORE..Code::BEFORE + behind.len()].copy_from_slice(behind);
        Code { rip: 0x7c10, bits, bytes, known: (Code::BEFORE, Code::BEHIND) }
    }

    fn out(port: u16, size: usize, data: &[u8]) -> ExitRecord {
        ExitRecord { dx: 0x3f8, ..ExitRecord::of(&Exit::Out { port, size, data }) }
    }

    #[test]

    fn the_instruction_is_found_at_rip_and_behind_it() {
        let found = |exit: &ExitRecord, code: &Code| instruction(exit, code);
        // out dx, al, with RIP behind it, and at it
        assert_eq!(found(&out(0x3f8, 1, b"a"), &code(64, &[0xee], &[])), (0x7c0f, "out dx, al".into()));
        assert_eq!(found(&out(0x3f8, 1, b"a"), &code(64, &[], &[0xee])), (0x7c10, "out dx, al".into()));
        // The size distinguishes out dx, ax from out dx, eax; the port distinguishes the form with an immediate.
        assert_eq!(found(&out(0x3f8, 2, b"ab"), &code(64, &[0x66, 0xef], &[])).1, "out dx, ax");
        assert_eq!(found(&out(0x3f8, 4, b"abcd"), &code(64, &[0x66, 0xef], &[])).1, "out dx, eax");
        assert_eq!(found(&out(0x80, 1, b"a"), &code(16, &[0xe6, 0x80], &[0xee])).1, "out 0x80, al");
        // A string instruction is at RIP, even if an OUT stands before it.
        let both = code(64, &[0xee], &[0xf3, 0x6e]);
        assert_eq!(found(&out(0x3f8, 1, b"abc"), &both), (0x7c10, "rep outsb".into()));
        // mov [rdi], eax
        let write = ExitRecord::of(&Exit::MmioWrite { address: 0xfec0_0000, data: &[0; 4] });
        assert_eq!(found(&write, &code(64, &[0x89, 0x07], &[0xf4])).1, "mov [rdi], eax");
        // Its last two bytes alone would decode as add [rax], al.
        let long = code(64, &[0xc7, 0x00, 0x19, 0x00, 0x00, 0x00], &[0xf4]);
        assert_eq!(found(&write, &long).1, "mov dword [rax], 0x19");
        // ud2
        assert_eq!(found(&ExitRecord::of(&Exit::Shutdown), &code(64, &[], &[0x0f, 0x0b])).1, "ud2");
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        let nothing = Code { known: (0, 0), ..code(64, &[], &[]) };
        assert_eq!(instruction(&ExitRecord::of(&Exit::Shutdown), &nothing), (0x7c10, "not memory".into()));
    }
}
