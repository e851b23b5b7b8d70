//! What can be typed: one table of commands and options, and the parser. The help is made from the table, in `help`.
//!
//! The man page and the completions in `docs/` are kept by hand; a test holds them against this table.

use super::bench::{self, BENCH_INTRO, BENCH_NOTES, BENCH_OPTIONS, BenchArgs};
use super::explain::{self, EXPLAIN_OPTIONS};
use super::golden::{self, CloneArgs, SnapshotArgs};
use super::guests;
use super::host::{self, HOST_OPTIONS};
use super::linux;
use super::near;
use super::trace::{self, TraceArgs};
use super::values::{count, moment, protocol, sandbox, size, time};
use crate::boot::Protocol;
use crate::guest::Guest;
use crate::sandbox::Sandbox;
use lexopt::{Arg, Parser, ValueExt};
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

/// A command, for the help.
#[derive(Debug, PartialEq)]
pub struct CommandHelp {
    /// The word.
    pub name: &'static str,
    /// What follows it.
    pub arguments: &'static str,
    /// One line about it.
    pub about: &'static str,
    /// The same at length, for its own help.
    pub intro: &'static str,
    /// Its options.
    pub options: &'static [OptionHelp],
    /// What else a user has to know.
    pub notes: &'static str,
}

/// All commands.
pub const COMMANDS: &[CommandHelp] = &[
    CommandHelp {
        name: "run",
        arguments: "[OPTIONS] [GUEST|PATH] [-- ARGS...]",
        about: "start a guest of the gallery, or any image",
        intro: "Start a guest of the gallery (`matchstick guests`; hello by default), or any image.\n\
                `linux` is the newest kernel in /boot, or --kernel, with an init of ours (ARGS: echo).",
        options: RUN_OPTIONS,
        notes: RUN_NOTES,
    },
    CommandHelp {
        name: "trace",
        arguments: "[OPTIONS] [GUEST|PATH] [-- ARGS...]",
        about: "start a guest, and tell every call to KVM and every exit",
        intro: trace::INTRO,
        options: &trace::OPTIONS,
        notes: trace::NOTES,
    },
    CommandHelp {
        name: "snapshot",
        arguments: "[OPTIONS] [GUEST|PATH] [-- ARGS...]",
        about: "run a guest to a point, and keep it as a golden image",
        intro: golden::INTRO,
        options: &golden::OPTIONS,
        notes: golden::NOTES,
    },
    CommandHelp {
        name: "clone",
        arguments: "[OPTIONS] IMAGE",
        about: "start many machines from a golden image, and measure",
        intro: "Start machines from one golden image, each to the first byte that its guest writes, and keep all of them\n\
                until the last one is there. Tells how many that were in a second, how long each took, and what\n\
                each of them costs in memory. What the guests write is not shown.",
        options: golden::CLONE_OPTIONS,
        notes: "",
    },
    CommandHelp {
        name: "diff",
        arguments: "IMAGE IMAGE|pid:N",
        about: "how far a machine has gone from its golden image",
        intro: golden::DIFF_INTRO,
        options: &[],
        notes: "",
    },
    CommandHelp {
        name: "guests",
        arguments: "",
        about: "list the gallery",
        intro: "List the guests of the gallery, one line each.",
        options: &[],
        notes: "",
    },
    CommandHelp {
        name: "host",
        arguments: "[OPTIONS]",
        about: "what is under us, and what is missing",
        intro: "Show what this host is made of, from the hardware up to where a guest would stand: which of it is\n\
                Type 1 and Type 2, and why; what matchstick needs and what mends its lack; whether times\n\
                measured here hold elsewhere. Works without /dev/kvm and without root.",
        options: HOST_OPTIONS,
        notes: "",
    },
    CommandHelp {
        name: "bench",
        arguments: "[OPTIONS] [isolation|memory|parallel]",
        about: "race a VM against a process and containers",
        intro: BENCH_INTRO,
        options: BENCH_OPTIONS,
        notes: BENCH_NOTES,
    },
    CommandHelp {
        name: "explain",
        arguments: "[OPTIONS] [TOPIC]",
        about: "a lesson, with the figures of this machine",
        intro: "Explain what a hypervisor is, what a container is, and how they differ, in lessons of a page or two. The\n\
                figures in them are measured while you wait, on this machine. Without a TOPIC, list the lessons.",
        options: EXPLAIN_OPTIONS,
        notes: "",
    },
    CommandHelp {
        name: "help",
        arguments: "[COMMAND]",
        about: "explain a command",
        intro: "",
        options: &[],
        notes: "",
    },
];

