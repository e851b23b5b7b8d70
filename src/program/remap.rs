//! mremap(2): a mapping moves, or grows where it is; and brk(2), by which the heap does.
//!
//! The order is that of [`super::address_space`]: rights are taken from both places first, and given when the host has
//! moved what is there.

use super::address_space::{ARENA, AddressSpace, Layout, PAGE};
use super::errno::Errno;
use super::regions::Region;
use super::tables::Rights;
use crate::sys::program::{Arena, Source};
use std::io;

impl AddressSpace {
    /// brk(2): moves the end of the heap if it can, and says where it is.
    pub fn set_heap_end(&mut self, wanted: u64) -> u64 {
        let Layout { heap, heap_end, .. } = self.layout;
        let (old, new) =
            (heap_end.next_multiple_of(PAGE), wanted.checked_next_multiple_of(PAGE).unwrap_or(0));
        if wanted < heap || new > ARENA {
            return heap_end;
        }
        if new > old {
            // A page stays free behind it.
            let is_room = self.regions.is_free(old, new + PAGE);
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            if !is_room || self.map_at(old, new - old, protection, Source::ANONYMOUS).is_err() {
                return heap_end;
            }
        } else if new < old && self.unmap(new, old - new).is_err() {
            return heap_end;
        }
        self.layout.heap_end = wanted;
        wanted
    }

    /// mremap(2), of one mapping with one set of rights. `to` is where it has to go, if that was said.
    pub fn remap(
        &mut self,
        at: u64,
        old: u64,
        new: u64,
        may_move: bool,
        to: Option<u64>,
    ) -> std::result::Result<u64, Errno> {
        let ((start, old_end), (_, new_end)) = (self.range(at, old)?, self.range(at, new)?);
        let (old, new) = (old_end - start, new_end - start);
        let region = match self.regions.within(start, old_end).next() {
            Some((at, region)) if at == start && region.end == old_end => region,
            _ => return Err(Errno(libc::EFAULT)),
        };
        if to.is_none() && new <= old {
            if new < old {
                self.unmap(new_end, old - new)?;
            }
            return Ok(start);
        }
        if !may_move && to.is_none() && !self.regions.is_free(old_end, new_end) {
            return Err(Errno(libc::ENOMEM));
        }
        if region.is_counted && new > old {
            self.regions.check_memory(start, old_end, new)?;
        }
        // In place where that is free and what is there needs no file.
        if to.is_none() && region.is_anonymous && self.regions.is_free(old_end, new_end) {
            self.arena.map(old_end, new - old, region.rights.on_host(), Source::ANONYMOUS)?;
            self.regions.remember(old_end, Region { end: new_end, ..region });
            self.give(old_end, new_end, region.rights)?;
            return Ok(start);
        }
        if !may_move {
            return Err(Errno(libc::ENOMEM));
        }
        let target = match to {
            Some(to) => self.range(to, new)?.0,
            None => self.find(new, ARENA)?,
        };
        if target < old_end && start < target + new {
            return Err(Errno(libc::EINVAL));
        }
        self.give(start, old_end, Rights::NONE)?;
        self.give(target, target + new, Rights::NONE)?;
        if let Err(error) = move_pages(&self.arena, start, old, target, new) {
            // Nothing was moved; what was there before is so again.
            self.give(start, old_end, region.rights)?;
            let there: Vec<(u64, Region)> = self.regions.within(target, target + new).collect();
            for (at, region) in there {
                self.give(at, region.end, region.rights)?;
            }
            return Err(error.into());
        }
        self.regions.forget(start, old_end);
        self.regions.remember(target, Region { end: target + new, ..region });
        self.give(target, target + new, region.rights)?;
        Ok(target)
    }
}

/// Moves whole pages, and makes them `new` bytes long. What is one mapping here may be several of the host's, as they lie
/// in memory one after another but have not been made so: those it moves one by one.
fn move_pages(arena: &Arena, from: u64, old: u64, to: u64, new: u64) -> io::Result<()> {
    let kept = old.min(new);
    match arena.remap(from, old, to, new) {
        Err(error) if error.raw_os_error() == Some(libc::EFAULT) && kept > PAGE => {
            let half = (kept / 2).next_multiple_of(PAGE);
            move_pages(arena, from, half, to, half)?;
            if let Err(error) = move_pages(arena, from + half, old - half, to + half, new - half) {
                let _ = move_pages(arena, to, half, from, half);
                return Err(error);
            }
            Ok(())
        }
        moved => moved,
    }
}
