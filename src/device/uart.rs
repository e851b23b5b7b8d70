//! The serial port: a 16550A, the chip behind COM1.
//!
//! A pure state machine: no file, no thread, no clock. Bytes go in through [`Uart::receive`] and come
//! out of [`Uart::write`]; whoever owns the [`Uart`] moves them.
//!
//! It takes no time: a byte leaves at the moment at which it is written. Divisor, word length and parity can be written
//! and read back, but change nothing.
//!
//! Source: National Semiconductor PC16550D data sheet (June 1995), chapter 8 "Registers". Registers and
//! bits have its names; section titles are given where something is not obvious.

use super::Symbol;
use std::collections::VecDeque;

// Register addresses (table "Register Addresses"). Some are two or three registers: which one answers
// depends on the direction and, for 0 and 1, on LCR's bit DLAB.
const RBR: u8 = 0;
const THR: u8 = 0;
const DLL: u8 = 0;
const IER: u8 = 1;
const DLM: u8 = 1;
const IIR: u8 = 2;
const FCR: u8 = 2;
const LCR: u8 = 3;
const MCR: u8 = 4;
const LSR: u8 = 5;
const MSR: u8 = 6;
const SCR: u8 = 7;

/// "Enable Received Data Available Interrupt": the character timeout, too.
const IER_ERBFI: u8 = 1 << 0;
/// "Enable Transmitter Holding Register Empty Interrupt".
const IER_ETBEI: u8 = 1 << 1;
/// "Enable Receiver Line Status Interrupt".
const IER_ELSI: u8 = 1 << 2;
/// "Enable MODEM Status Interrupt".
const IER_EDSSI: u8 = 1 << 3;
/// The upper half of IER is always zero.
const IER_BITS: u8 = 0x0f;

// What IIR names, by falling priority (section "Interrupt Identification Register").
const IIR_LINE_STATUS: u8 = 0b0110;
const IIR_RECEIVED_DATA: u8 = 0b0100;
const IIR_CHARACTER_TIMEOUT: u8 = 0b1100;
const IIR_THR_EMPTY: u8 = 0b0010;
const IIR_MODEM_STATUS: u8 = 0b0000;
const IIR_NONE: u8 = 0b0001;
/// Both bits are set while the FIFOs are on: how a driver tells a 16550A from a 16450.
const IIR_FIFOS_ENABLED: u8 = 0b11 << 6;

const FCR_FIFO_ENABLE: u8 = 1 << 0;
const FCR_RCVR_RESET: u8 = 1 << 1;
/// The bits that last: trigger level, DMA mode (which moves two pins a PC does not connect), enable.
const FCR_BITS: u8 = 0b1100_1001;

/// "Set Break": the transmitter's output is held low.
const LCR_BREAK: u8 = 1 << 6;
/// "Divisor Latch Access Bit".
const LCR_DLAB: u8 = 1 << 7;

const MCR_DTR: u8 = 1 << 0;
const MCR_RTS: u8 = 1 << 1;
const MCR_OUT1: u8 = 1 << 2;
const MCR_OUT2: u8 = 1 << 3;
const MCR_LOOP: u8 = 1 << 4;
/// The upper three bits of MCR are always zero.
const MCR_BITS: u8 = 0x1f;

/// "Data Ready".
const LSR_DR: u8 = 1 << 0;
/// "Overrun Error".
const LSR_OE: u8 = 1 << 1;
/// "Framing Error".
const LSR_FE: u8 = 1 << 3;
/// "Break Interrupt".
const LSR_BI: u8 = 1 << 4;
/// "Transmitter Holding Register Empty".
const LSR_THRE: u8 = 1 << 5;
/// "Transmitter Empty".
const LSR_TEMT: u8 = 1 << 6;
/// A character in the FIFO has an error.
const LSR_FIFO_ERROR: u8 = 1 << 7;

// The lower half of MSR says which line of the upper half has changed.
const MSR_CTS: u8 = 1 << 4;
const MSR_DSR: u8 = 1 << 5;
const MSR_RI: u8 = 1 << 6;
const MSR_DCD: u8 = 1 << 7;

