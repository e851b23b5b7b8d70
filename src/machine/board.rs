//! The board: which device sits where, and whose interrupt line goes to which pin.
//!
//! ```text
//!   port 0x060   i8042        keyboard controller: 0xfe to port 0x64 resets
//!   port 0x070   cmos         clock, and the number of CPUs
//!   port 0x080   post         milestones
//!   port 0x0f4   debug exit   the written byte becomes the exit status
//!   port 0x3f8   serial       COM1 ── pin 4 ─┐
//!   port 0x600   power        ACPI's sleep registers, on a machine with ACPI tables
//!   0xfec0_0000  ioapic       ◀──────────────┘ ──message──▶ local APICs, inside KVM
//!                             ◀── pin 5: the VMGENID is a new one, on a machine with ACPI tables
//! ```
//!
//! These are the customs of the PC and of QEMU, so that one guest image runs on both.

use crate::device::{
    Action, Bus, Cable, Cmos, DebugExit, Device, I8042, Ioapic, Msi, Overlap, Post, Power, Serial,
};
use crate::kvm::{Coalesced, Exit};
use crate::machine::{DeviceState, Space};
use crate::sys;
use crate::x86::{acpi, layout};

/// COM1's first register (its transmitter), and its eight ports.
const COM1: (u64, u64) = (0x3f8, 8);
/// COM1's interrupt: IRQ 4 since the first PC.
const COM1_PIN: u8 = 4;

/// All devices of one machine.
pub(super) struct Board {
    ports: Bus,
    mmio: Bus,
    ioapic: Ioapic,
    bursts: Bursts,
    /// What the guest sent, once KVM coalesces it.
    coalesced: Option<Coalesced>,
}

/// Bytes that were sent to COM1 one after the other, without a look at the port in between.
///
/// A driver that fills the FIFO and then looks what has become of it does not mind that KVM coalesces the bytes
/// until that look. One that sends and sleeps until the interrupt might wait for long.
#[derive(Default)]
struct Bursts {
    sent: u32,
    seen: u32,
}

impl Bursts {
    /// More than one byte, and as many as make it worth while.
    const LEN: u32 = 8;
    /// So many bursts are a guest with much to say: a kilobyte, of which the rest of a start is free.
    const MANY: u32 = 64;

    fn note(&mut self, exit: &Exit<'_>) {
        const PORTS: std::ops::Range<u16> = COM1.0 as u16..(COM1.0 + COM1.1) as u16;
        match exit {
            Exit::Out { port, .. } if *port == PORTS.start => self.sent = self.sent.saturating_add(1),
            Exit::In { port, .. } if PORTS.contains(port) => {
                self.seen = self.seen.saturating_add(u32::from(self.sent >= Bursts::LEN));
                self.sent = 0;
            }
            _ => {}
        }
    }
}

impl Board {
    pub fn new(
        memory: u64,
        cpus: u32,
        acpi: bool,
        stop_at: Option<u8>,
        cable: Cable,
    ) -> Result<Board, Overlap> {
        let (low, high) = (memory.min(layout::MMIO_START), memory.saturating_sub(layout::MMIO_START));
        let extra_cpus = u8::try_from(cpus.saturating_sub(1)).unwrap_or(u8::MAX);
        let mut ports = Bus::new();
        ports.insert(0x60, 5, None, Box::new(I8042::new()))?;
        ports.insert(0x70, 2, None, Box::new(Cmos::new(sys::unix_time, low, high, extra_cpus)))?;
        ports.insert(0x80, 1, None, Box::new(Post::new(cable.clone(), stop_at)))?;
        ports.insert(0xf4, 1, None, Box::new(DebugExit))?;
        ports.insert(COM1.0, COM1.1, Some(COM1_PIN), Box::new(Serial::new(cable)))?;
        if acpi {
            ports.insert(acpi::SLEEP_CONTROL.into(), 2, None, Box::new(Power::new(acpi::S5)))?;
        }
        let (bursts, coalesced) = (Bursts::default(), None);
        Ok(Board { ports, mmio: Bus::new(), ioapic: Ioapic::new(), bursts, coalesced })
    }

