//! The way from a linear to a physical address, step by step, for those who want to see where it breaks off.
//!
//! Not what the VMM itself uses to read guest memory: that is [`super::paging::translate`], which tells no story.
//! Source: Intel SDM volume 3A, sections 4.5 "4-Level Paging" and 4.7 "Page-Fault Exceptions".

use std::fmt;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
/// Bits 12 to 51: the physical address in an entry, and in CR3.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// One entry on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The table's name: PML4, PDPT, PD or PT.
    pub table: &'static str,
    /// The entry's number in it.
    pub index: u64,
    /// Where the entry lies.
    pub at: u64,
    /// The entry; `None` where that is not memory.
    pub entry: Option<u64>,
}

/// Where the way ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// At this physical address.
    Mapped {
        /// The physical address.
        address: u64,
        /// Whether code there may run.
        executable: bool,
    },
    /// At an entry that is not present.
    NotPresent,
    /// At an entry with a bit that has to be zero.
    Reserved(&'static str),
    /// At a table that would lie outside the guest's memory.
    NoTable,
}

/// A way, and where it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walk {
    /// Its entries, from the root.
    pub steps: Vec<Step>,
    /// Its end.
    pub end: End,
}

/// Walks tables of four levels. `nxe` is EFER.NXE, without which an entry's highest bit has to be zero.
pub fn walk(guest: &GuestMemoryMmap<()>, cr3: u64, nxe: bool, linear: u64) -> Walk {
    let mut steps = Vec::new();
    let mut table = cr3 & ADDRESS;
    let mut executable = true;
    for (name, shift) in [("PML4", 39), ("PDPT", 30), ("PD", 21), ("PT", 12)] {
        let index = linear >> shift & 511;
        let at = table | index << 3;
        let entry = guest.read_obj(GuestAddress(at)).ok().map(u64::from_le);
        steps.push(Step { table: name, index, at, entry });
        let end = |end| Walk { steps: steps.clone(), end };
        let Some(entry) = entry else { return end(End::NoTable) };
        if entry & PRESENT == 0 {
            return end(End::NotPresent);
        }
        if entry & NO_EXECUTE != 0 && !nxe {
            return end(End::Reserved("bit 63 (no execute) without EFER.NXE"));
        }
        executable &= entry & NO_EXECUTE == 0;
        let is_page = shift == 12 || entry & LARGE != 0;
        if is_page && shift == 39 {
            return end(End::Reserved("bit 7 (large page) in a PML4 entry"));
        }
        if is_page {
            let page = !(u64::MAX << shift);
            // From the page's size down to bit 13: bit 12 is a part of the memory type.
            if entry & ADDRESS & page & !0x1000 != 0 && shift > 12 {
                return end(End::Reserved("an address that is not a multiple of the large page's size"));
            }
            return end(End::Mapped { address: entry & ADDRESS & !page | linear & page, executable });
        }
        table = entry & ADDRESS;
    }
    Walk { steps, end: End::NoTable }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<9} at {:#x}: ", format!("{}[{}]", self.table, self.index), self.at)?;
        let Some(entry) = self.entry else { return write!(f, "outside the guest's memory") };
        write!(f, "{entry:#018x}, ")?;
        if entry & PRESENT == 0 {
            return write!(f, "not present");
        }
        write!(f, "present, {}", if entry & WRITABLE != 0 { "writable" } else { "read-only" })?;
        for (bit, word) in [(USER, ", user"), (LARGE, ", large"), (NO_EXECUTE, ", no execute")] {
            // Bit 7 of the last level is a part of the memory type.
            if entry & bit != 0 && (bit != LARGE || self.table != "PT") {
                f.write_str(word)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Memory with these entries, 64 KiB of it; tables at 0x1000, 0x2000 and so on.
    fn memory(entries: &[(u64, u64)]) -> GuestMemoryMmap<()> {
        let guest = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x1_0000)]).unwrap();
        for &(at, entry) in entries {
            guest.write_obj(entry.to_le(), GuestAddress(at)).unwrap();
        }
        guest
    }

    /// The way of address 0x5123, with the PML4 at 0x1000.
    fn end(entries: &[(u64, u64)], nxe: bool) -> (usize, End) {
        let walk = walk(&memory(entries), 0x1000, nxe, 0x5123);
        (walk.steps.len(), walk.end)
    }

    #[test]
    fn a_way_ends_where_its_entries_say() {
        let whole = [(0x1000, 0x2003), (0x2000, 0x3003), (0x3000, 0x4003), (0x4028, 0x7003)];
        assert_eq!(end(&whole, false), (4, End::Mapped { address: 0x7123, executable: true }));
        assert_eq!(end(&whole[..3], false), (4, End::NotPresent));
        assert_eq!(end(&[], false), (1, End::NotPresent));
        assert_eq!(end(&[(0x1000, 0xff_f003)], false), (2, End::NoTable));
        let large = [(0x1000, 0x2003), (0x2000, 0x3003), (0x3000, 0x20_0083)];
        assert_eq!(end(&large, false), (3, End::Mapped { address: 0x20_5123, executable: true }));
    }

    #[test]
    fn reserved_bits_are_named() {
        let bad = |entry| {
            matches!(end(&[(0x1000, 0x2003), (0x2000, 0x3003), (0x3000, entry)], false).1, End::Reserved(_))
        };
        assert!(bad(0x1_2083), "not a multiple of 2 MiB");
        assert!(bad(NO_EXECUTE | 0x83));
        assert!(!bad(0x1083), "bit 12 is the memory type of a large page");
        assert!(matches!(end(&[(0x1000, 0x2083)], true).1, End::Reserved(_)));
        let no_execute = [(0x1000, NO_EXECUTE | 0x2003), (0x2000, 0x83)];
        assert_eq!(end(&no_execute, true).1, End::Mapped { address: 0x5123, executable: false });
    }

    #[test]
    fn a_step_is_told_in_words() {
        let step = |table, entry| Step { table, index: 3, at: 0x9018, entry }.to_string();
        assert_eq!(
            step("PD", Some(0x60_0083)),
            "PD[3]     at 0x9018: 0x0000000000600083, present, writable, large"
        );
        assert_eq!(
            step("PT", Some(0x85)),
            "PT[3]     at 0x9018: 0x0000000000000085, present, read-only, user"
        );
        assert_eq!(step("PML4", Some(0)), "PML4[3]   at 0x9018: 0x0000000000000000, not present");
        assert_eq!(step("PT", None), "PT[3]     at 0x9018: outside the guest's memory");
    }
}
