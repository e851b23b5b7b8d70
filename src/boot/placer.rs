//! Where everything goes in guest memory: the one place with the arithmetic, and the only writer.
//!
//! A [`Placer`] keeps a list of the ranges that are taken. What lies outside of memory, wraps around
//! the address space or overlaps an earlier range is refused, so that nothing is written twice.
//! Fresh guest memory is zero: a part that ends in zeroes (bss, the end of a command line) is placed
//! whole, but only its bytes are written.

use super::Memory;
use crate::error::ImageError;
use crate::x86::identity_map;
use crate::x86::layout::{HIGH_MEMORY, LOW_MEMORY_END, MMIO_START, PAGE_TABLES, PAGE_TABLES_SIZE};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

/// The unit in which modules are aligned, in bytes.
const PAGE: u64 = 0x1000;
/// The bits of an address that lie within it.
const WITHIN_PAGE: u64 = PAGE - 1;

/// A range of guest-physical memory that is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// What lies there.
    pub what: &'static str,
    /// Its first byte.
    pub start: u64,
    /// The byte after its last.
    pub end: u64,
}

/// Places parts of a guest in its memory; see the [module](self).
pub struct Placer<'m> {
    memory: &'m Memory,
    /// Where the memory that begins at 0 ends; nothing is placed above the hole.
    end: u64,
    placed: Vec<Placed>,
}

impl<'m> Placer<'m> {
    /// Starts with the memory of a guest, which must be fresh: every byte zero. Only the range that
    /// every memory map reserves is taken: video memory and ROMs.
    pub fn new(memory: &'m Memory) -> Placer<'m> {
        let end = memory.find_region(GuestAddress(0)).map_or(0, |low| low.len().min(MMIO_START));
        let reserved = Placed { what: "video memory and ROMs", start: LOW_MEMORY_END, end: HIGH_MEMORY };
        let mut placed = Vec::with_capacity(8);
        placed.push(reserved);
        Placer { memory, end, placed }
    }

    /// Bytes of memory the guest has, on both sides of the hole.
    pub fn memory_size(&self) -> u64 {
        self.memory.iter().map(|region| region.len()).sum()
    }

    /// The ranges that are taken, in the order in which they were placed.
    pub fn placed(&self) -> &[Placed] {
        &self.placed
    }

    /// Takes `len` bytes from `start` and leaves them as they are: zero.
    ///
    /// # Errors
    /// [`ImageError::Outside`] and [`ImageError::Overlap`].
    pub fn reserve(&mut self, what: &'static str, start: u64, len: u64) -> Result<(), ImageError> {
        let end = start.saturating_add(len);
        if end > self.end {
            return Err(ImageError::Outside { what, start, end, memory: self.end });
        }
        if let Some(other) = self.in_the_way(start, end) {
            return Err(ImageError::Overlap { what, start, end, other: other.what });
        }
        self.placed.push(Placed { what, start, end });
        Ok(())
    }

    /// Puts `bytes` at `start`.
    ///
    /// # Errors
    /// Those of [`Placer::reserve`].
    pub fn write(&mut self, what: &'static str, start: u64, bytes: &[u8]) -> Result<(), ImageError> {
        self.write_padded(what, start, bytes, bytes.len() as u64)
    }

    /// Puts `bytes` at `start`, followed by zeroes up to `len` bytes in all (never fewer than `bytes`).
    ///
    /// # Errors
    /// Those of [`Placer::reserve`].
    pub fn write_padded(
        &mut self,
        what: &'static str,
        start: u64,
        bytes: &[u8],
        len: u64,
    ) -> Result<(), ImageError> {
        let len = len.max(bytes.len() as u64);
        self.reserve(what, start, len)?;
        let outside =
            |_| ImageError::Outside { what, start, end: start.saturating_add(len), memory: self.end };
        self.memory.write_slice(bytes, GuestAddress(start)).map_err(outside)
    }

    /// Something that lies in a range already.
    fn in_the_way(&self, start: u64, end: u64) -> Option<&Placed> {
        self.placed.iter().find(|other| start < other.end && other.start < end)
    }

    /// Puts `bytes` as high as they fit below `limit`, at the start of a page, and returns where that is: at the end of
    /// memory, or right below something that is there, but not in the first megabyte if there is more.
    ///
    /// # Errors
    /// [`ImageError::NoRoom`] if that much is free nowhere.
    pub fn write_high(&mut self, what: &'static str, bytes: &[u8], limit: u64) -> Result<u64, ImageError> {
        let (size, limit) = (bytes.len() as u64, self.end.min(limit));
        let no_room = || ImageError::NoRoom { what, size, limit, memory: self.end };
        let mut start = limit.checked_sub(size).ok_or_else(no_room)? & !WITHIN_PAGE;
        while let Some(other) = self.in_the_way(start, start.saturating_add(size)) {
            let below = other.start.checked_sub(size).map(|start| start & !WITHIN_PAGE);
            start = below.filter(|&below| below >= HIGH_MEMORY).ok_or_else(no_room)?;
        }
        self.write(what, start, bytes)?;
        Ok(start)
    }

    /// Puts the identity page tables, with the `apics` if they are wanted, in their place and returns the value for CR3.
    ///
    /// # Errors
    /// Those of [`Placer::reserve`].
    pub fn write_page_tables(&mut self, apics: bool) -> Result<u64, ImageError> {
        let (what, start, end) = ("the page tables", PAGE_TABLES, PAGE_TABLES + PAGE_TABLES_SIZE);
        self.reserve(what, start, PAGE_TABLES_SIZE)?;
        let outside = |_| ImageError::Outside { what, start, end, memory: self.end };
        let root = identity_map::write(self.memory, self.end).map_err(outside)?;
        if apics {
            identity_map::map_apics(self.memory).map_err(outside)?;
        }
        Ok(root)
    }
}

#[cfg(test)]
mod tests {
    use super::super::images::{guest, read};
    use super::*;

