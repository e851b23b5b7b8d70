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

/// 64-bit code for `--boot flat64` that prints `data`, then the low bytes of `count` down to 1 one by one, and
/// goes down: there is no IDT, so UD2 is a triple fault. (In real mode it is a jump through address 24.)
pub fn crash(data: &[u8], count: u32) -> Vec<u8> {
    let head = |address: u32| {
        let mut code = vec![0xba, 0xf8, 0x03, 0x00, 0x00]; // mov edx, 0x3f8
        code.push(0xb9); // mov ecx, the length of data
        code.extend((data.len() as u32).to_le_bytes());
        code.push(0xbe); // mov esi, the address of data
        code.extend(address.to_le_bytes());
        code.extend([0xf3, 0x6e]); // rep outsb
        code.push(0xb9); // mov ecx, count
        code.extend(count.to_le_bytes());
        code.extend([0x88, 0xc8, 0xee, 0xe2, 0xfb]); // again: mov al, cl; out dx, al; loop again
        code.extend([0x0f, 0x0b]); // ud2
        code
    };
    let end = 0x10_0000 + head(0).len() as u32;
    [&head(end), data].concat()
}

/// 64-bit code for `--boot flat64` that goes down to ring 3 and runs `user` there, at [`RING_3_CODE`]. Ring 3 may use the
/// first 2 MiB of memory and the I/O ports. All other memory is ring 0's.
pub fn ring_3(user: &[u8]) -> Vec<u8> {
    #[rustfmt::skip]
    let mut image = [
        // The U bit in PML4[0], PDPT[0] and PD[0]: or byte [0x9000], 4 and so on
        &[0x80, 0x0c, 0x25, 0x00, 0x90, 0x00, 0x00, 0x04][..],
        &[0x80, 0x0c, 0x25, 0x00, 0xa0, 0x00, 0x00, 0x04],
        &[0x80, 0x0c, 0x25, 0x00, 0xb0, 0x00, 0x00, 0x04],
        &[0xb8, 0x00, 0x90, 0x00, 0x00, 0x0f, 0x22, 0xd8], // mov eax, 0x9000; mov cr3, rax
        &[0x0f, 0x01, 0x14, 0x25, 0xc8, 0x00, 0x10, 0x00], // lgdt [0x1000c8]
        // The I/O permission bitmap begins at byte 0x68 of the TSS at 0x30000. All of it is zero: allowed.
        &[0x66, 0xc7, 0x04, 0x25, 0x66, 0x00, 0x03, 0x00, 0x68, 0x00], // mov word [0x30066], 0x68
        &[0x66, 0xb8, 0x38, 0x00, 0x0f, 0x00, 0xd8], // mov ax, 0x38; ltr ax
        &[0x8a, 0x04, 0x25, 0x00, 0x00, 0x20, 0x00], // mov al, [0x200000]: ring 0 has used its page
        &[0x6a, 0x2b],                      // push 0x2b: SS
        &[0x68, 0x00, 0x80, 0x01, 0x00],    // push 0x18000: RSP
        &[0x6a, 0x02],                      // push 2: RFLAGS
        &[0x6a, 0x33],                      // push 0x33: CS
        &[0x68, 0x00, 0x01, 0x10, 0x00],    // push 0x100100: RIP
        &[0x48, 0xcf],                      // iretq
    ].concat();
    image.resize(0x80, 0);
    let gdt: [u64; 9] = [
        0,
        0,
        0x00af_9b00_0000_ffff, // 0x10: code, 64 bits
        0x00cf_9300_0000_ffff, // 0x18: data
        0,
        0x00cf_f300_0000_ffff, // 0x28: data of ring 3
        0x00af_fb00_0000_ffff, // 0x30: code of ring 3, 64 bits
        0x0000_8903_0000_2067, // 0x38: TSS with an I/O permission bitmap for all ports
        0,
    ];
    image.extend(gdt.iter().flat_map(|entry| entry.to_le_bytes()));
    image.extend([0x47, 0x00]); // the pointer to it: its limit and its base
    image.extend(0x10_0080_u64.to_le_bytes());
    image.resize((RING_3_CODE - 0x10_0000) as usize, 0);
    image.extend(user);
    image
}

/// Where the code lies that [`ring_3`] runs.
pub const RING_3_CODE: u32 = 0x10_0100;

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
