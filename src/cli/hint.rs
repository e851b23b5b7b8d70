//! What to do about an error, in one line, and the exit status that a command ends with.
//!
//! Both go by the error's type, never by its words. An error whose remedy is not known has no hint.

use super::error::Error;
use super::exec;
use super::status;
#[cfg(feature = "race")]
use crate::bench;
#[cfg(feature = "debugger")]
use crate::debugger::DebuggerError;
use crate::error;
use crate::error::{ConfigError, ImageError, Step};
#[cfg(feature = "images")]
use crate::image;
use crate::linux::{LinuxError, PackError};
use crate::machine::StateError;
use crate::oci::OciError;
use crate::program::Failure;
use crate::snapshot::{ProcessError, SnapshotError};
use crate::virtio::DiskError;
use std::io;
use std::io::ErrorKind::{
    BrokenPipe, FileTooLarge, InvalidInput, IsADirectory, NotADirectory, NotFound, Other, OutOfMemory,
    PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull, TimedOut, UnexpectedEof, Unsupported,
};

impl Error {
    /// The exit status of a command that ends with this error; the numbers are those of env(1), timeout(1) and
    /// `docker run`.
    pub fn exit_status(&self) -> u8 {
        match self {
            Error::Vmm(error) | Error::Snapshot(SnapshotError::Vmm(error)) => status_of_vmm(error),
            #[cfg(feature = "debugger")]
            Error::Debugger(DebuggerError::Vmm(error)) => status_of_vmm(error),
            #[cfg(feature = "debugger")]
            Error::Debugger(_) => status::FAILURE,
            Error::Program { source, .. } => match source {
                Failure::NotFound => status::NOT_FOUND,
                _ => status::REFUSED,
            },
            #[cfg(feature = "images")]
            Error::NoCommand => status::FAILURE,
            #[cfg(feature = "images")]
            Error::Image(error) => status_of_image(error),
            #[cfg(feature = "race")]
            Error::Bench(error) => status_of_bench(error),
            Error::Decided | Error::TooEarly | Error::NotOpen(_) | Error::Lab { .. } | Error::Shell(_) => {
                status::FAILURE
            }
            Error::LabNeeds { .. } | Error::Oci(OciError::NoRuntime | OciError::DoesNotWork { .. }) => {
                status::REFUSED
            }
            Error::Oci(_) => status::FAILURE,
            Error::Disk(DiskError::Open { source, .. }) if source.kind() == NotFound => status::NOT_FOUND,
            Error::NoKernel { .. } | Error::NoRoot { .. } | Error::Disk(_) => status::REFUSED,
            Error::NoGuest { .. }
            | Error::NoProgram { .. }
            | Error::NoInitrd { .. }
            | Error::Linux(LinuxError::NoKernel { .. }) => status::NOT_FOUND,
            Error::Snapshot(SnapshotError::Process { source: ProcessError::Missing, .. }) => {
                status::NOT_FOUND
            }
            Error::Snapshot(SnapshotError::Process { .. }) => status::REFUSED,
            Error::Snapshot(_) => status::FAILURE,
            Error::Linux(LinuxError::Word { .. } | LinuxError::Words { .. }) => status::FAILURE,
            Error::Linux(LinuxError::Pack { source: PackError::TimedOut, .. }) => status::TIMEOUT,
            Error::Linux(LinuxError::Pack { source: PackError::Io(source), .. })
                if source.kind() == NotFound =>
            {
                status::NOT_FOUND
            }
            Error::Linux(_) => status::REFUSED,
        }
    }

