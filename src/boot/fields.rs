//! Little-endian fields, read one after another from the bytes of an image.

/// What is left to read.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// Reads from byte `offset` of `image`; `None` if the image ends before it.
    pub fn at(image: &'a [u8], offset: usize) -> Option<Fields<'a>> {
        image.get(offset..).map(Fields)
    }

    fn next<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }

    /// The next two bytes.
    pub fn u16(&mut self) -> Option<u16> {
        self.next().map(u16::from_le_bytes)
    }

    /// The next four bytes.
    pub fn u32(&mut self) -> Option<u32> {
        self.next().map(u32::from_le_bytes)
    }

    /// The next eight bytes.
    pub fn u64(&mut self) -> Option<u64> {
        self.next().map(u64::from_le_bytes)
    }
}
