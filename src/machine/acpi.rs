//! The ACPI tables of a machine: what a kernel reads to find its processors, its IOAPIC and its serial port,
//! and how to switch off.
//!
//! ```text
//!   RSDP ─▶ XSDT ─▶ FADT ─▶ DSDT: \_S5_, COM1, the clock, the VMGENID
//!                └▶ MADT: a local APIC for each processor, the IOAPIC
//! ```
//!
//! Hardware-reduced ACPI: there is no power-management timer, no SCI and no event block, so nothing else has to
//! be emulated than the two registers named in the FADT. Source: ACPI 6.5; by section at each table.

use crate::device::{Slot, Space};
use crate::x86::layout::{ACPI_TABLES, IOAPIC, LOCAL_APIC, VMGENID};
use crate::x86::ports;
use acpi_tables::aml::{
    self, AddressSpaceCacheable, Device, EISAName, IO, Interrupt, Method, Name, Notify, Package,
    ResourceTemplate, ZERO,
};
use acpi_tables::fadt::{FADTBuilder, Flags};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::madt::{EnabledStatus, IoApic, LocalInterruptController, MADT, ProcessorLocalApic};
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;
use acpi_tables::xsdt::XSDT;
use acpi_tables::{Aml, AmlSink, aml::Path};

const OEM: [u8; 6] = *b"MATCHS";
const OEM_TABLE: [u8; 8] = *b"MATCHBOX";
const REVISION: u32 = 1;

/// All tables for a machine with these devices and `cpus` processors, to be put at [`ACPI_TABLES`], where the RSDP comes
/// first.
///
/// For 255 processors and our own devices they take less than a tenth of the room there.
pub(super) fn tables(slots: &[Slot], cpus: u32) -> Vec<u8> {
    let mut tables = Tables { bytes: vec![0; Rsdp::len().next_multiple_of(ALIGN)] };
    let dsdt = tables.add(&dsdt(slots));
    let fadt = tables.add(&fadt(dsdt));
    let madt = tables.add(&madt(cpus));
    let mut xsdt = XSDT::new(OEM, OEM_TABLE, REVISION);
    xsdt.add_entry(fadt);
    xsdt.add_entry(madt);
    let xsdt = tables.add(&xsdt);
    let rsdp = bytes(&Rsdp::new(OEM, xsdt));
    tables.bytes[..rsdp.len()].copy_from_slice(&rsdp);
    tables.bytes
}

/// Tables begin at multiples of this.
const ALIGN: usize = 16;

/// Tables one after another, from [`ACPI_TABLES`] on.
struct Tables {
    bytes: Vec<u8>,
}

impl Tables {
    /// Appends a table and returns its guest-physical address.
    fn add(&mut self, table: &dyn Aml) -> u64 {
        let at = self.bytes.len().next_multiple_of(ALIGN);
        self.bytes.resize(at, 0);
        self.bytes.extend(bytes(table));
        ACPI_TABLES + at as u64
    }
}

fn bytes(table: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.to_aml_bytes(&mut bytes);
    bytes
}

/// Section 5.2.11.1: what kind of machine this is, in AML.
fn dsdt(slots: &[Slot]) -> Sdt {
    let mut dsdt = Sdt::new(*b"DSDT", 36, 2, OEM, OEM_TABLE, REVISION);
    let soft_off = Package::new(vec![&ports::S5, &ZERO, &ZERO, &ZERO]);
    dsdt.append_slice(&bytes(&Name::new(Path::new("_S5_"), &soft_off)));
    for (number, slot) in slots.iter().enumerate() {
        add_device(&mut dsdt, slot, &slots[..number]);
    }
    add_vmgenid(&mut dsdt);
    dsdt.update_checksum();
    dsdt
}

/// A device of the list: what it is, where it sits, and which interrupt it has. Without a PIC a kernel learns only here
/// which pin that is.
fn add_device(dsdt: &mut Sdt, slot: &Slot, before: &[Slot]) {
    let Some(id) = slot.acpi else { return };
    // Devices of one kind are told apart by their number (section 6.1.12).
    let same = before.iter().filter(|other| other.acpi.is_some_and(|other| other.hid == id.hid));
    let uid = same.count() as u32 + 1;
    let last = slot.base + (slot.len - 1);
    let place = match (slot.space, u16::try_from(slot.base), u8::try_from(slot.len)) {
        (Space::Ports, Ok(base), Ok(len)) => bytes(&IO::new(base, base, 1, len)),
        (Space::Ports, ..) => bytes(&aml::AddressSpace::new_io(slot.base as u16, last as u16, None)),
        _ => {
            let cacheable = AddressSpaceCacheable::NotCacheable;
            bytes(&aml::AddressSpace::new_memory(cacheable, true, slot.base, last, None))
        }
    };
    // Edge-triggered, active high, nobody else's.
    let pin = slot.pin.map(|pin| Interrupt::new(true, true, false, false, pin.into()));
    let place = Encoded(place);
    let resources = [Some(&place as &dyn Aml), pin.as_ref().map(|pin| pin as &dyn Aml)];
    let resources = ResourceTemplate::new(resources.into_iter().flatten().collect());
    let hid = match id.hid.len() {
        7 => bytes(&Name::new(Path::new("_HID"), &EISAName::new(id.hid))),
        _ => bytes(&Name::new(Path::new("_HID"), &id.hid)),
    };
    let (hid, uid) = (Encoded(hid), Name::new(Path::new("_UID"), &uid));
    let crs = Name::new(Path::new("_CRS"), &resources);
    let path = Path::new(&format!("_SB_.{}", id.name));
    dsdt.append_slice(&bytes(&Device::new(path, vec![&hid, &uid, &crs])));
}

