//! Forty lines that run a guest: the program of chapter 1.
//!
//! expect: hi
use matchstick::kvm::{Exit, Kvm};
use matchstick::x86::{Entry, Mode};
use matchstick::{Bytes, GuestAddress};
use std::error::Error;
use std::io::Write;

// ANCHOR: guest
/// What the guest is: fourteen bytes that a processor in real mode takes for instructions.
const GUEST: &[u8] = &[
    0xba, 0xf8, 0x03, // mov dx, 0x3f8: the first serial port of every PC
    0xb0, b'h', //       mov al, 'h'
    0xee, //             out dx, al
    0xb0, b'i', //       mov al, 'i'
    0xee, //             out dx, al
    0xb0, b'\n', //      mov al, '\n'
    0xee,  //             out dx, al
    0xf4,  //             hlt
];
// ANCHOR_END: guest

// ANCHOR: vmm
fn main() -> Result<(), Box<dyn Error>> {
    // A machine: nothing but an address space.
    let mut vm = Kvm::open()?.create_vm()?;
    // Its memory, of which the guest takes fourteen bytes.
    vm.add_memory(64 << 10)?.write_slice(GUEST, GuestAddress(0x7c00))?;
    // Its processor, and where that begins.
    let mut vcpu = vm.create_vcpu(0)?;
    vcpu.enter(&Entry::at(Mode::Real, 0x7c00));

    let mut output = std::io::stdout();
    // The loop that every VMM is.
    loop {
        match vcpu.run()? {
            Exit::Out { port: 0x3f8, data, .. } => output.write_all(data)?,
            Exit::Halt => return Ok(()),
            other => return Err(format!("a guest that does this was not expected: {other:?}").into()),
        }
    }
}
// ANCHOR_END: vmm
