//! wait: one line, and then nothing
//!
//! What an idle program costs in memory is measured with it, instance by instance. It is ended from outside, or ends when
//! nobody is left who could read its output: whoever started it has ended then, and may have been killed.
#![no_std]
#![no_main]

#[allow(dead_code)]
mod calls;
#[path = "../mem.rs"]
mod mem;

#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    calls::write(calls::STDOUT, b"waiting\n");
    // There is nothing to be read from it. But poll(2) always tells when a pipe has lost its last reader.
    while !matches!(calls::poll([calls::STDOUT, -1]), Ok([true, _])) {}
    calls::exit(0)
}

fn leave(status: u8) -> ! {
    calls::exit(status)
}
