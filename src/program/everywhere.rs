//! What a program finds whatever its root is: procfs, the devices that every program has, and files that it is shown.
//!
//! A path is looked at by its text alone, and nothing is opened here. Source: path_resolution(7).

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// The path on the host of what a program finds there whatever its root is: procfs, the devices that every program has,
/// and `seen`. `None` for all that is below the root.
pub fn of_host(path: &[u8], seen: &[PathBuf]) -> Option<Vec<u8>> {
    let mut plain = Vec::new();
    for name in path.split(|&byte| byte == b'/').filter(|name| !matches!(*name, b"" | b".")) {
        // Where this leads depends on links.
        if name == b".." {
            return None;
        }
        plain.push(b'/');
        plain.extend_from_slice(name);
    }
    let is_below =
        |directory: &[u8]| plain.strip_prefix(directory).is_some_and(|rest| matches!(rest, [] | [b'/', ..]));
    let is_device = || {
        plain.strip_prefix(b"/dev/").is_some_and(|name| {
            matches!(name, b"null" | b"zero" | b"full" | b"random" | b"urandom" | b"tty" | b"ptmx")
        })
    };
    let is_seen = || seen.iter().any(|seen| seen.as_os_str().as_bytes() == plain);
    let is_it = is_below(b"/proc") || is_below(b"/dev/pts") || is_device() || is_seen();
    // What has to be a directory still has to be one.
    if is_it && path.ends_with(b"/") {
        plain.push(b'/');
    }
    is_it.then_some(plain)
}