    const SIZE: usize = 2 << 20;
    const AT: u64 = HIGH_MEMORY;

    #[test]
    fn ranges_may_touch_but_not_overlap() {
        let memory = guest(SIZE);
        let mut placer = Placer::new(&memory);
        assert_eq!(placer.reserve("middle", AT + 0x1000, 0x1000), Ok(()));
        assert_eq!(placer.reserve("below", AT, 0x1000), Ok(()));
        assert_eq!(placer.reserve("above", AT + 0x2000, 1), Ok(()));
        for (start, len) in [(AT + 0xfff, 2), (AT + 0x1fff, 1), (AT + 0x1100, 1), (AT - 1, 0x4000)] {
            let refused = placer.reserve("late", start, len);
            assert!(matches!(refused, Err(ImageError::Overlap { .. })), "{start:#x} {len:#x}: {refused:?}");
        }
    }

    #[test]
    fn the_last_byte_of_memory_can_be_taken_and_the_next_cannot() {
        let memory = guest(SIZE);
        let end = SIZE as u64;
        let mut placer = Placer::new(&memory);
        assert_eq!(placer.write("last", end - 1, b"x"), Ok(()));
        for (start, len) in [(end, 1), (end - 2, 3), (u64::MAX, 1), (u64::MAX, u64::MAX), (0, u64::MAX)] {
            let refused = placer.reserve("late", start, len);
            assert!(matches!(refused, Err(ImageError::Outside { .. })), "{start:#x} {len:#x}: {refused:?}");
        }
    }

    #[test]
    fn nothing_is_written_when_a_place_is_refused() {
        let memory = guest(SIZE);
        let mut placer = Placer::new(&memory);
        placer.write("first", AT, b"first").unwrap();
        placer.write("second", AT + 4, b"second").unwrap_err();
        assert_eq!(read(&memory, AT, 12), b"first\0\0\0\0\0\0\0");
        assert_eq!(placer.placed().last().unwrap().what, "first");
    }

    #[test]
    fn padding_is_taken_but_never_less_than_the_bytes() {
        let memory = guest(SIZE);
        let mut placer = Placer::new(&memory);
        placer.write_padded("padded", AT, b"abc", 0x10).unwrap();
        placer.write_padded("short", AT + 0x10, b"abc", 1).unwrap();
        let ends: Vec<u64> = placer.placed().iter().map(|placed| placed.end).collect();
        assert_eq!(ends[1..], [AT + 0x10, AT + 0x13]);
    }

    #[test]
    fn a_module_goes_to_the_last_page_that_holds_it() {
        let memory = guest(SIZE);
        let mut placer = Placer::new(&memory);
        assert_eq!(placer.write_high("one", &[1; 0x1001], u64::MAX), Ok(SIZE as u64 - 0x2000));
        assert_eq!(read(&memory, SIZE as u64 - 0x1000, 2), [1, 0]);
        assert_eq!(placer.write_high("another", &[2], u64::MAX), Ok(SIZE as u64 - 0x3000), "right below");
        placer.reserve("middle", AT + 0x8_0000, 0x7_0000).unwrap();
        assert_eq!(placer.write_high("more", &[3; 0xd001], u64::MAX), Ok(AT + 0x7_2000), "below the middle");
        let limit = SIZE as u64;
        let no_room = |what, size| Err(ImageError::NoRoom { what, size, limit, memory: limit });
        let most = placer.write_high("most", &[4; 0x8_0000], u64::MAX);
        assert_eq!(most, no_room("most", 0x8_0000), "and not below a megabyte");
        let large = Placer::new(&memory).write_high("large", &vec![0; SIZE + 1], u64::MAX);
        assert_eq!(large, no_room("large", limit + 1));
    }
}
