//! Page tables: which kind of paging a processor uses, and the way from a linear address to a physical one.
//!
//! ```text
//!   5 levels   PML5 → PML4 → PDPT → PD → PT     entries of 8 bytes, 512 in a table
//!   4 levels          PML4 → PDPT → PD → PT     the same
//!   PAE                      PDPT → PD → PT     the same, but the PDPT has four entries
//!   32-bit                          PD → PT     entries of 4 bytes, 1024 in a table
//! ```
//!
//! This reads the tables in memory. A processor may still use older entries: it keeps some in its TLB and, with PAE,
//! the PDPT's in registers. The tables that a guest starts with are written by [`super::identity_map`].
//! Source: Intel SDM volume 3A, sections 4.1.1 "Five Paging Modes", 4.3 "32-Bit Paging", 4.4 "PAE Paging",
//! 4.5 "4-Level Paging and 5-Level Paging" and 4.6 "Access Rights".

use super::mode::{
    CR0_PG, CR4_LA57, CR4_PAE, CR4_PKS, CR4_PSE, CR4_SMAP, CR4_SMEP, EFER_LMA, EFER_NXE, RFLAGS_AC,
};
use kvm_bindings::kvm_sregs;
use std::collections::BTreeSet;
use std::fmt;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

/// P, bit 0: the entry is valid.
pub const PRESENT: u64 = 1 << 0;
/// R/W, bit 1: writes are allowed.
pub const WRITABLE: u64 = 1 << 1;
/// U/S, bit 2: ring 3 may use it.
pub const USER: u64 = 1 << 2;
/// PCD, bit 4: accesses are not cached, as a device wants it.
pub const UNCACHED: u64 = 1 << 4;
/// A, bit 5: the processor has used the entry.
pub const ACCESSED: u64 = 1 << 5;
/// D, bit 6, of an entry that maps a page: the processor has written to the page.
pub const DIRTY: u64 = 1 << 6;
/// PS, bit 7, of an entry above the last level: it maps a large page instead of naming a table.
pub const LARGE: u64 = 1 << 7;
/// XD, bit 63, of an entry of 8 bytes: code must not run there.
pub const NO_EXECUTE: u64 = 1 << 63;
/// Bits 12 to 51 of an entry of 8 bytes: the physical address of a table or a page.
pub const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// The same of an entry of 4 bytes.
const ADDRESS_32: u64 = 0xffff_f000;

/// Bytes of a table, but for PAE's PDPT, and of the smallest page.
pub const TABLE_SIZE: u64 = 0x1000;

/// How a processor translates addresses (SDM 4.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PagingMode {
    /// Not at all: a linear address is a physical one.
    None,
    /// 32-bit paging: two levels of 4-byte entries.
    Bits32,
    /// PAE paging: three levels, for linear addresses of 32 bits.
    Pae,
    /// 4-level paging, of long mode: linear addresses of 48 bits.
    Level4,
    /// 5-level paging, of long mode: linear addresses of 57 bits.
    Level5,
}

/// Whether an entry of a level can map a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Maps {
    /// It names a table, and bit 7 has to be zero.
    Never,
    /// It does if bit 7 is set.
    IfLarge,
    /// It does.
    Always,
}

/// One level of tables.
#[derive(Debug, PartialEq, Eq)]
struct Level {
    name: &'static str,
    /// The lowest bit of a linear address that chooses among its entries.
    shift: u32,
    /// How many bits do.
    bits: u32,
    maps: Maps,
    /// Whether its entries say who may do what.
    has_rights: bool,
}

const fn level(name: &'static str, shift: u32, maps: Maps) -> Level {
    Level { name, shift, bits: 9, maps, has_rights: true }
}

/// The levels of 5-level paging. 4-level paging begins at the second one.
const LONG: [Level; 5] = [
    level("PML5", 48, Maps::Never),
    level("PML4", 39, Maps::Never),
    level("PDPT", 30, Maps::IfLarge),
    level("PD", 21, Maps::IfLarge),
    level("PT", 12, Maps::Always),
];
const PAE: [Level; 3] = [
    Level { name: "PDPT", shift: 30, bits: 2, maps: Maps::Never, has_rights: false },
    level("PD", 21, Maps::IfLarge),
    level("PT", 12, Maps::Always),
];
const BITS_32: [Level; 2] = [
    Level { bits: 10, ..level("PD", 22, Maps::IfLarge) },
    Level { bits: 10, ..level("PT", 12, Maps::Always) },
];

