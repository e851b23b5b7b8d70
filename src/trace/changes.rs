//! What an instruction has changed: the registers before and after it are compared, and the bits that differ named.
//!
//! Sources: Intel SDM volume 3A, sections 2.3 "System Flags" and 2.5 "Control Registers",
//! 3.4 "Logical and Linear Addresses"; volume 1, section 3.4.3 "EFLAGS Register".

use crate::x86::mode::{
    CR0_CD, CR0_EM, CR0_MP, CR0_NE, CR0_NW, CR0_PE, CR0_PG, CR0_TS, CR0_WP, CR4_LA57, CR4_OSFXSR,
    CR4_OSXMMEXCPT, CR4_OSXSAVE, CR4_PAE, CR4_PGE, CR4_PSE, CR4_SMAP, CR4_SMEP, EFER_LMA, EFER_LME, EFER_NXE,
    EFER_SCE, RFLAGS_DF, RFLAGS_IF, RFLAGS_RF, RFLAGS_TF,
};
use crate::x86::page_table::Paging;
use crate::x86::{Registers, registers};
use kvm_bindings::kvm_segment;

/// A register whose value has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its name.
    pub register: &'static str,
    /// Its value before.
    pub before: u64,
    /// Its value after.
    pub after: u64,
}

/// All that an instruction has changed, except RIP.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Registers with their values.
    pub registers: Vec<Change>,
    /// What the changes mean, in sentences: of bits that control the processor, segments and tables.
    pub notes: Vec<String>,
}

/// A bit: its register, its value, its name, and what is so when it has been set or cleared.
type Bit = (&'static str, u64, &'static str, &'static str, &'static str);

/// The bits that control the processor.
const BITS: &[Bit] = &[
    (
        "cr0",
        CR0_PE,
        "CR0.PE",
        "protection: segment registers take selectors of the GDT now",
        "back to real mode",
    ),
    ("cr0", CR0_MP, "CR0.MP", "WAIT obeys CR0.TS", "WAIT ignores CR0.TS"),
    ("cr0", CR0_EM, "CR0.EM", "no x87 and no SSE", "x87 and SSE instructions run"),
    ("cr0", CR0_TS, "CR0.TS", "the next x87 or SSE instruction faults", "x87 and SSE do not fault any more"),
    ("cr0", CR0_NE, "CR0.NE", "x87 errors are exceptions", "x87 errors are interrupts"),
    (
        "cr0",
        CR0_WP,
        "CR0.WP",
        "read-only pages are so for ring 0, too",
        "ring 0 may write to read-only pages",
    ),
    ("cr0", CR0_NW, "CR0.NW", "caches do not write through", "caches write back"),
    ("cr0", CR0_CD, "CR0.CD", "caches are off", "caches are on"),
    (
        "cr0",
        CR0_PG,
        "CR0.PG",
        "paging: every address goes through the tables at CR3 now",
        "no paging: addresses are physical",
    ),
    ("cr4", CR4_PSE, "CR4.PSE", "large pages in 32-bit tables", "no large pages in 32-bit tables"),
    (
        "cr4",
        CR4_PAE,
        "CR4.PAE",
        "page table entries have 8 bytes, as long mode needs them",
        "page table entries have 4 bytes",
    ),
    ("cr4", CR4_PGE, "CR4.PGE", "global pages stay in the TLB", "no global pages"),
    ("cr4", CR4_OSFXSR, "CR4.OSFXSR", "SSE instructions may be used", "SSE instructions fault"),
    (
        "cr4",
        CR4_OSXMMEXCPT,
        "CR4.OSXMMEXCPT",
        "SSE errors are exceptions of their own",
        "SSE errors are invalid opcodes",
    ),
    ("cr4", CR4_LA57, "CR4.LA57", "page tables of five levels", "page tables of four levels"),
    ("cr4", CR4_OSXSAVE, "CR4.OSXSAVE", "XSAVE and AVX may be used", "XSAVE and AVX fault"),
    ("cr4", CR4_SMEP, "CR4.SMEP", "ring 0 does not run user pages", "ring 0 may run user pages"),
    ("cr4", CR4_SMAP, "CR4.SMAP", "ring 0 does not touch user pages", "ring 0 may touch user pages"),
    ("efer", EFER_SCE, "EFER.SCE", "SYSCALL may be used", "SYSCALL faults"),
    (
        "efer",
        EFER_LME,
        "EFER.LME",
        "long mode is wanted; it begins when paging is switched on",
        "long mode is not wanted any more",
    ),
    (
        "efer",
        EFER_LMA,
        "EFER.LMA",
        "long mode is active: the processor set this bit itself",
        "long mode has ended",
    ),
    ("efer", EFER_NXE, "EFER.NXE", "pages may forbid to run code", "pages cannot forbid to run code"),
    ("rflags", RFLAGS_IF, "RFLAGS.IF", "interrupts are let in", "interrupts are kept out"),
    ("rflags", RFLAGS_DF, "RFLAGS.DF", "strings count down", "strings count up"),
];

/// The arithmetic flags, by bit (SDM volume 1, figure 3-8).
const FLAGS: [(u32, &str); 6] = [(0, "CF"), (2, "PF"), (4, "AF"), (6, "ZF"), (7, "SF"), (11, "OF")];

impl Changes {
    /// What differs between two moments.
    pub fn between(then: &Registers, now: &Registers) -> Changes {
        let mut changes = Changes::default();
        for ((register, before), (_, after)) in values(then).zip(values(now)) {
            if before != after {
                changes.registers.push(Change { register, before, after });
                changes.bits(register, before, after);
                if register == "cr3" {
                    let root = Paging::of(&now.system).root();
                    changes.notes.push(format!("the page tables begin at {root:#x}"));
                }
            }
        }
        changes.segments(then, now);
        changes.tables(then, now);
        if then.mode() != now.mode() {
            changes.notes.push(format!("the mode is {} now; it was {}", now.mode(), then.mode()));
        }
        changes
    }

    fn bits(&mut self, of: &str, before: u64, after: u64) {
        for &(register, bit, name, set, cleared) in BITS {
            let is = |value: u64| u64::from(value & bit != 0);
            if register == of && is(before) != is(after) {
                let meaning = if is(after) == 1 { set } else { cleared };
                self.notes.push(format!("{name} {} → {}: {meaning}", is(before), is(after)));
            }
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

/// All registers except RIP, which every instruction changes.
fn values(of: &Registers) -> impl Iterator<Item = (&'static str, u64)> {
    let visible = |(name, value)| (name, if name == "rflags" { value & !DEBUGGERS_FLAGS } else { value });
    let general = registers::general(&of.general).into_iter().filter(|(name, _)| *name != "rip").map(visible);
    general.chain(registers::system(&of.system))
}

/// The flags of RFLAGS that stepping sets and clears by itself.
const DEBUGGERS_FLAGS: u64 = RFLAGS_RF | RFLAGS_TF;

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
