//! The options of every command that starts a guest: `run`, `trace`, `snapshot`.

use super::option::{Given, HELP, OptionHelp, Parsed, option};
use super::values::{count, protocol, sandbox, size, time};
use crate::boot::Protocol;
use crate::guest::Guest;
use crate::linux;
use crate::sandbox::Sandbox;
use lexopt::{Parser, ValueExt};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

/// The options of `run`.
pub const RUN_OPTIONS: &[OptionHelp] = &[
    option(Some('k'), "kernel", Some("PATH"), "the image to start, instead of GUEST|PATH"),
    option(Some('i'), "initrd", Some("PATH"), "a module or initial RAM disk for it"),
    option(None, "initramfs", Some("PATH"), "the same as --initrd"),
    option(
        None,
        "init",
        Some("PROGRAM"),
        "Linux: run this static program with ARGS; its status is ours\n(with --rootfs, a path in DIR)",
    ),
    option(
        None,
        "rootfs",
        Some("DIR"),
        "Linux: a copy of DIR, in memory, is the root file system;\nwhat is written to it vanishes at exit",
    ),
    option(
        None,
        "disk",
        Some("FILE[,ro]"),
        "Linux: a raw image or a block device, as virtio disk; can be repeated.\nThe first is the root, unless --init, --rootfs or --initrd make one",
    ),
    option(
        Some('p'),
        "cmdline",
        Some("TEXT"),
        "the kernel's command line; ARGS are appended\n(to Linux, TEXT is said after the default)",
    ),
    option(None, "cmdline-only", Some("TEXT"), "the same, and Linux gets no default"),
    option(
        Some('c'),
        "cpus",
        Some("N"),
        "number of CPUs [default: 1, or what the guest needs];\nof a golden image: the most it may have [default: 4]",
    ),
    option(
        Some('m'),
        "memory",
        Some("SIZE"),
        "memory: a number is MiB, or with K, M, G, T\n[default: 2M for the gallery, 512M for Linux, 128M for another file];\nof a golden image: the most it may have [default: 512M]",
    ),
    option(
        None,
        "boot",
        Some("PROTOCOL"),
        "auto, flat16, flat64, elf, multiboot, pvh or linux\n[default: auto, from the image]",
    ),
    option(None, "timeout", Some("TIME"), "end the guest after TIME: 2, 0.5, 500ms, 2m (status 124)"),
    option(None, "max-output", Some("SIZE"), "end the guest when it has written more than SIZE (status 120)"),
    option(None, "sandbox", Some("WHAT"), "strict, or off: confine this process [default: strict]"),
    option(None, "timings", None, "show each phase from exec to teardown, on stderr"),
    option(Some('q'), "quiet", None, "no remarks; a crash in one line"),
    option(Some('v'), "verbose", None, "say what is started and how it ended"),
    HELP,
];

/// The options of a command that starts a guest as `run` does: its own, and those of `run` but for --timings and, where
/// it is not `confined`, --sandbox. `N` is their number.
pub const fn beside_run<const N: usize>(own: &[OptionHelp], confined: bool) -> [OptionHelp; N] {
    let mut all = [own[0]; N];
    let (mut from, mut to) = (0, 0);
    while from < own.len() + RUN_OPTIONS.len() {
        let option = if from < own.len() { own[from] } else { RUN_OPTIONS[from - own.len()] };
        let is_left_out = match option.long.as_bytes() {
            b"timings" => true,
            b"sandbox" => !confined,
            _ => false,
        };
        if !is_left_out {
            all[to] = option;
            to += 1;
        }
        from += 1;
    }
    all
}

/// `run` as it was typed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RunArgs {
    /// A name of the gallery or a path.
    pub target: Option<OsString>,
    /// `--kernel`
    pub kernel: Option<PathBuf>,
    /// `--initrd`
    pub initrd: Option<PathBuf>,
    /// `--init`
    pub init: Option<PathBuf>,
    /// `--rootfs`
    pub rootfs: Option<PathBuf>,
    /// `--disk`, each in its turn
    pub disks: Vec<DiskArg>,
    /// `--cmdline`
    pub cmdline: Option<OsString>,
    /// `--cmdline-only`
    pub cmdline_only: Option<OsString>,
    /// What follows `--`.
    pub args: Vec<OsString>,
    /// `--cpus`
    pub cpus: Option<u32>,
    /// `--memory`, in bytes
    pub memory: Option<u64>,
    /// `--boot`; `None` is auto
    pub boot: Option<Protocol>,
    /// `--timeout`
    pub timeout: Option<Duration>,
    /// `--max-output`
    pub max_output: Option<u64>,
    /// `--sandbox`
    pub sandbox: Option<Sandbox>,
    /// `--timings`
    pub timings: bool,
    /// `--quiet`
    pub quiet: bool,
    /// `--verbose`
    pub verbose: bool,
}

/// A disk, as it was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskArg {
    /// Where it is.
    pub path: PathBuf,
    /// `,ro`
    pub is_read_only: bool,
}

impl DiskArg {
    fn new(text: &OsStr) -> DiskArg {
        let bytes = text.as_bytes();
        let (path, is_read_only) = match bytes.strip_suffix(b",ro") {
            Some(path) => (path, true),
            None => (bytes, false),
        };
        DiskArg { path: OsStr::from_bytes(path).into(), is_read_only }
    }
}

/// The guest that is started unless one is named.
pub const HELLO: &str = "hello";

