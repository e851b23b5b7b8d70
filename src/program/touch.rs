//! First touches made cheap: each page of a program that is touched for the first time is an exit to KVM, and costs more
//! there than on the host. Measured figures are in docs/programs.md.
//!
//! Source: madvise(2). Hosts that do not know what is asked for do as well without.

use crate::sys::program::Arena;

/// Mappings up to this size get all their pages at once.
const SMALL: u64 = 256 << 10;
/// Mappings from this size on get pages of 2 MiB, where the host has them to give.
const LARGE: u64 = 16 << 20;
/// What of a stack is used soon, below the stack pointer.
const STACK: u64 = 16 << 10;

/// Prepares new memory of a program, without a file, that it may write to.
pub fn prepare(arena: &Arena, start: u64, end: u64) {
    let advice = match end - start {
        ..=SMALL => libc::MADV_POPULATE_WRITE,
        LARGE.. => libc::MADV_HUGEPAGE,
        _ => return,
    };
    let _ = arena.advise(start, end - start, advice);
}

/// Prepares a stack that begins at `rsp`.
pub fn prepare_stack(arena: &Arena, rsp: u64) {
    let end = rsp.next_multiple_of(4096);
    let _ = arena.advise(end - STACK, STACK, libc::MADV_POPULATE_WRITE);
}