/// AML that is made already.
struct Encoded(Vec<u8>);

impl Aml for Encoded {
    fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
        sink.vec(&self.0);
    }
}

/// Where the VMGENID is ("Virtual Machine Generation ID", Microsoft, 2012), and the event device whose interrupt
/// says that it has changed (section 5.6.9). Who knows it draws new random numbers then.
fn add_vmgenid(dsdt: &mut Sdt) {
    /// What a notification says: the id is another one.
    const CHANGED: u8 = 0x80;
    let name = |path, value: &'static str| Name::new(Path::new(path), &value);
    let (low, high) = (VMGENID as u32, (VMGENID >> 32) as u32);
    let address = Name::new(Path::new("ADDR"), &Package::new(vec![&low, &high]));
    // Kernels whose identifiers are short know it by the first, others by the second.
    let (hid, cid) = (name("_HID", "VMGENCTR"), name("_CID", "VM_Gen_Counter"));
    let ddn = name("_DDN", "VM_Gen_Counter");
    let counter = Device::new(Path::new("_SB_.VGEN"), vec![&hid, &cid, &ddn, &address]);
    dsdt.append_slice(&bytes(&counter));
    let irq = Interrupt::new(true, true, false, false, ports::VMGENID_PIN.into());
    let crs = Name::new(Path::new("_CRS"), &ResourceTemplate::new(vec![&irq]));
    let (target, changed) = (Path::new("\\_SB_.VGEN"), CHANGED);
    let notify = Notify::new(&target, &changed);
    let event = Method::new(Path::new("_EVT"), 1, true, vec![&notify]);
    let hid = name("_HID", "ACPI0013");
    dsdt.append_slice(&bytes(&Device::new(Path::new("_SB_.GED_"), vec![&hid, &crs, &event])));
}

/// Section 5.2.9: the registers that reset and switch off.
fn fadt(dsdt: u64) -> impl Aml {
    /// `IAPC_BOOT_ARCH` (table 5.10): a VGA is not there. LEGACY_DEVICES stays clear: what there is, is in the
    /// DSDT. The 8042's bit does too, so that no kernel looks for a keyboard: ours has none, and its reset is
    /// the register named below.
    const IAPC_NO_VGA: u16 = 1 << 2;
    let port = |port| GAS::new(AddressSpace::SystemIo, 8, 0, AccessSize::ByteAccess, port);
    let mut fadt = FADTBuilder::new(OEM, OEM_TABLE, REVISION)
        .dsdt_64(dsdt)
        .flag(Flags::HwReducedAcpi)
        .flag(Flags::ResetRegSup)
        .flag(Flags::Wbinvd)
        .flag(Flags::Headless);
    fadt.iapc_boot_arch = IAPC_NO_VGA.into();
    fadt.reset_reg = port(ports::I8042_COMMAND.into());
    fadt.reset_value = ports::RESET_COMMAND;
    fadt.sleep_control_reg = port(ports::SLEEP_CONTROL.into());
    fadt.sleep_status_reg = port(u64::from(ports::SLEEP_CONTROL) + 1);
    fadt.finalize()
}

/// Section 5.2.12: the interrupt controllers.
fn madt(cpus: u32) -> MADT {
    let local = LocalInterruptController::Address(LOCAL_APIC as u32);
    let mut madt = MADT::new(OEM, OEM_TABLE, REVISION, local);
    for cpu in 0..u8::try_from(cpus).unwrap_or(u8::MAX) {
        madt.add_structure(ProcessorLocalApic::new(cpu, cpu, EnabledStatus::Enabled));
    }
    madt.add_structure(IoApic::new(0, IOAPIC as u32, 0));
    madt
}

#[cfg(test)]
mod tests {
    use super::super::build::Hardware;
    use super::super::devices::devices;
    use super::*;
    use crate::device::{Bus, Cable, DebugExit};

    fn own_devices(cpus: u32) -> Bus {
        let hardware = Hardware { memory: 2 << 20, cpus, acpi: true };
        devices(&hardware, None, &Cable::default()).unwrap()
    }

    /// The tables of a machine without devices of a caller's.
    fn tables(cpus: u32) -> Vec<u8> {
        super::tables(own_devices(cpus).slots(), cpus)
    }

    fn u64_at(bytes: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
    }

