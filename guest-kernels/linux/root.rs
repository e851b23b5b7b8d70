//! What comes before the first program where there are devices of virtio: the kernel's modules are loaded, and a disk
//! becomes the root.
//!
//! Both are said by files beside the modules, made by src/linux/userland.rs: words with a zero byte at the end of each.

use crate::calls::{self, Errno, Line};
use crate::contents;
use core::ffi::CStr;

/// The paths of modules, in the order in which they are loaded.
const MODULES: &CStr = c"/.matchstick/modules";
/// What becomes the root, if anything: a device, the kind of its file system, `ro` or `rw`, or `over` for one that cannot be
/// written to, over which what is written lies in memory. Then the first program there and
/// its arguments. Where the device is no word, the root stays what it is.
const ROOT: &CStr = c"/.matchstick/root";

/// So long a disk may take to appear, in steps of a millisecond: it is there when its driver has been loaded, and its
/// partitions a moment later.
const PATIENCE: u32 = 5000;

/// Loads all modules. One that is there already is no fault.
pub fn load_modules() {
    const EEXIST: Errno = Errno(17);
    let Some(paths) = contents(MODULES) else { return };
    for path in words(paths) {
        match calls::load_module(path) {
            Ok(()) | Err(EEXIST) => {}
            Err(error) => complain("load", path, error),
        }
        calls::unlink(path);
    }
}

/// Goes on with the first program of the root that was asked for. Comes back if none was, or if that cannot be.
pub fn change(environment: *const *const u8) -> Option<u8> {
    let all = contents(ROOT)?;
    let mut rest = all;
    let mut next = || {
        let (word, behind) = rest.split_at(rest.iter().position(|byte| *byte == 0)? + 1);
        rest = behind;
        string(word)
    };
    let (device, kind, access) = (next()?, next()?, next()?);
    if !device.is_empty() {
        if let Err(error) = become_root(device, kind, access) {
            complain("make the root of", device, error);
            return Some(126);
        }
    }
    let error = calls::execve(rest, environment);
    if let Some(program) = words(rest).next() {
        complain("run", program, error);
    }
    Some(if error == calls::ENOENT { 127 } else { 126 })
}

/// Mounts `device`, and makes it the root for this process and all to come.
fn become_root(device: &CStr, kind: &CStr, access: &CStr) -> Result<(), Errno> {
    const NEW: &CStr = c"new";
    // Names are short from here on.
    calls::change_directory(c"/.matchstick")?;
    calls::mkdir(NEW);
    let mut left = PATIENCE;
    while left > 0 && calls::open(device).map(calls::close).is_err() {
        calls::sleep_a_millisecond();
        left -= 1;
    }
    if access == c"over" {
        overlay(device, kind, NEW)?;
    } else {
        calls::mount_device(device, NEW, kind, access == c"ro")?;
    }
    for (from, to) in [
        (c"/dev", c"new/dev"),
        (c"/proc", c"new/proc"),
        (c"/sys", c"new/sys"),
    ] {
        // Where there is no such directory, the system does without it, or mounts its own.
        let _ = calls::move_mount(from, to);
    }
    // What was unpacked for this takes memory until it is removed; nobody sees it any more.
    calls::unlink(c"/init");
    calls::change_directory(NEW)?;
    calls::move_mount(c".", c"/")?;
    calls::change_root(c".")?;
    calls::change_directory(c"/")
}

/// Mounts `device` with a layer of memory above it at `new`: what is written goes there, and is gone with the machine.
/// Source: Linux, filesystems/overlayfs.rst.
fn overlay(device: &CStr, kind: &CStr, new: &CStr) -> Result<(), Errno> {
    const LOW: &CStr = c"low";
    const MEMORY: &CStr = c"memory";
    const UPPER: &CStr = c"memory/upper";
    const WORK: &CStr = c"memory/work";
    const LAYERS: &CStr = c"lowerdir=low,upperdir=memory/upper,workdir=memory/work";
    [LOW, MEMORY].into_iter().for_each(calls::mkdir);
    calls::mount_device(device, LOW, kind, true)?;
    calls::mount(c"tmpfs", MEMORY);
    [UPPER, WORK].into_iter().for_each(calls::mkdir);
    calls::mount_told(c"overlay", new, LAYERS)
}

fn words(bytes: &[u8]) -> impl Iterator<Item = &CStr> {
    bytes.split_inclusive(|byte| *byte == 0).filter_map(string)
}

/// A word with the zero byte at its end, if that is there. It has no other one.
fn string(word: &[u8]) -> Option<&CStr> {
    // SAFETY: whoever calls has cut it off behind the first zero byte; core would look for that once more.
    word.ends_with(&[0]).then(|| unsafe { CStr::from_bytes_with_nul_unchecked(word) })
}

fn complain(what: &str, name: &CStr, error: Errno) {
    Line::new().text("init: cannot ").text(what).text(" ").string(name.to_bytes()).text(": ").error(error).print();
}
