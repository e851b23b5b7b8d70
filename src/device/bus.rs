//! The list of a machine's devices, and which of them answers at a port or an address.
//!
//! Not the guest's memory: KVM handles that without us. An address nobody claims behaves as on a PC
//! with nothing plugged in: reads give all ones, writes vanish.

use super::{Action, Device};
use crate::x86::ports::IOAPIC_PINS;
use std::fmt;

/// Where a device answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum Space {
    /// I/O ports.
    Ports = 0,
    /// Guest-physical addresses.
    Mmio = 1,
    /// The IOAPIC's window, which is not on the bus: the board answers there itself.
    Ioapic = 2,
}

impl fmt::Display for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Space::Ports => "ports",
            Space::Mmio => "addresses",
            Space::Ioapic => "IOAPIC",
        })
    }
}

/// How the ACPI tables tell a guest of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AcpiId {
    /// What it is called in the namespace below `\_SB_`: four letters, each name once.
    pub name: &'static str,
    /// What kind of device it is (`_HID`, ACPI 6.5, section 6.1.5): an EISA identifier, as `PNP0501`, or an ACPI one, as
    /// `LNRO0005`.
    pub hid: &'static str,
}

impl AcpiId {
    /// Whether AML has words for it.
    fn is_valid(self) -> bool {
        let is_upper = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b'_';
        let (name, hid) = (self.name.as_bytes(), self.hid.as_bytes());
        let is_id = match hid.split_at_checked(hid.len().saturating_sub(4)) {
            Some((vendor, number)) => {
                (3..=4).contains(&vendor.len())
                    && vendor.iter().all(u8::is_ascii_uppercase)
                    && number.iter().all(|byte| byte.is_ascii_digit() || (b'A'..=b'F').contains(byte))
            }
            None => false,
        };
        name.len() == 4
            && name.iter().all(is_upper)
            && name.first().is_some_and(u8::is_ascii_uppercase)
            && is_id
    }
}

/// A device and where it sits. What a board serves, what its ACPI tables say, and what is saved of it, is read from a list
/// of these.
pub struct Slot {
    /// Ports or addresses,
    pub space: Space,
    /// the first of them,
    pub base: u64,
    /// and how many.
    pub len: u64,
    /// The pin of the IOAPIC that its [interrupt line](Device::interrupt) drives, if it has one.
    pub pin: Option<u8>,
    /// What the ACPI tables say of it; `None` for a device that guests find without.
    pub acpi: Option<AcpiId>,
    /// The device itself.
    pub device: Box<dyn Device>,
}

impl Slot {
    /// A device at the I/O ports `base..base + len`, without an interrupt.
    pub fn ports(base: u16, len: u16, device: impl Device + 'static) -> Slot {
        Slot::new(Space::Ports, base.into(), len.into(), device)
    }

    /// A device at the guest-physical addresses `base..base + len`, which must lie outside memory, without an interrupt.
    pub fn mmio(base: u64, len: u64, device: impl Device + 'static) -> Slot {
        Slot::new(Space::Mmio, base, len, device)
    }

    fn new(space: Space, base: u64, len: u64, device: impl Device + 'static) -> Slot {
        Slot { space, base, len, pin: None, acpi: None, device: Box::new(device) }
    }

    /// The same with its interrupt line at `pin` of the IOAPIC.
    pub fn with_pin(self, pin: u8) -> Slot {
        Slot { pin: Some(pin), ..self }
    }

    /// The same, announced in the ACPI tables.
    pub fn with_acpi(self, name: &'static str, hid: &'static str) -> Slot {
        Slot { acpi: Some(AcpiId { name, hid }), ..self }
    }

    /// The last address, inclusive, so that a range may end at the top of the address space.
    const fn last(&self) -> u64 {
        self.base.wrapping_add(self.len.wrapping_sub(1))
    }
}

