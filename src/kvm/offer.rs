//! What the KVM of this host offers: capabilities, CPUID, model-specific registers.
//!
//! Source: KVM API document, the sections of the ioctls named at each method.

use super::{Kvm, host};
use crate::error::{Result, Step};
use crate::x86::cpuid;
use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES};
use kvm_ioctls::Cap;

/// The capabilities that every machine of ours uses.
const NEEDED: [(Cap, &str); 5] = [
    (Cap::UserMemory, "KVM_CAP_USER_MEMORY"),
    (Cap::SyncRegs, "KVM_CAP_SYNC_REGS"),
    (Cap::SplitIrqchip, "KVM_CAP_SPLIT_IRQCHIP"),
    (Cap::SignalMsi, "KVM_CAP_SIGNAL_MSI"),
    (Cap::ImmediateExit, "KVM_CAP_IMMEDIATE_EXIT"),
];

impl Kvm {
    /// What matchstick needs of KVM and this one does not have, by the names of its capabilities.
    pub fn missing(&self) -> Vec<&'static str> {
        NEEDED.into_iter().filter(|&(cap, _)| !self.fd.check_extension(cap)).map(|(_, name)| name).collect()
    }

    /// What CPUID may show a guest with [local APICs](super::Vm::enable_local_apics) on this host
    /// (`KVM_GET_SUPPORTED_CPUID`; `KVM_CAP_TSC_DEADLINE_TIMER`).
    pub fn supported_cpuid(&self) -> Result<CpuId> {
        let cpuid = self.fd.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES);
        let mut cpuid = cpuid.map_err(host(Step::Get("the CPUID that KVM can give")))?;
        if self.fd.check_extension(Cap::TscDeadlineTimer) {
            cpuid::with_tsc_deadline(&mut cpuid);
        }
        Ok(cpuid)
    }

    /// The model-specific registers that can be saved on this host (`KVM_GET_MSR_INDEX_LIST`).
    pub fn msr_indices(&self) -> Result<Vec<u32>> {
        let list = self
            .fd
            .get_msr_index_list()
            .map_err(host(Step::Get("KVM's list of model-specific registers")))?;
        Ok(list.as_slice().to_vec())
    }
}
