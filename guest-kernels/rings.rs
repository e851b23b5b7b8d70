//! rings: down to ring 3, a system call back, and two forbidden instructions
//!
//! Code in ring 3 can compute, and nothing else: it prints by asking ring 0. When it tries CLI or HLT,
//! which would stop the whole machine, the processor raises a general protection fault instead, and the
//! handler in ring 0 decides what that means. Here it steps over the instruction.
//!
//! expect: ring 0: going down
//! expect: ring 3: hello, by system call
//! expect: ring 0: general protection fault in ring 3 at opcode fa (CLI); skipped
//! expect: ring 3: interrupts are not mine to switch off
//! expect: ring 0: general protection fault in ring 3 at opcode f4 (HLT); skipped
//! expect: ring 3: nor is the processor mine to stop; leaving
#![no_std]
#![no_main]

#[macro_use]
mod rt;
#[macro_use]
mod trap;
mod ring3;

use core::arch::asm;
use ring3::system_call;

const GENERAL_PROTECTION: usize = 13;

/// System calls.
const PRINT: u64 = 0;
const EXIT: u64 = 1;

trap!(on_system_call, called);
trap!(on_general_protection, error, forbidden);

extern "C" fn called(frame: &mut trap::Frame) {
    match frame.rax {
        // SAFETY: a text of this very program. A real kernel would check that the caller may read it.
        PRINT => {
            rt::print(unsafe { core::slice::from_raw_parts(frame.rdi as *const u8, frame.rsi as usize) })
        }
        EXIT => rt::exit(frame.rdi as u8),
        number => panic!("no system call {number}"),
    }
}

extern "C" fn forbidden(frame: &mut trap::Frame) {
    // SAFETY: the address of the instruction that was just tried.
    let opcode = unsafe { *(frame.rip as *const u8) };
    let name = match opcode {
        0xfa => "CLI",
        0xf4 => "HLT",
        _ => panic!("general protection fault at {:#x}", frame.rip),
    };
    let ring = frame.cs & 3;
    println!("ring 0: general protection fault in ring {ring} at opcode {opcode:x} ({name}); skipped");
    frame.rip += 1; // both are one byte long
}

fn say(text: &str) {
    system_call(PRINT, text.as_ptr() as u64, text.len() as u64);
}

extern "C" fn user(_: u64) -> ! {
    say("ring 3: hello, by system call\n");
    // SAFETY: the two instructions do nothing here, which is the point.
    unsafe { asm!("cli") };
    say("ring 3: interrupts are not mine to switch off\n");
    // SAFETY: as above.
    unsafe { asm!("hlt") };
    say("ring 3: nor is the processor mine to stop; leaving\n");
    system_call(EXIT, 0, 0);
    loop {}
}

#[unsafe(no_mangle)]
extern "C" fn main(_: rt::Boot) -> u8 {
    trap::handle_from_ring_3(ring3::SYSTEM_CALL, on_system_call);
    trap::handle(GENERAL_PROTECTION, on_general_protection);
    println!("ring 0: going down");
    ring3::enter(user, 0)
}
