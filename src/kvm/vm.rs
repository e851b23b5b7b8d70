//! From /dev/kvm to a virtual machine: an address space, interrupt delivery, the right to create vCPUs.
//!
//! One method is one ioctl, so that the caller's order is the order in which KVM sees them.

use super::{Memory, Vcpu, host, memory};
use crate::error::{Error, Result, Step};
use crate::x86::ports;
use kvm_bindings::{KVM_API_VERSION, KVM_CAP_SPLIT_IRQCHIP};
use kvm_bindings::{kvm_enable_cap, kvm_msi, kvm_userspace_memory_region};
use kvm_ioctls::{Cap, SyncReg, VmFd};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use vm_memory::{Address, GuestMemoryBackend, GuestMemoryRegion};
use vmm_sys_util::ioctl::ioctl_with_ref;

/// Why a KVM of this API version, which shares the register sets of `synced`, cannot be used.
///
/// Its kind says which: what is no KVM is `InvalidInput`, what is an old one `Unsupported`.
fn unfit(version: i32, synced: impl FnOnce() -> i32) -> Option<io::Error> {
    const NEEDED: i32 = SyncReg::Register as i32 | SyncReg::SystemRegister as i32;
    if version != KVM_API_VERSION as i32 {
        return Some(io::Error::new(io::ErrorKind::InvalidInput, "its API version is not 12"));
    }
    let is_old = synced() & NEEDED != NEEDED;
    is_old.then(|| io::Error::new(io::ErrorKind::Unsupported, "it lacks KVM_CAP_SYNC_REGS"))
}

/// An open /dev/kvm.
pub struct Kvm {
    pub(super) fd: kvm_ioctls::Kvm,
}

impl Kvm {
    /// Opens /dev/kvm and checks that it speaks the one stable API (`KVM_GET_API_VERSION`) and shares registers
    /// (`KVM_CAP_SYNC_REGS`): one that does not would start a guest at the reset vector without a word.
    pub fn open() -> Result<Kvm> {
        let fd = kvm_ioctls::Kvm::new().map_err(host(Step::OpenKvm))?;
        // The second question only if the version is right: a device that is not KVM may not know it.
        let version = fd.get_api_version();
        let synced = || fd.check_extension_int(Cap::SyncRegs);
        match unfit(version, synced) {
            None => Ok(Kvm { fd }),
            Some(source) => Err(Error::Host { step: Step::UseKvm, source }),
        }
    }

    /// Creates a machine without memory, vCPUs or interrupt controllers (`KVM_CREATE_VM`).
    pub fn create_vm(&self) -> Result<Vm> {
        loop {
            match self.fd.create_vm() {
                // A signal came meanwhile, and KVM has given up. Its handler has run by now: try again.
                Err(error) if error.errno() == libc::EINTR => {}
                created => {
                    let fd = created.map_err(host(Step::CreateVm))?;
                    return Ok(Vm { fd, memory: Memory::new() });
                }
            }
        }
    }

    /// How many vCPUs one machine may have on this host (`KVM_CAP_MAX_VCPUS`).
    pub fn max_vcpus(&self) -> u32 {
        self.fd.get_max_vcpus() as u32
    }
}

/// One virtual machine. Dropping it and its [`Vcpu`]s gives everything back to the host.
pub struct Vm {
    // Declared first, dropped first: KVM lets go of the pages before they are unmapped.
    pub(super) fd: VmFd,
    memory: Memory,
}

impl Vm {
    /// Gives each later vCPU a local APIC in the kernel and leaves the IOAPIC to us
    /// (`KVM_CAP_SPLIT_IRQCHIP`).
    ///
    /// HLT then waits inside KVM, and devices interrupt by message: [`Vm::signal_msi`]. Call it before
    /// [`Vm::add_memory`]: an interrupt controller that comes later costs milliseconds on some kernels.
    pub fn enable_local_apics(&self) -> Result<()> {
        // The redirection entries of the IOAPIC that is left to userspace.
        let args = [ports::IOAPIC_PINS.into(), 0, 0, 0];
        let cap = kvm_enable_cap { cap: KVM_CAP_SPLIT_IRQCHIP, args, ..Default::default() };
        self.fd.enable_cap(&cap).map_err(host(Step::LocalApics))
    }

    /// Maps `bytes` of guest memory (a multiple of 4 KiB) from address 0 on, around the hole for devices
    /// (`KVM_SET_USER_MEMORY_REGION`). It can be called once.
    pub fn add_memory(&mut self, bytes: u64) -> Result<&Memory> {
        self.use_memory(memory::allocate(bytes)?)
    }

