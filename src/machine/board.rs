//! The board: the devices of one machine, and the IOAPIC at which their interrupt lines end.
//!
//! ```text
//!   Exit ──▶ Bus ──▶ Device ──▶ Action
//!                      └ line ─▶ pin of the IOAPIC ──message──▶ local APICs, inside KVM
//! ```
//!
//! Which devices there are is in devices.rs.

use super::coalescing::Coalescing;
use super::devices::ioapic_offset;
use crate::device::{Action, Bus, Conflict, Device, Ioapic, Msi, Slot, Space};
use crate::kvm::{Coalesced, Exit};
use crate::machine::DeviceState;
use crate::x86::{layout, ports};

/// All devices of one machine.
pub(super) struct Board {
    bus: Bus,
    ioapic: Ioapic,
    coalescing: Coalescing,
}

impl Board {
    /// A board with these devices, as after a reset.
    pub fn new(bus: Bus) -> Board {
        Board { bus, ioapic: Ioapic::new(), coalescing: Coalescing::default() }
    }

    /// Adds a device.
    pub fn insert(&mut self, slot: Slot) -> Result<(), Conflict> {
        self.bus.insert(slot)
    }

    /// All devices but the IOAPIC.
    pub fn slots(&self) -> &[Slot] {
        self.bus.slots()
    }

    /// If the guest has much to say and KVM does not coalesce it yet, lets `begin` see to that for a port. It is asked
    /// once.
    pub fn coalesce(&mut self, begin: impl FnOnce(u16) -> Option<Coalesced>) {
        self.coalescing.begin(begin);
    }

    /// Brings what KVM has coalesced to its device: it came before whatever is served next.
    pub fn deliver(&mut self) {
        let bus = &mut self.bus;
        self.coalescing.take(|port, bytes| {
            // To send a byte ends nothing.
            let _ = bus.write_string(Space::Ports, port.into(), bytes);
        });
    }

    /// Answers an access to a port or an address. Other exits are not the board's business.
    pub fn serve(&mut self, exit: &mut Exit<'_>) -> Action {
        self.deliver();
        self.coalescing.note(exit);
        match *exit {
            Exit::Out { port, size: 1, data } => {
                return self.bus.write_string(Space::Ports, port.into(), data);
            }
            // A string of words is its elements, one after the other, all at the same port.
            Exit::Out { port, size, data } => {
                for access in data.chunks_exact(size) {
                    let action = self.bus.write(Space::Ports, port.into(), access);
                    if action != Action::Continue {
                        return action;
                    }
                }
            }
            Exit::In { port, size, ref mut data } => {
                for access in data.chunks_exact_mut(size) {
                    self.bus.read(Space::Ports, port.into(), access);
                }
            }
            Exit::MmioRead { address, ref mut data } => match ioapic_offset(address) {
                Some(offset) => self.ioapic.read(offset, data),
                None => self.bus.read(Space::Mmio, address, data),
            },
            Exit::MmioWrite { address, data } => {
                return match ioapic_offset(address) {
                    Some(offset) => self.ioapic.write(offset, data),
                    None => self.bus.write(Space::Mmio, address, data),
                };
            }
            Exit::Eoi { vector } => self.ioapic.eoi(vector),
            _ => {}
        }
        Action::Continue
    }

