//! A directory that only this process and its children see, in memory, and that goes when the last of them does.
//!
//! It is a file system of its own (tmpfs), mounted in a mount namespace of this process. Whoever may not do that becomes
//! the root of a user namespace first, with the user and the group that it had, where the host lets it.
//!
//! Sources: mount_namespaces(7), user_namespaces(7), tmpfs(5), mount(2).

use super::super::check;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::null;

/// Puts an empty directory, of at most `size` bytes, in place of what is at `path`. To be called while this process has
/// one thread.
pub fn private_directory(path: &Path, size: Option<u64>) -> io::Result<()> {
    // SAFETY: plain numbers; no other thread shares what is left.
    let unshare = |what| check(unsafe { libc::unshare(what) });
    if unshare(libc::CLONE_NEWNS).is_err() {
        // SAFETY: they take nothing and cannot fail.
        let (user, group) = unsafe { (libc::geteuid(), libc::getegid()) };
        unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS)?;
        fs::write("/proc/self/setgroups", "deny")?;
        fs::write("/proc/self/uid_map", format!("{user} {user} 1"))?;
        fs::write("/proc/self/gid_map", format!("{group} {group} 1"))?;
    }
    let path = CString::new(path.as_os_str().as_bytes())?;
    let size = size.map_or(String::new(), |size| format!(",size={size}"));
    let options = CString::new(format!("mode=1777{size}"))?;
    let flags = libc::MS_NOSUID | libc::MS_NODEV;
    // SAFETY: strings that end in zero. What is mounted here stays in our namespace.
    unsafe {
        check(libc::mount(null(), c"/".as_ptr(), null(), libc::MS_REC | libc::MS_PRIVATE, null()))?;
        check(libc::mount(
            c"tmpfs".as_ptr(),
            path.as_ptr(),
            c"tmpfs".as_ptr(),
            flags,
            options.as_ptr().cast(),
        ))
    }
}
