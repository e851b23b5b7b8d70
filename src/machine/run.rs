//! One run of a machine: a thread for each vCPU, and what comes of it.
//!
//! The first vCPU runs on the caller's thread. The loop is in vcpu_loop.rs, what is done beside it in upkeep.rs.

use super::crash::Log;
use super::upkeep::Run;
use super::vcpu_loop::{End, vcpu_loop};
use super::{Crash, Outcome, Shared, firmware, lock};
use crate::device::Action;
use crate::error::{Error, Result, Step};
use crate::kvm::{Call, Exit, Vcpu, kick_this_thread};
use crate::sandbox::Role;
use crate::sys;
use crate::timeline::{Phase, Probe};
use std::ops::ControlFlow;
use std::thread;

/// Runs all vCPUs until the guest ends or somebody stops it.
pub(super) fn run<P: Probe>(shared: &Shared, vcpus: &mut [Vcpu], probe: &mut P) -> Result<Outcome> {
    sys::on_kick(kick_this_thread).map_err(|source| Error::Host { step: Step::Signals, source })?;
    let (first, others) = vcpus.split_at_mut(1);
    let run = Run::new(shared, others.len())?;
    let gate = shared.remote.gate();
    let own = gate.expect(shared.sandbox);
    thread::scope(|scope| {
        let run = &run;
        let spawned = others.iter_mut().zip(1..).try_for_each(|(vcpu, index)| {
            let awaited = gate.expect(shared.sandbox);
            let companion = probe.companion(index);
            let body = move || {
                sys::block_signals();
                if !awaited.confine(Role::OtherVcpu) || !gate.wait() {
                    return;
                }
                match companion {
                    None => run.run_vcpu(index, vcpu, &mut ()),
                    Some(mut companion) => run.run_vcpu(index, vcpu, &mut companion),
                }
            };
            thread::Builder::new().spawn_scoped(scope, body).map(drop)
        });
        let is_confined = match spawned {
            // Whoever cannot be confined says why at the gate.
            Ok(()) => own.confine(Role::FirstVcpu) && gate.wait(),
            Err(source) => {
                // Those that wait at the gate find that it is over.
                run.end(Err(Error::Host { step: Step::StartThread, source }));
                drop(own);
                false
            }
        };
        if is_confined {
            probe.mark(Phase::Confine);
            run.run_vcpu(0, &mut first[0], probe);
        }
    });
    if let Some(error) = gate.take_error() {
        return Err(error);
    }
    run.finish()?;
    probe.mark(Phase::Guest);
    lock(&run.ending).take().unwrap_or(Ok(Outcome::Stopped))
}

impl Run<'_> {
    /// Runs one vCPU. The first one to end decides how the machine ends, and stops the others.
    fn run_vcpu<P: Probe>(&self, index: usize, vcpu: &mut Vcpu, probe: &mut P) {
        let remote = &self.shared.remote;
        let result = vcpu.accept_kicks(|vcpu| {
            remote.enter();
            let mut noted = Noted { log: Log::default(), probe };
            let end = vcpu_loop(index, vcpu, &self.shared.board, self, &mut noted);
            let outcome = end.map(|end| self.outcome(end, index, vcpu, &noted.log));
            probe.left(vcpu);
            remote.leave();
            outcome
        });
        self.end(result);
    }

    /// What the end of a vCPU's loop is for the machine.
    fn outcome(&self, end: End, index: usize, vcpu: &Vcpu, log: &Log) -> Outcome {
        let crashed = |what| {
            let mut crash = Crash::examine(what, index, vcpu, log);
            crash.missing = self.shared.bios_watch.found().or(crash.missing);
            Outcome::Crashed(Box::new(crash))
        };
        match end {
            End::Asked(Action::Exit(status)) => Outcome::Exited(status),
            End::Asked(Action::Reset) => firmware::kind_of_reset(self.shared.vm.memory()),
            End::Asked(Action::PowerOff) => Outcome::PoweredOff,
            End::Asked(Action::Stop | Action::Continue) | End::Stopped => Outcome::Stopped,
            End::Halted => Outcome::Halted,
            End::TripleFault => crashed("triple fault".into()),
            End::Failed { why, code } => crashed(format!("{why} ({code:#x})")),
            End::TimedOut => Outcome::TimedOut,
            End::TooMuchOutput => Outcome::TooMuchOutput,
        }
    }
}

/// A probe that also notes the last exits, for a post-mortem.
struct Noted<'p, P> {
    log: Log,
    probe: &'p mut P,
}

impl<P: Probe> Probe for Noted<'_, P> {
    fn call<T>(&mut self, call: impl FnOnce() -> Call, body: impl FnOnce() -> T) -> T {
        self.probe.call(call, body)
    }

    fn enter(&mut self, vcpu: &mut Vcpu) -> ControlFlow<()> {
        let flow = self.probe.enter(vcpu);
        self.log.entered_at = vcpu.rip();
        flow
    }

    fn exit(&mut self, exit: &Exit<'_>) {
        self.probe.exit(exit);
        self.log.push(exit);
    }

    fn served(&mut self, exit: &Exit<'_>, device: impl FnOnce() -> &'static str) {
        self.probe.served(exit, device);
    }
}