/// Why a device cannot be put where it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// There is another device, or no such place.
    #[error("{base:#x}..{end:#x} is empty, wraps, or is already taken")]
    Place {
        /// The first address that was wanted.
        base: u64,
        /// The one behind the last.
        end: u64,
    },
    /// Another device drives the pin, or the IOAPIC has no such pin.
    #[error("pin {0} does not exist, or is already taken")]
    Pin(u8),
    /// It cannot be announced by that name and identifier.
    #[error("{} and {} are no names for ACPI, or the name is already taken", .0.name, .0.hid)]
    Acpi(AcpiId),
}

/// The devices of a machine by their place, sorted.
#[derive(Default)]
pub struct Bus {
    slots: Vec<Slot>,
    /// The pins that are driven by no device but are not free, a bit each.
    reserved: u32,
}

impl Bus {
    /// An empty bus.
    pub const fn new() -> Bus {
        Bus { slots: Vec::new(), reserved: 0 }
    }

    /// Puts a device into its place.
    pub fn insert(&mut self, slot: Slot) -> Result<(), Conflict> {
        let (base, last) = (slot.base, slot.last());
        let at = self.slots.partition_point(|other| (other.space, other.last()) < (slot.space, base));
        let next = self.slots.get(at).filter(|next| next.space == slot.space);
        if slot.len == 0 || last < base || next.is_some_and(|next| next.base <= last) {
            return Err(Conflict::Place { base, end: base.wrapping_add(slot.len) });
        }
        if let Some(pin) = slot.pin {
            self.check_pin(pin)?;
        }
        if let Some(acpi) = slot.acpi {
            let mut others = self.slots.iter().filter_map(|other| other.acpi);
            if !acpi.is_valid() || others.any(|other| other.name == acpi.name) {
                return Err(Conflict::Acpi(acpi));
            }
        }
        self.slots.insert(at, slot);
        Ok(())
    }

    /// Keeps a pin free of devices.
    pub fn reserve_pin(&mut self, pin: u8) -> Result<(), Conflict> {
        self.check_pin(pin)?;
        self.reserved |= 1_u32.unbounded_shl(pin.into());
        Ok(())
    }

    fn check_pin(&self, pin: u8) -> Result<(), Conflict> {
        let is_reserved = self.reserved.unbounded_shr(pin.into()) & 1 != 0;
        let is_driven = self.slots.iter().any(|other| other.pin == Some(pin));
        if pin >= IOAPIC_PINS || is_reserved || is_driven { Err(Conflict::Pin(pin)) } else { Ok(()) }
    }

    /// Reads `data.len()` bytes at `address`.
    pub fn read(&mut self, space: Space, address: u64, data: &mut [u8]) {
        let (mut here, mut rest) = (address, data);
        while !rest.is_empty() {
            let (device, len) = self.claim(space, here, rest.len());
            let (part, behind) = rest.split_at_mut(len);
            match device {
                Some((device, offset)) => device.read(offset, part),
                None => part.fill(0xff),
            }
            (here, rest) = (here.wrapping_add(len as u64), behind);
        }
    }

    /// Writes `data` at `address`. If the access spans devices, the first one that wants more than
    /// [`Action::Continue`] decides, as the guest would be gone before the next byte left it.
    pub fn write(&mut self, space: Space, address: u64, data: &[u8]) -> Action {
        let (mut here, mut rest) = (address, data);
        while !rest.is_empty() {
            let (device, len) = self.claim(space, here, rest.len());
            let (part, behind) = rest.split_at(len);
            if let Some((device, offset)) = device {
                let action = device.write(offset, part);
                if action != Action::Continue {
                    return action;
                }
            }
            (here, rest) = (here.wrapping_add(len as u64), behind);
        }
        Action::Continue
    }

    /// Writes a string of bytes, if it is not empty, to `address`, as [`Bus::write`] would each of them. What comes after
    /// the one that wants more than [`Action::Continue`] is not written.
    pub fn write_string(&mut self, space: Space, address: u64, bytes: &[u8]) -> Action {
        match self.claim(space, address, 1).0 {
            Some((device, offset)) if !bytes.is_empty() => device.write_string(offset, bytes),
            _ => Action::Continue,
        }
    }

