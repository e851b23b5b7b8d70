//! Whether a container is around this process, and which.
//!
//! A container is not a thing that the kernel knows, only namespaces and control groups; so its runtime is known by
//! the marks it leaves, and that there is one at all by the namespaces. The kernel's first namespaces have fixed
//! numbers (include/uapi/linux/nsfs.h), those of mounts and networks only since Linux 6.18; root can also ask kthreadd,
//! which is in all of them. A process that shares the first mount namespace is in no container, whatever files an image
//! left there.
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
const FIRST: [(&str, u64); 8] = [
    ("ipc", 0xefff_ffff),
    ("uts", 0xefff_fffe),
    ("user", 0xefff_fffd),
    ("pid", 0xefff_fffc),
    ("cgroup", 0xefff_fffb),
    ("time", 0xefff_fffa),
    ("net", 0xefff_fff9),
    ("mnt", 0xefff_fff8),
];
/// Before Linux 6.18, the first mount namespace had the first number that was given out, or the second, after the first
/// network's. Those two are never given back.
const FIRST_GIVEN_OUT: [u64; 2] = [0xf000_0000, 0xf000_0001];

/// Whether our namespace `name` is another than the kernel's first; `None` if that cannot be known.
fn is_own(marks: &Marks, name: &str, first: u64) -> Option<bool> {
    let inode = *marks.namespaces.get(name)?;
    if inode == first {
        return Some(false);
    }
    if let Some(&first) = marks.first_namespaces.get(name) {
        return Some(inode != first);
    }
    match name {
        "mnt" => Some(!FIRST_GIVEN_OUT.contains(&inode)),
        // Its first number has been another one in many kernels.
        "net" => None,
        _ => Some(true),
    }
}

/// The namespaces that are not the kernel's first ones, as far as that can be known.
pub fn own_namespaces(marks: &Marks) -> Vec<&'static str> {
    let own = FIRST.iter().filter(|(name, first)| is_own(marks, name, *first) == Some(true));
    own.map(|&(name, _)| name).collect()
}

/// Looks for a container. Without one, returns what there is to say: marks that one left, or that it cannot be known.
pub fn find(facts: &Facts) -> Result<Container, Vec<String>> {
    let marks = &facts.marks;
    let (runtime, mut evidence) = from_marks(marks).unzip();
    let in_cgroup = cgroup_runtime(marks).is_some();
    let own = own_namespaces(marks);
    // Every container has mounts of its own; what else it has of its own differs.
    let shares_mounts = marks.namespaces.contains_key("mnt") && !own.contains(&"mnt");
    let is_known = |name: &&str| marks.namespaces.contains_key(*name);
    let shares_the_rest = ["ipc", "uts", "pid"].iter().all(is_known) && own.iter().all(|name| *name == "mnt");
    if (shares_mounts || shares_the_rest) && !in_cgroup {
        let why =
            if shares_mounts { "mounts are the host's" } else { "processes and host name are the host's" };
        let stale = |found: String| format!("{found}, but our {why}: an image left it there");
        return Err(evidence.unwrap_or_default().into_iter().map(stale).collect());
    }
    // Not every kernel has namespaces in its /proc; each has the root of the file system there.
    if marks.namespaces.is_empty() && marks.root.is_empty() && !has_more_than_files(marks) {
        let unknown = "whether a container is around it is not known: /proc cannot be read";
        return Err(evidence.unwrap_or_default().into_iter().chain([unknown.into()]).collect());
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

/// Whether there are other marks than files that an image may have left.
fn has_more_than_files(marks: &Marks) -> bool {
    from_marks(&Marks { dockerenv: false, containerenv: None, ..marks.clone() }).is_some()
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
