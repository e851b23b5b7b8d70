//! COM1: a [`Uart`] on a [`Cable`].
//!
//! The registers are the UART's; this moves bytes between it and the cable, and decides when the guest gets its input.

use super::{Action, Cable, Device, Symbol, Uart};

/// A serial port. Its eight registers are eight consecutive byte addresses.
pub struct Serial {
    uart: Uart,
    cable: Cable,
    /// A byte was sent since the last [`Device::poll`]. On a wire that would take time, and the interrupt line would be
    /// low meanwhile. An edge-triggered pin must see it low, or a driver that waits for the next edge waits for ever.
    sent: bool,
    /// The register touched since the last [`Device::poll`], if any.
    touched: Option<u8>,
    /// How often the guest has read LSR since it last sent something.
    looks: u32,
    /// The guest has set RTS before. So it uses RTS, and with RTS low it cannot take input now.
    handshakes: bool,
}

/// A guest that reads LSR this often, and sends nothing in between, waits for input.
const LOOKS_OF_A_LISTENER: u32 = 8;
const THR: u8 = 0;
const IER: u8 = 1;
const FCR: u8 = 2;
const LSR: u8 = 5;

impl Serial {
    /// A port at one end of `cable`.
    pub fn new(cable: Cable) -> Serial {
        Serial { uart: Uart::new(), cable, sent: false, touched: None, looks: 0, handshakes: false }
    }
}

impl Serial {
    /// Whether the guest listens, so that it may get input now. A driver that sets the port up switches interrupts and
    /// FIFOs on and off to find out what is there, and throws away what it finds in them: input has to wait until it is
    /// done.
    ///
    /// A guest listens if it has enabled the interrupt and touched another register since, or if it reads LSR again and
    /// again. It does not listen while RTS is low, if it has ever been high: a driver with hardware handshake (CRTSCTS)
    /// lowers it when its own buffers are full, and would drop what comes then. Small guests never set RTS.
    fn listens(&mut self) -> bool {
        let probing = self.touched.take() == Some(IER);
        let is_ready = self.uart.requests_to_send();
        self.handshakes |= is_ready;
        if self.handshakes && !is_ready {
            return false;
        }
        self.uart.wants_received() && !probing || self.looks >= LOOKS_OF_A_LISTENER
    }

    /// Writes bytes to one register, one after the other.
    fn write_register(&mut self, register: u8, bytes: &[u8]) {
        self.touched = Some(register);
        let uart = &mut self.uart;
        match register {
            THR => {
                let sent = bytes.iter().filter_map(|&byte| uart.write(THR, byte));
                if self.cable.put(sent) != 0 {
                    self.sent = true;
                    self.looks = 0;
                }
            }
            FCR => bytes.iter().for_each(|&byte| self.set_fifo_up(byte)),
            _ => bytes.iter().for_each(|&byte| {
                uart.write(register, byte);
            }),
        }
    }

    /// Writes FCR. That may empty the FIFO; what came from the cable and was in it goes back there, to come again.
    fn set_fifo_up(&mut self, value: u8) {
        let unread: Vec<Symbol> = self.uart.unread().collect();
        self.uart.write(FCR, value);
        if self.uart.is_empty() {
            self.cable.untake(&unread);
        }
    }
}

impl Device for Serial {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        for (register, byte) in (offset as u8..).zip(data) {
            self.touched = Some(register);
            *byte = self.uart.read(register);
            self.looks = self.looks.saturating_add(u32::from(register == LSR));
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Action {
        for (register, byte) in (offset as u8..).zip(data.chunks(1)) {
            self.write_register(register, byte);
        }
        Action::Continue
    }

    fn write_string(&mut self, offset: u64, bytes: &[u8]) -> Action {
        self.write_register(offset as u8, bytes);
        Action::Continue
    }

    /// The chip's interrupt, as a PC's serial card passes it on: while OUT2 is active (IBM PC AT technical reference,
    /// "Serial/Parallel Adapter"). A guest that forgets OUT2 gets no interrupt on a PC either.
    fn interrupt(&self) -> bool {
        self.uart.irq() && self.uart.out2() && !self.sent
    }

    /// Takes from the cable what the receiver has room for, so that nothing is ever overrun; and only if the guest
    /// listens. A driver that is called by interrupt, and has a FIFO, gets a burst at a time.
    fn poll(&mut self) {
        self.sent = false;
        if !self.listens() {
            return;
        }
        let room = self.uart.room();
        if room == 0 {
            return;
        }
        let is_empty = self.uart.is_empty();
        let is_called = self.uart.wants_received() && self.uart.fifos_enabled();
        let (cable, uart) = (&self.cable, &mut self.uart);
        let receive = |symbol| match symbol {
            Symbol::Byte(byte) => drop(uart.receive(&[byte])),
            Symbol::Break => uart.receive_break(),
        };
        match (is_called, is_empty) {
            (true, true) => cable.take_burst(room, receive),
            // The driver reads on until the receiver is empty.
            (true, false) => {}
            (false, _) => drop(cable.take(room, receive)),
        }
    }

