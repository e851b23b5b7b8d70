//! Guest memory: anonymous pages of this process that KVM shows to the guest as physical memory.
//!
//! No page is allocated before the guest touches it (MAP_NORESERVE), so a large guest starts as fast as a small one and
//! costs only what it uses. A large guest gets pages of 2 MiB where the host has them: the first touch of each page is an
//! exit. KVM can only map a large page if the guest-physical address and our address of it have the same offset in it.

use crate::error::{Error, Result, Step};
use crate::x86::layout::{ABOVE_HOLE, MMIO_START};
use std::fs::File;
use std::io;
use std::ptr::null_mut;
use std::sync::Arc;
use vm_memory::mmap::{FromRangesError, MmapRegionError};
use vm_memory::{
    FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryRegion, GuestRegionMmap, MmapRegion,
};

/// The guest's memory, addressed by guest-physical address.
pub type Memory = vm_memory::GuestMemoryMmap<()>;

/// The largest guest, in bytes. KVM's own limit for a slot is 8 TiB, but it keeps tables in proportion to a
/// slot. A processor whose physical addresses are narrower (39 bits are 512 GiB) cannot reach all of it.
pub const MAX_MEMORY: u64 = 1 << 40;

/// The size and the alignment of a large page.
const LARGE: usize = 2 << 20;
/// From this size on a guest gets large pages. To a smaller one they are not worth the system calls, and a tiny
/// guest would have a large page zeroed for the few small ones that it touches.
const LARGE_FROM: u64 = 32 << 20;

/// Where `bytes` of memory lie: below the hole, and above it what does not fit there. And how many of the two ranges are
/// used.
fn ranges(bytes: u64) -> ([(GuestAddress, usize); 2], usize) {
    let below = bytes.min(MMIO_START);
    let ranges = [(GuestAddress(0), below as usize), (GuestAddress(ABOVE_HOLE), (bytes - below) as usize)];
    (ranges, if bytes > below { 2 } else { 1 })
}

/// Maps `bytes` of `file` from `offset` on (multiples of the page size) as a guest's memory. What the guest writes
/// is its own (MAP_PRIVATE): the file stays as it is, and the pages that nobody writes to are shared by all who
/// map it. Whoever touches memory beyond the end of a file that became shorter gets SIGBUS.
pub fn map_file(file: &Arc<File>, offset: u64, bytes: u64) -> Result<Memory> {
    let (ranges, used) = ranges(bytes);
    let mut at = offset;
    let mut regions = Vec::with_capacity(used);
    for &(start, len) in &ranges[..used] {
        let place = FileOffset::from_arc(Arc::clone(file), at);
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_NORESERVE);
        let region = MmapRegion::build(Some(place), len, access, kind).map_err(|error| {
            let source = match error {
                MmapRegionError::Mmap(source) => source,
                other => io::Error::other(other),
            };
            Error::Host { step: Step::AllocateMemory, source }
        })?;
        regions.extend(GuestRegionMmap::new(region, start));
        at += len as u64;
    }
    Memory::from_regions(regions)
        .map_err(|error| Error::Misuse(format!("cannot map the guest's memory: {error}")))
}

/// Maps `bytes` (a multiple of the page size) around the hole that belongs to devices.
pub fn allocate(bytes: u64) -> Result<Memory> {
    let (ranges, used) = ranges(bytes);
    let below = ranges[0].1;
    let is_large = bytes >= LARGE_FROM;
    let ceiling = is_large.then(|| Ceiling::above(below));
    let memory = Memory::from_ranges(&ranges[..used]).map_err(|error| match error {
        FromRangesError::MmapRegion(vm_memory::mmap::MmapRegionError::Mmap(source)) => {
            Error::Host { step: Step::AllocateMemory, source }
        }
        other => Error::Misuse(format!("cannot map {bytes} bytes of guest memory: {other}")),
    })?;
    drop(ceiling);
    if is_large {
        memory.iter().for_each(ask_for_large_pages);
    }
    Ok(memory)
}

/// Asks for large pages; some hosts give them only to those who ask. A host without them refuses, which does no harm.
fn ask_for_large_pages(region: &impl GuestMemoryRegion) {
    if let Ok(address) = region.get_host_address(vm_memory::MemoryRegionAddress(0)) {
        // SAFETY: advice about a mapping that we own; it changes none of its bytes.
        unsafe { libc::madvise(address.cast(), region.len() as usize, libc::MADV_HUGEPAGE) };
    }
}

/// A piece of address space that we occupy, so that the next mapping ends right below it, and begins at a multiple of
/// 2 MiB.
///
/// Linux goes from the top down, and before 6.7 does not align a mapping. If it chooses another place, everything works,
/// only slower.
struct Ceiling(*mut libc::c_void, usize);

impl Ceiling {
    /// One such that a mapping of `size` bytes below it begins at a multiple of [`LARGE`].
    fn above(size: usize) -> Ceiling {
        let all = size + LARGE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping that nobody may touch, at a place of the kernel's choice.
        let start = unsafe { libc::mmap(null_mut(), all, libc::PROT_NONE, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Ceiling(null_mut(), 0);
        }
        let low = (start as usize).next_multiple_of(LARGE) - start as usize + size;
        // SAFETY: the lower part of the mapping that was just made, of `all` bytes: `low` is less.
        unsafe { libc::munmap(start, low) };
        Ceiling(start.wrapping_byte_add(low), all - low)
    }
}

impl Drop for Ceiling {
    fn drop(&mut self) {
        if self.1 > 0 {
            // SAFETY: what is left of the mapping made by `above`, which nobody else knows of.
            unsafe { libc::munmap(self.0, self.1) };
        }
    }
}