/// Characters in the receiver's FIFO.
const FIFO_SIZE: usize = 16;

/// A received character, the LSR bits that belong to it, and where it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Character {
    byte: u8,
    errors: u8,
    /// It came from the port's own transmitter (MCR.LOOP), not from the wire.
    is_looped: bool,
}

impl Character {
    const fn from_wire(symbol: Symbol) -> Character {
        match symbol {
            Symbol::Byte(byte) => Character { byte, errors: 0, is_looped: false },
            // The stop bit is low as well.
            Symbol::Break => Character { byte: 0, errors: LSR_BI | LSR_FE, is_looped: false },
        }
    }
}

/// A serial port, the 16550A, without the wire: bytes arrive by [`receive`](Uart::receive) and leave by
/// [`write`](Uart::write).
///
/// A clone is a snapshot: the device has no other state than its registers and its FIFO.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uart {
    /// The registers that the guest writes, without the bits that do not stay.
    ier: u8,
    fcr: u8,
    lcr: u8,
    mcr: u8,
    scr: u8,
    dll: u8,
    dlm: u8,
    /// LSR's error bits, held until LSR is read.
    errors: u8,
    /// MSR's lower half, held until MSR is read.
    deltas: u8,
    /// THR has become empty and IIR has not told so yet.
    thr_emptied: bool,
    /// RBR is the front. One place while the FIFOs are off, [`FIFO_SIZE`] while they are on.
    received: VecDeque<Character>,
}

impl Default for Uart {
    fn default() -> Uart {
        Uart::new()
    }
}

impl Uart {
    /// A port after reset (table "UART Reset Configuration"): FIFOs and interrupts off, and 9600 baud,
    /// which the data sheet leaves open.
    pub const fn new() -> Uart {
        Uart {
            ier: 0,
            fcr: 0,
            lcr: 0,
            mcr: 0,
            scr: 0,
            dll: 12,
            dlm: 0,
            errors: 0,
            deltas: 0,
            thr_emptied: false,
            received: VecDeque::new(),
        }
    }

    /// The guest reads register `reg`; as on the chip, only its lower three bits count.
    pub fn read(&mut self, reg: u8) -> u8 {
        match (reg & 7, self.dlab()) {
            (DLL, true) => self.dll,
            (DLM, true) => self.dlm,
            (RBR, false) => self.take_received(),
            (IER, false) => self.ier,
            (IIR, _) => {
                let iir = self.iir();
                if iir & 0x0f == IIR_THR_EMPTY {
                    self.thr_emptied = false;
                }
                iir
            }
            (LCR, _) => self.lcr,
            (MCR, _) => self.mcr,
            (LSR, _) => {
                let lsr = self.lsr();
                self.errors = 0;
                if let Some(front) = self.received.front_mut() {
                    front.errors = 0;
                }
                lsr
            }
            (MSR, _) => {
                let msr = self.modem_lines() | self.deltas;
                self.deltas = 0;
                msr
            }
            // Seven, SCR, is the only one left.
            (_, _) => self.scr,
        }
    }

    /// The guest writes register `reg`. `Some(byte)` is a byte that leaves on the wire.
    pub fn write(&mut self, reg: u8, value: u8) -> Option<u8> {
        match (reg & 7, self.dlab()) {
            (DLL, true) => self.dll = value,
            (DLM, true) => self.dlm = value,
            (THR, false) => return self.transmit(value),
            (IER, false) => {
                // THR is always empty, and enabling its interrupt says so once more: drivers start
                // their output this way.
                self.thr_emptied |= value & !self.ier & IER_ETBEI != 0;
                self.ier = value & IER_BITS;
            }
            (FCR, _) => self.write_fcr(value),
            (LCR, _) => self.lcr = value,
            (MCR, _) => self.write_mcr(value),
            (SCR, _) => self.scr = value,
            // LSR and MSR are for reading; writing them is left to the factory's tests.
            (_, _) => {}
        }
        None
    }

    /// Bytes arrive from a sender that waits: takes as many as there is [room](Uart::room) for and
    /// returns how many that were. The rest is the caller's to offer again.
    pub fn receive(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(self.room());
        for &byte in bytes.iter().take(taken) {
            self.arrive(Character::from_wire(Symbol::Byte(byte)));
        }
        taken
    }

