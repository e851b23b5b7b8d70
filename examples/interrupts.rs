//! A message that makes a sleeping processor jump: the program of chapter 7.
//!
//! needs: iretq
//! expect: guest: ready
//! expect: host: sent vector 0x30
//! expect: guest: the handler runs
//! expect: guest: awake again
use matchstick::boot::{self, Payload, Protocol};
use matchstick::kvm::{Exit, Kvm};
use matchstick::{Bytes, GuestAddress};
use std::error::Error;

#[macro_use]
mod guest;

// ANCHOR: addresses
/// Where this example puts the interrupt descriptor table: any free page will do.
const IDT: u64 = 0x1_0000;
/// The vector: any number above the 32 exceptions.
const VECTOR: u64 = 0x30;
/// Where the handler begins: the guest is loaded to 1 MiB, and the handler is aligned to the next 256 bytes.
const HANDLER: u64 = 0x10_0100;
// ANCHOR_END: addresses

fn main() -> Result<(), Box<dyn Error>> {
    // ANCHOR: guest
    let guest = guest! {
        "lidt [0x11000]" //                        where the table is: two bytes of limit, eight of address
        "mov ebx, 0xfee00000" //                   the local APIC
        "mov dword ptr [rbx + 0xf0], 0x1ff" //     bit 8 of the spurious vector register switches it on
        "mov al, 1"
        "out 0x80, al" //                          ready
        "sti" //                                   from here on, whatever comes is taken
        "hlt" //                                   asleep
        "mov al, 3" //                             back from the handler, which has come instead of this
        "out 0x80, al"
        "cli"
        "hlt"
        ".p2align 8"
        "push rax"
        "mov al, 2"
        "out 0x80, al"
        "mov ebx, 0xfee00000"
        "mov dword ptr [rbx + 0xb0], 0" //         end of interrupt: the next one may come
        "pop rax"
        "iretq"
    };
    // ANCHOR_END: guest

    // ANCHOR: table
    let mut vm = Kvm::open()?.create_vm()?;
    vm.enable_local_apics()?;
    let memory = vm.add_memory(2 << 20)?;
    let payload = Payload { image: guest, apics: true, ..Payload::default() };
    let entry = boot::load(Some(Protocol::Flat64), &payload, memory)?;
    let gate = [
        HANDLER & 0xffff // where to go, in three pieces
            | 0x10 << 16 // with which code segment
            | 0x8e << 40 // present, an interrupt gate: further interrupts are off meanwhile
            | (HANDLER >> 16 & 0xffff) << 48,
        HANDLER >> 32,
    ];
    memory.write_slice(gate.map(u64::to_le_bytes).as_flattened(), GuestAddress(IDT + VECTOR * 16))?;
    memory.write_obj(0xfff_u16.to_le(), GuestAddress(0x1_1000))?;
    memory.write_obj(IDT.to_le(), GuestAddress(0x1_1002))?;
    // ANCHOR_END: table

    // ANCHOR: run
    let mut vcpu = vm.create_vcpu(0)?;
    vcpu.enter(&entry);
    loop {
        match vcpu.run()? {
            Exit::Out { port: 0x80, data: &[1], .. } => {
                println!("guest: ready");
                // What a device does that wants attention: a write to the address of a local APIC.
                vm.signal_msi(0xfee0_0000, VECTOR as u32)?;
                println!("host: sent vector {VECTOR:#x}");
            }
            Exit::Out { port: 0x80, data: &[2], .. } => println!("guest: the handler runs"),
            Exit::Out { port: 0x80, data: &[3], .. } => {
                println!("guest: awake again");
                return Ok(());
            }
            other => return Err(format!("not expected: {other:?}").into()),
        }
    }
    // ANCHOR_END: run
}