    /// One line about what to do, where that is known.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Error::Vmm(error) => return hint_of_vmm(error),
            Error::Oci(OciError::NoRuntime) => "apt-get install runc puts one there (on Debian)",
            Error::Snapshot(error) => return hint_of_snapshot(error),
            Error::Program { source: Failure::Vmm(error), .. } => return hint_of_vmm(error),
            Error::Program { source, .. } => return exec::hint(source),
            #[cfg(feature = "images")]
            Error::NoCommand => "what follows IMAGE is run in it: `matchstick run-image IMAGE /bin/sh`",
            #[cfg(feature = "images")]
            Error::Image(error) => return hint_of_container_image(error),
            #[cfg(feature = "race")]
            Error::Bench(error) => return hint_of_bench(error),
            Error::Linux(LinuxError::Pack { source, .. }) => return hint_of_pack(source),
            #[cfg(feature = "debugger")]
            Error::Debugger(error) => return hint_of_debugger(error),
            Error::NoProgram { .. } => return exec::hint(&Failure::NotFound),
            Error::NoGuest { .. } => "`matchstick guests` lists the guests that need no file",
            Error::Linux(LinuxError::Word { .. } | LinuxError::Words { .. }) => {
                "--init PROGRAM gets ARGS as they are: they do not go through the kernel's command line"
            }
            Error::Linux(LinuxError::NoKernel { .. }) => {
                "apt-get install linux-image-cloud-amd64 puts one there (on Debian); --kernel PATH names one elsewhere"
            }
            Error::Linux(LinuxError::NoModule { .. }) => {
                "the kernel's package has it; --initrd PATH names an initial RAM disk that has it"
            }
            Error::Disk(error) => hint_of_disk(error),
            Error::NoRoot { .. } => {
                "--cmdline root=/dev/vda1 names a partition; --init PROGRAM runs without it as root"
            }
            Error::NoKernel { .. } => LINUX_PROGRAM,
            Error::LabNeeds { what: "root", .. } => {
                "start it by sudo; with --dry-run it shows what it would do, and needs nothing"
            }
            Error::LabNeeds { .. } => "its package has to be installed; with --dry-run the lab needs nothing",
            Error::NotOpen(_) => "--keep-fd FD names what whoever starts matchstick has open",
            Error::Decided => {
                "-m, -c, --timeout, --max-output and --sandbox are its limits in this run; `matchstick snapshot` decides the rest"
            }
            Error::NoInitrd { .. } | Error::Oci(_) | Error::Lab { .. } | Error::Shell(_) => return None,
            Error::TooEarly => SAVED_WHILE_IT_RUNS,
        })
    }
}

fn status_of_vmm(error: &error::Error) -> u8 {
    use error::Error;
    match error {
        Error::Output(source) | Error::Export { source, .. } if source.kind() == BrokenPipe => status::PIPE,
        Error::Config(_) | Error::Misuse(_) | Error::Output(_) | Error::Export { .. } => status::FAILURE,
        Error::NotFound { .. } => status::NOT_FOUND,
        Error::Unreadable { source, .. } if source.kind() == TimedOut => status::TIMEOUT,
        Error::Host { .. } | Error::Unreadable { .. } | Error::Image { .. } => status::REFUSED,
    }
}

#[cfg(feature = "race")]
fn status_of_bench(error: &bench::Error) -> u8 {
    use bench::Error;
    match error {
        Error::Request(_) | Error::NoPayload { .. } | Error::NoReport { .. } => status::FAILURE,
        Error::Directory(_) | Error::Fill(_) | Error::Pin { .. } => status::REFUSED,
        Error::Vmm(error) => status_of_vmm(error),
    }
}

fn hint_of_vmm(error: &error::Error) -> Option<&'static str> {
    use error::Error;
    Some(match error {
        Error::Host { step, source } => return hint_of_host(*step, source),
        Error::Image { source, .. } => return hint_of_image(source),
        Error::Config(error) => return Some(hint_of_config(error)),
        Error::Export { source, .. } => return hint_of_writing(source),
        Error::Output(source) => return hint_of_output(source),
        Error::Misuse(_) => return None,
        Error::NotFound { .. } => {
            "`matchstick guests` lists what needs no file, and `matchstick snapshot -o FILE` makes a golden image"
        }
        Error::Unreadable { source, .. } => match source.kind() {
            _ if source.raw_os_error() == Some(libc::ELOOP) => REGULAR_FILE,
            IsADirectory | NotADirectory | PermissionDenied | Other => REGULAR_FILE,
            UnexpectedEof => "a golden image must stay as it is while machines run from it",
            TimedOut => "--timeout TIME is the limit for what comes through a pipe, too",
            OutOfMemory => "there is no memory to hold it: `ulimit -v`, or a smaller file",
            _ => return hint_of_limits(source),
        },
    })
}

