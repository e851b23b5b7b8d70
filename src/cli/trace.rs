//! `matchstick trace`: runs a guest as `run` does, and tells what happened.

use super::error::Result;
#[cfg(feature = "debugger")]
use super::gdb;
use super::option::{CommandHelp, OptionHelp, Parsed, option};
use super::output_file::OutputFile;
use super::print::{print_beside, tell_beside};
use super::run_options::{self, RUN_OPTIONS, RunArgs, beside_run};
use super::start;
#[cfg(feature = "debugger")]
use super::values;
#[cfg(feature = "debugger")]
use crate::debugger::Address;
use crate::error;
use crate::guest::Guest;
use crate::sandbox::Sandbox;
use crate::sys;
use crate::text::{plain, plain_json};
use crate::trace::{Stepper, Tracer, html, json, step, story};
use lexopt::Parser;
use std::path::{Path, PathBuf};

/// The command.
pub const COMMAND: CommandHelp = CommandHelp {
    name: "trace",
    arguments: "[OPTIONS] [GUEST|PATH] [-- ARGS...]",
    about: "start a guest, and tell every call to KVM and every exit",
    intro: INTRO,
    options: OPTIONS,
    notes: NOTES,
    hint: "`matchstick trace --help` shows all options",
};

/// The options of `trace`, beside those of `run`.
const OWN_OPTIONS: &[OptionHelp] = &[
    option(Some('o'), "output", Some("PATH"), "where the story goes, instead of stderr"),
    option(None, "json", None, "the story as JSON, one event a line; times in ns"),
    option(None, "chrome", Some("PATH"), "a file for Perfetto and chrome://tracing as well"),
    option(None, "html", Some("PATH"), "a page with a timeline to zoom as well"),
    option(None, "step", None, "tell each instruction and what it changed, not the exits"),
    #[cfg(feature = "debugger")]
    option(None, "gdb", Some("ADDRESS"), "no story: wait for gdb at a PORT of this host, or unix:PATH"),
];

/// Its own options, and those of `run` that it takes.
const OPTIONS: &[OptionHelp] =
    &beside_run::<{ OWN_OPTIONS.len() + RUN_OPTIONS.len() - 1 }>(OWN_OPTIONS, true);

/// What the help begins with.
const INTRO: &str = "Start a guest as `matchstick run` does, and tell how it went: every call to KVM with its cost,\n\
     every exit with what the guest wanted, who answered, which instruction it was, and its time.";

/// What a user of `trace` has to know besides.
const NOTES: &str = "
The guest's output goes to stdout, as with `run`; the story follows when the guest has ended.
Runs of alike exits are told once. Of very many events the first and the last are kept, and what
was dropped is said; the sums have everything. With several CPUs, CPU 0 is the one that is told of.
`matchstick trace exec PROGRAM` does the same for a Linux program, call by call.
A debugger steers the guest without the sandbox. The exit status is that of `run`.
";

/// `trace` as it was typed, beside what it shares with `run`.
#[derive(Debug, Default, PartialEq)]
pub struct TraceArgs {
    /// `--output`
    pub output: Option<PathBuf>,
    /// `--json`
    pub json: bool,
    /// `--chrome`
    pub chrome: Option<PathBuf>,
    /// `--html`
    pub html: Option<PathBuf>,
    /// `--step`
    pub step: bool,
    /// `--gdb`
    #[cfg(feature = "debugger")]
    pub gdb: Option<Address>,
}

impl TraceArgs {
    /// Takes the option `name`, with its value if it has one.
    pub fn take(&mut self, name: &str, parser: &mut Parser) -> std::result::Result<(), lexopt::Error> {
        let mut path = || parser.value().map(|value| Some(value.into()));
        match name {
            "output" => self.output = path()?,
            "chrome" => self.chrome = path()?,
            "html" => self.html = path()?,
            #[cfg(feature = "debugger")]
            "gdb" => self.gdb = Some(values::address(parser)?),
            "json" => self.json = true,
            _ => self.step = true,
        }
        Ok(())
    }

    /// Whether a debugger steers the guest.
    fn is_debugged(&self) -> bool {
        #[cfg(feature = "debugger")]
        return self.gdb.is_some();
        #[cfg(not(feature = "debugger"))]
        return false;
    }

