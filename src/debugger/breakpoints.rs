//! The guest as gdbstub sets and removes its breakpoints and watchpoints: both kinds of breakpoints are the same to us.

use super::guest::Guest;
use super::points::WATCHED_MAX;
use crate::x86::page_table::Paging;
use gdbstub::target::TargetResult;
use gdbstub::target::ext::breakpoints::{
    Breakpoints, HwBreakpoint, HwBreakpointOps, HwWatchpoint, HwWatchpointOps, SwBreakpoint, SwBreakpointOps,
    WatchKind,
};
use vm_memory::Bytes;

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
        Ok(self.points.add_breakpoint(address))
    }

    fn remove_sw_breakpoint(&mut self, address: u64, _kind: usize) -> TargetResult<bool, Guest> {
        Ok(self.points.remove_breakpoint(address))
    }
}

impl HwBreakpoint for Guest {
    fn add_hw_breakpoint(&mut self, address: u64, _kind: usize) -> TargetResult<bool, Guest> {
        Ok(self.points.add_breakpoint(address))
    }

    fn remove_hw_breakpoint(&mut self, address: u64, _kind: usize) -> TargetResult<bool, Guest> {
        Ok(self.points.remove_breakpoint(address))
    }
}

impl HwWatchpoint for Guest {
    /// Only writes that change something: they are found by comparing.
    fn add_hw_watchpoint(&mut self, address: u64, len: u64, kind: WatchKind) -> TargetResult<bool, Guest> {
        let cpu = self.cpus.first().filter(|_| kind == WatchKind::Write && len <= WATCHED_MAX);
        let Some(paging) = cpu.map(|cpu| Paging::of(&cpu.registers.system)) else { return Ok(false) };
        let mut parts = Vec::new();
        let done = self.by_page(paging, address, len as usize, |at, part| {
            let mut bytes = vec![0; part.len()];
            let is_there = self.memory.read_slice(&mut bytes, at).is_ok();
            parts.push((at, bytes));
            is_there
        });
        Ok(done as u64 == len && self.points.add_watch(address, parts))
    }

    fn remove_hw_watchpoint(
        &mut self,
        address: u64,
        len: u64,
        _kind: WatchKind,
    ) -> TargetResult<bool, Guest> {
        Ok(self.points.remove_watch(address, len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::debugger::guest::{StopReason, tid};
    use crate::kvm::{Memory, StopPoint};
    use gdbstub::target::ext::base::multithread::MultiThreadBase;
    use vm_memory::GuestAddress;

    fn guest() -> Guest {
        let mut guest = Guest::new();
        guest.memory = Memory::from_ranges(&[(GuestAddress(0), 0x1_0000)]).unwrap();
        guest.add_cpu(1);
        guest
    }

    fn changed_watch(guest: &mut Guest) -> Option<u64> {
        guest.points.changed_watch(&guest.memory)
    }

    #[test]
    fn points_are_found_again_and_bounded() {
        let mut guest = guest();
        for n in 0..64 {
            assert!(guest.points.add_breakpoint(n));
        }
        assert!(!guest.points.add_breakpoint(1 << 40));
        assert!(guest.points.remove_breakpoint(3) && !guest.points.remove_breakpoint(3));
        assert!(guest.is_at_breakpoint(1), "rip is 0");
        let reason = guest.why(1, StopPoint::AfterInstruction);
        assert_eq!(reason, Some(StopReason::SwBreak(tid(1))));
    }

    #[test]
    fn a_watchpoint_sees_a_change_once() {
        let mut guest = guest();
        assert!(guest.add_hw_watchpoint(0x2000, 4, WatchKind::Write).ok().unwrap());
        assert!(!guest.add_hw_watchpoint(0x2000, 4, WatchKind::Read).ok().unwrap());
        assert!(!guest.add_hw_watchpoint(0xff_0000, 4, WatchKind::Write).ok().unwrap());
        assert!(!guest.add_hw_watchpoint(0, u64::MAX, WatchKind::Write).ok().unwrap());
        assert_eq!(changed_watch(&mut guest), None);
        guest.write_addrs(0x2003, &[9], tid(0)).ok().unwrap();
        assert_eq!((changed_watch(&mut guest), changed_watch(&mut guest)), (Some(0x2000), None));
        assert!(guest.remove_hw_watchpoint(0x2000, 4, WatchKind::Write).ok().unwrap());
        assert!(!guest.wants_steps(0));
    }
}
