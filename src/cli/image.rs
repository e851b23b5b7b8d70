//! What is started: from what was typed to the bytes of an image and the machine that it wants.

use super::disks;
use super::error::{Error, Result};
use super::print::complain;
use super::run_options::{HELLO, RunArgs};
use super::suggest;
use crate::boot;
use crate::elf::{Elf, program};
use crate::error::{self, ImageError, Step};
use crate::guest::Guest;
use crate::linux;
use crate::linux::userland::{Userland, userland};
use crate::machine::Config;
use crate::snapshot::{Limits, Snapshot};
use crate::sys;
use crate::sys::contents::Contents;
use crate::text::shown;
use crate::virtio::blk::Store;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, ErrorKind, IsTerminal, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// An image with the machine it wants.
pub struct Image {
    /// What messages call it.
    pub name: String,
    /// What goes into the machine's memory.
    pub source: Source,
    /// The machine.
    pub config: Config,
    /// It says when it is ready for input.
    pub holds_input: bool,
    /// Its disks.
    pub disks: Vec<Store>,
    /// Why it may take long before it says anything on this host.
    pub why_slow: Option<&'static str>,
}

/// What goes into a machine's memory.
pub enum Source {
    /// A kernel, to be loaded.
    Bytes(Contents),
    /// A golden image, to go on from.
    Snapshot(Box<Snapshot>),
}

impl Image {
    /// Finds the image that `args` name and decides on its machine.
    ///
    /// # Errors
    /// It is not there, cannot be read, or is not what `args` take it for.
    pub fn find(args: &RunArgs) -> Result<Image> {
        match snapshot(args)? {
            None => kernel(args),
            Some(snapshot) => Ok(Image::of_snapshot(snapshot, args)),
        }
    }

    /// A golden image: its memory and CPUs are its own, and what limits it is in `args`.
    fn of_snapshot(snapshot: Snapshot, args: &RunArgs) -> Image {
        let config = Config {
            memory: snapshot.state().memory,
            cpus: snapshot.state().vcpus.len() as u32,
            timeout: args.timeout,
            max_output: args.max_output,
            ..Config::default()
        };
        let name = snapshot.name().into();
        Image {
            name,
            source: Source::Snapshot(Box::new(snapshot)),
            config,
            holds_input: false,
            disks: Vec::new(),
            why_slow: None,
        }
    }
}

/// The golden image that `args` name, if it is one.
fn snapshot(args: &RunArgs) -> Result<Option<Snapshot>> {
    let path = match (&args.kernel, &args.target) {
        (Some(path), _) => path.as_path(),
        (None, Some(target)) if target.to_str().and_then(Guest::find).is_none() => Path::new(target),
        _ => return Ok(None),
    };
    // A pipe is not opened here: reading from it would take bytes away. What cannot be opened is reported by `read`.
    let is_file = fs::metadata(path).is_ok_and(|metadata| metadata.is_file());
    let file = if is_file { File::open(path).ok() } else { None };
    let Some(file) = file.filter(Snapshot::is_one) else { return Ok(None) };
    sys::watch_mapped_files().map_err(|source| error::Error::Host { step: Step::Signals, source })?;
    let has_more = args.boot.is_some()
        || args.initrd.is_some()
        || !args.disks.is_empty()
        || args.cmdline.is_some()
        || args.cmdline_only.is_some()
        || !args.args.is_empty();
    if has_more || args.is_linux() {
        return Err(Error::Decided);
    }
    let default = Limits::default();
    let limits =
        Limits { memory: args.memory.unwrap_or(default.memory), cpus: args.cpus.unwrap_or(default.cpus) };
    Ok(Some(Snapshot::read(&shown(path), file, &limits)?))
}

