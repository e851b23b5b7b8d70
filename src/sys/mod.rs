//! The rest of libc, each call behind a safe function.
//!
//! Nothing here knows about virtual machines. What vmm-sys-util has is taken from there; each file says what it does by
//! hand, and why.
#![allow(unsafe_code)]

#[cfg(feature = "cli")]
pub mod clone;
mod confine;
pub mod contents;
mod file;
mod host;
mod process;
pub mod program;
#[cfg(feature = "trace")]
pub mod publisher;
pub mod replace;
mod screen;
mod signal;
pub mod spawn;
pub mod stopped;
mod terminal;
mod time;
mod waiting;

pub use confine::{
    close_file_system, die_saying, drop_capabilities, limit_resources, name_forbidden_calls,
    on_forbidden_call, share_one_heap,
};
pub use file::{
    Hole, inherited_pipe, link_target, make_hole, memory_file, next_data, not_raced, open_at,
    open_without_waiting, own_pages, pipe_for_child, try_lock, unmount, wait_for_input, write_all,
};
pub use host::{cpuid, effective_user, random, ring, smallest_system_call};
pub use process::{begin, bind_to, close_inherited, end_with_parent, process_exists, raise_open_files};
pub use signal::{
    Thread, Timer, block_signals, die_if_noted, die_of, note_ending_signals, noted_signal, on_kick,
    send_signal,
};
pub use terminal::{
    Input, columns, follow_output, raw_terminal, restore_terminal, stdin_kind, wait_for_stdout,
    watch_mapped_files,
};
pub use time::{date, monotonic, timer_frequency, unix_nanos, unix_time};
pub use waiting::WaitingReader;

use std::io;
use vmm_sys_util::syscall::SyscallReturnCode;

/// -1 for failure, and then errno, as most of libc has it.
fn check(result: libc::c_int) -> io::Result<()> {
    SyscallReturnCode(result).into_empty_result()
}
