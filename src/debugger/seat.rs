//! One vCPU of a guest that is debugged, on its own thread: it stops when the guest stops, and says where it is.

use super::error::Result;
use super::guest::{Action, Guest, StopReason, tid};
use super::listener::PATIENCE;
use super::{DebuggerError, lock};
use crate::kvm::{Exit, StopPoint, Vcpu};
use crate::sys::Thread;
use crate::timeline::Companion;
use std::ops::ControlFlow;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

/// What the vCPUs of a guest and the session share.
pub(super) struct Shared {
    pub guest: Mutex<Guest>,
    /// Told when the guest goes on.
    pub goes_on: Condvar,
    /// Whether somebody wants the process to end.
    pub is_over: fn() -> bool,
    /// What went wrong on a vCPU.
    pub failure: Mutex<Option<DebuggerError>>,
}

impl Shared {
    /// Waits a moment for the guest to go on.
    pub fn wait_a_moment(&self, guest: MutexGuard<'_, Guest>) {
        drop(self.goes_on.wait_timeout(guest, PATIENCE));
    }

    /// Ends the debugging: nobody is to wait any more.
    pub fn give_up(&self) {
        lock(&self.guest).is_over = true;
        self.goes_on.notify_all();
    }
}

/// A vCPU's part in it.
pub(super) struct Seat {
    pub index: usize,
    /// Where the vCPU stood at its last exit.
    pub stopped_at: StopPoint,
    /// Whether it stops after each instruction.
    is_stepping: bool,
    /// Whether an access is being completed, by going to KVM without the guest.
    is_completing: bool,
    /// Linear RIP when the vCPU last went into the guest, or stopped.
    entered_at: u64,
}

impl Seat {
    pub fn new(index: usize) -> Seat {
        let stopped_at = StopPoint::BeforeInstruction;
        Seat { index, stopped_at, is_stepping: false, is_completing: false, entered_at: 0 }
    }

    /// Looks where the vCPU is now, and stops the guest if that is a reason to. `false`: it has to go to KVM first,
    /// without the guest.
    pub fn arrive(&mut self, vcpu: &mut Vcpu, guest: &mut Guest) -> Result<bool> {
        if guest.is_detached {
            return Ok(true);
        }
        // What it left the guest for is completed before anyone looks at its registers.
        if self.stopped_at == StopPoint::WithinInstruction && (self.is_stepping || guest.is_stopped) {
            self.is_completing = true;
            self.stopped_at = StopPoint::BeforeInstruction;
            return Ok(false);
        }
        let has_completed = std::mem::take(&mut self.is_completing);
        let stopped_at = match std::mem::replace(&mut self.stopped_at, StopPoint::BeforeInstruction) {
            StopPoint::BeforeInstruction if has_completed => StopPoint::AfterInstruction,
            stopped_at => stopped_at,
        };
        let is_watched = self.is_stepping && !guest.is_stopped;
        if is_watched || stopped_at == StopPoint::Down {
            let registers = vcpu.registers_at_exit()?;
            // An interrupt, and the SIPI that starts a processor, move RIP without an instruction.
            if stopped_at == StopPoint::BeforeInstruction && registers.linear_rip() == self.entered_at {
                return Ok(true);
            }
            if let Some(cpu) = guest.cpus.get_mut(self.index) {
                cpu.registers = registers;
            }
            if let Some(reason) = guest.why(self.index, stopped_at) {
                guest.stop_all(reason);
            }
        }
        guest.has_crashed |= stopped_at == StopPoint::Down;
        Ok(true)
    }

