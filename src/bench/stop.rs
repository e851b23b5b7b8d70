//! Ctrl-C during a race: it is noted, whatever runs is ended, and what was measured is written.

use crate::sys;
use std::io;
use std::sync::atomic::{AtomicI32, Ordering};

/// The signal that arrived, or 0.
static SIGNAL: AtomicI32 = AtomicI32::new(0);

extern "C" fn note(signal: i32) {
    SIGNAL.store(signal, Ordering::SeqCst);
}

/// From now on SIGINT, SIGTERM and SIGHUP do not end this process, but are noted.
pub fn catch() -> io::Result<()> {
    [libc::SIGINT, libc::SIGTERM, libc::SIGHUP]
        .into_iter()
        .try_for_each(|signal| sys::on_signal_unless_ignored(signal, note))
}

/// Whether one of them has come.
pub fn asked() -> bool {
    SIGNAL.load(Ordering::SeqCst) != 0
}

/// Ends this process by the signal that came, if one did: a shell should see the truth.
pub fn die_if_asked() {
    match SIGNAL.load(Ordering::SeqCst) {
        0 => {}
        signal => sys::die_of(signal),
    }
}
