//! Small images made by hand, and guests to load them into: for the tests of this module.

use super::{Memory, Payload, Protocol, load};
use crate::elf::images::{AT, note};
use crate::error::ImageError;
use crate::x86::Entry;
use vm_memory::{Bytes, GuestAddress};

/// Fresh memory of `size` bytes in one piece.
pub fn guest(size: usize) -> Memory {
    Memory::from_ranges(&[(GuestAddress(0), size)]).unwrap()
}

/// What lies at `start`.
pub fn read(memory: &Memory, start: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    memory.read_slice(&mut bytes, GuestAddress(start)).unwrap();
    bytes
}

/// Loads an image without a command line into `size` bytes of memory.
pub fn boot(protocol: Option<Protocol>, image: &[u8], size: usize) -> Result<Entry, ImageError> {
    load(protocol, &Payload { image, ..Payload::default() }, &guest(size))
}

/// A 32-bit field of a structure.
pub fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(bytes[offset..][..4].try_into().unwrap())
}

/// A 64-bit field of a structure.
pub fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(bytes[offset..][..8].try_into().unwrap())
}

/// The note that gives the PVH entry point [`AT`].
pub fn pvh_note() -> Vec<u8> {
    note(b"Xen\0", 18, &(AT as u32).to_le_bytes(), 4)
}

/// A Multiboot header: magic number, flags, checksum, then `more`.
pub fn multiboot(flags: u32, more: &[u32]) -> Vec<u8> {
    let magic = 0x1bad_b002_u32;
    let checksum = 0_u32.wrapping_sub(magic).wrapping_sub(flags);
    [magic, flags, checksum].iter().chain(more).flat_map(|word| word.to_le_bytes()).collect()
}
