//! Bytes between a guest's memory and a file, by one system call and without a copy of ours.
//!
//! Sources: preadv(2), pwritev(2), readv(2).

use super::Memory;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use vm_memory::{GuestAddress, GuestMemoryBackend};

/// A piece of a guest's memory, of at most 4 GiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buffer {
    /// The guest-physical address of its first byte.
    pub address: u64,
    /// How many bytes.
    pub len: u32,
}

/// The most that one system call takes (UIO_MAXIOV).
const MOST: usize = 1024;

/// Reads from `file` into the guest's `buffers`, one after the other, at `offset` in it, or, without one, where it is. Says
/// how many bytes were read: fewer than asked for at the end of a file, or after 1024 buffers.
///
/// # Errors
/// What preadv(2) says; `InvalidInput` for a buffer that is not in memory.
pub fn read_file(
    memory: &Memory,
    buffers: &[Buffer],
    file: BorrowedFd,
    offset: Option<u64>,
) -> io::Result<usize> {
    let vectors = vectors(memory, buffers)?;
    let (file, all, count) = (file.as_raw_fd(), vectors.as_ptr(), vectors.len() as i32);
    let read = match offset {
        // SAFETY: each of the `count` vectors is a part of the guest's memory, which is mapped while `memory` is borrowed,
        // and which others write to as well: nobody has a reference to its bytes.
        Some(offset) => unsafe { libc::preadv(file, all, count, offset as i64) },
        // SAFETY: as above.
        None => unsafe { libc::readv(file, all, count) },
    };
    usize::try_from(read).map_err(|_| io::Error::last_os_error())
}

/// Writes the guest's `buffers`, one after the other, to `file`, at `offset` in it, or, without one, where it is. Says how
/// many bytes were written.
///
/// # Errors
/// What pwritev(2) says; `InvalidInput` for a buffer that is not in memory.
pub fn write_file(
    memory: &Memory,
    buffers: &[Buffer],
    file: BorrowedFd,
    offset: Option<u64>,
) -> io::Result<usize> {
    let vectors = vectors(memory, buffers)?;
    let (file, all, count) = (file.as_raw_fd(), vectors.as_ptr(), vectors.len() as i32);
    let written = match offset {
        // SAFETY: as above; the kernel reads these bytes only.
        Some(offset) => unsafe { libc::pwritev(file, all, count, offset as i64) },
        // SAFETY: as above.
        None => unsafe { libc::writev(file, all, count) },
    };
    usize::try_from(written).map_err(|_| io::Error::last_os_error())
}

fn vectors(memory: &Memory, buffers: &[Buffer]) -> io::Result<Vec<libc::iovec>> {
    let vector = |&Buffer { address, len }: &Buffer| {
        let slice = memory.get_slice(GuestAddress(address), len as usize);
        let slice = slice.map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(libc::iovec { iov_base: slice.ptr_guard_mut().as_ptr().cast(), iov_len: len as usize })
    };
    buffers.iter().take(MOST).map(vector).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;
    use vm_memory::Bytes;

    #[test]
    fn bytes_go_to_and_fro_in_pieces() {
        let memory = Memory::from_ranges(&[(GuestAddress(0), 0x3000)]).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        let buffers = [Buffer { address: 0xfff, len: 3 }, Buffer { address: 0x2ffe, len: 2 }];
        assert_eq!(read_file(&memory, &buffers, file.as_fd(), Some(4)).unwrap(), 5);
        let mut seen = [0; 3];
        memory.read_slice(&mut seen, GuestAddress(0xfff)).unwrap();
        assert_eq!(&seen, b"456");
        assert_eq!(write_file(&memory, &buffers, file.as_fd(), Some(0)).unwrap(), 5);
        let mut all = [0; 10];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut all, 0).unwrap();
        assert_eq!(&all, b"4567856789");
    }

    #[test]
    fn a_buffer_beyond_memory_is_refused_before_anything_is_done() {
        let memory = Memory::from_ranges(&[(GuestAddress(0), 0x1000)]).unwrap();
        let file = tempfile::tempfile().unwrap();
        for (address, len) in [(0xfff, 2), (0x1000, 1), (u64::MAX, 2)] {
            let buffers = [Buffer { address: 0, len: 1 }, Buffer { address, len }];
            let refused = write_file(&memory, &buffers, file.as_fd(), Some(0)).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
        }
        assert_eq!(file.metadata().unwrap().len(), 0);
    }
}
