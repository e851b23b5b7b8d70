//! The memory of a program in a VM: one piece of our address space, of which the program's mappings are mappings.
//!
//! An address of the program is an offset in the [`Arena`]. Each of its mmap(2), mprotect(2), munmap(2), mremap(2) is
//! one of ours, at that offset: so demand paging, copy-on-write, files and shared memory are the host's own. Nothing
//! outside the arena can be reached through it: each address is checked with its length, and two gigabytes on either
//! side are nobody's. We keep no reference into it, since the program changes it while we run.
//!
//! Sources: mmap(2), mremap(2), madvise(2).

use super::copy::{Fault, copy, exchange};
use super::stopwatch::timed;
use std::io;
use std::marker::PhantomData;
use std::os::fd::RawFd;
use std::ptr::{null_mut, with_exposed_provenance_mut};

/// What is left free on either side: more than any system call reads or writes at once (`MAX_RW_COUNT`).
const GUARD: usize = 2 << 30;
/// The arena begins at a multiple of this, so that the host's large pages are the program's as well.
const ALIGNMENT: usize = 1 << 30;
const PAGE: u64 = 4096;

/// The program's address space, from its address 0 on.
pub struct Arena {
    /// Where it begins in ours.
    base: usize,
    len: u64,
    /// Bytes in front of it that are not the program's.
    before: usize,
}

/// A piece of an arena that has been checked to lie in it, for the kernel to read or write. Whether anything is mapped
/// there, the kernel finds out.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    pub(super) address: usize,
    arena: PhantomData<&'a Arena>,
}

/// What is to be mapped.
#[derive(Debug, Clone, Copy)]
pub struct Source {
    /// Flags of mmap(2) besides MAP_FIXED: whose it is (MAP_SHARED, MAP_PRIVATE), and MAP_ANONYMOUS.
    pub flags: i32,
    /// A file, or -1.
    pub fd: RawFd,
    /// Where in the file, in bytes.
    pub offset: u64,
}

impl Source {
    /// Memory of its own, without a file, all zeroes.
    pub const ANONYMOUS: Source =
        Source { flags: libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, fd: -1, offset: 0 };
}

fn failed() -> io::Error {
    io::Error::last_os_error()
}

impl Arena {
    /// Takes `len` bytes of address space (a multiple of 1 GiB) in which nothing is mapped yet. That costs no memory, and
    /// is never given back. The `before` bytes right in front of it are zeroes and ours, with the guard in front of them.
    pub fn reserve(len: u64, before: usize) -> io::Result<Arena> {
        let all = len as usize + 2 * GUARD + ALIGNMENT + before;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping that nobody may touch, at a place of the kernel's choice.
        let start = unsafe { libc::mmap(null_mut(), all, libc::PROT_NONE, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(failed());
        }
        let base = (start.expose_provenance() + GUARD + before).next_multiple_of(ALIGNMENT);
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a part of what was just mapped, and not of the arena.
        super::super::check(unsafe {
            libc::mprotect(with_exposed_provenance_mut(base - before), before, access)
        })?;
        Ok(Arena { base, len, before })
    }

    /// Where what lies in front of it begins, and how many bytes that has. They are there as long as the process.
    pub fn before(&self) -> (*mut u8, usize) {
        (with_exposed_provenance_mut(self.base - self.before), self.before)
    }

    /// Where it begins in our address space: what KVM is told.
    pub fn host_address(&self) -> u64 {
        self.base as u64
    }

    /// Whether `len` bytes from `at` on lie in the arena.
    pub fn contains(&self, at: u64, len: u64) -> bool {
        at.checked_add(len).is_some_and(|end| end <= self.len)
    }

    /// `len` bytes from `at` on, for the kernel.
    pub fn place(&self, at: u64, len: u64) -> Result<Place<'_>, Fault> {
        match self.contains(at, len) {
            true => Ok(Place { address: self.base + at as usize, arena: PhantomData }),
            false => Err(Fault),
        }
    }

    fn pages(&self, at: u64, len: u64) -> io::Result<*mut libc::c_void> {
        let is_aligned = at.is_multiple_of(PAGE) && len.is_multiple_of(PAGE);
        match is_aligned && len > 0 && self.contains(at, len) {
            true => Ok(with_exposed_provenance_mut(self.base + at as usize)),
            false => Err(io::Error::from_raw_os_error(libc::EINVAL)),
        }
    }

