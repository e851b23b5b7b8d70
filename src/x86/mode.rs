//! The control registers, and how a guest is entered: the processor's mode, RIP and a few registers.
//!
//! Control registers are written whole from the constants below, so that the first instruction of a
//! guest depends on nothing a reset left behind. Source: Intel SDM volume 3A, section 2.5 "Control
//! Registers" and 2.2.1 "Extended Feature Enable Register".

use super::segment::Segment;
use kvm_bindings::{kvm_dtable, kvm_regs, kvm_sregs};

/// CR0.PE, bit 0: protected mode.
pub const CR0_PE: u64 = 1 << 0;
/// CR0.MP, bit 1: WAIT obeys TS.
pub const CR0_MP: u64 = 1 << 1;
/// CR0.EM, bit 2: no x87 and no SSE.
pub const CR0_EM: u64 = 1 << 2;
/// CR0.TS, bit 3: the next x87 or SSE instruction faults.
pub const CR0_TS: u64 = 1 << 3;
/// CR0.ET, bit 4: always one since the 486.
pub const CR0_ET: u64 = 1 << 4;
/// CR0.NE, bit 5: x87 errors are exceptions.
pub const CR0_NE: u64 = 1 << 5;
/// CR0.WP, bit 16: ring 0 obeys read-only pages, too.
pub const CR0_WP: u64 = 1 << 16;
/// CR0.NW, bit 29: caches do not write through.
pub const CR0_NW: u64 = 1 << 29;
/// CR0.CD, bit 30: caches are off.
pub const CR0_CD: u64 = 1 << 30;
/// CR0.PG, bit 31: paging.
pub const CR0_PG: u64 = 1 << 31;

/// CR4.PSE, bit 4: large pages in 32-bit page tables.
pub const CR4_PSE: u64 = 1 << 4;
/// CR4.PAE, bit 5: 8-byte page-table entries, which long mode needs.
pub const CR4_PAE: u64 = 1 << 5;
/// CR4.PGE, bit 7: global pages stay in the TLB.
pub const CR4_PGE: u64 = 1 << 7;
/// CR4.OSFXSR, bit 9: SSE instructions may be used.
pub const CR4_OSFXSR: u64 = 1 << 9;
/// CR4.OSXMMEXCPT, bit 10: SSE errors are exceptions of their own.
pub const CR4_OSXMMEXCPT: u64 = 1 << 10;
/// CR4.LA57, bit 12: page tables of five levels.
pub const CR4_LA57: u64 = 1 << 12;
/// CR4.OSXSAVE, bit 18: AVX instructions may be used, where XCR0 says so too.
pub const CR4_OSXSAVE: u64 = 1 << 18;
/// CR4.SMEP, bit 20: ring 0 does not run code in pages of ring 3.
pub const CR4_SMEP: u64 = 1 << 20;
/// CR4.SMAP, bit 21: ring 0 does not access pages of ring 3 unless RFLAGS.AC is set.
pub const CR4_SMAP: u64 = 1 << 21;
/// CR4.PKE, bit 22: pages of ring 3 have protection keys.
pub const CR4_PKE: u64 = 1 << 22;
/// CR4.PKS, bit 24: pages of ring 0 have protection keys.
pub const CR4_PKS: u64 = 1 << 24;

/// EFER.SCE, bit 0: SYSCALL may be used.
pub const EFER_SCE: u64 = 1 << 0;
/// EFER.LME, bit 8: long mode wanted.
pub const EFER_LME: u64 = 1 << 8;
/// EFER.LMA, bit 10: long mode active.
pub const EFER_LMA: u64 = 1 << 10;
/// EFER.NXE, bit 11: page-table entries may forbid to run code.
pub const EFER_NXE: u64 = 1 << 11;

/// RFLAGS bit 1, which is always one.
pub const RFLAGS_RESERVED: u64 = 1 << 1;
/// RFLAGS.TF, bit 8: trap after each instruction.
pub const RFLAGS_TF: u64 = 1 << 8;
/// RFLAGS.IF, bit 9: maskable interrupts are accepted.
pub const RFLAGS_IF: u64 = 1 << 9;
/// RFLAGS.DF, bit 10: string instructions count down.
pub const RFLAGS_DF: u64 = 1 << 10;
/// RFLAGS.RF, bit 16: the instruction that comes next does not stop at a breakpoint.
pub const RFLAGS_RF: u64 = 1 << 16;
/// RFLAGS.VM, bit 17: virtual-8086 mode.
pub const RFLAGS_VM: u64 = 1 << 17;
/// RFLAGS.AC, bit 18: with CR4.SMAP, ring 0 may access pages of ring 3.
pub const RFLAGS_AC: u64 = 1 << 18;

/// The processor mode in which a guest is entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// 16-bit real mode, all segments at 0.
    Real,
    /// 32-bit protected mode, flat segments, no paging.
    Protected,
    /// 64-bit long mode, flat segments, paging on.
    Long {
        /// Guest-physical address of the PML4.
        cr3: u64,
        /// Guest-physical address and limit of the GDT.
        gdt: (u64, u16),
    },
}

/// How a guest is entered: everything a boot protocol promises about registers.
///
/// Registers that are not named are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The processor's mode.
    pub mode: Mode,
    /// First instruction (an offset in segment 0 in real mode).
    pub rip: u64,
    /// Stack pointer.
    pub rsp: u64,
    /// EAX: Multiboot's magic number.
    pub rax: u64,
    /// EBX: the information structure of Multiboot and PVH.
    pub rbx: u64,
    /// RSI: the zero page of the Linux 64-bit protocol.
    pub rsi: u64,
}

