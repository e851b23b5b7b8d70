//! ELF notes: what an executable says about itself beside its headers.
//!
//! Only found and taken apart; what a note means is said where it is looked for. Source: System V gABI, chapter 5,
//! "Note Section"; for the owners and types, Xen, public/elfnote.h, and Linux, include/linux/elfnote.h.

use super::elf::Elf;
use super::fields::Fields;
use crate::error::ImageError;

/// The owner of Xen's notes, among them the one with PVH's entry point. Names end with a zero.
pub const XEN_NAME: &[u8] = b"Xen\0";
/// Xen's note that names the operating system.
const XEN_ELFNOTE_GUEST_OS: u32 = 6;
/// The owner of Linux's own notes, which every kernel since 4.19 has.
const LINUX_NAME: &[u8] = b"Linux\0";

/// What errors call them.
pub const WHAT: &str = "the ELF notes";
/// Bytes of a note before its name: `namesz`, `descsz` and `type`.
const HEADER: usize = 12;

/// One note.
pub struct Note<'a> {
    /// What it is about, by its owner's numbers.
    pub kind: u32,
    /// Its owner, with the terminating zero.
    pub name: &'a [u8],
    desc: &'a [u8],
}

/// The first note of `elf` that is wanted.
///
/// # Errors
/// [`ImageError::Damaged`] and [`ImageError::Truncated`] for notes that do not hold together.
pub fn find<'a>(elf: &Elf<'a>, wanted: impl Fn(&Note) -> bool) -> Result<Option<Note<'a>>, ImageError> {
    let damaged = ImageError::Damaged { what: WHAT, why: "a note ends after its segment" };
    for segment in elf.notes() {
        let (mut notes, align) = segment?;
        // Fewer bytes than a note's header are padding.
        while notes.len() >= HEADER {
            let Some((note, rest)) = Note::split(notes, align) else { return Err(damaged) };
            if wanted(&note) {
                return Ok(Some(note));
            }
            notes = rest;
        }
    }
    Ok(None)
}

/// Whether `elf` says that it is Linux.
pub fn is_linux(elf: &Elf) -> bool {
    let says_so = |note: &Note| {
        note.name == LINUX_NAME
            || (note.name, note.kind) == (XEN_NAME, XEN_ELFNOTE_GUEST_OS) && note.desc.starts_with(b"linux")
    };
    find(elf, says_so).is_ok_and(|note| note.is_some())
}

impl<'a> Note<'a> {
    /// The first of `notes`, and the others. Name and descriptor are padded to `align` bytes.
    fn split(notes: &'a [u8], align: usize) -> Option<(Note<'a>, &'a [u8])> {
        let [namesz, descsz, kind] = Fields::at(notes, 0)?.u32s()?;
        let (namesz, descsz) = (namesz as usize, descsz as usize);
        let name_end = HEADER.checked_add(namesz)?;
        let name = notes.get(HEADER..name_end)?;
        let desc_at = name_end.checked_next_multiple_of(align)?;
        let desc_end = desc_at.checked_add(descsz)?;
        let desc = notes.get(desc_at..desc_end)?;
        // The last note's padding may be missing.
        let rest = notes.get(desc_end.next_multiple_of(align)..).unwrap_or_default();
        Some((Note { kind, name, desc }, rest))
    }

    /// The descriptor as an address, as wide as the file's class or 32 bits.
    pub fn address(&self) -> Option<u64> {
        let mut fields = Fields::at(self.desc, 0)?;
        match self.desc.len() {
            4 => fields.u32().map(u64::from),
            8 => fields.u64(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::images::{Image, note, pvh_note};
    use super::*;

    #[test]
    fn a_linux_says_so_in_a_note_of_its_own_or_of_xen_s() {
        let others = [note(b"GNU\0", 3, b"1234", 4), pvh_note()].concat();
        let with = |more: &[u8]| {
            let image = Image::elf64().notes(&[&others, more].concat(), 4).bytes();
            is_linux(&Elf::parse(&image).unwrap())
        };
        assert!(with(&note(b"Linux\0", 0x100, b"6.1.0\0", 4)));
        assert!(with(&note(b"Xen\0", 6, b"linux\0", 4)));
        assert!(!with(&note(b"Xen\0", 6, b"NetBSD\0", 4)));
        assert!(!with(&note(b"Xen\0", 5, b"linux\0", 4)));
        assert!(!with(&[]));
        // Notes that do not hold together say nothing.
        assert!(!with(&[0xff; 12]));
    }
}
