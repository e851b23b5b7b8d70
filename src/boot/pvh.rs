//! PVH: a kernel that names its 32-bit entry point in an ELF note, and finds its boot information
//! behind EBX.
//!
//! Xen's ABI for guests without a BIOS, which QEMU, Firecracker and Linux speak too. Not a
//! hypercall interface: nothing of Xen is here but two structures. Source: Xen, docs/misc/pvh.pandoc
//! (registers), public/elfnote.h (the note), public/arch-x86/hvm/start_info.h (the structures).

use super::linux::{XEN_NAME, check_cmdline};
use super::placer::Placer;
use super::{Payload, cmdline, initrd, segments, stack};
use crate::elf::Elf;
use crate::elf::notes::{self, Note};
use crate::error::ImageError;
use crate::x86::layout::{BOOT_INFO, memory_map};
use crate::x86::{Entry, Mode};
use linux_loader::loader::elf::start_info::{hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info};
use vm_memory::ByteValued;

/// The type of the note.
const XEN_ELFNOTE_PHYS32_ENTRY: u32 = 18;

const XEN_HVM_START_MAGIC_VALUE: u32 = 0x336e_c578;
/// Version 1 of the start info has the memory map.
const START_INFO_VERSION: u32 = 1;
const XEN_HVM_MEMMAP_TYPE_RAM: u32 = 1;
const XEN_HVM_MEMMAP_TYPE_RESERVED: u32 = 2;

/// Places a kernel with a PVH note, ELF32 or ELF64, and its start info.
pub(super) fn load(payload: &Payload, placer: &mut Placer) -> Result<Entry, ImageError> {
    let elf = segments::executable(payload.image)?;
    let missing = ImageError::Not { protocol: "PVH", why: "no ELF note gives its 32-bit entry point" };
    let rip = entry(&elf)?.ok_or(missing)?;
    check_cmdline(&elf, payload)?;
    let rsp = stack(placer)?;
    let cmdline_paddr = cmdline(payload, placer)?;
    segments::load(&elf, rip, placer)?;
    let module = initrd(payload, u64::MAX, placer)?;

    let modules = payload.initrd.map(|_| hvm_modlist_entry {
        paddr: module.start,
        size: module.end.saturating_sub(module.start),
        ..Default::default()
    });
    let info = start_info(placer.memory_size(), cmdline_paddr, payload.rsdp, modules.as_slice());
    placer.write("the start info", BOOT_INFO, &info)?;
    Ok(Entry { rsp, rbx: BOOT_INFO, ..Entry::at(Mode::Protected, rip) })
}

/// The start info, and behind it the tables it points to: modules, memory map.
fn start_info(memory: u64, cmdline_paddr: u64, rsdp_paddr: u64, modules: &[hvm_modlist_entry]) -> Vec<u8> {
    let map = memory_map(memory);
    let modlist_paddr = BOOT_INFO.saturating_add(size_of::<hvm_start_info>() as u64);
    let memmap_paddr = modlist_paddr.saturating_add(size_of_val(modules) as u64);
    let header = hvm_start_info {
        magic: XEN_HVM_START_MAGIC_VALUE,
        version: START_INFO_VERSION,
        nr_modules: modules.len() as u32,
        modlist_paddr: if modules.is_empty() { 0 } else { modlist_paddr },
        cmdline_paddr,
        memmap_paddr,
        rsdp_paddr,
        memmap_entries: map.len() as u32,
        ..Default::default()
    };
    let mut bytes = header.as_slice().to_vec();
    for module in modules {
        bytes.extend(module.as_slice());
    }
    for range in map {
        let type_ = if range.usable { XEN_HVM_MEMMAP_TYPE_RAM } else { XEN_HVM_MEMMAP_TYPE_RESERVED };
        let entry = hvm_memmap_table_entry { addr: range.start, size: range.len, type_, reserved: 0 };
        bytes.extend(entry.as_slice());
    }
    bytes
}

/// The 32-bit entry point that an ELF note gives, if there is such a note.
///
/// # Errors
/// [`ImageError::Damaged`] and [`ImageError::Truncated`] for notes that do not hold together.
pub fn entry(elf: &Elf) -> Result<Option<u64>, ImageError> {
    let is_entry = |note: &Note| note.name == XEN_NAME && note.kind == XEN_ELFNOTE_PHYS32_ENTRY;
    let Some(note) = notes::find(elf, is_entry)? else { return Ok(None) };
    let size = ImageError::Damaged { what: "the PVH note", why: "its entry point has neither 4 nor 8 bytes" };
    note.address().ok_or(size).map(Some)
}

#[cfg(test)]
mod tests {
    use super::super::images::{boot, guest, pvh_note, read, u32_at, u64_at};
    use super::super::{Protocol, load as load_any};
    use super::*;
    use crate::elf::images::{AT, Image, note};

    const SIZE: usize = 4 << 20;