    /// The device that answers an access, by name.
    pub fn device_of(&mut self, exit: &Exit<'_>) -> &'static str {
        let device = match *exit {
            Exit::Out { port, .. } | Exit::In { port, .. } => self.bus.device_at(Space::Ports, port.into()),
            Exit::Eoi { .. } => Some(self.ioapic.name()),
            Exit::MmioRead { address, .. } | Exit::MmioWrite { address, .. } => {
                match ioapic_offset(address) {
                    Some(_) => Some(self.ioapic.name()),
                    None => self.bus.device_at(Space::Mmio, address),
                }
            }
            _ => None,
        };
        device.unwrap_or("nobody")
    }

    /// Tells the guest that its VMGENID is a new one: a pulse at its pin. A guest that has not unmasked the pin
    /// does not want to know.
    pub fn tell_vmgenid(&mut self) -> Option<Msi> {
        let message = self.ioapic.set_line(ports::VMGENID_PIN, true);
        self.ioapic.set_line(ports::VMGENID_PIN, false);
        message
    }

    /// After an access or a signal: shows the IOAPIC what has become of each interrupt line, lets the devices
    /// take input from outside, and shows it again. In this order, as an edge-triggered pin must see the line
    /// fall when the guest has read a byte before it sees it rise for the next.
    pub fn settle<E>(&mut self, mut send: impl FnMut(Msi) -> Result<(), E>) -> Result<(), E> {
        self.deliver();
        self.interrupts(&mut send)?;
        self.bus.poll();
        self.interrupts(&mut send)
    }

    /// Carries the level of each interrupt line to the IOAPIC, and every message that this or a write to
    /// the IOAPIC has caused to `send`.
    fn interrupts<E>(&mut self, mut send: impl FnMut(Msi) -> Result<(), E>) -> Result<(), E> {
        for (pin, level) in self.bus.interrupts() {
            self.ioapic.set_line(pin, level).map_or(Ok(()), &mut send)?;
        }
        while let Some(message) = self.ioapic.take_message() {
            send(message)?;
        }
        Ok(())
    }

    /// What every device remembers; the place of one that cannot say is the error.
    pub fn states(&self) -> Result<Vec<DeviceState>, String> {
        let slots = self.bus.slots().iter().map(|slot| (slot.space, slot.base, slot.device.state()));
        let ioapic = (Space::Ioapic, layout::IOAPIC, self.ioapic.state());
        let state = |(space, base, bytes): (Space, u64, Option<Vec<u8>>)| match bytes {
            Some(bytes) => Ok(DeviceState { space, base, bytes }),
            None => Err(format!("the device at {base:#x} of the {space} does not tell what it remembers")),
        };
        slots.chain([ioapic]).map(state).collect()
    }

    /// Gives every device what it remembered: as many as there are, each once. The place of one that is not here,
    /// or does not take it, is the error.
    pub fn set_states(&mut self, devices: &[DeviceState]) -> Result<(), String> {
        let slots = self.bus.slots().iter().map(|slot| (slot.space, slot.base));
        let mut left: Vec<(Space, u64)> = slots.chain([(Space::Ioapic, layout::IOAPIC)]).collect();
        for DeviceState { space, base, bytes } in devices {
            let at = left.iter().position(|place| *place == (*space, *base));
            let is_taken = at.map(|at| left.swap_remove(at)).is_some()
                && match space {
                    Space::Ioapic => self.ioapic.set_state(bytes),
                    space => self.bus.set_state(*space, *base, bytes),
                };
            if !is_taken {
                return Err(format!("no device at {base:#x} of the {space} takes its state"));
            }
        }
        match left.first() {
            None => Ok(()),
            Some((space, base)) => {
                Err(format!("the state of the device at {base:#x} of the {space} is missing"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::devices::{Hardware, devices};
    use super::*;
    use crate::device::Cable;

    fn board(acpi: bool) -> Board {
        let hardware = Hardware { memory: 2 << 20, cpus: 1, acpi };
        Board::new(devices(&hardware, None, &Cable::default()).unwrap())
    }

    /// Has the IOAPIC send vector 0x31 when `pin` rises: edge-triggered, not masked.
    fn unmask(board: &mut Board, pin: u8) {
        let select = u32::from(0x10 + 2 * pin);
        for (address, value) in [(layout::IOAPIC, select), (layout::IOAPIC + 0x10, 0x31)] {
            let data = &value.to_le_bytes();
            assert_eq!(board.serve(&mut Exit::MmioWrite { address, data }), Action::Continue);
        }
    }

    #[test]
    fn a_new_vmgenid_is_told_by_one_message_to_who_wants_it() {
        let mut board = board(true);
        assert_eq!(board.tell_vmgenid(), None);
        unmask(&mut board, ports::VMGENID_PIN);
        for _ in 0..2 {
            assert_eq!(board.tell_vmgenid().map(|message| message.data), Some(0x31));
        }
        assert_eq!(board.settle(Err), Ok(()));
    }

    /// Its line is high while it holds a byte other than zero.
    struct Bell(u8);

    impl Device for Bell {
        fn read(&mut self, _offset: u64, data: &mut [u8]) {
            data.fill(self.0);
        }
        fn write(&mut self, _offset: u64, data: &[u8]) -> Action {
            self.0 = data[0];
            Action::Continue
        }
        fn interrupt(&self) -> bool {
            self.0 != 0
        }
        fn state(&self) -> Option<Vec<u8>> {
            Some(vec![self.0])
        }
        fn set_state(&mut self, state: &[u8]) -> bool {
            self.0 = state[0];
            true
        }
    }

    #[test]
    fn a_device_of_the_caller_interrupts_and_is_saved_as_any_other() {
        const BASE: u64 = 0xd000_0000;
        let new = || {
            let mut board = board(false);
            board.insert(Slot::mmio(BASE, 4, Bell(0)).with_pin(9)).unwrap();
            board
        };
        let mut board = new();
        unmask(&mut board, 9);
        assert_eq!(board.settle(Err), Ok(()));
        let write = &mut Exit::MmioWrite { address: BASE, data: &[1] };
        assert_eq!(board.serve(write), Action::Continue);
        assert_eq!(board.settle(|message| Err(message.data)), Err(0x31));
        assert_eq!(board.settle(Err), Ok(()), "an edge is one message");
        let saved = board.states().unwrap();
        assert!(saved.iter().any(|device| device.base == BASE && device.bytes == [1]));
        let mut other = new();
        other.set_states(&saved).unwrap();
        assert_eq!(other.states().unwrap(), saved);
        assert!(self::board(false).set_states(&saved).is_err(), "a board without it does not take its state");
    }

    #[test]
    fn a_pin_has_one_device_and_must_exist() {
        let mut board = board(true);
        for pin in [ports::COM1_PIN, ports::VMGENID_PIN, ports::IOAPIC_PINS, 255] {
            let refused = board.insert(Slot::mmio(0xd000_0000, 4, Bell(0)).with_pin(pin));
            assert_eq!(refused, Err(Conflict::Pin(pin)));
        }
        board.insert(Slot::mmio(0xd000_0000, 4, Bell(0)).with_pin(9)).unwrap();
        assert_eq!(board.insert(Slot::mmio(0xd000_0004, 4, Bell(0)).with_pin(9)), Err(Conflict::Pin(9)));
    }
}