    /// Puts a device of the caller's on the ports (`mmio` false) or the memory-mapped addresses.
    pub fn insert(
        &mut self,
        mmio: bool,
        base: u64,
        len: u64,
        device: Box<dyn Device>,
    ) -> Result<(), Overlap> {
        if mmio { &mut self.mmio } else { &mut self.ports }.insert(base, len, None, device)
    }

    /// If the guest has much to say and nobody collects it yet, lets `collect` see to that for COM1's transmitter.
    /// It is asked once.
    pub fn collect(&mut self, collect: impl FnOnce(u16) -> Option<Coalesced>) {
        if self.bursts.seen == Bursts::MANY {
            self.bursts.seen += 1;
            self.coalesced = collect(COM1.0 as u16);
        }
    }

    /// Brings what KVM has coalesced to its device: it came before whatever is served next.
    pub fn deliver(&mut self) {
        let Some(coalesced) = &mut self.coalesced else { return };
        let mut room = Coalesced::room();
        let (port, bytes) = coalesced.drain(&mut room);
        // To send a byte ends nothing.
        let _ = self.ports.write_string(port.into(), bytes);
    }

    /// Answers an access to a port or an address. Other exits are not the board's business.
    pub fn serve(&mut self, exit: &mut Exit<'_>) -> Action {
        self.deliver();
        self.bursts.note(exit);
        match *exit {
            Exit::Out { port, size: 1, data } => return self.ports.write_string(port.into(), data),
            // A string of words is its elements, one after the other, all at the same port.
            Exit::Out { port, size, data } => {
                for access in data.chunks_exact(size) {
                    let action = self.ports.write(port.into(), access);
                    if action != Action::Continue {
                        return action;
                    }
                }
            }
            Exit::In { port, size, ref mut data } => {
                for access in data.chunks_exact_mut(size) {
                    self.ports.read(port.into(), access);
                }
            }
            Exit::MmioRead { address, ref mut data } => match ioapic_offset(address) {
                Some(offset) => self.ioapic.read(offset, data),
                None => self.mmio.read(address, data),
            },
            Exit::MmioWrite { address, data } => {
                return match ioapic_offset(address) {
                    Some(offset) => self.ioapic.write(offset, data),
                    None => self.mmio.write(address, data),
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
            Exit::Out { port, .. } | Exit::In { port, .. } => self.ports.device_at(port.into()),
            Exit::Eoi { .. } => Some(self.ioapic.name()),
            Exit::MmioRead { address, .. } | Exit::MmioWrite { address, .. } => {
                match ioapic_offset(address) {
                    Some(_) => Some(self.ioapic.name()),
                    None => self.mmio.device_at(address),
                }
            }
            _ => None,
        };
        device.unwrap_or("nobody")
    }

    /// What every device remembers; the place of one that cannot say is the error.
    pub fn states(&self) -> Result<Vec<DeviceState>, String> {
        let on = |space: Space, bus: &Bus| -> Vec<_> {
            bus.states().map(|(base, bytes)| (space, base, bytes)).collect()
        };
        let ioapic = (Space::Ioapic, layout::IOAPIC, self.ioapic.state());
        let devices = [on(Space::Ports, &self.ports), on(Space::Mmio, &self.mmio), vec![ioapic]].concat();
        let state = |(space, base, bytes): (Space, u64, Option<Vec<u8>>)| match bytes {
            Some(bytes) => Ok(DeviceState { space, base, bytes }),
            None => Err(format!("the device at {base:#x} of the {space} does not tell what it remembers")),
        };
        devices.into_iter().map(state).collect()
    }

    /// Gives every device what it remembered: as many as there are, each once. The place of one that is not here,
    /// or does not take it, is the error.
    pub fn set_states(&mut self, devices: &[DeviceState]) -> Result<(), String> {
        let mut left: Vec<(Space, u64)> = self.places();
        for DeviceState { space, base, bytes } in devices {
            let at = left.iter().position(|place| *place == (*space, *base));
            let is_taken = at.map(|at| left.swap_remove(at)).is_some()
                && match space {
                    Space::Ports => self.ports.set_state(*base, bytes),
                    Space::Mmio => self.mmio.set_state(*base, bytes),
                    Space::Ioapic => self.ioapic.set_state(bytes),
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

    /// Tells the guest that its VMGENID is a new one: a pulse at its pin. A guest that has not unmasked the pin
    /// does not want to know.
    pub fn tell_vmgenid(&mut self) -> Option<Msi> {
        let message = self.ioapic.set_line(acpi::VMGENID_PIN, true);
        self.ioapic.set_line(acpi::VMGENID_PIN, false);
        message
    }

    fn places(&self) -> Vec<(Space, u64)> {
        let ports = self.ports.states().map(|(base, _)| (Space::Ports, base));
        let mmio = self.mmio.states().map(|(base, _)| (Space::Mmio, base));
        ports.chain(mmio).chain([(Space::Ioapic, layout::IOAPIC)]).collect()
    }

    /// After an access or a signal: shows the IOAPIC what has become of each interrupt line, lets the devices
    /// take input from outside, and shows it again. In this order, as an edge-triggered pin must see the line
    /// fall when the guest has read a byte before it sees it rise for the next.
    pub fn settle<E>(&mut self, mut send: impl FnMut(Msi) -> Result<(), E>) -> Result<(), E> {
        self.deliver();
        self.interrupts(&mut send)?;
        self.ports.poll();
        self.mmio.poll();
        self.interrupts(&mut send)
    }

    /// Carries the level of each interrupt line to the IOAPIC, and every message that this or a write to
    /// the IOAPIC has caused to `send`.
    fn interrupts<E>(&mut self, mut send: impl FnMut(Msi) -> Result<(), E>) -> Result<(), E> {
        for (pin, level) in self.ports.interrupts().chain(self.mmio.interrupts()) {
            self.ioapic.set_line(pin, level).map_or(Ok(()), &mut send)?;
        }
        while let Some(message) = self.ioapic.take_message() {
            send(message)?;
        }
        Ok(())
    }
}

fn ioapic_offset(address: u64) -> Option<u64> {
    address.checked_sub(layout::IOAPIC).filter(|&offset| offset < Ioapic::SIZE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board() -> Board {
        Board::new(2 << 20, 1, false, None, Cable::default()).unwrap()
    }

    /// Sends `len` bytes and looks at the port, `times` times.
    fn send(board: &mut Board, len: usize, times: u32) {
        for _ in 0..times {
            for _ in 0..len {
                assert_eq!(
                    board.serve(&mut Exit::Out { port: 0x3f8, size: 1, data: b"x" }),
                    Action::Continue
                );
            }
            assert_eq!(board.serve(&mut Exit::In { port: 0x3fd, size: 1, data: &mut [0] }), Action::Continue);
        }
    }

    fn is_asked(board: &mut Board) -> bool {
        let mut asked = false;
        board.collect(|port| {
            assert_eq!(port, 0x3f8);
            asked = true;
            None
        });
        asked
    }

    #[test]
    fn a_new_vmgenid_is_told_by_one_message_to_who_wants_it() {
        let mut board = board();
        assert_eq!(board.tell_vmgenid(), None);
        // The redirection entry: vector 0x31, edge-triggered, not masked.
        let select = 0x10 + 2 * acpi::VMGENID_PIN;
        let mut write =
            |address, value: u32| board.serve(&mut Exit::MmioWrite { address, data: &value.to_le_bytes() });
        assert_eq!(write(layout::IOAPIC, select.into()), Action::Continue);
        assert_eq!(write(layout::IOAPIC + 0x10, 0x31), Action::Continue);
        for _ in 0..2 {
            assert_eq!(board.tell_vmgenid().map(|message| message.data), Some(0x31));
        }
        assert_eq!(board.settle(Err), Ok(()));
    }

    #[test]
    fn only_a_guest_that_sends_many_bytes_without_a_look_is_collected_from_and_that_once() {
        let mut board = board();
        // Looks before each byte; and strings, each of which is one exit.
        send(&mut board, 1, 1000);
        for _ in 0..1000 {
            let _ = board.serve(&mut Exit::Out { port: 0x3f8, size: 1, data: &[b'x'; 99] });
            let _ = board.serve(&mut Exit::In { port: 0x3fd, size: 1, data: &mut [0] });
        }
        assert!(!is_asked(&mut board));
        send(&mut board, 16, Bursts::MANY - 1);
        assert!(!is_asked(&mut board));
        send(&mut board, 16, 1);
        assert!(is_asked(&mut board));
        assert!(!is_asked(&mut board));
        send(&mut board, 16, 1000);
        assert!(!is_asked(&mut board));
    }
}