impl Entry {
    /// An entry at `rip` with every other register zero.
    pub const fn at(mode: Mode, rip: u64) -> Entry {
        Entry { mode, rip, rsp: 0, rax: 0, rbx: 0, rsi: 0 }
    }

    /// The general registers, for `KVM_SET_REGS`.
    pub fn regs(&self) -> kvm_regs {
        kvm_regs {
            rip: self.rip,
            rsp: self.rsp,
            rax: self.rax,
            rbx: self.rbx,
            rsi: self.rsi,
            rflags: RFLAGS_RESERVED,
            ..kvm_regs::default()
        }
    }

    /// The system registers, for `KVM_SET_SREGS`.
    pub fn sregs(&self) -> kvm_sregs {
        let (code, data) = match self.mode {
            Mode::Real => (Segment::REAL_CODE, Segment::REAL_DATA),
            Mode::Protected => (Segment::CODE32, Segment::DATA),
            Mode::Long { .. } => (Segment::CODE64, Segment::DATA),
        };
        let mut sregs = kvm_sregs {
            cs: code.kvm(),
            ds: data.kvm(),
            es: data.kvm(),
            fs: data.kvm(),
            gs: data.kvm(),
            ss: data.kvm(),
            tr: Segment::TSS.kvm(),
            // An empty LDT: present is what VM entry checks.
            ldt: kvm_bindings::kvm_segment { type_: 2, present: 1, ..Default::default() },
            cr0: CR0_ET,
            apic_base: APIC_BASE_RESET,
            ..kvm_sregs::default()
        };
        // Real mode has its vector table at address 0. In the other modes a limit of 0 means that there is no IDT:
        // the first exception becomes a triple fault.
        sregs.idt.limit = if self.mode == Mode::Real { 0x3ff } else { 0 };
        match self.mode {
            Mode::Real => {}
            Mode::Protected => sregs.cr0 |= CR0_PE,
            Mode::Long { cr3, gdt: (base, limit) } => {
                sregs.cr0 |= CR0_PE | CR0_PG;
                sregs.cr3 = cr3;
                sregs.cr4 = CR4_PAE;
                sregs.efer = EFER_LME | EFER_LMA;
                sregs.gdt = kvm_dtable { base, limit, ..Default::default() };
            }
        }
        sregs
    }
}

/// The current privilege level: the ring that the processor runs in, 0 to 3 (SDM volume 3A, section 5.5).
///
/// KVM shows it as the DPL of SS (on Intel's and AMD's processors alike). Real mode has no rings; its code may do
/// what ring 0 may.
pub fn cpl(sregs: &kvm_sregs, rflags: u64) -> u8 {
    match (sregs.cr0 & CR0_PE != 0, rflags & RFLAGS_VM != 0) {
        (false, _) => 0,
        (true, true) => 3,
        (true, false) => sregs.ss.dpl,
    }
}

/// IA32_APIC_BASE as a reset leaves it on the boot processor: enabled (SDM 11.4.4).
const APIC_BASE_RESET: u64 = super::layout::LOCAL_APIC | 1 << 11 | 1 << 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn sregs(mode: Mode) -> kvm_sregs {
        Entry::at(mode, 0).sregs()
    }

    #[test]
    fn real_mode_has_neither_protection_nor_paging_and_segments_at_zero() {
        let sregs = sregs(Mode::Real);
        assert_eq!((sregs.cr0, sregs.cr4, sregs.efer), (CR0_ET, 0, 0));
        assert_eq!((sregs.cs.base, sregs.cs.selector, sregs.cs.db, sregs.cs.l), (0, 0, 0, 0));
        assert_eq!((sregs.idt.base, sregs.idt.limit), (0, 0x3ff));
    }

    #[test]
    fn protected_mode_has_flat_32_bit_segments_and_no_paging() {
        let sregs = sregs(Mode::Protected);
        assert_eq!((sregs.cr0, sregs.cr4, sregs.efer), (CR0_ET | CR0_PE, 0, 0));
        assert_eq!((sregs.cs.base, sregs.cs.limit, sregs.cs.db, sregs.cs.l), (0, u32::MAX, 1, 0));
        for data in [sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss] {
            assert_eq!((data.base, data.limit, data.type_), (0, u32::MAX, 3));
        }
    }

    #[test]
    fn long_mode_is_active_with_paging_and_the_given_tables() {
        let sregs = sregs(Mode::Long { cr3: 0x9000, gdt: (0x7f00, 47) });
        assert_eq!(sregs.cr0, CR0_ET | CR0_PE | CR0_PG);
        assert_eq!((sregs.cr3, sregs.cr4, sregs.efer), (0x9000, CR4_PAE, EFER_LME | EFER_LMA));
        assert_eq!((sregs.gdt.base, sregs.gdt.limit), (0x7f00, 47));
        assert_eq!((sregs.cs.l, sregs.cs.db), (1, 0), "L and D must not both be set");
    }

    #[test]
    fn vm_entry_finds_a_busy_tss_in_every_mode() {
        for mode in [Mode::Real, Mode::Protected, Mode::Long { cr3: 0, gdt: (0, 0) }] {
            let tr = sregs(mode).tr;
            assert_eq!((tr.type_, tr.s, tr.present), (0xb, 0, 1));
        }
    }

    #[test]
    fn registers_that_are_not_named_are_zero_and_interrupts_are_off() {
        let entry = Entry { rsp: 1, rax: 2, rbx: 3, rsi: 4, ..Entry::at(Mode::Real, 5) };
        let named = kvm_regs { rsp: 1, rax: 2, rbx: 3, rsi: 4, rip: 5, rflags: 2, ..kvm_regs::default() };
        assert_eq!(entry.regs(), named);
    }
}