    /// Whether a byte was just sent (bit 0) and RTS once raised (bit 1), the register touched or 255, looks as u32,
    /// then the UART. What waits in the cable is not part of it.
    fn state(&self) -> Option<Vec<u8>> {
        let head = [u8::from(self.sent) | u8::from(self.handshakes) << 1, self.touched.unwrap_or(u8::MAX)];
        Some([&head[..], &self.looks.to_le_bytes(), &self.uart.state()].concat())
    }

    fn set_state(&mut self, state: &[u8]) -> bool {
        let Some((&[flags @ 0..=3, touched, a, b, c, d], uart)) = state.split_first_chunk() else {
            return false;
        };
        let Some(uart) = Uart::from_state(uart) else { return false };
        self.uart = uart;
        self.sent = flags & 1 != 0;
        self.handshakes = flags & 2 != 0;
        self.touched = (touched != u8::MAX).then_some(touched);
        self.looks = u32::from_le_bytes([a, b, c, d]);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THR: u64 = 0;
    const MCR: u64 = 4;
    const IER_ETBEI: u8 = 1 << 1;
    const OUT2: u8 = 1 << 3;
    const LOOPBACK: u8 = 1 << 4;

    /// A port of a guest that has connected its interrupt.
    fn connected(cable: &Cable) -> Serial {
        let mut serial = Serial::new(cable.clone());
        assert_eq!(serial.write(MCR, &[OUT2]), Action::Continue);
        serial.poll();
        serial
    }

    #[test]
    fn an_interrupt_comes_through_while_out2_is_set() {
        let mut serial = Serial::new(Cable::default());
        assert_eq!(serial.write(IER.into(), &[IER_ETBEI]), Action::Continue);
        assert!(!serial.interrupt(), "OUT2 is not set");
        for (mcr, comes) in [(OUT2, true), (OUT2 | LOOPBACK, false), (0, false), (OUT2, true)] {
            assert_eq!(serial.write(MCR, &[mcr]), Action::Continue);
            assert_eq!(serial.interrupt(), comes, "{mcr:#x}");
        }
    }

    /// What FreeBSD's driver does to find out how long the FIFO is.
    #[test]
    fn what_a_driver_has_sent_to_itself_is_not_typed_again_when_it_empties_the_fifo() {
        let cable = Cable::default();
        let mut serial = connected(&cable);
        const CLEAR_AND_ENABLE: u8 = 0b111;
        assert_eq!(serial.write(FCR.into(), &[CLEAR_AND_ENABLE]), Action::Continue);
        assert_eq!(serial.write(MCR, &[LOOPBACK]), Action::Continue);
        for _ in 0..16 {
            assert_eq!(serial.write(THR, b"?"), Action::Continue);
        }
        assert_eq!(serial.write(FCR.into(), &[CLEAR_AND_ENABLE]), Action::Continue);
        assert_eq!(serial.write(MCR, &[OUT2]), Action::Continue);
        cable.send(b"typed");
        cable.offer_break();
        let mut received = Vec::new();
        for _ in 0..40 {
            serial.poll();
            let mut lsr = [0];
            serial.read(LSR.into(), &mut lsr);
            if lsr[0] & 1 != 0 {
                let mut byte = [0];
                serial.read(THR, &mut byte);
                received.push((byte[0], lsr[0] & 0x10 != 0));
            }
        }
        let typed: Vec<(u8, bool)> = b"typed".iter().map(|&byte| (byte, false)).chain([(0, true)]).collect();
        assert_eq!(received, typed, "and a break, which LSR.BI tells");
    }

    #[test]
    fn each_byte_sent_is_an_edge_even_for_a_driver_that_never_reads_iir() {
        let mut serial = connected(&Cable::default());
        assert_eq!(serial.write(IER.into(), &[IER_ETBEI]), Action::Continue);
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
        for _ in 0..sent.len() + LOOKS_OF_A_LISTENER as usize {
            serial.poll();
            let (mut lsr, mut byte) = ([0], [0]);
            serial.read(LSR.into(), &mut lsr);
            assert_eq!(lsr[0] & 0x02, 0, "overrun");
            if lsr[0] & 1 != 0 {
                serial.read(THR, &mut byte);
                received.extend(byte);
            }
        }
        assert_eq!(received, sent);
    }

    #[test]
    fn a_driver_that_is_called_comes_to_an_end_of_each_burst_and_loses_nothing() {
        let cable = Cable::default();
        let mut serial = connected(&cable);
        const FIFO_ENABLE: u8 = 1;
        for (register, value) in [(FCR, FIFO_ENABLE), (IER, 1)] {
            assert_eq!(serial.write(register.into(), &[value]), Action::Continue);
            serial.poll();
            serial.read(LSR.into(), &mut [0]);
        }
        let sent: Vec<u8> = (0..200).collect();
        cable.send(&sent);
        let (mut received, mut bursts) = (Vec::new(), Vec::new());
        while received.len() < sent.len() {
            let before = received.len();
            serial.poll();
            while serial.interrupt() {
                let mut byte = [0];
                serial.read(THR, &mut byte);
                received.extend(byte);
                serial.poll();
            }
            bursts.push(received.len() - before);
            assert_eq!(cable.is_spent(), received.len() < sent.len(), "more waits");
            serial.poll();
            assert!(!serial.interrupt(), "it waits until the guest has had some time");
            cable.resume();
        }
        assert_eq!((received, bursts), (sent, vec![64, 64, 64, 8]));
    }

    #[test]
    fn what_is_typed_now_and_then_does_not_wait() {
        let cable = Cable::default();
        let mut serial = connected(&cable);
        for (register, value) in [(FCR, 1), (IER, 1), (7, 0)] {
            assert_eq!(serial.write(register.into(), &[value]), Action::Continue);
        }
        for key in 0..200 {
            cable.send(&[key]);
            serial.poll();
            let mut byte = [0];
            serial.read(THR, &mut byte);
            assert_eq!(byte, [key]);
            serial.poll();
            assert!(!cable.is_spent());
        }
    }

    #[test]
    fn a_driver_that_lowers_rts_is_not_handed_anything_until_it_raises_it() {
        const DTR: u8 = 1 << 0;
        const RTS: u8 = 1 << 1;
        let cable = Cable::default();
        let mut serial = Serial::new(cable.clone());
        let mut received = |mcr| {
            cable.send(b"x");
            for (register, value) in [(IER.into(), 1), (MCR, mcr)] {
                assert_eq!(serial.write(register, &[value]), Action::Continue);
            }
            serial.poll();
            let (mut lsr, mut byte) = ([0], [0]);
            serial.read(LSR.into(), &mut lsr);
            serial.read(THR, &mut byte);
            lsr[0] & 1 != 0
        };
        // RTS was not set yet; a driver that tries the loop does not count.
        assert!(received(DTR));
        received(LOOPBACK | RTS);
        assert!(received(DTR));
        assert!(received(DTR | RTS));
        assert!(!received(DTR));
        assert!(received(DTR | RTS));
    }

    #[test]
    fn what_comes_before_a_driver_has_set_the_port_up_waits_for_it() {
        let cable = Cable::default();
        let mut serial = connected(&cable);
        cable.send(b"early");
        const IER_ALL: u8 = 0x0f;
        const IER_ERBFI: u8 = 1 << 0;
        const CLEAR_AND_ENABLE: u8 = 0b111;
        // As Linux does it: look which bits of IER stick, read away what is pending, enable the interrupt, and
        // only then enable the FIFO.
        for (register, value) in [(IER, IER_ALL), (IER, 0), (FCR, CLEAR_AND_ENABLE), (FCR, 0)] {
            assert_eq!(serial.write(register.into(), &[value]), Action::Continue);
            serial.poll();
            let mut found = [0];
            serial.read(LSR.into(), &mut found);
            assert_eq!(found[0] & 1, 0, "nothing is there to be thrown away");
            serial.read(register.into(), &mut found);
            serial.poll();
        }
        const SCR: u64 = 7;
        for (register, value) in [(IER.into(), IER_ERBFI), (SCR, 0), (FCR.into(), CLEAR_AND_ENABLE), (SCR, 0)]
        {
            assert_eq!(serial.write(register, &[value]), Action::Continue);
            serial.poll();
        }
        assert!(serial.interrupt());
        let early: Vec<Symbol> = b"early".iter().copied().map(Symbol::Byte).collect();
        assert_eq!(serial.uart.unread().collect::<Vec<_>>(), early);
        let mut byte = [0];
        serial.read(THR, &mut byte);
        assert_eq!(byte, *b"e");
    }

    #[test]
    fn a_string_is_its_bytes_one_after_the_other() {
        const LCR: u64 = 3;
        let cable = Cable::default();
        let (mut one, mut other) = (Serial::new(cable.clone()), Serial::new(Cable::default()));
        for (register, string) in [(THR, &b"sent"[..]), (LCR, b"\x03\x80"), (THR, b"a divisor"), (LCR, b"\0")]
        {
            assert_eq!(one.write_string(register, string), Action::Continue);
            for &byte in string {
                assert_eq!(other.write(register, &[byte]), Action::Continue);
            }
            assert_eq!(one.state(), other.state(), "{string:?}");
        }
        assert_eq!(*cable.written(), *other.cable.written());
        assert_eq!(*cable.written(), b"sent");
    }

    #[test]
    fn a_word_written_to_the_transmitter_reaches_the_next_register_too() {
        let cable = Cable::default();
        let mut serial = connected(&cable);
        assert_eq!(serial.write(THR, &[b'x', IER_ETBEI]), Action::Continue);
        serial.poll();
        assert_eq!(*cable.written(), b"x");
        assert!(serial.interrupt());
    }
}
