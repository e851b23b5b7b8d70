//! The board: the devices of one machine, and the IOAPIC at which their interrupt lines end.
//!
//! ```text
//!   Exit ──▶ Bus ──▶ Device ──▶ Action
//!                      └ line ─▶ pin of the IOAPIC ──message──▶ local APICs, inside KVM
//! ```
//!
//! Which devices there are is in devices.rs.

use crate::device::{Action, Bus, Device, Ioapic, Msi, Space};
use crate::kvm::Exit;
use crate::x86::layout;

/// All devices of one machine.
pub(super) struct Board {
    pub bus: Bus,
    pub ioapic: Ioapic,
}

impl Board {
    /// A board with these devices, as after a reset.
    pub fn new(bus: Bus) -> Board {
        Board { bus, ioapic: Ioapic::new() }
    }

    /// Answers a string of bytes that were written to `port`; to send bytes ends nothing.
    pub fn write_string(&mut self, port: u16, bytes: &[u8]) {
        let _ = self.bus.write_string(Space::Ports, port.into(), bytes);
    }

    /// Answers an access to a port or an address. Other exits are not the board's business.
    pub fn serve(&mut self, exit: &mut Exit<'_>) -> Action {
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

    /// After an access or a signal: shows the IOAPIC what has become of each interrupt line, lets the devices
    /// take input from outside, and shows it again. In this order, as an edge-triggered pin must see the line
    /// fall when the guest has read a byte before it sees it rise for the next.
    pub fn settle<E>(&mut self, mut send: impl FnMut(Msi) -> Result<(), E>) -> Result<(), E> {
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
}

/// The offset of `address` in the IOAPIC's window, if it lies there.
fn ioapic_offset(address: u64) -> Option<u64> {
    address.checked_sub(layout::IOAPIC).filter(|&offset| offset < Ioapic::SIZE)
}

#[cfg(test)]
mod tests {
    use super::super::build::Hardware;
    use super::super::devices::devices;
    use super::*;
    use crate::device::{Cable, Conflict, Slot};
    use crate::x86::ports;

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
            board.bus.insert(Slot::mmio(BASE, 4, Bell(0)).with_pin(9)).unwrap();
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
            let refused = board.bus.insert(Slot::mmio(0xd000_0000, 4, Bell(0)).with_pin(pin));
            assert_eq!(refused, Err(Conflict::Pin(pin)));
        }
        board.bus.insert(Slot::mmio(0xd000_0000, 4, Bell(0)).with_pin(9)).unwrap();
        assert_eq!(board.bus.insert(Slot::mmio(0xd000_0004, 4, Bell(0)).with_pin(9)), Err(Conflict::Pin(9)));
    }
}
