//! What matchstick needs of a host, whether it is there, and what to do where it is not.
//!
//! Sources: kvm's kernel parameters (Documentation/admin-guide/kernel-parameters.txt), cgroup-v2.rst, the manuals of
//! the hypervisors on nested virtualisation.

use super::classify::Host;
use super::engine::{Engine, extension, vendor_module};
use super::facts::{Device, Facts};
use super::hypervisor::{Hypervisor, Platform, Role};
use crate::machine::Config;
use serde::Serialize;

/// Something that matchstick needs, or is quicker with.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Requirement {
    /// What it is, in a few words.
    pub what: &'static str,
    /// Whether it is there.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What to do, where something can be done; a command where there is one.
    pub fix: Option<String>,
}

/// Whether something is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It is.
    Good,
    /// It is not, and guests run all the same: slower, or some of them.
    Advice,
    /// It is not, and no guest runs.
    Missing,
    /// It could not be found out.
    Unknown,
}

/// Everything that matters, the most basic first.
pub fn requirements(facts: &Facts, host: &Host) -> Vec<Requirement> {
    let mut requirements =
        vec![kernel(facts), processor(facts, host), module(facts, host), device(facts, host)];
    if facts.kvm.device == Device::Open {
        requirements.push(capabilities(facts));
    }
    requirements.push(memory(facts));
    requirements.push(huge_pages(facts));
    requirements.extend(nx_huge_pages(facts));
    requirements.extend(cgroups(facts));
    requirements
}

fn good(what: &'static str, found: impl Into<String>) -> Requirement {
    Requirement { what, state: State::Good, found: found.into(), fix: None }
}

