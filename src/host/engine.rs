//! How KVM runs a guest's code on a host: by the processor, by the processor of a virtual machine, or in software.
//!
//! Sources: the kernel's Documentation/virt/kvm; the patches of kvm_pvm for the last kind.

use super::facts::{Device, Facts};
use super::hypervisor::Hypervisor;
use serde::Serialize;

/// How KVM runs a guest's code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// The processor's own virtualisation, VMX or SVM, straight on the hardware.
    Hardware,
    /// The same, but offered by the hypervisor below: each exit is handled there first.
    Nested,
    /// `kvm_pvm`: the guest's ring 3 runs directly, its ring 0 is moved to ring 3 or emulated.
    Software,
    /// There is none.
    None,
    /// It cannot be known: neither the modules nor the processor's flags could be read.
    Unknown,
}

fn has(facts: &Facts, flag: &str) -> bool {
    facts.processor.flags.iter().flatten().any(|known| known == flag)
}

fn module<'a>(facts: &'a Facts, name: &str) -> Option<&'a str> {
    facts.kvm.modules.iter().flatten().map(String::as_str).find(|module| *module == name)
}

/// The module that does the work, where there is one.
pub(super) fn vendor_module(facts: &Facts) -> Option<&str> {
    ["kvm_intel", "kvm_amd", "kvm_pvm"].iter().find_map(|name| module(facts, name))
}

/// What the processor calls its virtualisation, if Linux sees it.
pub(super) fn extension(facts: &Facts) -> Option<&'static str> {
    if has(facts, "vmx") {
        return Some("Intel VMX");
    }
    has(facts, "svm").then_some("AMD SVM")
}

/// How KVM runs guests on a host with these facts, and this hypervisor below it.
pub(super) fn find(facts: &Facts, hypervisor: Option<&Hypervisor>) -> Engine {
    let by_hardware = if hypervisor.is_some() { Engine::Nested } else { Engine::Hardware };
    match vendor_module(facts) {
        Some("kvm_pvm") => Engine::Software,
        Some(_) => by_hardware,
        // KVM may be part of the kernel and show no module.
        None if facts.kvm.device == Device::Open && extension(facts).is_some() => by_hardware,
        None if facts.kvm.modules.is_none() => Engine::Unknown,
        None => Engine::None,
    }
}
