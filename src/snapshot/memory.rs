//! The memory of a golden image: as it lies in the guest, page for page, with holes for pages that are zero.
//!
//! The digest is XXH64 (xxHash specification) of each page that is not zero: its number as eight bytes,
//! little-endian, then its contents. So it does not depend on where a file system keeps holes.

use crate::kvm::Memory;
use crate::x86::layout::{ABOVE_HOLE, MMIO_START};
use std::fs::File;
use std::hash::Hasher;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use twox_hash::XxHash64;
use vm_memory::{Bytes, GuestMemoryBackend, GuestMemoryRegion};

/// Bytes of a page.
pub const PAGE: usize = 4096;
/// Pages that are moved at once.
const CHUNK: usize = 64;

/// Room for `len` bytes, which a file decides on.
pub fn zeroes(len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len)?;
    bytes.resize(len, 0);
    Ok(bytes)
}

/// The guest-physical address of a page.
pub fn address(page: u64) -> u64 {
    let at = page * PAGE as u64;
    if at < MMIO_START { at } else { at - MMIO_START + ABOVE_HOLE }
}

/// Counts and digests pages.
struct Digest {
    pages: u64,
    hash: XxHash64,
}

impl Digest {
    fn new() -> Digest {
        Digest { pages: 0, hash: XxHash64::with_seed(0) }
    }

    fn add(&mut self, number: u64, page: &[u8]) {
        self.pages += 1;
        self.hash.write(&number.to_le_bytes());
        self.hash.write(page);
    }

    fn end(self) -> (u64, u64) {
        (self.pages, self.hash.finish())
    }
}

/// The pages in `chunk` that are not zero, each with its place in it.
pub fn used_pages(chunk: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    const ZERO: [u8; PAGE] = [0; PAGE];
    chunk.chunks(PAGE).enumerate().filter(|(_, page)| **page != ZERO[..page.len()])
}

/// Writes `memory` to `file` from `offset` on, and returns how many pages that were, and their digest. The file
/// ends with the memory.
pub fn write(file: &File, offset: u64, memory: &Memory) -> io::Result<(u64, u64)> {
    let mut digest = Digest::new();
    let mut chunk = zeroes(CHUNK * PAGE)?;
    let mut number = 0;
    for region in memory.iter() {
        let pages = region.len() / PAGE as u64;
        let mut at = 0;
        while at < pages {
            let count = (pages - at).min(CHUNK as u64) as usize;
            let chunk = &mut chunk[..count * PAGE];
            let start = vm_memory::MemoryRegionAddress(at * PAGE as u64);
            region.read_slice(chunk, start).map_err(io::Error::other)?;
            for (n, page) in used_pages(chunk) {
                digest.add(number + n as u64, page);
                file.write_all_at(page, offset + (number + n as u64) * PAGE as u64)?;
            }
            at += count as u64;
            number += count as u64;
        }
    }
    file.set_len(offset + number * PAGE as u64)?;
    Ok(digest.end())
}

/// Calls `each` with the number and the contents of every page that is not zero, of `bytes` of memory at `offset`.
pub fn each_page(
    file: &File,
    offset: u64,
    bytes: u64,
    each: impl FnMut(u64, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    each_page_in(file, offset, 0..bytes, each)
}

/// The same for a part of it; the numbers are those in the whole.
pub fn each_page_in(
    file: &File,
    offset: u64,
    part: Range<u64>,
    mut each: impl FnMut(u64, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut file = file.try_clone()?;
    let end = offset + part.end;
    let mut chunk = zeroes(CHUNK * PAGE)?;
    let mut at = offset + part.start;
    while let Some(data) = crate::sys::next_data(&mut file, at)?.filter(|&data| data < end) {
        // The file system may say that data begin within a page.
        at = (data - data % PAGE as u64).max(at);
        let count = (end - at).min(chunk.len() as u64) as usize;
        file.read_exact_at(&mut chunk[..count], at)?;
        for (n, page) in used_pages(&chunk[..count]) {
            each((at - offset) / PAGE as u64 + n as u64, page)?;
        }
        at += count as u64;
    }
    Ok(())
}

/// How many pages of the memory in `file` are not zero, and their digest.
pub fn digest(file: &File, offset: u64, bytes: u64) -> io::Result<(u64, u64)> {
    let mut digest = Digest::new();
    each_page(file, offset, bytes, |number, page| {
        digest.add(number, page);
        Ok(())
    })?;
    Ok(digest.end())
}

/// Copies an image whose memory lies at `offset`, with its holes, until `is_over`.
pub fn copy(from: &File, to: &File, offset: u64, bytes: u64, is_over: fn() -> bool) -> io::Result<()> {
    let mut head = zeroes(offset as usize)?;
    from.read_exact_at(&mut head, 0)?;
    to.write_all_at(&head, 0)?;
    each_page(from, offset, bytes, |number, page| match is_over() {
        false => to.write_all_at(page, offset + number * PAGE as u64),
        true => Err(io::ErrorKind::Interrupted.into()),
    })?;
    to.set_len(offset + bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Exhaustive: every page of 8 GiB.
    #[test]
    fn pages_lie_one_behind_the_other_except_around_the_hole() {
        let page = PAGE as u64;
        for number in 0..8 << 30 >> 12 {
            let (here, next) = (address(number), address(number + 1));
            let is_last = here + page == MMIO_START;
            assert_eq!(next, if is_last { ABOVE_HOLE } else { here + page }, "page {number}");
        }
    }
}