    /// A byte arrives from a sender that does not wait, as on a real wire. Without
    /// [room](Uart::room) something is lost, and LSR.OE tells the guest; in loopback mode the wire is
    /// disconnected and nobody learns of the byte.
    pub fn receive_now(&mut self, byte: u8) {
        if !self.loopback() {
            self.arrive(Character::from_wire(Symbol::Byte(byte)));
        }
    }

    /// A break arrives: the line stays low for longer than a character takes. The guest finds a zero
    /// byte with LSR.BI, and FE, because the stop bit was low as well.
    pub fn receive_break(&mut self) {
        if !self.loopback() {
            self.arrive(Character::from_wire(Symbol::Break));
        }
    }

    /// How many bytes [`receive`](Uart::receive) would take now: none in loopback mode, when the
    /// receiver listens to the transmitter alone.
    pub fn room(&self) -> usize {
        if self.loopback() { 0 } else { self.capacity().saturating_sub(self.received.len()) }
    }

    /// Whether the guest wants to hear of received bytes by interrupt (IER.ERBFI).
    pub fn wants_received(&self) -> bool {
        self.ier & IER_ERBFI != 0
    }

    /// Whether the guest holds RTS up ("Request To Send"): it can take more. In loopback the pin is idle.
    pub fn requests_to_send(&self) -> bool {
        self.mcr & (MCR_RTS | MCR_LOOP) == MCR_RTS
    }

    /// Whether everything that has arrived was read.
    pub fn is_empty(&self) -> bool {
        self.received.is_empty()
    }

    /// What has arrived from the wire and not been read, oldest first. What the guest has sent to itself (MCR.LOOP) is not
    /// among it.
    pub fn unread(&self) -> impl Iterator<Item = Symbol> {
        let from_wire = self.received.iter().filter(|character| !character.is_looped);
        from_wire.map(|character| match character.errors & LSR_BI {
            0 => Symbol::Byte(character.byte),
            _ => Symbol::Break,
        })
    }

    /// The interrupt pin: some interrupt is pending **and** enabled. Computed, never stored, so it
    /// cannot disagree with the registers.
    ///
    /// This is the chip's pin INTR. A PC's serial card passes it on only while [`out2`](Uart::out2) is active.
    ///
    /// The line can fall and rise within one call: writing THR ends its interrupt, and the byte leaves
    /// at once. A caller that drives an edge-triggered pin and wants the edge a real chip gives there
    /// lowers the pin after a write to THR before it shows this level again.
    pub fn irq(&self) -> bool {
        self.pending() & self.ier != 0
    }

    /// Whether the pin OUT2 is active. In loopback mode all outputs are idle (section "MODEM Control Register").
    pub fn out2(&self) -> bool {
        self.mcr & (MCR_OUT2 | MCR_LOOP) == MCR_OUT2
    }

    /// The interrupts whose cause is present, each at the place of its enable bit in IER.
    fn pending(&self) -> u8 {
        let mut pending = 0;
        if !self.received.is_empty() {
            pending |= IER_ERBFI;
        }
        if self.thr_emptied {
            pending |= IER_ETBEI;
        }
        if self.errors != 0 {
            pending |= IER_ELSI;
        }
        if self.deltas != 0 {
            pending |= IER_EDSSI;
        }
        pending
    }

    /// IIR: of the interrupts that are pending and enabled, the one to serve first.
    fn iir(&self) -> u8 {
        let active = self.pending() & self.ier;
        let source = if active & IER_ELSI != 0 {
            IIR_LINE_STATUS
        } else if active & IER_ERBFI != 0 {
            // Section "FIFO Interrupt Mode Operation": below the trigger level the chip waits for four
            // character times. Here no more is to come at the moment, so that time counts as over.
            if self.received.len() >= self.trigger() { IIR_RECEIVED_DATA } else { IIR_CHARACTER_TIMEOUT }
        } else if active & IER_ETBEI != 0 {
            IIR_THR_EMPTY
        } else if active & IER_EDSSI != 0 {
            IIR_MODEM_STATUS
        } else {
            IIR_NONE
        };
        if self.fifos_enabled() { source | IIR_FIFOS_ENABLED } else { source }
    }

