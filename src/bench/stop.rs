//! Ctrl-C during a race: it is noted, whatever runs is ended, and what was measured is written.

use crate::error::{Error, Result, Step};
use crate::sys;

/// From now on a signal that asks to end does not end this process, but is noted. Whoever makes something that is to be
/// removed again calls it first.
pub fn catch() -> Result<()> {
    sys::note_ending_signals(|_| {}).map_err(|source| Error::Host { step: Step::Signals, source })
}

/// Whether one of them has come.
pub fn asked() -> bool {
    sys::noted_signal().is_some()
}
