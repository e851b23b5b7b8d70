//! What a debugger sees of a guest that has stopped: registers, memory, and where it is to stop again.
//!
//! It holds a copy of the registers, which the session takes from the vCPU and gives back. Source: the GDB manual,
//! appendix E "Remote Serial Protocol"; the protocol itself is the gdbstub crate's.

use crate::kvm::Memory;
use crate::x86::Registers;
use crate::x86::page_table::{Paging, TABLE_SIZE};
use gdbstub::common::Signal;
use gdbstub::target::ext::base::BaseOps;
use gdbstub::target::ext::base::singlethread::{
    SingleThreadBase, SingleThreadResume, SingleThreadResumeOps, SingleThreadSingleStep,
    SingleThreadSingleStepOps,
};
use gdbstub::target::ext::breakpoints::{
    Breakpoints, BreakpointsOps, HwBreakpoint, HwBreakpointOps, HwWatchpoint, HwWatchpointOps, SwBreakpoint,
    SwBreakpointOps, WatchKind,
};
use gdbstub::target::{Target, TargetError, TargetResult};
use gdbstub_arch::x86::X86_64_SSE;
use gdbstub_arch::x86::reg::{X86_64CoreRegs, X86SegmentRegs};
use kvm_bindings::kvm_fpu;
use std::convert::Infallible;
use std::ops::Range;
use vm_memory::{Bytes, GuestAddress};

/// Bytes of a page.
const PAGE: usize = TABLE_SIZE as usize;
/// More than anyone sets by hand; each is looked at after each instruction.
const POINTS_MAX: usize = 64;
/// The most bytes that one watchpoint covers.
const WATCHED_MAX: u64 = 64;

/// Memory that is not to change unnoticed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Watch {
    address: u64,
    /// What was there when it was last looked at.
    bytes: Vec<u8>,
}

/// A guest that has stopped, or is about to go on.
pub(super) struct Guest {
    pub registers: Registers,
    pub fpu: kvm_fpu,
    /// Whether the debugger has set registers.
    pub is_changed: bool,
    /// Whether it wants to stop after one instruction.
    pub one_step: bool,
    memory: Memory,
    breakpoints: Vec<u64>,
    watches: Vec<Watch>,
}

impl Guest {
    pub fn new(memory: Memory) -> Guest {
        Guest {
            registers: Registers::default(),
            fpu: kvm_fpu::default(),
            is_changed: false,
            one_step: false,
            memory,
            breakpoints: Vec::new(),
            watches: Vec::new(),
        }
    }

    /// Whether the guest has to stop after each instruction, to see whether it has come to one of these.
    ///
    /// The processor has four registers for that, but not every KVM obeys them: one that emulates ring 0 does not
    /// see data accesses, and one on an emulated processor sees neither. Single steps work on all of them.
    pub fn has_points(&self) -> bool {
        self.one_step || !self.breakpoints.is_empty() || !self.watches.is_empty()
    }

    pub fn is_at_breakpoint(&self) -> bool {
        self.breakpoints.contains(&self.registers.linear_rip())
    }

    /// The address of a watchpoint whose memory has changed since this was last asked.
    pub fn changed_watch(&mut self) -> Option<u64> {
        let mut watches = std::mem::take(&mut self.watches);
        let mut found = None;
        for watch in &mut watches {
            let mut now = vec![0; watch.bytes.len()];
            if self.read(watch.address, &mut now) == now.len() && now != watch.bytes {
                watch.bytes = now;
                found = found.or(Some(watch.address));
            }
        }
        self.watches = watches;
        found
    }

    /// Calls `copy` for each page of `len` bytes at `linear`, until one is not there; returns the bytes before it.
    fn by_page(
        &self,
        linear: u64,
        len: usize,
        mut copy: impl FnMut(GuestAddress, Range<usize>) -> bool,
    ) -> usize {
        let paging = Paging::of(&self.registers.system);
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

    fn read(&self, linear: u64, data: &mut [u8]) -> usize {
        let len = data.len();
        self.by_page(linear, len, |at, part| {
            data.get_mut(part).is_some_and(|part| self.memory.read_slice(part, at).is_ok())
        })
    }

    fn add_breakpoint(&mut self, address: u64) -> bool {
        let fits = self.breakpoints.len() < POINTS_MAX;
        if fits {
            self.breakpoints.push(address);
        }
        fits
    }

    fn remove_breakpoint(&mut self, address: u64) -> bool {
        let at = self.breakpoints.iter().position(|&known| known == address);
        at.map(|at| self.breakpoints.swap_remove(at)).is_some()
    }
}

impl Target for Guest {
    type Arch = X86_64_SSE;
    type Error = Infallible;