    /// What cannot go together.
    fn check(&self) -> std::result::Result<(), String> {
        let tells =
            self.output.is_some() || self.json || self.chrome.is_some() || self.html.is_some() || self.step;
        if self.is_debugged() && tells {
            return Err("with --gdb there is no story to be told".into());
        }
        match self.step && (self.chrome.is_some() || self.html.is_some()) {
            true => Err("--step has no times, so there is nothing for --chrome and --html to draw".into()),
            false => Ok(()),
        }
    }
}

/// Whether `exec` follows `trace`, which is then taken: a Linux program is to be traced.
pub fn is_of_program(parser: &mut Parser) -> bool {
    let Some(mut words) = parser.try_raw_args() else { return false };
    words.next_if(|word| word == "exec").is_some()
}

/// Reads what follows `trace`.
pub fn parse(parser: &mut Parser) -> std::result::Result<Parsed<(RunArgs, TraceArgs)>, lexopt::Error> {
    let mut args = TraceArgs::default();
    let run = run_options::parse(parser, OPTIONS, |option, parser| args.take(option, parser))?;
    let Parsed::Arguments(run) = run else { return Ok(Parsed::Help) };
    args.check()?;
    if args.is_debugged() && run.sandbox == Some(Sandbox::Strict) {
        return Err("--gdb runs without the sandbox: a client is let in later".into());
    }
    Ok(Parsed::Arguments((run, args)))
}

/// Runs and traces a guest and returns the exit status.
pub fn run(run: &RunArgs, args: &TraceArgs) -> Result<u8> {
    #[cfg(feature = "debugger")]
    if let Some(address) = &args.gdb {
        return gdb::run(run, address);
    }
    // Before the guest starts: what cannot be written is known at once.
    let open = |path: &Option<PathBuf>| path.clone().map(OutputFile::open).transpose();
    let mut output = open(&args.output)?;
    let mut chrome = open(&args.chrome)?;
    let mut html = open(&args.html)?;
    let path = run.target.as_deref().filter(|name| name.to_str().and_then(Guest::find).is_none());
    let image = run.kernel.as_deref().or(path.map(Path::new));
    OutputFile::all_differ([&output, &chrome, &html].into_iter().flatten(), image)?;
    OutputFile::publish_from_outside([&mut output, &mut chrome, &mut html].into_iter().flatten())?;
    if args.step {
        return walk(run, args, output);
    }
    let mut tracer = Tracer::new();
    let ended = start::start(&confined(run), &mut tracer)?;
    let recording = tracer.finish(&ended.image.name);
    // If one cannot be written, the others still are, and how the guest ended is still told.
    let written = [
        chrome.map_or(Ok(()), |chrome| chrome.write(&plain_json(&json::chrome(&recording)))),
        html.map_or(Ok(()), |page| page.write(&html::page(&recording))),
        hand_over(
            run,
            output,
            if args.json { plain_json(&json::lines(&recording)) } else { plain(&story::tell(&recording)) },
            args.json,
        ),
    ];
    sys::die_if_noted();
    let status = ended.conclude(run)?;
    written.into_iter().collect::<error::Result<()>>()?;
    Ok(status)
}

/// The same in the sandbox for a story, unless it is switched off.
fn confined(run: &RunArgs) -> RunArgs {
    let sandbox = match run.sandbox {
        Some(Sandbox::Off) => Sandbox::Off,
        _ => Sandbox::Traced,
    };
    RunArgs { sandbox: Some(sandbox), ..run.clone() }
}

/// `--step`: the same, instruction by instruction.
fn walk(run: &RunArgs, args: &TraceArgs, output: Option<OutputFile>) -> Result<u8> {
    let mut stepper = Stepper::new();
    let ended = start::start(&confined(run), &mut stepper)?;
    let (steps, count) = stepper.finish()?;
    let text = match args.json {
        true => plain_json(&step::json_lines(&steps, count)),
        false => plain(&step::tell(&ended.image.name, &steps, count)),
    };
    let written = hand_over(run, output, text, args.json);
    sys::die_if_noted();
    let status = ended.conclude(run)?;
    written?;
    Ok(status)
}

/// Gives the story to whoever wanted it.
fn hand_over(run: &RunArgs, output: Option<OutputFile>, text: String, is_json: bool) -> error::Result<()> {
    match output {
        Some(output) => output.write(&text)?,
        None if run.quiet => {}
        None if is_json => print_beside(&text)?,
        None => tell_beside(&text)?,
    }
    Ok(())
}
