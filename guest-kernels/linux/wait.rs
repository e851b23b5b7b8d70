//! wait: one line, and then nothing for ever
//!
//! What an idle program costs in memory is measured with it, instance by instance. It is ended from outside.
#![no_std]
#![no_main]

#[allow(dead_code)]
mod calls;
#[path = "../mem.rs"]
mod mem;

#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    calls::write(calls::STDOUT, b"waiting\n");
    loop {
        calls::pause();
    }
}

fn leave(status: u8) -> ! {
    calls::exit(status)
}
