//! The exit port: a guest writes a byte, the VM ends with it as its status.
//!
//! A PC has no such port; QEMU has it as `isa-debug-exit`, which makes `value * 2 + 1` the status. Here the status is the
//! value itself, so that a guest can end with 0.

use super::{Action, Device};

/// The exit port: a written byte is the VM's exit status. Of a wide write the lowest counts; reads give
/// zero.
#[derive(Debug, Clone, Copy, Default)]
pub struct DebugExit;

impl Device for DebugExit {
    fn read(&mut self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn write(&mut self, _offset: u64, data: &[u8]) -> Action {
        data.first().map_or(Action::Continue, |&status| Action::Exit(status))
    }

    fn state(&self) -> Option<Vec<u8>> {
        Some(Vec::new())
    }

    fn set_state(&mut self, state: &[u8]) -> bool {
        state.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_byte_is_the_exit_status() {
        assert_eq!(DebugExit.write(0, &[42]), Action::Exit(42));
        assert_eq!(DebugExit.write(0, &[0]), Action::Exit(0));
    }

    #[test]
    fn of_a_wide_write_the_lowest_byte_counts() {
        assert_eq!(DebugExit.write(0, &[1, 2, 3, 4]), Action::Exit(1));
    }

    #[test]
    fn reading_ends_nothing() {
        let mut data = [0xff; 4];
        DebugExit.read(0, &mut data);
        assert_eq!(data, [0; 4]);
    }
}
