//! First touches made cheap: each page of a program that is touched for the first time is an exit to KVM, and costs more
//! there than on the host. What was tried, with figures, is in docs/programs.md.
//!
//! KVM where it shadows page tables gives eight pages for one fault, if the host has them already and they may be written
//! to. So memory that a program is about to write to is filled before it is touched: all of it if it is small; if not,
//! a window of it when the program comes there, which it does by a page fault, since the entries of its page tables are
//! missing until then. Large memory gets large pages.
//!
//! Source: madvise(2). Hosts that do not know what is asked for do as well without.

use super::tables::Rights;
use crate::sys::program::Arena;

/// Memory without a file up to this size gets all its pages at once.
const SMALL: u64 = 256 << 10;
/// From this size on it gets pages of 2 MiB, where the host has them to give.
const LARGE: u64 = 16 << 20;
/// In between it gets so much at a time, at multiples of this.
const WINDOW: u64 = 128 << 10;
/// Data of a program or a library, which is copied when it is written to: up to this size it is copied at once.
const DATA: u64 = 2 << 20;
/// What of a stack is used soon, below the stack pointer.
pub const STACK: u64 = 16 << 10;

/// Prepares memory of the program's own that was mapped just now. Says whether it may use the pages already; if not, it
/// faults when it comes to a window.
pub fn prepare(arena: &Arena, start: u64, end: u64, rights: Rights, is_anonymous: bool) -> bool {
    let len = end - start;
    if !rights.write {
        return true;
    }
    if len <= if is_anonymous { SMALL } else { DATA } {
        populate(arena, start, end);
    } else if is_anonymous && len >= LARGE {
        let _ = arena.advise(start, len, libc::MADV_HUGEPAGE);
    } else if is_anonymous {
        return false;
    }
    true
}

/// The window at `at`, in memory from `start` to `end`.
pub fn window(at: u64, start: u64, end: u64) -> (u64, u64) {
    let from = at & !(WINDOW - 1);
    (from.max(start), (from + WINDOW).min(end))
}

/// Has the host put pages there that may be written to.
pub fn populate(arena: &Arena, start: u64, end: u64) {
    let _ = arena.advise(start, end - start, libc::MADV_POPULATE_WRITE);
}
