//! Why a debugger cannot be talked to.

use crate::error::Error;
use std::io;
use std::path::PathBuf;

/// A result of talking to a debugger.
pub type Result<T> = std::result::Result<T, DebuggerError>;

/// A debugger was asked for, and it cannot be talked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DebuggerError {
    /// No debugger can call at that port or path.
    #[error("cannot listen for a debugger")]
    Listen(#[source] io::Error),

    /// There is a socket at that path, which a process has left behind that was killed.
    #[error("nobody listens at the socket {} any more, and it is in the way", crate::text::shown(.0))]
    StaleSocket(PathBuf),

    /// It called, and what it says cannot be heard or understood.
    #[error("cannot talk to the debugger")]
    Talk(#[source] io::Error),

    /// One of the machine.
    #[error(transparent)]
    Vmm(#[from] Error),
}
