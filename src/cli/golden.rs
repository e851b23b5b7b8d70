//! Golden images on the command line: `snapshot`, `clone`, `diff`, and `run` of an image.

use super::linux;
use super::options::{Command, RunArgs, help_on};
use super::run;
use super::table::{OptionHelp, RUN_OPTIONS, beside_run, option};
use super::values::{Moment, count, time};
use super::{complain, print};
use crate::console;
use crate::error::{Error, Result, Step};
use crate::guest::Guest;
use crate::kvm::{Exit, Kvm, Vcpu};
use crate::machine::{Config, Machine, Outcome};
use crate::snapshot::{PAGE, Snapshot};
use crate::sys;
use crate::timeline::Probe;
use lexopt::{Arg, Parser, ValueExt};
use std::fmt::Write;
use std::fs::{self, File};
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The options of `snapshot`, beside those of `run`.
const OWN_OPTIONS: &[OptionHelp] = &[
    option(Some('o'), "output", Some("FILE"), "the golden image to write"),
    option(
        None,
        "at",
        Some("WHEN"),
        "ready (POST code 0xa5), post:N, exit:N (0: before the\nfirst instruction) or a TIME [default: ready]",
    ),
];

/// Its own options, and those of `run` that it takes.
pub(super) const OPTIONS: &[OptionHelp] =
    &beside_run::<{ OWN_OPTIONS.len() + RUN_OPTIONS.len() - 2 }>(OWN_OPTIONS, false);

/// What the help of `snapshot` begins with.
pub(super) const INTRO: &str = "Start a guest as `matchstick run` does, stop it at a point, and write all of it to a file.\n\
     `matchstick run FILE` goes on from there, as often as one likes; FILE is not written to.";

/// What a user of `snapshot` has to know besides.
pub(super) const NOTES: &str = "
The guest gets no input. What it writes before that point goes to stdout, and is not written again
by those that go on. They begin with the same random numbers, keys and names, all of them:
docs/snapshots.md. Of the guests of the gallery `primes` is ready when it has counted.
";

/// The options of `clone`.
pub(super) const CLONE_OPTIONS: &[OptionHelp] = &[
    option(Some('n'), "clones", Some("N"), "how many, after three that do not count [default: 100]"),
    option(Some('j'), "parallel", Some("N"), "so many threads start them [default: 1]"),
    option(None, "timeout", Some("TIME"), "how long each may take to its first byte [default: 10]"),
    option(Some('h'), "help", None, "show this"),
];

/// What the help of `diff` begins with.
pub(super) const DIFF_INTRO: &str = "Show how far a machine has gone from its golden image: pages of memory, registers, devices.\n\
     The other one is an image, too, or pid:N, a machine that runs in process N, as `matchstick run IMAGE`\n\
     does. That one stands still while its memory and its registers are read; its devices cannot be seen.\n\
     The status is 0 if there is no difference, and 1 if there is.";

/// `snapshot` as it was typed, beside what it shares with `run`.
#[derive(Debug, PartialEq)]
pub struct SnapshotArgs {
    /// `--output`
    pub output: Option<PathBuf>,
    /// `--at`
    pub at: Moment,
}

impl Default for SnapshotArgs {
    fn default() -> SnapshotArgs {
        SnapshotArgs { output: None, at: Moment::READY }
    }
}

/// `clone` as it was typed.
#[derive(Debug, PartialEq)]
pub struct CloneArgs {
    /// The image.
    pub image: PathBuf,
    /// `--clones`
    pub clones: u32,
    /// `--parallel`
    pub parallel: u32,
    /// `--timeout`
    pub timeout: Duration,
}

/// The arguments of `clone`.
pub(super) fn parse_clone(parser: &mut Parser) -> std::result::Result<Command, lexopt::Error> {
    let (mut image, mut clones, mut parallel, mut timeout) = (None, 100, 1, Duration::from_secs(10));
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Short('n') | Arg::Long("clones") => clones = parser.value()?.parse_with(some)?,
            Arg::Short('j') | Arg::Long("parallel") => parallel = parser.value()?.parse_with(some)?,
            Arg::Long("timeout") => timeout = parser.value()?.parse_with(time)?,
            Arg::Short('h') | Arg::Long("help") => return Ok(help_on("clone")),
            Arg::Value(path) if image.is_none() => image = Some(path.into()),
            other => return Err(other.unexpected()),
        }
    }
    let Some(image) = image else { return Err("which golden image?".into()) };
    Ok(Command::Clone(CloneArgs { image, clones, parallel, timeout }))
}

/// A number of clones or of threads.
fn some(text: &str) -> std::result::Result<u32, &'static str> {
    count(text).ok().filter(|&number| number > 0).ok_or("it is a whole number, 1 or more")
}

/// What a golden image is compared with.
#[derive(Debug, PartialEq)]
pub enum Other {
    /// Another one.
    Image(PathBuf),
    /// The machine that runs in this process.
    Process(i32),
}

