//! The registers of a vCPU apart from its run: CPUID and model-specific registers before it, and what is read afterwards,
//! guest memory at linear addresses included.
//!
//! Sources: KVM API document, the sections of the ioctls named at each method.

use super::{Vcpu, host};
use crate::error::{Result, Step};
use crate::x86::Registers;
use crate::x86::mode::RFLAGS_IF;
use crate::x86::page_table::{Paging, TABLE_SIZE};
use kvm_bindings::{
    CpuId, KVM_MAX_MSR_ENTRIES, KVM_MP_STATE_HALTED, KVM_MP_STATE_INIT_RECEIVED, KVM_MP_STATE_UNINITIALIZED,
    Msrs, kvm_msr_entry, kvm_regs, kvm_sregs,
};
use kvm_ioctls::SyncReg;
use vm_memory::{Bytes, GuestAddress};

impl Vcpu {
    /// Decides what the CPUID instruction shows (`KVM_SET_CPUID2`). Without it, every leaf is zero.
    pub fn set_cpuid(&self, cpuid: &CpuId) -> Result<()> {
        self.fd.set_cpuid2(cpuid).map_err(host(Step::Set("the vCPU's CPUID")))?;
        let _ = self.cpuid.set(cpuid.clone());
        Ok(())
    }

    /// Sets model-specific registers, as far as this processor has them (`KVM_SET_MSRS`).
    pub fn set_msrs(&self, msrs: &[(u32, u64)]) -> Result<()> {
        let entries = msrs.iter().map(|&(index, data)| kvm_msr_entry { index, data, ..Default::default() });
        let entries: Vec<_> = entries.collect();
        // As many as possible in one call: a call costs as much as ten registers.
        let mut rest = &entries[..];
        while !rest.is_empty() {
            let some = &rest[..rest.len().min(KVM_MAX_MSR_ENTRIES)];
            let list = Msrs::from_entries(some).expect("no more than fit a list");
            let set =
                self.fd.set_msrs(&list).map_err(host(Step::Set("the vCPU's model-specific registers")))?;
            // KVM stops at a register that this processor does not have, and returns how many it set before.
            let done = if set < some.len() { set + 1 } else { set };
            rest = &rest[done..];
        }
        Ok(())
    }

    /// All registers (`KVM_GET_REGS`, `KVM_GET_SREGS`).
    pub fn registers(&self) -> Result<Registers> {
        Ok(Registers {
            general: self.fd.get_regs().map_err(host(Step::Get("the vCPU's registers")))?,
            system: self.fd.get_sregs().map_err(host(Step::Get("the vCPU's system registers")))?,
        })
    }

    /// The general registers, if only another processor can wake this one: it halted with interrupts off, or still
    /// waits for its SIPI (`KVM_GET_MP_STATE`).
    pub fn halted_for_good(&mut self) -> Result<Option<kvm_regs>> {
        let state = self.fd.get_mp_state().map_err(host(Step::Get("the vCPU's state")))?.mp_state;
        let regs = self.fd.sync_regs_mut().regs;
        let is_halted = match state {
            KVM_MP_STATE_UNINITIALIZED | KVM_MP_STATE_INIT_RECEIVED => true,
            KVM_MP_STATE_HALTED => regs.rflags & RFLAGS_IF == 0,
            _ => false,
        };
        Ok(is_halted.then_some(regs))
    }

    /// The system registers: from the shared page where KVM still puts them there at each exit, else by
    /// `KVM_GET_SREGS`. An ioctl on a vCPU can cost as much as an exit.
    pub(super) fn system_registers(&mut self) -> Option<kvm_sregs> {
        let synced = self.fd.get_kvm_run().kvm_valid_regs & SyncReg::SystemRegister as u64 != 0;
        if synced { Some(self.fd.sync_regs_mut().sregs) } else { self.fd.get_sregs().ok() }
    }

    /// Reads guest memory at a linear address through the guest's own page tables, whoever may read it. `None` when
    /// it is not mapped, not memory, or runs over the end of its page.
    pub fn read_linear(&self, linear: u64, data: &mut [u8]) -> Option<()> {
        self.read_as(&self.fd.get_sregs().ok()?, linear, data)
    }

    /// The same for a guest whose system registers are known.
    pub(super) fn read_as(&self, sregs: &kvm_sregs, linear: u64, data: &mut [u8]) -> Option<()> {
        if linear % TABLE_SIZE + data.len() as u64 > TABLE_SIZE {
            return None;
        }
        let physical = Paging::of(sregs).translate(&self.memory, linear)?;
        self.memory.read_slice(data, GuestAddress(physical)).ok()
    }
}