/// What an image has to be.
const REGULAR_FILE: &str = "an image is a regular file that you may read";
/// For EFBIG, wherever it comes from.
const FILE_LIMIT: &str = "`ulimit -f` says how large a file may become";
/// For EAGAIN where a thread or a process was to be started.
const TASK_LIMIT: &str =
    "a limit on processes or memory is in the way: `ulimit -a` shows yours, a cgroup may have its own";
/// Where a kernel was expected.
pub const LINUX_PROGRAM: &str = "`matchstick exec PROGRAM` runs it, in a VM without Linux";
/// Where the guest's memory is too small, and more would do.
const MORE_MEMORY: &str = "more memory: -m SIZE";

/// What the host refused: by the step, then by what the operating system said.
fn hint_of_host(step: Step, source: &io::Error) -> Option<&'static str> {
    let number = source.raw_os_error().unwrap_or(0);
    Some(match (step, number) {
        (_, libc::EMFILE | libc::ENFILE) => return hint_of_limits(source),
        (Step::OpenKvm, _) => return hint_of_kvm(number),
        (Step::UseKvm, _) if source.kind() == Unsupported => {
            "matchstick needs the KVM of Linux 4.17 or newer"
        }
        (Step::LocalApics, libc::EINVAL) => "`matchstick host` names what this KVM is missing",
        (Step::CreateVm, libc::EBUSY) => {
            "another hypervisor has the processor (VirtualBox, VMware): end its guests"
        }
        (Step::AllocateMemory | Step::AddMemory, libc::ENOMEM) => {
            "a guest of this size does not fit: a smaller -m SIZE"
        }
        (Step::CreateVcpu, libc::ENOMEM) => "so many CPUs do not fit: a smaller -c N",
        (Step::MemoryFile | Step::CopyMemory, libc::ENOMEM) => {
            "the copy takes as much memory as the guest uses: a smaller -m SIZE"
        }
        (Step::CopyMemory, libc::EFBIG) => FILE_LIMIT,
        (Step::StartThread | Step::StartProcess, libc::EAGAIN) => TASK_LIMIT,
        (Step::Signals, libc::EAGAIN) => "`ulimit -i` says how many timers and signals you may have",
        (Step::StartProcess, libc::ENOENT) => "is /proc mounted, and this program still where it was?",
        (Step::WrittenPages, libc::ENOENT) => "is /proc mounted?",
        (Step::SingleStep, _) => "`matchstick trace` without --step tells the exits",
        (Step::Sandbox, _) => "--sandbox off runs the guest without",
        _ => return None,
    })
}

/// Where there are as many open files as there may be.
fn hint_of_limits(source: &io::Error) -> Option<&'static str> {
    match source.raw_os_error() {
        Some(libc::EMFILE) => Some("`ulimit -n` says how many files may be open"),
        Some(libc::ENFILE) => Some("the whole host has too many open files: `sysctl fs.file-nr` counts them"),
        _ => None,
    }
}

fn hint_of_kvm(number: i32) -> Option<&'static str> {
    Some(match number {
        // The last two are of a name in /dev that no driver serves.
        libc::ENOENT | libc::ENODEV | libc::ENXIO => {
            "load the module: sudo modprobe kvm_intel (or kvm_amd); inside a VM, switch nested virtualisation on"
        }
        libc::EACCES => "sudo usermod -aG kvm $USER, then log in again; `matchstick host` checks the rest",
        // What the device cgroup says.
        libc::EPERM => "a container has to be given the device: --device /dev/kvm",
        _ => return None,
    })
}

fn hint_of_config(error: &ConfigError) -> &'static str {
    match error {
        ConfigError::Memory { .. } => "-m SIZE is the guest's memory",
        ConfigError::NoCpu | ConfigError::TooManyCpus { .. } => "-c N is the number of CPUs",
    }
}

