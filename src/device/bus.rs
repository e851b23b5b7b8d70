//! An address space of devices: the I/O ports or the memory-mapped addresses of a machine.
//!
//! Not the guest's memory: KVM handles that without us. An address nobody claims behaves as on a PC
//! with nothing plugged in: reads give all ones, writes vanish.

use super::{Action, Device};

/// Two devices want the same address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{base:#x}..{end:#x} is empty, wraps, or is already taken")]
pub struct Overlap {
    base: u64,
    end: u64,
}

struct Slot {
    base: u64,
    /// The last address, inclusive, so that a range may end at the top of the address space.
    last: u64,
    /// The pin of the interrupt controller that the device's line is soldered to.
    pin: Option<u8>,
    device: Box<dyn Device>,
}

/// Devices by address, sorted; see the [module](self).
#[derive(Default)]
pub struct Bus {
    slots: Vec<Slot>,
}

impl Bus {
    /// An empty bus.
    pub const fn new() -> Bus {
        Bus { slots: Vec::new() }
    }

    /// Puts `device` at `base..base + len` (bytes) and its interrupt line on `pin`, if it has one.
    pub fn insert(
        &mut self,
        base: u64,
        len: u64,
        pin: Option<u8>,
        device: Box<dyn Device>,
    ) -> Result<(), Overlap> {
        let overlap = Overlap { base, end: base.wrapping_add(len) };
        let last = len.checked_sub(1).and_then(|n| base.checked_add(n)).ok_or(overlap)?;
        let at = self.slots.partition_point(|slot| slot.last < base);
        if self.slots.get(at).is_some_and(|next| next.base <= last) {
            return Err(overlap);
        }
        self.slots.insert(at, Slot { base, last, pin, device });
        Ok(())
    }

    /// Reads `data.len()` bytes at `address`.
    pub fn read(&mut self, address: u64, data: &mut [u8]) {
        let mut done = 0;
        while done < data.len() {
            let here = address.wrapping_add(done as u64);
            let (slot, len) = self.claim(here, data.len() - done);
            let part = &mut data[done..done + len];
            match slot {
                Some(slot) => slot.device.read(here - slot.base, part),
                None => part.fill(0xff),
            }
            done += len;
        }
    }

    /// Writes `data` at `address`. If the access spans devices, the first one that wants more than
    /// [`Action::Continue`] decides, as the guest would be gone before the next byte left it.
    pub fn write(&mut self, address: u64, data: &[u8]) -> Action {
        let mut done = 0;
        while done < data.len() {
            let here = address.wrapping_add(done as u64);
            let (slot, len) = self.claim(here, data.len() - done);
            if let Some(slot) = slot {
                let action = slot.device.write(here - slot.base, &data[done..done + len]);
                if action != Action::Continue {
                    return action;
                }
            }
            done += len;
        }
        Action::Continue
    }

    /// Lets every device look for news from outside.
    pub fn poll(&mut self) {
        self.slots.iter_mut().for_each(|slot| slot.device.poll());
    }

    /// The level of every interrupt line, by pin.
    pub fn interrupts(&self) -> impl Iterator<Item = (u8, bool)> {
        self.slots.iter().filter_map(|slot| Some((slot.pin?, slot.device.interrupt())))
    }

    /// Who answers at `address`, and for how many of `want` bytes.
    fn claim(&mut self, address: u64, want: usize) -> (Option<&mut Slot>, usize) {
        let at = self.slots.partition_point(|slot| slot.last < address);
        match self.slots.get_mut(at) {
            Some(slot) if slot.base <= address => {
                let left = (slot.last - address).saturating_add(1);
                (Some(slot), want.min(usize::try_from(left).unwrap_or(usize::MAX)))
            }
            // One byte at a time through a gap: a device may begin right behind it.
            _ => (None, 1),
        }
    }
}
