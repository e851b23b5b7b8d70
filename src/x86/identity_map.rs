//! The page tables a guest is given when it starts in long mode: each linear address means the same physical one.
//!
//! ```text
//!  PML4[0] → PDPT[0] → PD: 2 MiB pages that cover the memory below 1 GiB
//!            PDPT[1], PDPT[2] → PD: the same, where there is that much memory
//!            PDPT[3] → PD: the pages of the IOAPIC and the local APIC
//! ```
//!
//! No entry is written that the guest does not need: a tiny one gets three, and the devices only if it uses them.
//! Memory above the hole is left for the guest to map. How tables are read is in [`super::page_table`].
//! Source: Intel SDM volume 3A, section 4.5 "4-Level Paging", tables 4-15 to 4-18.

use super::layout::{IOAPIC, LOCAL_APIC, MMIO_START, PAGE_TABLES};
use super::page_table::{LARGE, PRESENT, TABLE_SIZE, UNCACHED, WRITABLE};
use vm_memory::{Bytes, GuestAddress, GuestMemoryError, GuestMemoryMmap};

const MIB_2: u64 = 2 << 20;
const GIB: u64 = 1 << 30;
/// The page-directory-pointer table.
const PDPT: u64 = PAGE_TABLES + TABLE_SIZE;
/// Entries in a table.
const ENTRIES: usize = 512;

/// Where the page directory of each GiB is.
const fn directory(gib: u64) -> u64 {
    PDPT + TABLE_SIZE * (gib + 1)
}

/// Writes the tables for a guest with `memory` bytes and returns their root, the value for CR3. Devices are not
/// among what they map: see [`map_apics`].
///
/// Every byte of the tables must be zero before; only entries in use are written.
///
/// # Errors
/// If the guest's memory does not reach to the end of the tables.
pub fn write(guest: &GuestMemoryMmap<()>, memory: u64) -> Result<u64, GuestMemoryError> {
    let pml4 = PAGE_TABLES;
    let put =
        |table: u64, index: u64, entry: u64| guest.write_obj(entry.to_le(), GuestAddress(table + index * 8));

    put(pml4, 0, PDPT | PRESENT | WRITABLE)?;
    let mut pages = (0..memory.min(MMIO_START)).step_by(MIB_2 as usize).peekable();
    while let Some(&first) = pages.peek() {
        // One write for each directory, not for each of its entries: that is most of the time.
        let mut entries = [[0; 8]; ENTRIES];
        let mut used = 0;
        for (entry, page) in entries.iter_mut().zip(&mut pages) {
            *entry = (page | PRESENT | WRITABLE | LARGE).to_le_bytes();
            used += 1;
        }
        let gib = first / GIB;
        guest.write_slice(entries[..used].as_flattened(), GuestAddress(directory(gib)))?;
        put(PDPT, gib, directory(gib) | PRESENT | WRITABLE)?;
    }
    Ok(pml4)
}

/// Adds the pages of the IOAPIC and the local APIC to the tables that [`write()`] writes.
///
/// # Errors
/// If the guest's memory does not reach to the end of the tables.
pub fn map_apics(guest: &GuestMemoryMmap<()>) -> Result<(), GuestMemoryError> {
    let entry = |device| device | PRESENT | WRITABLE | UNCACHED | LARGE;
    let pages = [IOAPIC, LOCAL_APIC].map(|device| (directory(3) + device % GIB / MIB_2 * 8, entry(device)));
    let table = (PDPT + 3 * 8, directory(3) | PRESENT | WRITABLE);
    let entries = [table].into_iter().chain(pages);
    entries.into_iter().try_for_each(|(at, entry)| guest.write_obj(entry.to_le(), GuestAddress(at)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::x86::layout::PAGE_TABLES_SIZE;
    use std::collections::BTreeSet;

    /// The tables for a guest with `memory` bytes; no more of it is there than they need.
    fn tables(memory: u64) -> GuestMemoryMmap<()> {
        let end = (PAGE_TABLES + PAGE_TABLES_SIZE) as usize;
        let guest = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), end)]).unwrap();
        assert_eq!(write(&guest, memory).unwrap(), PAGE_TABLES);
        map_apics(&guest).unwrap();
        guest
    }

    /// Walks the tables and checks each entry on the way: the physical address and the flags of the page.
    fn walk(guest: &GuestMemoryMmap<()>, virtual_address: u64) -> Option<(u64, u64)> {
        let address = 0x000f_ffff_ffff_f000;
        let mut table = PAGE_TABLES;
        for shift in [39, 30, 21] {
            let entry: u64 =
                guest.read_obj(GuestAddress(table + (virtual_address >> shift & 511) * 8)).unwrap();
            if entry & PRESENT == 0 {
                return None;
            }
            assert_ne!(entry & WRITABLE, 0);
            assert_eq!(entry & LARGE != 0, shift == 21, "only a directory maps");
            if shift == 21 {
                assert_eq!(entry & (address % MIB_2), 0, "a reserved bit is set");
                return Some((entry & address | (virtual_address % MIB_2), entry & 0xfff));
            }
            table = entry & address;
        }
        None
    }

    #[test]
    fn every_page_below_the_hole_translates_to_itself_and_no_other_does() {
        for memory in [1, MIB_2, MIB_2 + 1, 64 << 20, GIB, GIB + MIB_2, 3 * GIB, 5 * GIB] {
            let guest = tables(memory);
            let devices = [IOAPIC, LOCAL_APIC];
            for page in (0..6 * GIB).step_by(MIB_2 as usize) {
                let expected = if devices.contains(&page) {
                    Some((page, PRESENT | WRITABLE | UNCACHED | LARGE))
                } else if page < memory.min(MMIO_START) {
                    Some((page, PRESENT | WRITABLE | LARGE))
                } else {
                    None
                };
                assert_eq!(walk(&guest, page), expected, "{page:#x} of {memory:#x}");
            }
            assert_eq!(walk(&guest, 0x1234).map(|(at, _)| at), Some(0x1234));
            assert_eq!(walk(&guest, 1 << 39), None);
        }
    }

    #[test]
    fn a_guest_below_1_gib_costs_three_pages_and_one_for_its_devices() {
        assert_eq!(touched(true), [0x9, 0xa, 0xb, 0xe]);
        assert_eq!(touched(false), [0x9, 0xa, 0xb]);
    }

    /// The pages that the tables for a guest of 2 MiB are in.
    fn touched(apics: bool) -> Vec<usize> {
        let end = (PAGE_TABLES + PAGE_TABLES_SIZE) as usize;
        let guest = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), end)]).unwrap();
        write(&guest, 2 << 20).unwrap();
        if apics {
            map_apics(&guest).unwrap();
        }
        let mut bytes = vec![0_u8; (PAGE_TABLES + PAGE_TABLES_SIZE) as usize];
        guest.read_slice(&mut bytes, GuestAddress(0)).unwrap();
        let touched: BTreeSet<usize> =
            (0..bytes.len()).filter(|&at| bytes[at] != 0).map(|at| at >> 12).collect();
        Vec::from_iter(touched)
    }

    #[test]
    fn tables_that_do_not_fit_are_an_error() {
        let guest = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), PAGE_TABLES as usize)]).unwrap();
        assert!(write(&guest, 2 << 20).is_err());
    }
}
