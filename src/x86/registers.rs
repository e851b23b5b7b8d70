//! The registers of a processor that has stopped: their names, and what they say of its mode.
//!
//! Source: Intel SDM volume 3A, section 2.2 "Modes of Operation"; the structs are KVM's.

use super::mode::{CR0_PE, EFER_LMA};
use kvm_bindings::{kvm_regs, kvm_sregs};

/// All registers of a processor but those of x87, SSE and debugging, and the model-specific ones.
#[derive(Debug, Clone, Copy, Default)]
pub struct Registers {
    /// General registers, RIP and RFLAGS.
    pub general: kvm_regs,
    /// Segments, control registers and descriptor tables.
    pub system: kvm_sregs,
}

impl Registers {
    /// True in 64-bit mode, where segment bases do not count.
    pub fn is_long(&self) -> bool {
        self.system.efer & EFER_LMA != 0 && self.system.cs.l == 1
    }

    /// How the processor reads code: as 16-, 32- or 64-bit instructions.
    pub fn bits(&self) -> u32 {
        match (self.is_long(), self.system.cs.db) {
            (true, _) => 64,
            (false, 0) => 16,
            (false, _) => 32,
        }
    }

    /// Where RIP points in linear addresses.
    pub fn linear_rip(&self) -> u64 {
        match self.is_long() {
            true => self.general.rip,
            false => self.system.cs.base.wrapping_add(self.general.rip) & 0xffff_ffff,
        }
    }

    /// Bytes of an entry of the IDT: in real mode a far pointer (SDM volume 3A, "Real-Address Mode Operation").
    pub fn gate_size(&self) -> u32 {
        match (self.system.cr0 & CR0_PE != 0, self.system.efer & EFER_LMA != 0) {
            (false, _) => 4,
            (true, false) => 8,
            (true, true) => 16,
        }
    }

    /// The processor's mode, in words.
    pub fn mode(&self) -> &'static str {
        match (self.system.cr0 & CR0_PE != 0, self.system.efer & EFER_LMA != 0, self.system.cs.db) {
            (false, ..) => "real, 16-bit",
            (true, false, 0) => "protected, 16-bit code",
            (true, false, _) => "protected, 32-bit code",
            (true, true, _) if self.is_long() => "long, 64-bit code",
            (true, true, _) => "long, in a compatibility segment",
        }
    }
}

/// RIP, the general registers and RFLAGS, by the names in which debuggers know them.
pub fn general(r: &kvm_regs) -> [(&'static str, u64); 18] {
    [
        ("rip", r.rip),
        ("rax", r.rax),
        ("rbx", r.rbx),
        ("rcx", r.rcx),
        ("rdx", r.rdx),
        ("rsi", r.rsi),
        ("rdi", r.rdi),
        ("rbp", r.rbp),
        ("rsp", r.rsp),
        ("r8", r.r8),
        ("r9", r.r9),
        ("r10", r.r10),
        ("r11", r.r11),
        ("r12", r.r12),
        ("r13", r.r13),
        ("r14", r.r14),
        ("r15", r.r15),
        ("rflags", r.rflags),
    ]
}

/// The selectors of the segments, the control registers and EFER.
pub fn system(s: &kvm_sregs) -> [(&'static str, u64); 13] {
    [
        ("cs", s.cs.selector.into()),
        ("ds", s.ds.selector.into()),
        ("es", s.es.selector.into()),
        ("ss", s.ss.selector.into()),
        ("fs", s.fs.selector.into()),
        ("gs", s.gs.selector.into()),
        ("tr", s.tr.selector.into()),
        ("cr0", s.cr0),
        ("cr2", s.cr2),
        ("cr3", s.cr3),
        ("cr4", s.cr4),
        ("cr8", s.cr8),
        ("efer", s.efer),
    ]
}
