//! Calls with paths: the path is looked up once, to a handle, and the call is made on that.
//!
//! Sources: openat2(2), stat(2), unlink(2) and the manual pages of the others; proc_pid_fd(5), by which a handle is
//! opened, changed or linked.

use super::answer::{Answer, Trouble, descriptor, errno, host, value};
use super::kinds::Checked;
use crate::program::errno::Errno;
use crate::program::files::{CWD, EMPTY, Files, PATH_MAX, c_string};
use crate::program::process::lock;
use crate::program::procfs::{Own, own};
use crate::program::thread::Thread;
use crate::sys::program::{Argument, Handle};
use Argument::{Bytes, Text, Word};
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::IntoRawFd;

/// AT_FDCWD, as an argument.
const HERE: Argument<'static> = Word(CWD as u64);
/// Flags of open(2) that openat2(2) knows; open(2) ignores others.
const OPEN_FLAGS: i32 = libc::O_ACCMODE
    | libc::O_CREAT
    | libc::O_EXCL
    | libc::O_NOCTTY
    | libc::O_TRUNC
    | libc::O_APPEND
    | libc::O_NONBLOCK
    | libc::O_SYNC
    | libc::O_ASYNC
    | libc::O_DIRECT
    | libc::O_DIRECTORY
    | libc::O_NOFOLLOW
    | libc::O_NOATIME
    | libc::O_CLOEXEC
    | libc::O_PATH
    | libc::O_TMPFILE;

/// The directory and what follows it: calls that end in `at` have one more argument.
fn directory(call: &Checked<'_>, has_directory: bool) -> (i32, usize) {
    if has_directory { (call.int(0), 1) } else { (CWD, 0) }
}

/// `struct open_how`.
fn how(flags: i32, mode: u64, resolve: u64) -> [u8; 24] {
    let mut bytes = [0; 24];
    bytes[..8].copy_from_slice(&(flags as u64).to_le_bytes());
    bytes[8..16].copy_from_slice(&mode.to_le_bytes());
    bytes[16..].copy_from_slice(&resolve.to_le_bytes());
    bytes
}

pub(super) fn open(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    let (dir, flags, mode) = match call.number {
        libc::SYS_creat => (CWD, libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC, call.words[1]),
        libc::SYS_open => (CWD, call.int(1), call.words[2]),
        _ => (call.int(0), call.int(2), call.words[3]),
    };
    open_path(thread, dir, call.path(0), flags & OPEN_FLAGS, mode & 0o7777)
}

pub(super) fn openat2(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    let mut how = [0; 24];
    if call.words[3] != how.len() as u64 {
        return errno(libc::E2BIG);
    }
    thread.process.arena.read(call.words[2], &mut how)?;
    let word = |at: usize| u64::from_le_bytes(how[at..at + 8].try_into().expect("eight bytes"));
    let (flags, mode, resolve) = (word(0), word(8), word(16));
    // Ways to look up that others ask for are not served.
    if flags & !(OPEN_FLAGS as u64) != 0 || resolve != 0 {
        return errno(libc::EINVAL);
    }
    open_path(thread, call.int(0), call.path(0), flags as i32, mode & 0o7777)
}

fn open_path(thread: &mut Thread, dir: i32, path: &[u8], flags: i32, mode: u64) -> Answer {
    let files = &thread.process.files;
    let is_new = flags & (libc::O_CREAT | libc::O_EXCL) == libc::O_CREAT | libc::O_EXCL;
    if let Some(text) = own_file(thread, path).filter(|_| flags & libc::O_PATH == 0) {
        return open_text(thread, &text?, flags);
    }
    match files.find(dir, path, flags & libc::O_NOFOLLOW == 0 && !is_new) {
        Ok(_) if is_new => errno(libc::EEXIST),
        Ok(handle) => open_handle(files, &handle, flags, mode),
        Err(Errno(libc::ENOENT)) if flags & libc::O_CREAT != 0 => {
            if path.ends_with(b"/") {
                return errno(libc::EISDIR);
            }
            let (parent, name) = files.find_parent(dir, path)?;
            files.check_change(&parent)?;
            let how = how(flags | libc::O_NOFOLLOW, mode, libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS);
            let arguments = [Word(parent.number()), Text(&name), Bytes(&how), Word(how.len() as u64)];
            descriptor(host(libc::SYS_openat2, arguments), files.limit())
        }
        Err(errno) => Err(errno.into()),
    }
}

