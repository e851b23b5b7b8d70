//! What can go wrong, sorted by what a caller can do about it.
//!
//! `Display` is one short line that never repeats its `source`: whoever prints an [`Error`] prints
//! the whole chain, once. A guest that crashes is not an error of ours: that is
//! [`Outcome::Crashed`](crate::machine::Outcome).

mod config;
mod image;
mod step;

pub use config::ConfigError;
pub use image::{ImageError, LOADED_BELOW};
pub use step::Step;

use crate::text::shown;
use std::error::Error as StdError;
use std::io;
use std::path::PathBuf;

/// A result whose error is ours.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that keeps a guest from being started or served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// This host cannot run a VM as it is: no /dev/kvm, no permission, a capability is missing.
    #[error("cannot {step}")]
    Host {
        /// The step that failed.
        step: Step,
        /// What the operating system said.
        source: io::Error,
    },

    /// There is no image of that name.
    #[error("cannot open {}", shown(path))]
    NotFound {
        /// The path as it was given.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },

    /// The image is there, but cannot be read.
    #[error("cannot read {}", shown(path))]
    Unreadable {
        /// The path as it was given.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },

    /// The image is there, but cannot be booted.
    #[error("cannot load {name}")]
    Image {
        /// The guest's name or the image's path.
        name: String,
        /// Why not.
        source: ImageError,
    },

    /// The machine that was asked for cannot be built.
    #[error(transparent)]
    Config(#[from] ConfigError),

    /// The library was called in an order or with values that it cannot serve; no option and no file leads here.
    #[error("{0}")]
    Misuse(String),

    /// A report or a golden image cannot be written to where it should be.
    #[error("cannot write {}", shown(path))]
    Export {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },

    /// The guest wrote, or we did, and the output could not be passed on.
    #[error("cannot write the output")]
    Output(#[source] io::Error),
}

/// An error with all its causes, in one line.
pub fn in_words(error: &(dyn StdError + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
