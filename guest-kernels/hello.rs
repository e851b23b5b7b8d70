//! hello: one line from a virtual machine
//!
//! The shortest useful guest, and the one the start-time races are run with: a single page of memory,
//! a dozen instructions, two exits.
//!
//! expect: Hello from a virtual machine!
#![no_std]
#![no_main]

mod rt;

#[unsafe(no_mangle)]
extern "C" fn main(_: rt::Boot) -> u8 {
    rt::print(b"Hello from a virtual machine!\n");
    0
}
