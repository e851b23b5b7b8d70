//! A handle to a machine that runs: its holder can stop it, or call its vCPUs out of the guest.

use super::lock;
use crate::kvm::kick_this_thread;
use crate::sandbox::Gate;
use crate::sys::Thread;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// A handle to a running machine, for other threads and for signal handlers.
#[derive(Clone, Default)]
pub struct Remote(Arc<RemoteState>);

#[derive(Default)]
struct RemoteState {
    asked: AtomicBool,
    gate: Gate,
    /// The threads that run vCPUs now.
    running: Mutex<Vec<Thread>>,
}

impl Remote {
    /// Where threads that belong to the machine are announced: the guest does not run before they are confined.
    pub fn gate(&self) -> &Gate {
        &self.0.gate
    }

    /// Ends the run, at the latest after 50 ms.
    pub fn stop(&self) {
        self.ask();
        self.kick();
    }

    /// The part of [`Remote::stop`] that a signal handler may do: it asks, and calls the vCPU of its own thread out of
    /// the guest. The others follow when that one has ended.
    pub fn stop_from_signal(&self) {
        self.ask();
        kick_this_thread();
    }

    /// Calls the vCPUs out of the guest to look for news, as after input was sent to the
    /// [`Cable`](crate::device::Cable).
    pub fn kick(&self) {
        lock(&self.0.running).iter().for_each(|thread| thread.kick());
    }

    pub(super) fn kick_others(&self) {
        let me = Thread::current();
        lock(&self.0.running).iter().filter(|&&thread| thread != me).for_each(|thread| thread.kick());
    }

    fn ask(&self) {
        self.0.asked.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_asked(&self) -> bool {
        self.0.asked.load(Ordering::SeqCst)
    }

    /// The calling thread begins to run a vCPU.
    pub(super) fn enter(&self) {
        lock(&self.0.running).push(Thread::current());
    }

    /// It has left the guest.
    pub(super) fn leave(&self) {
        lock(&self.0.running).retain(|&thread| thread != Thread::current());
    }
}
