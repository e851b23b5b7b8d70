//! `matchstick clone`: many machines from one golden image, and what they cost.

use super::error::Result;
use super::option::{CommandHelp, Given, HELP, OptionHelp, Parsed, option};
use super::print::print;
use super::values::{count, size, time};
use crate::error::{Error, Step};
use crate::kvm::{Exit, Kvm, Vcpu};
use crate::machine::{Config, Machine};
use crate::snapshot::{Limits, Snapshot};
use crate::sys;
use crate::timeline::Probe;
use crate::x86::ports::COM1;
use lexopt::{Parser, ValueExt};
use std::fmt::Write;
use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The command.
pub const COMMAND: CommandHelp = CommandHelp {
    name: "clone",
    arguments: "[OPTIONS] IMAGE",
    about: "start many machines from a golden image, and measure",
    intro: "Start machines from one golden image, each to the first byte that its guest writes, and keep all of them\n\
            until the last one is there. Tells how many that were in a second, how long each took, and what\n\
            each of them costs in memory. What the guests write is not shown.",
    options: OPTIONS,
    notes: "",
    hint: "`matchstick clone --help` shows all options",
};

/// The options of `clone`.
const OPTIONS: &[OptionHelp] = &[
    option(Some('n'), "clones", Some("N"), "how many, after three that do not count [default: 100]"),
    option(Some('j'), "parallel", Some("N"), "so many threads start them [default: 1]"),
    option(Some('c'), "cpus", Some("N"), "most CPUs that each may have [default: 4]"),
    option(Some('m'), "memory", Some("SIZE"), "most memory that each may have [default: 512M]"),
    option(None, "timeout", Some("TIME"), "how long each may take to its first byte [default: 10]"),
    HELP,
];

/// `clone` as it was typed.
#[derive(Debug, PartialEq)]
pub struct CloneArgs {
    /// The image.
    pub image: PathBuf,
    /// `--clones`
    pub clones: u32,
    /// `--parallel`
    pub parallel: u32,
    /// `--cpus` and `--memory`
    pub limits: Limits,
    /// `--timeout`
    pub timeout: Duration,
}

/// Reads what follows `clone`.
pub fn parse(parser: &mut Parser) -> std::result::Result<Parsed<CloneArgs>, lexopt::Error> {
    let (mut image, mut clones, mut parallel, mut timeout) = (None, 100, 1, Duration::from_secs(10));
    let mut limits = Limits::default();
    while let Some(given) = Given::next(parser, OPTIONS)? {
        match given {
            Given::Option("clones") => clones = parser.value()?.parse_with(some)?,
            Given::Option("parallel") => parallel = parser.value()?.parse_with(some)?,
            Given::Option("cpus") => limits.cpus = parser.value()?.parse_with(count)?,
            Given::Option("memory") => limits.memory = parser.value()?.parse_with(size)?,
            Given::Option("timeout") => timeout = parser.value()?.parse_with(time)?,
            Given::Option(_) => return Ok(Parsed::Help),
            Given::Word(path) if image.is_none() => image = Some(path.into()),
            other => return Err(other.unexpected()),
        }
    }
    let Some(image) = image else { return Err("which golden image?".into()) };
    Ok(Parsed::Arguments(CloneArgs { image, clones, parallel, limits, timeout }))
}

/// A number of clones or of threads.
fn some(text: &str) -> std::result::Result<u32, &'static str> {
    count(text).ok().filter(|&number| number > 0).ok_or("it is a whole number, 1 or more")
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
        if let Exit::Out { port: COM1, .. } = exit {
            self.after.get_or_insert_with(|| self.start.elapsed());
        }
    }
}

/// A machine at its first byte, and when that came.
type Clone = (Machine, Option<Duration>);

/// The number of machines started before those that count. The first ones also pay for what the process does once.
const UNCOUNTED: usize = 3;

/// Starts machines from an image and tells how long it took.
pub fn run(args: &CloneArgs) -> Result<u8> {
    sys::watch_mapped_files().map_err(|source| Error::Host { step: Step::Signals, source })?;
    let snapshot = Snapshot::open(&args.image, &args.limits)?;
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
    // No thread is started that would have nothing to do.
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
        let failed = || Error::Host { step: Step::StartThread, source: source() }.into();
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
