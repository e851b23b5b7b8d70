//! One string of bytes, three processors: the program of chapter 3.
//!
//! expect: real mode: the guest found 16 bits
//! expect: protected mode: the guest found 32 bits
//! expect: long mode: the guest found 64 bits
use matchstick::kvm::{Exit, Kvm, Memory};
use matchstick::x86::segment::GDT;
use matchstick::x86::{Entry, Mode, identity_map};
use matchstick::{Bytes, GuestAddress};
use std::error::Error;

// ANCHOR: guest
/// What these bytes mean depends on the mode of the processor that reads them. Each line is one instruction in
/// 64-bit code; what it is elsewhere stands behind it.
const GUEST: &[u8] = &[
    0x31, 0xc0, //                   xor eax, eax
    0x40, 0x90, //                   nop with a prefix; in 16 and 32 bits: inc eax, then nop
    0xb9, 0x00, 0x00, 0x41, 0x90, // mov ecx, 0x90410000; in 16 bits: mov cx, 0; inc cx; nop
    0x00, 0xc8, //                   add al, cl: 0 in 64 bits, 1 in 32, 2 in 16
    0xe6, 0xf4, //                   out 0xf4, al
];
// ANCHOR_END: guest

// ANCHOR: modes
fn main() -> Result<(), Box<dyn Error>> {
    for (name, mode) in [("real", real as Prepare), ("protected", protected), ("long", long)] {
        let mut vm = Kvm::open()?.create_vm()?;
        let memory = vm.add_memory(2 << 20)?;
        memory.write_slice(GUEST, GuestAddress(0x7c00))?;
        let entry = Entry::at(mode(memory)?, 0x7c00);
        let mut vcpu = vm.create_vcpu(0)?;
        vcpu.enter(&entry);
        let Exit::Out { port: 0xf4, data: &[found], .. } = vcpu.run()? else {
            return Err("the guest did something else".into());
        };
        println!("{name} mode: the guest found {} bits", ["64", "32", "16"][usize::from(found)]);
    }
    Ok(())
}

type Prepare = fn(&Memory) -> Result<Mode, Box<dyn Error>>;

fn real(_: &Memory) -> Result<Mode, Box<dyn Error>> {
    Ok(Mode::Real)
}

/// The segments are in the registers already: no table is needed until the guest loads another.
fn protected(_: &Memory) -> Result<Mode, Box<dyn Error>> {
    Ok(Mode::Protected)
}

/// Long mode exists only with paging, so it needs tables: each page is given the address it has anyway.
fn long(memory: &Memory) -> Result<Mode, Box<dyn Error>> {
    let cr3 = identity_map::write(memory, 2 << 20)?;
    let gdt = 0x7000;
    memory.write_slice(GDT.map(u64::to_le_bytes).as_flattened(), GuestAddress(gdt))?;
    Ok(Mode::Long { cr3, gdt: (gdt, size_of_val(&GDT) as u16 - 1) })
}
// ANCHOR_END: modes
