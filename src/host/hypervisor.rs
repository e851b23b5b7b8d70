//! Whether a hypervisor is below the host kernel, and which.
//!
//! The order is by how hard a thing is to fake for the sake of some other guest: Xen's own files; the firmware's
//! name, for VirtualBox, which answers in CPUID with the signature that its guest understands best; every
//! signature in CPUID, as QEMU puts Hyper-V's first and KVM's behind it when a Windows guest wants that; then
//! what else the firmware says.
//!
//! Sources: the kernel's Documentation/virt and arch/x86/kernel/cpu; the Hyper-V Top Level Functional
//! Specification, HV_PARTITION_PRIVILEGE_MASK; xen/include/public/features.h; the VirtualBox manual,
//! "Paravirtualization Providers"; QEMU's docs/system/i386/hyperv.rst.

use super::facts::{Facts, Xen};
use serde::Serialize;

/// A hypervisor under the kernel that serves us.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Hypervisor {
    /// Which.
    pub platform: Platform,
    /// What the kernel above is to it.
    pub role: Role,
    /// The program or service that built the machine we see, where it left its name.
    pub monitor: Option<String>,
    /// What was seen, one observation each.
    pub evidence: Vec<String>,
}

/// Hypervisors by what they are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "they are names")]
pub enum Platform {
    Kvm,
    Xen,
    HyperV,
    VMware,
    VirtualBox,
    Bhyve,
    Acrn,
    Qnx,
    Apple,
    Parallels,
    OpenBsd,
    Nvmm,
    Jailhouse,
    /// QEMU without any accelerator: an emulator, which runs none of the guest's instructions directly.
    Tcg,
    /// One that does not say.
    Unknown,
}

impl Platform {
    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Platform::Kvm => "KVM",
            Platform::Xen => "Xen",
            Platform::HyperV => "Hyper-V",
            Platform::VMware => "VMware",
            Platform::VirtualBox => "VirtualBox",
            Platform::Bhyve => "bhyve",
            Platform::Acrn => "ACRN",
            Platform::Qnx => "QNX Hypervisor",
            Platform::Apple => "Apple Virtualization",
            Platform::Parallels => "Parallels",
            Platform::OpenBsd => "OpenBSD vmm",
            Platform::Nvmm => "NetBSD NVMM",
            Platform::Jailhouse => "Jailhouse",
            Platform::Tcg => "QEMU TCG, an emulator",
            Platform::Unknown => "one that does not say its name",
        }
    }
}

/// What the kernel above is to the hypervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A guest like any other.
    Guest,
    /// The one that manages the machine and drives its devices: Xen's domain 0, Hyper-V's root partition.
    Root,
}

/// Signatures in CPUID.
const SIGNATURES: [(&str, Platform); 14] = [
    ("KVMKVMKVM", Platform::Kvm),
    ("Linux KVM Hv", Platform::Kvm),
    ("XenVMMXenVMM", Platform::Xen),
    ("VMwareVMware", Platform::VMware),
    ("VBoxVBoxVBox", Platform::VirtualBox),
    ("bhyve bhyve ", Platform::Bhyve),
    ("TCGTCGTCGTCG", Platform::Tcg),
    ("ACRNACRNACRN", Platform::Acrn),
    ("QNXQVMBSQG", Platform::Qnx),
    ("Apple VZ", Platform::Apple),
    (" lrpepyh  vr", Platform::Parallels),
    ("OpenBSDVMM58", Platform::OpenBsd),
    ("___ NVMM ___", Platform::Nvmm),
    // Last, since others answer with it as well, beside their own.
    ("Microsoft Hv", Platform::HyperV),
];

/// How the firmware's words begin, and what they stand for: a platform, where one follows, and a monitor.
const FIRMWARE: [(&str, Option<Platform>, &str); 16] = [
    ("innotek GmbH", Some(Platform::VirtualBox), "VirtualBox"),
    ("VirtualBox", Some(Platform::VirtualBox), "VirtualBox"),
    ("FIRECK", Some(Platform::Kvm), "Firecracker"),
    ("CLOUDH", Some(Platform::Kvm), "Cloud Hypervisor"),
    ("Cloud Hypervisor", Some(Platform::Kvm), "Cloud Hypervisor"),
    ("CROSVM", Some(Platform::Kvm), "crosvm"),
    ("VMware", Some(Platform::VMware), "VMware"),
    ("BHYVE", Some(Platform::Bhyve), "bhyve"),
    ("Parallels", Some(Platform::Parallels), "Parallels"),
    ("Xen", Some(Platform::Xen), "Xen"),
    ("Apple Virtualization", Some(Platform::Apple), "Apple Virtualization"),
    ("OpenBSD", Some(Platform::OpenBsd), "OpenBSD vmd"),
    ("Amazon EC2", None, "Amazon EC2"),
    ("Google Compute Engine", None, "Google Compute Engine"),
    ("Hyper-V", Some(Platform::HyperV), "Hyper-V"),
    ("QEMU", None, "QEMU"),
];

/// Hyper-V's privileges CreatePartitions and CpuManagement, as CPUID has them in EBX.
const CREATE_PARTITIONS: u32 = 1 << 0;
const CPU_MANAGEMENT: u32 = 1 << 12;
/// XENFEAT_dom0.
const DOM0: u64 = 1 << 11;