/// Opens what a handle stands for, as the program asked for it.
fn open_handle(files: &Files, handle: &Handle, flags: i32, mode: u64) -> Answer {
    let is_link = handle.kind()?.mode & libc::S_IFMT == libc::S_IFLNK;
    let is_temporary = flags & libc::O_TMPFILE == libc::O_TMPFILE;
    if is_link && flags & libc::O_PATH == 0 {
        return errno(libc::ELOOP);
    }
    if is_link {
        // Only a handle of it is asked for, and that is what there is.
        return descriptor(host(libc::SYS_dup, [Word(handle.number())]), files.limit());
    }
    match flags {
        _ if flags & libc::O_PATH != 0 => {}
        _ if is_temporary => files.check_change(handle)?,
        _ => files.check_open(handle, flags)?,
    }
    let flags = flags & !(libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW);
    let mode = if is_temporary { mode } else { 0 };
    let (link, how) = (c_string(&handle.link()), how(flags, mode, 0));
    let arguments = [HERE, Text(&link), Bytes(&how), Word(how.len() as u64)];
    descriptor(host(libc::SYS_openat2, arguments), files.limit())
}

/// What a file of procfs about the program itself says, where the host's would tell of us.
fn own_file(thread: &Thread, path: &[u8]) -> Option<Result<Vec<u8>, Errno>> {
    match own(path, std::process::id())? {
        Own::Maps => Some(Ok(lock(&thread.process.space).maps().into_bytes())),
        Own::Arguments => Some(Ok(thread.process.files.arguments())),
        _ => None,
    }
}

/// A file in memory with that text, to be read.
fn open_text(thread: &Thread, text: &[u8], flags: i32) -> Answer {
    if flags & libc::O_ACCMODE != libc::O_RDONLY {
        return errno(libc::EACCES);
    }
    let mut file = crate::sys::memory_file().map_err(Errno::from)?;
    file.write_all(text).and_then(|()| file.seek(SeekFrom::Start(0))).map_err(Errno::from)?;
    let fd = file.into_raw_fd();
    if flags & libc::O_CLOEXEC == 0 {
        let _ = host(libc::SYS_fcntl, [Word(fd as u64), Word(libc::F_SETFD as u64)]);
    }
    descriptor(value(fd as u64), thread.process.files.limit())
}

/// What a call on a path or on a descriptor (AT_EMPTY_PATH) is about.
fn subject(thread: &Thread, call: &Checked<'_>, dir: i32, follow: bool, flags: i32) -> Result<Handle, Errno> {
    let files = &thread.process.files;
    match call.path(0) {
        b"" if flags & libc::AT_EMPTY_PATH != 0 && dir == CWD => files.find(CWD, b".", true),
        b"" if flags & libc::AT_EMPTY_PATH != 0 => Ok(Handle::of(dir, files.lowest())?),
        path => files.find(dir, path, follow),
    }
}

pub(super) fn stat(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    let (dir, at) = directory(call, call.number == libc::SYS_newfstatat);
    let flags = if at == 1 { call.int(3) } else { 0 };
    let follow = call.number != libc::SYS_lstat && flags & libc::AT_SYMLINK_NOFOLLOW == 0;
    // Most often of an open file, which needs no handle.
    if call.path(0).is_empty() && flags & libc::AT_EMPTY_PATH != 0 && dir != CWD {
        return host(libc::SYS_fstat, [Word(dir as u64), call.memory(at + 1)]);
    }
    let handle = subject(thread, call, dir, follow, flags)?;
    host(libc::SYS_fstat, [Word(handle.number()), call.memory(at + 1)])
}

pub(super) fn statx(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    let flags = call.int(2);
    let follow = flags & libc::AT_SYMLINK_NOFOLLOW == 0;
    let known = libc::AT_STATX_SYNC_TYPE | libc::AT_NO_AUTOMOUNT;
    let handle = subject(thread, call, call.int(0), follow, flags)?;
    let flags = Word((flags & known | libc::AT_EMPTY_PATH) as u64);
    host(libc::SYS_statx, [Word(handle.number()), Text(EMPTY), flags, Word(call.words[3]), call.memory(4)])
}

pub(super) fn access(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    let (dir, at) = directory(call, call.number != libc::SYS_access);
    let flags = if call.number == libc::SYS_faccessat2 { call.int(3) } else { 0 };
    let follow = flags & libc::AT_SYMLINK_NOFOLLOW == 0;
    let handle = subject(thread, call, dir, follow, flags)?;
    if call.words[at + 1] & libc::W_OK as u64 != 0 {
        thread.process.files.check_open(&handle, libc::O_WRONLY)?;
    }
    let flags = Word((flags & libc::AT_EACCESS | libc::AT_EMPTY_PATH) as u64);
    host(libc::SYS_faccessat2, [Word(handle.number()), Text(EMPTY), Word(call.words[at + 1]), flags])
}

