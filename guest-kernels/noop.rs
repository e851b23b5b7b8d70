//! noop: leaves at once
//!
//! What remains is the price of a virtual machine: run it with `--timings`, and every microsecond is
//! the VMM's or the kernel's.
#![no_std]
#![no_main]

mod rt;

#[unsafe(no_mangle)]
extern "C" fn main(_: rt::Boot) -> u8 {
    0
}