/// The arguments of `diff`.
pub(super) fn parse_diff(parser: &mut Parser) -> std::result::Result<Command, lexopt::Error> {
    let (mut image, mut other): (Option<PathBuf>, _) = (None, None);
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Short('h') | Arg::Long("help") => return Ok(help_on("diff")),
            Arg::Value(path) if image.is_none() && path.as_encoded_bytes().starts_with(b"pid:") => {
                return Err("the golden image comes first, and pid:N second".into());
            }
            Arg::Value(path) if image.is_none() => image = Some(path.into()),
            Arg::Value(word) if other.is_none() => {
                other = Some(match word.to_str().and_then(|word| word.strip_prefix("pid:")) {
                    Some(number) => Other::Process(number.parse().map_err(|_| "pid:N takes a number")?),
                    None => Other::Image(word.into()),
                });
            }
            other => return Err(other.unexpected()),
        }
    }
    match image.zip(other) {
        Some((image, other)) => Ok(Command::Diff(image, other)),
        None => Err("a golden image, please, and what to compare it with".into()),
    }
}

/// Stops a run after so many exits.
struct Until {
    exits: Option<u64>,
}

impl Probe for Until {
    fn enter(&mut self, _vcpu: &mut Vcpu) -> ControlFlow<()> {
        if self.exits == Some(0) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn exit(&mut self, exit: &Exit<'_>) {
        if !matches!(exit, Exit::Interrupted) {
            self.exits = self.exits.map(|left| left - 1);
        }
    }
}

/// Runs a guest to its moment and writes it to a file.
pub(super) fn snapshot(run: &RunArgs, args: &SnapshotArgs) -> Result<u8> {
    let Some(path) = &args.output else { return Ok(super::STATUS_FAILURE) };
    // What a link names is meant, not the link.
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.clone());
    Snapshot::can_be_saved(path)?;
    let (image, mut machine) = run::prepare(run, |config| match args.at {
        Moment::After(time) => config.timeout = Some(time),
        Moment::Post(code) => config.stop_at = Some(code),
        Moment::Exit(_) => {}
    })?;
    console::catch_signals(machine.remote())?;
    let exits = if let Moment::Exit(count) = args.at { Some(count) } else { None };
    let mut until = Until { exits };
    let outcome = machine.run_watched(&mut until)?;
    sys::die_if_noted();
    let has_come = match args.at {
        Moment::After(_) => matches!(outcome, Outcome::TimedOut),
        _ => matches!(outcome, Outcome::Stopped),
    };
    if !has_come {
        // How it ended, where that says more; an end that is none of its faults is one here.
        return match run::conclude(&image, &outcome, run) {
            0 => Err(too_early()),
            _ if matches!(outcome, Outcome::Exited(_)) => Err(too_early()),
            status => Ok(status),
        };
    }
    let snapshot = machine.snapshot()?;
    sys::die_if_noted();
    let saved = snapshot.save_unless(path, console::is_ending);
    // What was written by then is gone again.
    sys::die_if_noted();
    saved?;
    if !run.quiet {
        let (stored, all) = (snapshot.pages(), snapshot.state().memory / PAGE as u64);
        let are = if stored == 1 { "is" } else { "are" };
        complain(&format!("{}: {stored} of {all} pages {are} not zero", path.display()), None);
    }
    Ok(0)
}

fn too_early() -> Error {
    Error::Snapshot("the guest ended before it came to that point".into())
}

/// The golden image that `run` is about, if it is one.
pub(super) fn image_of(args: &RunArgs) -> Result<Option<Snapshot>> {
    let path = match (&args.kernel, &args.target) {
        (Some(path), _) => path.as_path(),
        (None, Some(target)) if target.to_str().and_then(Guest::find).is_none() => Path::new(target),
        _ => return Ok(None),
    };
    // To open a pipe would be to take from it; what cannot be opened is for others to complain about.
    let is_file = fs::metadata(path).is_ok_and(|metadata| metadata.is_file());
    let file = if is_file { File::open(path).ok() } else { None };
    let Some(file) = file.filter(Snapshot::is_one) else { return Ok(None) };
    let has_more = args.memory.is_some()
        || args.cpus.is_some()
        || args.boot.is_some()
        || args.initrd.is_some()
        || args.cmdline.is_some()
        || args.cmdline_only.is_some()
        || !args.args.is_empty();
    if has_more || linux::is_meant(args) {
        return Err(Error::Golden);
    }
    Snapshot::read(&path.display().to_string(), file).map(Some)
}

/// Stops a run when the guest has written its first byte, and notes when that was.
struct FirstByte {
    start: Instant,
    after: Option<Duration>,
}

