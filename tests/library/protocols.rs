//! Every boot protocol on a real processor: hand-made kernels of a few instructions that look where their
//! protocol says the command line is, print it and leave with status 0, or with 1 if they were not entered
//! as promised.
//!
//! What a loader does with damaged images is tested beside the loaders, without KVM.

use crate::support;
use matchstick::boot::Protocol;
use matchstick::machine::{Config, Image, Machine, Outcome};
use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Where the kernels are linked.
const BASE: u32 = 0x10_0000;

/// 32- and 64-bit code alike: prints the string at ESI up to its zero byte and ends with status 0.
const PRINT_AND_LEAVE: &[u8] = &[
    0x66, 0xba, 0xf8, 0x03, // mov dx, 0x3f8
    0xac, //                   next: lodsb
    0x84, 0xc0, //             test al, al
    0x74, 0x03, //             jz done
    0xee, //                   out dx, al
    0xeb, 0xf8, //             jmp next
    0x66, 0xba, 0xf4, 0x00, // done: mov dx, 0xf4
    0x30, 0xc0, //             xor al, al
    0xee, //                   out dx, al
];

/// Ends with status 1, unless the comparison before it found what it should: it skips itself then.
const LEAVE_UNLESS_EQUAL: &[u8] = &[
    0x74, 0x07, //             je over
    0x66, 0xba, 0xf4, 0x00, // mov dx, 0xf4
    0xb0, 0x01, //             mov al, 1
    0xee, //                   out dx, al
];

/// EAX holds Multiboot's magic number, EBX points to the information structure.
fn multiboot_code() -> Vec<u8> {
    const CHECK: &[u8] = &[0x3d, 0x02, 0xb0, 0xad, 0x2b]; // cmp eax, 0x2badb002
    const CMDLINE: &[u8] = &[0x8b, 0x73, 0x10]; //          mov esi, [ebx + 16]
    [CHECK, LEAVE_UNLESS_EQUAL, CMDLINE, PRINT_AND_LEAVE].concat()
}

/// EBX points to the start info, which begins with its magic number.
fn pvh_code() -> Vec<u8> {
    const CHECK: &[u8] = &[0x81, 0x3b, 0x78, 0xc5, 0x6e, 0x33]; // cmp dword [ebx], 0x336ec578
    const CMDLINE: &[u8] = &[0x8b, 0x73, 0x18]; //                mov esi, [ebx + 24]
    [CHECK, LEAVE_UNLESS_EQUAL, CMDLINE, PRINT_AND_LEAVE].concat()
}

/// RSI points to the zero page, in which the setup header's signature stands at 0x202.
fn elf_code() -> Vec<u8> {
    const CHECK: &[u8] = &[0x81, 0xbe, 0x02, 0x02, 0, 0, b'H', b'd', b'r', b'S']; // cmp dword [rsi + 0x202], "HdrS"
    const CMDLINE: &[u8] = &[0x8b, 0xb6, 0x28, 0x02, 0, 0]; //                       mov esi, [rsi + 0x228]
    [CHECK, LEAVE_UNLESS_EQUAL, CMDLINE, PRINT_AND_LEAVE].concat()
}

