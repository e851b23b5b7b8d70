//! `matchstick bench`: the race, from what was typed to a table, three lines and files.

use super::error::Result;
use super::option::{CommandHelp, Given, HELP, OptionHelp, Parsed, option};
use super::output_file::OutputFile;
use super::print::print;
use super::values::{count, time};
use crate::bench::Error;
use crate::bench::card::Card;
use crate::bench::config::RaceConfig;
use crate::bench::isolation;
use crate::bench::launcher::quoted;
use crate::bench::observed::View;
use crate::bench::report::export::{self, Form};
use crate::bench::report::survey::{Findings, Survey};
use crate::bench::report::{self, Isolation, Report, compare, table, words};
use crate::bench::schedule::{Length, Schedule};
use crate::bench::{file, memory, parallel, stop};
use crate::sys;
use crate::text::one_line;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use lexopt::{Parser, ValueExt};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The command.
pub const COMMAND: CommandHelp = CommandHelp {
    name: "bench",
    arguments: "[OPTIONS] [isolation|memory|parallel]",
    about: "race a VM against a process and containers",
    intro: INTRO,
    options: OPTIONS,
    notes: NOTES,
    hint: "`matchstick bench --help` shows all options",
};

/// The options of `bench`.
const OPTIONS: &[OptionHelp] = &[
    option(Some('r'), "runs", Some("N"), "so many rounds, instead of --time"),
    option(Some('t'), "time", Some("TIME"), "rounds until TIME is over [default: 15s]"),
    option(Some('w'), "warmup", Some("N"), "rounds before, which do not count [default: 3]"),
    option(None, "only", Some("NAMES"), "race these subjects: vm,runc"),
    option(None, "skip", Some("NAMES"), "race all but these"),
    option(
        None,
        "with",
        Some("NAME=COMMAND"),
        "race a command of yours as well; it is split as a shell\ndoes, but there is no shell around it",
    ),
    option(None, "reference", Some("NAME"), "what ratios refer to [default: process]"),
    option(
        None,
        "payload",
        Some("PAYLOAD"),
        "what is run: hello, primes or a static program, the same\nfile in all of them [default: hello]",
    ),
    option(None, "seed", Some("N"), "decides the order within the rounds [default: any, printed]"),
    option(None, "pin", Some("CPU"), "bind everything to one CPU"),
    option(None, "cold", None, "then some starts with an empty page cache (as root)"),
    option(None, "limit", Some("TIME"), "a start that takes longer has failed [default: 10s]"),
    option(None, "compare", Some("FILE"), "hold it against an older race, a JSON of --export-json"),
    option(None, "export-json", Some("FILE"), "every sample and the machine; hyperfine's field names"),
    option(None, "export-csv", Some("FILE"), "a line a subject"),
    option(None, "export-markdown", Some("FILE"), "the table for a README"),
    option(None, "export-html", Some("FILE"), "a page with plots, in one file"),
    option(None, "export-svg", Some("FILE"), "a picture for a README: bars with intervals"),
    HELP,
];

/// What `bench` is.
const INTRO: &str = "Start the same payload in every way this machine has, as a process, in virtual machines and in\n\
     containers, again and again, and compare. Or look at something else (--only, --skip, --limit and\n\
     --export-… apply to all):\n  \
     isolation  what a program sees of the host in each of them\n  \
     memory     what one more idle instance costs; --runs is how many, 4 or more [default: 16]\n  \
     parallel   how many start in a second, by how many at once; --time is for all of it, --payload what starts";

/// What a user of `bench` has to know besides the options.
const NOTES: &str = "
Times are from just before the spawn to the first byte of the output, and to reaped: teardown counts.
Subjects that are missing here are named with what would help. docs/benchmarking.md explains each figure.

Exit status: 1 if a subject was dropped, because it failed three times in a row or each time, or if none has
figures; 125 if the race could not be run or a file not be written.
";

