//! How a thread of a device brings its news to the guest: it has the devices look, and their interrupts delivered, while the
//! vCPUs stay where they are.
//!
//! Instead of an irqfd, which would need a route in KVM for each pin, while the pins end at an IOAPIC that is ours; and with
//! one, and an ioeventfd for what the driver tells, a VM took 13 ms longer to take down on a Linux 6.18.

use super::board::Board;
use super::lock;
use crate::device::Msi;
use crate::kvm::Messenger;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, Weak};

/// The bell of a machine's devices.
pub struct Doorbell {
    /// Not held: a thread that rings is a device's, and so the board's.
    board: Weak<Mutex<Board>>,
    messenger: Messenger,
}

impl Doorbell {
    pub(super) fn new(board: &Arc<Mutex<Board>>, messenger: Messenger) -> Doorbell {
        Doorbell { board: Arc::downgrade(board), messenger }
    }

    /// Has every device [look for news](crate::device::Device::poll), and interrupts the guest if one wants to. Not to be
    /// called from a device's own methods: it waits until those have come back.
    pub fn ring(&self) {
        let Some(board) = self.board.upgrade() else { return };
        let Ok(()) = lock(&board).settle(|Msi { address, data }| {
            self.messenger.send(address, data);
            Ok::<(), Infallible>(())
        });
    }
}
