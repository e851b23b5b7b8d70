//! What a debugger sees of a guest: each vCPU as a thread, its registers, memory, and where the guest is to stop.
//!
//! All vCPUs stop and go on together (gdb's all-stop mode). A vCPU that has stopped leaves a copy of its registers here and
//! waits; the session reads and changes the copy. Source: the GDB manual, appendix E "Remote Serial Protocol"; the
//! protocol itself is the gdbstub crate's.

use super::points::Points;
use super::registers::{AllRegisters, Amd64};
use crate::kvm::{Memory, StopPoint};
use crate::sys::Thread;
use crate::x86::Registers;
use crate::x86::page_table::{Paging, TABLE_SIZE};
use gdbstub::common::{Signal, Tid};
use gdbstub::stub::MultiThreadStopReason;
use gdbstub::target::ext::base::BaseOps;
use gdbstub::target::ext::base::multithread::{
    MultiThreadBase, MultiThreadResume, MultiThreadResumeOps, MultiThreadSchedulerLocking,
    MultiThreadSchedulerLockingOps, MultiThreadSingleStep, MultiThreadSingleStepOps,
};
use gdbstub::target::ext::breakpoints::{BreakpointsOps, WatchKind};
use gdbstub::target::ext::thread_extra_info::{ThreadExtraInfo, ThreadExtraInfoOps};
use gdbstub::target::{Target, TargetError, TargetResult};
use kvm_bindings::kvm_fpu;
use std::convert::Infallible;
use std::ops::Range;
use vm_memory::{Bytes, GuestAddress};

/// Bytes of a page.
const PAGE: usize = TABLE_SIZE as usize;
/// What a vCPU does when the guest goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// It stays where it is.
    Stay,
    /// It executes one instruction.
    Step,
    /// It runs.
    Continue,
}

/// A vCPU as the session sees it.
pub(super) struct Cpu {
    /// Its registers when it stopped, and what the client has made of them.
    pub registers: Registers,
    /// Those of x87 and SSE.
    pub fpu: kvm_fpu,
    /// Whether the client has set general registers.
    pub is_changed: bool,
    /// Whether it has stopped, and its registers are here.
    pub is_parked: bool,
    /// Whether it will not run again.
    pub has_ended: bool,
    /// What it does when the guest goes on; `None` if the client has not named it.
    action: Option<Action>,
    /// The thread that runs it.
    pub thread: Option<Thread>,
}

/// Why the guest has stopped, for the client.
pub(super) type StopReason = MultiThreadStopReason<u64>;

/// A guest that is debugged.
pub(super) struct Guest {
    pub memory: Memory,
    pub cpus: Vec<Cpu>,
    /// Whether all vCPUs are to stop, or have stopped.
    pub is_stopped: bool,
    /// Why, until the client has been told.
    pub stop: Option<StopReason>,
    /// The client has left, and the guest runs without it.
    pub is_detached: bool,
    /// Whether vCPUs that the client has not named stay where they are.
    is_locked: bool,
    /// The run is over: a vCPU that has crashed waits no longer for the client.
    pub is_over: bool,
    /// Whether a vCPU has crashed.
    pub has_crashed: bool,
    pub points: Points,
}

/// The number by which gdb knows vCPU `index`. Its threads begin at 1.
pub(super) fn tid(index: usize) -> Tid {
    Tid::MIN.saturating_add(index)
}

impl Guest {
    /// A guest that waits for a client.
    pub fn new() -> Guest {
        Guest {
            memory: Memory::new(),
            cpus: vec![Cpu::new()],
            is_stopped: true,
            stop: None,
            is_detached: false,
            is_locked: false,
            is_over: false,
            has_crashed: false,
            points: Points::default(),
        }
    }

    /// A vCPU of this number will take part.
    pub fn add_cpu(&mut self, index: usize) {
        while self.cpus.len() <= index {
            self.cpus.push(Cpu::new());
        }
    }

    fn cpu(&mut self, tid: Tid) -> TargetResult<&mut Cpu, Guest> {
        self.cpus.get_mut(tid.get().saturating_sub(1)).ok_or(TargetError::NonFatal)
    }

