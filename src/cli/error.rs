//! What a command can end with, from all rooms. What to do about each, and its exit status: [`hint`](super::hint).

#[cfg(feature = "race")]
use crate::bench;
#[cfg(feature = "debugger")]
use crate::debugger::DebuggerError;
use crate::error;
#[cfg(feature = "images")]
use crate::image;
use crate::linux::LinuxError;
use crate::oci::OciError;
use crate::program::Failure;
use crate::snapshot::SnapshotError;
use crate::text::shown;
use crate::virtio::DiskError;
use std::io;
use std::path::PathBuf;

/// A result of a command.
pub type Result<T> = std::result::Result<T, Error>;

/// What keeps a command from doing what it is for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A word that is neither a guest of the gallery nor a file.
    #[error("no guest and no file is called {name:?}{meant}")]
    NoGuest {
        /// The word.
        name: String,
        /// The guest that may be meant, as the end of the line.
        meant: String,
    },

    /// The initrd that was named is not there.
    #[error("cannot open {}", shown(path))]
    NoInitrd {
        /// The path as it was given.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },

    /// The image is a program for Linux.
    #[error("{name} is a Linux program, not a kernel")]
    NoKernel {
        /// The image's path.
        name: String,
    },

    /// A disk that is to be the root has no file system that is known.
    #[error("there is no file system on {name}")]
    NoRoot {
        /// The disk's path.
        name: String,
    },

    /// Something was asked of a golden image that was decided when it was made.
    #[error("a golden image has its kernel and what that was told")]
    Decided,

    /// A guest did not come to the moment at which it was to be saved.
    #[error("cannot take a snapshot: the guest ended before it came to that point")]
    TooEarly,

    /// Of the machine, its image and its files.
    #[error(transparent)]
    Vmm(#[from] error::Error),

    /// Of the OCI runtime.
    #[error(transparent)]
    Oci(#[from] OciError),

    /// Of golden images.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),

    /// A Linux program is not there.
    #[error("cannot run {name}: there is no such program{meant}")]
    NoProgram {
        /// As it was given.
        name: String,
        /// The one that may be meant, as the end of the line.
        meant: String,
    },

    /// A Linux program cannot be run.
    #[error("cannot run {name}")]
    Program {
        /// As it was given.
        name: String,
        /// Why not.
        source: Failure,
    },

    /// A descriptor that a program is to have is none.
    #[error("descriptor {0} is not open")]
    NotOpen(u32),

    /// A container image says nothing of what to run, and nothing was typed.
    #[cfg(feature = "images")]
    #[error("the image does not say what to run")]
    NoCommand,

    /// Of a container image.
    #[cfg(feature = "images")]
    #[error(transparent)]
    Image(#[from] image::Error),

    /// A lab needs what is not here.
    #[error("the lab {lab} needs {what}")]
    LabNeeds {
        /// Its name.
        lab: &'static str,
        /// `root`, or a program.
        what: &'static str,
    },

    /// A command of a lab failed.
    #[error("step {step} of the lab failed, with status {status}")]
    Lab {
        /// Which block of commands, from 1.
        step: usize,
        /// The shell's exit status.
        status: i32,
    },

    /// The shell of a lab cannot be started or read.
    #[error("cannot run a shell")]
    Shell(#[source] io::Error),

    /// Of a debugger.
    #[cfg(feature = "debugger")]
    #[error(transparent)]
    Debugger(#[from] DebuggerError),

    /// Of a Linux guest.
    #[error(transparent)]
    Linux(#[from] LinuxError),

    /// Of a disk.
    #[error(transparent)]
    Disk(#[from] DiskError),

    /// Of a race.
    #[cfg(feature = "race")]
    #[error(transparent)]
    Bench(#[from] bench::Error),
}
