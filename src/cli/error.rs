//! What a command can end with, from all rooms. What to do about each, and its exit status: [`hint`](super::hint).

use crate::{bench, error};

/// A result of a command.
pub type Result<T> = std::result::Result<T, Error>;

/// What keeps a command from doing what it is for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Of the machine, its image and its files.
    #[error(transparent)]
    Vmm(#[from] error::Error),

    /// Of a race.
    #[error(transparent)]
    Bench(#[from] bench::Error),
}