/// Multiboot's header: magic, flags, checksum, then whatever the flags promise.
fn multiboot_header(flags: u32, more: &[u32]) -> Vec<u8> {
    const MAGIC: u32 = 0x1bad_b002;
    let checksum = 0_u32.wrapping_sub(MAGIC).wrapping_sub(flags);
    [&[MAGIC, flags, checksum], more].concat().iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// An ELF file whose only segment is `code` at [`BASE`], entered `entry` bytes into it, and perhaps a note.
fn elf(bits: u32, code: &[u8], entry: u32, note: &[u8]) -> Vec<u8> {
    let wide = bits == 64;
    let word = |value: u32| {
        if wide { u64::from(value).to_le_bytes().to_vec() } else { value.to_le_bytes().to_vec() }
    };
    let half = |value: u16| value.to_le_bytes().to_vec();
    let (header_size, entry_size): (u32, u32) = if wide { (64, 56) } else { (52, 32) };
    let program_header = |kind: u32, offset: u32, address: u32, size: u32| {
        let (kind, flags) = (kind.to_le_bytes().to_vec(), 7_u32.to_le_bytes().to_vec());
        let place = [word(offset), word(address), word(address), word(size), word(size)].concat();
        match wide {
            true => [kind, flags, place, word(4)].concat(),
            false => [kind, place, flags, word(4)].concat(),
        }
    };
    let count = if note.is_empty() { 1 } else { 2 };
    let offset = header_size + count * entry_size;
    let class = if wide { 2 } else { 1 };
    let mut file = vec![0x7f, b'E', b'L', b'F', class, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    file.extend([half(2), half(if wide { 62 } else { 3 }), 1_u32.to_le_bytes().to_vec()].concat());
    file.extend([word(BASE + entry), word(header_size), word(0), 0_u32.to_le_bytes().to_vec()].concat());
    file.extend([half(header_size as u16), half(entry_size as u16), half(count as u16)].concat());
    file.extend([half(0), half(0), half(0)].concat());
    const PT_LOAD: u32 = 1;
    const PT_NOTE: u32 = 4;
    file.extend(program_header(PT_LOAD, offset, BASE, code.len() as u32));
    if count == 2 {
        file.extend(program_header(PT_NOTE, offset + code.len() as u32, 0, note.len() as u32));
    }
    [&file, code, note].concat()
}

/// The note that makes an ELF file a PVH kernel, entered at `BASE + entry`.
fn pvh_note(entry: u32) -> Vec<u8> {
    let words = [4, 4, 18, u32::from_le_bytes(*b"Xen\0"), BASE + entry];
    words.iter().flat_map(|word: &u32| word.to_le_bytes()).collect()
}

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Boots `image` with a command line and expects to read it back.
fn boots(test: &str, protocol: Option<Protocol>, image: &[u8]) {
    if !support::has_kvm() {
        return;
    }
    let config = Config {
        protocol,
        cmdline: b"one two=3".to_vec(),
        timeout: Some(Duration::from_secs(10)),
        ..Config::default()
    };
    let written = Written::default();
    let mut machine =
        Machine::new(&config, Image { name: test, bytes: image }, Box::new(written.clone())).unwrap();
    let outcome = machine.run().unwrap();
    assert!(matches!(outcome, Outcome::Exited(0)), "{outcome:?}");
    assert_eq!(String::from_utf8_lossy(&written.0.lock().unwrap()), "one two=3");
}

#[test]
fn elf64_is_entered_in_long_mode_with_the_zero_page_in_rsi() {
    boots("elf64", None, &elf(64, &elf_code(), 0, &[]));
}

#[test]
fn multiboot_enters_an_elf32_file() {
    let header = multiboot_header(0, &[]);
    let code = [header.clone(), multiboot_code()].concat();
    boots("multiboot, ELF32", None, &elf(32, &code, header.len() as u32, &[]));
}

#[test]
fn multiboot_enters_an_elf64_file_in_32_bit_mode() {
    let header = multiboot_header(0, &[]);
    let code = [header.clone(), multiboot_code()].concat();
    boots("multiboot, ELF64", None, &elf(64, &code, header.len() as u32, &[]));
}

#[test]
fn multiboot_enters_an_image_that_gives_its_addresses_itself() {
    const ADDRESSES: u32 = 1 << 16;
    // header_addr, load_addr, load_end_addr (0: all of the file), bss_end_addr, entry_addr
    let header = multiboot_header(ADDRESSES, &[BASE, BASE, 0, 0, BASE + 32]);
    assert_eq!(header.len(), 32);
    boots("multiboot, addresses", None, &[header, multiboot_code()].concat());
}

#[test]
fn pvh_enters_at_the_address_of_its_note() {
    // The entry point of the file itself would end with status 1.
    let trap = [&[0x30, 0xc0, 0x04, 0x01][..], LEAVE_UNLESS_EQUAL].concat();
    let code = [trap.clone(), pvh_code()].concat();
    let note = pvh_note(trap.len() as u32);
    boots("pvh, ELF32", None, &elf(32, &code, 0, &note));
    boots("pvh, ELF64", Some(Protocol::Pvh), &elf(64, &code, 0, &note));
}

#[test]
fn flat_images_are_entered_where_they_are_put() {
    if !support::has_kvm() {
        return;
    }
    // Each leaves with a status that only its own mode computes: 48 dec eax / REX.W prefix.
    const FLAT64: &[u8] = &[
        0x31, 0xc0, //             xor eax, eax
        0x48, 0xff, 0xc0, //       inc rax (in 32-bit code: dec eax, inc eax)
        0x66, 0xba, 0xf4, 0x00, // mov dx, 0xf4
        0xee, //                   out dx, al
    ];
    const FLAT16: &[u8] = &[
        0xe8, 0x00, 0x00, // call the next instruction: pushes 0x7c03
        0x58, //             pop ax
        0xba, 0xf4, 0x00, // mov dx, 0xf4 (in 32-bit code this would swallow more bytes)
        0xee, //             out dx, al
    ];
    for (protocol, image, status) in [(Protocol::Flat64, FLAT64, 1), (Protocol::Flat16, FLAT16, 3)] {
        let config =
            Config { protocol: Some(protocol), timeout: Some(Duration::from_secs(10)), ..Config::default() };
        let mut machine =
            Machine::new(&config, Image { name: "flat", bytes: image }, Box::new(io::sink())).unwrap();
        let outcome = machine.run().unwrap();
        assert!(matches!(outcome, Outcome::Exited(n) if n == status), "{protocol}: {outcome:?}");
    }
}
