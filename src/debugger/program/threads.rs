//! What a debugger sees of a program: its threads, their registers, its memory, and where it is to stop.
//!
//! Source: the GDB manual, appendix E "Remote Serial Protocol"; the protocol itself is the gdbstub crate's.

use super::registers::{Linux64, ProgramRegisters};
use crate::debugger::guest::{Action, StopReason, tid};
use crate::sys::program::{kick, thread_id};
use crate::timeline::{Ended, ProgramMemory};
use gdbstub::common::{Pid, Signal, Tid};
use gdbstub::target::ext::auxv::{Auxv, AuxvOps};
use gdbstub::target::ext::base::BaseOps;
use gdbstub::target::ext::base::multithread::{
    MultiThreadBase, MultiThreadResume, MultiThreadResumeOps, MultiThreadSchedulerLocking,
    MultiThreadSchedulerLockingOps, MultiThreadSingleStep, MultiThreadSingleStepOps,
};
use gdbstub::target::ext::breakpoints::{Breakpoints, BreakpointsOps, SwBreakpoint, SwBreakpointOps};
use gdbstub::target::ext::exec_file::{ExecFile, ExecFileOps};
use gdbstub::target::ext::thread_extra_info::{ThreadExtraInfo, ThreadExtraInfoOps};
use gdbstub::target::{Target, TargetError, TargetResult};
use kvm_bindings::kvm_regs;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

/// INT3.
const INT3: u8 = 0xcc;

/// Where a thread is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In the VM, or on the way to it or from it.
    Running,
    /// In a system call, whose registers are known.
    InCall,
    /// It waits.
    Parked,
    /// It will not run again.
    Ended,
}

/// A thread as the session sees it.
pub(super) struct Traced {
    /// The kernel's number of it.
    pub number: i32,
    pub place: Place,
    pub registers: kvm_regs,
    pub fpu: Vec<u8>,
    pub bases: [u64; 2],
    /// Whether the client has set registers.
    pub is_changed: bool,
    /// What it does when the program goes on; `None` if the client has not named it.
    action: Option<Action>,
    /// The signal that it is to get when it goes on, by gdb's number.
    pub passed: Option<Signal>,
}

/// A program that is debugged.
pub(super) struct Threads {
    pub memory: Option<Arc<dyn ProgramMemory>>,
    pub all: Vec<Traced>,
    /// Whether all threads are to stop, or have stopped.
    pub is_stopped: bool,
    /// Why, until the client has been told.
    pub stop: Option<StopReason>,
    /// The client has left, and the program runs without it.
    pub is_detached: bool,
    is_locked: bool,
    /// The bytes that INT3 stands for.
    pub breakpoints: BTreeMap<u64, u8>,
    /// The file, and the vector of what Linux tells a program (getauxval(3)).
    pub path: Vec<u8>,
    pub auxv: Vec<u8>,
    /// How the process ends, and whether the client knows.
    pub ended: Option<Ended>,
    pub is_told: bool,
}

impl Threads {
    /// None yet: the first stops before its first instruction.
    pub fn new() -> Threads {
        Threads {
            memory: None,
            all: Vec::new(),
            is_stopped: true,
            stop: None,
            is_detached: false,
            is_locked: false,
            breakpoints: BTreeMap::new(),
            path: Vec::new(),
            auxv: Vec::new(),
            ended: None,
            is_told: false,
        }
    }

    /// One more thread, and its place in the list.
    pub fn add(&mut self) -> usize {
        self.all.push(Traced {
            number: 0,
            place: Place::Running,
            registers: kvm_regs::default(),
            fpu: Vec::new(),
            bases: [0; 2],
            is_changed: false,
            action: None,
            passed: None,
        });
        self.all.len().saturating_sub(1)
    }

    fn thread(&mut self, tid: Tid) -> TargetResult<&mut Traced, Threads> {
        self.all.get_mut(tid.get().saturating_sub(1)).ok_or(TargetError::NonFatal)
    }

    /// A thread that has not ended.
    pub fn any_tid(&self) -> Tid {
        tid(self.all.iter().position(|thread| thread.place != Place::Ended).unwrap_or(0))
    }

    /// Whether no thread runs. Without any, the program has not begun.
    pub fn is_all_halted(&self) -> bool {
        !self.all.is_empty() && self.all.iter().all(|thread| thread.place != Place::Running)
    }

    /// What thread `index` does while the program runs.
    pub fn action(&self, index: usize) -> Action {
        let named = self.all.get(index).and_then(|thread| thread.action);
        named.unwrap_or(if self.is_locked { Action::Stay } else { Action::Continue })
    }

