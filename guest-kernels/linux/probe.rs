//! probe: what a program sees of the system it runs on
//!
//! It prints one finding a line, a word and then the rest, and judges none of them: what is the host's and what is
//! not, only somebody outside can tell. Most of it comes from /proc, where there is one.
//!
//! As process 1, and as `probe calls`, it also tries every system call of the kernel, each in a process of its own, and
//! counts those that answer. All arguments are -1, which is no good pointer, file or process anywhere, so that nothing
//! comes of it. Still, what has no arguments does what it does: so it is not done where there are no namespaces around
//! it, unless somebody says with `calls` that there is another wall.
#![no_std]
#![no_main]

#[allow(dead_code)]
mod calls;
#[path = "../mem.rs"]
mod mem;

use calls::{Errno, Line};
use core::ffi::CStr;

#[unsafe(no_mangle)]
extern "C" fn main(stack: *const usize) -> ! {
    // SAFETY: this is how the kernel lays out the stack of a new program: argc, argv.
    let is_told_to = unsafe { *stack } > 1;
    let names = calls::uname();
    Line::new().text("release ").string(&names.release).print();
    Line::new().text("host ").string(&names.node).print();
    Line::new().text("pid ").number(calls::getpid() as u64, 1).print();
    for (name, path) in NAMESPACES {
        let mut target = [0; 64];
        if let Ok(len) = calls::readlink(path, &mut target) {
            Line::new().text("namespace ").text(name).text(" ").bytes(&target[..len]).print();
        }
    }
    files("files", c"/", |_| true);
    files("devices", c"/dev", |_| true);
    files("processes", c"/proc", |name| name.iter().all(u8::is_ascii_digit));
    lines("cgroup", c"/proc/self/cgroup", b"");
    lines("uid_map", c"/proc/self/uid_map", b"");
    for key in [&b"CapEff:"[..], b"CapBnd:", b"NoNewPrivs:", b"Seccomp:"] {
        lines("status", c"/proc/self/status", key);
    }
    lines("interface", c"/proc/net/dev", b"");
    if is_told_to || calls::getpid() == 1 {
        try_all();
    }
    leave(0)
}

const NAMESPACES: [(&str, &CStr); 7] = [
    ("mnt", c"/proc/self/ns/mnt"),
    ("pid", c"/proc/self/ns/pid"),
    ("net", c"/proc/self/ns/net"),
    ("ipc", c"/proc/self/ns/ipc"),
    ("uts", c"/proc/self/ns/uts"),
    ("user", c"/proc/self/ns/user"),
    ("cgroup", c"/proc/self/ns/cgroup"),
];

/// As many bytes of names are shown: a few dozen.
const NAMES_MAX: usize = 400;

/// How many entries a directory has for which `counts` is true, and the names of the first ones.
fn files(word: &str, path: &CStr, counts: fn(&[u8]) -> bool) {
    let Ok(directory) = calls::open(path) else { return };
    let mut names = Line::new();
    let mut count = 0;
    let mut bytes = [0; 4096];
    while let Ok(len @ 1..) = calls::entries(directory, &mut bytes) {
        let mut rest = &bytes[..len];
        // struct linux_dirent64: at 16 its own length, at 19 the name (getdents64(2)).
        while let [_, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, low, high, _, name @ ..] = rest {
            let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
            if name != b"." && name != b".." && counts(name) {
                count += 1;
                if names.so_far().len() < NAMES_MAX {
                    names.text(" ").bytes(name);
                }
            }
            rest = rest.get(usize::from(*low) + 256 * usize::from(*high)..).unwrap_or_default();
        }
    }
    Line::new().text(word).text(" ").number(count, 1).bytes(names.so_far()).print();
}

/// The lines of a file that begin with `key`, with single spaces.
fn lines(word: &str, path: &CStr, key: &[u8]) {
    let Ok(file) = calls::open(path) else { return };
    let mut bytes = [0; 4096];
    let len = calls::read(file, &mut bytes).unwrap_or(0);
    for line in bytes[..len].split(|byte| *byte == b'\n') {
        if line.is_empty() || !line.starts_with(key) {
            continue;
        }
        let mut shown = Line::new();
        shown.text(word);
        for part in line.split(|byte| *byte == b' ' || *byte == b'\t').filter(|part| !part.is_empty()) {
            shown.text(" ").bytes(part);
        }
        shown.print();
    }
}

/// More than Linux has; from 512 on are those of another ABI.
const CALLS: usize = 512;
/// Not tried: vfork(2), whose child would run in this program's memory, and sync(2), which has no arguments and may
/// keep the host's disks busy for minutes.
const UNTRIED: [usize; 2] = [58, 162];

/// Tries every system call, and says how many of how many numbers answered.
fn try_all() {
    let (mut reached, mut refused) = (0, 0);
    for number in (0..CALLS).filter(|number| !UNTRIED.contains(number)) {
        match answer(number) {
            Answer::Reached => reached += 1,
            Answer::Refused => refused += 1,
            Answer::Absent => {}
        }
    }
    Line::new().text("calls ").number(reached, 1).text(" ").number(refused, 1).print();
}

/// What became of a system call.
#[derive(Clone, Copy)]
enum Answer {
    /// The kernel did it, or said what was wrong with it.
    Reached = 0,
    /// Not permitted: by a filter, or by the kernel itself for want of a capability.
    Refused = 1,
    /// There is none of this number.
    Absent = 2,
}

/// The status with which a child tells it; any other end is that of a call that was reached.
const STATUS: u8 = 100;

fn answer(number: usize) -> Answer {
    const SIGSYS: i32 = 31;
    let child = match calls::fork() {
        Ok(0) => {
            // No terminal to hang up, and not for ever.
            let _ = calls::setsid();
            calls::set_timer(20_000);
            calls::exit(STATUS + attempt(number) as u8)
        }
        Ok(child) => child,
        Err(_) => return Answer::Refused,
    };
    loop {
        match calls::wait() {
            Ok((ended, status)) if ended == child => {
                return match status {
                    status if status & 0x7f == SIGSYS => Answer::Refused,
                    status if status == i32::from(STATUS + Answer::Refused as u8) << 8 => Answer::Refused,
                    status if status == i32::from(STATUS + Answer::Absent as u8) << 8 => Answer::Absent,
                    _ => Answer::Reached,
                };
            }
            Ok(_) => {}
            Err(_) => return Answer::Refused,
        }
    }
}

fn attempt(number: usize) -> Answer {
    // Some say "no such call" to an operation that they do not know; of those, zero is a known one.
    for argument in [usize::MAX, 0] {
        match calls::any(number, argument) {
            Err(calls::ENOSYS) => {}
            Err(calls::EPERM) => return Answer::Refused,
            Ok(_) | Err(Errno(_)) => return Answer::Reached,
        }
    }
    Answer::Absent
}

fn leave(status: u8) -> ! {
    calls::exit(status)
}
