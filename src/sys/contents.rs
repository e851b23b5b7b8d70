//! The bytes of an image, which are in this program, in memory, or in a file.
//!
//! A file is mapped, so that its bytes are copied once only: to the guest's memory. Source: mmap(2).

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::os::fd::AsRawFd;
use std::ptr::null_mut;
use std::sync::Arc;

/// Bytes, wherever they are. A clone shares them.
#[derive(Debug, Clone)]
pub struct Contents(Kind);

#[derive(Debug, Clone)]
enum Kind {
    Static(&'static [u8]),
    Made(Arc<Vec<u8>>),
    File(Arc<Mapping>),
}

impl Contents {
    /// The first `len` bytes of `file`, which must have so many. It is mapped, not read: if it becomes shorter
    /// later, reading what is gone is a SIGBUS (see `sys::watch_mapped_files`).
    ///
    /// # Errors
    /// Those of mmap(2); EINVAL for no bytes at all.
    pub fn mapped(file: &File, len: usize) -> io::Result<Contents> {
        let (prot, flags) = (libc::PROT_READ, libc::MAP_PRIVATE | libc::MAP_NORESERVE);
        // SAFETY: a new mapping at a place of the kernel's choice.
        let start = unsafe { libc::mmap(null_mut(), len, prot, flags, file.as_raw_fd(), 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Contents(Kind::File(Arc::new(Mapping { start: start as usize, len }))))
    }
}

impl Deref for Contents {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Kind::Static(bytes) => bytes,
            Kind::Made(bytes) => bytes,
            Kind::File(mapping) => mapping.bytes(),
        }
    }
}

impl From<&'static [u8]> for Contents {
    fn from(bytes: &'static [u8]) -> Contents {
        Contents(Kind::Static(bytes))
    }
}

impl From<Vec<u8>> for Contents {
    fn from(bytes: Vec<u8>) -> Contents {
        Contents(Kind::Made(Arc::new(bytes)))
    }
}

/// A file in our address space, for reading.
#[derive(Debug)]
struct Mapping {
    start: usize,
    len: usize,
}

impl Mapping {
    fn bytes(&self) -> &[u8] {
        // SAFETY: `len` readable bytes, mapped until `self` is dropped. No one in this process writes to them. Another
        // one may, to the file: whoever reads these bytes takes them for a stranger's, and checks each where it is used.
        unsafe { std::slice::from_raw_parts(self.start as *const u8, self.len) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping made by `Contents::mapped`, to which no reference is left.
        unsafe { libc::munmap(self.start as *mut libc::c_void, self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::memory_file;
    use std::io::Write;

    #[test]
    fn a_file_is_its_bytes_and_stays_so_in_a_clone() {
        let mut file = memory_file().unwrap();
        file.write_all(b"some bytes").unwrap();
        let contents = Contents::mapped(&file, 4).unwrap();
        let clone = contents.clone();
        drop((contents, file));
        assert_eq!(*clone, *b"some");
        assert_eq!(*Contents::from(vec![1, 2]), [1, 2]);
    }

    #[test]
    fn nothing_cannot_be_mapped() {
        assert!(Contents::mapped(&memory_file().unwrap(), 0).is_err());
    }
}
