//! Why there is no Linux to run: no kernel, or a root file system that cannot be made.

use crate::text::shown;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

/// A result of making a Linux guest.
pub type Result<T> = std::result::Result<T, LinuxError>;

/// What keeps a Linux guest from being made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinuxError {
    /// No kernel is installed on this host.
    #[error("there is no Linux kernel in {}", shown(directory))]
    NoKernel {
        /// Where it was looked for.
        directory: PathBuf,
    },

    /// A file cannot be part of the guest's initramfs.
    #[error("cannot pack {}", shown(path))]
    Pack {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: PackError,
    },

    /// A module without which the guest cannot begin is neither in the kernel nor beside it.
    #[error("there is no module {name} in {}", shown(directory))]
    NoModule {
        /// What it is called.
        name: String,
        /// Where the kernel's modules are.
        directory: PathBuf,
    },

    /// A word cannot be handed to the first program by the kernel's command line.
    #[error("Linux cannot be told {word:?}: {why}")]
    Word {
        /// The word.
        word: OsString,
        /// Why not.
        why: &'static str,
    },

    /// More words than the kernel hands to its first program.
    #[error("Linux cannot be told {count} words: it hands over {limit} at most")]
    Words {
        /// How many.
        count: usize,
        /// The most.
        limit: usize,
    },
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

    /// The time for it is over.
    #[error("it did not end within its time")]
    TimedOut,

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

    /// A module of which it cannot be seen what it needs.
    #[error("it is compressed, and there is no modules.dep")]
    Compressed,

    /// A root file system that does not say what to start.
    #[error("it has neither /init nor /sbin/init")]
    NoInit,
}