/// The kernel that `args` name.
fn kernel(args: &RunArgs) -> Result<Image> {
    if args.is_linux() {
        return linux_image(args, None);
    }
    let hello = OsStr::new(HELLO);
    let target = args.target.as_deref().unwrap_or(hello);
    let guest = match args.kernel {
        Some(_) => None,
        None => target.to_str().and_then(Guest::find),
    };
    let (name, bytes, mut config) = match guest {
        Some(guest) => (guest.name.into(), guest.image.into(), guest.config()),
        None => {
            let path = args.kernel.as_deref().unwrap_or(Path::new(target));
            // How much memory it gets depends on what it is, and that is known when it has been read.
            let bytes =
                read(path, args.memory.unwrap_or(linux::MEMORY), args.timeout).map_err(
                    |error| match error {
                        // A word without a slash is more likely the name of a guest than that of a file.
                        error::Error::NotFound { .. }
                            if args.kernel.is_none() && !target.as_bytes().contains(&b'/') =>
                        {
                            Error::NoGuest {
                                name: target.to_string_lossy().into(),
                                meant: suggest::guest(target),
                            }
                        }
                        error => error.into(),
                    },
                )?;
            // A golden image in a regular file was found before; this one comes through a pipe.
            if Snapshot::begins(&bytes) {
                let source = io::Error::other("a golden image is mapped, and so no pipe");
                return Err(error::Error::Unreadable { path: path.into(), source }.into());
            }
            let name = shown(path);
            if boot::is_linux(&bytes) {
                return linux_image(args, Some((name, bytes)));
            }
            // Whoever names a protocol knows better.
            let is_program = || Elf::parse(&bytes).is_ok_and(|elf| program::is_for_linux(&elf));
            if args.boot.is_none() && is_program() {
                return Err(Error::NoKernel { name });
            }
            (name, bytes, Config::default())
        }
    };
    config.memory = args.memory.unwrap_or(config.memory);
    config.cpus = args.cpus.unwrap_or(config.cpus);
    config.protocol = args.boot;
    // What a guest of the gallery needs is known for its image's own protocol only.
    config.cpuid |= args.boot.is_some();
    config.timeout = args.timeout;
    config.max_output = args.max_output;
    config.cmdline = cmdline(args);
    // The only word that one of them is told by us.
    if guest.is_some_and(|guest| guest.needs("input")) && sys::stdin_kind() == sys::Input::Terminal {
        config.cmdline = b"terminal".into();
    }
    config.initrd =
        args.initrd.as_deref().map(|path| initrd(path, config.memory, args.timeout)).transpose()?;
    let disks = disks::open(args)?;
    Ok(Image { name, source: Source::Bytes(bytes), config, holds_input: false, disks, why_slow: None })
}

/// The same for Linux: a kernel that was read, or one whose root file system is made here.
fn linux_image(args: &RunArgs, mut kernel: Option<(String, Contents)>) -> Result<Image> {
    let begin = Instant::now();
    let memory = args.memory.unwrap_or(linux::MEMORY);
    let terminal = match sys::stdin_kind() {
        sys::Input::Terminal => std::env::var("TERM").ok(),
        _ => None,
    };
    let disks = disks::open(args)?;
    let mut options = linux::Options {
        init: args.init.clone(),
        rootfs: args.rootfs.clone(),
        args: args.args.clone(),
        cmdline: args.cmdline.clone(),
        cmdline_only: args.cmdline_only.clone(),
        quiet: args.is_linux(),
        deadline: args.timeout.and_then(|timeout| begin.checked_add(timeout)),
        memory,
        terminal,
        strings: !io::stdout().is_terminal(),
        ..linux::Options::default()
    };
    // Which modules a kernel has for its disks is known when it is.
    let has_root = !disks.is_empty() && args.initrd.is_none();
    if has_root {
        let path = linux_kernel(args)?;
        let bytes = match kernel {
            Some((_, bytes)) => bytes,
            None => read(&path, memory, args.timeout)?,
        };
        disks::tell(args, &disks, (&path, &bytes), &mut options)?;
        kernel = Some((shown(&path), bytes));
    }
    // The root file system first: a mistake in it is reported even where there is no kernel.
    let userland = match (&args.initrd, &kernel) {
        (Some(path), _) => Userland::given(Some(initrd(path, memory, args.timeout)?), &options),
        (None, Some(_)) if !has_root => Userland::given(None, &options),
        (None, _) => userland(&options)?,
    };
    if !args.quiet {
        remark_on_skipped(&userland.skipped);
    }
    let (name, bytes) = match kernel {
        Some(kernel) => kernel,
        None => {
            let path = linux_kernel(args)?;
            (shown(&path), read(&path, memory, args.timeout)?)
        }
    };
    let config = Config {
        memory,
        cpus: args.cpus.unwrap_or(1),
        protocol: args.boot,
        cmdline: linux::cmdline::cmdline(&options, &userland)?,
        initrd: userland.initramfs,
        // Packing took a part of the time. Nothing at all would be no limit.
        timeout: args.timeout.map(|timeout| timeout.saturating_sub(begin.elapsed()).max(LEAST_TIME)),
        max_output: args.max_output,
        ..Config::default()
    };
    let why_slow = Path::new(KVM_PVM).exists().then_some(
        "this host's KVM, kvm_pvm, emulates each instruction of a kernel: a Linux takes many minutes",
    );
    Ok(Image { name, source: Source::Bytes(bytes), config, holds_input: userland.is_ours, disks, why_slow })
}

