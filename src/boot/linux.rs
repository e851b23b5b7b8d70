//! The Linux 64-bit boot protocol: a kernel entered in long mode with RSI at the zero page.
//!
//! An uncompressed kernel is an ELF64 file, and so is many another: one that is not Linux may ignore RSI
//! altogether. A bzImage brings a setup header along, which goes into the zero page.
//! Source: Linux, Documentation/arch/x86/boot.rst, "64-bit Boot Protocol", and zero-page.rst.

use super::bzimage::{BzImage, ENTRY_64, SETUP_HEADER};
use super::placer::Placer;
use super::{Payload, cmdline, initrd, long_mode, segments, stack};
use crate::elf::notes::{self, Note};
use crate::elf::{Class, Elf};
use crate::error::ImageError;
use crate::x86::layout::{GDT, SETUP_DATA, ZERO_PAGE, memory_map};
use crate::x86::{Entry, segment};
use linux_loader::loader::bootparam::{boot_e820_entry, boot_params};
use std::mem::{offset_of, size_of_val};
use std::ops::Range;
use vm_memory::ByteValued;

/// The padding that ends the zero page is not written: the GDT has a place there.
const ZERO_PAGE_SIZE: usize = offset_of!(boot_params, _pad9);
const _: () = assert!(ZERO_PAGE + ZERO_PAGE_SIZE as u64 <= GDT);
const _: () = assert!(GDT + size_of_val(&segment::GDT) as u64 <= ZERO_PAGE + 0x1000);

/// `type_of_loader` of a boot loader without a number of its own.
const LOADER_UNDEFINED: u8 = 0xff;
/// `boot_flag`, the signature of a boot sector.
const BOOT_FLAG: u16 = 0xaa55;
/// `header`, the letters `HdrS`.
const HEADER: u32 = u32::from_le_bytes(*b"HdrS");
/// The type of a `struct setup_data` that holds a seed for the kernel's random number generator.
const SETUP_RNG_SEED: u32 = 9;
/// The owner of Xen's notes, among them the one with PVH's entry point. Names end with a zero.
pub(super) const XEN_NAME: &[u8] = b"Xen\0";
/// ACPI's address range types (ACPI 6.5, table 15.2).
const E820_RAM: u32 = 1;
const E820_RESERVED: u32 = 2;

/// Places an ELF64 kernel, its page tables, GDT, stack and zero page.
pub(super) fn load_elf(payload: &Payload, placer: &mut Placer) -> Result<Entry, ImageError> {
    let elf = segments::executable(payload.image)?;
    if elf.header.class != Class::Elf64 {
        let why = "it is ELF32, and long mode is entered in 64-bit code";
        return Err(ImageError::Not { protocol: "elf", why });
    }
    check_cmdline(&elf, payload)?;
    let mode = long_mode(payload, placer)?;
    let rsp = stack(placer)?;
    // Placed before the kernel, so that a kernel that collides with it is the one to blame.
    let cmd_line_ptr = cmdline(payload, placer)?;
    let e_entry = elf.header.e_entry;
    segments::load(&elf, e_entry, placer)?;
    let ramdisk = initrd(payload, u64::MAX, placer)?;
    // An ELF file has no setup header: only the fields that a boot loader fills are set.
    let mut zero_page = boot_params::default();
    zero_page.hdr.boot_flag = BOOT_FLAG;
    zero_page.hdr.header = HEADER;
    fill(&mut zero_page, payload, cmd_line_ptr, ramdisk, placer)?;
    Ok(Entry { rsp, rsi: ZERO_PAGE, ..Entry::at(mode, e_entry) })
}

/// Whether `elf` says in a note that it is a Linux kernel. Source of owners and types: Linux, include/linux/elfnote.h
/// (its own, which every kernel since 4.19 has), and Xen, public/elfnote.h.
pub fn is_kernel(elf: &Elf) -> bool {
    const XEN_ELFNOTE_GUEST_OS: u32 = 6;
    let says_so = |note: &Note| {
        note.name == b"Linux\0"
            || (note.name, note.kind) == (XEN_NAME, XEN_ELFNOTE_GUEST_OS) && note.desc.starts_with(b"linux")
    };
    notes::find(elf, says_so).is_ok_and(|note| note.is_some())
}

/// Refuses a command line that an uncompressed Linux would cut without a word: unlike a bzImage it does not say
/// how much it takes, but for x86 that has always been the same (COMMAND_LINE_SIZE). Others take what there is.
pub(super) fn check_cmdline(elf: &Elf, payload: &Payload) -> Result<(), ImageError> {
    const COMMAND_LINE_SIZE: u64 = 2048;
    let (size, limit) = (payload.cmdline.len() as u64, COMMAND_LINE_SIZE - 1);
    if size > limit && is_kernel(elf) {
        return Err(ImageError::TooLarge { what: "the command line", size, limit });
    }
    Ok(())
}

