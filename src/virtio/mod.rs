//! Virtio: devices that a guest and its host agreed upon, in place of chips that once were.
//!
//! ```text
//!   guest's driver ─▶ registers ─▶ Transport ─▶ Queue ─▶ Chain ─▶ VirtioDevice
//!                   interrupt line ◀─┘            └ rings and buffers, in the guest's memory
//! ```
//!
//! A [`VirtioDevice`] does what a kind of device does. [`Transport`] is the registers in front of it and its queues, the
//! same for all, and is put on a machine's bus as any other [`Device`](crate::device::Device). Nothing here waits: a device
//! whose host's end does has a thread for that, and takes in its [`poll`](VirtioDevice::poll) what that thread has got.
//!
//! The queues are our own, not those of the crate virtio-queue: devices are what this project exists for, and a chain is
//! checked here as a whole before a device sees any of it.
//!
//! Source: Virtual I/O Device (VIRTIO) version 1.2, OASIS, 2022; sections are named at what they describe. There are no
//! legacy devices (version 0.9), no packed queues and no PCI.

#![deny(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]
#![cfg_attr(
    test,
    allow(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

pub mod blk;
mod chain;
mod disk;
mod queue;
mod rng;
#[cfg(test)]
mod tests;
mod transport;

pub use blk::Blk;
pub use chain::Chain;
pub use disk::DiskError;
pub use queue::{Broken, Queue};
pub use rng::Rng;
pub use transport::Transport;

/// Bits of the features that all devices have in common (section 6).
pub mod feature {
    /// A descriptor may point to a table of descriptors.
    pub const INDIRECT_DESC: u64 = 1 << 28;
    /// Each side says which notification it waits for.
    pub const EVENT_IDX: u64 = 1 << 29;
    /// Not a legacy device.
    pub const VERSION_1: u64 = 1 << 32;
}

use crate::kvm::Memory;

/// What a kind of virtio device does, apart from its registers.
///
/// All of its methods are called with the machine's devices locked: none may wait.
pub trait VirtioDevice: Send {
    /// What it is called where it is shown.
    fn name(&self) -> &'static str;

    /// Its number (section 5).
    fn id(&self) -> u32;

    /// Bits of the features of its own kind that it offers.
    fn features(&self) -> u64 {
        0
    }

    /// How long each of its queues is at most: powers of two, up to 32768.
    fn queues(&self) -> &[u16];

    /// Reads its configuration space; fill all of `data`. Beyond its end are zeroes.
    fn config(&self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }

    /// The driver writes to the configuration space.
    fn set_config(&mut self, _offset: u64, _data: &[u8]) {}

    /// The driver is ready, and wants these of the features.
    fn activate(&mut self, _features: u64) {}

    /// The driver has reset the device: it has no queues any more, and what was asked for is not answered.
    fn reset(&mut self) {}

    /// The driver has put something into queue `index`, or wants the device to look.
    ///
    /// # Errors
    /// [`Broken`] for a driver that breaks the rules of the queue; the device then needs a reset.
    fn notify(&mut self, index: usize, queues: &mut Queues<'_>) -> Result<(), Broken>;

    /// Looks for news from the host: after each access to any device, and after a
    /// [`Remote::kick`](crate::machine::Remote::kick). Only called when the driver is ready.
    ///
    /// # Errors
    /// As [`notify`](VirtioDevice::notify).
    fn poll(&mut self, _queues: &mut Queues<'_>) -> Result<(), Broken> {
        Ok(())
    }

    /// Whether the configuration space has changed since this was asked the last time.
    fn take_config_change(&mut self) -> bool {
        false
    }
}

/// The queues of a device whose driver is ready, and the memory that they are in.
pub struct Queues<'a> {
    queues: &'a mut [Queue],
    memory: &'a Memory,
}

impl Queues<'_> {
    /// The guest's memory.
    pub fn memory(&self) -> &Memory {
        self.memory
    }

    /// Takes the next chain of descriptors that the driver has made available in queue `index`, if there is one.
    ///
    /// # Errors
    /// [`Broken`] if it breaks the rules.
    pub fn pop(&mut self, index: usize) -> Result<Option<Chain>, Broken> {
        self.queues.get_mut(index).map_or(Ok(None), |queue| queue.pop(self.memory))
    }

    /// Gives a chain back to the driver, with `written` bytes at the beginning of its writable part.
    ///
    /// # Errors
    /// [`Broken`] if the queue cannot be written to.
    pub fn push(&mut self, index: usize, chain: &Chain, written: u32) -> Result<(), Broken> {
        self.queues.get_mut(index).map_or(Ok(()), |queue| queue.push(self.memory, chain, written))
    }
}
