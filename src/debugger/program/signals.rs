//! Signals: gdb numbers them in its own way. Source: gdb's include/gdb/signals.def.

use gdbstub::common::Signal;

/// Those whose number is another one with gdb.
const PAIRS: [(i32, Signal); 17] = [
    (libc::SIGBUS, Signal::SIGBUS),
    (libc::SIGUSR1, Signal::SIGUSR1),
    (libc::SIGUSR2, Signal::SIGUSR2),
    (libc::SIGCHLD, Signal::SIGCHLD),
    (libc::SIGCONT, Signal::SIGCONT),
    (libc::SIGSTOP, Signal::SIGSTOP),
    (libc::SIGTSTP, Signal::SIGTSTP),
    (libc::SIGTTIN, Signal::SIGTTIN),
    (libc::SIGTTOU, Signal::SIGTTOU),
    (libc::SIGURG, Signal::SIGURG),
    (libc::SIGXCPU, Signal::SIGXCPU),
    (libc::SIGXFSZ, Signal::SIGXFSZ),
    (libc::SIGVTALRM, Signal::SIGVTALRM),
    (libc::SIGPROF, Signal::SIGPROF),
    (libc::SIGWINCH, Signal::SIGWINCH),
    (libc::SIGIO, Signal::SIGIO),
    (libc::SIGSYS, Signal::SIGSYS),
];

/// The same signal as gdb has it. Real-time ones begin at 32 with Linux; gdb has its numbers for them in two places.
pub fn to_gdb(signal: i32) -> Signal {
    if let Some(&(_, pair)) = PAIRS.iter().find(|(linux, _)| *linux == signal) {
        return pair;
    }
    match signal {
        libc::SIGPWR => Signal::SIGPWR,
        32 => Signal::SIG32,
        // SIG33 is 45, and so on up to SIG63.
        33..=63 => Signal(signal.saturating_add(12) as u8),
        64 => Signal::SIG64,
        signal => Signal(signal as u8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_gdbs_numbers() {
        let numbers = [1, 2, 7, 9, 10, 11, 15, 17, 32, 33, 34, 63].map(|signal| to_gdb(signal).0);
        assert_eq!(numbers, [1, 2, 10, 9, 30, 11, 15, 20, 77, 45, 46, 75]);
    }
}