/// Whether the processor says that there is a hypervisor; `None` if it could not be asked.
pub(super) fn has_flag(facts: &Facts) -> Option<bool> {
    let flags = facts.processor.flags.as_ref();
    flags.map(|flags| flags.iter().any(|flag| flag == "hypervisor")).or(facts.processor.hypervisor_bit)
}

/// Looks for a hypervisor below.
pub fn find(facts: &Facts) -> Option<Hypervisor> {
    let firmware = from_firmware(facts);
    let monitor = firmware.map(|found| found.monitor.to_owned());
    let named =
        |platform, role, evidence| Some(Hypervisor { platform, role, monitor: monitor.clone(), evidence });
    let has_flag = has_flag(facts) == Some(true);
    let mut evidence = signatures(facts);
    evidence.extend(firmware.map(|found| format!("{} says {}", found.whence, found.words)));
    if has_flag && evidence.is_empty() {
        evidence.push("CPUID leaf 1 says that there is one (flag `hypervisor`)".into());
    }
    if let Some(xen) = facts.xen.as_ref().filter(|xen| xen.kind.is_empty() || xen.kind == "xen") {
        let (role, of_xen) = xen_role(xen);
        evidence.insert(0, of_xen);
        return named(Platform::Xen, role, evidence);
    }
    let of_firmware = firmware.and_then(|found| found.platform);
    if of_firmware == Some(Platform::VirtualBox) && has_flag {
        return named(Platform::VirtualBox, Role::Guest, evidence);
    }
    match by_signature(facts) {
        Some(Platform::HyperV) if is_hyperv_root(facts) => {
            evidence
                .push("this partition may create others and manages the processors: it is the root".into());
            return named(Platform::HyperV, Role::Root, evidence);
        }
        Some(platform) => return named(platform, Role::Guest, evidence),
        None => {}
    }
    match (has_flag, of_firmware) {
        // A mainboard may be called anything; the flag is the processor's own word.
        (true, Some(platform)) => named(platform, Role::Guest, evidence),
        (true, None) => named(Platform::Unknown, Role::Guest, evidence),
        (false, _) if !facts.firmware.device_tree.is_empty() => {
            let tree = &facts.firmware.device_tree;
            let platform = if tree.contains("kvm") { Platform::Kvm } else { Platform::Unknown };
            named(platform, Role::Guest, vec![format!("the device tree names a hypervisor: {tree}")])
        }
        // A product that is sold as no real machine; a cloud's name stands on its bare machines as well.
        (false, Some(platform)) => named(platform, Role::Guest, evidence),
        (false, None) if monitor.as_deref() == Some("QEMU") => {
            named(Platform::Unknown, Role::Guest, evidence)
        }
        (false, None) => None,
    }
}

fn by_signature(facts: &Facts) -> Option<Platform> {
    let seen = |signature: &str| facts.processor.hypervisors.iter().any(|leaf| leaf.signature == signature);
    SIGNATURES.iter().find(|(signature, _)| seen(signature)).map(|&(_, platform)| platform)
}

fn signatures(facts: &Facts) -> Vec<String> {
    let line =
        |leaf: &super::HypervisorLeaf| format!("CPUID leaf {:#x} says {}", leaf.leaf, leaf.signature.trim());
    facts.processor.hypervisors.iter().map(line).collect()
}

fn is_hyperv_root(facts: &Facts) -> bool {
    let needed = CREATE_PARTITIONS | CPU_MANAGEMENT;
    facts.processor.hyperv_privileges.is_some_and(|privileges| privileges & needed == needed)
}

/// Domain 0 by its feature bit, or by the capability of the control domain.
fn xen_role(xen: &Xen) -> (Role, String) {
    let features = u64::from_str_radix(&xen.features, 16).unwrap_or(0);
    if features & DOM0 != 0 {
        return (Role::Root, "bit 11 of /sys/hypervisor/properties/features is set: this is domain 0".into());
    }
    if xen.capabilities.split(',').any(|word| word.trim() == "control_d") {
        return (Role::Root, "/proc/xen/capabilities says control_d: this is domain 0".into());
    }
    let guest = if xen.guest.is_empty() { String::new() } else { format!(", a {} guest", xen.guest) };
    (Role::Guest, format!("/sys/hypervisor/type says xen{guest}"))
}

/// What the firmware's words stand for.
#[derive(Clone, Copy)]
struct Named<'a> {
    platform: Option<Platform>,
    monitor: &'static str,
    whence: &'static str,
    words: &'a str,
}

fn from_firmware(facts: &Facts) -> Option<Named<'_>> {
    let of = &facts.firmware;
    let words = [
        ("the DSDT of ACPI", &of.acpi_oem),
        ("DMI product_name", &of.product),
        ("DMI sys_vendor", &of.vendor),
        ("DMI board_vendor", &of.board),
        ("DMI bios_vendor", &of.bios),
        ("DMI product_version", &of.version),
    ];
    let found = words.into_iter().find_map(|(whence, words)| {
        let known = FIRMWARE.iter().find(|(start, ..)| words.starts_with(start))?;
        Some(Named { platform: known.1, monitor: known.2, whence, words })
    });
    let is_microsoft = of.vendor == "Microsoft Corporation" && of.product == "Virtual Machine";
    let hyperv = Named {
        platform: Some(Platform::HyperV),
        monitor: "Hyper-V",
        whence: "DMI product_name",
        words: &of.product,
    };
    found.or(is_microsoft.then_some(hyperv))
}
