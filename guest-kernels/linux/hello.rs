//! hello: what every world of `matchstick bench` runs: one line, and the end
//!
//! The same line as the guest of that name prints, from an ordinary Linux program without a C library: two system
//! calls.
#![no_std]
#![no_main]

#[allow(dead_code)]
mod calls;
#[path = "../mem.rs"]
mod mem;

#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    calls::write(calls::STDOUT, b"Hello from a virtual machine!\n");
    leave(0)
}

fn leave(status: u8) -> ! {
    calls::exit(status)
}