    fn base_ops(&mut self) -> BaseOps<'_, X86_64_SSE, Infallible> {
        BaseOps::SingleThread(self)
    }

    fn support_breakpoints(&mut self) -> Option<BreakpointsOps<'_, Guest>> {
        Some(self)
    }
}

impl SingleThreadBase for Guest {
    fn read_registers(&mut self, to: &mut X86_64CoreRegs) -> TargetResult<(), Guest> {
        let (r, s, f) = (&self.registers.general, &self.registers.system, &self.fpu);
        to.regs = [
            r.rax, r.rbx, r.rcx, r.rdx, r.rsi, r.rdi, r.rbp, r.rsp, r.r8, r.r9, r.r10, r.r11, r.r12, r.r13,
            r.r14, r.r15,
        ];
        (to.rip, to.eflags) = (r.rip, r.rflags as u32);
        let selector = |of: kvm_bindings::kvm_segment| u32::from(of.selector);
        to.segments = X86SegmentRegs {
            cs: selector(s.cs),
            ss: selector(s.ss),
            ds: selector(s.ds),
            es: selector(s.es),
            fs: selector(s.fs),
            gs: selector(s.gs),
        };
        for (to, from) in to.st.iter_mut().zip(&f.fpr) {
            to.copy_from_slice(&from[..10]);
        }
        (to.fpu.fctrl, to.fpu.fstat, to.fpu.ftag) = (f.fcw.into(), f.fsw.into(), f.ftwx.into());
        to.fpu.fop = f.last_opcode.into();
        for (to, from) in to.xmm.iter_mut().zip(&f.xmm) {
            *to = u128::from_le_bytes(*from);
        }
        to.mxcsr = f.mxcsr;
        Ok(())
    }

    /// The general registers, RIP and RFLAGS. What is set of the others is not taken.
    fn write_registers(&mut self, from: &X86_64CoreRegs) -> TargetResult<(), Guest> {
        let r = &mut self.registers.general;
        let to = [
            &mut r.rax, &mut r.rbx, &mut r.rcx, &mut r.rdx, &mut r.rsi, &mut r.rdi, &mut r.rbp, &mut r.rsp,
            &mut r.r8, &mut r.r9, &mut r.r10, &mut r.r11, &mut r.r12, &mut r.r13, &mut r.r14, &mut r.r15,
        ];
        for (to, &from) in to.into_iter().zip(&from.regs) {
            *to = from;
        }
        (r.rip, r.rflags) = (from.rip, from.eflags.into());
        self.is_changed = true;
        Ok(())
    }

    fn read_addrs(&mut self, address: u64, data: &mut [u8]) -> TargetResult<usize, Guest> {
        match self.read(address, data) {
            0 if !data.is_empty() => Err(TargetError::NonFatal),
            count => Ok(count),
        }
    }

    fn write_addrs(&mut self, address: u64, data: &[u8]) -> TargetResult<(), Guest> {
        let memory = &self.memory;
        let done = self.by_page(address, data.len(), |at, part| {
            data.get(part).is_some_and(|part| memory.write_slice(part, at).is_ok())
        });
        if done == data.len() { Ok(()) } else { Err(TargetError::NonFatal) }
    }

    fn support_resume(&mut self) -> Option<SingleThreadResumeOps<'_, Guest>> {
        Some(self)
    }
}

impl SingleThreadResume for Guest {
    fn resume(&mut self, _signal: Option<Signal>) -> Result<(), Infallible> {
        self.one_step = false;
        Ok(())
    }

    fn support_single_step(&mut self) -> Option<SingleThreadSingleStepOps<'_, Guest>> {
        Some(self)
    }
}

impl SingleThreadSingleStep for Guest {
    fn step(&mut self, _signal: Option<Signal>) -> Result<(), Infallible> {
        self.one_step = true;
        Ok(())
    }
}

impl Breakpoints for Guest {
    fn support_sw_breakpoint(&mut self) -> Option<SwBreakpointOps<'_, Guest>> {
        Some(self)
    }

    fn support_hw_breakpoint(&mut self) -> Option<HwBreakpointOps<'_, Guest>> {
        Some(self)
    }

    fn support_hw_watchpoint(&mut self) -> Option<HwWatchpointOps<'_, Guest>> {
        Some(self)
    }
}

