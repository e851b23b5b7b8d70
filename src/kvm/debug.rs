//! A virtual processor under observation: its registers and memory, one instruction at a time.
//!
//! Not on the path of an ordinary run. Source: KVM API document, section 4.87 `KVM_SET_GUEST_DEBUG`.

use super::{Memory, Registers, Vcpu, host};
use crate::error::{Error, Result};
use kvm_bindings::{KVM_GUESTDBG_ENABLE, KVM_GUESTDBG_SINGLESTEP, kvm_guest_debug, kvm_regs};

impl Vcpu {
    /// The general registers as they were at the last exit.
    pub fn general(&mut self) -> kvm_regs {
        self.fd.sync_regs_mut().regs
    }

    /// All registers as they were at the last exit, without an ioctl where KVM shares them.
    pub fn registers_at_exit(&mut self) -> Result<Registers> {
        let missing =
            || Error::Host { what: "read the vCPU's registers", source: std::io::Error::last_os_error() };
        let system = self.system_registers().ok_or_else(missing)?;
        Ok(Registers { general: self.general(), system })
    }

    /// Has the guest stop after each instruction (`KVM_SET_GUEST_DEBUG`), or no longer.
    pub fn single_step(&mut self, on: bool) -> Result<()> {
        let control = if on { KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP } else { 0 };
        let debug = kvm_guest_debug { control, ..Default::default() };
        self.fd.set_guest_debug(&debug).map_err(host("step through the guest (KVM_SET_GUEST_DEBUG)"))
    }

    /// The guest's memory.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Goes to KVM and back, without the guest: completes the last access, if it was one.
    pub fn run_empty(&mut self) {
        self.fd.set_kvm_immediate_exit(1);
        // It ends with EINTR, which is what was asked for.
        let _ = self.fd.run();
        self.fd.set_kvm_immediate_exit(0);
    }

    /// Copies guest memory from a linear address on, as far as the guest's page tables lead to memory, and
    /// returns how many bytes that were. Takes the system registers of [`Vcpu::registers_at_exit`].
    pub fn peek(&self, registers: &Registers, linear: u64, data: &mut [u8]) -> usize {
        let mut done = 0;
        while done < data.len() {
            let at = linear.wrapping_add(done as u64);
            let len = (data.len() - done).min(0x1000 - (at & 0xfff) as usize);
            if self.read_as(&registers.system, at, &mut data[done..done + len]).is_none() {
                break;
            }
            done += len;
        }
        done
    }
}
