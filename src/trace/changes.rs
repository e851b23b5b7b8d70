//! What an instruction has changed, in names and bits: the difference of the registers before and after it.
//!
//! Nothing here knows a guest. Sources: Intel SDM volume 3A, sections 2.3 "System Flags" and 2.5 "Control Registers",
//! 3.4 "Logical and Linear Addresses"; volume 1, section 3.4.3 "EFLAGS Register".

use crate::kvm::Registers;
use kvm_bindings::kvm_segment;

/// A register that has another value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its name.
    pub register: &'static str,
    /// Its value before.
    pub before: u64,
    /// Its value after.
    pub after: u64,
}

/// All that an instruction has changed, but for RIP.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Registers with their values.
    pub registers: Vec<Change>,
    /// What these mean, where a bit or a segment decides over the processor's mode.
    pub notes: Vec<String>,
}

/// A bit: its register, number and name, and what it means to set and to clear it.
type Bit = (&'static str, u32, &'static str, &'static str, &'static str);

/// The bits that decide how the processor works.
const BITS: &[Bit] = &[
    ("cr0", 0, "CR0.PE", "protection: segment registers take selectors of the GDT now", "back to real mode"),
    ("cr0", 1, "CR0.MP", "WAIT obeys CR0.TS", "WAIT ignores CR0.TS"),
    ("cr0", 2, "CR0.EM", "no x87 and no SSE", "x87 and SSE instructions run"),
    ("cr0", 3, "CR0.TS", "the next x87 or SSE instruction faults", "x87 and SSE do not fault any more"),
    ("cr0", 5, "CR0.NE", "x87 errors are exceptions", "x87 errors are interrupts"),
    ("cr0", 16, "CR0.WP", "read-only pages are so for ring 0, too", "ring 0 may write to read-only pages"),
    ("cr0", 29, "CR0.NW", "caches do not write through", "caches write back"),
    ("cr0", 30, "CR0.CD", "caches are off", "caches are on"),
    (
        "cr0",
        31,
        "CR0.PG",
        "paging: every address goes through the tables at CR3 now",
        "no paging: addresses are physical",
    ),
    ("cr4", 4, "CR4.PSE", "large pages in 32-bit tables", "no large pages in 32-bit tables"),
    (
        "cr4",
        5,
        "CR4.PAE",
        "page table entries have 8 bytes, as long mode needs them",
        "page table entries have 4 bytes",
    ),
    ("cr4", 7, "CR4.PGE", "global pages stay in the TLB", "no global pages"),
    ("cr4", 9, "CR4.OSFXSR", "SSE instructions may be used", "SSE instructions fault"),
    ("cr4", 10, "CR4.OSXMMEXCPT", "SSE errors are exceptions of their own", "SSE errors are invalid opcodes"),
    ("cr4", 12, "CR4.LA57", "page tables of five levels", "page tables of four levels"),
    ("cr4", 18, "CR4.OSXSAVE", "XSAVE and AVX may be used", "XSAVE and AVX fault"),
    ("cr4", 20, "CR4.SMEP", "ring 0 does not run user pages", "ring 0 may run user pages"),
    ("cr4", 21, "CR4.SMAP", "ring 0 does not touch user pages", "ring 0 may touch user pages"),
    ("efer", 0, "EFER.SCE", "SYSCALL may be used", "SYSCALL faults"),
    (
        "efer",
        8,
        "EFER.LME",
        "long mode is wanted; it begins when paging is switched on",
        "long mode is not wanted any more",
    ),
    ("efer", 10, "EFER.LMA", "long mode is active: the processor set this bit itself", "long mode has ended"),
    ("efer", 11, "EFER.NXE", "pages may forbid to run code", "pages cannot forbid to run code"),
    ("rflags", 9, "RFLAGS.IF", "interrupts are let in", "interrupts are kept out"),
    ("rflags", 10, "RFLAGS.DF", "strings count down", "strings count up"),
];

/// The arithmetic flags, by bit (SDM volume 1, figure 3-8).
const FLAGS: [(u32, &str); 6] = [(0, "CF"), (2, "PF"), (4, "AF"), (6, "ZF"), (7, "SF"), (11, "OF")];

impl Changes {
    /// What differs in `after`.
    pub fn between(before: &Registers, after: &Registers) -> Changes {
        let mut changes = Changes::default();
        for ((register, before), (_, after)) in values(before).into_iter().zip(values(after)) {
            if before != after {
                changes.registers.push(Change { register, before, after });
                changes.bits(register, before, after);
            }
        }
        changes.segments(before, after);
        changes.tables(before, after);
        if before.mode() != after.mode() {
            changes.notes.push(format!("the mode is {} now; it was {}", after.mode(), before.mode()));
        }
        changes
    }

    fn bits(&mut self, of: &str, before: u64, after: u64) {
        for &(register, bit, name, set, cleared) in BITS {
            let is = |value: u64| value >> bit & 1;
            if register == of && is(before) != is(after) {
                let meaning = if is(after) == 1 { set } else { cleared };
                self.notes.push(format!("{name} {} → {}: {meaning}", is(before), is(after)));
            }
        }
        if of == "cr3" {
            self.notes.push(format!("the page tables begin at {:#x}", after & 0x000f_ffff_ffff_f000));
        }
    }

