//! ELF executables: which bytes of the file go where in memory.
//!
//! Only what a loader needs: the file header and the program headers of ELF32 for the i386 and ELF64
//! for x86-64. No sections, symbols, relocations or dynamic linking. Segments go to their *physical*
//! addresses, straight from the file, once. Source: System V gABI, chapters 4 "ELF Header" and 5
//! "Program Header", whose field names are kept; how the guest is then entered is the business of
//! [`linux`](super::linux), [`pvh`](super::pvh) and [`multiboot`](super::multiboot).

use super::fields::Fields;
use super::placer::Placer;
use crate::error::ImageError;

/// The first four bytes of every ELF file.
pub const ELFMAG: &[u8] = b"\x7fELF";
/// Indices into `e_ident`: ELF32 or ELF64, and the byte order.
const EI_CLASS: usize = 4;
const EI_DATA: usize = 5;
const ELFCLASS32: u8 = 1;
const ELFCLASS64: u8 = 2;
const ELFDATA2LSB: u8 = 1;
/// Length of `e_ident`, which the fields of the header follow.
const EI_NIDENT: usize = 16;

const ET_REL: u16 = 1;
const ET_EXEC: u16 = 2;
const ET_DYN: u16 = 3;
const EM_386: u16 = 3;
const EM_X86_64: u16 = 62;
const EM_AARCH64: u16 = 183;

const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;

/// No table of program headers is larger; Linux draws the same line. In bytes.
const PROGRAM_HEADERS_MAX: usize = 0x1_0000;

/// ELF32 for the i386, or ELF64 for x86-64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// ELF32.
    Elf32,
    /// ELF64.
    Elf64,
}

/// An executable whose headers have been checked, and nothing else yet.
#[derive(Debug, Clone, Copy)]
pub struct Elf<'a> {
    image: &'a [u8],
    /// ELF32 or ELF64.
    pub class: Class,
    /// Where it wants to be entered.
    pub e_entry: u64,
    program_headers: &'a [u8],
}

/// The file header. Fields that a loader ignores are left out, here and below.
struct Header {
    e_type: u16,
    e_machine: u16,
    e_entry: u64,
    e_phoff: u64,
    e_phentsize: usize,
    e_phnum: usize,
}

/// One entry of the program header table: a segment.
#[derive(Debug, Clone, Copy)]
struct ProgramHeader {
    p_type: u32,
    p_offset: u64,
    p_paddr: u64,
    p_filesz: u64,
    p_memsz: u64,
    p_align: u64,
}

impl Class {
    /// Bytes of the file header and of a program header.
    const fn sizes(self) -> (usize, usize) {
        match self {
            Class::Elf32 => (52, 32),
            Class::Elf64 => (64, 56),
        }
    }

    /// A field as wide as an address.
    fn word(self, fields: &mut Fields) -> Option<u64> {
        match self {
            Class::Elf32 => fields.u32().map(u64::from),
            Class::Elf64 => fields.u64(),
        }
    }
}

