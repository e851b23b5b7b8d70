//! The second wall around a program: what this process and its children may not do even if the table of system calls
//! had a hole. The kernel keeps it, by landlock(7).
//!
//! Files below the root may be read and run, those that the user has named may be changed, and the devices that every
//! program has may be written to. No TCP port may be bound or connected to, unless there is to be a network. No
//! process outside may be sent a signal or be reached by an abstract socket, and none may be traced.

use super::super::check;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// `struct landlock_ruleset_attr` of version 6.
#[repr(C)]
#[derive(Clone, Copy)]
struct Ruleset {
    files: u64,
    ports: u64,
    scopes: u64,
}

/// `struct landlock_path_beneath_attr`, which is packed.
#[repr(C, packed)]
struct Beneath {
    allowed: u64,
    directory: i32,
}

const EXECUTE: u64 = 1 << 0;
const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
const READ_DIR: u64 = 1 << 3;
const TRUNCATE: u64 = 1 << 14;
const IOCTL_DEV: u64 = 1 << 15;
/// What can be asked for of a file that is no directory.
const OF_FILES: u64 = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV;
const READ: u64 = EXECUTE | READ_FILE | READ_DIR;
/// TCP: bind and connect.
const PORTS: u64 = 0b11;
/// Abstract sockets and signals.
const SCOPES: u64 = 0b11;

/// The rights that each version of landlock knows of (landlock(7), "VERSIONS").
fn known(version: i64) -> Ruleset {
    let files = match version {
        ..=1 => 13,
        2 => 14,
        3 | 4 => 15,
        _ => 16,
    };
    Ruleset {
        files: (1 << files) - 1,
        ports: if version >= 4 { PORTS } else { 0 },
        scopes: if version >= 6 { SCOPES } else { 0 },
    }
}

/// Puts up the wall for this thread and what it starts, for good. Says whether it keeps signals in: before Linux 6.12 it
/// does not, and where Linux has no landlock there is no wall.
pub fn wall(root: &Path, writable: &[PathBuf], seen: &[PathBuf], network: bool) -> io::Result<bool> {
    const CREATE_RULESET_VERSION: u32 = 1;
    // SAFETY: asked for the version, it takes no attributes.
    let version = unsafe {
        let none = std::ptr::null::<Ruleset>();
        libc::syscall(libc::SYS_landlock_create_ruleset, none, 0, CREATE_RULESET_VERSION)
    };
    if version < 1 {
        return Ok(false);
    }
    let mut handled = known(version);
    if network {
        handled.ports = 0;
    }
    let size = match version {
        ..=3 => 8,
        4 | 5 => 16,
        _ => 24,
    };
    // SAFETY: the struct is only read, as far as `size` says.
    let fd = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, &handled, size, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call made this descriptor for us.
    let ruleset = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    let allow = |path: &Path, rights: u64| beneath(&ruleset, path, rights & handled.files);
    allow(root, READ)?;
    // What this process looks up about itself; a program finds procfs only below its root.
    allow(Path::new("/proc"), READ_FILE | READ_DIR)?;
    for path in writable {
        allow(path, u64::MAX)?;
    }
    for path in seen {
        let _ = allow(path, READ_FILE);
    }
    // Whatever the root is, devices are the host's; one that is not there is none that could be written to.
    const OF_DEVICES: u64 = EXECUTE | READ_FILE | WRITE_FILE | TRUNCATE | IOCTL_DEV;
    for device in ["/dev/null", "/dev/zero", "/dev/full", "/dev/tty", "/dev/ptmx"] {
        let _ = allow(Path::new(device), OF_DEVICES);
    }
    if root != Path::new("/") {
        for device in ["/dev/random", "/dev/urandom"] {
            let _ = allow(Path::new(device), READ_FILE);
        }
    }
    let _ = allow(Path::new("/dev/pts"), OF_DEVICES | READ_DIR);
    // SAFETY: plain numbers.
    unsafe {
        check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
        check(libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) as i32)?;
    }
    Ok(handled.scopes & SCOPES == SCOPES)
}

/// Allows `rights` for what is at `path`, and below it.
fn beneath(ruleset: &OwnedFd, path: &Path, rights: u64) -> io::Result<()> {
    const RULE_PATH_BENEATH: i32 = 1;
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: a string that ends in zero.
    let fd = unsafe { libc::open(path.as_ptr(), libc::O_PATH | libc::O_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call made this descriptor for us.
    let file = unsafe { OwnedFd::from_raw_fd(fd) };
    let add = |allowed| {
        let rule = Beneath { allowed, directory: file.as_raw_fd() };
        // SAFETY: the struct is only read, and both descriptors are open.
        check(unsafe {
            libc::syscall(libc::SYS_landlock_add_rule, ruleset.as_raw_fd(), RULE_PATH_BENEATH, &rule, 0)
        } as i32)
    };
    match add(rights) {
        // It is no directory, and has to be asked for less.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) && rights & !OF_FILES != 0 => {
            add(rights & OF_FILES)
        }
        added => added,
    }
}