    /// Lets the vCPU go on if it may: then `true`. If not, its registers are left for the session.
    pub fn go_on(&mut self, vcpu: &mut Vcpu, guest: &mut Guest) -> Result<bool> {
        if !guest.may_run(self.index) {
            self.park(vcpu, guest)?;
            return Ok(false);
        }
        let is_at_breakpoint = guest.is_at_breakpoint(self.index);
        let wants_steps = guest.wants_steps(self.index);
        let action = guest.action(self.index);
        let Some(cpu) = guest.cpus.get_mut(self.index) else { return Ok(true) };
        let was_parked = std::mem::take(&mut cpu.is_parked);
        let was_set = std::mem::take(&mut cpu.is_changed);
        if was_set {
            vcpu.set_general(&cpu.registers.general)?;
        }
        if was_parked && is_at_breakpoint && action == Action::Continue && !guest.is_detached {
            // As if INT3 stood there: gdb steps over a breakpoint before it continues.
            guest.stop_all(StopReason::SwBreak(tid(self.index)));
            self.park(vcpu, guest)?;
            return Ok(false);
        }
        if wants_steps && (was_set || !self.is_stepping) {
            vcpu.run_empty();
        }
        if wants_steps || self.is_stepping {
            vcpu.single_step(wants_steps)?;
        }
        self.is_stepping = wants_steps;
        if wants_steps {
            self.entered_at = vcpu.registers_at_exit()?.linear_rip();
        }
        Ok(true)
    }

    /// Leaves the vCPU's registers for the session, unless they are there.
    pub fn park(&mut self, vcpu: &mut Vcpu, guest: &mut Guest) -> Result<()> {
        if let Some(cpu) = guest.cpus.get_mut(self.index).filter(|cpu| !cpu.is_parked) {
            (cpu.registers, cpu.fpu) = (vcpu.registers_at_exit()?, vcpu.fpu()?);
            cpu.is_parked = true;
            self.entered_at = cpu.registers.linear_rip();
        }
        Ok(())
    }

    /// The session may kick this thread now.
    pub fn take(&self, guest: &mut Guest) {
        if let Some(cpu) = guest.cpus.get_mut(self.index).filter(|cpu| cpu.thread.is_none()) {
            cpu.thread = Some(Thread::current());
        }
    }

    /// The vCPU will not run any more.
    pub fn leave(&self, guest: &mut Guest) {
        if let Some(cpu) = guest.cpus.get_mut(self.index) {
            (cpu.has_ended, cpu.thread) = (true, None);
        }
    }
}

/// What stops and lets go a vCPU that does not talk to the client: all but the first.
pub(super) struct Passenger {
    pub seat: Seat,
    pub shared: Arc<Shared>,
}

impl Passenger {
    /// Whether the vCPU may go into the guest.
    fn attend(&mut self, vcpu: &mut Vcpu) -> Result<bool> {
        let shared = &self.shared;
        let mut guest = lock(&shared.guest);
        self.seat.take(&mut guest);
        if !self.seat.arrive(vcpu, &mut guest)? {
            return Ok(false);
        }
        let goes = self.seat.go_on(vcpu, &mut guest)?;
        if !goes {
            shared.wait_a_moment(guest);
        }
        Ok(goes)
    }

    fn is_over(&self) -> bool {
        (self.shared.is_over)() || lock(&self.shared.guest).is_over
    }

    fn fail(&self, failure: DebuggerError) {
        lock(&self.shared.failure).get_or_insert(failure);
        self.shared.give_up();
    }
}

impl Companion for Passenger {
    fn enter(&mut self, vcpu: &mut Vcpu) -> ControlFlow<()> {
        match self.attend(vcpu) {
            Ok(true) => {}
            Ok(false) => vcpu.skip_next_run(),
            Err(failure) => {
                self.fail(failure);
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }

    fn exit(&mut self, exit: &Exit<'_>) {
        self.seat.stopped_at = exit.stop_point();
    }

    /// A vCPU that has crashed waits until the client has looked at it.
    fn left(&mut self, vcpu: &mut Vcpu) {
        if self.seat.stopped_at == StopPoint::Down {
            loop {
                match self.attend(vcpu) {
                    Ok(false) if !self.is_over() => {}
                    Ok(_) => break,
                    Err(failure) => {
                        self.fail(failure);
                        break;
                    }
                }
            }
        }
        self.seat.leave(&mut lock(&self.shared.guest));
    }
}
