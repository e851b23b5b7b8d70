//! The guest-physical memory map, drawn, then named.
//!
//! ```text
//!   0x0000_0000  interrupt vectors and BIOS data of real mode: left to the guest
//!   0x0000_1000  boot information           (pvh, multiboot: 16 KiB)
//!   0x0000_6000  setup_data: a random seed  (linux, elf)
//!   0x0000_7000  zero page                  (elf: one page)
//!   0x0000_7f00  GDT                        (flat64, elf: in the padding that ends the zero page)
//!   0x0000_7c00  boot sector                (flat16, up to LOW_MEMORY_END)
//!   0x0000_9000  page tables: PML4, PDPT, one PD per mapped GiB (flat64, elf: 6 pages)
//!   0x0001_0000  initial stack, growing down to the tables
//!   0x0002_0000  command line               (64 KiB)
//!   0x0009_fc00  extended BIOS data: reserved in every memory map
//!   0x000a_0000  video memory and ROMs: nothing
//!   0x000e_0000  ACPI tables                (machines that have them)
//!   0x000f_ffe0  VMGENID                    (the same machines)
//!   0x0010_0000  kernel, then modules or the initrd as high as they fit
//!   ............ end of memory, at most MMIO_START
//!   0xc000_0000  a hole for devices: no memory
//!   0xd000_0000  virtio devices, a page each
//!   0xfec0_0000  IOAPIC
//!   0xfee0_0000  local APICs
//!   0x1_0000_0000  the memory that did not fit below the hole
//! ```
//!
//! Each protocol takes only the parts named beside it, so a flat16 guest has low memory to itself.

/// Start of what PVH and Multiboot tell the guest: [`BOOT_INFO_SIZE`] bytes.
pub const BOOT_INFO: u64 = 0x1000;
/// Bytes kept for the boot information.
pub const BOOT_INFO_SIZE: u64 = 0x4000;
/// The list of `struct setup_data` of the Linux boot protocol, for what the zero page has no field for.
pub const SETUP_DATA: u64 = 0x6000;
/// `struct boot_params` of the Linux boot protocol, one page.
pub const ZERO_PAGE: u64 = 0x7000;
/// The GDT that a guest entered in long mode finds in place. It lies in the 276 bytes of padding at
/// the end of the zero page, so that a start touches one page of memory for both.
pub const GDT: u64 = ZERO_PAGE + 0xf00;
/// Where a BIOS puts a boot sector, and where a flat16 image begins.
pub const BOOT_SECTOR: u64 = 0x7c00;
/// First page table; the tables fill [`PAGE_TABLES_SIZE`] bytes.
pub const PAGE_TABLES: u64 = 0x9000;
/// PML4, PDPT and four page directories.
pub const PAGE_TABLES_SIZE: u64 = 6 * 0x1000;
/// The first stack pointer of a guest entered in protected or long mode.
pub const STACK_TOP: u64 = 0x1_0000;
/// Bytes of stack between [`STACK_TOP`] and the page tables.
pub const STACK_SIZE: u64 = 0x1000;
/// The command line, terminated by a zero byte.
pub const CMDLINE: u64 = 0x2_0000;
/// Bytes kept for the command line, its terminating zero included.
pub const CMDLINE_SIZE: u64 = 0x1_0000;
/// Where conventional memory ends: above lies the extended BIOS data area.
pub const LOW_MEMORY_END: u64 = 0x9_fc00;
/// Where a guest says, in two bytes, what kind of reset it wants: the PC's reset flag (IBM PC AT technical
/// reference, BIOS listing).
pub const RESET_FLAG: u64 = 0x472;
/// Its value for a warm boot, after which a BIOS is not to test the memory.
pub const WARM_BOOT: u16 = 0x1234;
/// The ACPI tables, in what was the BIOS: reserved in every memory map, and backed by memory.
pub const ACPI_TABLES: u64 = 0xe_0000;
/// Where real-mode code jumps to reset the machine, F000:FFF0 (SDM volume 3A, section 9.1.4).
pub const RESET_VECTOR: u64 = 0xf_fff0;
/// The VM generation ID of a machine with ACPI tables: [`VMGENID_SIZE`] random bytes, others for each machine that
/// goes on from a golden image. In the page of the reset vector, so that both touch one page; no kernel uses it.
pub const VMGENID: u64 = 0xf_ffe0;
/// Bytes of the VMGENID.
pub const VMGENID_SIZE: usize = 16;
/// First byte above the video memory and ROMs, where kernels are linked.
pub const HIGH_MEMORY: u64 = 0x10_0000;
/// Memory stops here and goes on at [`ABOVE_HOLE`].
pub const MMIO_START: u64 = 0xc000_0000;
/// The registers of the first virtio device; those of each other one are [`VIRTIO_SIZE`] bytes on.
pub const VIRTIO: u64 = 0xd000_0000;
/// Bytes kept for a virtio device.
pub const VIRTIO_SIZE: u64 = 0x1000;
/// The IOAPIC's registers.
pub const IOAPIC: u64 = 0xfec0_0000;
/// Each processor's own local APIC.
pub const LOCAL_APIC: u64 = 0xfee0_0000;
/// Where the memory beyond [`MMIO_START`] continues.
pub const ABOVE_HOLE: u64 = 0x1_0000_0000;

