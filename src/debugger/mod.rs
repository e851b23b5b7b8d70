//! A debugger on the guest: the GDB remote protocol, over TCP or a Unix socket.
//!
//! [`Debugger`] is a probe. The first vCPU's thread talks to the client for as long as the guest is stopped; the other vCPUs
//! stop and go on with it (`seat`). A vCPU that waits goes to KVM and back without the guest, again and again, so that
//! time limits and signals are looked after as ever.

#![deny(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]
#![cfg_attr(
    test,
    allow(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

mod breakpoints;
mod conversation;
mod error;
mod guest;
mod listener;
mod points;
mod program;
mod registers;
mod rehearsal;
mod seat;

pub use error::DebuggerError;
pub use listener::Address;
pub use program::ProgramDebugger;
pub use rehearsal::rehearse;

use crate::kvm::{Exit, StopPoint, Vcpu};
use crate::timeline::{Companion, Probe};
use conversation::{Conversation, Heard};
use error::Result;
use gdbstub::common::Signal;
use guest::{Guest, StopReason, tid};
use listener::Listener;
use seat::{Passenger, Seat, Shared};
use std::io;
use std::ops::ControlFlow;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

/// A lock whose holder panicked still guards something usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// What the first vCPU is to do now.
#[derive(Clone, Copy, PartialEq)]
enum Next {
    /// The guest may run.
    Run,
    /// Nothing is new: it looks around and comes back.
    Wait,
    /// The run is over.
    End,
}

/// A probe through which a client of the GDB remote protocol steers the guest.
pub struct Debugger {
    listener: Listener,
    conversation: Option<Conversation<Guest>>,
    shared: Arc<Shared>,
    seat: Seat,
    /// Says where a client may call, once that is so.
    announce: Option<fn(&str)>,
}

impl Debugger {
    /// Listens at `address`, and announces that when the guest is ready. `is_over` is asked while there is only
    /// the client to wait for.
    pub fn listen(address: &Address, announce: Option<fn(&str)>, is_over: fn() -> bool) -> Result<Debugger> {
        let listener = Listener::bind(address)?;
        let (guest, failure) = (Mutex::new(Guest::new()), Mutex::new(None));
        let shared = Arc::new(Shared { guest, goes_on: Condvar::new(), is_over, failure });
        Ok(Debugger { listener, conversation: None, shared, seat: Seat::new(0), announce })
    }

    /// Tells the client how the guest ended.
    pub fn finish(mut self, status: u8) -> Result<()> {
        let mut guest = lock(&self.shared.guest);
        if let Some(conversation) = self.conversation.as_mut().filter(|it| it.is_running()) {
            let reason = match guest.has_crashed {
                true => StopReason::Terminated(Signal::SIGSEGV),
                false => StopReason::Exited(status),
            };
            // A client that is not there any more need not be told.
            let _ = conversation.report(&mut *guest, reason);
        }
        lock(&self.shared.failure).take().map_or(Ok(()), Err)
    }

    /// Looks whether the guest has to stop, and talks to the client for as long as it is stopped.
    fn attend(&mut self, vcpu: &mut Vcpu) -> Result<Next> {
        let shared = Arc::clone(&self.shared);
        // Whether it was called back without having executed an instruction: then there is time to hear the client.
        let was_called = self.seat.stopped_at == StopPoint::BeforeInstruction;
        let mut guest = lock(&shared.guest);
        if !self.seat.arrive(vcpu, &mut guest)? {
            return Ok(Next::Wait);
        }
        if guest.is_detached {
            return Ok(if self.seat.go_on(vcpu, &mut guest)? { Next::Run } else { Next::Wait });
        }
        let conversation = match &mut self.conversation {
            Some(conversation) => conversation,
            none => {
                drop(guest);
                let Some(stream) = self.listener.accept()? else { return Ok(Next::Wait) };
                guest = lock(&shared.guest);
                guest.memory = vcpu.memory().clone();
                none.insert(Conversation::new(stream, &mut *guest)?)
            }
        };
        if conversation.is_running() && was_called && !guest.is_stopped {
            conversation.receive(false)?;
            if conversation.take_interrupt() {
                guest.stop_all(StopReason::SignalWithThread { tid: tid(0), signal: Signal::SIGINT });
            }
        }
        loop {
            // Nobody goes on while the client has not been told, and no vCPU's registers are shown while it runs.
            if self.seat.go_on(vcpu, &mut guest)? {
                return Ok(Next::Run);
            }
            if !guest.is_stopped {
                // The client lets others run, but not this vCPU.
                shared.wait_a_moment(guest);
                return Ok(Next::Wait);
            }
            if !guest.is_all_parked() {
                guest.kick_all();
                shared.wait_a_moment(guest);
                return Ok(Next::Wait);
            }
            if let (true, Some(reason)) = (conversation.is_running(), guest.stop.take()) {
                conversation.report(&mut *guest, reason)?;
            }
            drop(guest);
            conversation.receive(true)?;
            guest = lock(&shared.guest);
            match conversation.answer(&mut *guest)? {
                Heard::Nothing => return Ok(Next::Wait),
                Heard::Answered if guest.is_stopped => {}
                Heard::Answered => shared.goes_on.notify_all(),
                Heard::Left => {
                    guest.is_detached = true;
                    shared.goes_on.notify_all();
                }
                Heard::Killed => return Ok(Next::End),
            }
        }
    }

    fn fail(&self, failure: DebuggerError) {
        lock(&self.shared.failure).get_or_insert(failure);
        self.shared.give_up();
    }
}

fn gone() -> DebuggerError {
    DebuggerError::Talk(io::Error::other("it has gone"))
}

impl Probe for Debugger {
    fn companion(&mut self, index: usize) -> Option<Box<dyn Companion>> {
        lock(&self.shared.guest).add_cpu(index);
        Some(Box::new(Passenger { seat: Seat::new(index), shared: Arc::clone(&self.shared) }))
    }

    fn enter(&mut self, vcpu: &mut Vcpu) -> ControlFlow<()> {
        self.seat.take(&mut lock(&self.shared.guest));
        if let Some(announce) = self.announce.take() {
            announce(&self.listener.to_string());
        }
        match self.attend(vcpu) {
            Ok(Next::Run) => {}
            Ok(Next::Wait) => vcpu.skip_next_run(),
            Ok(Next::End) => {
                self.shared.give_up();
                return ControlFlow::Break(());
            }
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

    /// A guest that went down can be looked at once more.
    fn left(&mut self, vcpu: &mut Vcpu) {
        if self.seat.stopped_at == StopPoint::Down && self.conversation.is_some() {
            loop {
                match self.attend(vcpu) {
                    Ok(Next::Wait) if !(self.shared.is_over)() => {}
                    Ok(_) => break,
                    Err(failure) => {
                        self.fail(failure);
                        break;
                    }
                }
            }
        }
        self.seat.leave(&mut lock(&self.shared.guest));
        self.shared.give_up();
    }
}
