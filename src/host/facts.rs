//! What a host shows of itself, as plain data: nothing here is concluded, only noted.
//!
//! A [`Facts`] can be written down as JSON and read back, so that a host can be looked at on another one. What could not be
//! read is `None` where it could be taken for "is not there"; elsewhere it is empty or 0. [`gather`](super::gather) fills it in.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Everything that was looked at.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Facts {
    /// The processor, and what answers its CPUID.
    pub processor: Processor,
    /// What the firmware calls the machine.
    pub firmware: Firmware,
    /// The kernel that serves us.
    pub kernel: Kernel,
    /// What Xen says of itself, where there is one.
    pub xen: Option<Xen>,
    /// KVM, as far as it can be seen without starting a guest.
    pub kvm: Kvm,
    /// Marks that containers leave.
    pub marks: Marks,
    /// How control groups are mounted, and what they allow us; `None` if /proc/self/mountinfo could not be read.
    pub cgroups: Option<Cgroups>,
    /// Memory and huge pages.
    pub memory: Memory,
    /// What moves a clock's figures.
    pub timing: Timing,
    /// This process.
    pub process: Process,
}

/// The processor, by /proc/cpuinfo and by the CPUID instruction.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Processor {
    /// `vendor_id`.
    pub vendor: String,
    /// `model name`.
    pub model: String,
    /// How many Linux uses.
    pub count: usize,
    /// Those of the `flags` that matter here, see [`FLAGS`]; `None` if /proc/cpuinfo could not be read.
    pub flags: Option<Vec<String>>,
    /// Bit 31 of ECX of CPUID leaf 1, which hypervisors set: the same as flag `hypervisor`, asked of the processor itself.
    pub hypervisor_bit: Option<bool>,
    /// Hypervisors that answer at CPUID leaf 0x4000_0000 and at each 0x100 above, where flag `hypervisor` is set.
    pub hypervisors: Vec<HypervisorLeaf>,
    /// EBX of leaf 0x4000_0003: what Hyper-V lets this partition do.
    pub hyperv_privileges: Option<u32>,
}

/// The flags of /proc/cpuinfo that [`Processor::flags`] keeps.
pub const FLAGS: [&str; 7] = ["vmx", "svm", "ept", "npt", "hypervisor", "constant_tsc", "nonstop_tsc"];

/// One hypervisor's own leaf.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HypervisorLeaf {
    /// The leaf.
    pub leaf: u32,
    /// EBX, ECX and EDX as text, without the zeroes at its end.
    pub signature: String,
}

/// What the firmware says: SMBIOS through /sys/class/dmi/id, ACPI, the device tree.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Firmware {
    /// `sys_vendor`.
    pub vendor: String,
    /// `product_name`.
    pub product: String,
    /// `product_version`.
    pub version: String,
    /// `board_vendor`.
    pub board: String,
    /// `bios_vendor`.
    pub bios: String,
    /// The OEM id in the header of the DSDT, which root may read.
    pub acpi_oem: String,
    /// /proc/device-tree/hypervisor/compatible.
    pub device_tree: String,
}

/// The kernel that serves us, by /proc/sys/kernel and /proc/version.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Kernel {
    /// `uname -r`.
    pub release: String,
    /// /proc/version.
    pub version: String,
}

/// /sys/hypervisor and /proc/xen.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Xen {
    /// `type`: xen.
    pub kind: String,
    /// `guest_type`: PV, PVH or HVM.
    pub guest: String,
    /// `properties/features`: hexadecimal; bit 11 is the first domain's.
    pub features: String,
    /// /proc/xen/capabilities: the first domain has `control_d`.
    pub capabilities: String,
}

/// Modules and the device.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Kvm {
    /// What of /sys/module begins with kvm; `None` if that could not be read.
    pub modules: Option<Vec<String>>,
    /// What came of opening /dev/kvm.
    pub device: Device,
    /// The permission bits of /dev/kvm; 0 where it is not there.
    pub mode: u32,
    /// The capabilities that matchstick needs and this KVM lacks.
    pub missing: Vec<String>,
    /// How many vCPUs one machine may have; 0 where nobody could be asked.
    pub vcpus_max: u32,
    /// Parameter `nested` of kvm_intel or kvm_amd.
    pub nested: String,
    /// Parameter `nx_huge_pages` of kvm.
    pub nx_huge_pages: String,
    /// /sys/devices/system/cpu/vulnerabilities/itlb_multihit.
    pub itlb_multihit: String,
}

/// What came of opening /dev/kvm.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Device {
    /// It is not there.
    #[default]
    Absent,
    /// It is there, and open(2) gave this errno.
    Refused(i32),
    /// It opened, and is not a KVM that can be used, for this reason.
    Unfit(String),
    /// It opened.
    Open,
}

/// Marks that containers leave on what runs in them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Marks {
    /// There is a /.dockerenv.
    pub dockerenv: bool,
    /// What /run/.containerenv holds.
    pub containerenv: Option<String>,
    /// The word that names the container: `container=` in the environment of process 1, /run/systemd/container,
    /// or `container=` in our own environment, whichever could be read first.
    pub word: String,
    /// KUBERNETES_SERVICE_HOST is in our environment.
    pub kubernetes: bool,
    /// The paths of /proc/self/cgroup and /proc/1/cgroup, each once.
    pub cgroups: Vec<String>,
    /// What is mounted on /etc/hosts and /etc/hostname: its path in the file system it comes from.
    pub etc_mounts: Vec<String>,
    /// The type of the root file system.
    pub root: String,
    /// Inode numbers of /proc/self/ns, which name the namespaces; empty if they could not be read.
    pub namespaces: BTreeMap<String, u64>,
    /// The same of the kernel's own thread kthreadd, which has the first namespaces; only root can read them.
    pub first_namespaces: BTreeMap<String, u64>,
}

/// How control groups are mounted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cgroups {
    /// Where version 2 is mounted.
    pub unified: String,
    /// Mount options of version 2.
    pub options: String,
    /// The controllers whose trees are mounted as version 1.
    pub legacy: Vec<String>,
    /// `cpu.max` of our group, or the quota and period of version 1, in microseconds: `200000 100000`.
    pub cpu_max: String,
}

/// Memory and huge pages.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Memory {
    /// `MemTotal`, in KiB.
    pub total_kib: u64,
    /// `MemAvailable`, in KiB.
    pub available_kib: u64,
    /// `HugePages_Free`, of the default size.
    pub huge_pages_free: u64,
    /// /sys/kernel/mm/transparent_hugepage/enabled, the word in brackets; empty if this kernel has none, and `None` if that
    /// could not be read.
    pub transparent: Option<String>,
}

/// What moves a clock's figures.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timing {
    /// The frequency governor of the first processor.
    pub governor: String,
    /// The clock that Linux reads.
    pub clocksource: String,
    /// The load average of the last minute.
    pub load: Option<f64>,
    /// Of all processor time since the start, the share that the hypervisor below gave to others, in per mille.
    pub stolen: Option<u64>,
}

/// This process.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its effective user.
    pub uid: u32,
    /// Whether it was compiled with debug assertions, and so slowly.
    pub debug: bool,
}