    /// Whether no vCPU runs.
    pub fn is_all_parked(&self) -> bool {
        self.cpus.iter().all(|cpu| cpu.is_parked || cpu.has_ended)
    }

    /// What vCPU `index` does while the guest runs.
    pub fn action(&self, index: usize) -> Action {
        let named = self.cpus.get(index).and_then(|cpu| cpu.action);
        named.unwrap_or(if self.is_locked { Action::Stay } else { Action::Continue })
    }

    /// Whether a vCPU may go into the guest.
    pub fn may_run(&self, index: usize) -> bool {
        self.is_detached || !self.is_stopped && self.action(index) != Action::Stay
    }

    /// Stops all vCPUs. What stops them first is the reason that the client is told.
    pub fn stop_all(&mut self, reason: StopReason) {
        if !self.is_stopped {
            (self.is_stopped, self.stop) = (true, Some(reason));
            self.kick_all();
        }
    }

    /// Makes all other vCPUs that run leave the guest, to look around.
    pub fn kick_all(&self) {
        let me = Thread::current();
        let running = self.cpus.iter().filter(|cpu| !cpu.is_parked && !cpu.has_ended);
        running.filter_map(|cpu| cpu.thread).filter(|&thread| thread != me).for_each(Thread::kick);
    }

    /// Whether vCPU `index` has to stop after its next instruction: to stop there, or to see whether it has come to
    /// a breakpoint or changed watched memory.
    ///
    /// The processor has four registers for break- and watchpoints, but not every KVM obeys them: one that emulates
    /// ring 0 does not see data accesses, and one on an emulated processor sees neither. Single steps work on all.
    pub fn wants_steps(&self, index: usize) -> bool {
        let is_step = self.action(index) == Action::Step;
        !self.is_detached && (is_step || !self.points.is_empty())
    }

    /// Why the guest has to stop now that vCPU `index` has executed an instruction, or crashed; its registers are here.
    pub fn why(&mut self, index: usize, stopped_at: StopPoint) -> Option<StopReason> {
        let tid = tid(index);
        if stopped_at == StopPoint::Down {
            return Some(StopReason::SignalWithThread { tid, signal: Signal::SIGSEGV });
        }
        if let Some(addr) = self.points.changed_watch(&self.memory) {
            return Some(StopReason::Watch { tid, kind: WatchKind::Write, addr });
        }
        if self.is_at_breakpoint(index) {
            return Some(StopReason::SwBreak(tid));
        }
        let is_step = self.action(index) == Action::Step;
        is_step.then_some(StopReason::SignalWithThread { tid, signal: Signal::SIGTRAP })
    }

    /// Whether there is a breakpoint where vCPU `index` is.
    pub fn is_at_breakpoint(&self, index: usize) -> bool {
        self.cpus.get(index).is_some_and(|cpu| self.points.is_breakpoint(cpu.registers.linear_rip()))
    }

    /// Calls `copy` for each page of `len` bytes at `linear`, until one is not there; returns the bytes before it.
    pub fn by_page(
        &self,
        paging: Paging,
        linear: u64,
        len: usize,
        mut copy: impl FnMut(GuestAddress, Range<usize>) -> bool,
    ) -> usize {
        let mut done = 0;
        while done < len {
            let at = linear.wrapping_add(done as u64);
            let on_page = PAGE.saturating_sub(at as usize % PAGE);
            let end = done.saturating_add(on_page).min(len);
            let Some(physical) = paging.translate(&self.memory, at) else { break };
            if !copy(GuestAddress(physical), done..end) {
                break;
            }
            done = end;
        }
        done
    }
}

impl Cpu {
    fn new() -> Cpu {
        Cpu {
            registers: Registers::default(),
            fpu: kvm_fpu::default(),
            is_changed: false,
            is_parked: false,
            has_ended: false,
            action: None,
            thread: None,
        }
    }
}

impl Target for Guest {
    type Arch = Amd64;
    type Error = Infallible;