pub(super) fn readlink(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    let (dir, at) = directory(call, call.number == libc::SYS_readlinkat);
    let size = call.words[at + 2];
    if size as i32 <= 0 {
        return errno(libc::EINVAL);
    }
    if let Some(target) = thread.process.files.own_link(call.path(0))? {
        let len = target.len().min(size as usize);
        thread.process.arena.write(call.words[at + 1], &target[..len])?;
        return value(len as u64);
    }
    let handle = subject(thread, call, dir, false, if at == 1 { libc::AT_EMPTY_PATH } else { 0 })?;
    let read =
        host(libc::SYS_readlinkat, [Word(handle.number()), Text(EMPTY), call.memory(at + 1), Word(size)]);
    match read {
        // What Linux says of an empty path. The program gave one that is not, to a file that is no link.
        Err(Trouble::Errno(Errno(libc::ENOENT))) if !call.path(0).is_empty() => errno(libc::EINVAL),
        read => read,
    }
}

pub(super) fn statfs(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    let handle = thread.process.files.find(CWD, call.path(0), true)?;
    host(libc::SYS_fstatfs, [Word(handle.number()), call.memory(1)])
}

pub(super) fn getcwd(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    let mut path = thread.process.files.working_directory()?;
    path.push(0);
    if path.len() as u64 > call.words[1] {
        return errno(libc::ERANGE);
    }
    thread.process.arena.write(call.words[0], &path)?;
    value(path.len() as u64)
}

pub(super) fn chdir(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    let handle = thread.process.files.find(CWD, call.path(0), true)?;
    host(libc::SYS_fchdir, [Word(handle.number())])
}

/// mkdir(2) and mknod(2), of which only what is no device.
pub(super) fn make(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    let has_directory = matches!(call.number, libc::SYS_mkdirat | libc::SYS_mknodat);
    let (dir, at) = directory(call, has_directory);
    let files = &thread.process.files;
    let mode = Word(call.words[at + 1]);
    let is_directory = matches!(call.number, libc::SYS_mkdir | libc::SYS_mkdirat);
    let kind = call.words[at + 1] as u32 & libc::S_IFMT;
    if !is_directory && !matches!(kind, 0 | libc::S_IFREG | libc::S_IFIFO | libc::S_IFSOCK) {
        return errno(libc::EPERM);
    }
    if files.find(dir, call.path(0), false).is_ok() {
        return errno(libc::EEXIST);
    }
    let (parent, name) = files.find_parent(dir, call.path(0))?;
    files.check_change(&parent)?;
    let (number, parent) =
        (if is_directory { libc::SYS_mkdirat } else { libc::SYS_mknodat }, Word(parent.number()));
    host(number, [parent, Text(&name), mode, Word(0)])
}

pub(super) fn remove(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    let (dir, at) = directory(call, call.number == libc::SYS_unlinkat);
    let flags = match call.number {
        libc::SYS_rmdir => libc::AT_REMOVEDIR as u64,
        libc::SYS_unlink => 0,
        _ => call.words[at + 1],
    };
    let (parent, name) = parent_to_change(&thread.process.files, dir, call.path(0))?;
    host(libc::SYS_unlinkat, [Word(parent.number()), Text(&name), Word(flags)])
}

/// The directory of an existing name that is to be changed.
fn parent_to_change(files: &Files, dir: i32, path: &[u8]) -> Result<(Handle, std::ffi::CString), Errno> {
    let (parent, name) = files.find_parent(dir, path)?;
    // What is not there is said to be so, even where nothing may be changed.
    files.find(dir, path, false)?;
    files.check_change(&parent)?;
    Ok((parent, name))
}

/// rename(2) and link(2).
pub(super) fn two_names(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    let has_directories = matches!(call.number, libc::SYS_renameat | libc::SYS_renameat2 | libc::SYS_linkat);
    let (from, to) = if has_directories { (call.int(0), call.int(2)) } else { (CWD, CWD) };
    let flags = match call.number {
        libc::SYS_renameat2 | libc::SYS_linkat => call.int(4),
        _ => 0,
    };
    let files = &thread.process.files;
    let (parent, name) = files.find_parent(to, call.path(1))?;
    files.check_change(&parent)?;
    let target = [Word(parent.number()), Text(&name)];
    if matches!(call.number, libc::SYS_link | libc::SYS_linkat) {
        // A file that is open, or a name. A link to what may not be changed would not make it so, but a name that
        // somebody changes later would.
        let follow = flags & libc::AT_SYMLINK_FOLLOW != 0;
        let source = subject(thread, call, from, follow, flags)?;
        if source.path()?.exists() {
            files.check_change(&source)?;
        }
        let link = c_string(&source.link());
        let follow = Word(libc::AT_SYMLINK_FOLLOW as u64);
        return host(libc::SYS_linkat, [HERE, Text(&link), target[0], target[1], follow]);
    }
    let (old_parent, old_name) = parent_to_change(files, from, call.path(0))?;
    host(
        libc::SYS_renameat2,
        [Word(old_parent.number()), Text(&old_name), target[0], target[1], Word(flags as u64)],
    )
}

