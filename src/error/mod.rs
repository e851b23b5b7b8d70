//! What can go wrong, sorted by what a caller can do about it.
//!
//! `Display` is one short line that never repeats its `source`: whoever prints an [`Error`] prints
//! the whole chain, once. A guest that crashes is not an error of ours: that is
//! [`Outcome::Crashed`](crate::machine::Outcome).

mod image;

pub use image::ImageError;

use std::io;
use std::path::PathBuf;

/// A result whose error is ours.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that keeps a guest from being started or served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// This host cannot run a VM as it is: no /dev/kvm, no permission, a capability is missing.
    #[error("cannot {what}")]
    Host {
        /// The step that failed, as the end of "cannot …".
        what: &'static str,
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

    /// This host cannot make a container.
    #[error("cannot {step}")]
    Contain {
        /// The step that failed, as the end of "cannot …".
        step: &'static str,
        /// What the operating system said.
        source: io::Error,
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
    #[error("{0}")]
    Config(String),

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

    /// The race that was asked for cannot be run.
    #[error("{0}")]
    Race(String),

    /// A report or a golden image cannot be written to where it should be.
    #[error("cannot write {}", path.display())]
    Export {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },

    /// What should be the report of an older race is none.
    #[error("cannot compare with {}", path.display())]
    NoReport {
        /// The file.
        path: PathBuf,
        /// What was wrong with it.
        source: io::Error,
    },

    /// The guest wrote, or we did, and the output could not be passed on.
    #[error("cannot write the output")]
    Output(#[source] io::Error),
}

impl Error {
    /// The exit status of a command that ends with this error; the numbers are those of env(1), timeout(1)
    /// and `docker run`.
    pub fn exit_status(&self) -> u8 {
        match self {
            Error::Config(_)
            | Error::Golden
            | Error::Debugger { .. }
            | Error::Output(_)
            | Error::Race(_)
            | Error::Snapshot(_)
            | Error::Export { .. }
            | Error::NoReport { .. } => 125,
            Error::Pack { source: PackError::Io(source), .. } if source.kind() == io::ErrorKind::NotFound => {
                127
            }
            Error::Process { source: ProcessError::Missing, .. } => 127,
            Error::Host { .. }
            | Error::Contain { .. }
            | Error::Process { .. }
            | Error::Unreadable { .. }
            | Error::Image { .. }
            | Error::Pack { .. } => 126,
            Error::NoGuest { .. } | Error::NotFound { .. } | Error::NoKernel { .. } => 127,
        }
    }

    /// One line about what to do, where that is known.
    pub fn hint(&self) -> Option<&'static str> {
        use io::ErrorKind::{FileTooLarge, NotFound, OutOfMemory, PermissionDenied, StorageFull};
        Some(match self {
            Error::Host { what: "open /dev/kvm", source } if source.kind() == NotFound => {
                "load the module: sudo modprobe kvm_intel (or kvm_amd); inside a VM, switch nested virtualisation on"
            }
            Error::Host { what: "open /dev/kvm", source } if source.kind() == PermissionDenied => {
                "sudo usermod -aG kvm $USER, then log in again; `matchstick host` checks the rest"
            }
            Error::Host { what: "bind the race to that CPU", .. } => {
                "--pin takes a number that /proc/cpuinfo has"
            }
            Error::Host {
                what: "make a directory for the race" | "put a program into the race's directory",
                ..
            } => {
                "it is in /tmp, or in the directory that TMPDIR names, which takes room that you may write to"
            }
            Error::Host { what: "set up the sandbox", .. } => "--sandbox off runs the guest without",
            Error::Host { source, .. } => match source.kind() {
                _ if matches!(source.raw_os_error(), Some(libc::EAGAIN | libc::EMFILE | libc::ENFILE)) => {
                    "a limit on threads, signals or open files is in the way: `ulimit -a` shows them"
                }
                OutOfMemory => "a guest of this size does not fit: a smaller -m or fewer -c",
                _ => "this host's KVM cannot do it; matchstick needs Linux 4.17 or newer",
            },
            Error::NoGuest { .. } => "`matchstick guests` lists the guests that need no file",
            Error::NotFound { .. } => {
                "`matchstick guests` lists what needs no file, and `matchstick snapshot -o FILE` makes a golden image"
            }
            Error::Unreadable { .. } => "an image is a regular file that you may read",
            Error::Pack { source, .. } => match source {
                PackError::Io(_) | PackError::NotAFile => {
                    "--init takes a program, --rootfs a directory whose files you may read"
                }
                PackError::Full { .. } => "more memory: -m SIZE",
                PackError::TooLarge { .. } | PackError::NameTooLong => "a root file system without it",
                PackError::Interpreter { .. } => {
                    "link it statically, or put it into a directory with its libraries: --rootfs DIR --init PATH-IN-DIR"
                }
                PackError::Script => {
                    "put it into a directory with its interpreter: --rootfs DIR --init PATH-IN-DIR"
                }
                PackError::NotElf => "--init takes a static Linux program for x86-64",
                PackError::NoInit => "--init PATH-IN-DIR names a program of it to run",
            },
            Error::NoKernel { .. } => {
                "apt-get install linux-image-cloud-amd64 puts one there (on Debian); --kernel PATH names one elsewhere"
            }
            Error::Image { source, .. } => match source {
                ImageError::Unknown { .. } | ImageError::Not { .. } => {
                    "--boot flat16|flat64|elf|multiboot|pvh|linux names the protocol; `matchstick help run` tells of each"
                }
                ImageError::Outside { .. } => "more memory: -m 512M",
                ImageError::TooLarge { .. } => {
                    "less of it; where the limit is the guest's memory, -m gives it more"
                }
                ImageError::Overlap { .. } => {
                    "an image says itself where it goes; an initrd finds more room with more memory: -m 512M"
                }
                ImageError::Foreign { .. } => {
                    "a golden image goes on where it was made, or on a host that can do as much"
                }
                ImageError::Unpassable { .. } => "elf, multiboot and pvh take a command line and an initrd",
                _ => "is it the file you meant, and whole?",
            },
            Error::Contain { source, .. } => match source.raw_os_error() {
                Some(libc::ENOSYS | libc::E2BIG | libc::EINVAL) => "a container takes Linux 5.7 or newer",
                Some(libc::ENOENT | libc::ENOEXEC) => "a container holds one file: a static program",
                _ => {
                    "users may be kept from namespaces: `sysctl -a | grep -E 'userns|user.max'` shows it; root may"
                }
            },
            Error::Debugger { .. } => {
                "in gdb: `target remote :PORT` or `target remote PATH`; --gdb takes a port that is free, or unix:PATH"
            }
            Error::Golden => {
                "--timeout, --max-output and --sandbox are new with each run of it; `matchstick snapshot` decides the rest"
            }
            Error::Process { source: ProcessError::Io(_), .. } => {
                "only one's own processes may be traced, where kernel.yama.ptrace_scope is 0, and by one tracer; root may others'"
            }
            Error::Process { .. } => {
                "the process is that of `matchstick run IMAGE`, as `pgrep -a matchstick` shows it"
            }
            Error::Config(_) => "-m SIZE is the guest's memory, -c N its number of CPUs",
            Error::Race(_) => "`matchstick bench --help` shows all options",
            Error::Export { source, .. } if source.kind() == StorageFull => "make room where the file goes",
            Error::Export { source, .. } | Error::Output(source) if source.kind() == FileTooLarge => {
                "`ulimit -f` says how large a file may become"
            }
            Error::Export { .. } => "it goes to a file that you may write, in a directory that is there",
            Error::NoReport { .. } => {
                "`matchstick bench --export-json FILE` writes what can be compared with"
            }
            Error::Snapshot(_) => {
                "a guest is saved while it runs: --at ready, post:N, exit:N or a TIME; its devices must be ours"
            }
            Error::Output(source) if source.kind() == StorageFull => "make room where standard output goes",
            Error::Output(_) => "is whatever reads standard output still there?",
        })
    }
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