    /// Maps whole pages in place of what was there (mmap(2) with MAP_FIXED). `protection` is what the host's page
    /// tables say; code needs to be readable only, as it is not run here.
    pub fn map(&self, at: u64, len: u64, protection: i32, source: Source) -> io::Result<()> {
        let Source { flags, fd, offset } = source;
        let flags = flags | libc::MAP_FIXED | libc::MAP_NORESERVE;
        let start = self.pages(at, len)?;
        // SAFETY: the range lies in the arena, which is ours, and into which nobody holds a reference.
        let mapped = timed(|| unsafe {
            libc::mmap(start, len as usize, protection, flags, fd, offset as libc::off_t)
        });
        if mapped == libc::MAP_FAILED { Err(failed()) } else { Ok(()) }
    }

    /// Takes whole pages away.
    pub fn unmap(&self, at: u64, len: u64) -> io::Result<()> {
        self.map(at, len, libc::PROT_NONE, Source::ANONYMOUS)
    }

    /// Changes what may be done with whole pages (mprotect(2)).
    pub fn protect(&self, at: u64, len: u64, protection: i32) -> io::Result<()> {
        let start = self.pages(at, len)?;
        // SAFETY: as in `map`.
        super::super::check(timed(|| unsafe { libc::mprotect(start, len as usize, protection) }))
    }

    /// Moves whole pages from `from` to `to`, in place of what is there, and makes them `new` bytes long (mremap(2)).
    /// The two must not overlap.
    pub fn remap(&self, from: u64, old: u64, to: u64, new: u64) -> io::Result<()> {
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        let (start, target) = (self.pages(from, old)?, self.pages(to, new)?);
        // SAFETY: as in `map`, for both ranges.
        let moved = timed(|| unsafe { libc::mremap(start, old as usize, new as usize, flags, target) });
        if moved == libc::MAP_FAILED {
            return Err(failed());
        }
        // What was left is nobody's now. Should another thread of ours have got it meanwhile, it cannot be had back,
        // and must not become the program's.
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED_NOREPLACE;
        // SAFETY: a new mapping that replaces nothing.
        let filled = unsafe { libc::mmap(start, old as usize, libc::PROT_NONE, flags, -1, 0) };
        assert!(filled == start, "another thread's memory lies in the arena");
        Ok(())
    }

    /// Tells the kernel what is to come (madvise(2)). Only advice that changes no mapping may be given.
    pub fn advise(&self, at: u64, len: u64, advice: i32) -> io::Result<()> {
        let start = self.pages(at, len)?;
        // SAFETY: as in `map`; what is thrown away is the program's.
        super::super::check(timed(|| unsafe { libc::madvise(start, len as usize, advice) }))
    }

    /// Copies from the program's memory.
    pub fn read(&self, at: u64, bytes: &mut [u8]) -> Result<(), Fault> {
        let place = self.place(at, bytes.len() as u64)?;
        copy(bytes.as_mut_ptr(), with_exposed_provenance_mut(place.address), bytes.len())
    }

    /// Copies to the program's memory.
    pub fn write(&self, at: u64, bytes: &[u8]) -> Result<(), Fault> {
        let place = self.place(at, bytes.len() as u64)?;
        copy(with_exposed_provenance_mut(place.address), bytes.as_ptr(), bytes.len())
    }

    /// Copies to the program's memory, also where the program has no right to write: a private copy of the page is
    /// changed then (proc_pid_mem(5)). For debuggers.
    pub fn write_anyway(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let place =
            self.place(at, bytes.len() as u64).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let memory = std::fs::File::options().write(true).open("/proc/self/mem")?;
        std::os::unix::fs::FileExt::write_all_at(&memory, bytes, place.address as u64)
    }