/// How one processor translates addresses: its mode of paging and where its tables begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paging {
    /// How many levels there are, and what their entries look like.
    pub mode: PagingMode,
    cr3: u64,
    cr4: u64,
    efer: u64,
}

impl Paging {
    /// What the control registers say (SDM 4.1.1).
    pub fn of(sregs: &kvm_sregs) -> Paging {
        let &kvm_sregs { cr0, cr3, cr4, efer, .. } = sregs;
        let mode = match (cr0 & CR0_PG != 0, cr4 & CR4_PAE != 0, efer & EFER_LMA != 0, cr4 & CR4_LA57 != 0) {
            (false, ..) => PagingMode::None,
            (true, false, ..) => PagingMode::Bits32,
            (true, true, false, _) => PagingMode::Pae,
            (true, true, true, false) => PagingMode::Level4,
            (true, true, true, true) => PagingMode::Level5,
        };
        Paging { mode, cr3, cr4, efer }
    }

    fn levels(&self) -> &'static [Level] {
        match self.mode {
            PagingMode::None => &[],
            PagingMode::Bits32 => &BITS_32,
            PagingMode::Pae => &PAE,
            PagingMode::Level4 => &LONG[1..],
            PagingMode::Level5 => &LONG,
        }
    }

    /// Guest-physical address of the first table, from CR3.
    pub fn root(&self) -> u64 {
        match self.mode {
            // The PDPT has 32 bytes, at a multiple of as many.
            PagingMode::Pae => self.cr3 & 0xffff_ffe0,
            PagingMode::None | PagingMode::Bits32 => self.cr3 & ADDRESS_32,
            PagingMode::Level4 | PagingMode::Level5 => self.cr3 & ADDRESS,
        }
    }

    /// Bytes of an entry: 4 or 8.
    pub fn entry_size(&self) -> u64 {
        if self.mode == PagingMode::Bits32 { 4 } else { 8 }
    }

    /// Whether the bits of a 64-bit address above those that are translated are copies of the highest of these
    /// (SDM volume 1, section 3.3.7.1 "Canonical Addressing"). Other modes know 32-bit addresses only.
    pub fn is_canonical(&self, linear: u64) -> bool {
        let unused = match self.mode {
            PagingMode::Level5 => 64 - 57,
            PagingMode::Level4 => 64 - 48,
            _ => return linear >> 32 == 0,
        };
        (linear as i64) << unused >> unused == linear as i64
    }

    /// The entries on the way of `linear`, from the first table on. The last one says where the way ends. There are
    /// none without paging.
    pub fn steps<'a>(&self, memory: &'a GuestMemoryMmap<()>, linear: u64) -> Steps<'a> {
        Steps { paging: *self, memory, linear, levels: self.levels(), table: self.root(), page: Page::at(0) }
    }

    /// The page and the byte in it that `linear` means; `None` where nothing is mapped.
    pub fn find(&self, memory: &GuestMemoryMmap<()>, linear: u64) -> Option<Page> {
        if self.mode == PagingMode::None {
            return Some(Page::at(linear & 0xffff_ffff));
        }
        match self.steps(memory, linear).last()?.leads_to {
            Target::Page(page) => Some(page),
            _ => None,
        }
    }

    /// The guest-physical address that `linear` means; `None` where nothing is mapped. It does not ask whether the
    /// guest would be allowed the access: see [`Paging::allows`].
    pub fn translate(&self, memory: &GuestMemoryMmap<()>, linear: u64) -> Option<u64> {
        self.find(memory, linear).map(|page| page.address)
    }

    /// Whether a processor at privilege level `cpl`, with these flags, may access `page` by itself (SDM 4.6.1
    /// "Determination of Access Rights").
    ///
    /// The keys of ring 3's pages are not asked (SDM 4.6.2 "Protection Keys"): any code may change them by WRPKRU, so
    /// they keep nothing from who wants to read. Those of ring 0's pages are in an MSR, and with them the answer is no.
    pub fn allows(&self, page: &Page, access: Access, cpl: u8, rflags: u64) -> bool {
        if self.mode == PagingMode::None {
            return true;
        }
        if self.cr4 & CR4_PKS != 0 && !page.user {
            return false;
        }
        let ring_allows = match (cpl == 3, page.user) {
            (true, user) => user,
            (false, false) => true,
            (false, true) => match access {
                Access::Read => self.cr4 & CR4_SMAP == 0 || rflags & RFLAGS_AC != 0,
                Access::Fetch => self.cr4 & CR4_SMEP == 0,
            },
        };
        ring_allows && (access != Access::Fetch || page.executable)
    }

    /// The guest-physical addresses of all tables, each once.
    pub fn tables(&self, memory: &GuestMemoryMmap<()>) -> BTreeSet<u64> {
        let mut tables = BTreeSet::new();
        if let [level, below @ ..] = self.levels() {
            self.collect_tables(memory, self.root(), level, below, &mut tables);
        }
        tables
    }

    /// Adds `table`, whose level is `level`, and the tables below it.
    fn collect_tables(
        &self,
        memory: &GuestMemoryMmap<()>,
        table: u64,
        level: &'static Level,
        below: &'static [Level],
        tables: &mut BTreeSet<u64>,
    ) {
        let mut bytes = vec![0; (self.entry_size() << level.bits) as usize];
        if memory.read_slice(&mut bytes, GuestAddress(table)).is_err() || !tables.insert(table) {
            return;
        }
        let [next, rest @ ..] = below else { return };
        for entry in bytes.chunks_exact(self.entry_size() as usize) {
            if let Target::Table(table) = self.follow(level, number(entry), 0) {
                self.collect_tables(memory, table, next, rest, tables);
            }
        }
    }

    /// Where an entry of a level leads, for `linear`. The rights of a page are those that this entry gives.
    fn follow(&self, level: &Level, entry: u64, linear: u64) -> Target {
        if entry & PRESENT == 0 {
            return Target::NotPresent;
        }
        if self.entry_size() == 8 && entry & NO_EXECUTE != 0 && self.efer & EFER_NXE == 0 {
            return Target::Reserved("bit 63 (no execute) without EFER.NXE");
        }
        let is_large = entry & LARGE != 0 && (self.mode != PagingMode::Bits32 || self.cr4 & CR4_PSE != 0);
        let address = match (level.maps, self.mode) {
            (Maps::Never, _) if is_large => {
                return Target::Reserved("bit 7 (large page) in an entry that can only name a table");
            }
            (Maps::Never, _) => return Target::Table(entry & ADDRESS),
            (Maps::IfLarge, PagingMode::Bits32) if !is_large => return Target::Table(entry & ADDRESS_32),
            (Maps::IfLarge, _) if !is_large => return Target::Table(entry & ADDRESS),
            // Bits 13 to 20 are bits 32 to 39 of the address (SDM 4.3, table 4-4).
            (Maps::IfLarge, PagingMode::Bits32) => entry & 0xffc0_0000 | (entry >> 13 & 0xff) << 32,
            (_, PagingMode::Bits32) => entry & ADDRESS_32,
            _ => entry & ADDRESS,
        };
        let offset = !(u64::MAX << level.shift);
        // Bit 12 of a large page's entry is a part of the memory type.
        let must_be_zero = if level.maps == Maps::Always { 0 } else { address & offset & !0x1000 };
        if must_be_zero != 0 || level.shift == 22 && entry & 1 << 21 != 0 {
            return Target::Reserved("an address that is not a multiple of the large page's size");
        }
        Target::Page(Page::at(address & !offset | linear & offset))
    }
}

