//! A driver and its chip: the program of chapter 5.
//!
//! expect: your name? Hello, Ada!
//! expect: the guest looked at the line status * times
use matchstick::device::Uart;
use matchstick::kvm::{Exit, Kvm};
use matchstick::x86::{Entry, Mode};
use matchstick::{Bytes, GuestAddress};
use std::error::Error;
use std::io::Write;

#[macro_use]
mod guest;

// ANCHOR: ports
/// COM1 is eight ports, one for each register of its chip.
const COM1: std::ops::RangeInclusive<u16> = 0x3f8..=0x3ff;
/// The line status register: bit 0, a byte has come; bit 5, there is room for one to send.
const LSR: u16 = 0x3fd;
// ANCHOR_END: ports

fn main() -> Result<(), Box<dyn Error>> {
    // ANCHOR: guest
    let guest = guest! {
        ".code16"
        "mov sp, 0x7c00"
        "mov bp, 0x7e00" //       where the name will be
        "call 30f"
        ".asciz \"your name? \""
        "20: mov dx, 0x3fd" //    LSR
        "21: in al, dx"
        "test al, 1" //           has a byte come?
        "jz 21b"
        "mov dx, 0x3f8" //        RBR: reading it takes the byte away
        "in al, dx"
        "mov [bp], al"
        "inc bp"
        "cmp al, 10" //           the end of the line
        "jne 20b"
        "mov byte ptr [bp - 1], 0"
        "call 30f"
        ".asciz \"Hello, \""
        "mov si, 0x7e00"
        "call 40f"
        "call 30f"
        ".asciz \"!\\n\""
        "hlt"

        "30: pop si" //           a call leaves the address of what follows it
        "call 40f"
        "push si"
        "ret" //                  behind the text

        "40: lodsb" //            print from SI to a zero byte
        "test al, al"
        "jz 43f"
        "mov ah, al"
        "mov dx, 0x3fd"
        "42: in al, dx"
        "test al, 0x20" //        is there room?
        "jz 42b"
        "mov al, ah"
        "mov dx, 0x3f8" //        THR: the byte is on its way
        "out dx, al"
        "jmp 40b"
        "43: ret"
    };
    // ANCHOR_END: guest

    let mut vm = Kvm::open()?.create_vm()?;
    vm.add_memory(64 << 10)?.write_slice(guest, GuestAddress(0x7c00))?;
    let mut vcpu = vm.create_vcpu(0)?;
    vcpu.enter(&Entry::at(Mode::Real, 0x7c00));

    // ANCHOR: chip
    let mut uart = Uart::new();
    let mut typed: &[u8] = b"Ada\n";
    let (mut output, mut looks) = (std::io::stdout(), 0);
    loop {
        match vcpu.run()? {
            Exit::Out { port, data: &[byte], .. } if COM1.contains(&port) => {
                if let Some(sent) = uart.write((port - COM1.start()) as u8, byte) {
                    output.write_all(&[sent])?;
                }
            }
            Exit::In { port, data: [byte], .. } if COM1.contains(&port) => {
                *byte = uart.read((port - COM1.start()) as u8);
                looks += u32::from(port == LSR);
            }
            Exit::Halt => break,
            other => return Err(format!("not expected: {other:?}").into()),
        }
        // Whoever types waits until there is room: without FIFOs, for a single byte.
        let taken = uart.receive(typed);
        typed = &typed[taken..];
    }
    // ANCHOR_END: chip
    println!("the guest looked at the line status {looks} times");
    Ok(())
}