/// Places a bzImage's protected-mode kernel and the rest, as [`load_elf`] does.
pub(super) fn load_bzimage(payload: &Payload, placer: &mut Placer) -> Result<Entry, ImageError> {
    let kernel = BzImage::parse(payload.image)?;
    let (size, limit) = (payload.cmdline.len() as u64, kernel.cmdline_size.into());
    if size > limit {
        return Err(ImageError::TooLarge { what: "the command line", size, limit });
    }
    let mode = long_mode(payload, placer)?;
    let rsp = stack(placer)?;
    let cmd_line_ptr = cmdline(payload, placer)?;
    let load_address = kernel.load(placer)?;
    let ramdisk = initrd(payload, u64::from(kernel.initrd_addr_max) + 1, placer)?;
    let mut zero_page = boot_params::default();
    let to = zero_page.as_mut_slice().get_mut(SETUP_HEADER..).unwrap_or_default();
    for (to, from) in to.iter_mut().zip(kernel.setup_header) {
        *to = *from;
    }
    fill(&mut zero_page, payload, cmd_line_ptr, ramdisk, placer)?;
    Ok(Entry { rsp, rsi: ZERO_PAGE, ..Entry::at(mode, load_address.saturating_add(ENTRY_64)) })
}

/// Fills in what a boot loader tells the kernel, and places the zero page.
fn fill(
    zero_page: &mut boot_params,
    payload: &Payload,
    cmd_line_ptr: u64,
    ramdisk: Range<u64>,
    placer: &mut Placer,
) -> Result<(), ImageError> {
    zero_page.hdr.type_of_loader = LOADER_UNDEFINED;
    // Everything is placed below 4 GiB: the casts lose nothing.
    zero_page.hdr.cmd_line_ptr = cmd_line_ptr as u32;
    zero_page.hdr.cmdline_size = payload.cmdline.len() as u32;
    zero_page.hdr.ramdisk_image = ramdisk.start as u32;
    zero_page.hdr.ramdisk_size = ramdisk.end.saturating_sub(ramdisk.start) as u32;
    zero_page.hdr.setup_data = setup_data(payload, placer)?;
    zero_page.acpi_rsdp_addr = payload.rsdp;

    let map = memory_map(placer.memory_size());
    zero_page.e820_entries = map.len() as u8;
    for (slot, range) in zero_page.e820_table.iter_mut().zip(&map) {
        let r#type = if range.usable { E820_RAM } else { E820_RESERVED };
        *slot = boot_e820_entry { addr: range.start, size: range.len, r#type };
    }
    let bytes = zero_page.as_slice();
    placer.write("the zero page", ZERO_PAGE, bytes.get(..ZERO_PAGE_SIZE).unwrap_or(bytes))
}

/// Places the list of `struct setup_data` (next, type, length, data) and returns its address; 0 if it is
/// empty. The only element is the random seed.
fn setup_data(payload: &Payload, placer: &mut Placer) -> Result<u64, ImageError> {
    let Some(seed) = payload.seed else { return Ok(0) };
    let (next, len) = (0_u64.to_le_bytes(), (seed.len() as u32).to_le_bytes());
    let element = [&next[..], &SETUP_RNG_SEED.to_le_bytes(), &len, &seed].concat();
    placer.write("the random seed", SETUP_DATA, &element)?;
    Ok(SETUP_DATA)
}

#[cfg(test)]
mod tests {
    use super::super::images::{guest, pvh_note, read, u32_at, u64_at};
    use super::super::{Memory, Protocol, load as boot};
    use super::*;
    use crate::elf::images::{AT, CODE, Image, note};
    use crate::x86::Mode;
    use std::collections::BTreeSet;

    fn zero_page(cmdline: &[u8], initrd: Option<&[u8]>, size: usize) -> (Memory, Vec<u8>) {
        let memory = guest(size);
        boot(
            None,
            &Payload { image: &Image::elf64().bytes(), cmdline, initrd, ..Payload::default() },
            &memory,
        )
        .unwrap();
        let page = read(&memory, ZERO_PAGE, 0x1000);
        (memory, page)
    }

    #[test]
    fn rsi_holds_the_zero_page_and_rip_the_entry_point() {
        let entry =
            boot(None, &Payload { image: &Image::elf64().bytes(), ..Payload::default() }, &guest(2 << 20));
        let mode = Mode::Long { cr3: 0x9000, gdt: (GDT, 47) };
        assert_eq!(entry, Ok(Entry { rsp: 0x1_0000, rsi: ZERO_PAGE, ..Entry::at(mode, AT) }));
    }

    #[test]
    fn the_zero_page_has_its_fields_where_boot_rst_has_them() {
        let (memory, page) = zero_page(b"console=ttyS0", Some(&[7; 0x1800]), 4 << 20);
        assert_eq!(page[0x210], 0xff, "type_of_loader");
        assert_eq!(page[0x1fe..0x200], [0x55, 0xaa], "boot_flag");
        assert_eq!(page[0x202..0x206], *b"HdrS", "header");
        assert_eq!(page[0x1ef], 0, "sentinel");
        let ramdisk = u32_at(&page, 0x218);
        assert_eq!((ramdisk, u32_at(&page, 0x21c)), (0x3f_e000, 0x1800), "ramdisk_image, ramdisk_size");
        assert_eq!(read(&memory, ramdisk.into(), 0x1801), [vec![7; 0x1800], vec![0]].concat());
        assert_eq!(read(&memory, u32_at(&page, 0x228).into(), 14), b"console=ttyS0\0", "cmd_line_ptr");
        assert_eq!(u32_at(&page, 0x238), 13, "cmdline_size");
    }

    #[test]
    fn the_e820_map_is_the_machine_s() {
        let (_, page) = zero_page(b"", None, 4 << 20);
        let entry = |index: usize| {
            let at = 0x2d0 + index * 20;
            (u64_at(&page, at), u64_at(&page, at + 8), u32_at(&page, at + 16))
        };
        assert_eq!(page[0x1e8], 3, "e820_entries");
        assert_eq!(entry(0), (0, 0x9_fc00, 1));
        assert_eq!(entry(1), (0x9_fc00, 0x6_0400, 2));
        assert_eq!(entry(2), (0x10_0000, 3 << 20, 1));
        assert_eq!(entry(3), (0, 0, 0));
    }

    #[test]
    fn the_random_seed_is_an_element_of_setup_data() {
        let (memory, image) = (guest(2 << 20), Image::elf64().bytes());
        boot(None, &Payload { image: &image, seed: Some([0xa5; 32]), ..Payload::default() }, &memory)
            .unwrap();
        let page = read(&memory, ZERO_PAGE, 0x1000);
        let element = read(&memory, u64_at(&page, 0x250), 49);
        assert_eq!((u64_at(&element, 0), u32_at(&element, 8), u32_at(&element, 12)), (0, 9, 32));
        assert_eq!(element[16..], [[0xa5; 32].as_slice(), &[0]].concat());
        let (_, page) = zero_page(b"", None, 2 << 20);
        assert_eq!(u64_at(&page, 0x250), 0);
    }

    #[test]
    fn an_empty_command_line_is_not_there() {
        let (memory, page) = zero_page(b"", None, 2 << 20);
        assert_eq!((u32_at(&page, 0x228), u32_at(&page, 0x238)), (0, 0));
        assert_eq!(read(&memory, 0x2_0000, 1), [0]);
    }

    #[test]
    fn an_uncompressed_linux_gets_no_more_than_its_2047_bytes_of_command_line() {
        let linux =
            Image::elf64().notes(&[note(b"Linux\0", 0x100, b"6.1\0", 4), pvh_note()].concat(), 4).bytes();
        let with = |protocol, len| {
            let cmdline = vec![b'x'; len];
            let payload = Payload { image: &linux, cmdline: &cmdline, ..Payload::default() };
            boot(protocol, &payload, &guest(2 << 20)).map(drop)
        };
        for protocol in [None, Some(Protocol::Pvh)] {
            assert_eq!(with(protocol, 2047), Ok(()));
            let too_large = ImageError::TooLarge { what: "the command line", size: 5000, limit: 2047 };
            assert_eq!(with(protocol, 5000), Err(too_large));
        }
    }

    #[test]
    fn the_gdt_in_the_zero_page_s_padding_has_code_at_10_and_data_at_18() {
        let (_, page) = zero_page(b"", None, 2 << 20);
        assert_eq!(u64_at(&page, 0xf10), 0x00af_9b00_0000_ffff);
        assert_eq!(u64_at(&page, 0xf18), 0x00cf_9300_0000_ffff);
    }

    #[test]
    fn a_tiny_guest_costs_five_pages() {
        let (memory, _) = zero_page(b"", None, 2 << 20);
        let bytes = read(&memory, 0, 2 << 20);
        let touched: BTreeSet<usize> =
            (0..bytes.len()).filter(|&at| bytes[at] != 0).map(|at| at >> 12).collect();
        // Zero page with GDT; PML4, PDPT, page directory; the kernel.
        assert_eq!(Vec::from_iter(touched), [0x7, 0x9, 0xa, 0xb, 0x100]);
        assert_eq!(read(&memory, AT, CODE.len()), CODE);
    }

    #[test]
    fn a_32_bit_kernel_is_not_entered_in_long_mode() {
        let image = Image::elf32().bytes();
        let result =
            boot(Some(Protocol::Elf), &Payload { image: &image, ..Payload::default() }, &guest(2 << 20));
        assert!(matches!(result, Err(ImageError::Not { protocol: "elf", .. })), "{result:?}");
    }
}
