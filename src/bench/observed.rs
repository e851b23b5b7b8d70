//! What a program saw of the host, as the probe `guest-kernels/linux/probe.rs` reports it.
//!
//! Data alone: [`isolation`](super::isolation) starts the probe, the report makes a table of it.

use super::subject::Missing;
use serde::{Deserialize, Serialize};

/// One subject, observed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    /// The subject's name.
    pub name: String,
    /// What its program sees.
    pub view: View,
}

/// What was found out about a subject.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum View {
    /// The program's findings.
    Seen(Seen),
    /// The same of a program without a kernel of its own: the process that runs it passes on to the host's kernel what it
    /// lets through. What is said of privileges and of a filter is true of that process.
    Served(Seen),
    /// It is a machine without an operating system: nothing of the host is to be seen from it. What is given is what its
    /// monitor may do, the process that handles its exits; `None` if that is this process.
    Machine(Option<Box<Seen>>),
    /// The subject is not there.
    Missing(Missing),
    /// It is there, and the probe failed.
    Failed(String),
}

/// The findings of a probe.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// The release of the kernel.
    pub release: String,
    /// Its own process number.
    pub pid: Option<u64>,
    /// How many processes it sees; `None` without a /proc.
    pub processes: Option<u64>,
    /// Its namespaces, as links in /proc/self/ns.
    pub namespaces: Vec<(String, String)>,
    /// Its cgroup, a line for each tree.
    pub cgroup: Vec<String>,
    /// The lines of its user map.
    pub uid_map: Vec<String>,
    /// Its effective capabilities, a bit each; like the next three, `None` if it was not told.
    pub effective: Option<u64>,
    /// Those that it could gain by exec, unless `no_new_privileges`.
    pub bounding: Option<u64>,
    /// Whether exec cannot give it more privileges (PR_SET_NO_NEW_PRIVS).
    pub no_new_privileges: Option<bool>,
    /// Whether a seccomp filter checks its system calls.
    pub filtered: Option<bool>,
    /// Names of network interfaces.
    pub interfaces: Vec<String>,
    /// Entries of the root directory.
    pub files: Option<u64>,
    /// Entries of /dev; `None` without one.
    pub devices: Option<u64>,
    /// Of the system calls, how many answered and how many were not permitted; `None` if they were not tried.
    pub calls: Option<(u64, u64)>,
}

impl Seen {
    /// Reads what the probe printed.
    pub fn parse(text: &str) -> Seen {
        let mut seen = Seen::default();
        for line in text.lines() {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            let number = || rest.split(' ').next().and_then(|number| number.parse::<u64>().ok());
            match word {
                "release" => seen.release = rest.into(),
                "pid" => seen.pid = number(),
                "processes" => seen.processes = number(),
                "files" => seen.files = number(),
                "devices" => seen.devices = number(),
                "cgroup" => seen.cgroup.push(rest.into()),
                "uid_map" => seen.uid_map.push(rest.into()),
                "namespace" => seen.namespaces.extend(pair(rest)),
                "status" => seen.status(rest),
                // The first two lines are headings, with bars between them.
                "interface" if !rest.contains('|') => {
                    seen.interfaces.extend(rest.split_once(':').map(|(name, _)| name.into()));
                }
                "calls" => {
                    seen.calls = pair(rest).and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)))
                }
                _ => {}
            }
        }
        seen
    }

    /// A line of /proc/self/status.
    pub(super) fn status(&mut self, line: &str) {
        let Some((key, value)) = line.split_once(' ') else { return };
        let set = || u64::from_str_radix(value, 16).ok();
        match key {
            "CapEff:" => self.effective = set(),
            "CapBnd:" => self.bounding = set(),
            "NoNewPrivs:" => self.no_new_privileges = Some(value != "0"),
            "Seccomp:" => self.filtered = Some(value != "0"),
            _ => {}
        }
    }

    /// How many system calls its kernel has, if that can be told: where there is certainly no filter, one that is not permitted was still
    /// answered by the kernel, and counts.
    pub fn calls_of_kernel(&self) -> Option<u64> {
        self.calls.filter(|_| self.filtered == Some(false)).map(|(answered, refused)| answered + refused)
    }

    /// The names of the namespaces that are not those of `host`.
    pub fn own_namespaces(&self, host: &Seen) -> Vec<&str> {
        let is_own = |pair: &&(String, String)| !host.namespaces.contains(pair);
        self.namespaces.iter().filter(is_own).map(|(name, _)| name.as_str()).collect()
    }
}

fn pair(text: &str) -> Option<(String, String)> {
    text.split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "release 6.1.0-9-amd64\nhost matchstick\npid 1\n\
        namespace mnt mnt:[402]\nnamespace user user:[7]\nfiles 2 payload proc\nprocesses 3 1 2 3\n\
        cgroup 0::/\nuid_map 0 1000 1\nstatus CapEff: 0000000000000003\nstatus CapBnd: 00000000000000ff\n\
        status NoNewPrivs: 1\nstatus Seccomp: 2\ninterface Inter-| Receive | Transmit\n\
        interface face |bytes packets\ninterface lo: 0 0\ncalls 300 57\n";

    #[test]
    fn what_the_probe_prints_is_read() {
        let seen = Seen::parse(PRINTED);
        assert_eq!((&*seen.release, seen.pid, seen.processes), ("6.1.0-9-amd64", Some(1), Some(3)));
        assert_eq!((seen.effective, seen.bounding, seen.filtered), (Some(3), Some(255), Some(true)));
        assert_eq!(seen.no_new_privileges, Some(true));
        assert_eq!(Seen::parse("status NoNewPrivs: 0\n").no_new_privileges, Some(false));
        assert_eq!((&*seen.cgroup, &*seen.uid_map), (&["0::/".into()][..], &["0 1000 1".into()][..]));
        assert_eq!((&*seen.interfaces, seen.files, seen.devices), (&["lo".into()][..], Some(2), None));
        assert_eq!(seen.calls, Some((300, 57)));
        let host = Seen { namespaces: vec![("user".into(), "user:[7]".into())], ..Seen::default() };
        assert_eq!(seen.own_namespaces(&host), ["mnt"]);
        assert_eq!(Seen::parse(""), Seen::default());
        assert_eq!(Seen::parse("calls\nstatus\npid x\nnamespace\n\n"), Seen::default());
    }
}
