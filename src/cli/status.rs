//! The exit statuses that are ours; a guest's own is its own. Those of env(1) and timeout(1) are kept.

/// The guest wrote more than it was allowed to.
pub const OUTPUT: u8 = 120;
/// Linux panicked. It was told to ask for a warm reset then, by which we know.
pub const PANIC: u8 = 121;
/// The guest asked for a reset: not an end it chose, and not a crash.
pub const RESET: u8 = 122;
/// The guest crashed; see [`crate::machine::Crash`].
pub const CRASH: u8 = 123;
/// The guest ran out of time, as timeout(1) has it.
pub const TIMEOUT: u8 = 124;
/// We failed: bad usage, no memory, nowhere to write to.
pub const FAILURE: u8 = 125;
/// The guest is there, and cannot be run on this host, or at all.
pub const REFUSED: u8 = 126;
/// What was named is not there.
pub const NOT_FOUND: u8 = 127;
/// Whoever read our output has gone: 128 + SIGPIPE.
pub const PIPE: u8 = 141;
