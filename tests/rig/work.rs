//! Starts a command and says how much of a processor's time it took, with the children that it waited for, in ns: `work COMMAND…`.
//!
//! For `tests/rig/count-exec`, which compiles it with rustc alone. Where an instruction takes a nanosecond, that is how many
//! instructions were executed on its account, by itself and by the kernel; what it waited for is not among them. Linux knows
//! the sum exactly and tells it in microseconds (getrusage(2)).

use std::process::{Command, ExitCode, Stdio};

/// `struct rusage`: twice seconds and microseconds, then what is of no interest here.
#[repr(C)]
struct Usage {
    times: [i64; 4],
    rest: [i64; 14],
}

unsafe extern "C" {
    fn getrusage(who: i32, usage: *mut Usage) -> i32;
}

/// `RUSAGE_CHILDREN`
const CHILDREN: i32 = -1;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let Some(program) = args.next() else { return ExitCode::from(2) };
    let status = Command::new(&program).args(args).stdin(Stdio::null()).status();
    match status {
        Ok(status) if status.success() => {}
        other => {
            eprintln!("{program}: {other:?}");
            return ExitCode::FAILURE;
        }
    }
    let mut usage = Usage { times: [0; 4], rest: [0; 14] };
    // SAFETY: the structure is the kernel's, and ours to be written to.
    unsafe { getrusage(CHILDREN, &mut usage) };
    let [seconds, micros, more_seconds, more_micros] = usage.times;
    println!("RIG-WORK {}", (seconds + more_seconds) * 1_000_000_000 + (micros + more_micros) * 1000);
    ExitCode::SUCCESS
}