    /// The name of the device that answers at `address`, if there is one.
    pub fn device_at(&mut self, space: Space, address: u64) -> Option<&'static str> {
        self.claim(space, address, 1).0.map(|(device, _)| device.name())
    }

    /// Lets every device look for news from outside.
    pub fn poll(&mut self) {
        self.slots.iter_mut().for_each(|slot| slot.device.poll());
    }

    /// Every device with its place: ports first, each space in ascending order.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Gives the device that sits at `base` what it remembered; false if there is none, or it does not take it.
    pub fn set_state(&mut self, space: Space, base: u64, state: &[u8]) -> bool {
        let mut slots = self.slots.iter_mut();
        let slot = slots.find(|slot| (slot.space, slot.base) == (space, base));
        slot.is_some_and(|slot| slot.device.set_state(state))
    }

    /// The level of every interrupt line, by pin.
    pub fn interrupts(&self) -> impl Iterator<Item = (u8, bool)> {
        self.slots.iter().filter_map(|slot| Some((slot.pin?, slot.device.interrupt())))
    }

    /// Who answers at `address`, at which of its offsets, and for how many of `want` bytes: at least one, unless none
    /// are wanted.
    fn claim(&mut self, space: Space, address: u64, want: usize) -> (Option<(&mut dyn Device, u64)>, usize) {
        let at = self.slots.partition_point(|slot| (slot.space, slot.last()) < (space, address));
        let claim = self.slots.get_mut(at).filter(|slot| slot.space == space).and_then(|slot| {
            let offset = address.checked_sub(slot.base)?;
            let left = slot.len.saturating_sub(offset);
            Some((&mut *slot.device, offset, usize::try_from(left).unwrap_or(usize::MAX)))
        });
        match claim {
            Some((device, offset, left)) => (Some((device, offset)), want.min(left)),
            // One byte at a time through a gap: a device may begin right behind it.
            None => (None, want.min(1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use proptest::prelude::*;

    /// Who was given which byte at which offset.
    type Log = Arc<Mutex<Vec<(u8, u64, u8)>>>;

    /// Reads give `name` and the offset mixed; writes go to the log, and 0xee ends the VM.
    struct Probe {
        name: u8,
        log: Log,
    }

    const fn content(name: u8, offset: u64) -> u8 {
        name.wrapping_mul(16).wrapping_add(offset as u8)
    }

    impl Device for Probe {
        fn read(&mut self, offset: u64, data: &mut [u8]) {
            for (byte, offset) in data.iter_mut().zip(offset..) {
                *byte = content(self.name, offset);
            }
        }

        fn write(&mut self, offset: u64, data: &[u8]) -> Action {
            let mut log = self.log.lock().unwrap();
            log.extend(data.iter().zip(offset..).map(|(&byte, offset)| (self.name, offset, byte)));
            if data.contains(&0xee) { Action::Exit(self.name) } else { Action::Continue }
        }
    }

    /// A bus with devices 1, 2, … at `ranges` of base and length; a range that overlaps stays empty.
    fn bus(ranges: &[(u64, u64)]) -> (Bus, Log) {
        let (mut bus, log) = (Bus::new(), Log::default());
        for (&(base, len), name) in ranges.iter().zip(1..) {
            let _ = bus.insert(Slot::mmio(base, len, Probe { name, log: log.clone() }));
        }
        (bus, log)
    }

    fn read<const N: usize>(bus: &mut Bus, address: u64) -> [u8; N] {
        let mut data = [0; N];
        bus.read(Space::Mmio, address, &mut data);
        data
    }

    fn fits(ranges: &[(u64, u64)], base: u64, len: u64) -> bool {
        bus(ranges).0.insert(Slot::mmio(base, len, Probe { name: 0, log: Log::default() })).is_ok()
    }

    #[test]
    fn an_overlap_is_refused_from_every_side() {
        let taken = [(0x10, 0x10)];
        for (base, len) in [(0x10, 0x10), (0x08, 0x09), (0x1f, 1), (0x14, 2), (0x00, 0x100)] {
            assert!(!fits(&taken, base, len), "{base:#x}, {len:#x}");
        }
        assert!(fits(&taken, 0x08, 8), "right below");
        assert!(fits(&taken, 0x20, 8), "right above");
    }

    #[test]
    fn a_name_that_acpi_has_no_word_for_is_refused() {
        let fits = |name, hid| {
            let mut bus = Bus::new();
            let slot = |base| Slot::ports(base, 1, Probe { name: 0, log: Log::default() });
            bus.insert(slot(0).with_acpi("DEV0", "PNP0501")).unwrap();
            bus.insert(slot(1).with_acpi(name, hid)).is_ok()
        };
        assert!(fits("DEV1", "LNRO0005") && fits("RTC_", "PNP0B00"));
        for name in ["DEV0", "DEV", "DEV10", "0DEV", "dev1", "DE 1", "_DEV", ""] {
            assert!(!fits(name, "LNRO0005"), "{name}");
        }
        for hid in ["", "PNP", "pnp0501", "PNP050G", "PNP05010", "LNROX0005", "0005"] {
            assert!(!fits("DEV1", hid), "{hid}");
        }
    }

    #[test]
    fn what_was_refused_leaves_no_trace() {
        let (mut bus, _) = bus(&[(0x10, 4), (0x0e, 4)]);
        assert_eq!(read(&mut bus, 0x0e), [0xff, 0xff, content(1, 0), content(1, 1)]);
    }

    #[test]
    fn a_string_goes_to_one_address_until_somebody_wants_to_stop() {
        let (mut bus, log) = bus(&[(0x10, 4), (0x14, 4)]);
        assert_eq!(bus.write_string(Space::Mmio, 0x13, &[1, 2]), Action::Continue);
        assert_eq!(bus.write_string(Space::Mmio, 0x20, &[3]), Action::Continue, "nobody is there");
        assert_eq!(bus.write_string(Space::Mmio, 0x14, &[4, 0xee, 5]), Action::Exit(2));
        assert_eq!(bus.write_string(Space::Mmio, 0x10, &[]), Action::Continue);
        assert_eq!(*log.lock().unwrap(), [(1, 3, 1), (1, 3, 2), (2, 0, 4), (2, 0, 0xee)]);
    }

    #[test]
    fn an_empty_range_and_one_that_wraps_are_refused() {
        assert!(!fits(&[], 0x10, 0));
        assert!(!fits(&[], u64::MAX, 2));
        assert!(!fits(&[], 2, u64::MAX));
    }

    #[test]
    fn a_range_may_end_at_the_top_of_the_address_space() {
        let (mut bus, _) = bus(&[(u64::MAX - 1, 2)]);
        assert_eq!(read(&mut bus, u64::MAX - 2), [0xff, content(1, 0), content(1, 1)]);
    }

    #[test]
    fn an_access_at_the_top_goes_on_at_zero() {
        let (mut bus, log) = bus(&[(u64::MAX, 1), (0, 1)]);
        assert_eq!(read(&mut bus, u64::MAX), [content(1, 0), content(2, 0), 0xff]);
        assert_eq!(bus.write(Space::Mmio, u64::MAX, &[7, 8, 9]), Action::Continue);
        assert_eq!(*log.lock().unwrap(), [(1, 0, 7), (2, 0, 8)]);
    }

    #[test]
    fn nobody_answers_with_all_ones_and_swallows_writes() {
        let (mut bus, log) = bus(&[(0x10, 1)]);
        assert_eq!(read(&mut bus, 0x11), [0xff; 8]);
        assert_eq!(bus.write(Space::Mmio, 0x11, &[0xee]), Action::Continue);
        assert!(log.lock().unwrap().is_empty());
    }

    #[test]
    fn an_access_over_a_gap_reaches_both_sides() {
        let (mut bus, log) = bus(&[(0x12, 2), (0x10, 1)]);
        assert_eq!(read(&mut bus, 0x10), [content(2, 0), 0xff, content(1, 0), content(1, 1)]);
        assert_eq!(bus.write(Space::Mmio, 0x10, &[1, 2, 3, 4]), Action::Continue);
        assert_eq!(*log.lock().unwrap(), [(2, 0, 1), (1, 0, 3), (1, 1, 4)]);
    }

    #[test]
    fn a_wide_access_to_one_device_is_not_cut() {
        struct Whole;
        impl Device for Whole {
            fn read(&mut self, _offset: u64, data: &mut [u8]) {
                data.fill(data.len() as u8);
            }
            fn write(&mut self, _offset: u64, data: &[u8]) -> Action {
                Action::Exit(data.len() as u8)
            }
        }
        let mut bus = Bus::new();
        bus.insert(Slot::mmio(0x10, 8, Whole)).unwrap();
        assert_eq!(read(&mut bus, 0x10), [8; 8]);
        assert_eq!(bus.write(Space::Mmio, 0x14, &[0; 4]), Action::Exit(4));
    }

    #[test]
    fn the_first_device_that_ends_the_vm_keeps_the_rest_from_the_others() {
        let (mut bus, log) = bus(&[(0x10, 1), (0x11, 1), (0x12, 1)]);
        assert_eq!(bus.write(Space::Mmio, 0x10, &[0, 0xee, 0xee]), Action::Exit(2));
        assert_eq!(*log.lock().unwrap(), [(1, 0, 0), (2, 0, 0xee)]);
    }

    /// Accesses to devices at `ranges`, held against a model that knows single bytes only: the first to claim all
    /// of its range gets it.
    fn each_byte_reaches_its_device(ranges: &[(i64, u64)], start: i64, data: &[u8]) {
        let mut owners = std::collections::HashMap::new();
        let ranges: Vec<(u64, u64)> = ranges.iter().map(|&(base, len)| (base as u64, len)).collect();
        for (&(base, len), name) in ranges.iter().zip(1u8..) {
            let bytes: Vec<Option<u64>> = (0..len).map(|n| base.checked_add(n)).collect();
            if bytes.iter().all(|byte| byte.is_some_and(|byte| !owners.contains_key(&byte))) {
                owners.extend(bytes.into_iter().flatten().zip(0..).map(|(byte, n)| (byte, (name, n))));
            }
        }
        let claims: Vec<Option<(u8, u64)>> =
            (0..data.len() as u64).map(|n| owners.get(&(start as u64).wrapping_add(n)).copied()).collect();

        let (mut bus, log) = bus(&ranges);
        let mut seen = vec![0; data.len()];
        bus.read(Space::Mmio, start as u64, &mut seen);
        let expected: Vec<u8> =
            claims.iter().map(|claim| claim.map_or(0xff, |(name, offset)| content(name, offset))).collect();
        assert_eq!(seen, expected, "a read of {ranges:x?} at {start}");

        assert_eq!(bus.write(Space::Mmio, start as u64, data), Action::Continue);
        let expected: Vec<(u8, u64, u8)> = claims
            .iter()
            .zip(data)
            .filter_map(|(claim, &byte)| claim.map(|(name, offset)| (name, offset, byte)))
            .collect();
        assert_eq!(*log.lock().unwrap(), expected, "a write to {ranges:x?} at {start}");
    }

    /// Exhaustive: two devices of every length around both ends of the address space, and every access there.
    #[test]
    fn every_access_to_every_pair_of_devices_reaches_whom_it_should() {
        let ranges = || (-3..3_i64).flat_map(|base| (0..4_u64).map(move |len| (base, len)));
        for (one, other) in ranges().flat_map(|one| ranges().map(move |other| (one, other))) {
            for (start, len) in (-5..5).flat_map(|start| [1, 2, 4, 8].map(|len| (start, len))) {
                each_byte_reaches_its_device(&[one, other], start, &[1, 2, 3, 4, 5, 6, 7, 8][..len]);
            }
        }
    }

    proptest! {
        #[test]
        fn each_byte_of_an_access_reaches_exactly_the_device_that_claims_it(
            // Around both ends of the address space, where arithmetic goes wrong.
            ranges in prop::collection::vec((-12..12i64, 0..6u64), 0..8),
            start in -14..14i64,
            // Without 0xee.
            data in prop::collection::vec(0..0x80u8, 1..9),
        ) {
            each_byte_reaches_its_device(&ranges, start, &data);
        }
    }
}
