//! A cgroup for a container, where we may make one.
//!
//! Hosts have one of three layouts (cgroups(7)): version 2 alone; version 1, a tree for each controller; or hybrid,
//! version 1 with a version 2 tree beside it that has no controllers. A version 2 cgroup is entered at birth, by
//! clone3(2). A version 1 cgroup has to be entered afterwards, which takes the kernel milliseconds, as it waits for
//! all processors to pass a quiet point. So the version 2 tree is taken wherever there is one.

use super::mark;
use super::proc::{Membership, Mount};
use crate::sys;
use crate::text::shown;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

/// How long to wait until a cgroup is empty.
const PATIENCE: Duration = Duration::from_secs(2);
/// How many attempts to remove a cgroup are made before the processes in it are killed. Most of them are ending already.
const GENTLE: u32 = 20;

/// A cgroup below which we may make others: our own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupParent {
    directory: PathBuf,
    version: Version,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl CgroupParent {
    /// Looks for one; `None` if there is no cgroup that we may divide.
    pub fn find() -> Option<CgroupParent> {
        here().into_iter().find(CgroupParent::is_ours)
    }

    /// One line about it.
    pub fn about(&self) -> String {
        let version = match self.version {
            Version::One => 1,
            Version::Two => 2,
        };
        format!("version {version}, below {}", shown(&self.directory))
    }

    /// Whether we may make a cgroup there and move a process of ours into it.
    fn is_ours(&self) -> bool {
        let procs = File::options().write(true).open(self.directory.join("cgroup.procs"));
        procs.is_ok() && self.make().is_ok()
    }

    /// Makes a cgroup.
    pub fn make(&self) -> io::Result<Cgroup> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = self.directory.join(format!("{}{count}", mark::own()));
        fs::create_dir(&path)?;
        let mut cgroup = Cgroup { path, open: None };
        let open = match self.version {
            Version::Two => {
                let flags = libc::O_PATH | libc::O_DIRECTORY;
                Open::Directory(OpenOptions::new().read(true).custom_flags(flags).open(&cgroup.path)?)
            }
            Version::One => Open::Procs(File::options().write(true).open(cgroup.path.join("cgroup.procs"))?),
        };
        cgroup.open = Some(open);
        Ok(cgroup)
    }
}

/// Where we are in each tree of cgroups, best first.
fn here() -> Vec<CgroupParent> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    parents(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"))
}

/// Removes the cgroups called `name` that a tool made, beside our own or at the root of a tree, and did not remove. The
/// processes that are still in them are killed.
pub fn remove_everywhere(name: &str) {
    let end = sys::monotonic() + PATIENCE;
    everywhere().for_each(|directory| remove(&directory.join(name), end));
}

/// The same with all cgroups that a process of ours made, or had made, and left behind because it was killed.
pub fn remove_left_over() {
    for directory in everywhere() {
        let entries = fs::read_dir(&directory).into_iter().flatten().filter_map(Result::ok);
        let is_left_over = |name: &OsString| name.to_str().is_some_and(mark::is_left_over);
        for name in entries.map(|entry| entry.file_name()).filter(is_left_over) {
            remove(&directory.join(name), sys::monotonic() + PATIENCE);
        }
    }
}

/// Where tools make their cgroups: beside our own, and at the root of each tree.
fn everywhere() -> impl Iterator<Item = PathBuf> {
    let trees = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().filter_map(Result::ok);
    let roots = trees.map(|entry| entry.path()).chain(["/sys/fs/cgroup".into()]);
    roots.chain(here().into_iter().map(|parent| parent.directory))
}

/// Removes a cgroup and those below it; gives up at `end`. A process that was just killed stays in its cgroup until the
/// kernel is done with it. A process that still runs, because it had left its process group, is killed.
fn remove(path: &Path, end: Duration) {
    for tries in 0.. {
        match fs::remove_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && sys::monotonic() < end => {
                let entries = fs::read_dir(path).into_iter().flatten().filter_map(Result::ok);
                let children = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
                children.for_each(|child| remove(&child.path(), end));
                if tries >= GENTLE {
                    kill(path);
                }
                thread::sleep(Duration::from_micros(100));
            }
            _ => return,
        }
    }
}

/// Kills the processes in a cgroup. They may fork meanwhile, so the caller repeats this.
fn kill(path: &Path) {
    let processes = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    // 0 stands for a process outside our pid namespace; kill(2) would take it for our own process group.
    let processes =
        processes.lines().filter_map(|line| line.parse().ok()).filter(|&process: &i32| process > 0);
    processes.for_each(|process| sys::send_signal(process, libc::SIGKILL));
}

