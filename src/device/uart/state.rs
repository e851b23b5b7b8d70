//! The serial port as bytes, for a machine that goes on elsewhere.
//!
//! IER, FCR, LCR, MCR, SCR, DLL, DLM, LSR's errors, MSR's changes, whether THR's emptying is still to be told; then
//! two bytes for each character that was received and not read: itself and its errors, with bit 7 if it came by loopback.

use super::{Character, FCR_BITS, FIFO_SIZE, IER_BITS, LSR_BI, LSR_DR, LSR_FE, LSR_OE, MCR_BITS, Uart};

/// What can be wrong with a character: all between LSR's bits 1 and 4.
const ERRORS: u8 = (LSR_BI << 1) - LSR_OE;
/// The character came by loopback.
const LOOPED: u8 = 1 << 7;
const _: () = assert!(ERRORS & LSR_FE != 0 && ERRORS & LSR_DR == 0);

impl Uart {
    /// Registers and FIFO.
    pub fn state(&self) -> Vec<u8> {
        let registers = [self.ier, self.fcr, self.lcr, self.mcr, self.scr, self.dll, self.dlm];
        let mut state = registers.to_vec();
        state.extend([self.errors, self.deltas, self.thr_emptied.into()]);
        let flags = |character: &Character| character.errors | if character.is_looped { LOOPED } else { 0 };
        state.extend(self.received.iter().flat_map(|character| [character.byte, flags(character)]));
        state
    }

    /// A port whose [`state`](Uart::state) was this; `None` if no port can have it.
    pub fn from_state(state: &[u8]) -> Option<Uart> {
        let (&[ier, fcr, lcr, mcr, scr, dll, dlm, errors, deltas, thr_emptied @ 0..=1], fifo) =
            state.split_first_chunk()?
        else {
            return None;
        };
        let (characters, rest) = fifo.as_chunks();
        let character = |&[byte, flags]: &[u8; 2]| Character {
            byte,
            errors: flags & !LOOPED,
            is_looped: flags & LOOPED != 0,
        };
        let received = characters.iter().map(character).collect();
        let thr_emptied = thr_emptied == 1;
        let uart = Uart { ier, fcr, lcr, mcr, scr, dll, dlm, errors, deltas, thr_emptied, received };
        let is_valid = rest.is_empty()
            && ier & !IER_BITS == 0
            && fcr & !FCR_BITS == 0
            && mcr & !MCR_BITS == 0
            && errors & !ERRORS == 0
            && deltas & 0xf0 == 0
            && characters.len() <= uart.capacity().min(FIFO_SIZE)
            && characters.iter().all(|[_, flags]| flags & !(ERRORS | LOOPED) == 0);
        is_valid.then_some(uart)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_port_that_has_been_used_in_any_way_comes_back_from_its_bytes(
            steps in prop::collection::vec((0..4u8, 0..8u8, any::<u8>()), 0..60),
        ) {
            let mut uart = Uart::new();
            for (kind, register, value) in steps {
                match kind {
                    0 => drop(uart.read(register)),
                    1 => drop(uart.write(register, value)),
                    2 => uart.receive_now(value),
                    _ => uart.receive_break(),
                }
                prop_assert_eq!(Uart::from_state(&uart.state()), Some(uart.clone()));
            }
        }

        #[test]
        fn other_bytes_are_refused_or_are_a_port_s(state in prop::collection::vec(any::<u8>(), 0..50)) {
            if let Some(uart) = Uart::from_state(&state) {
                prop_assert_eq!(uart.state(), state);
            }
        }
    }
}