impl SwBreakpoint for Guest {
    fn add_sw_breakpoint(&mut self, address: u64, _kind: usize) -> TargetResult<bool, Guest> {
        Ok(self.add_breakpoint(address))
    }

    fn remove_sw_breakpoint(&mut self, address: u64, _kind: usize) -> TargetResult<bool, Guest> {
        Ok(self.remove_breakpoint(address))
    }
}

impl HwBreakpoint for Guest {
    fn add_hw_breakpoint(&mut self, address: u64, _kind: usize) -> TargetResult<bool, Guest> {
        Ok(self.add_breakpoint(address))
    }

    fn remove_hw_breakpoint(&mut self, address: u64, _kind: usize) -> TargetResult<bool, Guest> {
        Ok(self.remove_breakpoint(address))
    }
}

impl HwWatchpoint for Guest {
    /// Only writes that change something: they are found by comparing.
    fn add_hw_watchpoint(&mut self, address: u64, len: u64, kind: WatchKind) -> TargetResult<bool, Guest> {
        if kind != WatchKind::Write || len > WATCHED_MAX || self.watches.len() == POINTS_MAX {
            return Ok(false);
        }
        let mut bytes = vec![0; len as usize];
        if self.read(address, &mut bytes) < bytes.len() {
            return Ok(false);
        }
        self.watches.push(Watch { address, bytes });
        Ok(true)
    }

    fn remove_hw_watchpoint(
        &mut self,
        address: u64,
        len: u64,
        _kind: WatchKind,
    ) -> TargetResult<bool, Guest> {
        let is_it = |watch: &Watch| watch.address == address && watch.bytes.len() as u64 == len;
        let at = self.watches.iter().position(is_it);
        Ok(at.map(|at| self.watches.swap_remove(at)).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guest() -> Guest {
        Guest::new(Memory::from_ranges(&[(GuestAddress(0), 0x1_0000)]).unwrap())
    }

    #[test]
    fn memory_is_read_and_written_as_far_as_it_goes() {
        let mut guest = guest();
        assert!(guest.write_addrs(0xffe, &[1, 2, 3, 4]).is_ok(), "over a page border");
        let mut data = [0; 6];
        assert_eq!(guest.read_addrs(0xffd, &mut data).ok(), Some(6));
        assert_eq!(data, [0, 1, 2, 3, 4, 0]);
        assert!(guest.write_addrs(0xf_ffff, &[1]).is_err());
        assert!(guest.read_addrs(u64::MAX, &mut data).is_err());
    }

    #[test]
    fn registers_come_back_as_they_were_set() {
        let mut guest = guest();
        let regs = std::array::from_fn(|n| n as u64 + 1);
        let registers = X86_64CoreRegs { regs, rip: 0x7c00, eflags: 2, ..X86_64CoreRegs::default() };
        guest.write_registers(&registers).ok().unwrap();
        assert!(guest.is_changed);
        assert_eq!((guest.registers.general.rbx, guest.registers.general.rsp), (2, 8));
        let mut read = X86_64CoreRegs::default();
        guest.read_registers(&mut read).ok().unwrap();
        assert_eq!(read, registers);
    }

    #[test]
    fn points_are_found_again_and_bounded() {
        let mut guest = guest();
        for n in 0..POINTS_MAX as u64 {
            assert!(guest.add_breakpoint(n));
        }
        assert!(!guest.add_breakpoint(1 << 40));
        assert!(guest.remove_breakpoint(3) && !guest.remove_breakpoint(3));
        assert!(guest.is_at_breakpoint(), "rip is 0");
    }

    #[test]
    fn a_watchpoint_sees_a_change_once() {
        let mut guest = guest();
        assert!(guest.add_hw_watchpoint(0x2000, 4, WatchKind::Write).ok().unwrap());
        assert!(!guest.add_hw_watchpoint(0x2000, 4, WatchKind::Read).ok().unwrap());
        assert!(!guest.add_hw_watchpoint(0xff_0000, 4, WatchKind::Write).ok().unwrap());
        assert!(!guest.add_hw_watchpoint(0, u64::MAX, WatchKind::Write).ok().unwrap());
        assert_eq!(guest.changed_watch(), None);
        guest.write_addrs(0x2003, &[9]).ok().unwrap();
        assert_eq!((guest.changed_watch(), guest.changed_watch()), (Some(0x2000), None));
        assert!(guest.remove_hw_watchpoint(0x2000, 4, WatchKind::Write).ok().unwrap());
        assert!(!guest.has_points());
    }
}