/// It is there if KVM runs guests without the processor's help, in a virtual machine that has none to give.
const KVM_PVM: &str = "/sys/module/kvm_pvm";

/// What is left of a --timeout that is over.
const LEAST_TIME: Duration = Duration::from_millis(1);

/// One line about files that are not in the guest, although they were listed.
fn remark_on_skipped(skipped: &[PathBuf]) {
    let others = match skipped.len() {
        0 => return,
        1 => String::new(),
        count => format!(" and {} more", count - 1),
    };
    let first = skipped.first().map_or(String::new(), shown);
    complain(&format!("left out: {first}{others}, gone or replaced while it was read"), None);
}

/// The path of the Linux that `args` name, or of the newest one installed.
fn linux_kernel(args: &RunArgs) -> Result<PathBuf> {
    let target = args.target.as_ref().filter(|target| *target != linux::NAME).map(PathBuf::from);
    Ok(args.kernel.clone().or(target).map_or_else(linux::kernel::installed, Ok)?)
}

/// `--cmdline`, then what follows `--`, with spaces between.
fn cmdline(args: &RunArgs) -> Vec<u8> {
    let words = args.cmdline.iter().chain(&args.cmdline_only).chain(&args.args).map(|word| word.as_bytes());
    words.collect::<Vec<_>>().join(&b' ')
}

/// From this size on a file is mapped. To read a smaller one is cheaper.
const MAPPED_MIN: u64 = 64 << 10;

/// Reads what `--initrd` names.
fn initrd(path: &Path, memory: u64, timeout: Option<Duration>) -> Result<Contents> {
    read(path, memory, timeout).map_err(|error| match error {
        error::Error::NotFound { path, source } => Error::NoInitrd { path, source },
        error => error.into(),
    })
}

/// Reads a file or a pipe that has to fit a guest's memory of `limit` bytes; an endless one stops there. A large file
/// is only mapped. A pipe is waited for as long as the guest may run.
fn read(path: &Path, limit: u64, timeout: Option<Duration>) -> error::Result<Contents> {
    let unreadable = |source| error::Error::Unreadable { path: path.into(), source };
    let file = sys::open_without_waiting(path).map_err(|source| match source.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => {
            error::Error::NotFound { path: path.into(), source }
        }
        _ => unreadable(source),
    })?;
    let metadata = file.metadata().map_err(unreadable)?;
    if metadata.file_type().is_char_device() {
        return Err(unreadable(io::Error::other("it is a device")));
    }
    let fits = |size| match size {
        size if size <= limit => Ok(()),
        size => {
            let source = ImageError::LargerThanMemory { size, memory: limit };
            Err(error::Error::Image { name: shown(path), source })
        }
    };
    fits(metadata.len())?;
    if metadata.is_file() && metadata.len() >= MAPPED_MIN {
        sys::watch_mapped_files().map_err(unreadable)?;
        return Contents::mapped(&file, metadata.len() as usize).map_err(unreadable);
    }
    // A pipe has no length.
    let mut bytes = Vec::new();
    let read = match metadata.is_file() {
        true => file.take(limit + 1).read_to_end(&mut bytes),
        false => sys::WaitingReader::new(file, timeout).take(limit + 1).read_to_end(&mut bytes),
    };
    read.map_err(unreadable)?;
    fits(bytes.len() as u64)?;
    Ok(bytes.into())
}
