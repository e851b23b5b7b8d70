//! A split virtqueue, the device's end of it (section 2.7).
//!
//! ```text
//!   descriptors: address, length, flags, next      where buffers are, and which belong together
//!   available:   flags, idx, ring of heads, used_event        driver ─▶ device
//!   used:        flags, idx, ring of heads, avail_event       device ─▶ driver
//! ```
//!
//! All three lie in the guest's memory, and the guest may write anything there at any time. So each value is read once,
//! and what has been read is checked before it is used.

use super::chain::Chain;
use super::feature;
use crate::kvm::{Buffer, Memory};
use std::sync::atomic::{Ordering, fence};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

// Flags of a descriptor (section 2.7.5).
const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

/// VIRTQ_AVAIL_F_NO_INTERRUPT, the flag in the available ring (section 2.7.6).
const NO_INTERRUPT: u16 = 1;

/// Bytes of a descriptor.
const DESCRIPTOR: u64 = 16;
/// Bytes before the ring, in both the available and the used one: flags and index.
const RING: u64 = 4;

/// How a driver can break the rules of a queue. Only the driver is told, and only that it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// A part of the queue, or a buffer in it, is not in memory.
    Address,
    /// The queue was made ready with a size or an alignment that it cannot have.
    Layout,
    /// The index in the available ring is further ahead than the ring is long.
    Available,
    /// There is no descriptor of that index.
    Index,
    /// The chain is longer than the queue, as one that bites its own tail.
    Endless,
    /// A table of descriptors where none may be, or of a length that none can have.
    Indirect,
    /// A buffer to be read comes after one to be written.
    Order,
    /// The buffers of a chain have 4 GiB or more.
    Length,
    /// A request that its kind of device does not know how to answer.
    Request,
}

/// A queue, as its driver has set it up.
#[derive(Debug, Clone, Default)]
pub struct Queue {
    /// The longest that it can be.
    pub(super) max: u16,
    pub(super) size: u16,
    pub(super) is_ready: bool,
    /// The guest-physical addresses of its parts.
    pub(super) descriptors: u64,
    pub(super) available: u64,
    pub(super) used: u64,
    /// Which the driver wants.
    features: u64,
    /// Where the next chain is in the available ring, modulo 65536.
    next_available: u16,
    /// Where the next one goes in the used ring.
    next_used: u16,
    /// How far the used ring was when it was decided the last time whether to interrupt.
    told: u16,
}

impl Queue {
    /// A queue of at most `max` entries that is not set up.
    pub fn new(max: u16) -> Queue {
        Queue { max, size: max, ..Queue::default() }
    }

    /// Makes it ready, if it is one that can be.
    pub(super) fn make_ready(&mut self, memory: &Memory, features: u64) -> Result<(), Broken> {
        let size = u64::from(self.size);
        let parts = [
            (self.descriptors, DESCRIPTOR, size.wrapping_mul(DESCRIPTOR)),
            (self.available, 2, size.wrapping_mul(2).wrapping_add(RING + 2)),
            (self.used, 4, size.wrapping_mul(8).wrapping_add(RING + 2)),
        ];
        if !self.size.is_power_of_two() || self.size > self.max {
            return Err(Broken::Layout);
        }
        for (address, alignment, len) in parts {
            if !address.is_multiple_of(alignment) {
                return Err(Broken::Layout);
            }
            if !memory.check_range(GuestAddress(address), len as usize) {
                return Err(Broken::Address);
            }
        }
        (self.features, self.is_ready) = (features, true);
        Ok(())
    }

    fn has(&self, feature: u64) -> bool {
        self.features & feature != 0
    }

    /// Takes the next chain, if there is one.
    pub(super) fn pop(&mut self, memory: &Memory) -> Result<Option<Chain>, Broken> {
        if !self.is_ready {
            return Ok(None);
        }
        let index = place(self.available, 2);
        let mut available: u16 = load(memory, index, Ordering::Acquire)?;
        if available == self.next_available && self.has(feature::EVENT_IDX) {
            // The driver is to tell of the next one. It may have come before the driver saw that.
            let event = place(self.used, RING.wrapping_add(u64::from(self.size).wrapping_mul(8)));
            store(memory, event, self.next_available)?;
            fence(Ordering::SeqCst);
            available = load(memory, index, Ordering::Acquire)?;
        }
        match available.wrapping_sub(self.next_available) {
            0 => return Ok(None),
            ahead if ahead > self.size => return Err(Broken::Available),
            _ => {}
        }
        let head =
            load(memory, place(self.available, self.entry(self.next_available, 2)), Ordering::Relaxed)?;
        let chain = self.chain(memory, head)?;
        self.next_available = self.next_available.wrapping_add(1);
        Ok(Some(chain))
    }

