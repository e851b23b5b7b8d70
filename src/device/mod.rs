//! Devices: what answers when the guest touches a port or an address that is not memory.
//!
//! A device does not know where it lives, never ends the VM and never injects an interrupt itself.
//! It is asked, and it answers: [`Device::write`] returns an [`Action`], [`Device::interrupt`] the
//! level of its line. That keeps each device a pure state machine that a test can drive without KVM.

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

mod bus;
mod cable;
mod cmos;
mod debug_exit;
mod i8042;
mod ioapic;
mod post;
mod power;
mod serial;
mod uart;

pub use bus::{AcpiId, Bus, Conflict, Slot, Space};
pub use cable::{Cable, Symbol};
pub use cmos::Cmos;
pub use debug_exit::DebugExit;
pub use i8042::I8042;
pub use ioapic::{Ioapic, Msi};
pub use post::Post;
pub use power::Power;
pub use serial::Serial;
pub use uart::Uart;

/// What the machine has to do after a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Action {
    /// Nothing: the guest goes on.
    Continue,
    /// End the VM with this exit status.
    Exit(u8),
    /// The guest pulled the reset line.
    Reset,
    /// The guest switched itself off.
    PowerOff,
    /// Stop here; the guest can go on later.
    Stop,
}

/// A device on a [`Bus`].
///
/// `offset` counts bytes from where the device was put. `data` is one access of 1, 2, 4 or 8 bytes,
/// little-endian; the bus never passes one that reaches beyond the device's range.
pub trait Device: Send {
    /// The guest reads; fill all of `data`.
    fn read(&mut self, offset: u64, data: &mut [u8]);

    /// The guest writes.
    fn write(&mut self, offset: u64, data: &[u8]) -> Action;

    /// The guest writes a string: accesses of one byte, at least one, one after the other, all at `offset`. The first
    /// one after which it is not [`Action::Continue`] is the last.
    fn write_string(&mut self, offset: u64, bytes: &[u8]) -> Action {
        let mut actions = bytes.chunks(1).map(|byte| self.write(offset, byte));
        actions.find(|action| *action != Action::Continue).unwrap_or(Action::Continue)
    }

    /// The level of the interrupt line, computed from the device's state each time it is asked.
    fn interrupt(&self) -> bool {
        false
    }

    /// What the device is called where it is shown: the name of its type.
    fn name(&self) -> &'static str {
        std::any::type_name::<Self>().rsplit("::").next().unwrap_or("device")
    }

    /// What the device has to remember when the machine goes on elsewhere; `None` if it cannot say. The bytes of
    /// each are in docs/snapshots.md.
    fn state(&self) -> Option<Vec<u8>> {
        None
    }

    /// Takes over what the [`state`](Device::state) of such a device was. False, and nothing has changed, if it
    /// cannot be that.
    fn set_state(&mut self, _state: &[u8]) -> bool {
        false
    }

    /// Looks for news from outside the machine, such as input. Called after each access and signal, while the vCPU that
    /// calls is not in the guest.
    fn poll(&mut self) {}
}