    fn base_ops(&mut self) -> BaseOps<'_, Amd64, Infallible> {
        BaseOps::MultiThread(self)
    }

    fn support_breakpoints(&mut self) -> Option<BreakpointsOps<'_, Guest>> {
        Some(self)
    }

    // A guest does not fork.
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

impl MultiThreadBase for Guest {
    fn read_registers(&mut self, to: &mut AllRegisters, tid: Tid) -> TargetResult<(), Guest> {
        let cpu = self.cpu(tid)?;
        *to = AllRegisters::of(&cpu.registers, &cpu.fpu);
        Ok(())
    }

    /// Sets the general registers, RIP and RFLAGS. If any other is to be changed, nothing is, and the client is told.
    fn write_registers(&mut self, from: &AllRegisters, tid: Tid) -> TargetResult<(), Guest> {
        let cpu = self.cpu(tid)?;
        if !from.differs_only_in_general(&AllRegisters::of(&cpu.registers, &cpu.fpu)) {
            return Err(TargetError::NonFatal);
        }
        from.set_general(&mut cpu.registers);
        cpu.is_changed = true;
        Ok(())
    }

    fn read_addrs(&mut self, address: u64, data: &mut [u8], tid: Tid) -> TargetResult<usize, Guest> {
        let paging = Paging::of(&self.cpu(tid)?.registers.system);
        let len = data.len();
        let done = self.by_page(paging, address, len, |at, part| {
            data.get_mut(part).is_some_and(|part| self.memory.read_slice(part, at).is_ok())
        });
        if done == 0 && len > 0 { Err(TargetError::NonFatal) } else { Ok(done) }
    }

    fn write_addrs(&mut self, address: u64, data: &[u8], tid: Tid) -> TargetResult<(), Guest> {
        let paging = Paging::of(&self.cpu(tid)?.registers.system);
        let done = self.by_page(paging, address, data.len(), |at, part| {
            data.get(part).is_some_and(|part| self.memory.write_slice(part, at).is_ok())
        });
        if done == data.len() { Ok(()) } else { Err(TargetError::NonFatal) }
    }

    fn list_active_threads(&mut self, is_active: &mut dyn FnMut(Tid)) -> Result<(), Infallible> {
        let there = self.cpus.iter().enumerate().filter(|(_, cpu)| !cpu.has_ended);
        there.for_each(|(index, _)| is_active(tid(index)));
        Ok(())
    }

    fn support_resume(&mut self) -> Option<MultiThreadResumeOps<'_, Guest>> {
        Some(self)
    }

    fn support_thread_extra_info(&mut self) -> Option<ThreadExtraInfoOps<'_, Guest>> {
        Some(self)
    }
}

impl ThreadExtraInfo for Guest {
    /// What `info threads` shows: `CPU 1, long, 64-bit code`.
    fn thread_extra_info(&self, tid: Tid, buf: &mut [u8]) -> Result<usize, Infallible> {
        let index = tid.get().saturating_sub(1);
        let mode = self.cpus.get(index).map_or("none", |cpu| cpu.registers.mode());
        let text = format!("CPU {index}, {mode}");
        let len = text.len().min(buf.len());
        buf.iter_mut().zip(text.bytes()).for_each(|(to, from)| *to = from);
        Ok(len)
    }
}

impl MultiThreadResume for Guest {
    fn resume(&mut self) -> Result<(), Infallible> {
        (self.is_stopped, self.stop) = (false, None);
        Ok(())
    }

    fn clear_resume_actions(&mut self) -> Result<(), Infallible> {
        self.is_locked = false;
        self.cpus.iter_mut().for_each(|cpu| cpu.action = None);
        Ok(())
    }

    fn set_resume_action_continue(&mut self, tid: Tid, _signal: Option<Signal>) -> Result<(), Infallible> {
        let _ = self.cpu(tid).map(|cpu| cpu.action = Some(Action::Continue));
        Ok(())
    }

    fn support_single_step(&mut self) -> Option<MultiThreadSingleStepOps<'_, Guest>> {
        Some(self)
    }

    fn support_scheduler_locking(&mut self) -> Option<MultiThreadSchedulerLockingOps<'_, Guest>> {
        Some(self)
    }
}