/// What is measured or looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Without a word: how long a start takes.
    Race,
    /// `isolation`: what a program sees.
    Isolation,
    /// `memory`: what an idle instance costs.
    Memory,
    /// `parallel`: how many start in a second.
    Parallel,
}

/// `bench` as it was typed.
#[derive(Debug, PartialEq)]
pub struct BenchArgs {
    /// What is looked at.
    pub what: What,
    /// Who takes part, and how.
    pub config: RaceConfig,
    /// `--compare`
    pub compare: Option<PathBuf>,
    /// `--export-…`
    pub exports: Vec<(Form, PathBuf)>,
}

/// Reads what follows `bench`.
pub fn parse(parser: &mut Parser) -> std::result::Result<Parsed<BenchArgs>, lexopt::Error> {
    let schedule = Schedule {
        length: Length::Time(Duration::from_secs(15)),
        warmup: 3,
        seed: u32::from_ne_bytes(sys::random().unwrap_or_default()).into(),
        limit: Duration::from_secs(10),
        cold: false,
    };
    let mut config = RaceConfig {
        command: String::new(),
        schedule,
        payload: "hello".into(),
        only: Vec::new(),
        skip: Vec::new(),
        with: Vec::new(),
        reference: None,
        pin: None,
    };
    let (mut what, mut compare, mut exports) = (What::Race, None, Vec::new());
    let mut given = Vec::new();
    while let Some(next) = Given::next(parser, OPTIONS)? {
        if let Given::Option(name) = next {
            given.push(name);
        }
        match next {
            Given::Option("runs") => {
                config.schedule.length = Length::Rounds(parser.value()?.parse_with(runs)?);
            }
            Given::Option("time") => {
                config.schedule.length = Length::Time(parser.value()?.parse_with(time)?);
            }
            Given::Option("warmup") => {
                config.schedule.warmup = parser.value()?.parse_with(number)?;
            }
            Given::Option("only") => config.only.extend(names(parser.value()?)?),
            Given::Option("skip") => config.skip.extend(names(parser.value()?)?),
            Given::Option("with") => config.with.push(parser.value()?.parse_with(command)?),
            Given::Option("reference") => config.reference = Some(parser.value()?.string()?),
            Given::Option("payload") => config.payload = parser.value()?.string()?,
            Given::Option("seed") => config.schedule.seed = parser.value()?.parse_with(number)?,
            Given::Option("pin") => config.pin = Some(parser.value()?.parse_with(number)?),
            Given::Option("cold") => config.schedule.cold = true,
            Given::Option("limit") => config.schedule.limit = parser.value()?.parse_with(time)?,
            Given::Option("compare") => compare = Some(parser.value()?.into()),
            Given::Option("export-json") => exports.push((Form::Json, parser.value()?.into())),
            Given::Option("export-csv") => exports.push((Form::Csv, parser.value()?.into())),
            Given::Option("export-markdown") => exports.push((Form::Markdown, parser.value()?.into())),
            Given::Option("export-html") => exports.push((Form::Html, parser.value()?.into())),
            Given::Option("export-svg") => exports.push((Form::Svg, parser.value()?.into())),
            Given::Option("help") => return Ok(Parsed::Help),
            Given::Word(word) if what == What::Race => what = word.parse_with(what_of)?,
            other => return Err(other.unexpected()),
        }
    }
    if let Some(option) = given.into_iter().find(|option| !what.takes(option)) {
        return Err(format!("`bench {}` takes no --{option}", what.word()).into());
    }
    if let (What::Memory, Length::Rounds(..memory::INSTANCES_MIN)) = (what, config.schedule.length) {
        return Err(format!("`bench memory` takes --runs {} or more", memory::INSTANCES_MIN).into());
    }
    Ok(Parsed::Arguments(BenchArgs { what, config, compare, exports }))
}