    fn lsr(&self) -> u8 {
        let mut lsr = LSR_THRE | LSR_TEMT | self.errors;
        if !self.received.is_empty() {
            lsr |= LSR_DR;
        }
        if self.fifos_enabled() && self.received.iter().any(|character| character.errors != 0) {
            lsr |= LSR_FIFO_ERROR;
        }
        lsr
    }

    /// MSR's upper half. Outside loopback mode the other side is always there and ready, and does not ring.
    fn modem_lines(&self) -> u8 {
        if !self.loopback() {
            return MSR_CTS | MSR_DSR | MSR_DCD;
        }
        // Section "MODEM Control Register": in loopback mode each output drives an input.
        [(MCR_RTS, MSR_CTS), (MCR_DTR, MSR_DSR), (MCR_OUT1, MSR_RI), (MCR_OUT2, MSR_DCD)]
            .into_iter()
            .filter(|&(output, _)| self.mcr & output != 0)
            .fold(0, |lines, (_, input)| lines | input)
    }

    fn write_mcr(&mut self, value: u8) {
        let before = self.modem_lines();
        self.mcr = value & MCR_BITS;
        let after = self.modem_lines();
        // Of RI only the end is told: "Trailing Edge of Ring Indicator".
        let changed = (before ^ after) & !(after & MSR_RI);
        self.deltas |= changed >> 4;
    }

    fn write_fcr(&mut self, value: u8) {
        // Section "FIFO Control Register": the other bits count only while bit 0 is written as 1, and
        // switching the FIFOs on or off empties them. The transmitter's is always empty.
        let fcr = if value & FCR_FIFO_ENABLE != 0 { value } else { 0 };
        if fcr & FCR_RCVR_RESET != 0 || (fcr ^ self.fcr) & FCR_FIFO_ENABLE != 0 {
            self.received.clear();
        }
        self.fcr = fcr & FCR_BITS;
    }

    fn transmit(&mut self, byte: u8) -> Option<u8> {
        self.thr_emptied = true;
        if self.loopback() {
            self.arrive(Character { byte, errors: 0, is_looped: true });
            return None;
        }
        // Section "Line Control Register", bit 6: the transmitter works on, but nothing of it shows on the wire.
        (self.lcr & LCR_BREAK == 0).then_some(byte)
    }

    /// A character comes out of the receiver's shift register.
    fn arrive(&mut self, character: Character) {
        if self.received.len() >= self.capacity() {
            self.errors |= LSR_OE;
            if self.fifos_enabled() {
                // Section "Line Status Register": a full FIFO stays as it is.
                return;
            }
            // Without a FIFO the new character destroys the old one.
            self.received.clear();
        }
        self.received.push_back(character);
        self.reveal();
    }

    /// RBR. Empty, it reads as zero.
    fn take_received(&mut self) -> u8 {
        let Some(character) = self.received.pop_front() else { return 0 };
        self.reveal();
        character.byte
    }

    /// A character's errors show in LSR once it is at the front.
    fn reveal(&mut self) {
        if let Some(front) = self.received.front() {
            self.errors |= front.errors;
        }
    }

    const fn dlab(&self) -> bool {
        self.lcr & LCR_DLAB != 0
    }

    const fn loopback(&self) -> bool {
        self.mcr & MCR_LOOP != 0
    }

    /// Whether the guest has switched the FIFOs on (FCR, bit 0).
    pub const fn fifos_enabled(&self) -> bool {
        self.fcr & FCR_FIFO_ENABLE != 0
    }

    const fn capacity(&self) -> usize {
        if self.fifos_enabled() { FIFO_SIZE } else { 1 }
    }

    /// How many characters make a "received data available" interrupt.
    const fn trigger(&self) -> usize {
        match self.fcr >> 6 {
            0 => 1,
            1 => 4,
            2 => 8,
            _ => 14,
        }
    }
}

mod state;
#[cfg(test)]
mod tests;
