//! A solution of exercise 02, read what a stranger wrote: look after you have tried.

use matchstick::kvm::Memory;
use matchstick::{Bytes, GuestAddress};

/// The bytes from `address` up to a zero byte, which does not belong to them.
///
/// `None` if they are not all in memory, or if there is no zero byte among the first `max` and the one behind them.
pub fn text(memory: &Memory, address: u64, max: usize) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    for offset in 0..=max as u64 {
        let byte: u8 = memory.read_obj(GuestAddress(address.checked_add(offset)?)).ok()?;
        if byte == 0 {
            return Some(text);
        }
        text.push(byte);
    }
    None
}
