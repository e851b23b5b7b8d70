//! Processes, threads and descriptors of who serves a program.
//!
//! Sources: fork(2), fcntl(2), process_vm_readv(2), getrlimit(2).

use super::arena::Arena;
use super::copy::Fault;
use super::stopwatch::timed;
use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::ptr::with_exposed_provenance_mut;
use std::sync::OnceLock;

/// Which of the two a process is after [`fork`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forked {
    /// The one that asked, and the number of its child.
    Parent(i32),
    /// The child: the calling thread, and none of the others.
    Child,
}

/// Makes a copy of this process (fork(2)).
///
/// Of other threads only their locks are copied: the caller holds those that the child will want. The allocator's are
/// taken care of by the C library.
pub fn fork() -> io::Result<Forked> {
    // SAFETY: the C library makes its own state whole in the child; ours is the caller's to care for, and a lock that
    // stays locked is no breach of memory safety.
    match timed(|| unsafe { libc::fork() }) {
        0 => Ok(Forked::Child),
        child if child > 0 => Ok(Forked::Parent(child)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Ends this process, all its threads, at once, and without a word.
pub fn end_process(status: i32) -> ! {
    // SAFETY: it does not return.
    unsafe { libc::_exit(status) }
}

/// The calling thread's number, as the kernel has it.
pub fn thread_id() -> i32 {
    // SAFETY: it takes nothing and cannot fail.
    unsafe { libc::gettid() }
}

/// Waits for a child to end (waitpid(2)).
pub fn wait_for(child: i32) -> io::Result<ExitStatus> {
    let mut status = 0;
    loop {
        // SAFETY: the call writes a number.
        match unsafe { libc::waitpid(child, &mut status, 0) } {
            -1 => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            },
            _ => return Ok(ExitStatus::from_raw(status)),
        }
    }
}

/// Makes `fd` standard output (dup2(2)).
pub fn become_output(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: plain numbers; who has standard output expects it to be what its user wants.
    match unsafe { libc::dup2(fd.as_raw_fd(), libc::STDOUT_FILENO) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// The number of this process's parent.
pub fn parent() -> i32 {
    // SAFETY: it takes nothing and cannot fail.
    unsafe { libc::getppid() }
}

/// The first descriptor that is ours and not the program's: programs have those below, 1024 as everywhere, or half of
/// what the hard limit on open files (`RLIMIT_NOFILE`) gives. Raises the soft limit to the hard one.
pub fn lowest_of_ours() -> io::Result<RawFd> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: getrlimit writes the struct, setrlimit reads it.
    unsafe {
        super::super::check(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit))?;
        limit.rlim_cur = limit.rlim_max;
        super::super::check(libc::setrlimit(libc::RLIMIT_NOFILE, &limit))?;
    }
    Ok(1024.min(limit.rlim_max / 2) as RawFd)
}

/// The same open file once more, by the lowest free number from `lowest` on.
pub fn duplicate_above(fd: BorrowedFd<'_>, lowest: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: plain numbers.
    let moved = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, lowest) };
    if moved < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(moved) })
}

/// Copies what is at `at` of the program that the child process `process` serves: its arena lies where ours does, as
/// it is our copy.
pub fn read_process(process: i32, arena: &Arena, at: u64, bytes: &mut [u8]) -> Result<(), Fault> {
    let place = arena.place(at, bytes.len() as u64)?;
    let local = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    let remote = libc::iovec { iov_base: with_exposed_provenance_mut(place.address), iov_len: bytes.len() };
    // SAFETY: it writes to `bytes`, as many as there are, and reads another process, which fails where it may not.
    match unsafe { libc::process_vm_readv(process, &local, 1, &remote, 1, 0) } {
        done if done == bytes.len() as isize => Ok(()),
        _ => Err(Fault),
    }
}

/// What the kernel has told this process about itself and the processor (getauxval(3)).
pub fn auxiliary(kind: u64) -> u64 {
    // SAFETY: a plain number; 0 for what there is not.
    unsafe { libc::getauxval(kind) }
}

/// User and group of this process: real and effective of each.
pub fn ids() -> [u64; 4] {
    // SAFETY: they take nothing and cannot fail.
    unsafe { [libc::getuid(), libc::geteuid(), libc::getgid(), libc::getegid()].map(u64::from) }
}

