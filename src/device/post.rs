//! Port 0x80, where a BIOS shows how far its power-on self-test (POST) has come.
//!
//! Guests mark their milestones here. Linux writes to it as well, only to let a microsecond pass, so
//! a code means something only to whoever knows the guest.
//!
//! Source: IBM PC AT technical reference, "I/O Address Map": 080, manufacturing test point.

use super::{Action, Device};

/// The POST port, 0x80: remembers the last code, zero before the first. Of a wide write the lowest byte counts.
#[derive(Debug, Clone, Default)]
pub struct Post {
    code: u8,
}

impl Device for Post {
    fn read(&mut self, _offset: u64, data: &mut [u8]) {
        data.fill(self.code);
    }

    fn write(&mut self, _offset: u64, data: &[u8]) -> Action {
        if let Some(&code) = data.first() {
            self.code = code;
        }
        Action::Continue
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
