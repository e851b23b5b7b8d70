//! One thread of a program that is debugged: it stops when the program stops, and says where it is.

use super::Shared;
use super::signals::to_gdb;
use super::threads::{Place, Threads};
use crate::debugger::guest::{Action, StopReason, tid};
use crate::debugger::{lock, program::signals};
use crate::error::Result;
use crate::sys::program::is_kick;
use crate::timeline::{Answered, Ended, Halted, Observer, ProgramMemory, Shape};
use crate::x86::mode::RFLAGS_TF;
use gdbstub::common::Signal;
use std::collections::BTreeMap;
use std::os::fd::RawFd;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

/// How long a process that ends waits for the client to be told.
const PATIENCE: Duration = Duration::from_secs(2);
/// #DB and #BP (SDM volume 3A, table 6-1).
const DEBUG: u8 = 1;
const BREAKPOINT: u8 = 3;
/// More entries than any vector of Linux's has.
const AUXV_MAX: u64 = 64;

/// A thread's part in it.
pub(super) struct Seat {
    /// `None` in the child of a fork, which nobody debugs.
    shared: Option<Arc<Shared>>,
    index: usize,
    /// Whether the trap flag is ours.
    is_stepping: bool,
    /// Whether it has made a system call since it went on.
    has_called: bool,
    /// Whether it stands at the beginning of a program.
    is_new: bool,
    /// The client's socket.
    descriptors: Vec<RawFd>,
    /// The breakpoints that a child would have.
    inherited: BTreeMap<u64, u8>,
}

impl Seat {
    /// That of the first thread.
    pub fn new(shared: Arc<Shared>, descriptors: Vec<RawFd>) -> Seat {
        let index = lock(&shared.threads).add();
        Seat {
            shared: Some(shared),
            index,
            is_stepping: false,
            has_called: false,
            is_new: true,
            descriptors,
            inherited: BTreeMap::new(),
        }
    }

    /// Leaves the thread's registers for the session, and waits until it may go on.
    fn park(&mut self, thread: &mut dyn Halted, place: Place) -> Result<()> {
        let Some(shared) = self.shared.clone() else { return Ok(()) };
        let mut threads = lock(&shared.threads);
        self.show(thread, &mut threads, place)?;
        while !threads.may_run(self.index) {
            threads = shared.goes_on.wait(threads).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        let action = threads.action(self.index);
        let is_detached = threads.is_detached;
        let Some(traced) = threads.all.get_mut(self.index) else { return Ok(()) };
        traced.place = Place::Running;
        let mut registers = traced.registers;
        let is_changed = std::mem::take(&mut traced.is_changed);
        drop(threads);
        self.has_called = false;
        self.is_stepping = action == Action::Step && !is_detached;
        if self.is_stepping {
            registers.rflags |= RFLAGS_TF;
        }
        if is_changed || self.is_stepping {
            thread.set_registers(registers)?;
        }
        Ok(())
    }

    /// Leaves its registers, and where it is.
    fn show(
        &self,
        thread: &mut dyn Halted,
        threads: &mut MutexGuard<'_, Threads>,
        place: Place,
    ) -> Result<()> {
        let (fpu, bases) = thread.others()?;
        let mut registers = thread.registers();
        if self.is_stepping {
            registers.rflags &= !RFLAGS_TF;
        }
        threads.memory.get_or_insert_with(|| thread.memory());
        if let Some(traced) = threads.all.get_mut(self.index) {
            traced.number = thread.number();
            (traced.registers, traced.fpu, traced.bases, traced.place) = (registers, fpu, bases, place);
        }
        Ok(())
    }

    fn stop_all(&self, reason: StopReason) {
        if let Some(shared) = &self.shared {
            lock(&shared.threads).stop_all(reason);
        }
    }

    /// What Linux has told the program about itself, which lies behind its arguments and its environment.
    fn read_auxv(thread: &mut dyn Halted) -> Vec<u8> {
        let (memory, mut at) = (thread.memory(), thread.registers().rsp);
        let mut word = || {
            let mut bytes = [0; 8];
            let is_there = memory.read(at, &mut bytes);
            at = at.wrapping_add(8);
            is_there.then(|| u64::from_le_bytes(bytes))
        };
        let mut auxv = Vec::new();
        // The number of arguments; then they and the environment, each with a zero at the end.
        word();
        for _ in 0..2 {
            while word().is_some_and(|address| address != 0) {}
        }
        for _ in 0..AUXV_MAX {
            let Some((kind, value)) = word().zip(word()) else { break };
            auxv.extend(kind.to_le_bytes().into_iter().chain(value.to_le_bytes()));
            if kind == 0 {
                break;
            }
        }
        auxv
    }
}

impl Observer for Seat {
    fn enter(&mut self, thread: &mut dyn Halted) -> Result<()> {
        let Some(shared) = self.shared.clone() else { return Ok(()) };
        if thread.is_before_call() {
            return Ok(());
        }
        if std::mem::take(&mut self.is_new) {
            let auxv = Seat::read_auxv(thread);
            let mut threads = lock(&shared.threads);
            let is_another = !threads.auxv.is_empty();
            threads.auxv = auxv;
            if is_another {
                // The memory that the breakpoints were in is gone.
                threads.breakpoints.clear();
                threads
                    .stop_all(StopReason::SignalWithThread { tid: tid(self.index), signal: Signal::SIGTRAP });
            }
        } else if self.is_stepping && self.has_called {
            // The call was the step: SYSCALL clears the trap flag.
            self.stop_all(StopReason::SignalWithThread { tid: tid(self.index), signal: Signal::SIGTRAP });
        }
        let may_run = {
            let mut threads = lock(&shared.threads);
            if let Some(traced) = threads.all.get_mut(self.index) {
                (traced.number, traced.place) = (thread.number(), Place::Running);
            }
            threads.may_run(self.index)
        };
        if may_run { Ok(()) } else { self.park(thread, Place::Parked) }
    }

