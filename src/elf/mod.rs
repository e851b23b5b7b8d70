//! ELF, the format of executable files: the file header, the program headers, notes.
//!
//! Pure: bytes in, values out. It reads ELF32 and ELF64, little-endian, of any type and machine; sections, symbols
//! and relocations are left out. It loads nothing: the segments of a kernel are placed by
//! [`boot`](crate::boot). Whatever a file says is checked before it is used, and no sum overflows.
//! Source: System V gABI, chapters 4 "ELF Header" and 5 "Program Header", whose names of fields and constants are
//! kept; numbers of machines from its list of `e_machine`.

#![deny(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]
#![cfg_attr(
    test,
    allow(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

#[cfg(test)]
pub(crate) mod images;
pub mod notes;
pub mod program;

use crate::fields::Fields;
use std::ops::Range;

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

/// `e_type`: a relocatable object.
pub const ET_REL: u16 = 1;
/// `e_type`: an executable, linked to fixed addresses.
pub const ET_EXEC: u16 = 2;
/// `e_type`: a shared object, or an executable that may lie anywhere (position-independent).
pub const ET_DYN: u16 = 3;

/// `e_machine`: the i386 and its successors in 32-bit mode.
pub const EM_386: u16 = 3;
/// `e_machine`: x86-64.
pub const EM_X86_64: u16 = 62;
/// `e_machine`: 64-bit Arm.
pub const EM_AARCH64: u16 = 183;

/// `p_type`: a segment to be loaded.
pub const PT_LOAD: u32 = 1;
/// `p_type`: the path of the program that loads this one and its libraries, the interpreter.
pub const PT_INTERP: u32 = 3;
/// `p_type`: notes.
pub const PT_NOTE: u32 = 4;
/// `p_type`: the table of program headers itself.
pub const PT_PHDR: u32 = 6;

/// `p_flags`: the segment is executed.
pub const PF_X: u32 = 1 << 0;
/// `p_flags`: the segment is written.
pub const PF_W: u32 = 1 << 1;
/// `p_flags`: the segment is read.
pub const PF_R: u32 = 1 << 2;

/// No table of program headers is larger; Linux draws the same line. In bytes.
const PROGRAM_HEADERS_MAX: usize = 0x1_0000;
/// No interpreter's path is longer, its zero included: Linux's PATH_MAX.
const INTERPRETER_MAX: usize = 4096;

/// What is wrong with an ELF file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ElfError {
    /// It does not begin as an ELF file does.
    #[error("it does not begin with 7f 45 4c 46")]
    Magic,
    /// It does not hold together.
    #[error("{what} is damaged: {why}")]
    Damaged {
        /// The header, table or segment.
        what: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// It ends before something that its headers promise.
    #[error("cut short: {what} ends at byte {end:#x}, the file at {len:#x}")]
    Truncated {
        /// The part that is cut.
        what: &'static str,
        /// Where in the file that part ends, `u64::MAX` if no number can say.
        end: u64,
        /// The length of the file.
        len: u64,
    },
    /// Its table of program headers is larger than any loader takes.
    #[error("the program header table is {size} bytes, the limit is {PROGRAM_HEADERS_MAX}")]
    TooLarge {
        /// Its size in bytes.
        size: u64,
        /// The largest that is taken.
        limit: u64,
    },
}

/// How wide addresses are in the file's structures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// ELF32.
    Elf32,
    /// ELF64.
    Elf64,
}

/// The file header. Fields that no loader needs are left out, here and below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// ELF32 or ELF64.
    pub class: Class,
    /// What kind of file it is, such as [`ET_EXEC`].
    pub e_type: u16,
    /// The machine it is for, such as [`EM_X86_64`].
    pub e_machine: u16,
    /// Where it wants to be entered.
    pub e_entry: u64,
    /// Where the table of program headers begins, in bytes from the start of the file.
    pub e_phoff: u64,
    /// Bytes of a program header.
    pub e_phentsize: u16,
    /// How many program headers there are.
    pub e_phnum: u16,
}