impl What {
    /// Whether the option of that name changes anything of it.
    fn takes(self, option: &str) -> bool {
        match option {
            "only" | "skip" | "limit" => true,
            // There is nothing to draw.
            "export-svg" => self != What::Isolation,
            _ if option.starts_with("export-") => true,
            "runs" => matches!(self, What::Race | What::Memory),
            "time" | "payload" => matches!(self, What::Race | What::Parallel),
            _ => self == What::Race,
        }
    }

    /// As it is typed.
    fn word(self) -> &'static str {
        match self {
            What::Race => "",
            What::Isolation => "isolation",
            What::Memory => "memory",
            What::Parallel => "parallel",
        }
    }
}

fn what_of(word: &str) -> std::result::Result<What, &'static str> {
    match word {
        "isolation" => Ok(What::Isolation),
        "memory" => Ok(What::Memory),
        "parallel" => Ok(What::Parallel),
        _ => Err("it is isolation, memory or parallel, or nothing for a race"),
    }
}

/// A number of rounds that makes a race.
fn runs(text: &str) -> std::result::Result<u32, &'static str> {
    match count(text) {
        Ok(0) | Err(_) => Err("a race has a whole number of rounds, 1 or more"),
        runs => runs,
    }
}

fn number<T: std::str::FromStr>(text: &str) -> std::result::Result<T, &'static str> {
    text.parse().map_err(|_| "it is a whole number, 0 or more")
}

/// `vm,runc`.
fn names(list: OsString) -> std::result::Result<Vec<String>, lexopt::Error> {
    let names: Vec<String> =
        list.string()?.split(',').filter(|name| !name.is_empty()).map(Into::into).collect();
    if names.is_empty() { Err("no subject is named".into()) } else { Ok(names) }
}

/// `NAME=COMMAND`.
fn command(text: &str) -> std::result::Result<(String, String), &'static str> {
    match text.split_once('=') {
        Some((name, _)) if one_line(name) != name => Err("a name is one line, without control characters"),
        Some((name, command)) if !name.is_empty() && !command.trim().is_empty() => {
            Ok((name.into(), command.into()))
        }
        _ => Err("it is NAME=COMMAND: --with qemu='qemu-system-x86_64 …'"),
    }
}

/// Runs the race and returns the exit status.
pub fn run(mut args: BenchArgs) -> Result<u8> {
    args.config.command = command_line();
    match args.what {
        What::Race => race(args),
        What::Isolation => isolation(args),
        What::Memory => memory(args),
        What::Parallel => parallel(args),
    }
}

/// What was typed, without where this program lies.
fn command_line() -> String {
    let words = std::env::args_os().skip(1).map(|word| one_line(&quoted(&word)));
    ["matchstick".to_owned()].into_iter().chain(words).collect::<Vec<String>>().join(" ")
}

/// The files that a report goes to.
struct Exports(Vec<(Form, OutputFile)>);

impl Exports {
    /// Opened before anything is run, so that a mistake is found at once; and before signals are noted, because opening a
    /// named pipe waits for a reader, and no signal would end that wait.
    fn open(exports: Vec<(Form, PathBuf)>) -> Result<Exports> {
        let open = |(form, path)| Ok((form, OutputFile::open(path)?));
        let exports = exports.into_iter().map(open).collect::<Result<Vec<_>>>()?;
        OutputFile::all_differ(exports.iter().map(|(_, file)| file), None)?;
        Ok(Exports(exports))
    }

    /// Writes all of them, also if one cannot be.
    fn write(self, text: impl Fn(Form) -> io::Result<String>) -> Result<()> {
        let mut all = Ok(());
        for (form, file) in self.0 {
            let one = match text(form) {
                Ok(text) => file.write(&text),
                Err(source) => Err(file.failed(source)),
            };
            all = all.and(one);
        }
        Ok(all?)
    }
}