impl<'a> Elf<'a> {
    /// Reads the headers of `image`.
    ///
    /// # Errors
    /// [`ImageError::Not`] without the magic number, [`ImageError::Unsupported`] for files that are
    /// not executables of this machine, [`ImageError::Truncated`], [`ImageError::Damaged`] and
    /// [`ImageError::TooLarge`] for headers that do not hold together.
    pub fn parse(image: &'a [u8]) -> Result<Elf<'a>, ImageError> {
        if !image.starts_with(ELFMAG) {
            return Err(ImageError::Not { protocol: "ELF", why: "it does not begin with 7f 45 4c 46" });
        }
        let class = match image.get(EI_CLASS..=EI_DATA) {
            Some(&[ELFCLASS32, ELFDATA2LSB]) => Class::Elf32,
            Some(&[ELFCLASS64, ELFDATA2LSB]) => Class::Elf64,
            Some(_) => return Err(damaged("it is neither 32- nor 64-bit, or not little-endian")),
            None => return Err(truncated("the ELF header", EI_NIDENT as u64, image)),
        };
        let (header_size, program_header_size) = class.sizes();
        let cut = || truncated("the ELF header", header_size as u64, image);
        let header = Header::parse(image, class).ok_or_else(cut)?;
        header.check(class)?;
        if header.e_phnum > 0 && header.e_phentsize != program_header_size {
            return Err(damaged("its program headers have the wrong size"));
        }
        let program_headers =
            table(image, header.e_phoff, header.e_phentsize.saturating_mul(header.e_phnum))?;
        Ok(Elf { image, class, e_entry: header.e_entry, program_headers })
    }

    /// Places every segment that is to be loaded, and makes sure that `entry` lies in the code or
    /// data of one of them.
    ///
    /// # Errors
    /// [`ImageError::Damaged`] and [`ImageError::Truncated`] for a segment that the file does not
    /// hold, [`ImageError::Entry`], and what the [`Placer`] refuses.
    pub fn load(&self, entry: u64, placer: &mut Placer) -> Result<(), ImageError> {
        let (mut loaded, mut entered) = (false, false);
        for segment in self.segments(PT_LOAD) {
            if segment.p_filesz > segment.p_memsz {
                return Err(damaged("a segment is larger in the file than in memory"));
            }
            if segment.p_memsz == 0 {
                continue;
            }
            let bytes = self.bytes("a kernel segment", &segment)?;
            placer.write_padded("a kernel segment", segment.p_paddr, bytes, segment.p_memsz)?;
            loaded = true;
            entered |= entry.checked_sub(segment.p_paddr).is_some_and(|offset| offset < segment.p_filesz);
        }
        match (loaded, entered) {
            (false, _) => Err(damaged("it has no segment to load")),
            (true, false) => Err(ImageError::Entry { entry }),
            (true, true) => Ok(()),
        }
    }

    /// The contents of each note segment and the alignment of its notes: 8, or 4 if not told.
    pub fn notes(&self) -> impl Iterator<Item = Result<(&'a [u8], usize), ImageError>> {
        let align = |segment: &ProgramHeader| if segment.p_align == 8 { 8 } else { 4 };
        self.segments(PT_NOTE)
            .map(move |segment| Ok((self.bytes("the ELF notes", &segment)?, align(&segment))))
    }

    /// The segments of one type, in the order of the table.
    fn segments(&self, p_type: u32) -> impl Iterator<Item = ProgramHeader> {
        let class = self.class;
        self.program_headers
            .chunks_exact(class.sizes().1)
            .filter_map(move |entry| ProgramHeader::parse(entry, class))
            .filter(move |segment| segment.p_type == p_type)
    }

    /// The bytes of a segment in the file; the offset of a segment without any does not count.
    fn bytes(&self, what: &'static str, segment: &ProgramHeader) -> Result<&'a [u8], ImageError> {
        if segment.p_filesz == 0 {
            return Ok(&[]);
        }
        let end = segment.p_offset.saturating_add(segment.p_filesz);
        range(self.image, segment.p_offset, end).ok_or_else(|| truncated(what, end, self.image))
    }
}

impl Header {
    /// The fields behind `e_ident`, in their order.
    fn parse(image: &[u8], class: Class) -> Option<Header> {
        let mut fields = Fields::at(image, EI_NIDENT)?;
        let (e_type, e_machine, _e_version) = (fields.u16()?, fields.u16()?, fields.u32()?);
        let (e_entry, e_phoff) = (class.word(&mut fields)?, class.word(&mut fields)?);
        let (_e_shoff, _e_flags, _e_ehsize) = (class.word(&mut fields)?, fields.u32()?, fields.u16()?);
        let (e_phentsize, e_phnum) = (fields.u16()?.into(), fields.u16()?.into());
        Some(Header { e_type, e_machine, e_entry, e_phoff, e_phentsize, e_phnum })
    }

    /// Is this an executable, linked to fixed addresses, of the machine that its class belongs to?
    fn check(&self, class: Class) -> Result<(), ImageError> {
        let native = matches!((self.e_machine, class), (EM_X86_64, Class::Elf64) | (EM_386, Class::Elf32));
        let (kind, advice) = match (native, self.e_type, self.e_machine) {
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
}

impl ProgramHeader {
    /// The fields in their order, which differs: `p_flags` moved forward when addresses grew.
    fn parse(entry: &[u8], class: Class) -> Option<ProgramHeader> {
        let mut fields = Fields::at(entry, 0)?;
        let p_type = fields.u32()?;
        if class == Class::Elf64 {
            let _p_flags = fields.u32()?;
        }
        let (p_offset, _p_vaddr) = (class.word(&mut fields)?, class.word(&mut fields)?);
        let p_paddr = class.word(&mut fields)?;
        let (p_filesz, p_memsz) = (class.word(&mut fields)?, class.word(&mut fields)?);
        if class == Class::Elf32 {
            let _p_flags = fields.u32()?;
        }
        let p_align = class.word(&mut fields)?;
        Some(ProgramHeader { p_type, p_offset, p_paddr, p_filesz, p_memsz, p_align })
    }
}

/// The table of program headers.
fn table(image: &[u8], start: u64, size: usize) -> Result<&[u8], ImageError> {
    let what = "the program header table";
    if size > PROGRAM_HEADERS_MAX {
        return Err(ImageError::TooLarge { what, size: size as u64, limit: PROGRAM_HEADERS_MAX as u64 });
    }
    let end = start.saturating_add(size as u64);
    range(image, start, end).ok_or_else(|| truncated(what, end, image))
}

fn range(image: &[u8], start: u64, end: u64) -> Option<&[u8]> {
    image.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
}

fn truncated(what: &'static str, end: u64, image: &[u8]) -> ImageError {
    ImageError::Truncated { what, end, len: image.len() as u64 }
}

fn damaged(why: &'static str) -> ImageError {
    ImageError::Damaged { what: "the ELF file", why }
}

#[cfg(test)]
mod tests {
    use super::super::images::{self, AT, Image, guest};
    use super::*;
    use crate::x86::layout::{GDT, PAGE_TABLES, ZERO_PAGE};

    /// Loads a file's segments and nothing else into 2 MiB.
    fn load(image: &[u8]) -> Result<(), ImageError> {
        let memory = guest(2 << 20);
        let elf = Elf::parse(image)?;
        elf.load(elf.e_entry, &mut Placer::new(&memory))
    }

    fn damage(image: &Image, at: usize, bytes: &[u8]) -> Result<(), ImageError> {
        let mut image = image.bytes();
        image[at..at + bytes.len()].copy_from_slice(bytes);
        load(&image)
    }

    /// Offsets in an ELF64 file whose program headers follow its file header.
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
            let elf = Elf::parse(&image).unwrap();
            elf.load(AT, &mut Placer::new(&memory)).unwrap();
            assert_eq!(images::read(&memory, AT, images::CODE.len()), images::CODE);
            assert_eq!(images::read(&memory, AT + 0x5000, 8), b"data\0\0\0\0");
        }
    }

    #[test]
    fn a_file_cut_anywhere_is_an_error() {
        for image in [Image::elf64().bytes(), Image::elf32().bytes()] {
            assert_eq!(load(&image), Ok(()));
            for len in 0..image.len() {
                assert!(load(&image[..len]).is_err(), "{len} of {} bytes loaded", image.len());
            }
        }
    }

    #[test]
    fn a_segment_that_ends_after_the_file_says_where() {
        let image = Image::elf64().bytes();
        let (end, len) = (image.len() as u64, image.len() as u64 - 1);
        let cut = ImageError::Truncated { what: "a kernel segment", end, len };
        assert_eq!(load(&image[..image.len() - 1]), Err(cut));
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
        assert_eq!(kind(EI_CLASS, ELFCLASS32), "an x32 ELF file");
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
        let code = images::CODE.len() as u64;
        for (entry, good) in
            [(AT, true), (AT + code - 1, true), (AT + code, false), (AT - 1, false), (0, false)]
        {
            let result = load(&Image { entry, ..Image::elf64() }.bytes());
            assert_eq!(result, if good { Ok(()) } else { Err(ImageError::Entry { entry }) });
        }
    }

    #[test]
    fn a_bss_segment_needs_no_place_in_the_file() {
        let mut image = Image::elf64().load(AT + 0x5000, b"", 0x100).bytes();
        image[P_OFFSET + 56..][..8].copy_from_slice(&[0xff; 8]);
        assert_eq!(load(&image), Ok(()));
    }
}
