//! The segments of an ELF kernel: which bytes of the file go where in memory.
//!
//! They go to their *physical* addresses, straight from the file, once. What the file says is read by
//! [`elf`](crate::elf); how the guest is then entered is the business of [`linux`](super::linux),
//! [`pvh`](super::pvh) and [`multiboot`](super::multiboot). Source: System V gABI, chapter 5 "Program Loading".

use super::placer::Placer;
use crate::elf::{
    Class, EM_386, EM_AARCH64, EM_X86_64, ET_DYN, ET_EXEC, ET_REL, Elf, ElfError, Header, PT_LOAD,
};
use crate::error::ImageError;

impl From<ElfError> for ImageError {
    fn from(error: ElfError) -> ImageError {
        match error {
            ElfError::Magic => ImageError::Not { protocol: "ELF", why: "it does not begin with 7f 45 4c 46" },
            ElfError::Damaged { what, why } => ImageError::Damaged { what, why },
            ElfError::Truncated { what, end, len } => ImageError::Truncated { what, end, len },
            ElfError::TooLarge { size, limit } => {
                ImageError::TooLarge { what: "the program header table", size, limit }
            }
        }
    }
}

/// Reads the headers of `image`, which is to be an executable of this machine, linked to fixed addresses.
///
/// # Errors
/// [`ImageError::Not`] without the magic number, [`ImageError::Unsupported`] for files that are
/// not executables of this machine, [`ImageError::Truncated`], [`ImageError::Damaged`] and
/// [`ImageError::TooLarge`] for headers that do not hold together.
pub fn executable(image: &[u8]) -> Result<Elf<'_>, ImageError> {
    let header = Header::parse(image)?;
    check(&header)?;
    Ok(Elf::new(header, image)?)
}

/// Is this an executable, linked to fixed addresses, of the machine that its class belongs to?
fn check(header: &Header) -> Result<(), ImageError> {
    let native =
        matches!((header.e_machine, header.class), (EM_X86_64, Class::Elf64) | (EM_386, Class::Elf32));
    let (kind, advice) = match (native, header.e_type, header.e_machine) {
        (true, ET_EXEC, _) => return Ok(()),
        (true, ET_REL, _) => ("a relocatable ELF object", "link it to a fixed address first"),
        (true, ET_DYN, _) => ("a position-independent ELF file", "link it with -static -no-pie"),
        (true, ..) => ("an ELF file of another type", "only executables can be booted"),
        (false, _, EM_X86_64) => ("an x32 ELF file", "build it for x86-64 or the i386"),
        (false, _, EM_AARCH64) => ("an ELF file for AArch64", "only x86 guests run here"),
        (false, ..) => ("an ELF file for another machine", "only x86 guests run here"),
    };
    Err(ImageError::Unsupported { kind, advice })
}

