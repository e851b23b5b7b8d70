//! Little-endian fields, read one after another from the bytes of a file.

/// What is left to read.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// Reads from byte `offset` of `image`; `None` if it ends before that.
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

    /// The next `N` times four bytes.
    pub fn u32s<const N: usize>(&mut self) -> Option<[u32; N]> {
        let mut words = [0; N];
        for word in &mut words {
            *word = self.u32()?;
        }
        Some(words)
    }

    /// The next eight bytes.
    pub fn u64(&mut self) -> Option<u64> {
        self.next().map(u64::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_little_endian_and_end_with_the_image() {
        let image: Vec<u8> = (1..=15).collect();
        let mut fields = Fields::at(&image, 1).unwrap();
        assert_eq!(fields.u16(), Some(0x0302));
        assert_eq!(fields.u32s(), Some([0x0706_0504]));
        assert_eq!(fields.u64(), Some(0x0f0e_0d0c_0b0a_0908));
        assert_eq!(fields.u16(), None);
        assert!(Fields::at(&image, 16).is_none());
    }
}
