//! Which devices a machine has, and where each of them sits: the one list that its board, its ACPI tables and its saved
//! state are made from.
//!
//! These are the customs of the PC and of QEMU, so that one guest image runs on both; x86/ports.rs has the map. The IOAPIC
//! is not in the list: the lines of all others end there.

use super::build::Hardware;
use crate::device::{Bus, Cable, Cmos, Conflict, DebugExit, I8042, Post, Power, Serial, Slot};
use crate::error::{Error, Result};
use crate::sys;
use crate::x86::{layout, ports};

/// The devices of such a machine, whose console is at the other end of `cable`, and which stops at the POST code
/// `stop_at`.
pub(super) fn devices(hardware: &Hardware, stop_at: Option<u8>, cable: &Cable) -> Result<Bus> {
    list(hardware, stop_at, cable)
        .map_err(|conflict| Error::Misuse(format!("two devices at one place: {conflict}")))
}

fn list(hardware: &Hardware, stop_at: Option<u8>, cable: &Cable) -> std::result::Result<Bus, Conflict> {
    let Hardware { memory, cpus, acpi } = *hardware;
    let (low, high) = (memory.min(layout::MMIO_START), memory.saturating_sub(layout::MMIO_START));
    let extra_cpus = u8::try_from(cpus.saturating_sub(1)).unwrap_or(u8::MAX);
    let cmos = Cmos::new(sys::unix_time, low, high, extra_cpus);
    let post = Post::new(cable.clone(), stop_at);
    let com1 = Serial::new(cable.clone());

    let mut bus = Bus::new();
    let keyboard_controller = ports::I8042_COMMAND - ports::I8042 + 1;
    bus.insert(Slot::ports(ports::I8042, keyboard_controller, I8042::new()))?;
    bus.insert(Slot::ports(ports::CMOS, 2, cmos).with_acpi("RTC_", "PNP0B00"))?;
    bus.insert(Slot::ports(ports::POST, 1, post))?;
    bus.insert(Slot::ports(ports::DEBUG_EXIT, 1, DebugExit))?;
    let com1 = Slot::ports(ports::COM1, ports::COM1_LEN, com1);
    bus.insert(com1.with_pin(ports::COM1_PIN).with_acpi("COM1", "PNP0501"))?;
    if acpi {
        bus.insert(Slot::ports(ports::SLEEP_CONTROL, 2, Power::new(ports::S5)))?;
        bus.reserve_pin(ports::VMGENID_PIN)?;
    }
    Ok(bus)
}