    /// A number of the program's memory.
    pub fn read_u64(&self, at: u64) -> Result<u64, Fault> {
        let mut bytes = [0; 8];
        self.read(at, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Puts `new` in the place of `old` at `at`, a multiple of 4, if that is what is there: in one step, whoever else uses
    /// that memory. Returns what was there.
    pub fn compare_exchange(&self, at: u64, old: u32, new: u32) -> Result<u32, Fault> {
        let place = self.place(at, 4)?;
        if !at.is_multiple_of(4) {
            return Err(Fault);
        }
        exchange(with_exposed_provenance_mut(place.address), old, new)
    }

    /// Bytes up to a zero, which is not among them; `None` if there are more than `limit`.
    pub fn read_string(&self, at: u64, limit: usize) -> Result<Option<Vec<u8>>, Fault> {
        let mut string = Vec::new();
        while string.len() < limit {
            let at = at.checked_add(string.len() as u64).ok_or(Fault)?;
            // To the end of its page at most: what comes after need not be there.
            let len = ((PAGE - at % PAGE) as usize).min(limit - string.len()).min(256);
            let mut piece = [0; 256];
            self.read(at, &mut piece[..len])?;
            match piece[..len].iter().position(|&byte| byte == 0) {
                Some(end) => {
                    string.extend_from_slice(&piece[..end]);
                    return Ok(Some(string));
                }
                None => string.extend_from_slice(&piece[..len]),
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RW: i32 = libc::PROT_READ | libc::PROT_WRITE;

    fn arena() -> Arena {
        super::super::on_fault_in_copies().unwrap();
        Arena::reserve(1 << 30, 0).unwrap()
    }

    #[test]
    fn what_is_not_mapped_is_a_fault_and_not_our_end() {
        let arena = arena();
        arena.map(0x1000, 0x1000, RW, Source::ANONYMOUS).unwrap();
        assert_eq!(arena.write(0x1ff8, &[7; 8]), Ok(()));
        assert_eq!(arena.write(0x1ff9, &[7; 8]), Err(Fault));
        assert_eq!(arena.read_u64(0x1ff8), Ok(0x0707_0707_0707_0707));
        assert_eq!((arena.read_u64(0), arena.read_u64(0x2000)), (Err(Fault), Err(Fault)));
        arena.protect(0x1000, 0x1000, libc::PROT_READ).unwrap();
        assert_eq!(arena.write(0x1000, &[1]), Err(Fault));
    }

    #[test]
    fn a_word_is_exchanged_where_there_is_one() {
        let arena = arena();
        arena.map(0x1000, 0x1000, RW, Source::ANONYMOUS).unwrap();
        assert_eq!(arena.compare_exchange(0x1ffc, 0, 7), Ok(0));
        assert_eq!(arena.compare_exchange(0x1ffc, 0, 9), Ok(7));
        assert_eq!(arena.compare_exchange(0x1ffc, 7, u32::MAX), Ok(7));
        assert_eq!(arena.compare_exchange(0x1ffc, 7, 8), Ok(u32::MAX));
        for at in [0x1ffd, 0x2000, 0, arena.len, u64::MAX - 3] {
            assert_eq!(arena.compare_exchange(at, 0, 1), Err(Fault), "{at:#x}");
        }
        arena.protect(0x1000, 0x1000, libc::PROT_READ).unwrap();
        assert_eq!(arena.compare_exchange(0x1ffc, u32::MAX, 1), Err(Fault));
    }

    #[test]
    fn no_address_reaches_beyond_the_arena() {
        let arena = arena();
        let len = arena.len;
        for (at, size) in
            [(len, 1), (len - 1, 2), (u64::MAX, 1), (u64::MAX - 3, 8), (1, u64::MAX), (0, len + 1)]
        {
            assert!(arena.place(at, size).is_err(), "{at:#x}+{size:#x}");
        }
        assert!(arena.place(len - 1, 1).is_ok());
        assert!(arena.map(len, PAGE, RW, Source::ANONYMOUS).is_err());
        assert!(arena.remap(0, PAGE, len, PAGE).is_err());
    }

    #[test]
    fn a_string_may_end_with_its_page() {
        let arena = arena();
        arena.map(0x1000, 0x1000, RW, Source::ANONYMOUS).unwrap();
        arena.write(0x1ffb, b"last\0").unwrap();
        assert_eq!(arena.read_string(0x1ffb, 100), Ok(Some(b"last".to_vec())));
        assert_eq!(arena.read_string(0x1ffb, 3), Ok(None));
        arena.write(0x1fff, b"!").unwrap();
        assert_eq!(arena.read_string(0x1ffb, 100), Err(Fault));
    }

    #[test]
    fn pages_move_with_what_is_in_them() {
        let arena = arena();
        arena.map(0x1000, 0x2000, RW, Source::ANONYMOUS).unwrap();
        arena.write(0x1800, b"here").unwrap();
        arena.remap(0x1000, 0x2000, 0x10_0000, 0x4000).unwrap();
        let mut bytes = [0; 4];
        arena.read(0x10_0800, &mut bytes).unwrap();
        assert_eq!((&bytes, arena.read_u64(0x1800)), (b"here", Err(Fault)));
        assert_eq!(arena.write(0x10_3ff8, &[0; 8]), Ok(()));
    }
}
