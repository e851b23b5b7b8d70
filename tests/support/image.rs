//! Images made byte by byte, for what no guest of the gallery does.

/// Real-mode code at 0x7c00 as a boot sector, signed at its end. Code longer than a sector goes on behind it.
pub fn boot_sector(parts: &[&[u8]]) -> Vec<u8> {
    let code = parts.concat();
    assert!(code.len() <= 510, "{} bytes do not fit a boot sector", code.len());
    let mut sector = code;
    sector.resize(510, 0);
    sector.extend([0x55, 0xaa]);
    sector
}

/// Real-mode instructions that several images share.
pub mod code {
    /// `mov dx, 0x3f8`: the serial port.
    pub const SERIAL: &[u8] = &[0xba, 0xf8, 0x03];
    /// `mov al, 'A'; out dx, al`
    pub const PUT_A: &[u8] = &[0xb0, b'A', 0xee];
    /// `jmp $`: for ever.
    pub const LOOP: &[u8] = &[0xeb, 0xfe];
    /// `cli; hlt`: nothing will wake it.
    pub const HALT: &[u8] = &[0xfa, 0xf4];
    /// `lidt [0x7c00 + 508]` (four zeroes and the signature: no gates), `ud2`: a triple fault.
    pub const CRASH: &[u8] = &[0x0f, 0x01, 0x1e, 0xf8, 0x7d, 0x0f, 0x0b];

    /// `mov al, status; out 0xf4, al`
    pub fn exit(status: u8) -> [u8; 4] {
        [0xb0, status, 0xe6, 0xf4]
    }

    /// `mov cx, count`
    pub fn count(count: u16) -> [u8; 3] {
        let [low, high] = count.to_le_bytes();
        [0xb9, low, high]
    }

    /// `mov si, address`
    pub fn from(address: u16) -> [u8; 3] {
        let [low, high] = address.to_le_bytes();
        [0xbe, low, high]
    }

    /// `mov di, address`
    pub fn to(address: u16) -> [u8; 3] {
        let [low, high] = address.to_le_bytes();
        [0xbf, low, high]
    }
}

/// A segment of an [`elf`].
pub struct Segment<'a> {
    /// Where it goes in guest-physical memory.
    pub address: u64,
    pub bytes: &'a [u8],
    /// Its size in memory.
    pub size: u64,
}

/// An ELF64 executable for x86-64 (System V gABI, chapters 4 and 5), its segments behind the headers.
pub fn elf(entry: u64, segments: &[Segment]) -> Vec<u8> {
    const HEADER: usize = 64;
    const PROGRAM_HEADER: usize = 56;
    let mut image = vec![0x7f, b'E', b'L', b'F', 2, 1, 1];
    image.resize(16, 0);
    image.extend(2u16.to_le_bytes()); // e_type: an executable
    image.extend(62u16.to_le_bytes()); // e_machine: x86-64
    image.extend(1u32.to_le_bytes());
    image.extend(entry.to_le_bytes());
    image.extend((HEADER as u64).to_le_bytes()); // e_phoff
    image.extend([0; 12]); // e_shoff, e_flags
    for half in [HEADER, PROGRAM_HEADER, segments.len(), 0, 0, 0] {
        image.extend((half as u16).to_le_bytes());
    }
    let mut offset = HEADER + PROGRAM_HEADER * segments.len();
    for segment in segments {
        image.extend(1u32.to_le_bytes()); // PT_LOAD
        image.extend(7u32.to_le_bytes()); // readable, writable, executable
        let file_size = segment.bytes.len() as u64;
        for word in [offset as u64, segment.address, segment.address, file_size, segment.size, 1] {
            image.extend(word.to_le_bytes());
        }
        offset += segment.bytes.len();
    }
    for segment in segments {
        image.extend(segment.bytes);
    }
    image
}
