//! `matchstick run`: from what was typed to a machine, and from its outcome to an exit status.

use super::golden;
use super::linux::{self, Userland};
use super::near;
use super::options::RunArgs;
use super::{
    STATUS_CRASH, STATUS_OUTPUT, STATUS_PANIC, STATUS_RESET, STATUS_TIMEOUT, complain, stdout, timings,
};
use crate::boot;
use crate::console::{self, Console};
use crate::error::{Error, ImageError, Result};
use crate::guest::Guest;
use crate::kvm::{Call, Kvm};
use crate::machine::{self, Config, Crash, Machine, Outcome};
use crate::sandbox::Sandbox;
use crate::snapshot::Snapshot;
use crate::sys;
use crate::sys::contents::Contents;
use crate::timeline::{Phase, Probe};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

/// Runs `run` and returns the exit status.
pub fn run(args: &RunArgs) -> Result<u8> {
    if args.timings {
        return timings::run_if_inside(args).unwrap_or_else(timings::measure);
    }
    run_with(args, &mut ())
}

/// The same, watched by `probe`.
pub(super) fn run_with<P: Probe>(args: &RunArgs, probe: &mut P) -> Result<u8> {
    let (image, outcome) = start(args, probe)?;
    sys::die_if_noted();
    Ok(conclude(&image, &outcome?, args))
}

/// An image with the machine it wants.
pub(super) struct Image {
    pub name: String,
    bytes: Contents,
    config: Config,
    /// It says when it is ready for input.
    holds_input: bool,
}

impl Image {
    /// What is left to say of a machine that comes from a golden image.
    fn of(golden: &Snapshot, args: &RunArgs) -> Image {
        let config = Config {
            memory: golden.state().memory,
            cpus: golden.state().vcpus.len() as u32,
            timeout: args.timeout,
            max_output: args.max_output,
            ..Config::default()
        };
        Image { name: golden.name().into(), bytes: Vec::new().into(), config, holds_input: false }
    }

    /// For who wants to know what is started.
    fn announce(&self, args: &RunArgs) {
        if args.verbose && !args.quiet {
            let Config { memory, cpus, .. } = self.config;
            complain(&format!("starting {}: {} KiB of memory, {cpus} CPU(s)", self.name, memory >> 10), None);
        }
    }
}

/// A machine that is ready to run, without console and sandbox; `adapt` has the last word on its configuration.
pub(super) fn prepare(args: &RunArgs, adapt: impl FnOnce(&mut Config)) -> Result<(Image, Machine)> {
    let golden = golden::image_of(args)?;
    let mut image = match &golden {
        None => image(args)?,
        Some(golden) => Image::of(golden, args),
    };
    adapt(&mut image.config);
    let output = Box::new(stdout()?);
    let machine = match golden {
        None => {
            Machine::new(&image.config, machine::Image { name: &image.name, bytes: &image.bytes }, output)?
        }
        Some(golden) => golden.start(&Kvm::open()?, &image.config, output)?,
    };
    image.announce(args);
    if image.holds_input {
        machine.cable().hold();
    }
    Ok((image, machine))
}

/// Runs a guest to its end. Should a signal have ended it, that is left to the caller to say.
pub(super) fn start<P: Probe>(args: &RunArgs, probe: &mut P) -> Result<(Image, Result<Outcome>)> {
    let golden = golden::image_of(args)?;
    let mut image = match &golden {
        None => image(args)?,
        Some(golden) => Image::of(golden, args),
    };
    let sandbox = args.sandbox.unwrap_or(Sandbox::Strict);
    image.config.sandbox = sandbox;
    probe.mark(Phase::Prepare);
    let output = Box::new(stdout()?);
    let mut machine = match golden {
        None => Machine::watched(
            &image.config,
            machine::Image { name: &image.name, bytes: &image.bytes },
            output,
            probe,
        )?,
        Some(golden) => {
            let kvm = probe.call(|| Call::Open, Kvm::open)?;
            probe.mark(Phase::Open);
            golden.start_watched(&kvm, &image.config, output, probe)?
        }
    };
    image.announce(args);
    console::catch_signals(machine.remote())?;
    let announce = || {
        if !args.quiet {
            complain("the keys go to the guest; Ctrl-a x leaves", None);
        }
    };
    if image.holds_input {
        machine.cable().hold();
    }
    sandbox.enter()?;
    let console = Console::connect(machine.cable(), machine.remote(), sandbox, announce)?;
    let outcome = machine.run_watched(probe);
    drop(console);
    probe.call(|| Call::Close, || drop(machine));
    probe.mark(Phase::Teardown);
    Ok((image, outcome))
}

/// Says how it ended, where that is worth a word, and gives the exit status.
pub(super) fn conclude(image: &Image, outcome: &Outcome, args: &RunArgs) -> u8 {
    let name = &image.name;
    let remark = |text: &str, hint| {
        if !args.quiet {
            complain(text, hint);
        }
    };
    match outcome {
        Outcome::Exited(status) => {
            if args.verbose {
                remark(&format!("{name} ended with status {status}"), None);
            }
            *status
        }
        Outcome::Halted => {
            remark(
                &format!("{name} halted with interrupts off"),
                Some("a write to port 0xf4 ends it with a status"),
            );
            0
        }
        Outcome::WarmReset if linux::tells_panic(&image.config.cmdline) => {
            complain(&format!("error: {name} panicked"), None);
            STATUS_PANIC
        }
        Outcome::Reset | Outcome::WarmReset => {
            remark(&format!("{name} asked for a reset"), None);
            STATUS_RESET
        }
        Outcome::PoweredOff | Outcome::Stopped => 0,
        Outcome::TimedOut => {
            complain(
                &format!("error: {name} did not end within its time"),
                Some("--timeout TIME is the limit"),
            );
            STATUS_TIMEOUT
        }
        Outcome::TooMuchOutput => {
            complain(
                &format!("error: {name} wrote more than it may"),
                Some("--max-output SIZE is the limit"),
            );
            STATUS_OUTPUT
        }
        Outcome::Crashed(crash) => {
            post_mortem(crash, args.quiet);
            STATUS_CRASH
        }
    }
}

