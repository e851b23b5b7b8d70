//! What a driver hands over at once: a chain of buffers, first those that the device reads, then those that it writes.

use crate::kvm::{Buffer, Memory};
use vm_memory::{Bytes, GuestAddress};

/// A chain of descriptors: all of its buffers lie in memory, and in the order that section 2.7.4.2 demands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chain {
    /// The index of its first descriptor.
    pub(super) head: u16,
    /// Those to read, then those to write. None is empty.
    pub(super) buffers: Vec<Buffer>,
    /// How many are to be read.
    pub(super) readable: usize,
}

impl Chain {
    /// What the device may read.
    pub fn readable(&self) -> &[Buffer] {
        self.buffers.get(..self.readable).unwrap_or_default()
    }

    /// What the device may write.
    pub fn writable(&self) -> &[Buffer] {
        self.buffers.get(self.readable..).unwrap_or_default()
    }

    /// How many bytes the device may read. The sum of both parts fits 32 bits.
    pub fn readable_len(&self) -> u32 {
        length(self.readable())
    }

    /// How many bytes the device may write.
    pub fn writable_len(&self) -> u32 {
        length(self.writable())
    }

    /// Reads from the readable part, from byte `from` of it on, and says how many bytes there were.
    pub fn read(&self, memory: &Memory, from: u32, data: &mut [u8]) -> usize {
        let mut done = 0;
        for Buffer { address, len } in part(self.readable(), from, size(data)) {
            let piece = data.get_mut(done..).and_then(|rest| rest.get_mut(..len as usize));
            match piece.map(|piece| memory.read_slice(piece, GuestAddress(address))) {
                Some(Ok(())) => done = done.saturating_add(len as usize),
                _ => break,
            }
        }
        done
    }

    /// Writes to the writable part, from byte `from` of it on, and says for how many bytes there was room.
    pub fn write(&self, memory: &Memory, from: u32, data: &[u8]) -> usize {
        let mut done = 0;
        for Buffer { address, len } in part(self.writable(), from, size(data)) {
            let piece = data.get(done..).and_then(|rest| rest.get(..len as usize));
            match piece.map(|piece| memory.write_slice(piece, GuestAddress(address))) {
                Some(Ok(())) => done = done.saturating_add(len as usize),
                _ => break,
            }
        }
        done
    }
}

fn size(data: &[u8]) -> u32 {
    u32::try_from(data.len()).unwrap_or(u32::MAX)
}

/// How many bytes `buffers` have. Those of a chain have less than 4 GiB.
fn length(buffers: &[Buffer]) -> u32 {
    buffers.iter().fold(0, |sum, buffer| sum.saturating_add(buffer.len))
}

/// Of `buffers` the `len` bytes, or as many as there are, that begin at byte `from`.
pub fn part(buffers: &[Buffer], from: u32, len: u32) -> Vec<Buffer> {
    let (mut skip, mut left) = (from, len);
    let mut part = Vec::with_capacity(buffers.len());
    for buffer in buffers {
        let skipped = skip.min(buffer.len);
        skip = skip.saturating_sub(skipped);
        let len = buffer.len.saturating_sub(skipped).min(left);
        left = left.saturating_sub(len);
        if len > 0 {
            part.push(Buffer { address: buffer.address.wrapping_add(skipped.into()), len });
        }
    }
    part
}
