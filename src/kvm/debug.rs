//! What debuggers and traces need of a vCPU: its registers, its memory, and to stop after an instruction.
//!
//! Not on the path of an ordinary run. Source: KVM API document, section 4.87 `KVM_SET_GUEST_DEBUG`.

use super::{Exit, Memory, Vcpu, host};
use crate::error::{Error, Result, Step};
use crate::x86::Registers;
use kvm_bindings::{KVM_GUESTDBG_ENABLE, KVM_GUESTDBG_SINGLESTEP, kvm_fpu, kvm_guest_debug, kvm_regs};

/// Where a guest that has left stands among its instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopPoint {
    /// After one, because [`Vcpu::single_step`] asked for it.
    AfterInstruction,
    /// Within one, which KVM completes the next time it is called: [`Vcpu::run_empty`].
    WithinInstruction,
    /// Before one. It has left for a reason that has nothing to do with its instructions, such as a signal.
    BeforeInstruction,
    /// It has crashed, and does not go on.
    Down,
}

impl Exit<'_> {
    /// Where this exit leaves the guest.
    pub fn stop_point(&self) -> StopPoint {
        match self {
            Exit::Debug => StopPoint::AfterInstruction,
            Exit::Out { .. } | Exit::In { .. } | Exit::MmioRead { .. } | Exit::MmioWrite { .. } => {
                StopPoint::WithinInstruction
            }
            Exit::Shutdown | Exit::Failed { .. } => StopPoint::Down,
            Exit::Halt | Exit::Eoi { .. } | Exit::Interrupted => StopPoint::BeforeInstruction,
        }
    }
}

impl Vcpu {
    /// The general registers as they were at the last exit.
    pub fn general(&mut self) -> kvm_regs {
        self.fd.sync_regs_mut().regs
    }

    /// All registers as they were at the last exit, without an ioctl where KVM shares them.
    pub fn registers_at_exit(&mut self) -> Result<Registers> {
        let missing = || Error::Host {
            step: Step::Get("the vCPU's registers"),
            source: std::io::Error::last_os_error(),
        };
        let system = self.system_registers().ok_or_else(missing)?;
        Ok(Registers { general: self.general(), system })
    }

    /// Sets the general registers (`KVM_SET_REGS`).
    pub fn set_general(&mut self, registers: &kvm_regs) -> Result<()> {
        self.fd.sync_regs_mut().regs = *registers;
        self.fd.set_regs(registers).map_err(host(Step::Set("the vCPU's registers")))
    }

    /// The registers of x87 and SSE (`KVM_GET_FPU`).
    pub fn fpu(&self) -> Result<kvm_fpu> {
        self.fd.get_fpu().map_err(host(Step::Get("the vCPU's floating-point registers")))
    }

    /// Makes the next [`Vcpu::run`] come back at once, as if a signal had come.
    pub fn skip_next_run(&mut self) {
        self.fd.set_kvm_immediate_exit(1);
    }

    /// Makes the guest stop after its next instruction (`KVM_SET_GUEST_DEBUG`), or no longer.
    ///
    /// Call it before every instruction. KVM stops the guest by RFLAGS.TF, and clears that flag when its emulator has
    /// executed an instruction and when registers are set. Registers that wait in the shared page are set by the next
    /// `KVM_RUN`, so call [`Vcpu::run_empty`] first.
    pub fn single_step(&mut self, on: bool) -> Result<()> {
        let control = if on { KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP } else { 0 };
        let debug = kvm_guest_debug { control, ..Default::default() };
        self.fd.set_guest_debug(&debug).map_err(host(Step::SingleStep))
    }

    /// The guest's memory.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Runs KVM but not the guest (`immediate_exit`): that completes an access, and sets registers that wait in the
    /// shared page.
    pub fn run_empty(&mut self) {
        self.fd.set_kvm_immediate_exit(1);
        // It returns EINTR, as was asked for.
        let _ = self.fd.run();
        self.fd.set_kvm_immediate_exit(0);
    }

    /// Copies guest memory from a linear address on, until an address is not mapped to memory, and returns how many
    /// bytes were copied. `registers` are those of [`Vcpu::registers_at_exit`].
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