fn post_mortem(crash: &Crash, quiet: bool) {
    if quiet {
        complain(&format!("error: guest crashed: {crash}"), None);
        return;
    }
    complain(&format!("error: guest crashed: {crash}"), Some(crash.hint()));
    for line in crash.report().lines() {
        complain(&format!("  {line}"), None);
    }
}

/// Finds the image and decides on its machine.
fn image(args: &RunArgs) -> Result<Image> {
    if linux::is_meant(args) {
        return linux_image(args, None);
    }
    let hello = OsStr::new("hello");
    let target = args.target.as_deref().unwrap_or(hello);
    let guest = match args.kernel {
        Some(_) => None,
        None => target.to_str().and_then(Guest::find),
    };
    let (name, bytes, mut config) = match guest {
        Some(guest) => (guest.name.into(), guest.image.into(), guest.config()),
        None => {
            let path = args.kernel.as_deref().unwrap_or(Path::new(target));
            // What it is, and so how much memory it gets, is known when it has been read.
            let bytes = read(path, args.memory.unwrap_or(linux::MEMORY)).map_err(|error| match error {
                // A word alone is more likely a guest's name than a file's.
                Error::NotFound { .. } if args.kernel.is_none() && !target.as_bytes().contains(&b'/') => {
                    Error::NoGuest { name: target.display().to_string(), meant: near::guest(target) }
                }
                error => error,
            })?;
            // One in a regular file was known as such before.
            if Snapshot::begins(&bytes) {
                let source = io::Error::other("a golden image is mapped, and so no pipe");
                return Err(Error::Unreadable { path: path.into(), source });
            }
            let name = path.display().to_string();
            if boot::is_linux(&bytes) {
                return linux_image(args, Some((name, bytes)));
            }
            (name, bytes, Config::default())
        }
    };
    config.memory = args.memory.unwrap_or(config.memory);
    config.cpus = args.cpus.unwrap_or(config.cpus);
    config.protocol = args.boot;
    // What a guest needs was found out for the protocol that its image asks for.
    config.cpuid |= args.boot.is_some();
    config.timeout = args.timeout;
    config.max_output = args.max_output;
    config.cmdline = cmdline(args);
    config.initrd = args.initrd.as_deref().map(|path| read(path, config.memory)).transpose()?;
    Ok(Image { name, bytes, config, holds_input: false })
}

/// The same for Linux: a kernel that was read, or one whose root file system is made here.
fn linux_image(args: &RunArgs, kernel: Option<(String, Contents)>) -> Result<Image> {
    let memory = args.memory.unwrap_or(linux::MEMORY);
    // The root first: a wrong file is worth saying even where there is no kernel.
    let userland = match (&args.initrd, &kernel) {
        (Some(path), _) => Userland::given(Some(read(path, memory)?), args),
        (None, Some(_)) => Userland::given(None, args),
        (None, None) => linux::userland(args, memory, !io::stdout().is_terminal())?,
    };
    let (name, bytes) = match kernel {
        Some(kernel) => kernel,
        None => {
            let path = linux::kernel(args)?;
            (path.display().to_string(), read(&path, memory)?)
        }
    };
    let terminal = match sys::stdin_kind() {
        sys::Input::Terminal => std::env::var("TERM").ok(),
        _ => None,
    };
    let cmdline = userland.cmdline(args, terminal.as_deref());
    let holds_input = userland.is_ours;
    let config = Config {
        memory,
        cpus: args.cpus.unwrap_or(1),
        protocol: args.boot,
        cmdline,
        initrd: userland.initramfs,
        timeout: args.timeout,
        max_output: args.max_output,
        ..Config::default()
    };
    Ok(Image { name, bytes, config, holds_input })
}

/// `--cmdline`, then what follows `--`, with spaces between.
fn cmdline(args: &RunArgs) -> Vec<u8> {
    let words = args.cmdline.iter().chain(&args.cmdline_only).chain(&args.args).map(|word| word.as_bytes());
    words.collect::<Vec<_>>().join(&b' ')
}

/// From this size on a file is mapped. To read a smaller one is cheaper.
const MAPPED_MIN: u64 = 64 << 10;

/// Reads a file or a pipe that has to fit a guest's memory of `limit` bytes; an endless one stops there. A large file
/// is only mapped.
fn read(path: &Path, limit: u64) -> Result<Contents> {
    let unreadable = |source| Error::Unreadable { path: path.into(), source };
    let file = File::open(path).map_err(|source| match source.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => Error::NotFound { path: path.into(), source },
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
            Err(Error::Image { name: path.display().to_string(), source })
        }
    };
    fits(metadata.len())?;
    if metadata.is_file() && metadata.len() >= MAPPED_MIN {
        return Contents::mapped(&file, metadata.len() as usize).map_err(unreadable);
    }
    // A pipe does not know how much will come.
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    fits(bytes.len() as u64)?;
    Ok(bytes.into())
}