    fn segments(&mut self, before: &Registers, after: &Registers) {
        for ((name, before), (_, after)) in segments(before).into_iter().zip(segments(after)) {
            if before == after {
                continue;
            }
            let (l, d) = (before.l != after.l, before.db != after.db);
            if name == "CS" && l {
                let meaning = if after.l == 1 {
                    "code is read as 64-bit instructions"
                } else {
                    "code is not 64-bit any more"
                };
                self.notes.push(format!("CS.L {} → {}: {meaning}", before.l, after.l));
            }
            if name == "CS" && d {
                let meaning = match (after.db, after.l) {
                    (1, _) => "code is read as 32-bit instructions",
                    (_, 1) => "the bit has to be clear where L is set",
                    _ => "code is read as 16-bit instructions",
                };
                self.notes.push(format!("CS.D {} → {}: {meaning}", before.db, after.db));
            }
            let hidden = (before.base, before.limit, before.type_) != (after.base, after.limit, after.type_);
            if hidden || l || d {
                self.notes.push(format!(
                    "{name} holds {:#x}: base {:#x}, limit {:#x}",
                    after.selector, after.base, after.limit
                ));
            }
        }
    }

    fn tables(&mut self, before: &Registers, after: &Registers) {
        let (b, a) = (&before.system, &after.system);
        for (name, what, before, after) in
            [("GDTR", "segments", b.gdt, a.gdt), ("IDTR", "interrupts", b.idt, a.idt)]
        {
            if (before.base, before.limit) != (after.base, after.limit) {
                self.notes.push(format!(
                    "{name}: the table of {what} is at {:#x}, its last byte at +{:#x}",
                    after.base, after.limit
                ));
            }
        }
    }
}

/// The arithmetic flags that are set.
pub fn flags(rflags: u64) -> String {
    let set: Vec<&str> =
        FLAGS.iter().filter(|(bit, _)| rflags >> bit & 1 == 1).map(|&(_, name)| name).collect();
    if set.is_empty() { "none set".into() } else { set.join(" ") }
}

fn values(registers: &Registers) -> [(&'static str, u64); 29] {
    let (r, s) = (&registers.general, &registers.system);
    [
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
        ("rflags", r.rflags & !RESUME),
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
        ("efer", s.efer),
    ]
}

/// RFLAGS.RF, bit 16, and TF, bit 8: the debugger's.
const RESUME: u64 = 1 << 16 | 1 << 8;

fn segments(registers: &Registers) -> [(&'static str, kvm_segment); 6] {
    let s = &registers.system;
    [("CS", s.cs), ("DS", s.ds), ("ES", s.es), ("SS", s.ss), ("FS", s.fs), ("GS", s.gs)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::x86::{Entry, Mode};

    fn at(mode: Mode) -> Registers {
        let entry = Entry::at(mode, 0x7c00);
        Registers { general: entry.regs(), system: entry.sregs() }
    }

    fn changed(change: impl FnOnce(&mut Registers)) -> Changes {
        let before = at(Mode::Real);
        let mut after = before;
        change(&mut after);
        Changes::between(&before, &after)
    }

    #[test]
    fn a_new_rip_alone_is_no_change() {
        assert_eq!(changed(|after| after.general.rip += 3), Changes::default());
    }

    #[test]
    fn each_bit_is_named_both_ways() {
        let on = changed(|after| after.system.cr0 |= 1);
        assert_eq!(on.registers, [Change { register: "cr0", before: 0x10, after: 0x11 }]);
        assert!(on.notes[0].starts_with("CR0.PE 0 → 1: protection"), "{:?}", on.notes);
        assert_eq!(on.notes[1], "the mode is protected, 16-bit code now; it was real, 16-bit");
        let off = changed(|after| after.system.cr0 &= !0x10);
        assert!(off.notes.is_empty(), "ET says nothing: {:?}", off.notes);
        let before = at(Mode::Protected);
        let mut after = before;
        after.system.cr0 &= !1;
        assert!(Changes::between(&before, &after).notes[0].starts_with("CR0.PE 1 → 0: back to real mode"));
    }

    #[test]
    fn a_far_jump_to_64_bit_code_is_told_by_the_bits_of_its_segment() {
        let before = at(Mode::Protected);
        let mut after = before;
        (after.system.efer, after.system.cs.l, after.system.cs.db) = (0x500, 1, 0);
        let notes = Changes::between(&before, &after).notes;
        for start in
            ["EFER.LME 0 → 1", "EFER.LMA 0 → 1", "CS.L 0 → 1", "CS.D 1 → 0", "the mode is long, 64-bit"]
        {
            assert!(notes.iter().any(|note| note.starts_with(start)), "{start}: {notes:?}");
        }
    }

    #[test]
    fn tables_and_flags() {
        assert!(changed(|after| after.system.gdt.base = 0x7c40).notes[0].contains("segments is at 0x7c40"));
        assert!(changed(|after| after.system.cr3 = 0x1000).notes[0].contains("page tables begin at 0x1000"));
        assert_eq!(flags(0x46), "PF ZF");
        assert_eq!(flags(2), "none set");
        assert_eq!(changed(|after| after.general.rflags |= 1 << 16), Changes::default());
    }
}