/// What a guest does to memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// It reads data.
    Read,
    /// It reads an instruction.
    Fetch,
}

/// A byte in a page, and what all entries on the way to it allow together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// Guest-physical address of the byte.
    pub address: u64,
    /// U/S: ring 3 may use it.
    pub user: bool,
    /// No XD: code in it may run.
    pub executable: bool,
    /// A: the processor has used every entry before.
    pub accessed: bool,
}

impl Page {
    /// A byte that nothing is forbidden for.
    const fn at(address: u64) -> Page {
        Page { address, user: true, executable: true, accessed: true }
    }
}

/// Where an entry leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// To the next table, at this guest-physical address.
    Table(u64),
    /// To memory, and so to the end of the way.
    Page(Page),
    /// Nowhere: it is not present.
    NotPresent,
    /// Nowhere: this bit of it has to be zero.
    Reserved(&'static str),
    /// Nowhere: the table would lie outside the guest's memory, so there is no entry.
    NoTable,
}

/// One entry on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The table's name: PML5, PML4, PDPT, PD or PT.
    pub table: &'static str,
    /// The entry's number in it.
    pub index: u64,
    /// Guest-physical address of the entry.
    pub at: u64,
    /// The entry; `None` where that is not memory.
    pub entry: Option<u64>,
    /// Where it leads.
    pub leads_to: Target,
}

