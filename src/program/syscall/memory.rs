//! Calls about memory: each changes the address space, which changes the host's mappings.
//!
//! Sources: mmap(2), mprotect(2), munmap(2), mremap(2), brk(2), madvise(2).

use super::answer::{Answer, errno, host, value};
use super::kinds::Checked;
use crate::program::address_space::{ARENA, PAGE};
use crate::program::errno::Errno;
use crate::program::process::lock;
use crate::program::thread::Thread;
use crate::sys::program::Source;
use std::sync::atomic::Ordering;

/// Flags that change nothing here, or cannot be had: room for swapping, growth of a stack, pages in memory.
const IGNORED: i32 = libc::MAP_NORESERVE
    | libc::MAP_STACK
    | libc::MAP_GROWSDOWN
    | libc::MAP_DENYWRITE
    | libc::MAP_EXECUTABLE
    | libc::MAP_LOCKED
    | libc::MAP_NONBLOCK;
const PLACE: i32 = libc::MAP_FIXED | libc::MAP_FIXED_NOREPLACE | libc::MAP_32BIT;
const KNOWN_PROTECTION: i32 = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;

pub(super) fn mmap(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    let [at, len, _, _, _, offset] = call.words;
    let (protection, flags, fd) = (call.int(2), call.int(3), call.int(4));
    if flags & libc::MAP_HUGETLB != 0 {
        return errno(libc::ENOMEM);
    }
    if protection & !KNOWN_PROTECTION != 0 || !offset.is_multiple_of(4096) || len == 0 {
        return errno(libc::EINVAL);
    }
    let is_anonymous = flags & libc::MAP_ANONYMOUS != 0;
    let source = Source {
        flags: flags & !IGNORED & !PLACE,
        fd: if is_anonymous { -1 } else { fd },
        offset: if is_anonymous { 0 } else { offset },
    };
    if flags & libc::MAP_SHARED != 0 && protection & libc::PROT_WRITE != 0 {
        share(thread);
    }
    let mut space = lock(&thread.process.space);
    let mapped = if flags & libc::MAP_FIXED_NOREPLACE == libc::MAP_FIXED_NOREPLACE {
        space.map_new(at, len, protection, source)
    } else if flags & libc::MAP_FIXED != 0 {
        space.map_at(at, len, protection, source)
    } else {
        let below = if flags & libc::MAP_32BIT != 0 { 2 << 30 } else { ARENA };
        space.map(at, len, protection, source, below)
    };
    value(mapped?)
}

/// From now on another process may wait for a lock that this one holds, and is to hear of its end: also when a signal
/// ends it, which would otherwise be the kernel's matter alone.
fn share(thread: &Thread) {
    let process = &thread.process;
    if !process.shares_memory.swap(true, Ordering::Relaxed) {
        lock(&process.actions).watch();
    }
}

pub(super) fn munmap(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    let [at, len, ..] = call.words;
    lock(&thread.process.space).unmap(at, len)?;
    value(0)
}

pub(super) fn mprotect(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    let [at, len, ..] = call.words;
    if call.int(2) & !KNOWN_PROTECTION != 0 || !at.is_multiple_of(4096) {
        return errno(libc::EINVAL);
    }
    let mut space = lock(&thread.process.space);
    space.protect(at, len, call.int(2))?;
    let is_shared = |end| space.regions().within(at, end).any(|(_, region)| region.is_shared);
    let is_shared = call.int(2) & libc::PROT_WRITE != 0 && at.checked_add(len).is_some_and(is_shared);
    drop(space);
    if is_shared {
        share(thread);
    }
    value(0)
}

pub(super) fn mremap(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    let [at, old, new, _, to, _] = call.words;
    let flags = call.int(3);
    if flags & !(libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED) != 0
        || flags & libc::MREMAP_FIXED != 0 && flags & libc::MREMAP_MAYMOVE == 0
    {
        return errno(libc::EINVAL);
    }
    let to = (flags & libc::MREMAP_FIXED != 0).then_some(to);
    value(lock(&thread.process.space).remap(at, old, new, flags & libc::MREMAP_MAYMOVE != 0, to)?)
}

/// Calls about what is mapped, without a hole: to the host, all of the arena is.
pub(super) fn of_mappings(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    let [at, len, ..] = call.words;
    let start = at & !(PAGE - 1);
    let end = at.checked_add(len).and_then(|end| end.checked_next_multiple_of(PAGE));
    let end = end.ok_or(Errno(libc::ENOMEM))?;
    if len > 0 && !lock(&thread.process.space).regions().are_whole(start, end) {
        return errno(if call.number == libc::SYS_mincore && start != at {
            libc::EINVAL
        } else {
            libc::ENOMEM
        });
    }
    host(call.number, call.arguments())
}

pub(super) fn brk(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    value(lock(&thread.process.space).set_heap_end(call.words[0]))
}

/// Advice that changes nothing but what is in memory. What would be left out of a child (MADV_DONTFORK) would leave a
/// hole where this process's own memory could come to lie.
#[rustfmt::skip]
pub const ADVICE: &[i32] = {
    use libc::*;
    &[
        MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL, MADV_WILLNEED, MADV_DONTNEED, MADV_FREE, MADV_REMOVE, MADV_HUGEPAGE,
        MADV_NOHUGEPAGE, MADV_MERGEABLE, MADV_UNMERGEABLE, MADV_WIPEONFORK, MADV_KEEPONFORK, MADV_COLD, MADV_PAGEOUT,
        MADV_POPULATE_READ, MADV_POPULATE_WRITE, MADV_DONTDUMP, MADV_DODUMP,
    ]
};

pub(super) fn madvise(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    let [at, len, ..] = call.words;
    let advice = call.int(2);
    if !ADVICE.contains(&advice) {
        return errno(libc::EINVAL);
    }
    if len == 0 {
        return value(0);
    }
    let len = len.checked_next_multiple_of(4096).ok_or(Errno(libc::EINVAL))?;
    let space = lock(&thread.process.space);
    if at.checked_add(len).is_none_or(|end| !space.regions().are_whole(at, end)) {
        return errno(libc::ENOMEM);
    }
    space.arena().advise(at, len, advice).map_err(Errno::from)?;
    value(0)
}
