//! A call to the host in words: which system calls it makes, and what their arguments mean.

use crate::kvm::Call;
use crate::x86::ports::IOAPIC_PINS;
use std::fmt;

impl Call {
    /// The system calls it makes, in their order.
    pub fn name(&self) -> &'static str {
        match self {
            Call::Open => "open, KVM_GET_API_VERSION, KVM_CHECK_EXTENSION",
            Call::CreateVm => "KVM_CREATE_VM, KVM_GET_VCPU_MMAP_SIZE",
            Call::LocalApics => "KVM_ENABLE_CAP",
            Call::AddMemory { .. } => "mmap, KVM_SET_USER_MEMORY_REGION",
            Call::CreateVcpu { .. } => "KVM_CREATE_VCPU, mmap",
            Call::SupportedCpuid => "KVM_GET_SUPPORTED_CPUID, KVM_CHECK_EXTENSION",
            Call::SetCpuid { .. } => "KVM_SET_CPUID2",
            Call::SetMsrs { .. } => "KVM_SET_MSRS",
            Call::MpState { .. } => "KVM_GET_MP_STATE",
            Call::SignalMsi { .. } => "KVM_SIGNAL_MSI",
            Call::CoalesceWrites { .. } => "mmap, KVM_REGISTER_COALESCED_MMIO",
            Call::Restore => "KVM_SET_* for what differs",
            Call::Close => "close, munmap",
        }
    }
}

/// The arguments in words.
impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Call::Open => {
                f.write_str("/dev/kvm: does it speak API 12 and share registers (KVM_CAP_SYNC_REGS)?")
            }
            Call::CreateVm => f.write_str("a machine of the ordinary type: no memory, no processor yet"),
            Call::LocalApics => {
                write!(f, "KVM_CAP_SPLIT_IRQCHIP, {IOAPIC_PINS} pins: local APICs in KVM, the IOAPIC is ours")
            }
            Call::AddMemory { bytes } => {
                write!(f, "{} KiB of our own pages are the guest's memory, from address 0 on", bytes >> 10)
            }
            Call::CreateVcpu { index } => {
                write!(f, "vCPU {index}, and the page through which KVM and we speak of it")
            }
            Call::SupportedCpuid => {
                f.write_str("what may CPUID show, and is there KVM_CAP_TSC_DEADLINE_TIMER?")
            }
            Call::SetCpuid { index, entries } => write!(f, "vCPU {index}: CPUID shows {entries} entries"),
            Call::SetMsrs { index, msrs } => {
                write!(f, "vCPU {index}:")?;
                msrs.iter().try_for_each(|(number, value)| write!(f, " MSR {number:#x} = {value:#x}"))
            }
            Call::CoalesceWrites { port } => {
                write!(f, "KVM keeps what goes to port {port:#x} until the next exit")
            }
            Call::Restore => f.write_str("the clock and each processor, as its golden image has it"),
            Call::Close => f.write_str("processors, machine and memory are given back"),
            Call::MpState { index } => write!(f, "is vCPU {index} halted for good?"),
            Call::SignalMsi { address, data } => {
                write!(f, "interrupt vector {:#x} for APIC {:#x}", data & 0xff, address >> 12 & 0xff)
            }
        }
    }
}
