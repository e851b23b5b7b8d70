//! ELF files made by hand, for tests.

use super::Class;

/// Where the code of an image is loaded.
pub const AT: u64 = 0x10_0000;
/// The code: it is never run.
pub const CODE: &[u8] = b"\xf4\xeb\xfdcode";

/// An ELF file: file header, program headers, then the segments' bytes.
#[derive(Debug, Clone)]
pub struct Image {
    pub class: Class,
    pub entry: u64,
    pub segments: Vec<Segment>,
}

#[derive(Debug, Clone)]
pub struct Segment {
    p_type: u32,
    p_paddr: u64,
    bytes: Vec<u8>,
    p_memsz: u64,
    p_align: u64,
}

impl Image {
    /// ELF64 with [`CODE`] at [`AT`], entered there.
    pub fn elf64() -> Image {
        let empty = Image { class: Class::Elf64, entry: AT, segments: Vec::new() };
        empty.load(AT, CODE, CODE.len() as u64)
    }

    /// The same as ELF32.
    pub fn elf32() -> Image {
        Image { class: Class::Elf32, ..Image::elf64() }
    }

    /// One more segment to load.
    pub fn load(mut self, p_paddr: u64, bytes: &[u8], p_memsz: u64) -> Image {
        self.segments.push(Segment { p_type: 1, p_paddr, bytes: bytes.to_vec(), p_memsz, p_align: 1 });
        self
    }

    /// A note segment.
    pub fn notes(mut self, bytes: &[u8], p_align: u64) -> Image {
        self.segments.push(Segment { p_type: 4, p_paddr: 0, bytes: bytes.to_vec(), p_memsz: 0, p_align });
        self
    }

    /// An interpreter's path.
    pub fn interpreter(mut self, path: &[u8]) -> Image {
        self.segments.push(Segment { p_type: 3, p_paddr: 0, bytes: path.to_vec(), p_memsz: 0, p_align: 1 });
        self
    }

    /// Puts `header` in front of the code, as the first bytes of its segment.
    pub fn with_header(mut self, header: &[u8]) -> Image {
        let code = &mut self.segments[0];
        code.bytes.splice(..0, header.iter().copied());
        code.p_memsz += header.len() as u64;
        self
    }

    /// The file.
    pub fn bytes(&self) -> Vec<u8> {
        let wide = self.class == Class::Elf64;
        let (ehsize, phentsize) = if wide { (64_u16, 56_u16) } else { (52, 32) };
        let machine: u16 = if wide { 62 } else { 3 };
        let word = |value: u64| {
            let bytes = value.to_le_bytes();
            if wide { bytes.to_vec() } else { bytes[..4].to_vec() }
        };
        let mut file = vec![0x7f, b'E', b'L', b'F', if wide { 2 } else { 1 }, 1, 1];
        file.resize(16, 0);
        for half in [2, machine, 1, 0] {
            file.extend(half.to_le_bytes());
        }
        file.extend(word(self.entry));
        file.extend(word(ehsize.into()));
        file.extend(word(0));
        for half in [0, 0, ehsize, phentsize, self.segments.len() as u16, 0, 0, 0] {
            file.extend(half.to_le_bytes());
        }
        // Multiboot headers want 4 bytes.
        let mut offset = (file.len() + usize::from(phentsize) * self.segments.len()).next_multiple_of(4);
        for segment in &self.segments {
            let flags = 5_u32.to_le_bytes();
            file.extend(segment.p_type.to_le_bytes());
            file.extend(flags.iter().filter(|_| wide));
            for value in [offset as u64, segment.p_paddr, segment.p_paddr] {
                file.extend(word(value));
            }
            file.extend(word(segment.bytes.len() as u64));
            file.extend(word(segment.p_memsz));
            file.extend(flags.iter().filter(|_| !wide));
            file.extend(word(segment.p_align));
            offset += segment.bytes.len();
        }
        file.resize(file.len().next_multiple_of(4), 0);
        file.extend(self.segments.iter().flat_map(|segment| &segment.bytes));
        file
    }
}

/// An ELF note, padded to `align`.
pub fn note(name: &[u8], kind: u32, desc: &[u8], align: usize) -> Vec<u8> {
    let mut note = Vec::new();
    for field in [name.len() as u32, desc.len() as u32, kind] {
        note.extend(field.to_le_bytes());
    }
    for part in [name, desc] {
        note.extend(part);
        note.resize(note.len().next_multiple_of(align), 0);
    }
    note
}
