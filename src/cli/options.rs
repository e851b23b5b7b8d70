//! The arguments: what was typed becomes a [`Command`]. What can be typed stands in [`table`](super::table).

#[cfg(feature = "race")]
use super::bench::{self, BenchArgs};
use super::clone::{self, CloneArgs};
use super::diff::{self, DiffArgs};
use super::exec::{self, ExecArgs};
use super::explain::{self, Request};
use super::guests;
use super::host;
#[cfg(feature = "images")]
use super::images::{self, ImagesArgs};
use super::lab::{self, LabArgs};
use super::oci::{self, OciArgs};
use super::option::{CommandHelp, Given, HELP, OptionHelp, Parsed, option};
use super::run;
#[cfg(feature = "images")]
use super::run_image::{self, RunImageArgs};
use super::run_options::RunArgs;
use super::snapshot::{self, SnapshotArgs};
use super::suggest;
use super::table::{COMMANDS, LEFT_OUT, command};
#[cfg(feature = "trace")]
use super::trace::{self, TraceArgs};
#[cfg(feature = "trace")]
use super::trace_exec;
use crate::guest::Guest;
use crate::linux;
use lexopt::{Arg, Parser};
use std::ffi::OsString;

/// What the user wants.
#[derive(Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "there is only ever one of them")]
pub enum Command {
    /// Start a guest.
    Run(RunArgs),
    /// Start a guest and tell what happens.
    #[cfg(feature = "trace")]
    Trace(RunArgs, TraceArgs),
    /// Run a Linux program and tell its system calls.
    #[cfg(feature = "trace")]
    TraceExec(ExecArgs, TraceArgs),
    /// Save a guest.
    Snapshot(RunArgs, SnapshotArgs),
    /// Start many from one image.
    Clone(CloneArgs),
    /// Compare an image with another one, or with a machine that runs.
    Diff(DiffArgs),
    /// Run a Linux program.
    Exec(ExecArgs),
    /// About the OCI runtime; its calls are no commands of ours.
    Oci(OciArgs),
    /// Run a container image's program.
    #[cfg(feature = "images")]
    RunImage(Box<RunImageArgs>),
    /// What there is of images.
    #[cfg(feature = "images")]
    Images(ImagesArgs),
    /// List the gallery.
    Guests,
    /// Describe this host, as JSON or for people.
    Host {
        /// `--json`
        json: bool,
    },
    /// Race.
    #[cfg(feature = "race")]
    Bench(Box<BenchArgs>),
    /// Give a lesson.
    Explain(Request),
    /// Give a lesson whose commands are run.
    Lab(LabArgs),
    /// Explain a command, or everything briefly.
    Help(Option<&'static CommandHelp>),
    /// Name the version.
    Version,
}

impl Command {
    /// Whether remarks are unwanted.
    pub fn is_quiet(&self) -> bool {
        match self {
            Command::Run(run) | Command::Snapshot(run, _) => run.quiet,
            #[cfg(feature = "trace")]
            Command::Trace(run, _) => run.quiet,
            _ => false,
        }
    }
}

/// What was typed makes no sense.
#[derive(Debug, PartialEq)]
pub struct Usage {
    /// The complaint.
    pub what: String,
    /// What would have helped.
    pub hint: &'static str,
}

/// The options of the program itself.
const OPTIONS: &[OptionHelp] = &[HELP, option(Some('V'), "version", None, "show the version")];

/// Reads the arguments, without the program's name.
pub fn parse(args: impl Iterator<Item = OsString>) -> Result<Command, Usage> {
    let mut parser = Parser::from_args(args);
    let no_command = |what| Usage { what, hint: "`matchstick --help` shows what there is" };
    let word = match Given::next(&mut parser, OPTIONS) {
        Ok(None | Some(Given::Option("help"))) => return Ok(Command::Help(None)),
        Ok(Some(Given::Option(_))) => return Ok(Command::Version),
        Ok(Some(Given::Word(word))) => word,
        Err(error) => return Err(no_command(suggest::complaint(&error, OPTIONS))),
    };
    let parser = &mut parser;
    match word.to_str() {
        Some("run") => read(&run::COMMAND, run::parse(parser), Command::Run),
        #[cfg(feature = "trace")]
        Some("trace") if trace::is_of_program(parser) => {
            let command = |(exec, trace)| Command::TraceExec(exec, trace);
            read(&trace_exec::COMMAND, trace_exec::parse(parser), command)
        }
        #[cfg(feature = "trace")]
        Some("trace") => {
            read(&trace::COMMAND, trace::parse(parser), |(run, trace)| Command::Trace(run, trace))
        }
        Some("snapshot") => {
            let snapshot = |(run, snapshot)| Command::Snapshot(run, snapshot);
            read(&snapshot::COMMAND, snapshot::parse(parser), snapshot)
        }
        Some("clone") => read(&clone::COMMAND, clone::parse(parser), Command::Clone),
        Some("diff") => read(&diff::COMMAND, diff::parse(parser), Command::Diff),
        Some("exec") => read(&exec::COMMAND, exec::parse(parser), Command::Exec),
        Some("oci") => read(&oci::COMMAND, oci::parse(parser), Command::Oci),
        #[cfg(feature = "images")]
        Some("run-image") => {
            read(&run_image::COMMAND, run_image::parse(parser), |args| Command::RunImage(Box::new(args)))
        }
        #[cfg(feature = "images")]
        Some("images") => read(&images::COMMAND, images::parse(parser), Command::Images),
        Some("guests") => read(&guests::COMMAND, guests::parse(parser), |()| Command::Guests),
        Some("host") => read(&host::COMMAND, host::parse(parser), |json| Command::Host { json }),
        #[cfg(feature = "race")]
        Some("bench") => read(&bench::COMMAND, bench::parse(parser), |args| Command::Bench(Box::new(args))),
        Some("explain") => read(&explain::COMMAND, explain::parse(parser), Command::Explain),
        Some("lab") => read(&lab::COMMAND, lab::parse(parser), Command::Lab),
        Some("help") => parse_help(parser).map(Command::Help).map_err(|error| no_command(error.to_string())),
        Some(name) if name == linux::NAME || Guest::find(name).is_some() => Err(Usage {
            what: format!("{name} is a guest, not a command"),
            hint: "`matchstick run GUEST` starts it",
        }),
        Some(name) if LEFT_OUT.contains(&name) => Err(Usage {
            what: format!("this matchstick was built without {name}"),
            hint: "`cargo build --release`, with the default features, makes one that has it",
        }),
        _ => Err(no_command(suggest::no_command(&word, COMMANDS.iter().map(|command| command.name)))),
    }
}

/// What was read of `command`, as what the user wants.
fn read<T>(
    command: &'static CommandHelp,
    parsed: Result<Parsed<T>, lexopt::Error>,
    to: impl FnOnce(T) -> Command,
) -> Result<Command, Usage> {
    match parsed {
        Ok(Parsed::Arguments(arguments)) => Ok(to(arguments)),
        Ok(Parsed::Help) => Ok(Command::Help(Some(command))),
        Err(error) => Err(Usage { what: suggest::complaint(&error, command.options), hint: command.hint }),
    }
}

/// Reads what follows `help`; that command itself is explained with everything else.
fn parse_help(parser: &mut Parser) -> Result<Option<&'static CommandHelp>, lexopt::Error> {
    let command = match parser.next()? {
        None => None,
        Some(Arg::Value(word)) => match word.to_str().and_then(command) {
            None => {
                let names = COMMANDS.iter().map(|command| command.name);
                return Err(suggest::no_command(&word, names).into());
            }
            command => command.filter(|command| command.name != "help"),
        },
        Some(other) => return Err(other.unexpected()),
    };
    match parser.next()? {
        None => Ok(command),
        Some(more) => Err(more.unexpected()),
    }
}
