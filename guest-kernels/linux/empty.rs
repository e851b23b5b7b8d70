//! empty: the least a Linux program can do, which is to end
//!
//! How long it takes to start and to reap it is what a launcher costs, and the kernel's part of any process.
#![no_std]
#![no_main]

#[allow(dead_code)]
mod calls;
#[path = "../mem.rs"]
mod mem;

#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    leave(0)
}

fn leave(status: u8) -> ! {
    calls::exit(status)
}
