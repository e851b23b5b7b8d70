//! The I/O APIC: turns the level of a pin into a message to a local APIC.
//!
//! For a split irqchip: KVM holds the local APICs, this holds the pins. It sends nothing itself; it
//! hands out [`Msi`]s for someone to send.
//!
//! A line is asserted or not; the polarity bit of an entry does not change that. Messages are sent at once, so the
//! delivery status is always idle.
//!
//! Source: Intel 82093AA data sheet (290566), section 3.0 "Register Description"; for the messages,
//! Intel SDM volume 3A, "Message Signalled Interrupts".

use super::{Action, Device};
use crate::x86::layout::LOCAL_APIC;
use crate::x86::ports::IOAPIC_PINS;

// The window (section 3.1): what the guest selects by IOREGSEL, it reads and writes at IOWIN.
const IOREGSEL: u64 = 0x00;
const IOWIN: u64 = 0x10;

// The registers behind it (section 3.2).
const IOAPICID: u8 = 0x00;
const IOAPICVER: u8 = 0x01;
const IOAPICARB: u8 = 0x02;
/// Two registers for each entry, the lower half first.
const IOREDTBL: u8 = 0x10;

/// Version 0x11, and in bits 16 to 23 the number of the last entry.
const VERSION: u32 = (Ioapic::PINS as u32 - 1) << 16 | 0x11;
const ID_BITS: u32 = 0x0f00_0000;

// An entry of the redirection table (section 3.2.4).
const VECTOR: u64 = 0xff;
const DELIVERY_MODE: u64 = 0b111 << 8;
const LOWEST_PRIORITY: u64 = 0b001 << 8;
/// The destination is logical, not physical.
const DESTMOD: u64 = 1 << 11;
const INTPOL: u64 = 1 << 13;
/// A level was sent and its end of interrupt has not come back.
const REMOTE_IRR: u64 = 1 << 14;
/// Level-triggered, not edge-triggered.
const LEVEL: u64 = 1 << 15;
const MASK: u64 = 1 << 16;
const DESTINATION: u64 = 0xff << 56;
const WRITABLE: u64 = VECTOR | DELIVERY_MODE | DESTMOD | INTPOL | LEVEL | MASK | DESTINATION;

// A message (SDM figures "Layout of the MSI Message Address Register" and "… Data Register").
const MSI_ADDRESS: u64 = LOCAL_APIC;
const MSI_REDIRECTION_HINT: u64 = 1 << 3;
const MSI_DESTINATION_LOGICAL: u64 = 1 << 2;
const MSI_LEVEL: u32 = 1 << 15;
const MSI_ASSERT: u32 = 1 << 14;

/// A message-signalled interrupt: writing `data` to `address` would send it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Msi {
    /// The address of the local APICs, and in bits 12 to 19 the one it is for.
    pub address: u64,
    /// Vector, delivery mode and trigger mode.
    pub data: u32,
}

/// An I/O APIC: a window of [`Ioapic::SIZE`] bytes and [`Ioapic::PINS`] pins.
///
/// Messages come from [`set_line`](Ioapic::set_line); after each write of the guest and each
/// [`eoi`](Ioapic::eoi), ask [`take_message`](Ioapic::take_message) until it has none.
///
/// Accesses are meant to be 32 bits wide and aligned. A narrower one sees, or changes, some bytes of
/// the register it begins in; bytes beyond that register read as zero and are not written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ioapic {
    ioregsel: u8,
    id: u32,
    redirection: [u64; Ioapic::PINS as usize],
    /// The lines as they are, a bit for each pin.
    lines: u32,
}

impl Default for Ioapic {
    fn default() -> Ioapic {
        Ioapic::new()
    }
}

impl Ioapic {
    /// The number of pins.
    pub const PINS: u8 = IOAPIC_PINS;
    /// The length of the window, in bytes.
    pub const SIZE: u64 = 0x20;

    /// An I/O APIC after reset: every pin masked, every line low.
    pub const fn new() -> Ioapic {
        Ioapic { ioregsel: 0, id: 0, redirection: [MASK; Ioapic::PINS as usize], lines: 0 }
    }

    /// A device asserts or releases the line at `pin`; the message is to be sent now.
    ///
    /// An edge on a masked pin is lost, as the data sheet has it (section 3.2.4, "Interrupt Mask"); a
    /// level is sent when the pin is unmasked. A pin that does not exist is silent.
    pub fn set_line(&mut self, pin: u8, level: bool) -> Option<Msi> {
        let entry = *self.redirection.get(usize::from(pin))?;
        let was = self.is_high(pin);
        self.lines = self.lines & !(1 << pin) | u32::from(level) << pin;
        if entry & LEVEL != 0 {
            self.take_level(pin)
        } else if level && !was {
            self.message(pin)
        } else {
            None
        }
    }

