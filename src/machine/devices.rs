//! Which devices a machine has, and where each of them sits: the one list that its board, its ACPI tables and its saved
//! state are made from.
//!
//! These are the customs of the PC and of QEMU, so that one guest image runs on both; x86/ports.rs has the map. The IOAPIC
//! is not in the list: the lines of all others end there.

use crate::device::{Bus, Cable, Cmos, Conflict, DebugExit, I8042, Ioapic, Post, Power, Serial, Slot};
use crate::sys;
use crate::x86::{layout, ports};

/// What decides which devices there are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hardware {
    /// Bytes of memory.
    pub memory: u64,
    /// Number of vCPUs.
    pub cpus: u32,
    /// Whether it has what ACPI tables describe.
    pub acpi: bool,
}

/// The devices of such a machine, whose console is at the other end of `cable`, and which stops at the POST code
/// `stop_at`.
pub(super) fn devices(hardware: &Hardware, stop_at: Option<u8>, cable: &Cable) -> Result<Bus, Conflict> {
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

/// The offset of `address` in the IOAPIC's window, if it lies there.
pub(super) fn ioapic_offset(address: u64) -> Option<u64> {
    address.checked_sub(layout::IOAPIC).filter(|&offset| offset < Ioapic::SIZE)
}
