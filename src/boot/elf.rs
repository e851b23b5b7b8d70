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
/// Index of the byte that tells ELF32 from ELF64.
const EI_CLASS: usize = 4;
const ELFCLASS32: u8 = 1;
const ELFCLASS64: u8 = 2;
/// Index of the byte that tells the byte order.
const EI_DATA: usize = 5;
const ELFDATA2LSB: u8 = 1;
const ELFDATA2MSB: u8 = 2;
/// Length of `e_ident`, which the fields of the header follow.
const EI_NIDENT: usize = 16;

const ET_REL: u16 = 1;
const ET_EXEC: u16 = 2;
const ET_DYN: u16 = 3;
const ET_CORE: u16 = 4;
const EM_386: u16 = 3;
const EM_X86_64: u16 = 62;
const EM_AARCH64: u16 = 183;
const EM_RISCV: u16 = 243;

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

/// One entry of the program header table: a segment. Fields that a loader ignores are left out.
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
    /// `sizeof(Elf32_Ehdr)`, `sizeof(Elf64_Ehdr)`.
    const fn header_size(self) -> u64 {
        if matches!(self, Class::Elf32) { 52 } else { 64 }
    }

    /// `sizeof(Elf32_Phdr)`, `sizeof(Elf64_Phdr)`.
    const fn program_header_size(self) -> usize {
        if matches!(self, Class::Elf32) { 32 } else { 56 }
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
        let class = match image.get(EI_CLASS) {
            Some(&ELFCLASS32) => Class::Elf32,
            Some(&ELFCLASS64) | None => Class::Elf64,
            Some(_) => return Err(damaged("its class is neither 32 nor 64 bits")),
        };
        match image.get(EI_DATA) {
            Some(&ELFDATA2LSB) | None => {}
            Some(&ELFDATA2MSB) => return Err(unsupported("a big-endian ELF file", "x86 is little-endian")),
            Some(_) => return Err(damaged("its byte order is unknown")),
        }
        let cut = || truncated("the ELF header", class.header_size(), image);
        let header = image.get(..class.header_size() as usize).ok_or_else(cut)?;
        Elf::parse_header(image, header, class).ok_or_else(cut)?
    }

    /// The fields behind `e_ident`, in their order; `None` if there are not enough bytes.
    fn parse_header(image: &'a [u8], header: &[u8], class: Class) -> Option<Result<Elf<'a>, ImageError>> {
        let mut fields = Fields::at(header, EI_NIDENT)?;
        let (e_type, e_machine, _e_version) = (fields.u16()?, fields.u16()?, fields.u32()?);
        let (e_entry, e_phoff) = (class.word(&mut fields)?, class.word(&mut fields)?);
        let (_e_shoff, _e_flags, _e_ehsize) = (class.word(&mut fields)?, fields.u32()?, fields.u16()?);
        let (e_phentsize, e_phnum) = (usize::from(fields.u16()?), usize::from(fields.u16()?));

        let checked = executable(e_type, e_machine, class).and_then(|()| {
            if e_phnum > 0 && e_phentsize != class.program_header_size() {
                return Err(damaged("its program headers have the wrong size"));
            }
            let program_headers = table(image, e_phoff, e_phentsize * e_phnum)?;
            Ok(Elf { image, class, e_entry, program_headers })
        });
        Some(checked)
    }

    /// Places every segment that is to be loaded, and makes sure that `entry` lies in the code or
    /// data of one of them.
    ///
    /// # Errors
    /// [`ImageError::Damaged`] and [`ImageError::Truncated`] for a segment that the file does not
    /// hold, [`ImageError::Entry`], and what the [`Placer`] refuses.
    pub fn load(&self, entry: u64, placer: &mut Placer) -> Result<(), ImageError> {
        let (mut loaded, mut entered) = (false, false);
        for segment in self.segments(PT_LOAD).filter(|segment| segment.p_memsz > 0) {
            if segment.p_filesz > segment.p_memsz {
                return Err(damaged("a segment is larger in the file than in memory"));
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
            .chunks_exact(class.program_header_size())
            .filter_map(move |entry| ProgramHeader::parse(entry, class))
            .filter(move |segment| segment.p_type == p_type)
    }

    /// The bytes of a segment in the file.
    fn bytes(&self, what: &'static str, segment: &ProgramHeader) -> Result<&'a [u8], ImageError> {
        let end = segment.p_offset.saturating_add(segment.p_filesz);
        range(self.image, segment.p_offset, end).ok_or_else(|| truncated(what, end, self.image))
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

/// Is this an executable, linked to fixed addresses, of the machine that its class belongs to?
fn executable(e_type: u16, e_machine: u16, class: Class) -> Result<(), ImageError> {
    match (e_machine, class) {
        (EM_X86_64, Class::Elf64) | (EM_386, Class::Elf32) => {}
        (EM_X86_64, Class::Elf32) => {
            return Err(unsupported("an x32 ELF file", "build it for x86-64 or the i386"));
        }
        (EM_AARCH64, _) => return Err(unsupported("an ELF file for AArch64", "only x86 guests run here")),
        (EM_RISCV, _) => return Err(unsupported("an ELF file for RISC-V", "only x86 guests run here")),
        _ => return Err(unsupported("an ELF file for another machine", "only x86 guests run here")),
    }
    match e_type {
        ET_EXEC => Ok(()),
        ET_REL => Err(unsupported("a relocatable ELF object", "link it to a fixed address first")),
        ET_DYN => Err(unsupported(
            "a shared object or position-independent executable",
            "link it to a fixed address (-static -no-pie)",
        )),
        ET_CORE => Err(unsupported("a core dump", "boot the kernel that left it instead")),
        _ => Err(damaged("its type is unknown")),
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

fn unsupported(kind: &'static str, advice: &'static str) -> ImageError {
    ImageError::Unsupported { kind, advice }
}
