//! Why a race cannot be run, or be compared with an older one.

use crate::text::shown;
use std::io;
use std::path::PathBuf;

/// A result whose error keeps a race from being run.
pub type Result<T> = std::result::Result<T, Error>;

/// What keeps a race from being run. That a subject cannot take part is none of these: that is
/// [`Missing`](super::subject::Missing).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What was asked for makes no race.
    #[error("{0}")]
    Request(String),

    /// The file that should be raced is no program.
    #[error("{} is no payload", shown(path))]
    NoPayload {
        /// The file.
        path: PathBuf,
        /// What it is.
        source: io::Error,
    },

    /// There is no place for what the race needs.
    #[error("cannot make a directory for the race")]
    Directory(#[source] io::Error),

    /// The race's directory does not take its programs.
    #[error("cannot put a program into the race's directory")]
    Fill(#[source] io::Error),

    /// The race cannot be bound to the CPU that was asked for.
    #[error("cannot bind the race to CPU {cpu}")]
    Pin {
        /// Its number.
        cpu: u32,
        /// What the operating system said.
        source: io::Error,
    },

    /// What should be the report of an older race is none.
    #[error("cannot compare with {}", shown(path))]
    NoReport {
        /// The file.
        path: PathBuf,
        /// What was wrong with it.
        source: io::Error,
    },

    /// One that is not about races.
    #[error(transparent)]
    Vmm(#[from] crate::error::Error),
}
