//! Exercise 05: a driver.
//!
//! Write a guest that reads a line from the serial port and sends it back in capital letters, the end of the line included.
//! Then it halts.
//!
//! It may read the receiver (0x3f8) only after the line status register (0x3fd) has said in bit 0 that a byte is there, and
//! send (0x3f8) only when bit 5 says that there is room. It is loaded to 0x7c00 and entered there in real mode.
//!
//! Check it with `cargo test --test exercises -- --ignored exercise_05`.

/// The guest's machine code, assembled. A small letter is 32 above its capital.
pub fn guest() -> &'static [u8] {
    guest! {
        ".code16"
        "hlt" // todo: read, change, send; and go on until the end of the line
    }
}