fn hint_of_image(error: &ImageError) -> Option<&'static str> {
    Some(match error {
        ImageError::Unknown { .. } | ImageError::Not { .. } => {
            "--boot flat16|flat64|elf|multiboot|pvh|linux names the protocol; `matchstick help run` tells of each"
        }
        ImageError::Outside { end, .. } if *end <= error::LOADED_BELOW => MORE_MEMORY,
        ImageError::NoRoom { limit, memory, .. } if limit == memory => MORE_MEMORY,
        ImageError::LargerThanMemory { .. } => MORE_MEMORY,
        ImageError::TooMuchMemory { .. } => "-m SIZE allows it more",
        ImageError::TooManyCpus { .. } => "-c N allows it more",
        ImageError::Foreign { .. } => {
            "a golden image goes on where it was made, or on a host that can do as much"
        }
        ImageError::Unpassable { .. } => "elf, multiboot and pvh take a command line and an initrd",
        ImageError::Empty
        | ImageError::Damaged { .. }
        | ImageError::Truncated { .. }
        | ImageError::Entry { .. } => "is it the file you meant, and whole?",
        // What to do instead is in its line, or depends on what the image is made for.
        ImageError::Unsupported { .. }
        | ImageError::Outside { .. }
        | ImageError::NoRoom { .. }
        | ImageError::Overlap { .. }
        | ImageError::TooLarge { .. } => return None,
    })
}

fn hint_of_disk(error: &DiskError) -> &'static str {
    match error {
        DiskError::Open { source, .. } if source.kind() == NotFound => {
            "`truncate -s 1G FILE` makes an empty one; `mkfs.ext4 -d DIR FILE 1G` one with a system on it"
        }
        DiskError::Open { .. } | DiskError::Kind { .. } => {
            "--disk takes a raw image or a block device; FILE,ro is only read"
        }
        DiskError::Size { .. } => "`truncate -s %512 FILE` fills it up to a whole sector",
        DiskError::InUse { .. } => "machines can share a disk that each has by FILE,ro",
    }
}

fn hint_of_pack(error: &PackError) -> Option<&'static str> {
    Some(match error {
        PackError::Io(source) if hint_of_limits(source).is_some() => return hint_of_limits(source),
        PackError::Io(_) | PackError::NotAFile => {
            "--init takes a program, --rootfs a directory whose files you may read"
        }
        PackError::Full { .. } => MORE_MEMORY,
        PackError::TimedOut => "--timeout TIME is the limit, for packing and running",
        PackError::TooLarge { .. } | PackError::NameTooLong => "a root file system without it",
        PackError::Interpreter { .. } => {
            "link it statically, or put it into a directory with its libraries: --rootfs DIR --init PATH-IN-DIR"
        }
        PackError::Script => "put it into a directory with its interpreter: --rootfs DIR --init PATH-IN-DIR",
        PackError::NotElf => "--init takes a static Linux program for x86-64",
        PackError::Compressed => {
            "`depmod RELEASE` writes modules.dep; without it modules have to be plain .ko files"
        }
        PackError::NoInit => "--init PATH-IN-DIR names a program of it to run",
    })
}

/// For what has no moment at which it could be saved.
const SAVED_WHILE_IT_RUNS: &str = "a guest is saved while it runs: --at ready, post:N, exit:N or a TIME";

fn hint_of_snapshot(error: &SnapshotError) -> Option<&'static str> {
    Some(match error {
        SnapshotError::Vmm(error) => return hint_of_vmm(error),
        SnapshotError::State(StateError::Ended) => SAVED_WHILE_IT_RUNS,
        SnapshotError::Process { source: ProcessError::Io(source), .. }
            if source.kind() == PermissionDenied =>
        {
            "root may look into a machine, and nobody while it has one tracer; its user may, where it runs with --sandbox off"
        }
        SnapshotError::Process { source: ProcessError::Io(_), .. } => return None,
        SnapshotError::Process { .. } => {
            "the process is that of `matchstick run IMAGE`, as `pgrep -a matchstick` shows it"
        }
        _ => return None,
    })
}

#[cfg(feature = "debugger")]
fn hint_of_debugger(error: &DebuggerError) -> Option<&'static str> {
    match error {
        DebuggerError::Vmm(error) => hint_of_vmm(error),
        DebuggerError::Listen(source) if source.kind() == io::ErrorKind::AddrInUse => {
            Some("--gdb takes a port that is free, or unix:PATH where there is nothing yet")
        }
        DebuggerError::Listen(source) if matches!(source.kind(), NotFound | PermissionDenied) => {
            Some("--gdb takes a port from 1024 on, or unix:PATH in a directory that you may write to")
        }
        DebuggerError::StaleSocket(_) => Some("a run that was killed has left it there: remove it with rm"),
        DebuggerError::Listen(_) => None,
        DebuggerError::Talk(_) => Some("in gdb: `target remote :PORT` or `target remote PATH`"),
    }
}

