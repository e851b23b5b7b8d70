//! Exercise 10: a tape.
//!
//! Build a device with two ports. A byte written to the first one winds the tape to that position; a byte read from the second
//! one is the byte at that position, and moves on by one. Behind the end of the tape every byte is 0xff. What is read from the
//! first port is the position; what is written to the second is lost.
//!
//! Check it with `cargo test --test exercises -- --ignored exercise_10`.

use matchstick::device::{Action, Device};

/// A device that plays `tape`, from position 0 on. No tape is longer than 255 bytes.
pub fn tape(tape: Vec<u8>) -> Box<dyn Device> {
    Box::new(Tape { tape })
}

struct Tape {
    tape: Vec<u8>,
}

impl Device for Tape {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        todo!("{} bytes from port {offset}, with a tape of {}", data.len(), self.tape.len())
    }

    fn write(&mut self, _offset: u64, _data: &[u8]) -> Action {
        Action::Continue
    }
}
