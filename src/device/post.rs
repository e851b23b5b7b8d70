//! The port where a BIOS shows how far its power-on self-test (POST) has come.
//!
//! Guests mark their milestones here. Linux writes to it as well, only to let a microsecond pass, so
//! a code means something only to whoever knows the guest.
//!
//! Source: IBM PC AT technical reference, "I/O Address Map": 080, manufacturing test point.

use super::{Action, Cable, Device};
use crate::x86::ports::READY_FOR_INPUT;

/// The POST port: remembers the last code, zero before the first. Of a wide write the lowest byte counts.
#[derive(Debug, Clone, Default)]
pub struct Post {
    code: u8,
    console: Option<Cable>,
    /// The code at which the machine is to stop.
    stop: Option<u8>,
}

impl Post {
    /// One that ends a [`Cable::hold`] of `console` at the code [`READY_FOR_INPUT`], and stops the machine at the code `stop`.
    pub fn new(console: Cable, stop: Option<u8>) -> Post {
        Post { console: Some(console), stop, ..Post::default() }
    }
}

impl Device for Post {
    fn read(&mut self, _offset: u64, data: &mut [u8]) {
        data.fill(self.code);
    }

    fn write(&mut self, _offset: u64, data: &[u8]) -> Action {
        if let Some(&code) = data.first() {
            self.code = code;
            if let (READY_FOR_INPUT, Some(console)) = (code, &self.console) {
                console.release();
            }
            if self.stop == Some(code) {
                return Action::Stop;
            }
        }
        Action::Continue
    }

    /// The code, and whether input is held until the guest is ready.
    fn state(&self) -> Option<Vec<u8>> {
        let held = self.console.as_ref().is_some_and(Cable::is_held);
        Some(vec![self.code, held.into()])
    }

    fn set_state(&mut self, state: &[u8]) -> bool {
        let &[code, held @ 0..=1] = state else { return false };
        match (&self.console, held) {
            (Some(console), 1) => console.hold(),
            (Some(console), _) => console.release(),
            (None, 1) => return false,
            (None, _) => {}
        }
        self.code = code;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Symbol;

    #[test]
    fn input_that_is_held_comes_when_the_guest_is_ready() {
        let cable = Cable::default();
        let mut post = Post::new(cable.clone(), Some(READY_FOR_INPUT));
        cable.hold();
        cable.send(b"typed early");
        let taken = || {
            let mut taken = Vec::new();
            cable.take(99, |symbol| match symbol {
                Symbol::Byte(byte) => taken.push(byte),
                Symbol::Break => panic!("nobody sent a break"),
            });
            taken
        };
        assert_eq!(post.write(0, &[READY_FOR_INPUT - 1]), Action::Continue);
        assert_eq!(taken(), b"");
        assert_eq!(post.write(0, &[READY_FOR_INPUT]), Action::Stop);
        assert_eq!(taken(), b"typed early");
    }

    #[test]
    fn without_a_console_there_is_no_input_to_hold() {
        let mut post = Post::default();
        assert!(post.set_state(&[7, 0]));
        assert!(!post.set_state(&[8, 1]));
        assert_eq!(post.state(), Some(vec![7, 0]));
    }

    #[test]
    fn the_last_code_reads_back() {
        let mut post = Post::default();
        let mut data = [0xff];
        post.read(0, &mut data);
        assert_eq!(data, [0]);
        assert_eq!(post.write(0, &[0x12]), Action::Continue);
        assert_eq!(post.write(0, &[0x34, 0x56]), Action::Continue);
        post.read(0, &mut data);
        assert_eq!(data, [0x34]);
    }
}
