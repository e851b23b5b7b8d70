//! The `matchstick` command; everything is in the library's `cli`.
//!
//! Not started by std: before it calls `main`, std reads /proc/self/maps to find the end of the main
//! thread's stack and sets handlers that would report its overflow. That costs a start about 35 µs, as much
//! as a vCPU's registers and memory together. [`matchstick::cli::main`] does the rest of what std would do.
#![no_main]

// Only glibc hands the arguments to those who ask for them before std was started.
#[cfg(not(target_env = "gnu"))]
compile_error!("the matchstick command is built for *-linux-gnu targets");

use std::ffi::{c_char, c_int};

/// Called by the C library.
#[allow(unsafe_code, reason = "the C library looks for a function of this name")]
#[unsafe(no_mangle)]
extern "C" fn main(_argc: c_int, _argv: *const *const c_char) -> c_int {
    matchstick::cli::main(std::env::args_os()).into()
}
