//! What a program may see of procfs: the system, and what is harmless of itself. Of the rest it is told that it is not there.
//!
//! By names only; which file a path leads to is found in [`files`](super::files). Source: proc(5).

use std::os::fd::RawFd;
use std::path::Path;

/// A path that means the process that looks at it.
#[derive(Debug, PartialEq, Eq)]
pub enum Own {
    /// /proc/self/exe
    Program,
    /// /proc/self/fd/N, /dev/fd/N, /dev/stdin and so on
    Descriptor(RawFd),
    /// /proc/self/cwd
    WorkingDirectory,
    /// /proc/self/root
    Root,
    /// /proc/self/maps
    Maps,
    /// /proc/self/cmdline
    Arguments,
}

/// What a path says about the process `process` itself, if it does.
pub fn own(path: &[u8], process: u32) -> Option<Own> {
    let path = std::str::from_utf8(path).ok()?;
    if let Some(name) = path.strip_prefix("/dev/") {
        return match name {
            "stdin" => Some(Own::Descriptor(0)),
            "stdout" => Some(Own::Descriptor(1)),
            "stderr" => Some(Own::Descriptor(2)),
            _ => name.strip_prefix("fd/")?.parse().ok().map(Own::Descriptor),
        };
    }
    let (whose, name) = path.strip_prefix("/proc/")?.split_once('/')?;
    if whose != "self" && whose != "thread-self" && whose.parse() != Ok(process) {
        return None;
    }
    match name {
        "exe" => Some(Own::Program),
        "cwd" => Some(Own::WorkingDirectory),
        "root" => Some(Own::Root),
        "maps" => Some(Own::Maps),
        "cmdline" => Some(Own::Arguments),
        _ => name.strip_prefix("fd/")?.parse().ok().map(Own::Descriptor),
    }
}

/// Whether a file of procfs, by its path on the host, tells nothing of our memory, and of other processes nothing, or only
/// what ps(1) shows.
pub fn is_harmless(path: &Path, process: u32, others: bool) -> bool {
    const SYSTEM: [&str; 22] = [
        "self",
        "thread-self",
        "cpuinfo",
        "meminfo",
        "stat",
        "uptime",
        "loadavg",
        "version",
        "filesystems",
        "cmdline",
        "devices",
        "mounts",
        "vmstat",
        "diskstats",
        "partitions",
        "swaps",
        "interrupts",
        "softirqs",
        "cgroups",
        "buddyinfo",
        "misc",
        "sys",
    ];
    const OWN: [&str; 22] = [
        "status",
        "stat",
        "statm",
        "limits",
        "cgroup",
        "mountinfo",
        "mounts",
        "comm",
        "io",
        "loginuid",
        "oom_score",
        "oom_score_adj",
        "oom_adj",
        "sched",
        "schedstat",
        "uid_map",
        "gid_map",
        "setgroups",
        "cpuset",
        "sessionid",
        "fdinfo",
        "timerslack_ns",
    ];
    let mut names = path.iter().skip(2).map(|name| name.to_str().unwrap_or(""));
    match names.next() {
        None => true,
        Some(name) if name.bytes().all(|byte| byte.is_ascii_digit()) => {
            let is_own = name.parse() == Ok(process);
            if !is_own && !others {
                return false;
            }
            let mut rest: Vec<&str> = names.collect();
            if rest.first() == Some(&"task") {
                rest.drain(..rest.len().min(2));
            }
            // Links into it are only ever found as links: nothing follows them.
            match rest[..] {
                [] => true,
                ["exe" | "cwd" | "root"] | ["fd"] | ["fd", _] => is_own,
                ["cmdline"] => !is_own,
                [name, ..] => OWN.contains(&name),
            }
        }
        Some(name) => SYSTEM.contains(&name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_mean_oneself_are_known_by_their_names() {
        assert_eq!(own(b"/proc/self/exe", 7), Some(Own::Program));
        assert_eq!(own(b"/proc/7/exe", 7), Some(Own::Program));
        assert_eq!(own(b"/proc/8/exe", 7), None);
        assert_eq!(
            (own(b"/dev/fd/63", 7), own(b"/dev/stdout", 7)),
            (Some(Own::Descriptor(63)), Some(Own::Descriptor(1)))
        );
        assert_eq!(own(b"/proc/thread-self/fd/0", 7), Some(Own::Descriptor(0)));
        assert_eq!((own(b"/proc/self/mem", 7), own(b"/etc/passwd", 7)), (None, None));
    }

    #[test]
    fn of_procfs_a_program_sees_the_system_and_what_is_harmless_of_itself() {
        let is_harmless = |path: &str| is_harmless(Path::new(path), 7, false);
        for path in [
            "/proc",
            "/proc/cpuinfo",
            "/proc/sys/kernel/osrelease",
            "/proc/7/status",
            "/proc/7/task/9/comm",
            "/proc/7/fd",
            "/proc/7/fd/3",
            "/proc/7",
            "/proc/7/task",
            "/proc/self",
            "/proc/7/exe",
            "/proc/7/cwd",
        ] {
            assert!(is_harmless(path), "{path}");
        }
        for path in [
            "/proc/7/mem",
            "/proc/7/task/7/mem",
            "/proc/7/map_files/1-2",
            "/proc/8/status",
            "/proc/8/exe",
            "/proc/7/fdx/3",
            "/proc/7/fd/3/x",
            "/proc/1/root",
            "/proc/kcore",
            "/proc/7/environ",
            "/proc/kmsg",
            "/proc/sysrq-trigger",
            "/proc/7/pagemap",
            "/proc/7/maps",
        ] {
            assert!(!is_harmless(path), "{path}");
        }
    }
}
