//! The command line: what was typed becomes a `Command`, a command becomes an exit status.
//!
//! Guest output goes to stdout and nothing else does; everything of ours goes to stderr.

mod bench;
mod error;
mod explain;
mod golden;
mod guests;
mod help;
mod hint;
mod host;
mod lesson;
pub mod linux;
mod near;
mod options;
mod output_file;
mod run;
mod table;
pub mod terminal;
mod timings;
pub mod trace;
mod values;

pub use options::{RunArgs, Usage};
pub use table::{COMMANDS, CommandHelp, OptionHelp, RUN_OPTIONS};

use crate::error::{Error, Result, in_words};
use crate::{sandbox, sys};
use options::Command;
use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use terminal::Terminal;

/// The guest wrote more than it was allowed to.
pub const STATUS_OUTPUT: u8 = 120;
/// Linux panicked. It was told to ask for a warm reset then, by which we know.
pub const STATUS_PANIC: u8 = 121;
/// The guest asked for a reset: not an end it chose, and not a crash.
pub const STATUS_RESET: u8 = 122;
/// The guest crashed; see [`crate::machine::Crash`].
pub const STATUS_CRASH: u8 = 123;
/// The guest ran out of time, as timeout(1) has it.
pub const STATUS_TIMEOUT: u8 = 124;
/// We failed: bad usage, no memory, nowhere to write to.
pub const STATUS_FAILURE: u8 = 125;
/// The guest is there, and cannot be run on this host, or at all.
pub const STATUS_REFUSED: u8 = 126;
/// What was named is not there.
pub const STATUS_NOT_FOUND: u8 = 127;
/// Whoever read our output has gone: 128 + SIGPIPE.
const STATUS_PIPE: u8 = 141;

/// Runs the command in `args` (without the program's name) and returns the exit status.
///
/// To be the only thing that a process does: it changes how signals and panics end it, and its standard descriptors if
/// they are closed.
pub fn main(args: impl Iterator<Item = OsString>) -> u8 {
    sys::begin();
    sandbox::end_on_panic(STATUS_FAILURE);
    let command = match options::parse(args) {
        Ok(command) => command,
        Err(Usage { what, hint }) => {
            complain(&format!("error: {what}"), Some(hint));
            return STATUS_FAILURE;
        }
    };
    let quiet = matches!(&command, Command::Run(run) | Command::Trace(run, _) | Command::Snapshot(run, _) if run.quiet);
    match carry_out(command) {
        Ok(status) => status,
        Err(error) => {
            let status = error.exit_status();
            // The reader of our output has what it wanted: no reason to complain.
            if status != STATUS_PIPE {
                complain(&format!("error: {}", in_words(&error)), error.hint().filter(|_| !quiet));
            }
            status
        }
    }
}

fn carry_out(command: Command) -> error::Result<u8> {
    Ok(match command {
        Command::Run(run) => run::run(&run)?,
        Command::Bench(args) => bench::bench(*args)?,
        Command::Trace(run, args) => trace::run(&run, &args)?,
        Command::Snapshot(run, args) => golden::snapshot(&run, &args)?,
        Command::Clone(args) => golden::clone(&args)?,
        Command::Diff(image, other) => golden::diff(&image, &other)?,
        Command::Guests => print(&guests::list())?,
        Command::Host { json } => print(&host::describe(json, &Terminal::of_stdout())?)?,
        Command::Explain(request) => print(&explain::text(&request, &Terminal::of_stdout()))?,
        Command::Help(command) => print(&help::text(command))?,
        Command::Version => print(concat!("matchstick ", env!("CARGO_PKG_VERSION"), "\n"))?,
    })
}

/// Whether `args` (without the program's name) make sense, without doing what they say.
pub fn check(args: impl Iterator<Item = OsString>) -> std::result::Result<(), Usage> {
    options::parse(args).map(drop)
}

/// Writes text of ours to stdout.
fn print(text: &str) -> Result<u8> {
    stdout()?.write_all(text.as_bytes()).map_err(Error::Output)?;
    Ok(0)
}

/// Standard output on a descriptor of its own: std's has a line buffer, and takes a closed one for success.
fn stdout() -> Result<File> {
    let stdout = std::io::stdout().as_fd().try_clone_to_owned().map_err(Error::Output)?;
    Ok(File::from(stdout))
}

/// One line and one hint, on stderr. When even that is gone, there is nobody left to tell.
fn complain(line: &str, hint: Option<&str>) {
    let hint = hint.map_or(String::new(), |hint| format!(" hint: {hint}\n"));
    let _ = write!(std::io::stderr(), "{line}\n{hint}");
}
