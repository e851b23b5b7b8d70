//! The registers of a program's thread as gdb knows them: core, x87, SSE, and the bases of FS and GS.
//!
//! Source: the GDB manual, G.5.3 "i386 Features"; SDM volume 1, table 10-2 for what FXSAVE writes.

use gdbstub::arch;
use gdbstub_arch::x86::reg::{X86_64CoreRegs, X86SegmentRegs};
use kvm_bindings::kvm_regs;

/// x86-64 under Linux: by that gdb knows how a program finds its libraries.
pub(super) enum Linux64 {}

impl arch::Arch for Linux64 {
    type Usize = u64;
    type Registers = ProgramRegisters;
    type RegId = ();
    type BreakpointKind = usize;

    fn target_description_xml() -> Option<&'static str> {
        Some(include_str!("target.xml"))
    }
}

/// Bytes of [`X86_64CoreRegs`] in a packet.
const CORE_BYTES: usize = 0x218;
/// The selectors that a program has, as in Linux.
const CODE: u32 = 0x33;
const DATA: u32 = 0x2b;

/// All that gdb is shown, in the order of target.xml.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct ProgramRegisters {
    pub core: X86_64CoreRegs,
    /// Those of FS and GS, and `orig_rax`: a system call that Linux would have to begin again, here always none.
    pub system: [u64; 3],
}

/// `N` bytes at `at`, zeroes where there are none.
fn bytes<const N: usize>(of: &[u8], at: usize) -> [u8; N] {
    let piece = of.get(at..at.saturating_add(N)).and_then(|piece| piece.try_into().ok());
    piece.unwrap_or([0; N])
}

impl ProgramRegisters {
    /// Of a thread that has stopped; `fpu` as FXSAVE writes it.
    pub fn of(r: &kvm_regs, fpu: &[u8], bases: [u64; 2]) -> ProgramRegisters {
        let mut core = X86_64CoreRegs {
            regs: [
                r.rax, r.rbx, r.rcx, r.rdx, r.rsi, r.rdi, r.rbp, r.rsp, r.r8, r.r9, r.r10, r.r11, r.r12,
                r.r13, r.r14, r.r15,
            ],
            eflags: r.rflags as u32,
            rip: r.rip,
            mxcsr: u32::from_le_bytes(bytes(fpu, 24)),
            segments: X86SegmentRegs { cs: CODE, ss: DATA, ds: 0, es: 0, fs: 0, gs: 0 },
            ..X86_64CoreRegs::default()
        };
        let word = |at: usize| u32::from(u16::from_le_bytes(bytes(fpu, at)));
        (core.fpu.fctrl, core.fpu.fstat) = (word(0), word(2));
        (core.fpu.ftag, core.fpu.fop) = (u32::from(bytes::<1>(fpu, 4)[0]), word(6));
        for (to, at) in core.st.iter_mut().zip((32..).step_by(16)) {
            *to = bytes(fpu, at);
        }
        for (to, at) in core.xmm.iter_mut().zip((160..).step_by(16)) {
            *to = u128::from_le_bytes(bytes(fpu, at));
        }
        ProgramRegisters { core, system: [bases[0], bases[1], u64::MAX] }
    }

    /// Sets the general registers, RIP and RFLAGS in `r` to what they are here.
    pub fn set_general(&self, r: &mut kvm_regs) {
        let to = [
            &mut r.rax, &mut r.rbx, &mut r.rcx, &mut r.rdx, &mut r.rsi, &mut r.rdi, &mut r.rbp, &mut r.rsp,
            &mut r.r8, &mut r.r9, &mut r.r10, &mut r.r11, &mut r.r12, &mut r.r13, &mut r.r14, &mut r.r15,
        ];
        for (to, &from) in to.into_iter().zip(&self.core.regs) {
            *to = from;
        }
        (r.rip, r.rflags) = (self.core.rip, self.core.eflags.into());
    }

    /// Whether the registers that [`ProgramRegisters::set_general`] does not set are the same in `other`.
    pub fn differs_only_in_general(&self, other: &ProgramRegisters) -> bool {
        let mut same = self.clone();
        (same.core.regs, same.core.rip, same.core.eflags) =
            (other.core.regs, other.core.rip, other.core.eflags);
        same == *other
    }
}

impl arch::Registers for ProgramRegisters {
    type ProgramCounter = u64;

    fn pc(&self) -> u64 {
        self.core.rip
    }

    fn gdb_serialize(&self, mut write_byte: impl FnMut(Option<u8>)) {
        self.core.gdb_serialize(&mut write_byte);
        self.system.iter().flat_map(|value| value.to_le_bytes()).for_each(|byte| write_byte(Some(byte)));
    }

    fn gdb_deserialize(&mut self, bytes: &[u8]) -> Result<(), ()> {
        let (core, system) = bytes.split_at_checked(CORE_BYTES).ok_or(())?;
        self.core.gdb_deserialize(core)?;
        let (values, rest) = system.as_chunks();
        if values.len() != self.system.len() || !rest.is_empty() {
            return Err(());
        }
        for (to, from) in self.system.iter_mut().zip(values) {
            *to = u64::from_le_bytes(*from);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gdbstub::arch::{Arch, Registers as _};

    #[test]
    fn registers_are_sent_and_taken_in_the_same_order() {
        let mut fpu = vec![0; 512];
        (fpu[0], fpu[24], fpu[32], fpu[160]) = (0x7f, 0x80, 7, 9);
        let all = ProgramRegisters::of(&kvm_regs { rip: 5, r15: 15, ..kvm_regs::default() }, &fpu, [1, 2]);
        assert_eq!(
            (all.core.fpu.fctrl, all.core.mxcsr, all.core.st[0][0], all.core.xmm[0]),
            (0x7f, 0x80, 7, 9)
        );
        let mut bytes = Vec::new();
        all.gdb_serialize(|byte| bytes.push(byte.unwrap()));
        let mut read = ProgramRegisters::default();
        read.gdb_deserialize(&bytes).unwrap();
        assert_eq!(read, all);
        for len in [0, CORE_BYTES, bytes.len() - 1] {
            assert!(read.gdb_deserialize(&bytes[..len]).is_err());
        }
        let xml = Linux64::target_description_xml().unwrap();
        let sizes = xml.split("bitsize=\"").skip(1).map(|rest| rest.split('"').next().unwrap());
        let bits: usize = sizes.map(|size| size.parse::<usize>().unwrap()).sum();
        assert_eq!(bits, bytes.len() * 8);
    }
}