    /// Whether a thread may go into the VM.
    pub fn may_run(&self, index: usize) -> bool {
        self.is_detached || !self.is_stopped && self.action(index) != Action::Stay
    }

    /// Stops all threads. What stops them first is the reason that the client is told.
    pub fn stop_all(&mut self, reason: StopReason) {
        if !self.is_stopped && !self.is_detached {
            (self.is_stopped, self.stop) = (true, Some(reason));
            self.kick_all();
        }
    }

    /// Makes all other threads that run leave the VM, to look around.
    pub fn kick_all(&self) {
        let me = thread_id();
        let running = self.all.iter().filter(|thread| thread.place == Place::Running && thread.number != 0);
        running.map(|thread| thread.number).filter(|&number| number != me).for_each(kick);
    }

    /// Takes every breakpoint out of `memory`.
    pub fn without_breakpoints(breakpoints: &BTreeMap<u64, u8>, memory: &dyn ProgramMemory) {
        for (&at, &byte) in breakpoints {
            memory.write(at, &[byte]);
        }
    }
}

impl Target for Threads {
    type Arch = Linux64;
    type Error = Infallible;

    fn base_ops(&mut self) -> BaseOps<'_, Linux64, Infallible> {
        BaseOps::MultiThread(self)
    }

    fn support_breakpoints(&mut self) -> Option<BreakpointsOps<'_, Threads>> {
        Some(self)
    }

    fn support_auxv(&mut self) -> Option<AuxvOps<'_, Threads>> {
        Some(self)
    }

    fn support_exec_file(&mut self) -> Option<ExecFileOps<'_, Threads>> {
        Some(self)
    }

    // Children are not debugged.
    fn use_fork_stop_reason(&self) -> bool {
        false
    }

    fn use_vfork_stop_reason(&self) -> bool {
        false
    }

    fn use_vforkdone_stop_reason(&self) -> bool {
        false
    }
}

impl MultiThreadBase for Threads {
    fn read_registers(&mut self, to: &mut ProgramRegisters, tid: Tid) -> TargetResult<(), Threads> {
        let thread = self.thread(tid)?;
        *to = ProgramRegisters::of(&thread.registers, &thread.fpu, thread.bases);
        Ok(())
    }

    /// Sets the general registers, RIP and RFLAGS, of a thread that is in no call. If any other is to be changed, nothing
    /// is, and the client is told.
    fn write_registers(&mut self, from: &ProgramRegisters, tid: Tid) -> TargetResult<(), Threads> {
        let thread = self.thread(tid)?;
        let now = ProgramRegisters::of(&thread.registers, &thread.fpu, thread.bases);
        if thread.place != Place::Parked || !from.differs_only_in_general(&now) {
            return Err(TargetError::NonFatal);
        }
        from.set_general(&mut thread.registers);
        thread.is_changed = true;
        Ok(())
    }

    fn read_addrs(&mut self, at: u64, data: &mut [u8], _: Tid) -> TargetResult<usize, Threads> {
        let memory = self.memory.as_ref().ok_or(TargetError::NonFatal)?;
        // As much as there is, page by page.
        let mut done = 0;
        while let Some(rest) = data.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let from = at.wrapping_add(done as u64);
            let on_page = 4096_usize.saturating_sub((from & 4095) as usize).min(rest.len());
            let Some(piece) = rest.get_mut(..on_page).filter(|_| from >= at) else { break };
            if !memory.read(from, piece) {
                break;
            }
            done = done.saturating_add(on_page);
        }
        // What the client has not put there it does not see.
        for (&point, &byte) in &self.breakpoints {
            let place = point.checked_sub(at).filter(|&offset| offset < done as u64);
            if let Some(shown) = place.and_then(|offset| data.get_mut(offset as usize)) {
                *shown = byte;
            }
        }
        if done == 0 && !data.is_empty() { Err(TargetError::NonFatal) } else { Ok(done) }
    }

    fn write_addrs(&mut self, at: u64, data: &[u8], _: Tid) -> TargetResult<(), Threads> {
        let memory = self.memory.clone().ok_or(TargetError::NonFatal)?;
        if !memory.write(at, data) {
            return Err(TargetError::NonFatal);
        }
        for (&point, byte) in &mut self.breakpoints {
            let place = point.checked_sub(at).and_then(|offset| data.get(offset as usize));
            if let Some(&new) = place {
                *byte = new;
                memory.write(point, &[INT3]);
            }
        }
        Ok(())
    }

    fn list_active_threads(&mut self, is_active: &mut dyn FnMut(Tid)) -> Result<(), Infallible> {
        let there = self.all.iter().enumerate().filter(|(_, thread)| thread.place != Place::Ended);
        there.for_each(|(index, _)| is_active(tid(index)));
        Ok(())
    }

    fn support_resume(&mut self) -> Option<MultiThreadResumeOps<'_, Threads>> {
        Some(self)
    }

    fn support_thread_extra_info(&mut self) -> Option<ThreadExtraInfoOps<'_, Threads>> {
        Some(self)
    }
}