/// An option, for the help.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OptionHelp {
    /// The letter, if it has one.
    pub short: Option<char>,
    /// The word.
    pub long: &'static str,
    /// What its value is, if it takes one.
    pub value: Option<&'static str>,
    /// What it does; a second line where one is not enough.
    pub about: &'static str,
}

pub(super) const fn option(
    short: Option<char>,
    long: &'static str,
    value: Option<&'static str>,
    about: &'static str,
) -> OptionHelp {
    OptionHelp { short, long, value, about }
}

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
        Some('p'),
        "cmdline",
        Some("TEXT"),
        "the kernel's command line; ARGS are appended\n(to Linux, TEXT is said after the default)",
    ),
    option(None, "cmdline-only", Some("TEXT"), "the same, and Linux gets no default"),
    option(Some('c'), "cpus", Some("N"), "number of CPUs [default: 1, or what the guest needs]"),
    option(
        Some('m'),
        "memory",
        Some("SIZE"),
        "memory: a number is MiB, or with K, M, G, T\n[default: 2M for the gallery, 512M for Linux, 128M for another file]",
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
    option(Some('h'), "help", None, "show this"),
];

/// What the user wants.
#[derive(Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "there is only ever one of them")]
pub enum Command {
    /// Start a guest.
    Run(RunArgs),
    /// Start a guest and tell what happens.
    Trace(RunArgs, TraceArgs),
    /// Save a guest.
    Snapshot(RunArgs, SnapshotArgs),
    /// Start many from one image.
    Clone(CloneArgs),
    /// Compare an image with another one, or with a machine that runs.
    Diff(PathBuf, golden::Other),
    /// List the gallery.
    Guests,
    /// Describe this host, as JSON or for people.
    Host {
        /// `--json`
        json: bool,
    },
    /// Race.
    Bench(Box<BenchArgs>),
    /// Give a lesson.
    Explain(explain::Request),
    /// Explain a command, or everything briefly.
    Help(Option<&'static CommandHelp>),
    /// Name the version.
    Version,
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

/// What was typed makes no sense.
#[derive(Debug, PartialEq)]
pub struct Usage {
    /// The complaint.
    pub what: String,
    /// What would have helped.
    pub hint: &'static str,
}

const HINT: &str = "`matchstick --help` shows what there is";
const RUN_HINT: &str = "`matchstick run --help` shows all options";
const EXPLAIN_HINT: &str = "`matchstick explain` lists the lessons";
const HOST_HINT: &str = "`matchstick host --help` shows all options";
const BENCH_HINT: &str = "`matchstick bench --help` shows all options";
const TRACE_HINT: &str = "`matchstick trace --help` shows all options";
const SNAPSHOT_HINT: &str = "`matchstick snapshot --help` shows all options";
const CLONE_HINT: &str = "`matchstick clone --help` shows all options";
const DIFF_HINT: &str =
    "`matchstick diff IMAGE IMAGE` compares two, `matchstick diff IMAGE pid:N` a machine that runs";
const GUESTS_HINT: &str = "`matchstick guests` takes no options";

/// Reads the arguments, without the program's name.
pub fn parse(args: impl Iterator<Item = OsString>) -> Result<Command, Usage> {
    let mut parser = Parser::from_args(args);
    let wrong = |error: lexopt::Error| Usage { what: near::complaint(&error, OsStr::new("")), hint: HINT };
    let command = &match parser.next().map_err(wrong)? {
        None => return Ok(Command::Help(None)),
        Some(Arg::Value(word)) => word,
        Some(Arg::Short('h') | Arg::Long("help")) => return Ok(Command::Help(None)),
        Some(Arg::Short('V') | Arg::Long("version")) => return Ok(Command::Version),
        Some(other) => return Err(wrong(other.unexpected())),
    };
    let usage = |hint| move |error: lexopt::Error| Usage { what: near::complaint(&error, command), hint };
    match command.to_str() {
        Some("run") => parse_run(&mut parser, Starting::Run).map_err(usage(RUN_HINT)),
        Some("trace") => parse_run(&mut parser, Starting::Trace).map_err(usage(TRACE_HINT)),
        Some("snapshot") => parse_run(&mut parser, Starting::Snapshot).map_err(usage(SNAPSHOT_HINT)),
        Some("clone") => golden::parse_clone(&mut parser).map_err(usage(CLONE_HINT)),
        Some("diff") => golden::parse_diff(&mut parser).map_err(usage(DIFF_HINT)),
        Some("guests") => guests::parse(&mut parser).map_err(usage(GUESTS_HINT)),
        Some("host") => host::parse(&mut parser).map_err(usage(HOST_HINT)),
        Some("bench") => bench::parse(&mut parser).map_err(usage(BENCH_HINT)),
        Some("explain") => explain::parse(&mut parser).map_err(usage(EXPLAIN_HINT)),
        Some("help") => parse_help(&mut parser).map_err(usage(HINT)),
        Some(name) if name == linux::NAME || Guest::find(name).is_some() => Err(Usage {
            what: format!("{name} is a guest, not a command"),
            hint: "`matchstick run GUEST` starts it",
        }),
        _ => Err(Usage { what: near::no_command(command), hint: HINT }),
    }
}

fn parse_help(parser: &mut Parser) -> Result<Command, lexopt::Error> {
    let command = match parser.next()? {
        None => None,
        Some(Arg::Value(word)) if COMMANDS.iter().any(|command| word == command.name) => Some(word),
        Some(Arg::Value(word)) => return Err(near::no_command(&word).into()),
        Some(other) => return Err(other.unexpected()),
    };
    match parser.next()? {
        None => Ok(command.as_deref().and_then(OsStr::to_str).map_or(Command::Help(None), help_on)),
        Some(more) => Err(more.unexpected()),
    }
}

/// What shows the help of a command; `help` itself is explained with everything else.
pub(super) fn help_on(name: &str) -> Command {
    Command::Help(COMMANDS.iter().find(|command| command.name == name && name != "help"))
}

/// Which of the commands that start a guest.
#[derive(Clone, Copy, PartialEq)]
enum Starting {
    Run,
    Trace,
    Snapshot,
}

/// The arguments of `run`, or those of `trace` and `snapshot`, which have options of their own besides.
fn parse_run(parser: &mut Parser, starting: Starting) -> Result<Command, lexopt::Error> {
    let (tracing, saving) = (starting == Starting::Trace, starting == Starting::Snapshot);
    let (mut run, mut trace, mut snapshot) =
        (RunArgs::default(), TraceArgs::default(), SnapshotArgs::default());
    loop {
        // What follows `--` belongs to the guest, whatever it looks like.
        if let Some(mut raw) = parser.try_raw_args()
            && raw.next_if(|next| next == "--").is_some()
        {
            run.args = raw.collect();
            break;
        }
        let Some(arg) = parser.next()? else { break };
        match arg {
            Arg::Short('o') if tracing => trace.take("output", parser)?,
            Arg::Long(name) if tracing && TraceArgs::knows(name) => {
                let name = name.to_owned();
                trace.take(&name, parser)?;
            }
            Arg::Short('o') | Arg::Long("output") if saving => snapshot.output = Some(parser.value()?.into()),
            Arg::Long("at") if saving => snapshot.at = parser.value()?.parse_with(moment)?,
            Arg::Short('k') | Arg::Long("kernel") => run.kernel = Some(parser.value()?.into()),
            Arg::Short('i') | Arg::Long("initrd" | "initramfs") => run.initrd = Some(parser.value()?.into()),
            Arg::Long("init") => run.init = Some(parser.value()?.into()),
            Arg::Long("rootfs") => run.rootfs = Some(parser.value()?.into()),
            Arg::Short('p') | Arg::Long("cmdline") => run.cmdline = Some(parser.value()?),
            Arg::Long("cmdline-only") => run.cmdline_only = Some(parser.value()?),
            Arg::Short('c') | Arg::Long("cpus") => run.cpus = Some(parser.value()?.parse_with(count)?),
            Arg::Short('m') | Arg::Long("memory") => run.memory = Some(parser.value()?.parse_with(size)?),
            Arg::Long("boot") => run.boot = parser.value()?.parse_with(protocol)?,
            Arg::Long("max-output") => run.max_output = Some(parser.value()?.parse_with(size)?),
            Arg::Long("timeout") => run.timeout = Some(parser.value()?.parse_with(time)?),
            Arg::Long("sandbox") => run.sandbox = Some(parser.value()?.parse_with(sandbox)?),
            Arg::Long("timings") if starting == Starting::Run => run.timings = true,
            Arg::Short('q') | Arg::Long("quiet") => run.quiet = true,
            Arg::Short('v') | Arg::Long("verbose") => run.verbose = true,
            Arg::Short('h') | Arg::Long("help") => {
                return Ok(help_on(match starting {
                    Starting::Run => "run",
                    Starting::Trace => "trace",
                    Starting::Snapshot => "snapshot",
                }));
            }
            Arg::Value(target) if run.target.is_none() => run.target = Some(target),
            Arg::Value(word) => {
                return Err(
                    format!("unexpected argument {word:?}; what the guest is told comes after --").into()
                );
            }
            other => return Err(other.unexpected()),
        }
    }
    check(&run)?;
    trace.check()?;
    Ok(match starting {
        Starting::Run => Command::Run(run),
        Starting::Trace => Command::Trace(run, trace),
        Starting::Snapshot if snapshot.output.is_none() => return Err("-o FILE says where it goes".into()),
        Starting::Snapshot => Command::Snapshot(run, snapshot),
    })
}

/// What cannot go together.
fn check(run: &RunArgs) -> Result<(), String> {
    let target = run.target.as_deref().and_then(OsStr::to_str);
    if run.kernel.is_some() && run.target.is_some() && target != Some(linux::NAME) {
        return Err("either --kernel PATH or GUEST|PATH, not both".into());
    }
    if run.cmdline.is_some() && run.cmdline_only.is_some() {
        return Err("either --cmdline or --cmdline-only, not both".into());
    }
    if run.init.is_none() && run.rootfs.is_none() {
        return Ok(());
    }
    if run.initrd.is_some() {
        return Err("--init and --rootfs make an initramfs: they leave no place for --initrd".into());
    }
    match target.and_then(Guest::find) {
        Some(guest) => Err(format!("{} is not Linux: --init and --rootfs mean nothing to it", guest.name)),
        None => Ok(()),
    }
}

/// What a user of `run` has to know besides the options.
const RUN_NOTES: &str = "
Boot protocols (found out from the image, or named with --boot):
  flat16     a boot sector: 16-bit code at 0x7c00 that ends with 55 aa at byte 510
  flat64     64-bit code at 1 MiB without any header; has to be named
  elf        ELF64, entered in long mode with the registers of Linux's 64-bit protocol
  multiboot  Multiboot 1: ELF32, ELF64 or an address field, entered in protected mode
  pvh        an ELF with a PVH note, entered in protected mode
  linux      a Linux bzImage, entered in long mode

On a terminal the keys go to the guest, Ctrl-C included. Ctrl-a x leaves; Ctrl-a Ctrl-a sends one Ctrl-a.

Exit status:
  the guest's own, as it wrote it to port 0xf4; 0 if it switched itself off, halted for good,
  or you left with Ctrl-a x
  120  --max-output was not enough
  121  Linux panicked (reboot=panic_warm on its command line, as the default has)
  122  the guest asked for a reset      125  matchstick failed, or was used wrongly
  123  the guest crashed                126  the image cannot be booted, or this host cannot run it
  124  --timeout is over                127  there is no such image
  128+N  ended by signal N
";
