//! Memory that a process has in common with those that it forks.
//!
//! Source: mmap(2), MAP_SHARED.

use std::io;
use std::sync::atomic::AtomicU64;

/// Words that this process and all that it forks from now on share, for as long as any of them lives. They are 0.
pub fn shared_words(count: usize) -> io::Result<&'static [AtomicU64]> {
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
    // SAFETY: new memory, in no one's place.
    let at =
        unsafe { libc::mmap(std::ptr::null_mut(), count * size_of::<AtomicU64>(), protection, flags, -1, 0) };
    if at == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it begins on a page, is as long as asked for, and is never unmapped; zero is a word, and whoever else has
    // the memory changes it by the same atomic operations.
    Ok(unsafe { std::slice::from_raw_parts(at.cast::<AtomicU64>(), count) })
}