/// The entries on a way, one after the other: see [`Paging::steps`].
#[derive(Debug, Clone)]
pub struct Steps<'a> {
    paging: Paging,
    memory: &'a GuestMemoryMmap<()>,
    linear: u64,
    /// The levels that are left; none when the way has ended.
    levels: &'static [Level],
    table: u64,
    /// What the entries so far allow.
    page: Page,
}

impl Iterator for Steps<'_> {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        let [level, below @ ..] = self.levels else { return None };
        let index = self.linear >> level.shift & !(u64::MAX << level.bits);
        let at = self.table + index * self.paging.entry_size();
        let entry = match self.paging.entry_size() {
            4 => self.memory.read_obj(GuestAddress(at)).ok().map(|entry| u32::from_le(entry).into()),
            _ => self.memory.read_obj(GuestAddress(at)).ok().map(u64::from_le),
        };
        let mut leads_to = Target::NoTable;
        if let Some(entry) = entry {
            if level.has_rights {
                self.page.user &= entry & USER != 0;
                self.page.executable &= entry & NO_EXECUTE == 0;
                self.page.accessed &= entry & ACCESSED != 0;
            }
            leads_to = self.paging.follow(level, entry, self.linear);
        }
        self.levels = if matches!(leads_to, Target::Table(_)) { below } else { &[] };
        match &mut leads_to {
            Target::Table(table) => self.table = *table,
            Target::Page(page) => *page = Page { address: page.address, ..self.page },
            _ => {}
        }
        Some(Step { table: level.name, index, at, entry, leads_to })
    }
}

