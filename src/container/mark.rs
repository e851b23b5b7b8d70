//! The mark in the names of what this process makes outside itself: control groups, directories, containers.
//!
//! Whoever is killed cannot remove them. The mark says which process made a thing, so that a later one can prove that
//! its maker is dead, and remove it. A process number alone proves nothing: it is used again, and means another process
//! in another pid namespace. So the mark has all three: the namespace, the number in it, and when the process began.
//!
//! ```text
//!   matchstick-effffffc-1a2b-3c4d5e-0
//!              │        │    │      └ counted by the maker
//!              │        │    └ field 22 of /proc/PID/stat: the start, in clock ticks since boot
//!              │        └ the process number
//!              └ the pid namespace, by its inode
//! ```
//!
//! All three are hexadecimal. Sources: proc_pid_stat(5), namespaces(7), kill(2).

use crate::sys;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;

/// The beginning of every marked name.
const PREFIX: &str = "matchstick";
/// The inode of the kernel's first time namespace (PROC_TIME_INIT_INO). In another one, starts are counted otherwise.
const FIRST_TIME_NAMESPACE: u64 = 0xefff_fffa;

/// A process, for all time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Maker {
    namespace: u64,
    pid: i32,
    start: u64,
}

impl Maker {
    /// This process; `None` without a /proc that shows it.
    fn own() -> Option<Maker> {
        let pid = std::process::id() as i32;
        // A /proc of another pid namespace has other numbers.
        if fs::read_link("/proc/self").ok()?.to_str()?.parse() != Ok(pid) {
            return None;
        }
        let inode = |name: &str| Some(fs::metadata(format!("/proc/self/ns/{name}")).ok()?.ino());
        if inode("time").is_some_and(|time| time != FIRST_TIME_NAMESPACE) {
            return None;
        }
        Some(Maker { namespace: inode("pid")?, pid, start: start_of(pid)? })
    }

    fn mark(self) -> String {
        format!("{PREFIX}-{:x}-{:x}-{:x}-", self.namespace, self.pid, self.start)
    }

    /// The maker of what has that name.
    fn of(name: &str) -> Option<Maker> {
        let mut parts = name.strip_prefix(PREFIX)?.strip_prefix('-')?.splitn(4, '-');
        let mut number = || u64::from_str_radix(parts.next()?, 16).ok();
        let maker = Maker { namespace: number()?, pid: number()?.try_into().ok()?, start: number()? };
        parts.next().filter(|_| maker.pid > 0).map(|_| maker)
    }

    /// Whether it is certain that it has ended. What cannot be known is no proof.
    fn is_dead(self, own: Maker) -> bool {
        let other_now = || start_of(self.pid).is_some_and(|start| start != self.start);
        self.namespace == own.namespace && (!sys::process_exists(self.pid) || other_now())
    }
}

/// When a process began, in clock ticks since boot.
fn start_of(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may hold anything, a parenthesis as well.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(22 - 3)?.parse().ok()
}

fn own_maker() -> Option<Maker> {
    static OWN: OnceLock<Option<Maker>> = OnceLock::new();
    *OWN.get_or_init(Maker::own)
}

/// How the names begin of what this process makes. Without a /proc, they are names whose maker nobody knows.
pub fn own() -> String {
    own_maker().map_or_else(|| format!("{PREFIX}--{:x}-", std::process::id()), Maker::mark)
}

/// Whether a process of ours made what has that name, and has ended since.
pub(crate) fn is_left_over(name: &str) -> bool {
    matches!((own_maker(), Maker::of(name)), (Some(own), Some(maker)) if maker.is_dead(own))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_names_its_maker_and_nothing_else_does() {
        let own = Maker::own().expect("a /proc");
        assert_eq!(Maker::of(&format!("{}runc-0", own.mark())), Some(own));
        for name in
            ["matchstick", "matchstick-1-0", "matchstick-1-2-3", "matchstick-1-0-3-0", "matchstick-x-1-1-0"]
        {
            assert_eq!(Maker::of(name), None, "{name}");
        }
        assert_eq!(Maker::of("other-1-2-3-0"), None);
    }

    #[test]
    fn only_who_is_certainly_dead_is_dead() {
        let own = Maker::own().expect("a /proc");
        assert!(!own.is_dead(own));
        // The same number, used again.
        assert!(Maker { start: own.start + 1, ..own }.is_dead(own));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id() as i32;
        child.wait().unwrap();
        assert!(Maker { pid, ..own }.is_dead(own));
        assert!(!Maker { pid, namespace: own.namespace + 1, ..own }.is_dead(own), "another namespace");
        assert!(!is_left_over(&own.mark()));
    }
}
