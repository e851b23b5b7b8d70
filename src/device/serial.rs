//! COM1: a [`Uart`] on a [`Cable`].
//!
//! The registers are the UART's, the bytes go through the cable; this only moves them across.

use super::{Action, Cable, Device, Uart};

/// A serial port. Its eight registers are eight consecutive byte addresses.
pub struct Serial {
    uart: Uart,
    cable: Cable,
}

impl Serial {
    /// A port at one end of `cable`.
    pub fn new(cable: Cable) -> Serial {
        Serial { uart: Uart::new(), cable }
    }
}

impl Device for Serial {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        for (register, byte) in (offset as u8..).zip(data) {
            *byte = self.uart.read(register);
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Action {
        for (register, &byte) in (offset as u8..).zip(data) {
            if let Some(sent) = self.uart.write(register, byte) {
                self.cable.put(sent);
            }
        }
        Action::Continue
    }

    fn interrupt(&self) -> bool {
        self.uart.irq()
    }

    /// Takes from the cable what fits the receiver, so that nothing is ever overrun.
    fn poll(&mut self) {
        let room = self.uart.room();
        if room > 0 {
            self.cable.take(room, |byte| {
                self.uart.receive(&[byte]);
            });
        }
    }
}
