//! The arguments: what was typed, and the parser. What can be typed stands in [`table`](super::table).

use super::bench::{self, BenchArgs};
use super::explain;
use super::golden::{self, CloneArgs, SnapshotArgs};
use super::guests;
use super::host;
use super::linux;
use super::near;
use super::table::{COMMANDS, CommandHelp};
use super::trace::TraceArgs;
use super::values::{Moment, count, moment, protocol, sandbox, size, time};
use crate::boot::Protocol;
use crate::guest::Guest;
use crate::sandbox::Sandbox;
use lexopt::{Arg, Parser, ValueExt};
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

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
            Arg::Long("sandbox") if !saving => run.sandbox = Some(parser.value()?.parse_with(sandbox)?),
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
    if trace.gdb.is_some() && run.sandbox == Some(Sandbox::Strict) {
        return Err("--gdb runs without the sandbox: a client is let in later".into());
    }
    if let (Moment::After(moment), Some(timeout)) = (snapshot.at, run.timeout)
        && timeout <= moment
    {
        return Err("--timeout is over before --at".into());
    }
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
