//! echo: sends back what you type, by interrupt; Ctrl-D ends it
//!
//! Nobody asks the serial port again and again whether a byte has come: the processor sleeps in HLT
//! until the port's interrupt line rises. The line goes COM1 → IOAPIC pin 4 → local APIC → IDT → here.
//!
//! An edge is told once. So the handler reads until the port has nothing more: a byte left behind would
//! hold the line up, and it would never rise again.
//!
//! The port's FIFO stays off. Switching it on empties the receiver, and what was typed before the guest
//! was ready would be lost.
//!
//! The word `terminal` on its command line says that the bytes are keys. Then Enter, which is a carriage return, begins a
//! new line, and Backspace takes a letter away.
//!
//! input: hello there
//! expect: echo: type, and end with Ctrl-D
//! expect: hello there
//! needs: input, apic
#![no_std]
#![no_main]

#[macro_use]
mod rt;
#[macro_use]
mod trap;
mod apic;

use core::sync::atomic::{AtomicBool, Ordering};
use rt::{SERIAL, inp, out};

/// Interrupt enable register; bit 0: a byte has arrived.
const IER: u16 = SERIAL + 1;
/// Modem control register; bit 3, OUT2, lets the interrupt out of the chip on a PC.
const MCR: u16 = SERIAL + 4;
/// Line status register; bit 0: a byte is waiting.
const LSR: u16 = SERIAL + 5;

/// ISA interrupt 4, which is the IOAPIC's pin 4.
const COM1: u32 = 4;
const VECTOR: usize = 32;
const CTRL_D: u8 = 4;

/// Whether the bytes are keys. Written once, before there are interrupts.
static ARE_KEYS: AtomicBool = AtomicBool::new(false);

/// Sends `bytes` as they are or, if they are keys, what a terminal shows for each.
fn send_back(bytes: &[u8]) {
    if !ARE_KEYS.load(Ordering::Relaxed) {
        return rt::print(bytes);
    }
    for key in bytes {
        match key {
            b'\r' => rt::print(b"\n"),
            0x7f => rt::print(b"\x08 \x08"),
            _ => rt::print(&[*key]),
        }
    }
}

trap!(on_serial, serial);

extern "C" fn serial(_: &mut trap::Frame) {
    let mut bytes = [0; 64];
    let mut len = 0;
    while inp(LSR) & 1 != 0 {
        bytes[len] = inp(SERIAL);
        if bytes[len] == CTRL_D {
            send_back(&bytes[..len]);
            rt::exit(0);
        }
        len += 1;
        if len == bytes.len() {
            send_back(&bytes);
            len = 0;
        }
    }
    send_back(&bytes[..len]);
    apic::end_of_interrupt();
}

#[unsafe(no_mangle)]
extern "C" fn main(boot: rt::Boot) -> u8 {
    ARE_KEYS.store(boot.command_line().split(' ').any(|word| word == "terminal"), Ordering::Relaxed);
    println!("echo: type, and end with Ctrl-D");
    trap::handle(VECTOR, on_serial);
    apic::enable();
    apic::route(COM1, VECTOR as u32);
    out(MCR, 1 << 3);
    out(IER, 1); // last: a byte that came early raises the line now
    loop {
        rt::sleep();
    }
}