/// Writes and prints what was found.
fn tell(config: &RaceConfig, machine: Card, exports: Exports, findings: Findings) -> Result<()> {
    let survey = Survey::new(config.command.clone(), machine, findings);
    let exported = exports.write(|form| survey.export(form));
    print(&survey.text())?;
    exported?;
    sys::die_if_noted();
    Ok(())
}

/// What an idle instance of each subject costs.
fn memory(BenchArgs { config, exports, .. }: BenchArgs) -> Result<u8> {
    let instances = match config.schedule.length {
        Length::Rounds(rounds) => rounds,
        Length::Time(_) => memory::INSTANCES,
    };
    let (exports, machine) = (Exports::open(exports)?, Card::gather());
    let bar = progress_bar();
    let costs = memory::measure(&config, instances, &mut |part, name| show(&bar, part, name))?;
    bar.finish_and_clear();
    tell(&config, machine, exports, Findings::Memory(costs))?;
    Ok(0)
}

/// How many instances of each subject start in a second.
fn parallel(BenchArgs { config, exports, .. }: BenchArgs) -> Result<u8> {
    let (exports, machine) = (Exports::open(exports)?, Card::gather());
    let bar = progress_bar();
    let rates = parallel::measure(&config, &mut |part, name| show(&bar, part, name))?;
    bar.finish_and_clear();
    tell(&config, machine, exports, Findings::Parallel(rates))?;
    Ok(0)
}

fn show(bar: &ProgressBar, part: f64, name: &str) {
    bar.set_position((part * 1000.0) as u64);
    bar.set_message(name.to_owned());
}

/// What a program sees of the host when each subject runs it.
fn isolation(BenchArgs { config, exports, .. }: BenchArgs) -> Result<u8> {
    let (exports, machine) = (Exports::open(exports)?, Card::gather());
    let observed = isolation::observe(&config)?;
    let has_failed = observed.iter().any(|one| matches!(one.view, View::Failed(_)));
    let found = Isolation { host: isolation::host(), observed };
    tell(&config, machine, exports, Findings::Isolation(found.into()))?;
    Ok(if has_failed { 1 } else { 0 })
}

fn race(args: BenchArgs) -> Result<u8> {
    let then = args.compare.as_deref().map(read_report).transpose()?;
    let config = args.config.clone();
    let shows_isolation = args.exports.iter().any(|(form, _)| [Form::Json, Form::Html].contains(form));
    let exports = Exports::open(args.exports)?;
    let prepared = args.config.prepare()?;
    let bar = progress_bar();
    let mut report = prepared.run(&mut |part, subject| show(&bar, part, subject))?;
    bar.finish_and_clear();
    if shows_isolation && !stop::asked() {
        report.isolation = isolation_of(config);
    }
    let exported = exports.write(|form| export::text(&report, then.as_ref(), form));
    let mut text = format!("{}\n{}", table::text(&report), words::text(&report));
    if let Some(then) = then {
        text += &format!("\n{}", compare::text(&then, &report));
    }
    print(&text)?;
    exported?;
    sys::die_if_noted();
    let is_well = report.dropped.is_empty() && !report.results.is_empty();
    Ok(if is_well { 0 } else { 1 })
}

/// The same for the subjects that raced, except commands of the user's.
fn isolation_of(config: RaceConfig) -> Option<Isolation> {
    let observed = isolation::observe(&RaceConfig { with: Vec::new(), ..config }).ok()?;
    Some(Isolation { host: isolation::host(), observed })
}

/// On stderr, if that is a terminal.
fn progress_bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(1000), ProgressDrawTarget::stderr());
    match ProgressStyle::with_template("{bar:40} {percent:>3} %  {msg}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// The largest report to compare with, in bytes: far more than the samples of a day.
const REPORT_MAX: u64 = 64 << 20;

fn read_report(path: &Path) -> Result<Report> {
    let read = || -> io::Result<Report> { report::from_json(&file::read(path, REPORT_MAX)?) };
    read().map_err(|source| Error::NoReport { path: path.into(), source }.into())
}
