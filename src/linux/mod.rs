//! A Linux as the guest: a kernel of this host, what it is told, and a root file system made for it on the spot.
//!
//! How a kernel is entered is not here, but in [`boot::linux`](crate::boot::linux).

pub mod cmdline;
mod disk;
mod error;
pub mod initramfs;
pub mod kernel;
pub mod modules;
mod tree;
pub mod userland;

pub use disk::Disk;
pub use error::{LinuxError, PackError};

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Instant;

/// The name in place of an image's.
pub const NAME: &str = "linux";
/// What a Linux guest gets unless its user says otherwise, in bytes.
pub const MEMORY: u64 = 512 << 20;

/// The first program of a Linux guest, `guest-kernels/linux/init.rs`: a static ELF file.
pub static INIT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/linux-init"));

/// What is asked of a Linux guest.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// The program that it is to run: a file of this host or, with `rootfs`, of that directory.
    pub init: Option<PathBuf>,
    /// A directory of which its root file system is a copy.
    pub rootfs: Option<PathBuf>,
    /// Modules of the kernel to load first, in this order.
    pub modules: Vec<PathBuf>,
    /// A disk that becomes the root file system, unless there are `init` or `rootfs`.
    pub disk: Option<Disk>,
    /// What that program, or its first one, is told.
    pub args: Vec<OsString>,
    /// More for the kernel's command line, after the default.
    pub cmdline: Option<OsString>,
    /// The command line instead of the default.
    pub cmdline_only: Option<OsString>,
    /// Whether the kernel keeps to itself what it has to say, until it panics: what its programs say is then alone.
    pub quiet: bool,
    /// Its memory in bytes, which its root file system has to fit.
    pub memory: u64,
    /// When making it has to be over, if there is a limit.
    pub deadline: Option<Instant>,
    /// What TERM says of the terminal that its serial line ends at; `None` if that is a pipe.
    pub terminal: Option<String>,
    /// Whether what `init` writes comes through a pipe, and from there to the serial port in strings: only our port
    /// takes them as fast as that.
    pub strings: bool,
}

impl Default for Options {
    /// Our own init, with nothing to do.
    fn default() -> Options {
        Options {
            init: None,
            rootfs: None,
            modules: Vec::new(),
            disk: None,
            args: Vec::new(),
            cmdline: None,
            cmdline_only: None,
            quiet: false,
            memory: MEMORY,
            deadline: None,
            terminal: None,
            strings: false,
        }
    }
}
