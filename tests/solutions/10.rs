//! A solution of exercise 10, a tape: look after you have tried.

use matchstick::device::{Action, Device};

/// A device that plays `tape`, from position 0 on. No tape is longer than 255 bytes.
pub fn tape(tape: Vec<u8>) -> Box<dyn Device> {
    Box::new(Tape { tape, position: 0 })
}

struct Tape {
    tape: Vec<u8>,
    position: u8,
}

impl Device for Tape {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        for byte in data {
            *byte = match offset {
                0 => self.position,
                _ => {
                    let byte = self.tape.get(usize::from(self.position)).copied();
                    self.position = self.position.saturating_add(1);
                    byte.unwrap_or(0xff)
                }
            };
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Action {
        if let (0, Some(&position)) = (offset, data.first()) {
            self.position = position;
        }
        Action::Continue
    }
}
