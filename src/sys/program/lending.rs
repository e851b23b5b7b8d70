//! Memory that a parent lends to its child until the child becomes another program: vfork(2), where the child has a
//! copy after all.
//!
//! The parent waits at the end of a pipe. When the child becomes another program, or dies, the pipe closes. A child
//! that ends as what it was says first what it has changed, and waits until its parent has taken them.
//!
//! Sources: vfork(2); the kernel's admin-guide/mm/pagemap.rst.

use super::arena::Arena;
use super::process::duplicate_above;
use super::stopwatch::timed;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;

const PAGE: u64 = 4096;
/// Bits of an entry of pagemap: the page is in memory; it is a file's, or memory shared with others; it is nobody
/// else's.
const PRESENT: u64 = 1 << 63;
const FILE: u64 = 1 << 61;
const EXCLUSIVE: u64 = 1 << 56;

/// The parent's side, before there is a child.
pub struct Lending {
    changes: OwnedFd,
    taken: OwnedFd,
    lender: Lender,
}

/// The child's side.
pub struct Lender {
    changes: OwnedFd,
    taken: OwnedFd,
}

/// What a child has changed; while this is there, the child waits.
pub struct Changed {
    ranges: Vec<(u64, u64)>,
    _taken: OwnedFd,
}

impl Lending {
    /// Two pipes, whose descriptors are `lowest` or more.
    pub fn new(lowest: RawFd) -> io::Result<Lending> {
        let pipe = || {
            let (reader, writer) = io::pipe()?;
            Ok::<_, io::Error>((
                duplicate_above(reader.as_fd(), lowest)?,
                duplicate_above(writer.as_fd(), lowest)?,
            ))
        };
        let ((changes, to_parent), (from_parent, taken)) = (pipe()?, pipe()?);
        Ok(Lending { changes, taken, lender: Lender { changes: to_parent, taken: from_parent } })
    }

    /// In the child: what is left of it there.
    pub fn into_lender(self) -> Lender {
        self.lender
    }

    /// In the parent: waits for the child. `None` if it has changed nothing that counts.
    pub fn wait(self) -> Option<Changed> {
        drop(self.lender);
        let mut bytes = Vec::new();
        let mut count = [0; 8];
        let mut changes = File::from(self.changes);
        timed(|| changes.read_exact(&mut count)).ok()?;
        changes.take(u64::from_le_bytes(count).checked_mul(16)?).read_to_end(&mut bytes).ok()?;
        let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
        let ranges = bytes.chunks_exact(16).map(|pair| (word(&pair[..8]), word(&pair[8..]))).collect();
        Some(Changed { ranges, _taken: self.taken })
    }
}

impl Lender {
    /// Says what has changed, from where to where, and waits until it has been taken.
    pub fn tell(self, ranges: &[(u64, u64)]) {
        let mut bytes = (ranges.len() as u64).to_le_bytes().to_vec();
        bytes.extend(
            ranges.iter().flat_map(|(start, end)| [start.to_le_bytes(), end.to_le_bytes()]).flatten(),
        );
        // A parent that has died takes nothing.
        let _ = File::from(self.changes).write_all(&bytes);
        let _ = File::from(self.taken).read(&mut [0]);
    }

    /// Its descriptors.
    pub fn descriptors(&self) -> [RawFd; 2] {
        [self.changes.as_raw_fd(), self.taken.as_raw_fd()]
    }
}

impl Changed {
    /// From where to where.
    pub fn ranges(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.ranges.iter().copied()
    }
}

/// The pages of `ranges` that this process does not share with the one that it is a copy of (fork(2)): those that it
/// has written to since.
pub fn changed_pages(arena: &Arena, ranges: &[(u64, u64)]) -> io::Result<Vec<(u64, u64)>> {
    let pagemap = File::open("/proc/self/pagemap")?;
    let mut changed: Vec<(u64, u64)> = Vec::new();
    let mut entries = vec![0; 4096];
    for &(start, end) in ranges {
        let mut at = start;
        while at < end {
            let count = ((end - at) / PAGE).min(512) as usize;
            let entries = &mut entries[..count * 8];
            pagemap.read_exact_at(entries, (arena.host_address() + at) / PAGE * 8)?;
            for (index, entry) in entries.chunks_exact(8).enumerate() {
                let entry = u64::from_le_bytes(entry.try_into().expect("eight bytes"));
                if entry & (PRESENT | FILE | EXCLUSIVE) != PRESENT | EXCLUSIVE {
                    continue;
                }
                let page = at + index as u64 * PAGE;
                match changed.last_mut().filter(|(_, end)| *end == page) {
                    Some((_, end)) => *end += PAGE,
                    None => changed.push((page, page + PAGE)),
                }
            }
            at += count as u64 * PAGE;
        }
    }
    Ok(changed)
}
