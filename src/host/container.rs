//! Whether a container is around this process, and which.
//!
//! A container is not a thing that the kernel knows, only namespaces and control groups; so its runtime is known by
//! the marks it leaves, and that there is one at all by the namespaces. The kernel's first namespaces have fixed
//! numbers (include/linux/proc_ns.h), and one that shares them all is in no container, whatever an image left lying
//! around.
//!
//! Sources: systemd's CONTAINER_INTERFACE; podman-run(1) on /run/.containerenv; lxc(7);
//! kubernetes.io/docs/concepts/architecture/cgroups; namespaces(7).

use super::facts::{Facts, Marks};
use serde::Serialize;

/// A container around us.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Container {
    /// What made it.
    pub runtime: String,
    /// What was seen, one observation each.
    pub evidence: Vec<String>,
}

/// The numbers of the first namespaces.
const FIRST: [(&str, u64); 6] = [
    ("ipc", 0xefff_ffff),
    ("uts", 0xefff_fffe),
    ("user", 0xefff_fffd),
    ("pid", 0xefff_fffc),
    ("cgroup", 0xefff_fffb),
    ("time", 0xefff_fffa),
];

/// The namespaces that are not the kernel's first ones, of those whose first numbers are known.
pub fn own_namespaces(marks: &Marks) -> Vec<&'static str> {
    let is_own =
        |&&(name, first): &&(&str, u64)| marks.namespaces.get(name).is_some_and(|&inode| inode != first);
    FIRST.iter().filter(is_own).map(|&(name, _)| name).collect()
}

/// Whether the namespaces say that there is no container: all are known, and none is our own.
fn shares_everything(marks: &Marks) -> bool {
    let is_known = |name: &&str| marks.namespaces.contains_key(*name);
    ["ipc", "uts", "pid"].iter().all(is_known) && own_namespaces(marks).is_empty()
}

/// Looks for a container, and for marks that one left without being there.
pub fn find(facts: &Facts) -> Result<Container, Vec<String>> {
    let marks = &facts.marks;
    let (runtime, mut evidence) = from_marks(marks).unzip();
    let in_cgroup = cgroup_runtime(marks).is_some();
    let own = own_namespaces(marks);
    if shares_everything(marks) && !in_cgroup {
        let stale =
            |found: String| format!("{found}, but all namespaces are the kernel's first: an image left it");
        return Err(evidence.unwrap_or_default().into_iter().map(stale).collect());
    }
    if !own.is_empty() {
        evidence.get_or_insert_default().push(format!("namespaces of its own: {}", own.join(", ")));
    }
    match runtime {
        Some(runtime) => Ok(Container { runtime, evidence: evidence.unwrap_or_default() }),
        // Without a mark: a process tree of its own is what makes the difference.
        None if own.contains(&"pid") => {
            let runtime = match is_wsl(facts) {
                true => "the distribution, in WSL's virtual machine",
                false => "one that left no name (unshare, bubblewrap, …)",
            };
            Ok(Container { runtime: runtime.into(), evidence: evidence.unwrap_or_default() })
        }
        None => Err(Vec::new()),
    }
}

fn is_wsl(facts: &Facts) -> bool {
    facts.kernel.release.to_ascii_lowercase().contains("microsoft")
}

/// What made the container, by its marks, the most telling first.
fn from_marks(marks: &Marks) -> Option<(String, Vec<String>)> {
    let mut evidence = Vec::new();
    let mut runtime: Option<&str> = None;
    let mut see = |name: &'static str, what: String| {
        runtime.get_or_insert(name);
        evidence.push(what);
    };
    if marks.kubernetes {
        see("Kubernetes pod", "KUBERNETES_SERVICE_HOST is in the environment".into());
    }
    if let Some(path) = marks.etc_mounts.iter().find(|path| path.contains("/kubelet/pods/")) {
        see("Kubernetes pod", format!("/etc/hosts is the kubelet's: {path}"));
    }
    if let Some((name, path)) = cgroup_runtime(marks) {
        see(name, format!("its control group is {path}"));
    }
    if let Some(text) = &marks.containerenv {
        let engine = text.lines().find_map(|line| line.strip_prefix("engine="));
        let engine = engine.map(|engine| format!(" ({})", engine.trim_matches('"'))).unwrap_or_default();
        see("podman", format!("there is a /run/.containerenv{engine}"));
    }
    if marks.dockerenv {
        see("Docker", "there is a /.dockerenv".into());
    }
    if let Some(path) = marks.etc_mounts.iter().find(|path| path.contains("/docker/containers/")) {
        see("Docker", format!("/etc/hosts is Docker's: {path}"));
    }
    match marks.word.as_str() {
        "" | "wsl" => {}
        "docker" => see("Docker", "container=docker in the environment".into()),
        "podman" => see("podman", "container=podman in the environment".into()),
        "lxc" | "lxc-libvirt" => see("LXC", format!("container={} in the environment", marks.word)),
        "systemd-nspawn" => see("systemd-nspawn", "container=systemd-nspawn in the environment".into()),
        other => see("a container", format!("container={other} in the environment")),
    }
    Some((runtime?.to_owned(), evidence))
}

/// What made the control group, by its path.
fn cgroup_runtime(marks: &Marks) -> Option<(&'static str, &str)> {
    const PARTS: [(&str, &str); 8] = [
        ("kubepods", "Kubernetes pod"),
        ("/libpod", "podman"),
        ("/docker/", "Docker"),
        ("/docker-", "Docker"),
        ("/lxc/", "LXC"),
        ("/lxc.payload", "LXC"),
        ("/crio-", "CRI-O"),
        ("cri-containerd-", "containerd"),
    ];
    PARTS.iter().find_map(|&(part, name)| {
        let path = marks.cgroups.iter().find(|path| path.contains(part))?;
        Some((name, path.as_str()))
    })
}
