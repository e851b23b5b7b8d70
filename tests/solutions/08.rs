//! A solution of exercise 08, a stack for each: look after you have tried.

use matchstick::x86::{Entry, Mode};

/// How each of `cpus` processors (at most 16) is entered.
pub fn entries(cpus: u32) -> Vec<Entry> {
    let stack = |index: u64| 0x9000 + 0x400 * index;
    let entry = |index| Entry { rax: index, rsp: stack(index), ..Entry::at(Mode::Real, 0x7c00) };
    (0..cpus.into()).map(entry).collect()
}
