//! What holds a guest back until every thread of its process is confined.
//!
//! A thread begins unconfined, and takes its time to begin. Whoever starts one for a machine says so here first; no
//! vCPU enters the guest before the last of them has its filter.

use super::{Role, Sandbox};
use crate::error::Error;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// The way into a guest, shared by the threads of its machine.
#[derive(Clone, Default)]
pub struct Gate(Arc<State>);

#[derive(Default)]
struct State {
    threads: Mutex<Threads>,
    all_confined: Condvar,
}

#[derive(Default)]
struct Threads {
    /// Threads that have been announced and are not confined yet.
    awaited: usize,
    /// One could not be confined: the gate stays shut.
    failed: bool,
    /// Why.
    error: Option<Error>,
}

/// A thread that will be confined. Dropped before that, it is taken for one that was never started.
pub struct Awaited {
    gate: Gate,
    sandbox: Sandbox,
}

impl Gate {
    /// Announces a thread, before it is started. The gate is shut until it is confined. Without a sandbox nothing is
    /// awaited.
    pub fn expect(&self, sandbox: Sandbox) -> Awaited {
        if sandbox != Sandbox::Off {
            self.threads().awaited += 1;
        }
        Awaited { gate: self.clone(), sandbox }
    }

    /// Waits until all threads that were announced are confined; false if one of them could not be.
    pub(crate) fn wait(&self) -> bool {
        let waiting = self.0.all_confined.wait_while(self.threads(), |threads| threads.awaited > 0);
        !waiting.unwrap_or_else(PoisonError::into_inner).failed
    }

    /// Why it stayed shut, if it did. It may be opened anew.
    pub(crate) fn take_error(&self) -> Option<Error> {
        let mut threads = self.threads();
        threads.failed = false;
        threads.error.take()
    }

    fn threads(&self) -> MutexGuard<'_, Threads> {
        self.0.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Awaited {
    /// Confines the calling thread, which is the one that was announced. False if that cannot be: the thread has to end,
    /// and the guest will not run.
    pub fn confine(self, role: Role) -> bool {
        match self.sandbox.limit(role) {
            Ok(()) => true,
            Err(error) => {
                self.refuse(error);
                false
            }
        }
    }

    /// Keeps the gate shut.
    fn refuse(&self, error: Error) {
        let mut threads = self.gate.threads();
        threads.failed = true;
        threads.error.get_or_insert(error);
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        if self.sandbox == Sandbox::Off {
            return;
        }
        let mut threads = self.gate.threads();
        threads.awaited -= 1;
        if threads.awaited == 0 {
            self.gate.0.all_confined.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Step;
    use std::io::ErrorKind;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    #[test]
    fn nobody_is_awaited_and_the_gate_is_open() {
        assert!(Gate::default().wait());
        let gate = Gate::default();
        drop(gate.expect(Sandbox::Strict));
        let _unconfined = gate.expect(Sandbox::Off);
        assert!(gate.wait());
    }

    #[test]
    fn it_opens_with_the_last_thread_and_not_before() {
        let (gate, begun) = (Gate::default(), AtomicUsize::new(0));
        thread::scope(|scope| {
            let awaited: Vec<_> = (0..4).map(|_| gate.expect(Sandbox::Strict)).collect();
            for (number, awaited) in awaited.into_iter().enumerate() {
                let begun = &begun;
                scope.spawn(move || {
                    (0..number * 1000).for_each(|_| thread::yield_now());
                    begun.fetch_add(1, Ordering::SeqCst);
                    drop(awaited);
                });
            }
            assert!(gate.wait());
            assert_eq!(begun.load(Ordering::SeqCst), 4);
        });
    }

    #[test]
    fn it_stays_shut_for_a_thread_that_cannot_be_confined() {
        let gate = Gate::default();
        let error = || Error::Host { step: Step::Sandbox, source: ErrorKind::Unsupported.into() };
        gate.expect(Sandbox::Strict).refuse(error());
        assert!(!gate.wait() && !gate.wait());
        assert_eq!(gate.take_error().unwrap().to_string(), error().to_string());
        assert!(gate.wait());
    }
}