impl MultiThreadSingleStep for Guest {
    fn set_resume_action_step(&mut self, tid: Tid, _signal: Option<Signal>) -> Result<(), Infallible> {
        let _ = self.cpu(tid).map(|cpu| cpu.action = Some(Action::Step));
        Ok(())
    }
}

impl MultiThreadSchedulerLocking for Guest {
    fn set_resume_action_scheduler_lock(&mut self) -> Result<(), Infallible> {
        self.is_locked = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two vCPUs that have stopped in real mode, and 64 KiB.
    fn guest() -> Guest {
        let mut guest = Guest::new();
        guest.memory = Memory::from_ranges(&[(GuestAddress(0), 0x1_0000)]).unwrap();
        guest.add_cpu(1);
        guest.cpus.iter_mut().for_each(|cpu| cpu.is_parked = true);
        guest
    }

    #[test]
    fn memory_is_read_and_written_as_far_as_it_goes() {
        let mut guest = guest();
        assert!(guest.write_addrs(0xffe, &[1, 2, 3, 4], tid(0)).is_ok(), "over a page border");
        let mut data = [0; 6];
        assert_eq!(guest.read_addrs(0xffd, &mut data, tid(1)).ok(), Some(6));
        assert_eq!(data, [0, 1, 2, 3, 4, 0]);
        assert!(guest.write_addrs(0xf_ffff, &[1], tid(0)).is_err());
        assert!(guest.read_addrs(u64::MAX, &mut data, tid(0)).is_err());
    }

    #[test]
    fn registers_come_back_as_they_were_set_and_those_of_the_system_stay() {
        let mut guest = guest();
        let mut registers = AllRegisters::default();
        guest.read_registers(&mut registers, tid(1)).ok().unwrap();
        registers.core.regs = std::array::from_fn(|n| n as u64 + 1);
        (registers.core.rip, registers.core.eflags) = (0x7c00, 2);
        guest.write_registers(&registers, tid(1)).ok().unwrap();
        assert!(guest.cpus[1].is_changed && !guest.cpus[0].is_changed);
        let general = guest.cpus[1].registers.general;
        assert_eq!((general.rbx, general.rsp, general.rip), (2, 8, 0x7c00));
        let mut read = AllRegisters::default();
        guest.read_registers(&mut read, tid(1)).ok().unwrap();
        assert_eq!(read, registers);
        let changes: [fn(&mut AllRegisters); 2] = [|all| all.system[2] = 1, |all| all.core.segments.cs = 8];
        for change in changes {
            let mut changed = AllRegisters { core: registers.core.clone(), ..registers };
            change(&mut changed);
            changed.core.regs[0] = 99;
            assert!(guest.write_registers(&changed, tid(1)).is_err(), "not silently");
            assert_eq!(guest.cpus[1].registers.general.rax, 1);
        }
        assert!(guest.read_registers(&mut read, tid(2)).is_err(), "there are two");
    }

    #[test]
    fn vcpus_that_are_not_named_go_on_unless_they_are_locked() {
        let mut guest = guest();
        let acts = |guest: &Guest| [0, 1].map(|index| guest.action(index));
        guest.clear_resume_actions().unwrap();
        guest.set_resume_action_step(tid(1), None).unwrap();
        assert_eq!(acts(&guest), [Action::Continue, Action::Step]);
        guest.set_resume_action_scheduler_lock().unwrap();
        assert_eq!(acts(&guest), [Action::Stay, Action::Step]);
        assert!(!guest.may_run(1), "not before it goes on");
        guest.resume().unwrap();
        assert!(guest.may_run(1) && !guest.may_run(0));
        assert!(guest.wants_steps(1) && !guest.wants_steps(0));
        guest.stop_all(StopReason::SwBreak(tid(1)));
        guest.stop_all(StopReason::SwBreak(tid(0)));
        assert_eq!(guest.stop, Some(StopReason::SwBreak(tid(1))), "the first reason counts");
        guest.clear_resume_actions().unwrap();
        guest.resume().unwrap();
        assert!(guest.may_run(0) && guest.may_run(1));
    }
}
