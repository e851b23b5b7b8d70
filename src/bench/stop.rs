//! Ctrl-C during a race: it is noted, whatever runs is ended, and what was measured is written.

use crate::console::ENDING;
use crate::error::{Error, Result};
use crate::sys;
use std::sync::atomic::{AtomicI32, Ordering};

/// The signal that arrived, or 0.
static SIGNAL: AtomicI32 = AtomicI32::new(0);

extern "C" fn note(signal: i32) {
    SIGNAL.store(signal, Ordering::SeqCst);
}

/// From now on the signals of [`ENDING`] do not end this process, but are noted. Whoever makes something that is to be
/// removed again calls it first.
pub fn catch() -> Result<()> {
    let mut signals = ENDING.into_iter();
    signals
        .try_for_each(|signal| sys::on_signal_unless_ignored(signal, note))
        .map_err(|source| Error::Host { what: "set up signals", source })
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