#[cfg(feature = "race")]
fn hint_of_bench(error: &bench::Error) -> Option<&'static str> {
    use bench::Error;
    Some(match error {
        Error::Request(_) => "`matchstick bench --help` shows all options",
        Error::NoPayload { .. }
        // Nothing else is read for a race.
        | Error::Vmm(error::Error::NotFound { .. } | error::Error::Unreadable { .. }) => "--payload takes hello, primes or the path of a static program",
        Error::Directory(source) | Error::Fill(source) => match source.kind() {
            StorageFull | OutOfMemory => {
                "make room in /tmp, or in the directory that TMPDIR names"
            }
            FileTooLarge => FILE_LIMIT,
            NotFound | NotADirectory | PermissionDenied | ReadOnlyFilesystem => {
                "it is in /tmp, or in the directory that TMPDIR names, which you have to be able to write to"
            }
            _ => return hint_of_limits(source),
        },
        Error::Pin { .. } => "--pin takes a number that /proc/cpuinfo has",
        Error::NoReport { .. } => "`matchstick bench --export-json FILE` writes what can be compared with",
        Error::Vmm(error) => return hint_of_vmm(error),
    })
}

#[cfg(feature = "images")]
fn status_of_image(error: &image::Error) -> u8 {
    use image::Error;
    match error {
        Error::Open { source, .. } if source.kind() == NotFound => status::NOT_FOUND,
        Error::NoName { .. } | Error::Empty | Error::NotThere { .. } => status::NOT_FOUND,
        Error::Which { .. } | Error::NoUser { .. } | Error::NoHome | Error::InUse { .. } => status::FAILURE,
        _ => status::REFUSED,
    }
}

#[cfg(feature = "images")]
fn hint_of_container_image(error: &image::Error) -> Option<&'static str> {
    use image::Error;
    Some(match error {
        Error::Open { source, .. } if source.kind() == NotFound => {
            "nothing is fetched: `skopeo copy docker://NAME oci:DIR` puts an image into DIR"
        }
        Error::NoImage { .. } => {
            "`docker save -o FILE NAME`, or `skopeo copy docker://NAME oci:DIR`, makes one"
        }
        Error::Compressed { .. } => "gunzip or unzstd makes of it what can be read from any place",
        Error::Which { .. } | Error::NoName { .. } => "--tag NAME says which",
        Error::Platform { .. } | Error::Empty => {
            "`skopeo copy --override-arch amd64 --override-os linux` chooses the one for here"
        }
        Error::TooLarge { .. } => "--max-size SIZE allows more",
        Error::NoHome => "XDG_CACHE_HOME=DIR says where",
        Error::NotYours { .. } => "it has to belong to you, and nobody else may write to it: chmod 700",
        Error::InUse { .. } => "a program runs from it: wait for its end",
        Error::NeedsOverlay { .. } => "another --keep NAME; or without --copy, where overlays can be mounted",
        Error::NotThere { .. } => "`matchstick images` lists what there is",
        Error::OtherImage { .. } => "another --keep NAME, or `matchstick images --remove NAME`",
        Error::NoUser { .. } => "--user USER takes a number, too",
        Error::Root { .. } => "--copy does without mounts and namespaces",
        Error::Store { source, .. } => return hint_of_writing(source),
        _ => return None,
    })
}

/// Of a report or a golden image.
fn hint_of_writing(source: &io::Error) -> Option<&'static str> {
    Some(match source.kind() {
        StorageFull | QuotaExceeded => "make room where the file goes",
        FileTooLarge => FILE_LIMIT,
        NotFound | NotADirectory | IsADirectory | InvalidInput | PermissionDenied | ReadOnlyFilesystem => {
            "it goes to a file that you may write, in a directory that is there"
        }
        _ => return hint_of_limits(source),
    })
}

/// Of standard output.
fn hint_of_output(source: &io::Error) -> Option<&'static str> {
    Some(match source.kind() {
        _ if source.raw_os_error() == Some(libc::EBADF) => {
            "standard output is closed: `>/dev/null` gives it somewhere to go"
        }
        StorageFull | QuotaExceeded => "make room where standard output goes",
        FileTooLarge => FILE_LIMIT,
        _ => return None,
    })
}
