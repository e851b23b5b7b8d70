//! Where a guest is to stop: breakpoints, and memory that is watched for changes.

use super::guest::Guest;
use crate::kvm::Memory;
use crate::x86::page_table::Paging;
use gdbstub::target::TargetResult;
use gdbstub::target::ext::breakpoints::{
    Breakpoints, HwBreakpoint, HwBreakpointOps, HwWatchpoint, HwWatchpointOps, SwBreakpoint, SwBreakpointOps,
    WatchKind,
};
use vm_memory::{Bytes, GuestAddress};

/// More than anyone sets by hand; each is looked at after each instruction.
const POINTS_MAX: usize = 64;
/// The most bytes that one watchpoint covers.
const WATCHED_MAX: u64 = 64;

/// Memory that is watched for changes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Watch {
    /// The linear address by which the client knows it.
    address: u64,
    /// The guest-physical memory that the address meant when the watchpoint was set: each part, and what was there
    /// when it was last looked at.
    parts: Vec<(GuestAddress, Vec<u8>)>,
}

/// All points at which a guest stops, whichever vCPU comes to them.
#[derive(Default)]
pub(super) struct Points {
    breakpoints: Vec<u64>,
    watches: Vec<Watch>,
}

impl Points {
    pub fn is_empty(&self) -> bool {
        self.breakpoints.is_empty() && self.watches.is_empty()
    }

    pub fn is_breakpoint(&self, address: u64) -> bool {
        self.breakpoints.contains(&address)
    }

    /// The address of a watchpoint whose memory has changed since this was last asked.
    pub fn changed_watch(&mut self, memory: &Memory) -> Option<u64> {
        let mut found = None;
        for watch in &mut self.watches {
            for (at, bytes) in &mut watch.parts {
                let mut now = vec![0; bytes.len()];
                if memory.read_slice(&mut now, *at).is_ok() && now != *bytes {
                    *bytes = now;
                    found = found.or(Some(watch.address));
                }
            }
        }
        found
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
        if kind != WatchKind::Write || len > WATCHED_MAX || self.points.watches.len() == POINTS_MAX {
            return Ok(false);
        }
        let Some(paging) = self.cpus.first().map(|cpu| Paging::of(&cpu.registers.system)) else {
            return Ok(false);
        };
        let mut parts = Vec::new();
        let done = self.by_page(paging, address, len as usize, |at, part| {
            let mut bytes = vec![0; part.len()];
            let is_there = self.memory.read_slice(&mut bytes, at).is_ok();
            parts.push((at, bytes));
            is_there
        });
        let is_whole = done as u64 == len;
        if is_whole {
            self.points.watches.push(Watch { address, parts });
        }
        Ok(is_whole)
    }

    fn remove_hw_watchpoint(
        &mut self,
        address: u64,
        len: u64,
        _kind: WatchKind,
    ) -> TargetResult<bool, Guest> {
        let bytes = |watch: &Watch| watch.parts.iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>();
        let is_it = |watch: &Watch| watch.address == address && bytes(watch) == len;
        let at = self.points.watches.iter().position(is_it);
        Ok(at.map(|at| self.points.watches.swap_remove(at)).is_some())
    }
}
#[cfg(test)]
mod tests {
    use super::*;
    use crate::debugger::guest::{StopReason, tid};
    use crate::kvm::StopPoint;
    use gdbstub::target::ext::base::multithread::MultiThreadBase;

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
        for n in 0..POINTS_MAX as u64 {
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
