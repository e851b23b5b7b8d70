//! COM1: a [`Uart`] on a [`Cable`].
//!
//! The registers are the UART's, the bytes go through the cable; this only moves them across.

use super::{Action, Cable, Device, Uart};

/// A serial port. Its eight registers are eight consecutive byte addresses.
pub struct Serial {
    uart: Uart,
    cable: Cable,
    /// A byte was sent since the last [`Device::poll`]. On a wire that takes time, in which the line is low:
    /// an edge-triggered pin has to see that, or a driver that waits for the next edge waits for ever.
    sent: bool,
}

impl Serial {
    /// A port at one end of `cable`.
    pub fn new(cable: Cable) -> Serial {
        Serial { uart: Uart::new(), cable, sent: false }
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
                self.sent = true;
            }
        }
        Action::Continue
    }

    fn interrupt(&self) -> bool {
        self.uart.irq() && !self.sent
    }

    /// Takes from the cable what fits the receiver, so that nothing is ever overrun.
    fn poll(&mut self) {
        self.sent = false;
        let room = self.uart.room();
        if room > 0 {
            self.cable.take(room, |byte| {
                self.uart.receive(&[byte]);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THR: u64 = 0;
    const IER: u64 = 1;
    const IER_ETBEI: u8 = 1 << 1;

    #[test]
    fn each_byte_sent_is_an_edge_even_for_a_driver_that_never_reads_iir() {
        let mut serial = Serial::new(Cable::default());
        assert_eq!(serial.write(IER, &[IER_ETBEI]), Action::Continue);
        for _ in 0..3 {
            assert!(serial.interrupt(), "the transmitter is empty");
            assert_eq!(serial.write(THR, b"x"), Action::Continue);
            assert!(!serial.interrupt(), "the byte is on its way");
            serial.poll();
        }
    }

    #[test]
    fn input_beyond_the_fifo_waits_in_the_cable_and_loses_nothing() {
        let cable = Cable::default();
        let mut serial = Serial::new(cable.clone());
        let sent: Vec<u8> = (0..100).collect();
        cable.send(&sent);
        let mut received = Vec::new();
        const LSR: u64 = 5;
        loop {
            serial.poll();
            let (mut lsr, mut byte) = ([0], [0]);
            serial.read(LSR, &mut lsr);
            assert_eq!(lsr[0] & 0x02, 0, "overrun");
            if lsr[0] & 1 == 0 {
                break;
            }
            serial.read(THR, &mut byte);
            received.extend(byte);
        }
        assert_eq!(received, sent);
    }

    #[test]
    fn a_word_written_to_the_transmitter_reaches_the_next_register_too() {
        let cable = Cable::default();
        let mut serial = Serial::new(cable.clone());
        assert_eq!(serial.write(THR, &[b'x', IER_ETBEI]), Action::Continue);
        serial.poll();
        assert_eq!(*cable.written(), b"x");
        assert!(serial.interrupt());
    }
}
