//! Multiboot 1: a 32-bit kernel with a header of its own, entered in protected mode.
//!
//! Kernels are ELF32, ELF64 (32-bit code in a 64-bit file, as kernels that switch to long mode
//! themselves are built) or of any format whose header says what to load (flag 16). Not Multiboot 2,
//! and no video: a kernel that insists on it is refused. Source: Multiboot Specification 0.6.96,
//! sections 3.1 "OS image format" and 3.2 "Machine state", whose field names are kept; what the kernel
//! is told is in [`info`].

pub mod info;

use super::placer::Placer;
use super::{Payload, cmdline, initrd, segments, stack};
use crate::error::ImageError;
use crate::fields::Fields;
use crate::x86::layout::BOOT_INFO;
use crate::x86::{Entry, Mode};

/// The magic number of the header.
const HEADER_MAGIC: u32 = 0x1bad_b002;
/// The magic number in EAX, which tells the kernel that this is a Multiboot loader.
const BOOTLOADER_MAGIC: u32 = 0x2bad_b002;
/// The header lies within the first bytes of the image, and on a 4-byte boundary.
const SEARCH: usize = 8192;
const ALIGN: usize = 4;

/// Header flags 0 and 1: align modules, pass the memory map. Both are always done.
const ALIGN_MODULES: u32 = 1 << 0;
const MEMORY_INFO: u32 = 1 << 1;
/// Header flag 2: the kernel wants to know about the video mode.
const VIDEO_MODE: u32 = 1 << 2;
/// Header flags 0 to 15 are requirements; the others are options.
const REQUIRED: u32 = 0xffff;
/// Header flag 16: the address fields are valid and say what to load, whatever the format.
const ADDRESS_FIELDS: u32 = 1 << 16;
/// Where in a header these fields begin and end, in bytes.
const ADDRESSES: usize = 12;
const ADDRESSES_END: usize = 32;

/// A header whose magic number and checksum are right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// Where in the image it begins.
    offset: usize,
    flags: u32,
}

impl Header {
    /// Finds the header of `image`.
    pub(super) fn find(image: &[u8]) -> Option<Header> {
        let searched = image.get(..SEARCH).unwrap_or(image);
        (0..searched.len()).step_by(ALIGN).find_map(|offset| {
            let [magic, flags, checksum] = Fields::at(searched, offset)?.u32s()?;
            let valid = magic == HEADER_MAGIC && magic.wrapping_add(flags).wrapping_add(checksum) == 0;
            valid.then_some(Header { offset, flags })
        })
    }

    /// Refuses a header that requires what is not there.
    fn check(self) -> Result<(), ImageError> {
        let kind = "a Multiboot kernel that requires more than there is";
        if self.flags & VIDEO_MODE != 0 {
            return Err(ImageError::Unsupported { kind, advice: "clear flag 2: there is no video here" });
        }
        if self.flags & REQUIRED & !(ALIGN_MODULES | MEMORY_INFO) != 0 {
            return Err(ImageError::Unsupported { kind, advice: "clear flags 3 to 15: they are undefined" });
        }
        Ok(())
    }

    /// Loads what the address fields say and returns the entry point (section 3.1.3).
    fn load_addresses(self, image: &[u8], placer: &mut Placer) -> Result<u32, ImageError> {
        let damaged = |why| ImageError::Damaged { what: "the Multiboot header", why };
        let len = image.len() as u64;
        let fields =
            Fields::at(image, self.offset.saturating_add(ADDRESSES)).and_then(|mut fields| fields.u32s());
        let end = self.offset.saturating_add(ADDRESSES_END) as u64;
        let cut = ImageError::Truncated { what: "the Multiboot header", end, len };
        let [header_addr, load_addr, load_end_addr, bss_end_addr, entry_addr] = fields.ok_or(cut)?;

        let before = header_addr.checked_sub(load_addr).ok_or(damaged("load_addr is above header_addr"))?;
        let start = self.offset.checked_sub(before as usize);
        let start = start.ok_or(damaged("load_addr is before the start of the file"))?;
        let rest = image.get(start..).unwrap_or_default();
        let bytes = match load_end_addr {
            0 => rest,
            end => {
                let size = end.checked_sub(load_addr).ok_or(damaged("load_end_addr is below load_addr"))?;
                let end = u64::from(size).saturating_add(start as u64);
                rest.get(..size as usize).ok_or(ImageError::Truncated { what: "the kernel", end, len })?
            }
        };
        let (load_addr, entry) = (u64::from(load_addr), u64::from(entry_addr));
        let load_end = load_addr.saturating_add(bytes.len() as u64);
        let bss_end = if bss_end_addr == 0 { load_end } else { u64::from(bss_end_addr) };
        let Some(size) = bss_end.checked_sub(load_addr).filter(|_| bss_end >= load_end) else {
            return Err(damaged("bss_end_addr is below load_end_addr"));
        };
        placer.write_padded("the kernel", load_addr, bytes, size)?;
        if !(load_addr..load_end).contains(&entry) {
            return Err(ImageError::Entry { entry });
        }
        Ok(entry_addr)
    }
}