const _: () = assert!(PAGE_TABLES + PAGE_TABLES_SIZE + STACK_SIZE == STACK_TOP);
const _: () = assert!(ZERO_PAGE + 0x1000 <= PAGE_TABLES && STACK_TOP <= CMDLINE);
const _: () = assert!(BOOT_INFO + BOOT_INFO_SIZE <= SETUP_DATA && SETUP_DATA < ZERO_PAGE);
const _: () = assert!(VMGENID + VMGENID_SIZE as u64 <= RESET_VECTOR);

/// One entry of the memory map that boot protocols hand to the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MapEntry {
    /// First byte.
    pub start: u64,
    /// Length in bytes.
    pub len: u64,
    /// True for usable memory, false for a range the guest must leave alone.
    pub usable: bool,
}

/// The memory map of a guest with `memory` bytes, in ascending order (ACPI 6.5, section 15, E820).
pub fn memory_map(memory: u64) -> Vec<MapEntry> {
    let usable = |start, end: u64| MapEntry { start, len: end - start, usable: true };
    let mut map = vec![
        usable(0, LOW_MEMORY_END.min(memory)),
        MapEntry { start: LOW_MEMORY_END, len: HIGH_MEMORY - LOW_MEMORY_END, usable: false },
    ];
    if memory > HIGH_MEMORY {
        map.push(usable(HIGH_MEMORY, memory.min(MMIO_START)));
    }
    if memory > MMIO_START {
        map.push(usable(ABOVE_HOLE, ABOVE_HOLE + (memory - MMIO_START)));
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn memory_beyond_the_hole_goes_on_at_4_gib() {
        let usable = |start, len| MapEntry { start, len, usable: true };
        let map = memory_map(4 * GIB);
        assert_eq!(map[2..], [usable(HIGH_MEMORY, MMIO_START - HIGH_MEMORY), usable(ABOVE_HOLE, GIB)]);
        assert_eq!(memory_map(3 * GIB).len(), 3);
    }

    #[test]
    fn a_guest_below_1_mib_has_low_memory_only() {
        assert_eq!(memory_map(0x1_0000)[0], MapEntry { start: 0, len: 0x1_0000, usable: true });
        for memory in [0x1_0000, LOW_MEMORY_END, HIGH_MEMORY] {
            assert_eq!(memory_map(memory).iter().filter(|entry| entry.usable).count(), 1);
        }
    }

    /// Exhaustive: machines of every number of pages there is, up to 8 GiB.
    #[test]
    fn every_page_of_memory_is_in_the_map_once_and_none_besides() {
        let mut end = 0;
        for memory in (LOW_MEMORY_END..=8 * GIB).step_by(0x1000).map(|memory| memory & !0xfff) {
            let map = memory_map(memory);
            let Some(last) = map.iter().rfind(|entry| entry.usable) else { panic!("{memory:#x}") };
            let last = last.start + last.len;
            // A page more of memory is a page more at the end, unless what is reserved or the hole is there.
            let expected = if memory <= HIGH_MEMORY {
                LOW_MEMORY_END.min(memory)
            } else if memory <= MMIO_START {
                memory
            } else {
                memory - MMIO_START + ABOVE_HOLE
            };
            assert!(last == expected && last >= end, "{memory:#x}: {map:x?}");
            end = last;
        }
    }

    proptest! {
        #[test]
        fn the_map_ascends_without_overlap_and_offers_all_the_memory_there_is(memory in 1_u64..1 << 40) {
            let map = memory_map(memory);
            for pair in map.windows(2) {
                prop_assert!(pair[0].start + pair[0].len <= pair[1].start);
            }
            let usable: u64 = map.iter().filter(|entry| entry.usable).map(|entry| entry.len).sum();
            let reserved = memory.min(HIGH_MEMORY).saturating_sub(LOW_MEMORY_END);
            prop_assert_eq!(usable, memory - reserved);
            let device = |entry: &MapEntry| entry.start < ABOVE_HOLE && entry.start + entry.len > MMIO_START;
            prop_assert!(!map.iter().any(device));
        }
    }
}
