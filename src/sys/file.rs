//! Files and pipes, beyond what std has.
//!
//! Sources: memfd_create(2), lseek(2), fcntl(2), flock(2), fallocate(2), openat(2), openat2(2), readlinkat(2); kernel: admin-guide/mm/pagemap.rst.

use super::check;
use libc::c_int;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use vmm_sys_util::seek_hole::SeekHole;

/// A pipe whose writing end a child inherits.
pub fn pipe_for_child() -> io::Result<(PipeReader, PipeWriter)> {
    let (reader, writer) = io::pipe()?;
    // SAFETY: the descriptor is open; clearing FD_CLOEXEC changes nothing but what exec does to it.
    match unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETFD, 0) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok((reader, writer)),
    }
}

/// The writing end, in the child: `None` unless `fd` is an open pipe that is not one of the first three.
pub fn inherited_pipe(fd: i32) -> Option<File> {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: fstat writes `stat` or fails.
    let is_pipe = unsafe {
        fd > 2
            && libc::fstat(fd, stat.as_mut_ptr()) == 0
            && stat.assume_init().st_mode & libc::S_IFMT == libc::S_IFIFO
    };
    // SAFETY: our parent opened it for us alone, and nothing in this process has asked for it before.
    is_pipe.then(|| unsafe { File::from_raw_fd(fd) })
}

/// What becomes of bytes in the middle of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hole {
    /// They are given back, and read as zeroes.
    Punch,
    /// They read as zeroes, and keep their place where the file system can do that.
    Zero,
}

/// Makes `len` bytes at `offset` of a file or a block device zeroes, without writing them (fallocate(2)). `Unsupported` where
/// that cannot be.
pub fn make_hole(file: BorrowedFd, hole: Hole, offset: u64, len: u64) -> io::Result<()> {
    let kind = match hole {
        Hole::Punch => libc::FALLOC_FL_PUNCH_HOLE,
        Hole::Zero => libc::FALLOC_FL_ZERO_RANGE,
    };
    let mode = kind | libc::FALLOC_FL_KEEP_SIZE;
    // SAFETY: a descriptor that is open, and numbers.
    check(unsafe { libc::fallocate(file.as_raw_fd(), mode, offset as i64, len as i64) })
}

/// Locks a file (flock(2)): for this process alone, or against those who want that. False if another has a lock that is in
/// the way.
pub fn try_lock(file: BorrowedFd, is_alone: bool) -> io::Result<bool> {
    let kind = if is_alone { libc::LOCK_EX } else { libc::LOCK_SH };
    // SAFETY: a descriptor that is open, and a number.
    match check(unsafe { libc::flock(file.as_raw_fd(), kind | libc::LOCK_NB) }) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}

/// Opens the file `name` in `directory`, with `flags` besides O_NOFOLLOW: a link is not followed.
pub fn open_at(directory: BorrowedFd, name: &OsStr, flags: c_int) -> io::Result<File> {
    let name = CString::new(name.as_bytes())?;
    let flags = flags | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    // SAFETY: a descriptor that is open, a string that ends in zero, and a number.
    match unsafe { libc::openat(directory.as_raw_fd(), name.as_ptr(), flags) } {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: it is new, and nobody else's.
        fd => Ok(unsafe { File::from_raw_fd(fd) }),
    }
}

/// Where the symbolic link leads that `link` is, opened with O_PATH.
pub fn link_target(link: BorrowedFd) -> io::Result<Vec<u8>> {
    let mut target = vec![0; libc::PATH_MAX as usize];
    let (buffer, size) = (target.as_mut_ptr().cast(), target.len());
    // SAFETY: the kernel writes at most `size` bytes to `target`; an empty path is the link itself.
    match unsafe { libc::readlinkat(link.as_raw_fd(), c"".as_ptr(), buffer, size) } {
        -1 => Err(io::Error::last_os_error()),
        length => {
            target.truncate(length as usize);
            Ok(target)
        }
    }
}

/// Opens `path` for reading. A pipe that nobody writes to is not waited for.
pub fn open_without_waiting(path: &Path) -> io::Result<File> {
    File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)
}

/// Where the next data of a sparse file begin, from `offset` on; `None` if only a hole is left (lseek(2), SEEK_DATA).
/// It moves the descriptor's own place.
pub fn next_data(file: &mut File, offset: u64) -> io::Result<Option<u64>> {
    match file.seek_data(offset) {
        // A file system without holes has data everywhere.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(Some(offset)),
        data => data,
    }
}