/// The same for a process: `mountinfo` and `cgroup` are the files of these names in its /proc.
fn parents(mountinfo: &str, cgroup: &str) -> Vec<CgroupParent> {
    let mut parents = Vec::new();
    for mount in Mount::all(mountinfo) {
        let version = match mount.kind.as_str() {
            "cgroup2" => Version::Two,
            "cgroup" => Version::One,
            _ => continue,
        };
        let is_in = |group: &Membership<'_>| match version {
            Version::Two => group.has(""),
            Version::One => group.controllers.split(',').all(|name| mount.has_super_option(name)),
        };
        let Some(group) = Membership::all(cgroup).find(is_in) else { continue };
        // A mount may show a part of the tree only.
        if let Ok(path) = Path::new(group.path).strip_prefix(&mount.root) {
            let parent = CgroupParent { directory: Path::new(&mount.point).join(path), version };
            parents.push((rank(version, &mount), parent));
        }
    }
    parents.sort_by_key(|(rank, _)| *rank);
    parents.into_iter().map(|(_, parent)| parent).collect()
}

/// Version 2 comes first, then the version 1 controllers that need no set-up before a process may join.
fn rank(version: Version, mount: &Mount) -> usize {
    const PREFERRED: [&str; 3] = ["pids", "memory", "cpu"];
    match version {
        Version::Two => 0,
        Version::One => {
            let preferred = PREFERRED.iter().position(|name| mount.has_super_option(name));
            1 + preferred.unwrap_or(PREFERRED.len())
        }
    }
}

/// A cgroup of ours, removed when it is dropped.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    open: Option<Open>,
}

/// How a process enters it.
#[derive(Debug)]
enum Open {
    Directory(File),
    Procs(File),
}

impl Cgroup {
    /// What clone3(2) takes, for version 2.
    pub(super) fn directory(&self) -> Option<BorrowedFd<'_>> {
        match &self.open {
            Some(Open::Directory(file)) => Some(file.as_fd()),
            _ => None,
        }
    }

    /// Where a process of version 1 writes its number.
    pub(super) fn entrance(&self) -> Option<i32> {
        match &self.open {
            Some(Open::Procs(file)) => Some(file.as_raw_fd()),
            _ => None,
        }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        remove(&self.path, sys::monotonic() + PATIENCE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(mounts: &str, own: &str) -> Vec<(String, Version)> {
        let shown = |parent: CgroupParent| (parent.directory.display().to_string(), parent.version);
        parents(mounts, own).into_iter().map(shown).collect()
    }

    const V1: &str = "\
        32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
        36 31 0:34 / /sys/fs/cgroup/freezer rw,relatime - cgroup cgroup rw,freezer\n\
        39 31 0:36 / /sys/fs/cgroup/pids rw,relatime shared:7 - cgroup cgroup rw,pids\n\
        40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n";
    const OWN_V1: &str = "9:name=systemd:/user\n8:pids:/some/where\n6:freezer:/\n2:cpu,cpuacct:/c\n";

    #[test]
    fn version_2_alone() {
        let mounts = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let own = "0::/user.slice/user-0.slice/session-1.scope\n";
        let directory = "/sys/fs/cgroup/user.slice/user-0.slice/session-1.scope".to_owned();
        assert_eq!(found(mounts, own), [(directory, Version::Two)]);
    }

    #[test]
    fn version_1_has_a_tree_for_each_controller_and_pids_is_the_cheapest() {
        let found = found(V1, OWN_V1);
        let directories: Vec<&str> = found.iter().map(|(directory, _)| directory.as_str()).collect();
        assert_eq!(
            directories,
            [
                "/sys/fs/cgroup/pids/some/where",
                "/sys/fs/cgroup/cpu,cpuacct/c",
                "/sys/fs/cgroup/freezer/",
                "/sys/fs/cgroup/systemd/user"
            ]
        );
        assert!(found.iter().all(|(_, version)| *version == Version::One));
    }

    #[test]
    fn the_hybrid_layout_has_both_and_version_2_comes_first() {
        let mounts = format!("{V1}41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n");
        let found = found(&mounts, &format!("{OWN_V1}0::/x\n"));
        assert_eq!(found[0], ("/sys/fs/cgroup/unified/x".to_owned(), Version::Two));
        assert_eq!(found.len(), 5);
    }

    /// Like a process that `runc` started and that has left its process group.
    #[test]
    fn what_still_runs_in_a_cgroup_is_ended_with_it() {
        use std::os::unix::process::ExitStatusExt;
        let Some(cgroup) = CgroupParent::find().and_then(|parent| parent.make().ok()) else { return };
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        fs::write(cgroup.path.join("cgroup.procs"), child.id().to_string()).unwrap();
        let path = cgroup.path.clone();
        drop(cgroup);
        assert!(!path.exists(), "{}", path.display());
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
    }

    #[test]
    fn a_mount_that_does_not_show_us_is_no_parent() {
        let mounts = "30 23 0:26 /other /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert_eq!(found(mounts, "0::/user\n"), []);
        assert_eq!(found("", "0::/\n"), []);
        assert_eq!(found("nonsense - cgroup2\n\n", "0\n"), []);
    }
}