    fn pvh(image: &Image) -> Result<Entry, ImageError> {
        boot(Some(Protocol::Pvh), &image.bytes(), SIZE)
    }

    #[test]
    fn the_kernel_is_entered_where_its_note_says_in_protected_mode() {
        let expected = Entry { rsp: 0x1_0000, rbx: BOOT_INFO, ..Entry::at(Mode::Protected, AT) };
        for image in [Image::elf32(), Image::elf64()] {
            // e_entry plays no part.
            let image = Image { entry: 0x1234, ..image };
            let wide = note(b"Xen\0", 18, &AT.to_le_bytes(), 8);
            let others = [note(b"GNU\0", 18, b"12345", 4), note(b"Xen\0", 5, b"", 4), pvh_note()].concat();
            for (notes, align) in [(pvh_note(), 4), (pvh_note(), 0), (wide, 8), (others, 4)] {
                assert_eq!(pvh(&image.clone().notes(&notes, align)), Ok(expected));
            }
        }
    }

    #[test]
    fn notes_aligned_to_8_bytes_are_walked_in_steps_of_8() {
        let notes = [note(b"GNU\0", 3, b"1", 8), note(b"Xen\0", 18, &AT.to_le_bytes(), 8)].concat();
        assert!(pvh(&Image::elf64().notes(&notes, 8)).is_ok());
        assert!(pvh(&Image::elf64().notes(&notes, 4)).is_err());
    }

    #[test]
    fn the_last_note_may_lack_its_padding() {
        let note = note(b"Xen\0", 18, &(AT as u32).to_le_bytes(), 8);
        assert!(pvh(&Image::elf64().notes(&note[..20], 8)).is_ok());
    }

    #[test]
    fn a_kernel_without_the_note_is_not_pvh() {
        for image in [Image::elf64(), Image::elf64().notes(&note(b"GNU\0", 18, &[0; 4], 4), 4)] {
            assert!(matches!(pvh(&image), Err(ImageError::Not { protocol: "PVH", .. })));
        }
    }

    #[test]
    fn damaged_notes_are_errors() {
        for field in [0, 4] {
            for huge in [[0xff; 4], [0x20, 0, 0, 0]] {
                let mut notes = pvh_note();
                notes[field..field + 4].copy_from_slice(&huge);
                let result = pvh(&Image::elf32().notes(&notes, 4));
                assert!(
                    matches!(result, Err(ImageError::Damaged { what: "an ELF note" | "the PVH note", .. })),
                    "{result:?}"
                );
            }
        }
        for size in [0, 3, 5, 12] {
            let result = pvh(&Image::elf32().notes(&note(b"Xen\0", 18, &vec![0; size], 4), 4));
            assert!(result.unwrap_err().to_string().contains("neither 4 nor 8 bytes"));
        }
    }

    #[test]
    fn the_entry_point_must_be_loaded() {
        let elsewhere = note(b"Xen\0", 18, &(AT - 1).to_le_bytes(), 4);
        let entry = ImageError::Entry { entry: AT - 1 };
        assert_eq!(pvh(&Image::elf64().notes(&elsewhere, 4)), Err(entry));
    }

    #[test]
    fn the_start_info_tells_of_the_command_line_the_module_and_the_memory() {
        let (memory, image) = (guest(SIZE), Image::elf32().notes(&pvh_note(), 4).bytes());
        let payload =
            Payload { image: &image, cmdline: b"quiet", initrd: Some(&[7; 0x1001]), ..Payload::default() };
        let entry = load_any(None, &payload, &memory).unwrap();
        let info = read(&memory, entry.rbx, 56);
        assert_eq!([0, 4, 8, 12].map(|at| u32_at(&info, at)), [0x336e_c578, 1, 0, 1]);
        assert_eq!(read(&memory, u64_at(&info, 24), 6), b"quiet\0");
        let module = read(&memory, u64_at(&info, 16), 32);
        assert_eq!([0, 8, 16, 24].map(|at| u64_at(&module, at)), [0x3f_e000, 0x1001, 0, 0]);
        assert_eq!(read(&memory, 0x3f_e000, 0x1001), [7; 0x1001]);
        assert_eq!(u32_at(&info, 48), 3, "memmap_entries");
        let last = read(&memory, u64_at(&info, 40) + 2 * 24, 24);
        assert_eq!((u64_at(&last, 0), u64_at(&last, 8), u32_at(&last, 16)), (0x10_0000, 3 << 20, 1));
    }

    #[test]
    fn what_is_not_there_has_no_address() {
        let (memory, image) = (guest(SIZE), Image::elf32().notes(&pvh_note(), 4).bytes());
        let entry = load_any(None, &Payload { image: &image, ..Payload::default() }, &memory).unwrap();
        let info = read(&memory, entry.rbx, 56);
        assert_eq!((u32_at(&info, 12), u64_at(&info, 16), u64_at(&info, 24)), (0, 0, 0));
    }
}