/// Places a Multiboot kernel and its boot information: EAX tells the magic number, EBX the address.
pub(super) fn load(payload: &Payload, placer: &mut Placer) -> Result<Entry, ImageError> {
    let why = "no header in its first 8192 bytes";
    let header = Header::find(payload.image).ok_or(ImageError::Not { protocol: "Multiboot", why })?;
    header.check()?;
    let rsp = stack(placer)?;
    let cmdline = cmdline(payload, placer)?;
    let rip = if header.flags & ADDRESS_FIELDS != 0 {
        u64::from(header.load_addresses(payload.image, placer)?)
    } else {
        let elf = segments::executable(payload.image)?;
        segments::load(&elf, elf.header.e_entry, placer)?;
        elf.header.e_entry
    };
    let module = initrd(payload, u64::MAX, placer)?;

    // Everything is placed below 4 GiB: the casts lose nothing.
    let modules = payload.initrd.map(|_| [module.start as u32, module.end as u32]);
    let info = info::boot_information(placer.memory_size(), cmdline as u32, modules);
    placer.write("the boot information", BOOT_INFO, &info)?;
    let (rax, rbx) = (BOOTLOADER_MAGIC.into(), BOOT_INFO);
    Ok(Entry { rsp, rax, rbx, ..Entry::at(Mode::Protected, rip) })
}

#[cfg(test)]
mod tests {
    use super::super::images::{boot, guest, multiboot, read, u32_at, u64_at};
    use super::super::{Protocol, detect, load as load_any};
    use super::*;
    use crate::elf::images::{AT, CODE, Image};

    const SIZE: usize = 4 << 20;
    const BASE: u32 = AT as u32;

    fn elf(image: Image, flags: u32) -> Vec<u8> {
        Image { entry: AT + 12, ..image.with_header(&multiboot(flags, &[])) }.bytes()
    }

    /// An image that is no ELF: 8 bytes, the header, the code. `fields` are the address fields.
    fn raw(fields: [u32; 5]) -> Vec<u8> {
        [&[0x90; 8][..], &multiboot(ADDRESS_FIELDS, &fields), CODE].concat()
    }
    /// Header, load, load end, bss end and entry addresses that fit `raw`.
    const FIELDS: [u32; 5] = [BASE + 8, BASE, 0, 0, BASE + 40];

    #[test]
    fn elf_kernels_of_both_classes_are_entered_in_protected_mode() {
        let expected =
            Entry { rsp: 0x1_0000, rax: 0x2bad_b002, rbx: BOOT_INFO, ..Entry::at(Mode::Protected, AT + 12) };
        for image in [Image::elf32(), Image::elf64()] {
            let image = elf(image, ALIGN_MODULES | MEMORY_INFO);
            assert_eq!(detect(&image), Ok(Protocol::Multiboot));
            assert_eq!(boot(None, &image, SIZE), Ok(expected));
        }
    }

    #[test]
    fn a_header_must_be_whole_aligned_early_and_add_up_to_zero() {
        let header = multiboot(0, &[]);
        let at =
            |offset: usize| Header::find(&[&vec![0; offset][..], &header].concat()).map(|found| found.offset);
        assert_eq!(at(0), Some(0));
        assert_eq!(at(SEARCH - 12), Some(SEARCH - 12));
        assert_eq!(at(SEARCH - 8), None);
        assert_eq!(at(SEARCH), None);
        assert_eq!(at(2), None);
        assert_eq!(Header::find(&header[..11]), None);
        for byte in 0..12 {
            let mut wrong = header.clone();
            wrong[byte] ^= 1;
            assert_eq!(Header::find(&wrong), None);
        }
    }

    #[test]
    fn requirements_that_are_not_met_are_refused_and_options_are_ignored() {
        for bit in 0..32 {
            let result = boot(None, &elf(Image::elf32(), 1 << bit), SIZE);
            match bit {
                2..16 => {
                    assert!(matches!(result, Err(ImageError::Unsupported { .. })), "bit {bit}: {result:?}")
                }
                // The address fields are those of another test.
                16 => {}
                _ => assert!(result.is_ok(), "bit {bit}: {result:?}"),
            }
        }
    }

    #[test]
    fn the_address_fields_say_what_goes_where() {
        let memory = guest(SIZE);
        let image = raw(FIELDS);
        let entry = load_any(None, &Payload { image: &image, ..Payload::default() }, &memory).unwrap();
        assert_eq!((entry.rip, entry.rax), (AT + 40, 0x2bad_b002));
        assert_eq!(read(&memory, AT, image.len()), image);
    }

