//! What a program may take: memory, time, output, processes, processors.
//!
//! Memory is each process's own matter (`AddressSpace`); the rest is for all processes of the program together
//! ([`crate::sys::program::limits`]). Output is what is written to the files that standard output and error were when the
//! program was started, by whichever descriptor.

use crate::error::{Error, Result, Step};
use crate::sys::program::{self as sys, limits};
use std::os::fd::RawFd;
use std::time::Duration;

pub use limits::PROCESSES_MAX;

/// What a program may take. Nothing is limited by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory that each process may have mapped to write to, without those that it shares with others by a file.
    pub memory: Option<u64>,
    /// How long all of it may take.
    pub time: Option<Duration>,
    /// How many bytes may be written to standard output and error.
    pub output: Option<u64>,
    /// How many processes there may be at once, the first one included: 1 to [`PROCESSES_MAX`].
    pub processes: Option<u32>,
    /// How many of this host's processors it may use.
    pub cpus: Option<u32>,
}

/// The status of a program whose time was over, and of one that wrote too much: as `run` has them.
const TIMED_OUT: u8 = 124;
const TOO_MUCH_OUTPUT: u8 = 120;

/// Puts the limits for all processes in force. `name` is the program's, for the last words.
pub fn put_in_force(limits: &Limits, name: &str, lowest: RawFd) -> Result<()> {
    let last = |what: &str, option: &str, status| limits::Last {
        text: format!("error: {name} {what}\n hint: {option} is the limit\n"),
        status,
    };
    let host = |source| Error::Host { step: Step::Limits, source };
    if let Some(cpus) = limits.cpus {
        sys::use_processors(cpus).map_err(host)?;
    }
    let time =
        limits.time.map(|time| (time, last("did not end within its time", "--timeout TIME", TIMED_OUT)));
    let output = limits
        .output
        .map(|size| (size, last("wrote more than it may", "--max-output SIZE", TOO_MUCH_OUTPUT)));
    limits::limit(limits::Limits { time, output, processes: limits.processes }, lowest).map_err(host)
}

/// Which files count as output.
pub struct Output([sys::Identity; 2]);

/// Bytes that a call was allowed to write.
pub struct Granted(u64);

impl Output {
    /// Those of standard output and error, if there is a limit.
    pub fn find() -> Option<Output> {
        let identity = |fd| sys::identity(fd).unwrap_or_default();
        limits::has_output_limit().then(|| Output([identity(1), identity(2)]))
    }

    /// Whether what the descriptor `fd` is open for is one of them.
    fn is_output(&self, fd: u64) -> bool {
        sys::identity(fd as RawFd).is_ok_and(|identity| self.0.contains(&identity))
    }

    /// Before a call: shortens what it would write to what may be written. At the end of that, the program ends.
    pub fn before(&self, number: i64, words: &mut [u64; 6]) -> Option<Granted> {
        let (fd, count) = places(number)?;
        if !self.is_output(words[fd]) {
            return None;
        }
        let Some(count) = count else { return Some(Granted(0)) };
        let granted = limits::take_output(words[count]);
        if granted == 0 && words[count] > 0 {
            limits::end_for_output();
        }
        words[count] = granted;
        Some(Granted(granted))
    }

    /// After it: what was not written can be by others. What says its length in memory is counted only now.
    pub fn after(&self, granted: Granted, written: u64) {
        let Granted(granted) = granted;
        match granted.checked_sub(written) {
            Some(rest) => limits::give_back_output(rest),
            None => {
                if limits::take_output(written - granted) < written - granted {
                    limits::end_for_output();
                }
            }
        }
    }
}

/// Of a call that writes: which argument is the descriptor, and which the number of bytes, if one is.
fn places(number: i64) -> Option<(usize, Option<usize>)> {
    Some(match number {
        libc::SYS_write | libc::SYS_pwrite64 | libc::SYS_sendto => (0, Some(2)),
        libc::SYS_sendfile => (0, Some(3)),
        libc::SYS_tee => (1, Some(2)),
        libc::SYS_splice | libc::SYS_copy_file_range => (2, Some(4)),
        libc::SYS_writev | libc::SYS_pwritev | libc::SYS_pwritev2 | libc::SYS_sendmsg => (0, None),
        _ => return None,
    })
}