fn missing(what: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Requirement {
    Requirement { what, state: State::Missing, found: found.into(), fix: Some(fix.into()) }
}

fn unknown(what: &'static str, why: &str) -> Requirement {
    Requirement { what, state: State::Unknown, found: why.into(), fix: None }
}

fn advice(what: &'static str, found: impl Into<String>, fix: Option<&str>) -> Requirement {
    Requirement { what, state: State::Advice, found: found.into(), fix: fix.map(str::to_owned) }
}

/// Major and minor number of a release such as `6.1.0-18-amd64`.
pub(super) fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn kernel(facts: &Facts) -> Requirement {
    const WHAT: &str = "Linux 4.17 or newer";
    let release = &facts.kernel.release;
    if release.to_ascii_lowercase().ends_with("-microsoft") {
        return missing(WHAT, "WSL 1 has no Linux", "wsl --set-version DISTRIBUTION 2 (in Windows)");
    }
    match version(release) {
        Some(version) if version >= (4, 17) => good(WHAT, release),
        Some(_) => missing(WHAT, release, "a newer kernel: KVM_CAP_SYNC_REGS came with 4.17"),
        None => unknown(WHAT, "its version cannot be read: /proc/sys/kernel/osrelease"),
    }
}

fn processor(facts: &Facts, host: &Host) -> Requirement {
    const WHAT: &str = "something that runs guests";
    if host.engine == Engine::Software {
        return good(WHAT, "kvm_pvm, which needs neither VMX nor SVM");
    }
    if let Some(extension) = extension(facts) {
        return good(WHAT, extension);
    }
    if facts.kvm.device == Device::Open {
        return good(WHAT, "KVM says so");
    }
    match &host.hypervisor {
        _ if facts.processor.flags.is_none() => unknown(WHAT, "/proc/cpuinfo cannot be read"),
        Some(hypervisor) => missing(WHAT, "nested virtualisation is off below", nested(hypervisor, facts)),
        None => missing(
            WHAT,
            "neither vmx nor svm in /proc/cpuinfo",
            "switch it on in the firmware's set-up: Intel VT-x, or AMD SVM Mode",
        ),
    }
}

/// How a hypervisor offers VMX or SVM to its guest.
fn nested(hypervisor: &Hypervisor, facts: &Facts) -> String {
    let is_wsl = facts.kernel.release.to_ascii_lowercase().contains("microsoft");
    let intel = facts.processor.vendor != "AuthenticAMD";
    let text = match (hypervisor.platform, hypervisor.role) {
        (Platform::HyperV, Role::Root) => {
            "the root partition has no VMX or SVM of its own: boot without Hyper-V, or use /dev/mshv"
        }
        (Platform::HyperV, _) if is_wsl => {
            "nestedVirtualization=true below [wsl2] in %USERPROFILE%\\.wslconfig, then wsl --shutdown"
        }
        (Platform::HyperV, _) => {
            "Set-VMProcessor -VMName NAME -ExposeVirtualizationExtensions $true (on its host)"
        }
        (Platform::Xen, Role::Root) => {
            "domain 0 has none: boot the kernel without Xen, or use a guest with nestedhvm=1"
        }
        (Platform::Xen, _) => "nestedhvm=1 in the guest's configuration (HVM guests only)",
        (Platform::VMware, _) => {
            "vhv.enable = \"TRUE\" in the .vmx file: \"Virtualize Intel VT-x/EPT or AMD-V/RVI\""
        }
        (Platform::VirtualBox, _) => "VBoxManage modifyvm NAME --nested-hw-virt on (on its host)",
        (Platform::Tcg, _) => "qemu-system-x86_64 -cpu max: TCG can emulate SVM",
        (Platform::Bhyve, _) => "bhyve offers none: another hypervisor, or a bare machine",
        (Platform::Kvm, _) => match hypervisor.monitor.as_deref() {
            Some("Amazon EC2") => "a .metal instance, or an instance type with nested virtualisation",
            Some("Google Compute Engine") => {
                "gcloud compute instances create … --enable-nested-virtualization"
            }
            Some("Firecracker") => {
                "Firecracker's CPU templates hide it: one that keeps vmx or svm, or kvm_pvm in this kernel"
            }
            _ if intel => {
                "modprobe kvm_intel nested=1 on its host, and the host's processor for the guest (-cpu host)"
            }
            _ => "modprobe kvm_amd nested=1 on its host, and the host's processor for the guest (-cpu host)",
        },
        _ => "ask its manual for nested virtualisation",
    };
    text.into()
}

fn module(facts: &Facts, host: &Host) -> Requirement {
    const WHAT: &str = "a KVM module";
    match vendor_module(facts) {
        Some(module) => good(WHAT, module),
        None if facts.kvm.modules.is_none() => unknown(WHAT, "/sys/module cannot be read"),
        None if facts.kvm.device == Device::Open => good(WHAT, "part of the kernel"),
        None => {
            let fix = match facts.processor.vendor.as_str() {
                "AuthenticAMD" | "HygonGenuine" => "sudo modprobe kvm_amd",
                _ => "sudo modprobe kvm_intel",
            };
            let place = if host.container.is_some() { " (outside the container)" } else { "" };
            match extension(facts) {
                Some(_) => {
                    missing(WHAT, "none is loaded", format!("{fix}{place}; dmesg | grep kvm says why not"))
                }
                None => {
                    missing(WHAT, "none is loaded", "none would load before the processor offers VMX or SVM")
                }
            }
        }
    }
}

fn device(facts: &Facts, host: &Host) -> Requirement {
    const WHAT: &str = "/dev/kvm";
    let runtime = host.container.as_ref().map(|container| container.runtime.as_str());
    let has_module = vendor_module(facts).is_some();
    match &facts.kvm.device {
        Device::Open => good(WHAT, "opened"),
        Device::Absent if !has_module => missing(WHAT, "not there", "it comes with the module"),
        Device::Absent => missing(WHAT, "not there, although the module is", let_in(runtime)),
        Device::Refused(libc::EACCES) => missing(
            WHAT,
            "permission denied",
            match runtime {
                Some(_) => {
                    "the container's user needs the group of /dev/kvm: docker run --group-add, podman run --group-add keep-groups"
                }
                None if facts.kvm.mode & 0o060 != 0o060 && facts.kvm.mode != 0 => {
                    "sudo chgrp kvm /dev/kvm && sudo chmod 660 /dev/kvm && sudo usermod -aG kvm $USER, then log in again"
                }
                None => "sudo usermod -aG kvm $USER, then log in again",
            },
        ),
        Device::Refused(libc::EPERM) => {
            missing(WHAT, "not permitted by the device rules of our control group", let_in(runtime))
        }
        Device::Refused(libc::ENODEV | libc::ENXIO) => {
            missing(WHAT, "there is a file, but no KVM behind it", "load the module first")
        }
        Device::Refused(errno) => missing(
            WHAT,
            std::io::Error::from_raw_os_error(*errno).to_string(),
            "dmesg | grep kvm may say more",
        ),
        Device::Unfit(why) => missing(WHAT, why, "is it Linux's own /dev/kvm?"),
    }
}

/// How /dev/kvm gets into a container.
fn let_in(runtime: Option<&str>) -> &'static str {
    match runtime {
        Some("Docker") => "docker run --device /dev/kvm …",
        Some("podman") => "podman run --device /dev/kvm --group-add keep-groups …",
        Some("LXC") => {
            "incus config device add NAME kvm unix-char path=/dev/kvm, or lxc.mount.entry and lxc.cgroup2.devices.allow = c 10:232 rwm"
        }
        Some("Kubernetes pod") => {
            "a device plugin for devices.kubevirt.io/kvm or the like; a privileged pod with a hostPath for tests"
        }
        Some("systemd-nspawn") => "systemd-nspawn --bind=/dev/kvm --property=DeviceAllow='/dev/kvm rw' …",
        Some(_) => "bind /dev/kvm into the container, and allow device c 10:232",
        None => "sudo mknod /dev/kvm c 10 232, or let udev do it: sudo udevadm trigger",
    }
}

