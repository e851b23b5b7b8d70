//! The page tables a guest is given when it starts in long mode: guest-virtual equals guest-physical.
//!
//! ```text
//!  PML4[0] → PDPT[0] → PD: 2 MiB pages that cover the memory below 1 GiB
//!            PDPT[1], PDPT[2] → PD: the same, where there is that much memory
//!            PDPT[3] → PD: the pages of the IOAPIC and the local APIC
//! ```
//!
//! No entry is written that the machine does not need: a tiny guest gets four. Memory above the hole
//! is left for the guest to map. Source: Intel SDM volume 3A, section 4.5 "4-Level Paging", table 4-15
//! to 4-18.

use crate::x86::layout::{IOAPIC, LOCAL_APIC, MMIO_START, PAGE_TABLES};
use vm_memory::{Bytes, GuestAddress, GuestMemoryError, GuestMemoryMmap};

/// Bit 0: the entry is valid.
const PRESENT: u64 = 1 << 0;
/// Bit 1: writes are allowed.
const WRITABLE: u64 = 1 << 1;
/// Bit 4: accesses are not cached, as a device wants it.
const UNCACHED: u64 = 1 << 4;
/// Bit 7 of a page-directory entry: it maps 2 MiB instead of naming a table.
const LARGE: u64 = 1 << 7;

const TABLE: u64 = 0x1000;
const MIB_2: u64 = 2 << 20;
const GIB: u64 = 1 << 30;

/// Writes the tables for a guest with `memory` bytes and returns their root, the value for CR3.
pub fn identity(guest: &GuestMemoryMmap<()>, memory: u64) -> Result<u64, GuestMemoryError> {
    let pml4 = PAGE_TABLES;
    let pdpt = pml4 + TABLE;
    let directory = |gib: u64| pdpt + TABLE * (gib + 1);
    let put =
        |table: u64, index: u64, entry: u64| guest.write_obj(entry.to_le(), GuestAddress(table + index * 8));

    put(pml4, 0, pdpt | PRESENT | WRITABLE)?;
    for page in (0..memory.min(MMIO_START)).step_by(MIB_2 as usize) {
        if page % GIB == 0 {
            put(pdpt, page / GIB, directory(page / GIB) | PRESENT | WRITABLE)?;
        }
        put(directory(page / GIB), page % GIB / MIB_2, page | PRESENT | WRITABLE | LARGE)?;
    }
    put(pdpt, 3, directory(3) | PRESENT | WRITABLE)?;
    for device in [IOAPIC, LOCAL_APIC] {
        let entry = device | PRESENT | WRITABLE | UNCACHED | LARGE;
        put(directory(3), device % GIB / MIB_2, entry)?;
    }
    Ok(pml4)
}
