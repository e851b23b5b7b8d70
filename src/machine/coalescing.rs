//! When KVM is to coalesce what a guest sends to COM1, and the bytes that it then keeps.
//!
//! Each byte that is written to a port is an exit. A driver that fills the FIFO and then looks at the port, as Linux's
//! does, does not need an answer to each byte: KVM may keep them until that look. A driver that sends and then waits for
//! the interrupt might wait for long.
//!
//! So the guest is watched first. To set the ring up and to take it down costs milliseconds on some kernels, which a guest
//! with little to say should not pay.

use crate::kvm::{Coalesced, Exit};
use crate::x86::ports::{COM1, COM1_LEN};

/// A burst: bytes that were sent to COM1 one after the other, without a look at the port in between. This many at
/// least; more than one, and enough to be worth it.
const BURST: u32 = 8;
/// After this many bursts, about a kilobyte, the guest has much to say.
const MANY: u32 = 64;

/// What a guest has sent to COM1, and how.
#[derive(Default)]
pub(super) struct Coalescing {
    /// Bytes sent since the last look at the port.
    sent: u32,
    /// Bursts so far.
    bursts: u32,
    /// The bytes that KVM keeps, once it does.
    writes: Option<Coalesced>,
}

impl Coalescing {
    /// Takes note of an exit.
    pub fn note(&mut self, exit: &Exit<'_>) {
        match exit {
            Exit::Out { port: COM1, .. } => self.sent = self.sent.saturating_add(1),
            Exit::In { port, .. } if (COM1..COM1 + COM1_LEN).contains(port) => {
                self.bursts = self.bursts.saturating_add(u32::from(self.sent >= BURST));
                self.sent = 0;
            }
            _ => {}
        }
    }

    /// Asks `begin`, once, to have KVM coalesce what goes to that port, if the guest has much to say.
    pub fn begin(&mut self, begin: impl FnOnce(u16) -> Option<Coalesced>) {
        if self.bursts == MANY {
            self.bursts += 1;
            self.writes = begin(COM1);
        }
    }

    /// Gives `to` the port and the bytes that KVM has kept, if it keeps any.
    pub fn take(&mut self, to: impl FnOnce(u16, &[u8])) {
        if let Some(writes) = &mut self.writes {
            let mut room = Coalesced::room();
            let (port, bytes) = writes.drain(&mut room);
            to(port, bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends `len` bytes and looks at the port, `times` times.
    fn send(coalescing: &mut Coalescing, len: usize, times: u32) {
        for _ in 0..times {
            for _ in 0..len {
                coalescing.note(&Exit::Out { port: COM1, size: 1, data: b"x" });
            }
            coalescing.note(&Exit::In { port: COM1 + 5, size: 1, data: &mut [0] });
        }
    }

    fn is_asked(coalescing: &mut Coalescing) -> bool {
        let mut asked = false;
        coalescing.begin(|port| {
            assert_eq!(port, COM1);
            asked = true;
            None
        });
        asked
    }

    #[test]
    fn only_a_guest_that_sends_many_bytes_without_a_look_is_coalesced_and_asked_for_once() {
        let mut coalescing = Coalescing::default();
        // Looks before each byte; and strings, each of which is one exit.
        send(&mut coalescing, 1, 1000);
        for _ in 0..1000 {
            coalescing.note(&Exit::Out { port: COM1, size: 1, data: &[b'x'; 99] });
            coalescing.note(&Exit::In { port: COM1 + 5, size: 1, data: &mut [0] });
        }
        assert!(!is_asked(&mut coalescing));
        send(&mut coalescing, 16, MANY - 1);
        assert!(!is_asked(&mut coalescing));
        send(&mut coalescing, 16, 1);
        assert!(is_asked(&mut coalescing));
        assert!(!is_asked(&mut coalescing));
        send(&mut coalescing, 16, 1000);
        assert!(!is_asked(&mut coalescing));
    }
}
