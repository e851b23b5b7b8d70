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

    /// A word that is neither a guest of the gallery nor a file.
    #[error("no guest and no file is called {name:?}{meant}")]
    NoGuest {
        /// The word.
        name: String,
        /// The guest that may be meant, as the end of the line.
        meant: String,
    },

    /// There is no image of that name.
    #[error("cannot open {}", path.display())]
    NotFound {
        /// The path as it was given.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },

    /// The image is there, but cannot be read.
    #[error("cannot read {}", path.display())]
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

    /// A file cannot be part of the guest's initramfs.
    #[error("cannot pack {}", path.display())]
    Pack {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: PackError,
    },

    /// No kernel is installed on this host.
    #[error("there is no Linux kernel in {}", directory.display())]
    NoKernel {
        /// Where it was looked for.
        directory: PathBuf,
    },

    /// A debugger was asked for, and it cannot be talked to.
    #[error("cannot {what}")]
    Debugger {
        /// The step that failed, as the end of "cannot …".
        what: &'static str,
        /// What the operating system said.
        source: io::Error,
    },

    /// The machine that was asked for cannot be built.
    #[error(transparent)]
    Config(#[from] ConfigError),

    /// The library was called in an order or with values that it cannot serve; no option and no file leads here.
    #[error("{0}")]
    Misuse(String),

    /// Something was asked of a golden image that was decided when it was made.
    #[error("a golden image has its memory, its CPUs and what it was told")]
    Golden,

    /// The machine cannot be saved as it is, or not be made again from what was saved.
    #[error("cannot take a snapshot: {0}")]
    Snapshot(String),

    /// A process cannot be looked into as the running machine that it should be.
    #[error("cannot compare with process {process}")]
    Process {
        /// Its number.
        process: i32,
        /// Why not.
        source: ProcessError,
    },

    /// A report or a golden image cannot be written to where it should be.
    #[error("cannot write {}", path.display())]
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

/// Why a process is not a running machine that a golden image can be compared with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessError {
    /// It never was, or has ended.
    #[error("there is no such process, or it has ended")]
    Missing,

    /// No vCPU of it was found.
    #[error("it does not run a virtual machine of ours")]
    NotAMachine,

    /// Another number of vCPUs, or another size of memory.
    #[error("it does not run one machine with the memory and the vCPUs of this image")]
    OtherMachine,

    /// Its memory is a private mapping of another file.
    #[error("it goes on from another golden image: {0}")]
    OtherImage(String),

    /// The operating system does not let us.
    #[error(transparent)]
    Io(io::Error),
}

/// Why a file cannot be part of an initramfs, or not be its program.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),

    /// A directory or a device, where there should be a program.
    #[error("it is not a regular file")]
    NotAFile,

    /// It is larger than its size can say in the archive's 32 bits.
    #[error("it has {size} bytes, and a file in an initramfs at most 4294967295")]
    TooLarge {
        /// Its size.
        size: u64,
    },

    /// With it, the archive would be larger than it may be.
    #[error("with it, the initramfs would not fit the guest's memory of {limit} bytes")]
    Full {
        /// The largest size.
        limit: u64,
    },

    /// Its path is one that Linux does not take.
    #[error("its path is longer than 4095 bytes")]
    NameTooLong,

    /// A program that another one has to load, which would not be there.
    #[error("it needs a dynamic loader, {interpreter}")]
    Interpreter {
        /// That other one's path.
        interpreter: String,
    },

    /// A program whose first line names another one, which would not be there.
    #[error("it is a script")]
    Script,

    /// Not a program, or one for other processors.
    #[error("it is not an ELF program for x86-64")]
    NotElf,

    /// A root file system that does not say what to start.
    #[error("it has neither /init nor /sbin/init")]
    NoInit,
}
