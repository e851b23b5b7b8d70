//! A source of random numbers (section 5.4): each buffer is filled.

use super::{Broken, Queues, VirtioDevice};
use std::io;

/// So many bytes are given at a time: a buffer that is longer is filled in part, which the driver can see.
const MOST: u32 = 256;

/// An entropy device, which asks the host.
pub struct Rng {
    random: fn() -> io::Result<[u8; MOST as usize]>,
}

impl Rng {
    /// A device whose bytes come from getrandom(2).
    pub fn new() -> Rng {
        Rng { random: crate::sys::random }
    }
}

impl Default for Rng {
    fn default() -> Rng {
        Rng::new()
    }
}

impl VirtioDevice for Rng {
    fn name(&self) -> &'static str {
        "Rng"
    }

    fn id(&self) -> u32 {
        4
    }

    fn queues(&self) -> &[u16] {
        &[64]
    }

    fn notify(&mut self, index: usize, queues: &mut Queues<'_>) -> Result<(), Broken> {
        while let Some(chain) = queues.pop(index)? {
            let wanted = chain.writable_len().min(MOST) as usize;
            // Of a host that has none the driver gets none, not others.
            let bytes = (self.random)();
            let given = bytes.as_ref().ok().and_then(|bytes| bytes.get(..wanted)).unwrap_or_default();
            let written = chain.write(queues.memory(), 0, given);
            queues.push(index, &chain, written as u32)?;
        }
        Ok(())
    }
}