/// Reads the arguments of a command that starts a guest. It has `options`: those of `run`, and others that `own` takes.
///
/// # Errors
/// Of what makes no sense.
pub fn parse(
    parser: &mut Parser,
    options: &'static [OptionHelp],
    mut own: impl FnMut(&'static str, &mut Parser) -> Result<(), lexopt::Error>,
) -> Result<Parsed<RunArgs>, lexopt::Error> {
    let mut run = RunArgs::default();
    loop {
        // What follows `--` belongs to the guest, whatever it looks like.
        if let Some(mut raw) = parser.try_raw_args()
            && raw.next_if(|next| next == "--").is_some()
        {
            run.args = raw.collect();
            break;
        }
        match Given::next(parser, options)? {
            None => break,
            Some(Given::Option("help")) => return Ok(Parsed::Help),
            Some(Given::Option(name)) if RUN_OPTIONS.iter().any(|option| option.long == name) => {
                run.take(name, parser)?;
            }
            Some(Given::Option(name)) => own(name, parser)?,
            Some(Given::Word(target)) if run.target.is_none() => run.target = Some(target),
            Some(Given::Word(word)) => {
                return Err(
                    format!("unexpected argument {word:?}; what the guest is told comes after --").into()
                );
            }
        }
    }
    run.check()?;
    Ok(Parsed::Arguments(run))
}

impl RunArgs {
    /// Takes the option `name`, with its value if it has one.
    fn take(&mut self, name: &'static str, parser: &mut Parser) -> Result<(), lexopt::Error> {
        let mut value = || parser.value();
        match name {
            "kernel" => self.kernel = Some(value()?.into()),
            "initrd" | "initramfs" => self.initrd = Some(value()?.into()),
            "init" => self.init = Some(value()?.into()),
            "rootfs" => self.rootfs = Some(value()?.into()),
            "disk" => self.disks.push(DiskArg::new(&value()?)),
            "cmdline" => self.cmdline = Some(value()?),
            "cmdline-only" => self.cmdline_only = Some(value()?),
            "cpus" => self.cpus = Some(value()?.parse_with(count)?),
            "memory" => self.memory = Some(value()?.parse_with(size)?),
            "boot" => self.boot = value()?.parse_with(protocol)?,
            "max-output" => self.max_output = Some(value()?.parse_with(size)?),
            "timeout" => self.timeout = Some(value()?.parse_with(time)?),
            "sandbox" => self.sandbox = Some(value()?.parse_with(sandbox)?),
            "timings" => self.timings = true,
            "quiet" => self.quiet = true,
            "verbose" => self.verbose = true,
            name => return Err(Given::Option(name).unexpected()),
        }
        Ok(())
    }

    /// What cannot go together.
    fn check(&self) -> Result<(), String> {
        let target = self.target.as_deref().and_then(OsStr::to_str);
        if self.kernel.is_some() && self.target.is_some() && target != Some(linux::NAME) {
            return Err("either --kernel PATH or GUEST|PATH, not both".into());
        }
        if !self.disks.is_empty() && target.and_then(Guest::find).is_some() {
            return Err("--disk is for Linux: no guest of the gallery knows disks".into());
        }
        if self.cmdline.is_some() && self.cmdline_only.is_some() {
            return Err("either --cmdline or --cmdline-only, not both".into());
        }
        self.check_words()?;
        if self.init.is_none() && self.rootfs.is_none() {
            // Our own init, which is all there is then.
            let is_ours = self.is_linux() && self.initrd.is_none() && self.disks.is_empty();
            return match self.args.as_slice() {
                args if !is_ours || args.is_empty() || args == ["echo"] => Ok(()),
                _ => Err("ARGS are echo, or what --init PROGRAM is told".into()),
            };
        }
        if self.initrd.is_some() {
            return Err("--init and --rootfs make an initramfs: they leave no place for --initrd".into());
        }
        match target.and_then(Guest::find) {
            Some(guest) => {
                Err(format!("{} is not Linux: --init and --rootfs mean nothing to it", guest.name))
            }
            None => Ok(()),
        }
    }

    /// Whether a guest of the gallery makes something of what it is told: it would not say that it does not.
    fn check_words(&self) -> Result<(), String> {
        let texts = || self.cmdline.iter().chain(&self.cmdline_only).chain(&self.args);
        // Where nothing is told, nothing is looked up: most starts are such.
        let is_told = texts().next().is_some() && self.kernel.is_none() && self.init.is_none();
        let target = self.target.as_deref().unwrap_or(OsStr::new(HELLO)).to_str();
        let Some(guest) = target.filter(|_| is_told).and_then(Guest::find) else { return Ok(()) };
        // Of a guest that does not read its command line, any TEXT will do.
        let skipped = if guest.args.is_empty() { texts().count() - self.args.len() } else { 0 };
        let texts: Vec<_> = texts().skip(skipped).map(|text| text.to_string_lossy()).collect();
        if guest.takes(texts.iter().flat_map(|text| text.split_ascii_whitespace())) {
            return Ok(());
        }
        Err(match guest.args {
            "" => format!("{} takes no ARGS", guest.name),
            "N" => format!("{} takes one whole number as ARGS, 0 to {}", guest.name, u32::MAX),
            word => format!("{} takes {word} as ARGS, or nothing", guest.name),
        })
    }

    /// Whether a Linux guest is meant whose root is made here, in part at least.
    pub fn is_linux(&self) -> bool {
        self.target.as_deref() == Some(OsStr::new(linux::NAME))
            || self.init.is_some()
            || self.rootfs.is_some()
    }
}
