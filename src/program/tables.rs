//! The page tables of a program, written from the host's side: one entry a page, so that a fault has the address and the
//! code that it would have on a processor of its own.
//!
//! A guest-virtual address is the guest-physical one less a constant; an entry says only what may be done there. Where one
//! right holds for whole 2 MiB, one entry says so. Tables are taken from the system's memory, and when its first piece
//! is used up from a second one.
//!
//! A table serves one region for as long as there is the VM. KVM, where it shadows these tables, knows a table by its
//! address; it does not see that one which is written from the host's side now belongs to another region, and would
//! give that one the pages of the first. Source: Intel SDM volume 3A, section 4.5 "4-Level Paging".

use super::stub::entry::{LARGE, NO_CODE, PRESENT, TABLE, USED, USER, WRITE};
use super::stub::{DIRECTORIES, FREE, PROGRAM, TABLES_END};
use crate::kvm::Memory;
use std::sync::atomic::Ordering;
use vm_memory::{Bytes, GuestAddress};

/// Where the second piece lies, and its size: enough for a program whose every page has another right than the next.
pub const MORE: u64 = (63 << 30) + (256 << 20);
/// See [`MORE`].
pub const MORE_LEN: u64 = 128 << 20;

const PAGE: u64 = 4096;
/// What one table of the lowest level covers.
const REGION: u64 = 2 << 20;
/// Where a table's address stands in the entry that leads to it.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// What a program may do with a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rights {
    /// It may read. On x86, what may be written or run may be read.
    pub read: bool,
    /// It may write.
    pub write: bool,
    /// It may run code.
    pub run: bool,
}

impl Rights {
    /// None at all.
    pub const NONE: Rights = Rights { read: false, write: false, run: false };

    /// By the PROT_ bits of mmap(2).
    pub fn of(protection: i32) -> Rights {
        let has = |bit| protection & bit != 0;
        let (write, run) = (has(libc::PROT_WRITE), has(libc::PROT_EXEC));
        Rights { read: has(libc::PROT_READ) || write || run, write, run }
    }

    /// As the host's page tables have to have them: nothing is run there.
    pub fn on_host(self) -> i32 {
        (if self.read { libc::PROT_READ } else { 0 }) | (if self.write { libc::PROT_WRITE } else { 0 })
    }

    /// What is allowed by both.
    pub fn and(self, other: Rights) -> Rights {
        Rights { read: self.read && other.read, write: self.write && other.write, run: self.run && other.run }
    }

    /// The bits of an entry; 0 for no rights.
    fn entry(self) -> u64 {
        if !self.read {
            return 0;
        }
        PRESENT | USER | USED | if self.write { WRITE } else { 0 } | if self.run { 0 } else { NO_CODE }
    }
}

/// The page tables, and the pages of the system's memory that are left.
pub struct Tables {
    memory: Memory,
    /// Pages that have never been used begin here.
    fresh: u64,
    /// Tables whose entries lead to tables or large pages: one for each GiB.
    directories: Vec<u64>,
    /// Tables whose entries are pages: one for each 2 MiB that needs it.
    leaves: Vec<u64>,
    /// Whether the second piece is in use, and so has to have its slot.
    has_more: bool,
}

impl Tables {
    /// None yet. `memory` is the system's.
    pub fn new(memory: Memory) -> Tables {
        Tables { memory, fresh: FREE, directories: Vec::new(), leaves: Vec::new(), has_more: false }
    }

    /// The system's memory.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Whether the guest has to see the second piece.
    pub fn has_more(&self) -> bool {
        self.has_more
    }

    fn read(&self, at: u64) -> u64 {
        self.memory.load(GuestAddress(at), Ordering::Relaxed).expect("a table is there")
    }

    fn write(&self, at: u64, entry: u64) {
        self.memory.store(entry, GuestAddress(at), Ordering::Release).expect("a table is there");
    }

    /// A table of zeroes; `None` if there is no room for one more.
    fn table(&mut self) -> Option<u64> {
        if self.fresh < TABLES_END {
            self.fresh += PAGE;
            return Some(self.fresh - PAGE);
        }
        let count =
            self.directories.iter().chain(&self.leaves).filter(|table| **table >= MORE).count() as u64;
        self.has_more = true;
        (count * PAGE < MORE_LEN).then_some(MORE + count * PAGE)
    }

    /// The table of regions that the entry at `at` leads to, made if need be.
    fn directory(&mut self, at: u64) -> Option<u64> {
        let entry = self.read(at);
        if entry & PRESENT != 0 {
            return Some(entry & ADDRESS);
        }
        let table = self.table()?;
        self.directories.push(table);
        self.write(at, table | TABLE);
        Some(table)
    }

    /// The table of pages that the entry at `at` leads to, made if need be. A large page becomes one of small pages.
    fn leaf(&mut self, at: u64) -> Option<u64> {
        let entry = self.read(at);
        if entry & PRESENT == 0 {
            let table = self.table()?;
            self.leaves.push(table);
            self.write(at, table | TABLE);
            return Some(table);
        }
        if entry & LARGE != 0 {
            let table = self.table()?;
            self.leaves.push(table);
            let (start, rights) = (entry & ADDRESS, entry & !ADDRESS & !LARGE);
            for page in 0..512 {
                self.write(table + page * 8, (start + page * PAGE) | rights);
            }
            self.write(at, table | TABLE);
            return Some(table);
        }
        Some(entry & ADDRESS)
    }

