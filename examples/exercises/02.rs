//! Exercise 02: read what a stranger wrote.
//!
//! A guest leaves a text somewhere in its memory, with a zero byte behind it, and tells the host where. Read it.
//!
//! The guest is a stranger: the address may be nowhere, and the zero byte may never come.
//!
//! Check it with `cargo test --test exercises -- --ignored exercise_02`.

use matchstick::kvm::Memory;
use matchstick::{Bytes, GuestAddress};

/// The bytes from `address` up to a zero byte, which does not belong to them.
///
/// `None` if they are not all in memory, or if there is no zero byte among the first `max` and the one behind them.
pub fn text(memory: &Memory, address: u64, max: usize) -> Option<Vec<u8>> {
    let first: u8 = memory.read_obj(GuestAddress(address)).ok()?;
    todo!("up to {max} bytes that begin with {first:#x}")
}