fn capabilities(facts: &Facts) -> Requirement {
    const WHAT: &str = "what KVM can do";
    match facts.kvm.missing.as_slice() {
        [] => {
            let cpus = facts.kvm.vcpus_max.min(Config::MAX_CPUS);
            good(WHAT, format!("all that is needed; up to {cpus} CPUs in a machine of ours"))
        }
        capabilities => missing(WHAT, format!("it lacks {}", capabilities.join(", ")), "a newer kernel"),
    }
}

fn memory(facts: &Facts) -> Requirement {
    const WHAT: &str = "memory";
    /// For `run linux`, and as much again for the host's own comfort.
    const COMFORTABLE: u64 = 1 << 20;
    let mib = facts.memory.available_kib >> 10;
    match facts.memory.available_kib {
        0 => unknown(WHAT, "/proc/meminfo cannot be read"),
        kib if kib >= COMFORTABLE => good(WHAT, format!("{mib} MiB are available")),
        _ => advice(
            WHAT,
            format!("{mib} MiB are available"),
            Some("enough for the gallery; `run linux` asks for 512 MiB, less with -m"),
        ),
    }
}

fn huge_pages(facts: &Facts) -> Requirement {
    const WHAT: &str = "huge pages";
    let memory = &facts.memory;
    let Some(transparent) = &memory.transparent else {
        return unknown(WHAT, "/sys/kernel/mm cannot be read");
    };
    match transparent.as_str() {
        "" if memory.huge_pages_free == 0 => advice(WHAT, "this kernel has none", None),
        "never" => advice(
            WHAT,
            "transparent ones are switched off",
            Some(
                "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled; large guests have fewer page faults then",
            ),
        ),
        word => good(WHAT, format!("transparent: {word}; {} reserved ones are free", memory.huge_pages_free)),
    }
}

/// The work-around for a fault of some Intel processors costs each VM a kernel thread.
fn nx_huge_pages(facts: &Facts) -> Option<Requirement> {
    const WHAT: &str = "kvm.nx_huge_pages";
    const FIX: &str = "echo never | sudo tee /sys/module/kvm/parameters/nx_huge_pages, while no VM runs: no recovery thread for each VM then";
    let is_safe = facts.kvm.itlb_multihit.starts_with("Not affected");
    match facts.kvm.nx_huge_pages.as_str() {
        "" => None,
        "never" => Some(good(WHAT, "never")),
        word if is_safe => {
            Some(advice(WHAT, format!("{word}, and this processor has not the fault it is for"), Some(FIX)))
        }
        word if facts.kvm.itlb_multihit.is_empty() => {
            Some(good(WHAT, format!("{word}; whether this processor has the fault it is for is not known")))
        }
        word => {
            Some(good(WHAT, format!("{word}: it protects from a fault of this processor (iTLB multihit)")))
        }
    }
}

fn cgroups(facts: &Facts) -> Vec<Requirement> {
    const WHAT: &str = "control groups";
    let Some(cgroups) = &facts.cgroups else {
        return vec![unknown(WHAT, "/proc/self/mountinfo cannot be read")];
    };
    let only_unified = "systemd.unified_cgroup_hierarchy=1 on the kernel's command line; some container runtimes (crun) need it, VMs do not";
    let layout = match (cgroups.unified.is_empty(), cgroups.legacy.as_slice()) {
        (true, []) => advice(
            WHAT,
            "none are mounted",
            Some("sudo mount -t cgroup2 none /sys/fs/cgroup; containers need them, VMs do not"),
        ),
        (false, []) => good(WHAT, "version 2"),
        (false, _) => advice(WHAT, "hybrid: version 1, and 2 beside it", Some(only_unified)),
        (true, _) => advice(WHAT, "version 1", Some(only_unified)),
    };
    let mut requirements = vec![layout];
    // The thread of above is moved to our control group, which on these kernels waits for a grace period of RCU.
    let spawns_thread = !["", "never"].contains(&facts.kvm.nx_huge_pages.as_str());
    let matters = version(&facts.kernel.release).is_some_and(|version| ((6, 0)..(6, 13)).contains(&version));
    if spawns_thread && matters && !cgroups.unified.is_empty() {
        let what = "favordynmods";
        requirements.push(match cgroups.options.split(',').any(|option| option == what) {
            true => good(what, "set"),
            false => advice(
                what,
                "not set: to create a VM may wait for the kernel's grace periods",
                Some("sudo mount -o remount,favordynmods /sys/fs/cgroup, or kvm.nx_huge_pages=never"),
            ),
        });
    }
    requirements
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_two_numbers() {
        assert_eq!(version("6.1.0-18-amd64"), Some((6, 1)));
        assert_eq!(version("5.15.167.4-microsoft-standard-WSL2"), Some((5, 15)));
        assert_eq!(version("4.17-rc1"), Some((4, 17)));
        assert_eq!(version("strange"), None);
    }
}