pub(super) fn symlink(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    let dir = if call.number == libc::SYS_symlinkat { call.int(1) } else { CWD };
    let files = &thread.process.files;
    if files.find(dir, call.path(1), false).is_ok() {
        return errno(libc::EEXIST);
    }
    let (parent, name) = files.find_parent(dir, call.path(1))?;
    files.check_change(&parent)?;
    let target = std::ffi::CString::new(call.path(0)).map_err(|_| Errno(libc::ENOENT))?;
    host(libc::SYS_symlinkat, [Text(&target), Word(parent.number()), Text(&name)])
}

/// Changes of what a path leads to: its permissions, its owner, its length.
pub(super) fn change(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    let has_directory = matches!(call.number, libc::SYS_fchmodat | libc::SYS_fchownat);
    let (dir, at) = directory(call, has_directory);
    let flags = if call.number == libc::SYS_fchownat { call.int(4) } else { 0 };
    let follow = call.number != libc::SYS_lchown && flags & libc::AT_SYMLINK_NOFOLLOW == 0;
    let handle = subject(thread, call, dir, follow, flags)?;
    thread.process.files.check_change(&handle)?;
    let link = c_string(&handle.link());
    match call.number {
        libc::SYS_chmod | libc::SYS_fchmodat => {
            host(libc::SYS_fchmodat, [HERE, Text(&link), Word(call.words[at + 1])])
        }
        libc::SYS_truncate => host(libc::SYS_truncate, [Text(&link), Word(call.words[1])]),
        _ => {
            let (user, group) = (Word(call.words[at + 1]), Word(call.words[at + 2]));
            let empty = Word(libc::AT_EMPTY_PATH as u64);
            host(libc::SYS_fchownat, [Word(handle.number()), Text(EMPTY), user, group, empty])
        }
    }
}

/// fchmod(2) and fchown(2): also a file that is open for reading only can be changed so.
pub(super) fn change_descriptor(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    let files = &thread.process.files;
    let handle = Handle::of(call.int(0), files.lowest()).map_err(|_| Errno(libc::EBADF))?;
    // What has no name any more, or never had one, is the program's own.
    if handle.path()?.exists() {
        files.check_change(&handle)?;
    }
    host(call.number, [0, 1, 2].map(|at| Word(call.words[at])))
}

pub(super) fn set_times(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    let files = &thread.process.files;
    let (dir, flags) = (call.int(0), call.int(3));
    // Without a path it is about the descriptor (futimens).
    let handle = match call.words[1] {
        0 => Handle::of(dir, files.lowest()).map_err(|_| Errno(libc::EBADF))?,
        at => {
            let path = thread.process.arena.read_string(at, PATH_MAX)?;
            let path = path.ok_or(Errno(libc::ENAMETOOLONG))?;
            files.find(dir, &path, flags & libc::AT_SYMLINK_NOFOLLOW == 0)?
        }
    };
    files.check_change(&handle)?;
    let link = c_string(&handle.link());
    host(libc::SYS_utimensat, [HERE, Text(&link), call.memory(2), Word(0)])
}

/// utime(2) and utimes(2): times of whole seconds, or of microseconds.
pub(super) fn set_times_by_name(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    let files = &thread.process.files;
    let mut times = [0_u64; 4];
    if call.words[1] != 0 {
        let word = |at: usize| thread.process.arena.read_u64(call.words[1] + at as u64 * 8);
        times = match call.number {
            libc::SYS_utime => [word(0)?, 0, word(1)?, 0],
            _ => [word(0)?, word(1)?, word(2)?, word(3)?],
        };
        if times[1].max(times[3]) >= 1_000_000 {
            return errno(libc::EINVAL);
        }
        (times[1], times[3]) = (times[1] * 1000, times[3] * 1000);
    }
    let handle = files.find(CWD, call.path(0), true)?;
    files.check_change(&handle)?;
    let (link, bytes) = (c_string(&handle.link()), times.map(u64::to_ne_bytes));
    let times = if call.words[1] == 0 { Word(0) } else { Bytes(bytes.as_flattened()) };
    host(libc::SYS_utimensat, [HERE, Text(&link), times, Word(0)])
}

pub(super) fn watch(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    let follow = call.int(2) & libc::IN_DONT_FOLLOW as i32 == 0;
    let handle = thread.process.files.find(CWD, call.path(0), follow)?;
    let link = c_string(&handle.link());
    let mask = call.words[2] & !u64::from(libc::IN_DONT_FOLLOW);
    host(libc::SYS_inotify_add_watch, [Word(call.words[0]), Text(&link), Word(mask)])
}