    /// The offset in a ring of its entry number `index`, if each has `size` bytes.
    fn entry(&self, index: u16, size: u64) -> u64 {
        let slot = index & self.size.wrapping_sub(1);
        RING.wrapping_add(u64::from(slot).wrapping_mul(size))
    }

    /// Collects a chain from its first descriptor on.
    fn chain(&self, memory: &Memory, head: u16) -> Result<Chain, Broken> {
        let mut chain = Chain { head, ..Chain::default() };
        let (mut table, mut entries, mut is_indirect) = (self.descriptors, u32::from(self.size), false);
        let (mut index, mut left, mut total) = (head, self.size, 0_u32);
        loop {
            if u32::from(index) >= entries {
                return Err(Broken::Index);
            }
            let at = place(table, u64::from(index).wrapping_mul(DESCRIPTOR));
            // Not one number but four: read once, and by one copy.
            let bytes: [u8; DESCRIPTOR as usize] = memory.read_obj(at).map_err(|_| Broken::Address)?;
            let [address, rest] = [0, 8].map(|at| bytes.get(at..).and_then(<[u8]>::first_chunk).copied());
            let address = u64::from_le_bytes(address.unwrap_or_default());
            let rest = u64::from_le_bytes(rest.unwrap_or_default());
            let (len, flags, next) = (rest as u32, (rest >> 32) as u16, (rest >> 48) as u16);
            if flags & INDIRECT != 0 {
                let is_allowed = self.has(feature::INDIRECT_DESC) && !is_indirect && flags & NEXT == 0;
                if !is_allowed || len == 0 || !len.is_multiple_of(DESCRIPTOR as u32) {
                    return Err(Broken::Indirect);
                }
                (table, entries, is_indirect) = (address, len >> 4, true);
                index = 0;
                continue;
            }
            left = left.checked_sub(1).ok_or(Broken::Endless)?;
            total = total.checked_add(len).ok_or(Broken::Length)?;
            let is_readable = flags & WRITE == 0;
            if is_readable && chain.readable < chain.buffers.len() {
                return Err(Broken::Order);
            }
            if len > 0 {
                if !memory.check_range(GuestAddress(address), len as usize) {
                    return Err(Broken::Address);
                }
                chain.readable = chain.readable.saturating_add(is_readable.into());
                chain.buffers.push(Buffer { address, len });
            }
            if flags & NEXT == 0 {
                return Ok(chain);
            }
            index = next;
        }
    }

    /// Gives a chain back, with `written` bytes in its writable part.
    pub(super) fn push(&mut self, memory: &Memory, chain: &Chain, written: u32) -> Result<(), Broken> {
        if !self.is_ready {
            return Ok(());
        }
        let element = u64::from(chain.head) | u64::from(written) << 32;
        let at = place(self.used, self.entry(self.next_used, 8));
        memory.write_obj(element.to_le(), at).map_err(|_| Broken::Address)?;
        self.next_used = self.next_used.wrapping_add(1);
        store(memory, place(self.used, 2), self.next_used)
    }

    /// Whether the driver wants to be interrupted for what has been given back since this was asked the last time (sections
    /// 2.7.7 and 2.7.10).
    pub(super) fn take_interrupt(&mut self, memory: &Memory) -> Result<bool, Broken> {
        let (new, old) = (self.next_used, std::mem::replace(&mut self.told, self.next_used));
        if new == old || !self.is_ready {
            return Ok(false);
        }
        // What was given back is to be seen before the driver's wish is read.
        fence(Ordering::SeqCst);
        if !self.has(feature::EVENT_IDX) {
            let flags: u16 = load(memory, GuestAddress(self.available), Ordering::Relaxed)?;
            return Ok(flags & NO_INTERRUPT == 0);
        }
        let event = place(self.available, RING.wrapping_add(u64::from(self.size).wrapping_mul(2)));
        let event: u16 = load(memory, event, Ordering::Relaxed)?;
        Ok(new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old))
    }
}

/// Ranges were checked before: nothing wraps that is used.
fn place(base: u64, offset: u64) -> GuestAddress {
    GuestAddress(base.wrapping_add(offset))
}

fn load(memory: &Memory, at: GuestAddress, ordering: Ordering) -> Result<u16, Broken> {
    memory.load(at, ordering).map(u16::from_le).map_err(|_| Broken::Address)
}

fn store(memory: &Memory, at: GuestAddress, value: u16) -> Result<(), Broken> {
    memory.store(value.to_le(), at, Ordering::Release).map_err(|_| Broken::Address)
}