/// Writes all of `bytes`. A pipe or a terminal that somebody made non-blocking is waited for when it is full (EAGAIN).
///
/// By hand: std's standard error takes a closed descriptor for success, and none of std's waits.
pub fn write_all(descriptor: impl AsFd, mut bytes: &[u8]) -> io::Result<()> {
    let descriptor = descriptor.as_fd();
    while !bytes.is_empty() {
        // SAFETY: the descriptor is open, and the bytes are only read.
        match unsafe { libc::write(descriptor.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) } {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            count @ 1.. => bytes = &bytes[count as usize..],
            _ => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::WouldBlock => wait_for(descriptor, libc::POLLOUT),
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            },
        }
    }
    Ok(())
}

/// Waits until a descriptor can be read from.
pub fn wait_for_input(descriptor: impl AsFd) {
    wait_for(descriptor.as_fd(), libc::POLLIN);
}

/// Waits until a descriptor is ready for `events` (poll(2)), or a signal comes.
fn wait_for(descriptor: BorrowedFd<'_>, events: libc::c_short) {
    let mut poll = libc::pollfd { fd: descriptor.as_raw_fd(), events, revents: 0 };
    // SAFETY: one pollfd, and it is ours.
    unsafe { libc::poll(&mut poll, 1, -1) };
}

/// Which of `pages` pages from `address` on are the process's own, and no longer those of the file that is mapped
/// there (kernel: admin-guide/mm/pagemap.rst). `pagemap` is that file of /proc.
pub fn own_pages(pagemap: &File, address: usize, pages: usize) -> io::Result<Vec<usize>> {
    use std::os::unix::fs::FileExt;
    /// Bits of an entry: in memory, swapped, of a file.
    const PRESENT: u64 = 1 << 63;
    const SWAPPED: u64 = 1 << 62;
    const OF_A_FILE: u64 = 1 << 61;
    /// Entries that are read at once: the memory may have millions of pages.
    const CHUNK: usize = 8192;
    let is_own = |entry: u64| entry & (PRESENT | SWAPPED) != 0 && entry & OF_A_FILE == 0;
    let mut own = Vec::new();
    let mut entries = [0; CHUNK * size_of::<u64>()];
    for first in (0..pages).step_by(CHUNK) {
        let entries = &mut entries[..(pages - first).min(CHUNK) * size_of::<u64>()];
        pagemap.read_exact_at(entries, ((address / 4096 + first) * size_of::<u64>()) as u64)?;
        let (entries, _) = entries.as_chunks();
        let numbered = (first..).zip(entries.iter().map(|entry| u64::from_le_bytes(*entry)));
        own.extend(numbered.filter(|&(_, entry)| is_own(entry)).map(|(number, _)| number));
    }
    Ok(own)
}

/// A file that is nowhere but in memory (memfd_create(2)).
///
/// By hand: vmm-sys-util's temporary files are on a disk, under a name.
pub fn memory_file() -> io::Result<File> {
    // SAFETY: the name is a constant; the descriptor that comes back is nobody's yet.
    match unsafe { libc::memfd_create(c"matchstick".as_ptr(), libc::MFD_CLOEXEC) } {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: as above.
        fd => Ok(unsafe { File::from_raw_fd(fd) }),
    }
}

/// Takes a mount away, at once for those who look and for good when nobody uses it (umount2(2), MNT_DETACH). A link is
/// not followed.
pub fn unmount(path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: a string that ends in zero, and a number.
    super::check(unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH | libc::UMOUNT_NOFOLLOW) })
}

/// What `open` finds, a lookup by openat2(2) that must not lead out of a directory. Linux says EAGAIN (`is_raced`) where it
/// cannot be sure of `..`, as something was renamed or mounted meanwhile, anywhere on the machine: then once more, but not
/// for ever.
pub fn not_raced<T, E>(
    mut open: impl FnMut() -> Result<T, E>,
    is_raced: impl Fn(&E) -> bool,
) -> Result<T, E> {
    const TRIES: u32 = 10_000;
    for _ in 1..TRIES {
        match open() {
            Err(error) if is_raced(&error) => {}
            found => return found,
        }
    }
    open()
}