impl ThreadExtraInfo for Threads {
    /// What `info threads` shows: `4242`, and where it is.
    fn thread_extra_info(&self, tid: Tid, buf: &mut [u8]) -> Result<usize, Infallible> {
        let text = self.all.get(tid.get().saturating_sub(1)).map_or("none".to_owned(), |thread| {
            let call = if thread.place == Place::InCall { ", in a system call" } else { "" };
            format!("thread {}{call}", thread.number)
        });
        Ok(copy(text.as_bytes(), 0, buf.len(), buf))
    }
}

impl MultiThreadResume for Threads {
    fn resume(&mut self) -> Result<(), Infallible> {
        (self.is_stopped, self.stop) = (false, None);
        Ok(())
    }

    fn clear_resume_actions(&mut self) -> Result<(), Infallible> {
        self.is_locked = false;
        self.all.iter_mut().for_each(|thread| (thread.action, thread.passed) = (None, None));
        Ok(())
    }

    fn set_resume_action_continue(&mut self, tid: Tid, signal: Option<Signal>) -> Result<(), Infallible> {
        let _ =
            self.thread(tid).map(|thread| (thread.action, thread.passed) = (Some(Action::Continue), signal));
        Ok(())
    }

    fn support_single_step(&mut self) -> Option<MultiThreadSingleStepOps<'_, Threads>> {
        Some(self)
    }

    fn support_scheduler_locking(&mut self) -> Option<MultiThreadSchedulerLockingOps<'_, Threads>> {
        Some(self)
    }
}

impl MultiThreadSingleStep for Threads {
    fn set_resume_action_step(&mut self, tid: Tid, signal: Option<Signal>) -> Result<(), Infallible> {
        let _ = self.thread(tid).map(|thread| (thread.action, thread.passed) = (Some(Action::Step), signal));
        Ok(())
    }
}

impl MultiThreadSchedulerLocking for Threads {
    fn set_resume_action_scheduler_lock(&mut self) -> Result<(), Infallible> {
        self.is_locked = true;
        Ok(())
    }
}

impl Breakpoints for Threads {
    fn support_sw_breakpoint(&mut self) -> Option<SwBreakpointOps<'_, Threads>> {
        Some(self)
    }
}

impl SwBreakpoint for Threads {
    fn add_sw_breakpoint(&mut self, at: u64, _kind: usize) -> TargetResult<bool, Threads> {
        let Some(memory) = self.memory.clone() else { return Ok(false) };
        let mut byte = [0];
        if self.breakpoints.contains_key(&at) {
            return Ok(true);
        }
        if !memory.read(at, &mut byte) || !memory.write(at, &[INT3]) {
            return Ok(false);
        }
        self.breakpoints.insert(at, byte[0]);
        Ok(true)
    }

    fn remove_sw_breakpoint(&mut self, at: u64, _kind: usize) -> TargetResult<bool, Threads> {
        let Some((memory, byte)) = self.memory.clone().zip(self.breakpoints.remove(&at)) else {
            return Ok(false);
        };
        // Where nothing is mapped any more, there is nothing to be put back.
        memory.write(at, &[byte]);
        Ok(true)
    }
}

/// Copies what lies from `offset` on, `length` bytes at most.
fn copy(from: &[u8], offset: u64, length: usize, to: &mut [u8]) -> usize {
    let rest = usize::try_from(offset).ok().and_then(|offset| from.get(offset..)).unwrap_or_default();
    let len = rest.len().min(length).min(to.len());
    to.iter_mut().zip(rest.iter().take(len)).for_each(|(to, from)| *to = *from);
    len
}

impl Auxv for Threads {
    fn get_auxv(&self, offset: u64, length: usize, buf: &mut [u8]) -> TargetResult<usize, Threads> {
        Ok(copy(&self.auxv, offset, length, buf))
    }
}

impl ExecFile for Threads {
    fn get_exec_file(
        &self,
        _pid: Option<Pid>,
        offset: u64,
        length: usize,
        buf: &mut [u8],
    ) -> TargetResult<usize, Threads> {
        Ok(copy(&self.path, offset, length, buf))
    }
}
