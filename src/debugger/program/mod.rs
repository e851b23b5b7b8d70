//! A debugger on a Linux program: the same protocol as for a machine, and a thread of our own that speaks it.
//!
//! ```text
//!   gdb ◀─packets─▶ the debugger's thread ──Threads (a lock)── each thread's Seat, an observer
//! ```
//!
//! All threads stop and go on together. One that is in a system call of the host's counts as stopped there: it is not
//! disturbed, its registers are those at its SYSCALL, and it waits when it comes back. Breakpoints are INT3 in the
//! program's memory; a step is the trap flag. Both are the processor's own, so programs run at full speed between them.
//! The child of a fork(2) is not debugged: the breakpoints are taken out of its copy of the memory.

mod registers;
mod seat;
mod signals;
mod threads;

use crate::debugger::conversation::{Conversation, Heard};
use crate::debugger::error::Result;
use crate::debugger::guest::StopReason;
use crate::debugger::listener::{Address, Listener, Stream};
use crate::debugger::{DebuggerError, lock};
use crate::sys::program::{WHOLE_MASK, die_of, end_process, mask};
use crate::timeline::{Ended, Observer};
use gdbstub::common::Signal;
use seat::Seat;
use std::io;
use std::sync::{Arc, Condvar, Mutex};
use threads::Threads;

/// What the threads of a program and the one that talks share.
struct Shared {
    threads: Mutex<Threads>,
    /// Told when the program goes on.
    goes_on: Condvar,
    /// Told when the client has heard of the end.
    was_told: Condvar,
}

/// A client that has called, and the program that it is to debug.
pub struct ProgramDebugger {
    stream: Box<dyn Stream>,
    descriptors: Vec<i32>,
}

impl ProgramDebugger {
    /// Waits at `address` until a client calls, and says by `announce` that it may. `is_over` is asked meanwhile. What is
    /// open for it afterwards has descriptors of `lowest` or more.
    ///
    /// # Errors
    /// Nobody can call there; or it was over before anyone did.
    pub fn wait(
        address: &Address,
        announce: impl FnOnce(&str),
        is_over: fn() -> bool,
        lowest: i32,
    ) -> Result<ProgramDebugger> {
        let listener = Listener::bind(address)?;
        announce(&listener.to_string());
        loop {
            if let Some(stream) = listener.accept()? {
                let (stream, descriptor) = stream.out_of_reach(lowest).map_err(DebuggerError::Talk)?;
                return Ok(ProgramDebugger { stream, descriptors: vec![descriptor] });
            }
            if is_over() {
                return Err(DebuggerError::Talk(io::ErrorKind::Interrupted.into()));
            }
        }
    }

    /// What is to watch the program's first thread, which is the calling one. From now on a thread of ours talks.
    ///
    /// # Errors
    /// There can be no more threads.
    pub fn start(self) -> Result<Box<dyn Observer>> {
        let shared = Arc::new(Shared {
            threads: Mutex::new(Threads::new()),
            goes_on: Condvar::new(),
            was_told: Condvar::new(),
        });
        let (stream, of_talker) = (self.stream, Arc::clone(&shared));
        // Signals for the process are for the program's threads.
        let before = crate::sys::program::current_mask();
        mask(WHOLE_MASK);
        let talk = move || talk(stream, &of_talker);
        let started = std::thread::Builder::new().stack_size(512 << 10).spawn(talk);
        mask(before);
        started.map_err(DebuggerError::Talk)?;
        Ok(Box::new(Seat::new(shared, self.descriptors)))
    }
}

/// Talks to the client to the end, its or the program's.
fn talk(stream: Box<dyn Stream>, shared: &Shared) {
    let outcome = converse(stream, shared);
    let mut threads = lock(&shared.threads);
    let has_ended = threads.ended.is_some();
    threads.is_detached = true;
    threads.is_told = true;
    shared.goes_on.notify_all();
    shared.was_told.notify_all();
    drop(threads);
    match outcome {
        Ok(Heard::Killed) => die_of(libc::SIGKILL),
        Err(error) if !has_ended => {
            let line = format!("error: {}\n", crate::error::in_words(&error));
            let _ = crate::sys::write_all(io::stderr(), line.as_bytes());
            end_process(125);
        }
        _ => {}
    }
}

fn converse(stream: Box<dyn Stream>, shared: &Shared) -> Result<Heard> {
    let mut conversation = Conversation::new(stream, &mut *lock(&shared.threads))?;
    loop {
        let mut threads = lock(&shared.threads);
        if let Some(how) = threads.ended {
            if conversation.is_running() {
                let reason = match how {
                    Ended::Status(status) => StopReason::Exited(status as u8),
                    Ended::Signal(signal) => StopReason::Terminated(signals::to_gdb(signal)),
                };
                // A client that is not there any more need not be told.
                let _ = conversation.report(&mut *threads, reason);
            }
            return Ok(Heard::Left);
        }
        if threads.is_stopped {
            if !threads.is_all_halted() {
                threads.kick_all();
            } else if let (true, Some(reason)) = (conversation.is_running(), threads.stop.take()) {
                conversation.report(&mut *threads, reason)?;
            }
        }
        let may_answer = threads.is_stopped && threads.is_all_halted();
        drop(threads);
        conversation.receive(true)?;
        let mut threads = lock(&shared.threads);
        if conversation.is_running() {
            if conversation.take_interrupt() {
                let tid = threads.any_tid();
                threads.stop_all(StopReason::SignalWithThread { tid, signal: Signal::SIGINT });
            }
        } else if may_answer {
            loop {
                match conversation.answer(&mut *threads)? {
                    Heard::Nothing => break,
                    Heard::Answered if threads.is_stopped => {}
                    Heard::Answered => {
                        shared.goes_on.notify_all();
                        break;
                    }
                    end => return Ok(end),
                }
            }
        }
    }
}