    fn call(&mut self, thread: &mut dyn Halted, number: u64, _: &[(u64, Shape)]) -> Result<()> {
        let Some(shared) = self.shared.clone() else { return Ok(()) };
        self.has_called = true;
        let mut threads = lock(&shared.threads);
        if threads.is_detached {
            return Ok(());
        }
        if matches!(number as i64, libc::SYS_fork | libc::SYS_vfork | libc::SYS_clone) {
            self.inherited.clone_from(&threads.breakpoints);
        }
        self.show(thread, &mut threads, Place::InCall)
    }

    fn answered(&mut self, how: Answered, _: &dyn ProgramMemory) {
        let Some(shared) = &self.shared else { return };
        if let Some(traced) = lock(&shared.threads).all.get_mut(self.index) {
            traced.place = if how == Answered::Never { Place::Ended } else { Place::Running };
        }
    }

    fn signal(&mut self, thread: &mut dyn Halted, signal: i32, info: &[u8; 128]) -> Result<bool> {
        let Some(shared) = self.shared.clone() else { return Ok(true) };
        if is_kick(signal, info) {
            return Ok(false);
        }
        if lock(&shared.threads).is_detached {
            return Ok(true);
        }
        // Somebody else may have stopped the program: then this reason is told next.
        loop {
            let reason = StopReason::SignalWithThread { tid: tid(self.index), signal: to_gdb(signal) };
            let mut threads = lock(&shared.threads);
            let is_first = !threads.is_stopped;
            threads.stop_all(reason);
            drop(threads);
            self.park(thread, Place::Parked)?;
            if is_first {
                break;
            }
        }
        let mut threads = lock(&shared.threads);
        let is_detached = threads.is_detached;
        let passed = threads.all.get_mut(self.index).and_then(|traced| traced.passed.take());
        Ok(is_detached || passed.is_some_and(|passed| passed == signals::to_gdb(signal)))
    }

    fn exception(&mut self, thread: &mut dyn Halted, vector: u8) -> Result<bool> {
        let Some(shared) = self.shared.clone() else { return Ok(false) };
        let mut registers = thread.registers();
        let reason = match vector {
            DEBUG if self.is_stepping => {
                StopReason::SignalWithThread { tid: tid(self.index), signal: Signal::SIGTRAP }
            }
            BREAKPOINT => {
                let at = registers.rip.wrapping_sub(1);
                if !lock(&shared.threads).breakpoints.contains_key(&at) {
                    return Ok(false);
                }
                registers.rip = at;
                StopReason::SwBreak(tid(self.index))
            }
            _ => return Ok(false),
        };
        if std::mem::take(&mut self.is_stepping) {
            registers.rflags &= !RFLAGS_TF;
        }
        thread.set_registers(registers)?;
        lock(&shared.threads).stop_all(reason);
        Ok(true)
    }

    fn program(&mut self, path: &[u8], _: &[Vec<u8>]) {
        self.is_new = true;
        if let Some(shared) = &self.shared {
            lock(&shared.threads).path = path.to_vec();
        }
    }

    fn thread(&mut self) -> Box<dyn Observer> {
        let index = self.shared.as_ref().map_or(0, |shared| lock(&shared.threads).add());
        Box::new(Seat {
            shared: self.shared.clone(),
            index,
            is_stepping: false,
            has_called: false,
            is_new: false,
            descriptors: self.descriptors.clone(),
            inherited: BTreeMap::new(),
        })
    }

    fn forked(&mut self, memory: &dyn ProgramMemory) {
        Threads::without_breakpoints(&std::mem::take(&mut self.inherited), memory);
        self.is_stepping = false;
        // Whoever held its lock is not here. It is not dropped, as that would close what has another number now.
        std::mem::forget(self.shared.take());
        self.descriptors.drain(..).for_each(crate::sys::program::close);
    }

    fn ended(&mut self, how: Ended) {
        let Some(shared) = self.shared.clone() else { return };
        let mut threads = lock(&shared.threads);
        if threads.is_detached {
            return;
        }
        threads.ended = Some(how);
        let is_waiting = |threads: &mut Threads| !threads.is_told;
        drop(shared.was_told.wait_timeout_while(threads, PATIENCE, is_waiting));
    }

    fn descriptors(&self) -> Vec<RawFd> {
        self.descriptors.clone()
    }
}
