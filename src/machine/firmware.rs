//! The firmware: what a kernel expects of one in guest memory, and what it leaves there for the next.

use super::Outcome;
use crate::error::{Error, Result, Step};
use crate::kvm::Memory;
use crate::sys;
use crate::x86::{acpi, layout};
use vm_memory::{Bytes, GuestAddress};

/// Puts what a kernel expects of firmware into guest memory, and returns the address of the root of the ACPI
/// tables. The rest of the firmware is what a PC's processor finds at its reset vector: kernels jump there when
/// they know no better way to reboot.
pub(super) fn add(memory: &Memory, cpus: u32) -> Result<u64> {
    const RESET: &[u8] = &[
        0xb0, 0xfe, // mov al, 0xfe
        0xe6, 0x64, // out 0x64, al: the keyboard controller pulls the reset line
        0xf4, //       hlt
    ];
    for (address, bytes) in [(layout::RESET_VECTOR, RESET), (layout::ACPI_TABLES, &acpi::tables(cpus))] {
        let outside = |_| Error::Misuse("there is no room for the firmware's tables".into());
        memory.write_slice(bytes, GuestAddress(address)).map_err(outside)?;
    }
    new_vmgenid(memory)?;
    Ok(layout::ACPI_TABLES)
}

/// Gives the guest a VMGENID that no machine had before.
pub(super) fn new_vmgenid(memory: &Memory) -> Result<()> {
    let id: [u8; layout::VMGENID_SIZE] =
        sys::random().map_err(|source| Error::Host { step: Step::Random, source })?;
    let outside = |_| Error::Misuse("there is no room for the VMGENID".into());
    memory.write_slice(&id, GuestAddress(layout::VMGENID)).map_err(outside)
}

/// Looks where a BIOS would how the guest wants to be started again.
pub(super) fn kind_of_reset(memory: &Memory) -> Outcome {
    match memory.read_obj(GuestAddress(layout::RESET_FLAG)).map(u16::from_le) {
        Ok(layout::WARM_BOOT) => Outcome::WarmReset,
        _ => Outcome::Reset,
    }
}
