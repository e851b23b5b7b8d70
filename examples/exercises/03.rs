//! Exercise 03: walk the page tables.
//!
//! In long mode an address of the guest is looked up in four tables, one after the other, before it is an address of
//! memory. Do what the processor does.
//!
//! Each table has 512 entries of 8 bytes, little-endian. Bits 47 to 39 of the address choose an entry of the first table,
//! bits 38 to 30 of the second, 29 to 21 of the third, 20 to 12 of the fourth. In an entry bit 0 says that it is there, and
//! bits 51 to 12 where the next table is, or the page. Bit 7 set in an entry of the second or third table ends the walk
//! early: it maps a page of 1 GiB or 2 MiB, and the bits of the address below that are the offset in it.
//!
//! Check it with `cargo test --test exercises -- --ignored exercise_03`.

use matchstick::kvm::Memory;
use matchstick::{Bytes, GuestAddress};

/// The physical address of `linear`, with `cr3` naming the first table; `None` where nothing is mapped.
pub fn translate(memory: &Memory, cr3: u64, linear: u64) -> Option<u64> {
    let index = linear >> 39 & 511;
    let entry = u64::from_le(memory.read_obj(GuestAddress(cr3 + index * 8)).ok()?);
    todo!("the first entry is {entry:#x}; what next?")
}
