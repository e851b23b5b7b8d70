//! ELF notes: what an executable says about itself beside its headers.
//!
//! Only found and taken apart; what a note means is said where it is looked for. Source: System V gABI, chapter 5,
//! "Note Section".

use super::{Elf, ElfError, PT_NOTE};
use crate::fields::Fields;

/// What errors call one.
const WHAT: &str = "an ELF note";
/// Bytes of a note before its name: `namesz`, `descsz` and `type`.
const HEADER: usize = 12;

/// One note.
pub struct Note<'a> {
    /// What it is about, by its owner's numbers.
    pub kind: u32,
    /// Its owner, with the terminating zero.
    pub name: &'a [u8],
    /// What it says, without padding.
    pub desc: &'a [u8],
}

/// The first note of `elf` that is wanted.
///
/// # Errors
/// [`ElfError::Damaged`] and [`ElfError::Truncated`] for notes that do not hold together.
pub fn find<'a>(elf: &Elf<'a>, wanted: impl Fn(&Note) -> bool) -> Result<Option<Note<'a>>, ElfError> {
    let damaged = ElfError::Damaged { what: WHAT, why: "it ends after its segment" };
    for segment in elf.segments_of(PT_NOTE) {
        let mut notes = elf.bytes(WHAT, &segment)?;
        // 8, or 4 if not told.
        let align = if segment.p_align == 8 { 8 } else { 4 };
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
    use super::super::images::{Image, note};
    use super::*;

    #[test]
    fn a_note_is_found_among_others_at_either_alignment() {
        for align in [4, 8] {
            let notes = [note(b"GNU\0", 3, b"12345", align), note(b"Xen\0", 18, &[7; 8], align)].concat();
            let file = Image::elf64().notes(&notes, align as u64).bytes();
            let elf = Elf::parse(&file).unwrap();
            let found = find(&elf, |note| note.kind == 18).unwrap().unwrap();
            assert_eq!((found.name, found.desc), (&b"Xen\0"[..], &[7; 8][..]));
            assert_eq!(found.address(), Some(0x0707_0707_0707_0707));
            assert!(find(&elf, |note| note.name == b"Linux\0").unwrap().is_none());
        }
    }

    #[test]
    fn a_note_that_ends_after_its_segment_is_damaged() {
        let file = Image::elf64().notes(&[0xff; 12], 4).bytes();
        let error = find(&Elf::parse(&file).unwrap(), |_| true).err().unwrap();
        assert_eq!(error.to_string(), "an ELF note is damaged: it ends after its segment");
    }
}
