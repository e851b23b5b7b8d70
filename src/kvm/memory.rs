//! Guest memory: anonymous pages of this process that KVM shows to the guest as physical memory.
//!
//! Nothing is allocated until it is touched (MAP_NORESERVE), so a large guest starts as fast as a
//! small one and costs only what it uses.

use crate::error::{Error, Result};
use crate::x86::layout::{ABOVE_HOLE, MMIO_START};
use vm_memory::GuestAddress;
use vm_memory::mmap::FromRangesError;

/// The guest's memory, addressed by guest-physical address.
pub type Memory = vm_memory::GuestMemoryMmap<()>;

/// The largest guest, in bytes. KVM's own limit for a slot is 8 TiB, but it keeps tables in proportion to a
/// slot. A processor whose physical addresses are narrower (39 bits are 512 GiB) cannot reach all of it.
pub const MAX_MEMORY: u64 = 1 << 40;

/// Maps `bytes` (a multiple of the page size) around the hole that belongs to devices.
pub(super) fn allocate(bytes: u64) -> Result<Memory> {
    let below = bytes.min(MMIO_START);
    let ranges = [(GuestAddress(0), below as usize), (GuestAddress(ABOVE_HOLE), (bytes - below) as usize)];
    let used = if bytes > below { 2 } else { 1 };
    Memory::from_ranges(&ranges[..used]).map_err(|error| match error {
        FromRangesError::MmapRegion(vm_memory::mmap::MmapRegionError::Mmap(source)) => {
            Error::Host { what: "map the guest's memory", source }
        }
        other => Error::Config(format!("cannot map {bytes} bytes of guest memory: {other}")),
    })
}