    /// Has the pages from `start` to `end` allow `rights`, all or none. False if there is no room for the tables: then
    /// the program gets ENOMEM.
    pub fn set(&mut self, start: u64, end: u64, rights: Rights) -> bool {
        let bits = rights.entry();
        let mut at = start;
        while at < end {
            let next = ((at | (REGION - 1)) + 1).min(end);
            let directory = DIRECTORIES + (at >> 30) * 8;
            if bits == 0 && self.read(directory) & PRESENT == 0 {
                at = (at | ((1 << 30) - 1)) + 1;
                continue;
            }
            let Some(directory) = self.directory(directory) else { return false };
            let region = directory + (at >> 21 & 511) * 8;
            let old = self.read(region);
            let is_whole = next - at == REGION;
            if bits == 0 && (old & PRESENT == 0 || is_whole && old & LARGE != 0) {
                self.write(region, 0);
            } else if is_whole && (old & PRESENT == 0 || old & LARGE != 0) {
                self.write(region, (at + PROGRAM) | bits | LARGE);
            } else if old & LARGE != 0 && old & !ADDRESS == bits | LARGE {
                // It says so already.
            } else {
                let Some(table) = self.leaf(region) else { return false };
                for page in (at..next).step_by(PAGE as usize) {
                    self.write(
                        table + (page >> 12 & 511) * 8,
                        if bits == 0 { 0 } else { (page + PROGRAM) | bits },
                    );
                }
            }
            at = next;
        }
        true
    }

    /// Takes every right of the program away: its address space is empty.
    pub fn clear(&mut self) {
        let empty = [0; PAGE as usize];
        for &leaf in &self.leaves {
            self.memory.write_slice(&empty, GuestAddress(leaf)).expect("a table is there");
        }
        for &directory in &self.directories {
            for region in (directory..directory + PAGE).step_by(8) {
                if self.read(region) & LARGE != 0 {
                    self.write(region, 0);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RW: Rights = Rights { read: true, write: true, run: false };
    const RX: Rights = Rights { read: true, write: false, run: true };

    fn tables() -> Tables {
        let at = |at, len| (GuestAddress(at), len as usize);
        let memory = Memory::from_ranges(&[at(0, PROGRAM), at(MORE, MORE_LEN)]).unwrap();
        Tables::new(memory)
    }

    /// The rights at an address, by a walk as the processor does it.
    fn look(tables: &Tables, at: u64) -> u64 {
        let directory = tables.read(DIRECTORIES + (at >> 30) * 8);
        if directory & PRESENT == 0 {
            return 0;
        }
        let region = tables.read((directory & ADDRESS) + (at >> 21 & 511) * 8);
        if region & PRESENT == 0 || region & LARGE != 0 {
            let is_itself = region & PRESENT == 0 || region & ADDRESS == PROGRAM + (at & !(REGION - 1));
            assert!(is_itself, "{at:#x} leads to {region:#x}");
            return region & !ADDRESS & !LARGE;
        }
        let page = tables.read((region & ADDRESS) + (at >> 12 & 511) * 8);
        assert!(page == 0 || page & ADDRESS == PROGRAM + (at & !0xfff), "{at:#x} leads to {page:#x}");
        page & !ADDRESS
    }

    #[test]
    fn each_page_has_its_own_rights_and_regions_are_split_where_they_differ() {
        let mut tables = tables();
        assert!(tables.set(4 << 20, 10 << 20, RW));
        assert_eq!(look(&tables, 5 << 20), RW.entry());
        assert!(tables.set((4 << 20) + PAGE, (4 << 20) + 2 * PAGE, RX));
        for (page, rights) in [(0, RW), (1, RX), (2, RW), (511, RW)] {
            assert_eq!(look(&tables, (4 << 20) + page * PAGE), rights.entry());
        }
        assert!(tables.set((4 << 20) + PAGE, 9 << 20, Rights::NONE));
        assert_eq!(look(&tables, 4 << 20), RW.entry());
        assert_eq!(
            [look(&tables, (4 << 20) + PAGE), look(&tables, 6 << 20), look(&tables, (9 << 20) - 1)],
            [0; 3]
        );
        assert_eq!(look(&tables, 9 << 20), RW.entry());
        let leaf = |tables: &Tables| tables.read(tables.directories[0] + 2 * 8) & ADDRESS;
        let before = leaf(&tables);
        tables.clear();
        assert_eq!(leaf(&tables), before, "a table belongs to one region for ever");
        assert_eq!((look(&tables, 4 << 20), look(&tables, 9 << 20)), (0, 0));
        assert!(tables.set(9 << 20, (9 << 20) + PAGE, RX));
        assert_eq!((look(&tables, 9 << 20), look(&tables, (9 << 20) + PAGE)), (RX.entry(), 0));
    }

    #[test]
    fn what_a_small_program_cannot_need_comes_from_the_second_piece() {
        let mut tables = tables();
        for region in 0..400 {
            assert!(tables.set(region * REGION, region * REGION + PAGE, RW));
        }
        assert!(tables.has_more());
        let used: std::collections::BTreeSet<_> = tables.directories.iter().chain(&tables.leaves).collect();
        assert_eq!(used.len(), tables.directories.len() + tables.leaves.len(), "a table was given twice");
        assert!((0..400).all(|region| look(&tables, region * REGION) == RW.entry()));
    }
}
