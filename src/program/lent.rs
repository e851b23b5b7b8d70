//! What a child of vfork(2) changes in memory that it believes to share with its parent, and has a copy of: the parent
//! takes it over when the child ends without having become another program.
//!
//! Where the parent has one thread, nothing of its memory changes meanwhile, and it takes whole pages. Where it has more,
//! they go on, and what they write may be in the same page. So the child keeps what its stack was at the fork, and that
//! of its parent's thread, and the parent takes the bytes that are no longer so.
//!
//! Source: vfork(2).

use super::address_space::PAGE;
use super::regions::Regions;
use crate::sys::program as sys;
use crate::sys::program::{Arena, Changed, Lender};
use std::collections::BTreeMap;
use std::os::fd::RawFd;

/// How far below and above a stack's pointer its pages are kept, bytes: a child that has not become another program
/// has called a few functions, and tells how it failed by variables of its parent's last few.
const BELOW: u64 = 32 << 10;
const ABOVE: u64 = 64 << 10;
/// How much is taken over at once, bytes.
const PIECE: u64 = 64 << 10;

/// The child's side.
pub struct Lent {
    lender: Lender,
    /// What was in which page, where the parent has other threads.
    before: Option<BTreeMap<u64, Box<[u8]>>>,
}

impl Lent {
    /// For a child that has changed nothing yet, whose parent was alone or not. `stacks` are stack pointers: that of
    /// the parent's thread, and its own.
    pub fn new(lender: Lender, arena: &Arena, regions: &Regions, was_alone: bool, stacks: [u64; 2]) -> Lent {
        if was_alone {
            return Lent { lender, before: None };
        }
        let mut before = BTreeMap::new();
        for (start, end) in regions.writable() {
            for rsp in stacks.into_iter().filter(|rsp| (start..=end).contains(rsp)) {
                let first = (rsp.saturating_sub(BELOW) & !(PAGE - 1)).max(start);
                let last = rsp.saturating_add(ABOVE).min(end);
                for page in (first..last).step_by(PAGE as usize) {
                    let mut bytes = vec![0; PAGE as usize].into_boxed_slice();
                    if arena.read(page, &mut bytes).is_ok() {
                        before.insert(page, bytes);
                    }
                }
            }
        }
        Lent { lender, before: Some(before) }
    }

    /// Says what has changed, and waits until it has been taken.
    pub fn say_end(self, arena: &Arena, regions: &Regions) {
        let changed = match &self.before {
            None => sys::changed_pages(arena, &regions.writable()).unwrap_or_default(),
            Some(before) => {
                before.iter().flat_map(|(&page, before)| changed_bytes(arena, page, before)).collect()
            }
        };
        self.lender.tell(&changed);
    }

    /// Its descriptors.
    pub fn descriptors(&self) -> [RawFd; 2] {
        self.lender.descriptors()
    }
}

/// The bytes of a page that are no longer what they were, from where to where.
fn changed_bytes(arena: &Arena, page: u64, before: &[u8]) -> Vec<(u64, u64)> {
    let mut now = vec![0; before.len()];
    if arena.read(page, &mut now).is_err() {
        return Vec::new();
    }
    let mut changed: Vec<(u64, u64)> = Vec::new();
    for at in (0..before.len()).filter(|&at| before[at] != now[at]) {
        let at = page + at as u64;
        match changed.last_mut().filter(|(_, end)| *end == at) {
            Some((_, end)) => *end += 1,
            None => changed.push((at, at + 1)),
        }
    }
    changed
}

/// In the parent: takes over what `child`, which waits, has changed. What cannot be read there, or is no longer our own
/// to write to, stays as it is.
pub fn take_over(arena: &Arena, regions: &Regions, child: i32, changed: &Changed) {
    let writable = regions.writable();
    let mut bytes = vec![0; PIECE as usize];
    for (start, end) in changed.ranges() {
        if !writable.iter().any(|&(from, to)| from <= start && end <= to) {
            continue;
        }
        for at in (start..end).step_by(PIECE as usize) {
            let bytes = &mut bytes[..(end - at).min(PIECE) as usize];
            if sys::read_process(child, arena, at, bytes).is_ok() {
                let _ = arena.write(at, bytes);
            }
        }
    }
}
