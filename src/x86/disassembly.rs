//! Instructions as text, by the iced-x86 crate. Without the feature `trace`, there is no text.

use kvm_bindings::kvm_regs;

/// The instruction that `bytes` begin with, as NASM writes it, and its length; `bits` is 16, 32 or 64.
pub fn text(bits: u32, rip: u64, bytes: &[u8]) -> Option<(String, usize)> {
    #[cfg(feature = "trace")]
    return iced::decode(bits, rip, bytes).map(|found| (iced::format(&found), found.len()));
    #[cfg(not(feature = "trace"))]
    return {
        _ = (bits, rip, bytes);
        None
    };
}

/// The address of the instruction's operand in memory, or the one that it jumps to, computed from the registers without
/// segment bases.
pub fn address(bits: u32, registers: &kvm_regs, bytes: &[u8]) -> Option<u64> {
    #[cfg(feature = "trace")]
    return iced::address(&iced::decode(bits, registers.rip, bytes)?, registers);
    #[cfg(not(feature = "trace"))]
    return {
        _ = (bits, registers, bytes);
        None
    };
}

/// The general register of a number, as instructions encode it (SDM volume 2, table 2-2).
pub fn register(registers: &kvm_regs, number: u8) -> u64 {
    let r = registers;
    [
        r.rax, r.rcx, r.rdx, r.rbx, r.rsp, r.rbp, r.rsi, r.rdi, r.r8, r.r9, r.r10, r.r11, r.r12, r.r13,
        r.r14, r.r15,
    ][usize::from(number & 15)]
}

#[cfg(feature = "trace")]
pub use iced::{decode, format};

#[cfg(feature = "trace")]
mod iced {
    use super::register;
    use iced_x86::{Decoder, DecoderOptions, Formatter, Instruction, NasmFormatter, OpKind, Register};
    use kvm_bindings::kvm_regs;

    /// The instruction that `bytes` begin with.
    pub fn decode(bits: u32, rip: u64, bytes: &[u8]) -> Option<Instruction> {
        let instruction = Decoder::with_ip(bits, bytes, rip, DecoderOptions::NONE).decode();
        (!instruction.is_invalid()).then_some(instruction)
    }

    /// The instruction as text.
    pub fn format(instruction: &Instruction) -> String {
        let mut formatter = NasmFormatter::new();
        let options = formatter.options_mut();
        options.set_space_after_operand_separator(true);
        options.set_hex_prefix("0x");
        options.set_hex_suffix("");
        options.set_uppercase_hex(false);
        options.set_small_hex_numbers_in_decimal(false);
        let mut text = String::new();
        formatter.format(instruction, &mut text);
        text
    }

    pub fn address(instruction: &Instruction, registers: &kvm_regs) -> Option<u64> {
        let value = |of: Register| match of {
            Register::None => Some(0),
            // iced has added RIP to the displacement already.
            Register::RIP | Register::EIP => Some(0),
            _ => number(of).map(|number| register(registers, number)),
        };
        for operand in 0..instruction.op_count() {
            match instruction.op_kind(operand) {
                OpKind::Memory => {
                    let index = value(instruction.memory_index())?;
                    let scaled = index.wrapping_mul(instruction.memory_index_scale().into());
                    let base = value(instruction.memory_base())?;
                    return Some(base.wrapping_add(scaled).wrapping_add(instruction.memory_displacement64()));
                }
                OpKind::Register if is_jump(instruction) => return value(instruction.op_register(operand)),
                _ => {}
            }
        }
        None
    }

    fn is_jump(instruction: &Instruction) -> bool {
        use iced_x86::Mnemonic::{Call, Jmp};
        matches!(instruction.mnemonic(), Jmp | Call)
    }

    /// The number of a 64-bit register in an instruction's encoding.
    fn number(of: Register) -> Option<u8> {
        use Register as R;
        let all = [
            R::RAX,
            R::RCX,
            R::RDX,
            R::RBX,
            R::RSP,
            R::RBP,
            R::RSI,
            R::RDI,
            R::R8,
            R::R9,
            R::R10,
            R::R11,
            R::R12,
            R::R13,
            R::R14,
            R::R15,
        ];
        all.iter().position(|&register| register == of).map(|at| at as u8)
    }
}
