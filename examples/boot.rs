//! A loader for ELF in thirty lines: the program of chapter 6.
//!
//! expect: real       flat16
//! expect: hello      elf
//! expect: hello is entered at 0x100*
//! expect: Hello from a virtual machine!
//! expect: hello ended with status 0
use matchstick::boot;
use matchstick::guest::Guest;
use matchstick::kvm::{Exit, Kvm, Memory};
use matchstick::x86::segment::GDT;
use matchstick::x86::{Entry, Mode, identity_map};
use matchstick::{Bytes, GuestAddress};
use std::error::Error;
use std::io::Write;

const MEMORY: u64 = 2 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    // ANCHOR: detect
    for name in ["real", "hello"] {
        let guest = Guest::find(name).ok_or("it is not in the gallery")?;
        println!("{name:10} {}", boot::detect(guest.image)?);
    }
    // ANCHOR_END: detect

    let image = Guest::find("hello").ok_or("it is not in the gallery")?.image;
    let mut vm = Kvm::open()?.create_vm()?;
    let entry = load(image, vm.add_memory(MEMORY)?)?;
    println!("hello is entered at {:#x}", entry.rip);
    let mut vcpu = vm.create_vcpu(0)?;
    vcpu.enter(&entry);
    loop {
        match vcpu.run()? {
            Exit::Out { port: 0x3f8, data, .. } => std::io::stdout().write_all(data)?,
            Exit::Out { port: 0xf4, data: &[status], .. } => {
                println!("hello ended with status {status}");
                return Ok(());
            }
            other => return Err(format!("not expected: {other:?}").into()),
        }
    }
}

// ANCHOR: loader
/// Copies the segments of an ELF64 file to where they want to be, and says how it is entered.
///
/// It trusts the file, which only an example may do.
fn load(image: &[u8], memory: &Memory) -> Result<Entry, Box<dyn Error>> {
    if !image.starts_with(b"\x7fELF\x02\x01") {
        return Err("this is no little-endian ELF64 file".into());
    }
    let e_entry = number(image, 24, 8);
    let (e_phoff, e_phentsize, e_phnum) = (number(image, 32, 8), number(image, 54, 2), number(image, 56, 2));
    for n in 0..e_phnum {
        let header = &image[(e_phoff + n * e_phentsize) as usize..];
        const PT_LOAD: u64 = 1;
        if number(header, 0, 4) != PT_LOAD {
            continue;
        }
        let (p_offset, p_paddr, p_filesz) =
            (number(header, 8, 8) as usize, number(header, 24, 8), number(header, 32, 8) as usize);
        // What it has more in memory than in the file is zero, as all memory is at the start.
        memory.write_slice(&image[p_offset..p_offset + p_filesz], GuestAddress(p_paddr))?;
    }
    let (cr3, gdt) = (identity_map::write(memory, MEMORY)?, 0x7000);
    memory.write_slice(GDT.map(u64::to_le_bytes).as_flattened(), GuestAddress(gdt))?;
    Ok(Entry::at(Mode::Long { cr3, gdt: (gdt, size_of_val(&GDT) as u16 - 1) }, e_entry))
}

/// A little-endian number of `size` bytes.
fn number(bytes: &[u8], at: usize, size: usize) -> u64 {
    bytes[at..at + size].iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte))
}
// ANCHOR_END: loader
