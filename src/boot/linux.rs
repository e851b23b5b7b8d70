//! The Linux 64-bit boot protocol, as far as an uncompressed kernel needs it: ELF64, entered in long
//! mode with RSI at the zero page.
//!
//! Not bzImage, and no setup header to copy, as an ELF file has none: only the fields that a boot
//! loader fills are set, all others are zero. A kernel that is not Linux may ignore RSI altogether.
//! Source: Linux, Documentation/arch/x86/boot.rst, "64-bit Boot Protocol", and zero-page.rst.

use super::elf::{Class, Elf};
use super::placer::Placer;
use super::{Payload, cmdline, initrd, long_mode, stack};
use crate::error::ImageError;
use crate::x86::layout::{GDT, ZERO_PAGE, memory_map};
use crate::x86::{Entry, segment};
use linux_loader::loader::bootparam::{boot_e820_entry, boot_params};
use std::mem::{offset_of, size_of_val};
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
/// ACPI's address range types (ACPI 6.5, table 15.2).
const E820_RAM: u32 = 1;
const E820_RESERVED: u32 = 2;

/// Places an ELF64 kernel, its page tables, GDT, stack and zero page.
pub(super) fn load(payload: &Payload, placer: &mut Placer) -> Result<Entry, ImageError> {
    let elf = Elf::parse(payload.image)?;
    if elf.class != Class::Elf64 {
        let why = "it is ELF32, and long mode is entered in 64-bit code";
        return Err(ImageError::Not { protocol: "elf", why });
    }
    let mode = long_mode(placer)?;
    let rsp = stack(placer)?;
    // Taken before the kernel is placed, so that a kernel that collides is the one to blame.
    let cmd_line_ptr = cmdline(payload, placer)?;
    elf.load(elf.e_entry, placer)?;
    let ramdisk = initrd(payload, placer)?;

    let mut zero_page = boot_params::default();
    zero_page.hdr.type_of_loader = LOADER_UNDEFINED;
    zero_page.hdr.boot_flag = BOOT_FLAG;
    zero_page.hdr.header = HEADER;
    // Everything is placed below 4 GiB: the casts lose nothing.
    zero_page.hdr.cmd_line_ptr = cmd_line_ptr as u32;
    zero_page.hdr.cmdline_size = payload.cmdline.len() as u32;
    zero_page.hdr.ramdisk_image = ramdisk.start as u32;
    zero_page.hdr.ramdisk_size = (ramdisk.end - ramdisk.start) as u32;

    let map = memory_map(placer.memory_size());
    zero_page.e820_entries = map.len() as u8;
    for (slot, range) in zero_page.e820_table.iter_mut().zip(&map) {
        let r#type = if range.usable { E820_RAM } else { E820_RESERVED };
        *slot = boot_e820_entry { addr: range.start, size: range.len, r#type };
    }
    let bytes = zero_page.as_slice();
    placer.write("the zero page", ZERO_PAGE, bytes.get(..ZERO_PAGE_SIZE).unwrap_or(bytes))?;

    Ok(Entry { rsp, rsi: ZERO_PAGE, ..Entry::at(mode, elf.e_entry) })
}