    /// The same with memory that is mapped already, as by [`map_file`](super::map_file).
    pub fn use_memory(&mut self, memory: Memory) -> Result<&Memory> {
        if self.memory.num_regions() != 0 {
            return Err(Error::Misuse("this VM has its memory already".into()));
        }
        self.memory = memory;
        for (slot, region) in self.memory.iter().enumerate() {
            let slot = kvm_userspace_memory_region {
                slot: slot as u32,
                flags: 0,
                guest_phys_addr: region.start_addr().raw_value(),
                memory_size: region.len(),
                userspace_addr: region.as_ptr() as u64,
            };
            // SAFETY: the region is a mapping that `self.memory` owns; it is not replaced (see above) and not
            // unmapped while `self.fd` is open, as fields are dropped in the order of their declaration.
            unsafe { self.fd.set_user_memory_region(slot) }.map_err(host(Step::AddMemory))?;
        }
        Ok(&self.memory)
    }

    /// The guest's memory.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Creates vCPU `index`, in the state of a processor after reset (`KVM_CREATE_VCPU`).
    ///
    /// Number 0 is the boot processor. With local APICs the others wait for an INIT and a SIPI.
    pub fn create_vcpu(&self, index: u32) -> Result<Vcpu> {
        let fd = self.fd.create_vcpu(index.into()).map_err(host(Step::CreateVcpu))?;
        Ok(Vcpu::new(fd, self.memory.clone()))
    }

    /// What delivers interrupts from another thread.
    ///
    /// # Errors
    /// When this process has too many open files.
    pub fn messenger(&self) -> Result<Messenger> {
        // SAFETY: the VM's descriptor is open while it is borrowed here.
        let fd = unsafe { BorrowedFd::borrow_raw(self.fd.as_raw_fd()) };
        fd.try_clone_to_owned().map(Messenger).map_err(host(Step::SignalMsi))
    }

    /// Delivers a message-signalled interrupt: `data` as a device would write it to `address`
    /// (`KVM_SIGNAL_MSI`; SDM volume 3A, section 11.11).
    pub fn signal_msi(&self, address: u64, data: u32) -> Result<()> {
        match self.fd.signal_msi(message(address, data)) {
            // If no processor takes it, that is the guest's choice and no error. KVM returns 0 if the processor's APIC
            // is off, and -1, which libc takes for EPERM, if there is no such processor.
            Ok(_) => Ok(()),
            Err(error) if error.errno() == libc::EPERM => Ok(()),
            Err(error) => Err(host(Step::SignalMsi)(error)),
        }
    }
}

fn message(address: u64, data: u32) -> kvm_msi {
    let (address_lo, address_hi) = (address as u32, (address >> 32) as u32);
    kvm_msi { address_lo, address_hi, data, ..Default::default() }
}

/// Delivers interrupts to a [`Vm`] from a thread that has nothing else of it. The VM stays as long as this does.
pub struct Messenger(OwnedFd);

impl Messenger {
    /// Delivers a message, as [`Vm::signal_msi`] does. What cannot be delivered is lost, as it is where a processor's local
    /// APIC is off.
    pub fn send(&self, address: u64, data: u32) {
        let message = message(address, data);
        // SAFETY: KVM_SIGNAL_MSI reads a `kvm_msi`, which is what it is given; the descriptor is a VM's.
        unsafe { ioctl_with_ref(&self.0, KVM_SIGNAL_MSI(), &message) };
    }
}

vmm_sys_util::ioctl_iow_nr!(KVM_SIGNAL_MSI, kvm_bindings::KVMIO, 0xa5, kvm_msi);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kvm_that_lacks_something_is_named_with_what_it_lacks() {
        let why = |found: Option<io::Error>| found.map(|why| (why.kind(), why.to_string()));
        assert_eq!(why(unfit(12, || 7)), None);
        assert_eq!(why(unfit(12, || 3)), None);
        for synced in [0, 1, 2, 4] {
            let old = (io::ErrorKind::Unsupported, "it lacks KVM_CAP_SYNC_REGS".into());
            assert_eq!(why(unfit(12, || synced)), Some(old));
        }
        let other = (io::ErrorKind::InvalidInput, "its API version is not 12".into());
        assert_eq!(why(unfit(-1, || unreachable!())), Some(other));
    }
}