/// Places every segment of `elf` that is to be loaded, and makes sure that `entry` lies in the code or
/// data of one of them.
///
/// # Errors
/// [`ImageError::Damaged`] and [`ImageError::Truncated`] for a segment that the file does not
/// hold, [`ImageError::Entry`], and what the [`Placer`] refuses.
pub fn load(elf: &Elf, entry: u64, placer: &mut Placer) -> Result<(), ImageError> {
    let (mut loaded, mut entered) = (false, false);
    for segment in elf.segments_of(PT_LOAD) {
        segment.check_size()?;
        if segment.p_memsz == 0 {
            continue;
        }
        let bytes = elf.bytes("a kernel segment", &segment)?;
        placer.write_padded("a kernel segment", segment.p_paddr, bytes, segment.p_memsz)?;
        loaded = true;
        entered |= entry.checked_sub(segment.p_paddr).is_some_and(|offset| offset < segment.p_filesz);
    }
    match (loaded, entered) {
        (false, _) => Err(ImageError::Damaged { what: "the ELF file", why: "it has no segment to load" }),
        (true, false) => Err(ImageError::Entry { entry }),
        (true, true) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::images::{self, guest};
    use super::*;
    use crate::elf::images::{AT, CODE, Image};
    use crate::x86::layout::{GDT, PAGE_TABLES, ZERO_PAGE};

    /// Loads a file's segments and nothing else into 2 MiB.
    fn placed(image: &[u8]) -> Result<(), ImageError> {
        let memory = guest(2 << 20);
        let elf = executable(image)?;
        load(&elf, elf.header.e_entry, &mut Placer::new(&memory))
    }

    fn damage(image: &Image, at: usize, bytes: &[u8]) -> Result<(), ImageError> {
        let mut image = image.bytes();
        image[at..at + bytes.len()].copy_from_slice(bytes);
        placed(&image)
    }

    /// Offsets in an ELF64 file whose program headers follow its file header.
    const EI_CLASS: usize = 4;
    const EI_DATA: usize = 5;
    const E_TYPE: usize = 16;
    const E_MACHINE: usize = 18;
    const E_PHOFF: usize = 32;
    const E_PHENTSIZE: usize = 54;
    const E_PHNUM: usize = 56;
    const P_OFFSET: usize = 64 + 8;
    const P_PADDR: usize = 64 + 24;
    const P_FILESZ: usize = 64 + 32;
    const P_MEMSZ: usize = 64 + 40;

    #[test]
    fn segments_go_to_their_physical_addresses_and_their_bss_stays_zero() {
        for image in [Image::elf64(), Image::elf32()] {
            let memory = guest(2 << 20);
            let image = image.load(AT + 0x5000, b"data", 0x100).bytes();
            let elf = executable(&image).unwrap();
            load(&elf, AT, &mut Placer::new(&memory)).unwrap();
            assert_eq!(images::read(&memory, AT, CODE.len()), CODE);
            assert_eq!(images::read(&memory, AT + 0x5000, 8), b"data\0\0\0\0");
        }
    }

    #[test]
    fn a_file_cut_anywhere_is_an_error() {
        for image in [Image::elf64().bytes(), Image::elf32().bytes()] {
            assert_eq!(placed(&image), Ok(()));
            for len in 0..image.len() {
                assert!(placed(&image[..len]).is_err(), "{len} of {} bytes loaded", image.len());
            }
        }
    }

    #[test]
    fn a_segment_that_ends_after_the_file_says_where() {
        let image = Image::elf64().bytes();
        let (end, len) = (image.len() as u64, image.len() as u64 - 1);
        let cut = ImageError::Truncated { what: "a kernel segment", end, len };
        assert_eq!(placed(&image[..image.len() - 1]), Err(cut));
    }

    #[test]
    fn damaged_headers_are_told_apart() {
        let image = Image::elf64();
        let why = |result: Result<(), ImageError>| result.unwrap_err().to_string();
        assert!(why(damage(&image, E_PHENTSIZE, &[55])).contains("wrong size"));
        assert!(why(damage(&image, E_PHNUM, &[0])).contains("no segment to load"));
        assert!(why(damage(&image, 64, &[6])).contains("no segment to load"));
        assert!(why(damage(&image, P_MEMSZ, &[1, 0])).contains("larger in the file than in memory"));
        assert!(why(damage(&image, P_MEMSZ, &[0, 0])).contains("larger in the file than in memory"));
        assert!(why(damage(&image, E_PHOFF, &[0xff; 8])).contains("cut short: the program header table"));
        assert!(why(damage(&image, P_OFFSET, &[0xff; 8])).contains("ends at byte 0xffffffffffffffff,"));
        assert!(why(damage(&image, P_FILESZ, &[0xff; 8])).contains("larger in the file than in memory"));
        assert!(why(damage(&image, EI_CLASS, &[3])).contains("neither 32- nor 64-bit"));
        assert!(why(damage(&image, EI_DATA, &[2])).contains("not little-endian"));
        assert!(why(damage(&image, E_PHNUM, &[0xff, 0xff])).contains("the limit is 65536"));
    }

    #[test]
    fn what_is_no_executable_of_this_machine_is_called_by_its_name() {
        let kind = |at, byte| match damage(&Image::elf64(), at, &[byte]) {
            Err(ImageError::Unsupported { kind, .. }) => kind,
            other => panic!("{other:?}"),
        };
        assert_eq!(kind(E_TYPE, 1), "a relocatable ELF object");
        assert_eq!(kind(E_TYPE, 3), "a position-independent ELF file");
        assert_eq!(kind(E_TYPE, 4), "an ELF file of another type");
        assert_eq!(kind(E_MACHINE, 183), "an ELF file for AArch64");
        assert_eq!(kind(E_MACHINE, 243), "an ELF file for another machine");
        assert_eq!(kind(EI_CLASS, 1), "an x32 ELF file");
    }

    #[test]
    fn a_segment_that_wraps_or_leaves_memory_is_refused() {
        for paddr in [u64::MAX, u64::MAX - 1, 2 << 20, (2 << 20) - 1, 0xc000_0000, 1 << 32] {
            let outside = damage(&Image::elf64(), P_PADDR, &paddr.to_le_bytes());
            assert!(
                matches!(outside, Err(ImageError::Outside { start, .. }) if start == paddr),
                "{outside:?}"
            );
        }
        let endless = damage(&Image::elf64(), P_MEMSZ, &[0xff; 8]);
        assert!(matches!(endless, Err(ImageError::Outside { end: u64::MAX, .. })), "{endless:?}");
    }

    #[test]
    fn a_segment_that_overlaps_another_or_the_boot_structures_is_refused() {
        let overlap = |image: Image| match images::boot(None, &image.bytes(), 2 << 20) {
            Err(ImageError::Overlap { other, .. }) => other,
            other => panic!("{other:?}"),
        };
        assert_eq!(overlap(Image::elf64().load(AT + 1, b"x", 1)), "a kernel segment");
        assert_eq!(overlap(Image::elf64().load(PAGE_TABLES + 0x5fff, b"x", 1)), "the page tables");
        assert_eq!(overlap(Image::elf64().load(GDT, b"x", 1)), "the GDT");
        assert_eq!(overlap(Image::elf64().load(0xf000, b"x", 1)), "the stack");
        assert_eq!(overlap(Image::elf64().load(0xb_8000, b"x", 1)), "video memory and ROMs");
        // The zero page is written last: there the segment was first.
        assert_eq!(overlap(Image::elf64().load(ZERO_PAGE, b"x", 1)), "a kernel segment");
    }

    #[test]
    fn the_entry_point_must_be_code_that_was_loaded() {
        let code = CODE.len() as u64;
        for (entry, good) in
            [(AT, true), (AT + code - 1, true), (AT + code, false), (AT - 1, false), (0, false)]
        {
            let result = placed(&Image { entry, ..Image::elf64() }.bytes());
            assert_eq!(result, if good { Ok(()) } else { Err(ImageError::Entry { entry }) });
        }
    }

    #[test]
    fn a_bss_segment_needs_no_place_in_the_file() {
        let mut image = Image::elf64().load(AT + 0x5000, b"", 0x100).bytes();
        image[P_OFFSET + 56..][..8].copy_from_slice(&[0xff; 8]);
        assert_eq!(placed(&image), Ok(()));
    }
}
