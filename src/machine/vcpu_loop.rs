//! The loop around `KVM_RUN`.
//!
//! ```text
//!        ┌──────────────────────────────────────────────────────┐
//!        ▼                                                      │ Continue
//!     KVM_RUN ─▶ Exit ─▶ Board ─▶ Device ─▶ Action ─▶ upkeep ───┤
//!                                                               ▼ else
//!                                                              End
//! ```
//!
//! Threads, and what becomes of the end of a loop, are in run.rs. What is done for a guest beside answering it is behind
//! [`Upkeep`].

use super::board::Board;
use crate::device::Action;
use crate::error::Result;
use crate::kvm::{Exit, Vcpu};
use crate::timeline::Probe;
use std::sync::{Mutex, PoisonError};

/// Why the loop of a vCPU has ended.
pub(super) enum End {
    /// A device asked for it: any action but [`Action::Continue`].
    Asked(Action),
    /// All processors are halted for good.
    Halted,
    /// A triple fault.
    TripleFault,
    /// KVM could not go on with the guest; as in [`Exit::Failed`].
    Failed { why: &'static str, code: u64 },
    /// Somebody stopped it, or another vCPU has ended the guest.
    Stopped,
    /// Its time is over.
    TimedOut,
    /// The guest wrote more than it may.
    TooMuchOutput,
}

/// What is done for a guest beside answering its exits: input and output, interrupts, a look from time to time whether it
/// has halted or its time is over.
pub(super) trait Upkeep: Sync {
    /// Whether the machine is to stop.
    fn is_over(&self) -> bool;

    /// After a signal: looks for news. `Some` ends the loop.
    fn look_around<P: Probe>(&self, index: usize, vcpu: &mut Vcpu, probe: &mut P) -> Result<Option<End>>;

    /// Before an access is served: brings to the board what the guest did before and what did not end `KVM_RUN`.
    fn before_access(&self, board: &mut Board, access: &Exit<'_>);

    /// After an access was served: shows the interrupt lines to the local APICs, and passes output on. `Some` ends the
    /// loop.
    fn after_access<P: Probe>(&self, index: usize, vcpu: &Vcpu, probe: &mut P) -> Result<Option<End>>;
}

/// Runs vCPU `index` until something ends it.
pub(super) fn vcpu_loop<P: Probe>(
    index: usize,
    vcpu: &mut Vcpu,
    board: &Mutex<Board>,
    upkeep: &impl Upkeep,
    probe: &mut P,
) -> Result<End> {
    if upkeep.is_over() {
        return Ok(End::Stopped);
    }
    loop {
        if probe.enter(vcpu).is_break() {
            return Ok(End::Stopped);
        }
        let mut exit = vcpu.run()?;
        probe.exit(&exit);
        let action = match exit {
            Exit::Interrupted => match upkeep.look_around(index, vcpu, probe)? {
                Some(end) => return Ok(end),
                None => continue,
            },
            // Who asked for it, a debugger, looks at it before the guest goes on.
            Exit::Debug => continue,
            Exit::Halt => return Ok(End::Halted),
            Exit::Shutdown => return Ok(End::TripleFault),
            Exit::Failed { why, code } => return Ok(End::Failed { why, code }),
            ref mut access => {
                // A board is whole between two accesses, also when a thread panicked that held it.
                let mut board = board.lock().unwrap_or_else(PoisonError::into_inner);
                upkeep.before_access(&mut board, access);
                let action = board.serve(access);
                probe.served(access, || board.device_of(access));
                action
            }
        };
        let end = upkeep.after_access(index, vcpu, probe)?;
        match (action, end) {
            (Action::Continue, None) => {}
            (Action::Continue, Some(end)) => return Ok(end),
            (action, _) => return Ok(End::Asked(action)),
        }
    }
}
