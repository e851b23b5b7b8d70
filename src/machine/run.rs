//! One run of a machine: the loop around `KVM_RUN`, on a thread for each vCPU.
//!
//! ```text
//!        ┌────────────────────────────────────────────┐
//!        ▼                                            │
//!     KVM_RUN ─▶ Exit ─▶ Board ─▶ Action ─▶ upkeep ───┤ Continue
//!                                                     ▼ else
//!                                                  Outcome
//! ```
//!
//! The first vCPU runs on the caller's thread. What is done for a guest beside answering it is in upkeep.rs.

use super::crash::Log;
use super::upkeep::Upkeep;
use super::{Crash, Outcome, Shared, firmware, lock};
use crate::device::Action;
use crate::error::{Error, Result, Step};
use crate::kvm::{Exit, Vcpu, kick_this_thread};
use crate::sandbox::Role;
use crate::sys;
use crate::timeline::{Phase, Probe};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Runs all vCPUs until the guest ends or somebody stops it.
pub(super) fn run<P: Probe>(shared: &Shared, vcpus: &mut [Vcpu], probe: &mut P) -> Result<Outcome> {
    sys::on_kick(kick_this_thread).map_err(|source| Error::Host { step: Step::Signals, source })?;
    let (first, others) = vcpus.split_at_mut(1);
    let upkeep = Upkeep::new(shared.timeout, others.len())?;
    let run = Run { shared, upkeep, ended: AtomicBool::new(false), ending: Mutex::new(None) };
    thread::scope(|scope| {
        let run = &run;
        let spawned = others.iter_mut().zip(1..).try_for_each(|(vcpu, index)| {
            let body = move || {
                sys::block_signals();
                match run.shared.sandbox.limit(Role::OtherVcpu) {
                    Ok(()) => run.run_vcpu(index, vcpu, &mut ()),
                    Err(error) => run.end(Err(error)),
                }
            };
            thread::Builder::new().spawn_scoped(scope, body).map(drop)
        });
        let spawned = spawned.map_err(|source| Error::Host { step: Step::StartThread, source });
        match spawned.and_then(|()| run.shared.sandbox.limit(Role::FirstVcpu)) {
            Ok(()) => {
                probe.mark(Phase::Confine);
                run.run_vcpu(0, &mut first[0], probe);
            }
            Err(error) => run.end(Err(error)),
        }
    });
    run.finish()?;
    probe.mark(Phase::Guest);
    lock(&run.ending).take().unwrap_or(Ok(Outcome::Stopped))
}

/// What the threads of one run share while it lasts.
pub(super) struct Run<'a> {
    pub shared: &'a Shared,
    pub upkeep: Upkeep,
    /// Set once `ending` is decided, for the vCPUs that still run.
    ended: AtomicBool,
    ending: Mutex<Option<Result<Outcome>>>,
}

impl Run<'_> {
    /// Runs one vCPU. The first one to end decides how the machine ends, and stops the others.
    fn run_vcpu<P: Probe>(&self, index: usize, vcpu: &mut Vcpu, probe: &mut P) {
        let remote = &self.shared.remote;
        let result = vcpu.accept_kicks(|vcpu| {
            remote.enter();
            let result = self.vcpu_loop(index, vcpu, probe);
            probe.left(vcpu);
            remote.leave();
            result
        });
        self.end(result);
    }

    /// Decides how the machine ends, unless that is decided.
    fn end(&self, result: Result<Outcome>) {
        let mut ending = lock(&self.ending);
        // What a vCPU has come to while another one was stopped is not to be lost.
        let is_worth_more =
            matches!(&*ending, Some(Ok(Outcome::Stopped))) && !matches!(&result, Ok(Outcome::Stopped));
        if ending.is_none() || is_worth_more {
            *ending = Some(result);
            self.ended.store(true, Ordering::SeqCst);
            self.shared.remote.kick();
        }
    }

    /// Someone stopped the machine, or another vCPU has ended it.
    pub fn is_over(&self) -> bool {
        self.shared.remote.is_asked() || self.ended.load(Ordering::SeqCst)
    }

    /// The loop around `KVM_RUN`.
    fn vcpu_loop<P: Probe>(&self, index: usize, vcpu: &mut Vcpu, probe: &mut P) -> Result<Outcome> {
        let mut log = Log::default();
        if self.is_over() {
            return Ok(Outcome::Stopped);
        }
        loop {
            if probe.enter(vcpu).is_break() {
                return Ok(Outcome::Stopped);
            }
            log.entered_at = vcpu.rip();
            let mut exit = vcpu.run()?;
            probe.exit(&exit);
            log.push(&exit);
            let what = match exit {
                Exit::Interrupted => match self.look_around(index, vcpu, probe)? {
                    Some(outcome) => return Ok(outcome),
                    None => continue,
                },
                // Who asked for it, a debugger, looks at it before the guest goes on.
                Exit::Debug => continue,
                Exit::Halt => return Ok(Outcome::Halted),
                Exit::Shutdown => "triple fault".into(),
                Exit::Failed { why, code } => format!("{why} ({code:#x})"),
                ref mut access => {
                    let mut board = lock(&self.shared.board);
                    let action = board.serve(access);
                    probe.served(access, || board.device_of(access));
                    drop(board);
                    let is_too_much = self.after_access(index, vcpu, probe)?;
                    match action {
                        Action::Continue if is_too_much => return Ok(Outcome::TooMuchOutput),
                        Action::Continue => continue,
                        Action::Exit(status) => return Ok(Outcome::Exited(status)),
                        Action::Reset => return Ok(firmware::kind_of_reset(self.shared.vm.memory())),
                        Action::Stop => return Ok(Outcome::Stopped),
                        Action::PowerOff => return Ok(Outcome::PoweredOff),
                    }
                }
            };
            return Ok(Outcome::Crashed(Box::new(Crash::examine(what, index, vcpu, &log))));
        }
    }
}
