//! Traces of Linux programs: every system call in words, with what it cost to leave the VM for it.
//!
//! ```text
//!   each process of the program: Watcher ──records──▶ pipe ──▶ Story, in a process outside ──▶ text, JSON, pages
//! ```
//!
//! A [`Watcher`] writes what happens as it happens, and a [`Story`] tells it line by line: so a program that hangs or
//! is killed was told of until then. What was somebody else's is escaped on its way in (`words`) and once more on its
//! way out. It is strace(1) from the other side: nothing stops the program, who serves its calls just says so.

mod line;
mod meaning;
mod names;
mod pages;
mod story;
mod sums;
mod watcher;
mod words;

pub use story::Story;
pub use watcher::Watcher;
