//! `matchstick snapshot`: runs a guest to a point and keeps it as a golden image.

use super::error::{Error, Result};
use super::option::{CommandHelp, OptionHelp, Parsed, option};
use super::print::complain;
use super::run_options::{self, RUN_OPTIONS, RunArgs, beside_run};
use super::values::{Moment, moment};
use super::{start, status};
use crate::console;
use crate::kvm::{Exit, Vcpu};
use crate::machine::Outcome;
use crate::snapshot::{PAGE, Snapshot};
use crate::sys;
use crate::text::shown;
use crate::timeline::Probe;
use lexopt::{Parser, ValueExt};
use std::ops::ControlFlow;
use std::path::PathBuf;

/// The command.
pub const COMMAND: CommandHelp = CommandHelp {
    name: "snapshot",
    arguments: "[OPTIONS] [GUEST|PATH] [-- ARGS...]",
    about: "run a guest to a point, and keep it as a golden image",
    intro: INTRO,
    options: OPTIONS,
    notes: NOTES,
    hint: "`matchstick snapshot --help` shows all options",
};

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
const OPTIONS: &[OptionHelp] =
    &beside_run::<{ OWN_OPTIONS.len() + RUN_OPTIONS.len() - 2 }>(OWN_OPTIONS, false);

/// What the help of `snapshot` begins with.
const INTRO: &str = "Start a guest as `matchstick run` does, stop it at a point, and write all of it to a file.\n\
     `matchstick run FILE` goes on from there, as often as one likes; FILE is not written to.";

/// What a user of `snapshot` has to know besides.
const NOTES: &str = "
The guest gets no input. What it writes before that point goes to stdout, and is not written again
by those that go on. They begin with the same random numbers, keys and names, all of them:
docs/snapshots.md. Of the guests of the gallery `primes` is ready when it has counted.
";

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

/// Reads what follows `snapshot`.
pub fn parse(parser: &mut Parser) -> std::result::Result<Parsed<(RunArgs, SnapshotArgs)>, lexopt::Error> {
    let mut args = SnapshotArgs::default();
    let run = run_options::parse(parser, OPTIONS, |option, parser| {
        match option {
            "output" => args.output = Some(parser.value()?.into()),
            _ => args.at = parser.value()?.parse_with(moment)?,
        }
        Ok(())
    })?;
    let Parsed::Arguments(run) = run else { return Ok(Parsed::Help) };
    if let (Moment::After(moment), Some(timeout)) = (args.at, run.timeout)
        && timeout <= moment
    {
        return Err("--timeout is over before --at".into());
    }
    if args.output.is_none() {
        return Err("-o FILE says where it goes".into());
    }
    Ok(Parsed::Arguments((run, args)))
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
pub fn run(run: &RunArgs, args: &SnapshotArgs) -> Result<u8> {
    let Some(path) = &args.output else { return Ok(status::FAILURE) };
    Snapshot::can_be_saved(path)?;
    let (image, mut machine) = start::prepare(run, |config| match args.at {
        Moment::After(time) => config.timeout = Some(time),
        Moment::Post(code) => config.stop_at = Some(code),
        Moment::Exit(_) => {}
    })?;
    console::catch_signals(machine.remote())?;
    let exits = if let Moment::Exit(count) = args.at { Some(count) } else { None };
    let mut until = Until { exits };
    let outcome = machine.run_watched(&mut until);
    sys::restore_terminal();
    let outcome = outcome?;
    sys::die_if_noted();
    let has_come = match args.at {
        Moment::After(_) => matches!(outcome, Outcome::TimedOut),
        _ => matches!(outcome, Outcome::Stopped),
    };
    if !has_come {
        let has_exited = matches!(outcome, Outcome::Exited(_));
        // Too early. A crash says more than that; an end that is no failure for `run` is one here.
        let outcome = Ok(outcome);
        let missing = start::missing(&outcome, &machine);
        return match (start::Ended { image, outcome, missing }).conclude(run)? {
            0 => Err(Error::TooEarly),
            _ if has_exited => Err(Error::TooEarly),
            status => Ok(status),
        };
    }
    let snapshot = machine.snapshot()?;
    sys::die_if_noted();
    let saved = snapshot.save_unless(path, console::is_ending);
    // What had been written when the signal came has been removed.
    sys::die_if_noted();
    saved?;
    if !run.quiet {
        let (stored, all) = (snapshot.pages(), snapshot.state().memory / PAGE as u64);
        let are = if stored == 1 { "is" } else { "are" };
        complain(&format!("{}: {stored} of {all} pages {are} not zero", shown(path)), None);
    }
    Ok(0)
}
