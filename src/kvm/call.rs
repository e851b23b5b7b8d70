//! What we ask Linux for on behalf of a guest, as data for whoever watches: each call is a method of this room.

/// A call to the host, with its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// [`Kvm::open`](super::Kvm::open)
    Open,
    /// [`Kvm::create_vm`](super::Kvm::create_vm)
    CreateVm,
    /// [`Vm::enable_local_apics`](super::Vm::enable_local_apics)
    LocalApics,
    /// [`Vm::add_memory`](super::Vm::add_memory)
    AddMemory {
        /// The guest's memory.
        bytes: u64,
    },
    /// [`Vm::create_vcpu`](super::Vm::create_vcpu)
    CreateVcpu {
        /// Its number.
        index: u32,
    },
    /// [`Kvm::supported_cpuid`](super::Kvm::supported_cpuid)
    SupportedCpuid,
    /// [`Vcpu::set_cpuid`](super::Vcpu::set_cpuid)
    SetCpuid {
        /// The vCPU's number.
        index: usize,
        /// Leaves and subleaves of the table.
        entries: usize,
    },
    /// [`Vcpu::set_msrs`](super::Vcpu::set_msrs)
    SetMsrs {
        /// The vCPU's number.
        index: usize,
        /// Numbers and values.
        msrs: &'static [(u32, u64)],
    },
    /// [`Vcpu::halted_for_good`](super::Vcpu::halted_for_good)
    MpState {
        /// The vCPU's number.
        index: usize,
    },
    /// [`Vm::signal_msi`](super::Vm::signal_msi)
    SignalMsi {
        /// Where a device would write.
        address: u64,
        /// What it would write.
        data: u32,
    },
    /// [`Vm::coalesce_writes`](super::Vm::coalesce_writes)
    CoalesceWrites {
        /// Whose writes.
        port: u16,
    },
    /// Clock and vCPUs of a machine that goes on from a golden image.
    Restore,
    /// The end of a [`Vm`](super::Vm) and its vCPUs.
    Close,
}