    /// A message that became due by a write or an end of interrupt, until there is none.
    ///
    /// Those are levels only: a line that is high, not masked, and not waiting for its end.
    pub fn take_message(&mut self) -> Option<Msi> {
        let mut high = self.lines;
        while high != 0 {
            let pin = high.trailing_zeros() as u8;
            let message = self.take_level(pin);
            if message.is_some() {
                return message;
            }
            high &= !(1 << pin);
        }
        None
    }

    /// A local APIC ends the interrupt `vector`: levels sent by it may be sent again.
    pub fn eoi(&mut self, vector: u8) {
        for entry in &mut self.redirection {
            if *entry & (LEVEL | VECTOR) == LEVEL | u64::from(vector) {
                *entry &= !REMOTE_IRR;
            }
        }
    }

    /// What `pin` sends when its line asks; `None` while it is masked. This is what KVM's routing table
    /// wants to know of each pin, to tell which vectors' ends are to be reported.
    pub fn message(&self, pin: u8) -> Option<Msi> {
        let entry = *self.redirection.get(usize::from(pin))?;
        if entry & MASK != 0 {
            return None;
        }
        let mut address = MSI_ADDRESS | (entry & DESTINATION) >> 56 << 12;
        if entry & DELIVERY_MODE == LOWEST_PRIORITY {
            address |= MSI_REDIRECTION_HINT;
        }
        if entry & DESTMOD != 0 {
            address |= MSI_DESTINATION_LOGICAL;
        }
        // Vector and delivery mode have the same place in both.
        let mut data = (entry & (VECTOR | DELIVERY_MODE)) as u32;
        if entry & LEVEL != 0 {
            data |= MSI_LEVEL | MSI_ASSERT;
        }
        Some(Msi { address, data })
    }

    /// The message of a level-triggered pin, if it is due; its entry then waits for the end.
    fn take_level(&mut self, pin: u8) -> Option<Msi> {
        let entry = *self.redirection.get(usize::from(pin))?;
        if entry & (LEVEL | REMOTE_IRR) != LEVEL || !self.is_high(pin) {
            return None;
        }
        let message = self.message(pin)?;
        *self.redirection.get_mut(usize::from(pin))? |= REMOTE_IRR;
        Some(message)
    }

    const fn is_high(&self, pin: u8) -> bool {
        self.lines >> pin & 1 != 0
    }

    fn read_register(&self) -> u32 {
        match self.ioregsel {
            // The arbitration ID is the ID, as there is only one IOAPIC.
            IOAPICID | IOAPICARB => self.id,
            IOAPICVER => VERSION,
            _ => self.redirection.get(self.entry()).map_or(0, |entry| (entry >> self.half()) as u32),
        }
    }

    fn write_register(&mut self, value: u32) {
        match self.ioregsel {
            IOAPICID => self.id = value & ID_BITS,
            _ => {
                let (at, half) = (self.entry(), self.half());
                let Some(entry) = self.redirection.get_mut(at) else { return };
                let kept = *entry & !(WRITABLE & 0xffff_ffff << half);
                *entry = kept | (u64::from(value) << half & WRITABLE);
                // Becoming edge-triggered and level-triggered again is how drivers end an interrupt of
                // an I/O APIC that has no EOI register.
                if *entry & LEVEL == 0 {
                    *entry &= !REMOTE_IRR;
                }
            }
        }
    }

    /// Which entry IOREGSEL selects; there is none of that number if it selects something else.
    const fn entry(&self) -> usize {
        self.ioregsel.wrapping_sub(IOREDTBL) as usize / 2
    }

    /// How far left in its entry the selected half is, in bits.
    const fn half(&self) -> u32 {
        if self.ioregsel & 1 == 0 { 0 } else { 32 }
    }

    /// What the four bytes of the window at `offset` hold.
    fn window(&self, offset: u64) -> Option<u32> {
        match offset & !3 {
            IOREGSEL => Some(self.ioregsel.into()),
            IOWIN => Some(self.read_register()),
            _ => None,
        }
    }
}