/// One entry of the program header table: a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProgramHeader {
    /// What it is, such as [`PT_LOAD`].
    pub p_type: u32,
    /// [`PF_R`], [`PF_W`], [`PF_X`].
    pub p_flags: u32,
    /// Where its bytes begin in the file.
    pub p_offset: u64,
    /// Its virtual address.
    pub p_vaddr: u64,
    /// Its physical address, where that means anything.
    pub p_paddr: u64,
    /// Its bytes in the file.
    pub p_filesz: u64,
    /// Its bytes in memory; those that the file does not have are zero.
    pub p_memsz: u64,
    /// `p_vaddr` and `p_offset` are the same modulo this power of two; 0 and 1 mean that it may lie anywhere.
    pub p_align: u64,
}

/// An ELF file whose header and table of program headers are there.
#[derive(Debug, Clone, Copy)]
pub struct Elf<'a> {
    /// The file header.
    pub header: Header,
    file: &'a [u8],
    program_headers: &'a [u8],
}

impl Class {
    /// Bytes of a file header.
    pub const fn header_size(self) -> usize {
        match self {
            Class::Elf32 => 52,
            Class::Elf64 => 64,
        }
    }

    /// Bytes of a program header.
    pub const fn program_header_size(self) -> usize {
        match self {
            Class::Elf32 => 32,
            Class::Elf64 => 56,
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

impl Header {
    /// Reads the header that `file` begins with. Its first 64 bytes are enough, the others are not looked at.
    ///
    /// # Errors
    /// [`ElfError::Magic`]; [`ElfError::Damaged`] if it is neither ELF32 nor ELF64 or not little-endian;
    /// [`ElfError::Truncated`] if it is not there whole.
    pub fn parse(file: &[u8]) -> Result<Header, ElfError> {
        let what = "the ELF header";
        if !file.starts_with(ELFMAG) {
            return Err(ElfError::Magic);
        }
        let class = match file.get(EI_CLASS..=EI_DATA) {
            Some(&[ELFCLASS32, ELFDATA2LSB]) => Class::Elf32,
            Some(&[ELFCLASS64, ELFDATA2LSB]) => Class::Elf64,
            Some(_) => return Err(damaged("it is neither 32- nor 64-bit, or not little-endian")),
            None => return Err(truncated(what, EI_NIDENT as u64, file)),
        };
        Header::fields(file, class).ok_or_else(|| truncated(what, class.header_size() as u64, file))
    }

    /// The fields behind `e_ident`, in their order.
    fn fields(file: &[u8], class: Class) -> Option<Header> {
        let mut fields = Fields::at(file, EI_NIDENT)?;
        let (e_type, e_machine, _e_version) = (fields.u16()?, fields.u16()?, fields.u32()?);
        let (e_entry, e_phoff) = (class.word(&mut fields)?, class.word(&mut fields)?);
        let (_e_shoff, _e_flags, _e_ehsize) = (class.word(&mut fields)?, fields.u32()?, fields.u16()?);
        let (e_phentsize, e_phnum) = (fields.u16()?, fields.u16()?);
        Some(Header { class, e_type, e_machine, e_entry, e_phoff, e_phentsize, e_phnum })
    }

    /// Where in the file the table of program headers lies.
    ///
    /// # Errors
    /// [`ElfError::Damaged`] and [`ElfError::TooLarge`] for a table that no file can have.
    pub fn program_headers(&self) -> Result<Range<u64>, ElfError> {
        if self.e_phnum > 0 && usize::from(self.e_phentsize) != self.class.program_header_size() {
            return Err(damaged("its program headers have the wrong size"));
        }
        let size = usize::from(self.e_phentsize).saturating_mul(self.e_phnum.into());
        if size > PROGRAM_HEADERS_MAX {
            return Err(ElfError::TooLarge { size: size as u64, limit: PROGRAM_HEADERS_MAX as u64 });
        }
        Ok(self.e_phoff..self.e_phoff.saturating_add(size as u64))
    }
}

impl ProgramHeader {
    /// The program headers in `table`, the bytes of a whole table, in its order.
    pub fn all(table: &[u8], class: Class) -> impl Iterator<Item = ProgramHeader> {
        let entries = table.chunks_exact(class.program_header_size());
        entries.filter_map(move |entry| ProgramHeader::parse(entry, class))
    }

    /// The fields in their order, which differs: `p_flags` moved forward when addresses grew.
    fn parse(entry: &[u8], class: Class) -> Option<ProgramHeader> {
        let mut fields = Fields::at(entry, 0)?;
        let (p_type, mut p_flags) = (fields.u32()?, 0);
        if class == Class::Elf64 {
            p_flags = fields.u32()?;
        }
        let (p_offset, p_vaddr) = (class.word(&mut fields)?, class.word(&mut fields)?);
        let p_paddr = class.word(&mut fields)?;
        let (p_filesz, p_memsz) = (class.word(&mut fields)?, class.word(&mut fields)?);
        if class == Class::Elf32 {
            p_flags = fields.u32()?;
        }
        let p_align = class.word(&mut fields)?;
        Some(ProgramHeader { p_type, p_flags, p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_align })
    }

    /// Where its bytes lie in the file; `None` if their end is beyond what 64 bits can count.
    pub fn file_range(&self) -> Option<Range<u64>> {
        Some(self.p_offset..self.p_offset.checked_add(self.p_filesz)?)
    }

    /// Where it lies in virtual memory; `None` if its end is beyond what 64 bits can count.
    pub fn memory_range(&self) -> Option<Range<u64>> {
        Some(self.p_vaddr..self.p_vaddr.checked_add(self.p_memsz)?)
    }

    /// Whether it may be loaded at its virtual address, whatever the length of the file is.
    ///
    /// # Errors
    /// [`ElfError::Damaged`] if it has more bytes in the file than in memory, ends beyond the address space or the
    /// largest file, or is not aligned as it says.
    pub fn check(&self) -> Result<(), ElfError> {
        self.check_size()?;
        let apart = self.p_vaddr.abs_diff(self.p_offset);
        let wrong = [
            (self.memory_range().is_none(), "a segment ends beyond the address space"),
            (self.file_range().is_none(), "a segment ends beyond any file"),
            (self.p_align > 1 && !self.p_align.is_power_of_two(), "a segment's alignment is no power of two"),
            (
                self.p_align > 1 && apart & self.p_align.wrapping_sub(1) != 0,
                "a segment lies otherwise in the file than its alignment says",
            ),
        ];
        wrong.iter().find(|(is_wrong, _)| *is_wrong).map_or(Ok(()), |&(_, why)| Err(damaged(why)))
    }

    /// Whether all bytes that the file has have a place in memory.
    ///
    /// # Errors
    /// [`ElfError::Damaged`].
    pub fn check_size(&self) -> Result<(), ElfError> {
        match self.p_filesz > self.p_memsz {
            true => Err(damaged("a segment is larger in the file than in memory")),
            false => Ok(()),
        }
    }
}

impl<'a> Elf<'a> {
    /// Reads the headers of `file`, the bytes of a whole file.
    ///
    /// # Errors
    /// Those of [`Header::parse`] and [`Header::program_headers`], and [`ElfError::Truncated`] if the file ends
    /// before its program headers do.
    pub fn parse(file: &'a [u8]) -> Result<Elf<'a>, ElfError> {
        Elf::new(Header::parse(file)?, file)
    }

    /// The same where its `header` is known.
    ///
    /// # Errors
    /// As [`Elf::parse`].
    pub fn new(header: Header, file: &'a [u8]) -> Result<Elf<'a>, ElfError> {
        let at = header.program_headers()?;
        let end = at.end;
        let program_headers =
            range(file, at).ok_or_else(|| truncated("the program header table", end, file))?;
        Ok(Elf { header, file, program_headers })
    }

    /// All segments, in the order of the table.
    pub fn segments(&self) -> impl Iterator<Item = ProgramHeader> {
        ProgramHeader::all(self.program_headers, self.header.class)
    }

    /// The segments of one type, in the order of the table.
    pub fn segments_of(&self, p_type: u32) -> impl Iterator<Item = ProgramHeader> {
        self.segments().filter(move |segment| segment.p_type == p_type)
    }

    /// The bytes of a segment in the file; the offset of a segment without any does not count. An error calls it
    /// `what`.
    ///
    /// # Errors
    /// [`ElfError::Truncated`] if the file ends before it does.
    pub fn bytes(&self, what: &'static str, segment: &ProgramHeader) -> Result<&'a [u8], ElfError> {
        if segment.p_filesz == 0 {
            return Ok(&[]);
        }
        let bytes = segment.file_range().and_then(|at| range(self.file, at));
        let end = segment.p_offset.saturating_add(segment.p_filesz);
        bytes.ok_or_else(|| truncated(what, end, self.file))
    }

    /// The path of the interpreter, without its zero: the program that loads this one and its libraries. `None` if
    /// this one is static and needs no other file.
    ///
    /// # Errors
    /// [`ElfError::Damaged`] and [`ElfError::Truncated`] for a path that Linux would not take.
    pub fn interpreter(&self) -> Result<Option<&'a [u8]>, ElfError> {
        let what = "the interpreter's path";
        let Some(segment) = self.segments_of(PT_INTERP).next() else { return Ok(None) };
        let wrong = |why| ElfError::Damaged { what, why };
        let path = self.bytes(what, &segment)?;
        if path.len() > INTERPRETER_MAX {
            return Err(wrong("it is longer than any path"));
        }
        // As Linux has it: a zero at the end, and the path is what comes before the first one.
        match path.split(|&byte| byte == 0).next() {
            Some(before) if path.ends_with(&[0]) && !before.is_empty() => Ok(Some(before)),
            _ => Err(wrong("it is empty or does not end with a zero")),
        }
    }
}

fn range(file: &[u8], at: Range<u64>) -> Option<&[u8]> {
    file.get(usize::try_from(at.start).ok()?..usize::try_from(at.end).ok()?)
}

fn truncated(what: &'static str, end: u64, file: &[u8]) -> ElfError {
    ElfError::Truncated { what, end, len: file.len() as u64 }
}

fn damaged(why: &'static str) -> ElfError {
    ElfError::Damaged { what: "the ELF file", why }
}

#[cfg(test)]
mod tests {
    use super::images::{AT, CODE, Image};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_headers_of_both_classes_are_read_whole() {
        for (class, image) in [(Class::Elf64, Image::elf64()), (Class::Elf32, Image::elf32())] {
            let file = image.bytes();
            let elf = Elf::parse(&file).unwrap();
            let Header { e_type, e_machine, e_entry, e_phnum, .. } = elf.header;
            let machine = if class == Class::Elf64 { EM_X86_64 } else { EM_386 };
            assert_eq!(
                (elf.header.class, e_type, e_machine, e_entry, e_phnum),
                (class, ET_EXEC, machine, AT, 1)
            );
            // What a loader does that has only the beginning of a file.
            let header = Header::parse(&file[..class.header_size()]).unwrap();
            assert_eq!(header, elf.header);
            let table = header.program_headers().unwrap();
            let table = &file[table.start as usize..table.end as usize];
            let segments: Vec<_> = ProgramHeader::all(table, class).collect();
            assert_eq!(segments, elf.segments().collect::<Vec<_>>());
            let len = CODE.len() as u64;
            let code = segments[0];
            assert_eq!((code.p_type, code.p_flags), (PT_LOAD, PF_R | PF_X));
            assert_eq!((code.p_vaddr, code.p_paddr, code.p_filesz, code.p_memsz), (AT, AT, len, len));
            assert_eq!(code.memory_range(), Some(AT..AT + len));
            assert_eq!(elf.bytes("the code", &code), Ok(CODE));
            assert_eq!(code.check(), Ok(()));
        }
    }

    #[test]
    fn a_file_cut_anywhere_is_an_error() {
        for file in [Image::elf64().bytes(), Image::elf32().bytes()] {
            let read = |file: &[u8]| {
                let elf = Elf::parse(file)?;
                elf.segments().try_for_each(|segment| elf.bytes("a segment", &segment).map(drop))
            };
            assert_eq!(read(&file), Ok(()));
            for len in 0..file.len() {
                assert!(read(&file[..len]).is_err(), "{len} of {} bytes", file.len());
            }
        }
    }

    #[test]
    fn what_a_segment_says_is_checked_before_it_is_used() {
        let segment = ProgramHeader {
            p_type: PT_LOAD,
            p_flags: PF_R,
            p_offset: 0x1234,
            p_vaddr: 0x40_1234,
            p_paddr: 0,
            p_filesz: 16,
            p_memsz: 32,
            p_align: 0x1000,
        };
        let why = |segment: ProgramHeader| match segment.check() {
            Err(ElfError::Damaged { why, .. }) => why,
            other => panic!("{other:?}"),
        };
        assert_eq!(segment.check(), Ok(()));
        assert_eq!(ProgramHeader { p_align: 0, p_offset: 1, ..segment }.check(), Ok(()));
        assert_eq!(
            why(ProgramHeader { p_filesz: 33, ..segment }),
            "a segment is larger in the file than in memory"
        );
        assert_eq!(
            why(ProgramHeader { p_memsz: u64::MAX, ..segment }),
            "a segment ends beyond the address space"
        );
        assert_eq!(
            why(ProgramHeader { p_offset: u64::MAX - 15, ..segment }),
            "a segment ends beyond any file"
        );
        assert_eq!(
            why(ProgramHeader { p_align: 0x1001, ..segment }),
            "a segment's alignment is no power of two"
        );
        let apart = "a segment lies otherwise in the file than its alignment says";
        assert_eq!(why(ProgramHeader { p_offset: 0x1235, ..segment }), apart);
        assert_eq!(why(ProgramHeader { p_align: 1 << 63, ..segment }), apart);
    }

    #[test]
    fn a_dynamic_program_names_its_interpreter_and_a_static_one_has_none() {
        let with = |path: &[u8]| {
            let file = Image::elf64().interpreter(path).bytes();
            let found = Elf::parse(&file).unwrap().interpreter().map(|path| path.map(<[u8]>::to_vec));
            found.map_err(|error| error.to_string())
        };
        assert_eq!(Elf::parse(&Image::elf64().bytes()).unwrap().interpreter(), Ok(None));
        assert_eq!(with(b"/lib64/ld.so\0"), Ok(Some(b"/lib64/ld.so".to_vec())));
        assert_eq!(with(b"/a\0/b\0"), Ok(Some(b"/a".to_vec())));
        for bad in [&b""[..], b"\0", b"/lib64/ld.so", b"\0/a\0"] {
            assert!(with(bad).unwrap_err().ends_with("it is empty or does not end with a zero"), "{bad:?}");
        }
        let long = [vec![b'a'; 4096], vec![0]].concat();
        assert!(with(&long).unwrap_err().ends_with("it is longer than any path"));
        assert_eq!(with(&long[1..]).unwrap().map(|path| path.len()), Some(4095));
    }

    #[test]
    fn this_very_test_is_read_as_what_it_is() {
        let file = std::fs::read("/proc/self/exe").unwrap();
        let elf = Elf::parse(&file).unwrap();
        assert_eq!(elf.header.class, Class::Elf64);
        assert!([ET_EXEC, ET_DYN].contains(&elf.header.e_type));
        assert!(elf.segments_of(PT_LOAD).count() > 1);
        elf.segments_of(PT_LOAD).for_each(|segment| segment.check().unwrap());
        assert!(elf.interpreter().is_ok());
    }

    proptest! {
        #[test]
        fn damaged_files_never_panic(at in 0_usize..180, bytes in any::<[u8; 8]>(), wide in any::<bool>()) {
            let image = if wide { Image::elf64() } else { Image::elf32() };
            let mut file = image.interpreter(b"/ld\0").notes(&images::note(b"GNU\0", 1, b"1234", 4), 4).bytes();
            let to = file.iter_mut().skip(at).zip(bytes);
            to.for_each(|(to, from)| *to = from);
            if let Ok(elf) = Elf::parse(&file) {
                for segment in elf.segments() {
                    let _ = (segment.check(), segment.file_range(), segment.memory_range());
                    let _ = elf.bytes("a segment", &segment);
                }
                let _ = (elf.interpreter(), notes::find(&elf, |_| false));
            }
        }
    }
}