    /// The table at a guest-physical address, as long as its header says, its checksum checked.
    fn table(tables: &[u8], address: u64) -> &[u8] {
        let at = (address - ACPI_TABLES) as usize;
        let len = u32::from_le_bytes(tables[at + 4..at + 8].try_into().unwrap()) as usize;
        let table = &tables[at..at + len];
        assert_eq!(table.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)), 0, "the checksum");
        table
    }

    #[test]
    fn every_table_is_found_from_the_root_pointer() {
        let tables = tables(4);
        assert_eq!(tables[..8], *b"RSD PTR ");
        let xsdt = table(&tables, u64_at(&tables, 24));
        assert_eq!(xsdt[..4], *b"XSDT");
        let (fadt, madt) = (table(&tables, u64_at(xsdt, 36)), table(&tables, u64_at(xsdt, 44)));
        assert_eq!((&fadt[..4], &madt[..4]), (&b"FACP"[..], &b"APIC"[..]));
        let dsdt = table(&tables, u64_at(fadt, 140));
        assert_eq!(dsdt[..4], *b"DSDT");
        for name in [&b"_S5_"[..], b"COM1", b"_CRS"] {
            assert!(dsdt.windows(4).any(|word| word == name));
        }
    }

    #[test]
    fn the_vmgenid_is_where_the_dsdt_says_and_its_interrupt_notifies() {
        let tables = tables(1);
        let xsdt = table(&tables, u64_at(&tables, 24));
        let dsdt = table(&tables, u64_at(table(&tables, u64_at(xsdt, 36)), 140));
        let has = |bytes: &[u8]| dsdt.windows(bytes.len()).any(|window| window == bytes);
        // NameOp ADDR, PackageOp of two elements: a DWord and zero (section 20.2).
        let address = (VMGENID as u32).to_le_bytes();
        assert!(has(&[&b"\x08ADDR\x12\x08\x02\x0c"[..], &address, &[0]].concat()));
        assert!(has(b"\x08_CID\x0dVM_Gen_Counter\0"));
        // An extended interrupt, edge-triggered, of one pin; NotifyOp, the root, two names, a Byte.
        assert!(has(&[0x89, 6, 0, 0b11, 1, ports::VMGENID_PIN, 0, 0, 0]));
        assert!(has(b"\x86\\\x2e_SB_VGEN\x0a\x80"));
        assert!(VMGENID.is_multiple_of(8));
    }

    #[test]
    fn the_madt_lists_each_processor_by_its_apic_id_and_the_ioapic() {
        for cpus in [1, 2, 255] {
            let tables = tables(cpus);
            let xsdt = table(&tables, u64_at(&tables, 24));
            let madt = table(&tables, u64_at(xsdt, 44));
            let (local, ioapic) = madt[44..].split_at(8 * cpus as usize);
            for (id, entry) in local.chunks(8).enumerate() {
                assert_eq!(entry, [0, 8, id as u8, id as u8, 1, 0, 0, 0]);
            }
            assert_eq!(ioapic[..2], [1, 12]);
            assert_eq!(ioapic[4..8], (IOAPIC as u32).to_le_bytes());
        }
    }

    #[test]
    fn a_device_that_is_put_into_the_list_is_announced_with_its_place_and_its_pin() {
        let mut bus = own_devices(1);
        let [one, other] = [(0xd000_0000, "VIO0", 6), (0xd000_1000, "VIO1", 7)].map(|(base, name, pin)| {
            Slot::mmio(base, 0x1000, DebugExit).with_pin(pin).with_acpi(name, "LNRO0005")
        });
        bus.insert(one).unwrap();
        bus.insert(other).unwrap();
        bus.insert(Slot::ports(0x700, 0x100, DebugExit).with_acpi("LONG", "PNP0A06")).unwrap();
        let tables = super::tables(bus.slots(), 1);
        let has = |bytes: &[u8]| tables.windows(bytes.len()).any(|window| window == bytes);
        // NameOp, StringPrefix; NameOp, a byte or OneOp (section 20.2).
        assert!(has(b"_SB_VIO0\x08_HID\x0dLNRO0005\0\x08_UID\x01"));
        assert!(has(b"_SB_VIO1\x08_HID\x0dLNRO0005\0\x08_UID\x0a\x02"));
        // A QWord address space of memory (section 6.4.3.5.1): its first and its last address.
        let range = |first: u64, last: u64| [first.to_le_bytes(), last.to_le_bytes()].concat();
        assert!(has(&range(0xd000_1000, 0xd000_1fff)));
        for pin in [6, 7, ports::COM1_PIN] {
            assert!(has(&[0x89, 6, 0, 0b11, 1, pin, 0, 0, 0]), "pin {pin}");
        }
        // A Word address space of ports.
        assert!(has(&[0x00, 0x07, 0xff, 0x07]));
    }

    #[test]
    fn the_tables_of_the_largest_machine_fit_their_place() {
        assert!(ACPI_TABLES + tables(255).len() as u64 <= VMGENID);
    }
}