impl Device for Ioapic {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        let bytes = self.window(offset).unwrap_or(0).to_le_bytes();
        let within = (offset & 3) as usize;
        for (to, from) in data.iter_mut().zip(bytes.iter().skip(within)) {
            *to = *from;
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Action {
        let Some(before) = self.window(offset) else { return Action::Continue };
        let mut bytes = before.to_le_bytes();
        let within = (offset & 3) as usize;
        for (to, from) in bytes.iter_mut().skip(within).zip(data) {
            *to = *from;
        }
        match offset & !3 {
            IOREGSEL => self.ioregsel = bytes[0],
            _ => self.write_register(u32::from_le_bytes(bytes)),
        }
        Action::Continue
    }

    /// IOREGSEL, ID and lines as u32, then the entries.
    fn state(&self) -> Option<Vec<u8>> {
        let head = [u32::from(self.ioregsel), self.id, self.lines].map(u32::to_le_bytes);
        let entries = self.redirection.map(u64::to_le_bytes);
        Some([head.as_flattened(), entries.as_flattened()].concat())
    }

    fn set_state(&mut self, state: &[u8]) -> bool {
        let Some((head, entries)) = state.split_at_checked(12) else { return false };
        let (head, _) = head.as_chunks();
        let (entries, rest) = entries.as_chunks();
        let &[ioregsel, id, lines] = head else { return false };
        let [ioregsel, id, lines] = [ioregsel, id, lines].map(u32::from_le_bytes);
        let entries: Vec<u64> = entries.iter().map(|&entry| u64::from_le_bytes(entry)).collect();
        let (Ok(ioregsel), Ok(redirection)) = (u8::try_from(ioregsel), <[u64; _]>::try_from(entries)) else {
            return false;
        };
        let is_valid = rest.is_empty()
            && id & !ID_BITS == 0
            && lines >> Ioapic::PINS == 0
            && redirection.iter().all(|entry| entry & !(WRITABLE | REMOTE_IRR) == 0);
        if is_valid {
            *self = Ioapic { ioregsel, id, redirection, lines };
        }
        is_valid
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn put(ioapic: &mut Ioapic, register: u8, value: u32) {
        assert_eq!(ioapic.write(IOREGSEL, &u32::from(register).to_le_bytes()), Action::Continue);
        assert_eq!(ioapic.write(IOWIN, &value.to_le_bytes()), Action::Continue);
    }

    fn get(ioapic: &mut Ioapic, register: u8) -> u32 {
        assert_eq!(ioapic.write(IOREGSEL, &u32::from(register).to_le_bytes()), Action::Continue);
        let mut data = [0; 4];
        ioapic.read(IOWIN, &mut data);
        u32::from_le_bytes(data)
    }

    /// One whose pin 4 has `entry`.
    fn with_pin_4(entry: u64) -> Ioapic {
        let mut ioapic = Ioapic::new();
        put(&mut ioapic, 0x19, (entry >> 32) as u32);
        put(&mut ioapic, 0x18, entry as u32);
        ioapic
    }

    const fn msi(address: u64, data: u32) -> Option<Msi> {
        Some(Msi { address, data })
    }

    #[test]
    fn after_reset_it_has_24_masked_entries() {
        let mut ioapic = Ioapic::new();
        assert_eq!(get(&mut ioapic, IOAPICVER), 0x0017_0011);
        assert_eq!((get(&mut ioapic, 0x10), get(&mut ioapic, 0x3e)), (0x1_0000, 0x1_0000));
        assert_eq!(get(&mut ioapic, 0x40), 0, "beyond the last");
    }

    #[test]
    fn the_arbitration_id_follows_the_id() {
        let mut ioapic = Ioapic::new();
        put(&mut ioapic, IOAPICID, 0xffff_ffff);
        assert_eq!((get(&mut ioapic, IOAPICID), get(&mut ioapic, IOAPICARB)), (0x0f00_0000, 0x0f00_0000));
    }

    #[test]
    fn what_is_read_only_or_reserved_cannot_be_written() {
        let mut ioapic = with_pin_4(u64::MAX);
        assert_eq!((get(&mut ioapic, 0x18), get(&mut ioapic, 0x19)), (0x0001_afff, 0xff00_0000));
        put(&mut ioapic, IOAPICVER, 0);
        assert_eq!(get(&mut ioapic, IOAPICVER), VERSION);
    }

    #[test]
    fn a_message_says_whom_and_how() {
        for (entry, expected) in [
            (0x0000_0000_0000_0024, msi(0xfee0_0000, 0x24)),
            (0x0300_0000_0000_0024, msi(0xfee0_3000, 0x24)),
            (0xff00_0000_0000_0924, msi(0xfeef_f00c, 0x124)),
            (0x0000_0000_0000_0400, msi(0xfee0_0000, 0x400)),
            (0x0000_0000_0000_8024, msi(0xfee0_0000, 0xc024)),
            (0x0000_0000_0001_0024, None),
        ] {
            assert_eq!(with_pin_4(entry).message(4), expected, "{entry:#x}");
        }
    }

    #[test]
    fn an_edge_is_sent_once_for_each_rise() {
        let mut ioapic = with_pin_4(0x24);
        assert_eq!(ioapic.set_line(4, true), msi(0xfee0_0000, 0x24));
        assert_eq!(ioapic.set_line(4, true), None);
        assert_eq!(ioapic.set_line(4, false), None);
        assert_eq!(ioapic.set_line(4, true), msi(0xfee0_0000, 0x24));
        assert_eq!(ioapic.take_message(), None);
    }

    #[test]
    fn an_edge_on_a_masked_pin_is_lost() {
        let mut ioapic = with_pin_4(MASK | 0x24);
        assert_eq!(ioapic.set_line(4, true), None);
        put(&mut ioapic, 0x18, 0x24);
        assert_eq!((ioapic.take_message(), ioapic.set_line(4, true)), (None, None));
    }

    #[test]
    fn a_level_is_sent_again_at_its_end_while_the_line_is_high() {
        let mut ioapic = with_pin_4(LEVEL | 0x24);
        let expected = msi(0xfee0_0000, 0xc024);
        assert_eq!(ioapic.set_line(4, true), expected);
        assert_eq!(get(&mut ioapic, 0x18), 0xc024, "remote IRR is set");
        assert_eq!((ioapic.set_line(4, true), ioapic.take_message()), (None, None));
        ioapic.eoi(0x25);
        assert_eq!(ioapic.take_message(), None, "another vector ended");
        ioapic.eoi(0x24);
        assert_eq!((ioapic.take_message(), ioapic.take_message()), (expected, None));
        assert_eq!(ioapic.set_line(4, false), None);
        ioapic.eoi(0x24);
        assert_eq!(ioapic.take_message(), None);
        assert_eq!(get(&mut ioapic, 0x18), 0x8024);
    }

    #[test]
    fn unmasking_delivers_a_level_that_is_high() {
        let mut ioapic = with_pin_4(MASK | LEVEL | 0x24);
        assert_eq!(ioapic.set_line(4, true), None);
        assert_eq!(ioapic.take_message(), None);
        put(&mut ioapic, 0x18, LEVEL as u32 | 0x24);
        assert_eq!((ioapic.take_message(), ioapic.take_message()), (msi(0xfee0_0000, 0xc024), None));
    }

    #[test]
    fn a_write_keeps_remote_irr_unless_the_pin_becomes_edge_triggered() {
        let mut ioapic = with_pin_4(LEVEL | 0x24);
        assert!(ioapic.set_line(4, true).is_some());
        put(&mut ioapic, 0x18, (MASK | LEVEL) as u32 | 0x24);
        assert_eq!(get(&mut ioapic, 0x18) & REMOTE_IRR as u32, REMOTE_IRR as u32);
        put(&mut ioapic, 0x18, MASK as u32 | 0x24);
        assert_eq!(get(&mut ioapic, 0x18) & REMOTE_IRR as u32, 0);
        put(&mut ioapic, 0x18, LEVEL as u32 | 0x24);
        assert!(ioapic.take_message().is_some());
    }

    #[test]
    fn a_pin_that_does_not_exist_is_silent() {
        let mut ioapic = Ioapic::new();
        for pin in [24, 31, 32, 255] {
            assert_eq!((ioapic.set_line(pin, true), ioapic.message(pin)), (None, None));
        }
    }

    #[test]
    fn a_narrow_access_sees_and_changes_its_bytes_alone() {
        let mut ioapic = with_pin_4(0x24);
        assert_eq!(ioapic.write(IOREGSEL, &[0x18]), Action::Continue);
        assert_eq!(ioapic.write(IOWIN + 1, &[0x01]), Action::Continue);
        assert_eq!(get(&mut ioapic, 0x18), 0x124);
        let mut data = [0xff; 2];
        ioapic.read(IOWIN + 1, &mut data);
        assert_eq!(data, [0x01, 0x00]);
    }

    #[test]
    fn a_wide_access_ends_with_its_register() {
        let mut ioapic = with_pin_4(0x24);
        assert_eq!(ioapic.write(IOREGSEL, &[0x18, 0, 0, 0, 9, 9, 9, 9]), Action::Continue);
        let mut data = [0xff; 8];
        ioapic.read(IOWIN, &mut data);
        assert_eq!(data, [0x24, 0, 0, 0, 0, 0, 0, 0]);
    }

    proptest! {
        #[test]
        fn random_programs_do_not_panic_and_messages_run_dry(
            steps in prop::collection::vec((any::<bool>(), 0..Ioapic::SIZE, any::<[u8; 8]>(), 1..9usize), 0..200),
        ) {
            let mut ioapic = Ioapic::new();
            for (is_line, offset, mut data, len) in steps {
                if is_line {
                    let _ = ioapic.set_line(data[0] & 31, data[1] & 1 != 0);
                    ioapic.eoi(data[2]);
                } else {
                    let _ = ioapic.write(offset & 0x13, &data[..len]);
                    ioapic.read(offset, &mut data[..len]);
                }
                for _ in 0..Ioapic::PINS {
                    if ioapic.take_message().is_none() {
                        break;
                    }
                }
                prop_assert_eq!(ioapic.take_message(), None);
            }
        }
    }
}
