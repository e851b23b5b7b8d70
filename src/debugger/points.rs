//! Where a guest is to stop: breakpoints, and memory that is watched for changes.

use crate::kvm::Memory;
use vm_memory::{Bytes, GuestAddress};

/// More than anyone sets by hand; each is looked at after each instruction.
const POINTS_MAX: usize = 64;
/// The most bytes that one watchpoint covers.
pub(super) const WATCHED_MAX: u64 = 64;

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

    /// False if there are too many.
    pub fn add_breakpoint(&mut self, address: u64) -> bool {
        let fits = self.breakpoints.len() < POINTS_MAX;
        if fits {
            self.breakpoints.push(address);
        }
        fits
    }

    /// False if there is none.
    pub fn remove_breakpoint(&mut self, address: u64) -> bool {
        let at = self.breakpoints.iter().position(|&known| known == address);
        at.map(|at| self.breakpoints.swap_remove(at)).is_some()
    }

    /// Watches these parts of memory, which `address` means. False if there are too many.
    pub fn add_watch(&mut self, address: u64, parts: Vec<(GuestAddress, Vec<u8>)>) -> bool {
        let fits = self.watches.len() < POINTS_MAX;
        if fits {
            self.watches.push(Watch { address, parts });
        }
        fits
    }

    /// False if there is none of that address and that many bytes.
    pub fn remove_watch(&mut self, address: u64, len: u64) -> bool {
        let bytes = |watch: &Watch| watch.parts.iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>();
        let at = self.watches.iter().position(|watch| watch.address == address && bytes(watch) == len);
        at.map(|at| self.watches.swap_remove(at)).is_some()
    }
}