/// The processors that a program may use, a bit each, if they are limited.
static PROCESSORS: OnceLock<[u64; 16]> = OnceLock::new();

/// The processors that the program may use, a bit each; `None` for all.
pub fn processors() -> Option<&'static [u64; 16]> {
    PROCESSORS.get()
}

/// Keeps the calling thread, and what it will start, on the first `count` of the processors that it may use
/// (sched_setaffinity(2)). Fewer than that are no error.
pub fn use_processors(count: u32) -> io::Result<()> {
    let mut set = [0_u64; 16];
    let (size, at) = (size_of_val(&set), set.as_mut_ptr().cast::<libc::cpu_set_t>());
    // SAFETY: the call writes a set of that size.
    super::super::check(unsafe { libc::sched_getaffinity(0, size, at) })?;
    let mut left = count;
    for word in &mut set {
        for bit in (0..64).filter(|bit| *word >> bit & 1 == 1).collect::<Vec<_>>() {
            match left.checked_sub(1) {
                Some(rest) => left = rest,
                None => *word &= !(1 << bit),
            }
        }
    }
    // SAFETY: the call reads a set of that size.
    super::super::check(unsafe { libc::sched_setaffinity(0, size, set.as_ptr().cast()) })?;
    PROCESSORS.get_or_init(|| set);
    Ok(())
}

/// Names the calling thread, as ps(1) shows it (PR_SET_NAME): the first 15 bytes of `name`.
pub fn set_name(name: &OsStr) {
    let bytes = name.as_bytes();
    let Ok(name) = CString::new(&bytes[..bytes.len().min(15)]) else { return };
    // SAFETY: a string that ends in zero.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
}

/// Becomes the user `user` of the group `group`, for good, with these capabilities at most (credentials(7)); `groups` are
/// all others that it is in, if they are to be other ones. To be called by a process of one thread.
pub fn become_user(user: u32, group: u32, groups: Option<&[u32]>, capabilities: u64) -> io::Result<()> {
    use crate::sys::check;
    /// `struct __user_cap_header_struct` and two of `struct __user_cap_data_struct`, of version 3.
    const VERSION: u32 = 0x2008_0522;
    // SAFETY: numbers, an array as long as it says, and structs of the version that the header names, which live until
    // the calls are over.
    unsafe {
        if let Some(groups) = groups {
            check(libc::setgroups(groups.len(), groups.as_ptr()))?;
        }
        let header = [VERSION, 0];
        let mut data = [0_u32; 6];
        check(libc::syscall(libc::SYS_capget, header.as_ptr(), data.as_mut_ptr()) as i32)?;
        let allowed = |at: usize| u64::from(data[at]) | u64::from(data[at + 3]) << 32;
        let kept = capabilities & allowed(1);
        check(libc::setresgid(group, group, group))?;
        // Else the kernel takes them all when root becomes another user.
        check(libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0))?;
        check(libc::setresuid(user, user, user))?;
        check(libc::prctl(libc::PR_SET_KEEPCAPS, 0, 0, 0, 0))?;
        let (low, high) = (kept as u32, (kept >> 32) as u32);
        let data = [low, low, 0, high, high, 0];
        check(libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) as i32)?;
        // A process that has changed its user may not look into its own /proc/self otherwise.
        check(libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0))
    }
}

/// Closes every descriptor from `lowest` on but those of `kept`: what a child has of threads that it does not have.
pub fn close_ours_but(kept: &[RawFd], lowest: RawFd) {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return };
    let all: Vec<RawFd> =
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for fd in all.into_iter().filter(|fd| *fd >= lowest && !kept.contains(fd)) {
        // SAFETY: whoever had it is a thread that this process does not have.
        unsafe { libc::close(fd) };
    }
}

/// Whether a process, or one of the group `-process`, is a child of ours, or was and has not been waited for.
pub fn is_child(process: i32) -> bool {
    let (kind, number) = match process {
        ..0 => (libc::P_PGID, process.unsigned_abs()),
        _ => (libc::P_PID, process as u32),
    };
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: the kernel writes a siginfo_t, and with WNOWAIT changes nothing.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        number > 1 && libc::waitid(kind, number, &mut info, options) == 0
    }
}
