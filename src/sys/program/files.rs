//! Files by handles: a path is looked up once, and what is then decided and done is about what was found.
//!
//! Sources: openat2(2), open(2) "O_PATH", fstat(2), fstatfs(2), proc_pid_fd(5).

use super::process::duplicate_above;
use super::stopwatch::timed;
use crate::sys::not_raced;
use std::ffi::CStr;
use std::fs::{self, File};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::PathBuf;

/// `struct open_how` of openat2(2).
#[repr(C)]
struct How {
    flags: u64,
    mode: u64,
    resolve: u64,
}

/// What was found by a path: a file, a directory, a link, without the right to read or write it (O_PATH).
#[derive(Debug)]
pub struct Handle {
    fd: OwnedFd,
}

/// What kind of thing it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// Its type and permissions, as `st_mode`.
    pub mode: u32,
    /// Of a device: its major and minor number.
    pub device: (u32, u32),
    /// The type of its file system (statfs(2)).
    pub file_system: u64,
    /// Its size, bytes.
    pub size: u64,
}

impl Handle {
    /// Looks `path` up from the directory `dir` (or AT_FDCWD) on. No link of procfs that leads elsewhere than its text
    /// says is gone through; with `in_root`, `dir` is the root of all there is. The handle's number is `lowest` or more.
    pub fn find(dir: RawFd, path: &CStr, follow: bool, in_root: bool, lowest: RawFd) -> io::Result<Handle> {
        let flags = libc::O_PATH | libc::O_CLOEXEC | if follow { 0 } else { libc::O_NOFOLLOW };
        let root = if in_root { libc::RESOLVE_IN_ROOT } else { 0 };
        let how = How { flags: flags as u64, mode: 0, resolve: libc::RESOLVE_NO_MAGICLINKS | root };
        let open = || {
            // SAFETY: a string that ends in zero, and a struct that is only read.
            match timed(|| unsafe {
                libc::syscall(libc::SYS_openat2, dir, path.as_ptr(), &how, size_of::<How>())
            }) {
                fd if fd < 0 => Err(io::Error::last_os_error()),
                fd => Ok(fd),
            }
        };
        let fd = not_raced(open, |error| error.kind() == io::ErrorKind::WouldBlock)?;
        // SAFETY: the call made this descriptor for us.
        let fd = unsafe { OwnedFd::from_raw_fd(fd as RawFd) };
        // Another thread of the program may have put another file in the place of that number by now: then the handle
        // is of that one, and everything that is asked about it as well.
        Ok(Handle { fd: duplicate_above(fd.as_fd(), lowest)? })
    }

    /// A handle of what the descriptor `fd` is open for.
    pub fn of(fd: RawFd, lowest: RawFd) -> io::Result<Handle> {
        let path = format!("/proc/self/fd/{fd}\0");
        let path = CStr::from_bytes_with_nul(path.as_bytes()).expect("it ends in zero");
        // SAFETY: a string that ends in zero, and plain numbers.
        let opened = unsafe { libc::open(path.as_ptr(), libc::O_PATH | libc::O_CLOEXEC) };
        if opened < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call made this descriptor for us.
        let opened = unsafe { OwnedFd::from_raw_fd(opened) };
        Ok(Handle { fd: duplicate_above(opened.as_fd(), lowest)? })
    }

    /// Its number, for calls that take one.
    pub fn number(&self) -> u64 {
        self.fd.as_raw_fd() as u64
    }

    /// A path that leads to it whatever its name is, for calls of ours.
    pub fn link(&self) -> String {
        format!("/proc/self/fd/{}", self.fd.as_raw_fd())
    }

    /// Its path on the host, or words about what has none.
    pub fn path(&self) -> io::Result<PathBuf> {
        fs::read_link(self.link())
    }

    /// Where it leads, for a link.
    pub fn target(&self) -> io::Result<Vec<u8>> {
        super::super::link_target(self.fd.as_fd())
    }

    /// What it is.
    pub fn kind(&self) -> io::Result<Kind> {
        kind(self.fd.as_raw_fd())
    }

    /// Opens it to be read by us; the descriptor is `lowest` or more.
    pub fn read(&self, lowest: RawFd) -> io::Result<File> {
        let file = File::open(self.link())?;
        Ok(File::from(duplicate_above(file.as_fd(), lowest)?))
    }
}

/// Which file a descriptor is open for: its file system and number; of terminals, that they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Identity(u64, u64);

/// Which file the descriptor `fd` is open for.
pub fn identity(fd: RawFd) -> io::Result<Identity> {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the struct is written by the call, or not looked at.
    let stat = unsafe {
        super::super::check(libc::fstat(fd, stat.as_mut_ptr()))?;
        stat.assume_init()
    };
    let is_terminal = stat.st_mode & libc::S_IFMT == libc::S_IFCHR
        && matches!(libc::major(stat.st_rdev), 4 | 5 | 136..=143);
    Ok(if is_terminal { Identity(u64::MAX, 0) } else { Identity(stat.st_dev, stat.st_ino) })
}

/// What an open descriptor is of.
pub fn kind(fd: RawFd) -> io::Result<Kind> {
    let (mut stat, mut system) = (MaybeUninit::<libc::stat>::uninit(), MaybeUninit::<libc::statfs>::uninit());
    // SAFETY: both structs are written by the calls, or not looked at.
    unsafe {
        super::super::check(libc::fstat(fd, stat.as_mut_ptr()))?;
        super::super::check(libc::fstatfs(fd, system.as_mut_ptr()))?;
        let (stat, system) = (stat.assume_init(), system.assume_init());
        let device = (libc::major(stat.st_rdev), libc::minor(stat.st_rdev));
        let (file_system, size) = (system.f_type as u64, stat.st_size as u64);
        Ok(Kind { mode: stat.st_mode, device, file_system, size })
    }
}

/// Whether `fd` is open for the directory of a process's descriptors: /proc/self/fd, or fdinfo.
pub fn lists_descriptors(fd: RawFd) -> bool {
    kind(fd).is_ok_and(|kind| kind.file_system == libc::PROC_SUPER_MAGIC as u64)
        && fs::read_link(format!("/proc/self/fd/{fd}"))
            .is_ok_and(|path| path.ends_with("fd") || path.ends_with("fdinfo"))
}

/// Closes a descriptor of the program's, which may be none.
pub fn close(fd: RawFd) {
    // SAFETY: nothing of ours has a number that a program may have.
    unsafe { libc::close(fd) };
}

/// Descriptors below `lowest` that are to be closed when a program becomes another one (FD_CLOEXEC).
pub fn close_on_exec(lowest: RawFd) -> io::Result<()> {
    let mut to_close = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        let fd = entry?.file_name().to_str().and_then(|name| name.parse().ok());
        to_close.extend(fd.filter(|&fd: &RawFd| fd < lowest));
    }
    for fd in to_close {
        // SAFETY: plain numbers; the directory's own descriptor is closed already.
        let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
        if flags > 0 && flags & libc::FD_CLOEXEC != 0 {
            close(fd);
        }
    }
    Ok(())
}