/// An entry of 4 or 8 bytes.
fn number(entry: &[u8]) -> u64 {
    entry.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
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
    use crate::x86::mode::CR4_PKE;
    use crate::x86::mode::{CR0_PE, EFER_LME, cpl};

    const LONG_MODE: (u64, u64) = (CR4_PAE, EFER_LMA | EFER_LME);

    /// Memory with these entries of 8 bytes, 64 KiB of it; tables at 0x1000, 0x2000 and so on.
    fn memory(entries: &[(u64, u64)]) -> GuestMemoryMmap<()> {
        let guest = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x1_0000)]).unwrap();
        for &(at, entry) in entries {
            guest.write_obj(entry.to_le(), GuestAddress(at)).unwrap();
        }
        guest
    }

    /// The same with entries of 4 bytes.
    fn memory_32(entries: &[(u64, u32)]) -> GuestMemoryMmap<()> {
        let guest = memory(&[]);
        for &(at, entry) in entries {
            guest.write_obj(entry.to_le(), GuestAddress(at)).unwrap();
        }
        guest
    }

    /// Paging with the first table at 0x1000.
    fn paging((cr4, efer): (u64, u64)) -> Paging {
        Paging::of(&kvm_sregs { cr0: CR0_PE | CR0_PG, cr3: 0x1000, cr4, efer, ..Default::default() })
    }

    /// How many steps there are on the way of address 0x5123 in 4-level paging, and where it ends.
    fn end(entries: &[(u64, u64)], nxe: bool) -> (usize, Target) {
        let paging = paging((CR4_PAE, LONG_MODE.1 | if nxe { EFER_NXE } else { 0 }));
        let steps: Vec<Step> = paging.steps(&memory(entries), 0x5123).collect();
        (steps.len(), steps.last().unwrap().leads_to)
    }

    fn page(address: u64) -> Target {
        Target::Page(Page { address, user: false, executable: true, accessed: false })
    }

    #[test]
    fn the_control_registers_say_which_mode_it_is() {
        let mode = |cr0, cr4, efer| Paging::of(&kvm_sregs { cr0, cr4, efer, ..Default::default() }).mode;
        assert_eq!(mode(CR0_PE, CR4_PAE, EFER_LME), PagingMode::None);
        assert_eq!(mode(CR0_PG | CR0_PE, CR4_PSE, 0), PagingMode::Bits32);
        assert_eq!(mode(CR0_PG | CR0_PE, CR4_PAE, 0), PagingMode::Pae);
        assert_eq!(mode(CR0_PG | CR0_PE, CR4_PAE, LONG_MODE.1), PagingMode::Level4);
        assert_eq!(mode(CR0_PG | CR0_PE, CR4_PAE | CR4_LA57, LONG_MODE.1), PagingMode::Level5);
    }

    #[test]
    fn a_way_ends_where_its_entries_say() {
        let whole = [(0x1000, 0x2003), (0x2000, 0x3003), (0x3000, 0x4003), (0x4028, 0x7003)];
        assert_eq!(end(&whole, false), (4, page(0x7123)));
        assert_eq!(end(&whole[..3], false), (4, Target::NotPresent));
        assert_eq!(end(&[], false), (1, Target::NotPresent));
        assert_eq!(end(&[(0x1000, 0xff_f003)], false), (2, Target::NoTable));
        let large = [(0x1000, 0x2003), (0x2000, 0x3003), (0x3000, 0x20_0083)];
        assert_eq!(end(&large, false), (3, page(0x20_5123)));
        assert_eq!(end(&[(0x1000, 0x2003), (0x2000, 0x4000_0083)], false), (2, page(0x4000_5123)));
    }

    #[test]
    fn reserved_bits_are_named() {
        let bad = |entry| {
            matches!(
                end(&[(0x1000, 0x2003), (0x2000, 0x3003), (0x3000, entry)], false).1,
                Target::Reserved(_)
            )
        };
        assert!(bad(0x1_2083), "not a multiple of 2 MiB");
        assert!(bad(NO_EXECUTE | 0x83));
        assert!(!bad(0x1083), "bit 12 is the memory type of a large page");
        assert!(matches!(end(&[(0x1000, 0x2083)], true).1, Target::Reserved(_)));
    }

    #[test]
    fn every_entry_on_the_way_has_to_allow_it() {
        let entries = [(0x1000, 0x2000), (0x2000, 0x3000), (0x3000, 0x4000), (0x4028, 0x7000)];
        let user_and_used = USER | ACCESSED | PRESENT;
        let with = |flags: [u64; 4]| {
            let mut entries = entries;
            entries.iter_mut().zip(flags).for_each(|((_, entry), flags)| *entry |= flags);
            match end(&entries, true).1 {
                Target::Page(page) => (page.user, page.executable, page.accessed),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(with([user_and_used; 4]), (true, true, true));
        for level in 0..4 {
            let mut flags = [user_and_used; 4];
            flags[level] = ACCESSED | PRESENT;
            assert_eq!(with(flags), (false, true, true));
            flags[level] = user_and_used | NO_EXECUTE;
            assert_eq!(with(flags), (true, false, true));
            flags[level] = USER | PRESENT;
            assert_eq!(with(flags), (true, true, false));
        }
    }

    #[test]
    fn pae_has_a_short_first_table_without_rights() {
        let pae = Paging { cr3: 0x1fe0, ..paging((CR4_PAE, 0)) };
        // The last of four entries, which begin at a multiple of 32 bytes.
        let entries = [(0x1ff8, 0x2001), (0x2ff8, 0x3000 | USER | ACCESSED | PRESENT), (0x3ff8, 0x7025)];
        let steps: Vec<Step> = pae.steps(&memory(&entries), 0xffff_f123).collect();
        assert_eq!(
            steps.iter().map(|step| (step.table, step.index)).collect::<Vec<_>>(),
            [("PDPT", 3), ("PD", 511), ("PT", 511)]
        );
        let page = Page { address: 0x7123, user: true, executable: true, accessed: true };
        assert_eq!(pae.find(&memory(&entries), 0xffff_f123), Some(page));
    }

    #[test]
    fn paging_with_entries_of_4_bytes() {
        let entries = [(0x1004, 0x2027), (0x2ffc, 0xf027), (0x1008, 0x0040_00a7)];
        let find = |cr4, linear| paging((cr4, 0)).translate(&memory_32(&entries), linear);
        assert_eq!(find(0, 0x7f_f123), Some(0xf123));
        // A page of 4 MiB, where CR4.PSE is set. Else it is a table, here one of no memory.
        assert_eq!(find(CR4_PSE, 0x80_1234), Some(0x40_1234));
        assert_eq!(find(0, 0x80_1234), None);
        // Bits 13 to 20 are those above 4 GiB; bit 21 has to be zero.
        let large = |entry| paging((CR4_PSE, 0)).translate(&memory_32(&[(0x1000, entry)]), 0x1234);
        assert_eq!(large(0x0040_2083), Some(0x1_0040_1234));
        assert_eq!(large(0x0060_0083), None);
    }

    #[test]
    fn five_levels_begin_one_table_higher() {
        let entries =
            [(0x1008, 0x2003), (0x2008, 0x3003), (0x3008, 0x4003), (0x4008, 0x5003), (0x5008, 0x7003)];
        let linear = 1 << 48 | 1 << 39 | 1 << 30 | 1 << 21 | 1 << 12 | 0x123;
        let five = paging((CR4_PAE | CR4_LA57, LONG_MODE.1));
        assert_eq!(five.translate(&memory(&entries), linear), Some(0x7123));
        assert!(five.is_canonical(linear) && !paging(LONG_MODE).is_canonical(linear));
        let tables = five.tables(&memory(&entries));
        assert_eq!(tables.into_iter().collect::<Vec<_>>(), [0x1000, 0x2000, 0x3000, 0x4000, 0x5000]);
    }

    #[test]
    fn tables_are_found_once_even_in_a_circle() {
        let entries = [(0x1000, 0x2003), (0x1ff8, 0x1003), (0x2000, 0x20_0083), (0x2008, 0x3003)];
        let tables = paging(LONG_MODE).tables(&memory(&entries));
        assert!(tables.contains(&0x1000) && tables.contains(&0x2000) && tables.contains(&0x3000));
        let pae =
            paging((CR4_PAE, 0)).tables(&memory(&[(0x1000, 0x2001), (0x2000, 0x3003), (0x2008, 0x4083)]));
        assert_eq!(pae.into_iter().collect::<Vec<_>>(), [0x1000, 0x2000, 0x3000]);
        let without = Paging::of(&kvm_sregs::default());
        assert!(without.tables(&memory(&entries)).is_empty());
        assert_eq!(without.translate(&memory(&entries), 0x1_0000_1234), Some(0x1234), "32 bits");
    }

    /// SDM 4.6.1, row by row: exhaustive over who asks, what for, and which bits are set.
    #[test]
    fn rights_are_those_of_the_manual() {
        for bits in 0..1_u32 << 7 {
            let bit = |n: u32| bits >> n & 1 == 1;
            let (is_user, user, executable) = (bit(0), bit(1), bit(2));
            let (smap, smep, ac) = (bit(3), bit(4), bit(5));
            let access = if bit(6) { Access::Fetch } else { Access::Read };
            let cr4 = CR4_PAE | if smap { CR4_SMAP } else { 0 } | if smep { CR4_SMEP } else { 0 };
            let page = Page { address: 0, user, executable, accessed: true };
            let (cpl, rflags) = (if is_user { 3 } else { 0 }, if ac { RFLAGS_AC } else { 0 });
            let expected = match (is_user, access) {
                (true, Access::Read) => user,
                (true, Access::Fetch) => user && executable,
                (false, Access::Read) => !user || !smap || ac,
                (false, Access::Fetch) => executable && (!user || !smep),
            };
            let paging = paging((cr4, LONG_MODE.1));
            assert_eq!(paging.allows(&page, access, cpl, rflags), expected, "{bits:#b}");
            let keys = |keys| Paging { cr4: cr4 | keys, ..paging }.allows(&page, access, cpl, rflags);
            assert_eq!(keys(CR4_PKE), expected, "ring 3 sets these keys itself");
            assert_eq!(keys(CR4_PKS), expected && user, "what these keys allow is not known");
        }
    }

    #[test]
    fn the_ring_is_the_dpl_of_the_stack_segment() {
        let mut sregs = kvm_sregs { cr0: CR0_PE, ..Default::default() };
        sregs.ss.dpl = 3;
        assert_eq!(cpl(&sregs, 0), 3);
        sregs.ss.dpl = 0;
        assert_eq!((cpl(&sregs, 0), cpl(&sregs, crate::x86::mode::RFLAGS_VM)), (0, 3));
        sregs.cr0 = 0;
        sregs.ss.dpl = 3;
        assert_eq!(cpl(&sregs, 0), 0, "real mode");
    }

    #[test]
    fn a_step_is_told_in_words() {
        let leads_to = Target::NotPresent;
        let step = |table, entry| Step { table, index: 3, at: 0x9018, entry, leads_to }.to_string();
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