    #[test]
    fn the_address_fields_can_leave_out_both_ends_of_the_file() {
        let memory = guest(SIZE);
        let image = raw([BASE, BASE, BASE + 34, BASE + 0x1000, BASE + 32]);
        let mut placer = Placer::new(&memory);
        load(&Payload { image: &image, ..Payload::default() }, &mut placer).unwrap();
        assert_eq!(read(&memory, AT, 36), [&image[8..42], &[0, 0]].concat());
        let kernel = placer.placed().iter().find(|placed| placed.what == "the kernel").unwrap();
        assert_eq!((kernel.start, kernel.end), (AT, AT + 0x1000));
    }

    #[test]
    fn address_fields_that_contradict_each_other_are_refused() {
        let refusal = |fields| boot(None, &raw(fields), SIZE).unwrap_err().to_string();
        let [header, load, _, _, entry] = FIELDS;
        assert!(refusal([load - 1, load, 0, 0, entry]).contains("load_addr is above header_addr"));
        assert!(refusal([load + 9, load, 0, 0, entry]).contains("before the start of the file"));
        assert!(refusal([header, load, load - 1, 0, entry]).contains("load_end_addr is below load_addr"));
        assert!(refusal([header, load, 0, load + 1, entry]).contains("bss_end_addr is below load_end_addr"));
        assert!(refusal([header, load, load + 48, 0, entry]).contains("cut short: the kernel"));
        assert!(refusal([header, load, u32::MAX, 0, entry]).contains("cut short: the kernel"));
        assert!(refusal([header, load, 0, u32::MAX, entry]).contains("outside the guest's memory"));
        assert!(refusal([header, load, 0, 0, load - 1]).contains("the entry point"));
        assert!(refusal([header, load, 0, 0, load + 47]).contains("the entry point"));
        assert!(refusal([header, load, 0, load + 0x100, load + 47]).contains("the entry point"));
        assert!(refusal([0x9008, 0x9000, 0, 0xb_0000, 0x9028]).contains("would overwrite"));
        let cut = boot(None, &multiboot(ADDRESS_FIELDS, &FIELDS[..4]), SIZE).unwrap_err();
        assert_eq!(cut, ImageError::Truncated { what: "the Multiboot header", end: 32, len: 28 });
    }

    #[test]
    fn an_image_without_a_header_is_not_multiboot() {
        let result = boot(Some(Protocol::Multiboot), &Image::elf32().bytes(), SIZE);
        assert!(matches!(result, Err(ImageError::Not { protocol: "Multiboot", .. })));
    }

    #[test]
    fn the_boot_information_tells_of_everything_there_is() {
        let (memory, image) = (guest(SIZE), elf(Image::elf32(), ALIGN_MODULES));
        let payload =
            Payload { image: &image, cmdline: b"quiet", initrd: Some(&[7; 0x1001]), ..Payload::default() };
        let entry = load_any(None, &payload, &memory).unwrap();
        let info = read(&memory, entry.rbx, 88);
        let field = |offset| u32_at(&info, offset);
        assert_eq!(field(0), 1 << 0 | 1 << 2 | 1 << 3 | 1 << 6 | 1 << 9);
        assert_eq!((field(4), field(8)), (639, 3072), "mem_lower, mem_upper");
        assert_eq!(read(&memory, field(16).into(), 6), b"quiet\0");
        assert_eq!(field(20), 1, "mods_count");
        let module = read(&memory, field(24).into(), 16);
        assert_eq!([0, 4, 8, 12].map(|at| u32_at(&module, at)), [0x3f_e000, 0x3f_f001, 0, 0]);
        assert_eq!(read(&memory, field(64).into(), 11), b"matchstick\0");
        assert_eq!(field(44), 3 * 24, "mmap_length");
        let map = read(&memory, field(48).into(), 3 * 24);
        assert_eq!(
            (u32_at(&map, 0), u64_at(&map, 4), u64_at(&map, 12), u32_at(&map, 20)),
            (20, 0, 0x9_fc00, 1)
        );
        assert_eq!((u64_at(&map, 28), u32_at(&map, 44)), (0x9_fc00, 2));
        assert_eq!((u64_at(&map, 52), u64_at(&map, 60)), (0x10_0000, 3 << 20));
    }

    #[test]
    fn flags_are_clear_for_what_there_is_not() {
        let memory = guest(SIZE);
        let image = elf(Image::elf32(), 0);
        let entry = load_any(None, &Payload { image: &image, ..Payload::default() }, &memory).unwrap();
        let info = read(&memory, entry.rbx, 88);
        assert_eq!((u32_at(&info, 0), u32_at(&info, 20)), (1 << 0 | 1 << 6 | 1 << 9, 0));
    }
}
