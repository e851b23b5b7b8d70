//! The firmware: what a kernel expects of one in guest memory, and what it leaves there for the next.

use super::{Outcome, acpi};
use crate::device::Slot;
use crate::error::{Error, Result, Step};
use crate::kvm::Memory;
use crate::sys;
use crate::x86::{layout, ports};
use vm_memory::{Bytes, GuestAddress};

/// Puts what a kernel expects of firmware into guest memory, and returns the address of the root of the ACPI
/// tables, which tell of these devices. The rest of the firmware is what a PC's processor finds at its reset vector:
/// kernels jump there when they know no better way to reboot.
pub(super) fn add(memory: &Memory, slots: &[Slot], cpus: u32) -> Result<u64> {
    const RESET: &[u8] = &[
        0xb0,
        ports::RESET_COMMAND, //       mov al, RESET_COMMAND
        0xe6,
        ports::I8042_COMMAND as u8, // out I8042_COMMAND, al
        0xf4,                       //                             hlt
    ];
    write(memory, layout::RESET_VECTOR, RESET)?;
    write_tables(memory, slots, cpus)?;
    new_vmgenid(memory)?;
    Ok(layout::ACPI_TABLES)
}

/// Writes the ACPI tables that tell of these devices.
pub(super) fn write_tables(memory: &Memory, slots: &[Slot], cpus: u32) -> Result<()> {
    let tables = acpi::tables(slots, cpus);
    if layout::ACPI_TABLES + tables.len() as u64 > layout::VMGENID {
        return Err(Error::Misuse("there is no room for the ACPI tables of so many devices".into()));
    }
    write(memory, layout::ACPI_TABLES, &tables)
}

fn write(memory: &Memory, address: u64, bytes: &[u8]) -> Result<()> {
    let outside = |_| Error::Misuse("there is no room for the firmware".into());
    memory.write_slice(bytes, GuestAddress(address)).map_err(outside)
}

/// Gives the guest a VMGENID that no machine had before.
pub(super) fn new_vmgenid(memory: &Memory) -> Result<()> {
    let id: [u8; layout::VMGENID_SIZE] =
        sys::random().map_err(|source| Error::Host { step: Step::Random, source })?;
    write(memory, layout::VMGENID, &id)
}

/// How the guest wants to be started again: by the flag that a BIOS looks at after a reset.
pub(super) fn kind_of_reset(memory: &Memory) -> Outcome {
    match memory.read_obj(GuestAddress(layout::RESET_FLAG)).map(u16::from_le) {
        Ok(layout::WARM_BOOT) => Outcome::WarmReset,
        _ => Outcome::Reset,
    }
}