impl Probe for FirstByte {
    fn enter(&mut self, _vcpu: &mut Vcpu) -> ControlFlow<()> {
        if self.after.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn exit(&mut self, exit: &Exit<'_>) {
        /// COM1's transmitter.
        const THR: u16 = 0x3f8;
        if let Exit::Out { port: THR, .. } = exit {
            self.after.get_or_insert_with(|| self.start.elapsed());
        }
    }
}

/// A machine at its first byte, and when that came.
type Clone = (Machine, Option<Duration>);

/// So many are started before those that count: what the first ones cost is the process's own.
const UNCOUNTED: usize = 3;

/// Starts machines from an image and tells how long it took.
pub(super) fn clone(args: &CloneArgs) -> Result<u8> {
    let snapshot = Snapshot::open(&args.image)?;
    snapshot.verify()?;
    let kvm = Kvm::open()?;
    // A VM and its vCPUs are a descriptor each.
    sys::raise_open_files();
    let config = Config { timeout: Some(args.timeout), ..Config::default() };
    let start_one = || -> Result<Clone> {
        let mut probe = FirstByte { start: Instant::now(), after: None };
        let mut machine = snapshot.start(&kvm, &config, Box::new(io::sink()))?;
        machine.run_watched(&mut probe)?;
        Ok((machine, probe.after))
    };
    let mut clones: Vec<Clone> = (0..UNCOUNTED).map(|_| start_one()).collect::<Result<_>>()?;
    let before = memory_in_use();
    let begin = Instant::now();
    // A thread with nothing to do is none.
    let parallel = args.parallel.min(args.clones);
    let share = |n: u32| args.clones / parallel + u32::from(n < args.clones % parallel);
    let is_refused = AtomicBool::new(false);
    let start_some = |n| {
        let clones = (0..share(n)).map_while(|_| (!is_refused.load(Ordering::Relaxed)).then(start_one));
        clones.collect::<Result<Vec<Clone>>>()
    };
    let started: Result<Vec<Result<Vec<Clone>>>> = thread::scope(|scope| {
        let spawn = |n| thread::Builder::new().spawn_scoped(scope, move || start_some(n));
        let threads = (0..parallel).map(spawn).collect::<io::Result<Vec<_>>>().map_err(|source| {
            is_refused.store(true, Ordering::Relaxed);
            Error::Host { step: Step::StartThread, source }
        })?;
        let source = || io::Error::other("it panicked");
        let failed = || Error::Host { step: Step::StartThread, source: source() };
        Ok(threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(failed()))).collect())
    });
    let took = begin.elapsed();
    for more in started? {
        clones.extend(more?);
    }
    let after = memory_in_use();
    let begin_end = Instant::now();
    let times = clones.iter().skip(UNCOUNTED).filter_map(|(_, after)| *after).collect();
    drop(clones);
    let gone = begin_end.elapsed();
    print(&report(
        args.clones as usize,
        times,
        took,
        gone,
        after.zip(before).map(|(after, before)| after.saturating_sub(before)),
    ))
}

/// What `clone` prints.
fn report(
    count: usize,
    mut times: Vec<Duration>,
    took: Duration,
    gone: Duration,
    memory: Option<u64>,
) -> String {
    let mut text = String::new();
    let micros = |time: Duration| time.as_nanos() as f64 / 1000.0;
    let _ = writeln!(
        text,
        "{count} {} in {:.1} ms, {:.0} a second; given back in {:.1} ms",
        if count == 1 { "clone" } else { "clones" },
        micros(took) / 1000.0,
        count as f64 / took.as_secs_f64(),
        micros(gone) / 1000.0
    );
    times.sort_unstable();
    let at = |share: f64| times.get((times.len().saturating_sub(1) as f64 * share) as usize).copied();
    match (at(0.0), at(0.5), at(0.9), at(0.99), at(1.0)) {
        (Some(min), Some(median), Some(p90), Some(p99), Some(max)) => {
            let [min, median, p90, p99, max] = [min, median, p90, p99, max].map(micros);
            let _ = writeln!(
                text,
                "first byte: {min:.0} µs at least, {median:.0} median, {p90:.0} p90, {p99:.0} p99, {max:.0} at most"
            );
        }
        _ => text += "first byte: none wrote any\n",
    }
    if times.len() < count {
        let _ = writeln!(text, "{} ended or ran out of time without a byte", count - times.len());
    }
    if let Some(bytes) = memory {
        let _ = writeln!(
            text,
            "memory: {:.1} KiB each, of this process (PSS)",
            bytes as f64 / 1024.0 / count as f64
        );
    }
    text
}

/// The memory of this process in bytes, with what it shares divided by those who share it (proc(5), smaps_rollup).
fn memory_in_use() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/smaps_rollup").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib << 10)
}

/// Compares an image with another one or with a machine that runs; 1 if they differ.
pub(super) fn diff(image: &Path, other: &Other) -> Result<u8> {
    let image = Snapshot::open(image)?;
    let difference = match other {
        Other::Image(path) => image.differences(&Snapshot::open(path)?)?,
        Other::Process(number) => image.drift(*number)?,
    };
    print(&difference)?;
    Ok(u8::from(!difference.is_empty()))
}
