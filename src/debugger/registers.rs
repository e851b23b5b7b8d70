//! The registers of a processor as gdb knows them: their order, their sizes and their names.
//!
//! Those of the core, x87 and SSE are the gdbstub_arch crate's; the bases of FS and GS and the control registers follow
//! them. gdb knows no segments: it takes RIP for an address. So RIP is shown as the linear address that it means, which
//! differs where CS has a base, as in real mode. Source: the GDB manual, appendix G "Target Descriptions", G.5.3 "i386 Features".

use crate::x86::Registers;
use gdbstub::arch;
use gdbstub_arch::x86::reg::{X86_64CoreRegs, X86SegmentRegs};
use kvm_bindings::{kvm_fpu, kvm_segment};

/// x86-64, with the registers that only ring 0 sees.
pub(super) enum Amd64 {}

impl arch::Arch for Amd64 {
    type Usize = u64;
    type Registers = AllRegisters;
    type RegId = ();
    type BreakpointKind = usize;

    fn target_description_xml() -> Option<&'static str> {
        Some(include_str!("target.xml"))
    }
}

/// Bytes of [`X86_64CoreRegs`] in a packet.
const CORE_BYTES: usize = 0x218;

/// All that gdb is shown of a processor, in the order of target.xml.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct AllRegisters {
    pub core: X86_64CoreRegs,
    /// The bases of FS and GS, then CR0, CR2, CR3, CR4, CR8 and EFER.
    pub system: [u64; 8],
}

impl AllRegisters {
    /// Those of a processor that has stopped.
    pub fn of(registers: &Registers, fpu: &kvm_fpu) -> AllRegisters {
        let (r, s) = (&registers.general, &registers.system);
        let mut core = X86_64CoreRegs {
            regs: [
                r.rax, r.rbx, r.rcx, r.rdx, r.rsi, r.rdi, r.rbp, r.rsp, r.r8, r.r9, r.r10, r.r11, r.r12,
                r.r13, r.r14, r.r15,
            ],
            eflags: r.rflags as u32,
            rip: registers.linear_rip(),
            mxcsr: fpu.mxcsr,
            ..X86_64CoreRegs::default()
        };
        let selector = |of: kvm_segment| u32::from(of.selector);
        core.segments = X86SegmentRegs {
            cs: selector(s.cs),
            ss: selector(s.ss),
            ds: selector(s.ds),
            es: selector(s.es),
            fs: selector(s.fs),
            gs: selector(s.gs),
        };
        for (to, from) in core.st.iter_mut().zip(&fpu.fpr) {
            to.copy_from_slice(&from[..10]);
        }
        (core.fpu.fctrl, core.fpu.fstat) = (fpu.fcw.into(), fpu.fsw.into());
        (core.fpu.ftag, core.fpu.fop) = (fpu.ftwx.into(), fpu.last_opcode.into());
        for (to, from) in core.xmm.iter_mut().zip(&fpu.xmm) {
            *to = u128::from_le_bytes(*from);
        }
        AllRegisters { core, system: [s.fs.base, s.gs.base, s.cr0, s.cr2, s.cr3, s.cr4, s.cr8, s.efer] }
    }

    /// Sets the general registers, RIP and RFLAGS in `registers` to what they are here.
    pub fn set_general(&self, registers: &mut Registers) {
        let r = &mut registers.general;
        let to = [
            &mut r.rax, &mut r.rbx, &mut r.rcx, &mut r.rdx, &mut r.rsi, &mut r.rdi, &mut r.rbp, &mut r.rsp,
            &mut r.r8, &mut r.r9, &mut r.r10, &mut r.r11, &mut r.r12, &mut r.r13, &mut r.r14, &mut r.r15,
        ];
        for (to, &from) in to.into_iter().zip(&self.core.regs) {
            *to = from;
        }
        let base = if registers.is_long() { 0 } else { registers.system.cs.base };
        let r = &mut registers.general;
        (r.rip, r.rflags) = (self.core.rip.wrapping_sub(base), self.core.eflags.into());
    }

    /// Whether the registers that [`AllRegisters::set_general`] does not set are the same in `other`.
    pub fn differs_only_in_general(&self, other: &AllRegisters) -> bool {
        let mut same = self.clone();
        (same.core.regs, same.core.rip, same.core.eflags) =
            (other.core.regs, other.core.rip, other.core.eflags);
        same == *other
    }
}

impl arch::Registers for AllRegisters {
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
    use crate::x86::{Entry, Mode};
    use gdbstub::arch::{Arch, Registers as _};

    #[test]
    fn registers_are_sent_and_taken_in_the_same_order() {
        let entry = Entry { rax: 1, rsp: 8, ..Entry::at(Mode::Long { cr3: 0x9000, gdt: (0, 0) }, 0x7c00) };
        let mut registers = Registers { general: entry.regs(), system: entry.sregs() };
        registers.system.fs.base = 0x1234;
        assert_eq!(AllRegisters::of(&registers, &kvm_fpu::default()).core.rip, 0x7c00, "64-bit code");
        let all = AllRegisters::of(&registers, &kvm_fpu::default());
        assert_eq!(all.system, [0x1234, 0, 0x8000_0011, 0, 0x9000, 0x20, 0, 0x500]);
        let mut bytes = Vec::new();
        all.gdb_serialize(|byte| bytes.push(byte.unwrap()));
        let mut read = AllRegisters::default();
        read.gdb_deserialize(&bytes).unwrap();
        assert_eq!(read, all);
        for len in [0, CORE_BYTES, bytes.len() - 1] {
            assert!(read.gdb_deserialize(&bytes[..len]).is_err());
        }
        let mut changed = all.clone();
        changed.core.regs[0] = 2;
        assert!(changed.differs_only_in_general(&all));
        changed.system[2] = 0;
        assert!(!changed.differs_only_in_general(&all));
    }

    #[test]
    fn rip_is_shown_as_the_address_that_it_means() {
        let entry = Entry::at(Mode::Real, 3);
        let mut registers = Registers { general: entry.regs(), system: entry.sregs() };
        registers.system.cs.base = 0x8000;
        let mut all = AllRegisters::of(&registers, &kvm_fpu::default());
        assert_eq!(all.core.rip, 0x8003);
        all.core.rip = 0x8010;
        all.set_general(&mut registers);
        assert_eq!(registers.general.rip, 0x10);
    }

    #[test]
    fn the_description_has_as_many_bits_as_a_packet() {
        let xml = Amd64::target_description_xml().unwrap();
        let sizes = xml.split("bitsize=\"").skip(1).map(|rest| rest.split('"').next().unwrap());
        let bits: usize = sizes.map(|size| size.parse::<usize>().unwrap()).sum();
        assert_eq!(bits, (CORE_BYTES + 8 * 8) * 8);
    }
}
