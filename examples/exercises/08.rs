//! Exercise 08: a stack for each.
//!
//! All processors of a machine run the same program, which begins at 0x7c00 in real mode and pushes up to 256 bytes. Each
//! needs its number in AX, and a stack that no other one uses and that does not run into the program (it ends before 0x8000) or
//! into the addresses below 0x2000, where the program keeps its results. There are 64 KiB of memory.
//!
//! Check it with `cargo test --test exercises -- --ignored exercise_08`.

use matchstick::x86::{Entry, Mode};

/// How each of `cpus` processors (at most 16) is entered.
pub fn entries(cpus: u32) -> Vec<Entry> {
    let entry = |index| Entry { rax: u64::from(index), rsp: 0x7c00, ..Entry::at(Mode::Real, 0x7c00) };
    (0..cpus).map(entry).collect() // todo: they all push to one place
}
