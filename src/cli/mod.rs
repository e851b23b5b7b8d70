//! The command line: what was typed becomes a `Command`, a command becomes an exit status.
//!
//! Guest output goes to stdout and nothing else does; everything of ours goes to stderr.

mod bench;
mod explain;
mod golden;
mod guests;
mod help;
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

use crate::console;
use crate::error::Error;
use options::Command;
use std::error::Error as _;
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
/// Whoever read our output has gone: 128 + SIGPIPE.
const STATUS_PIPE: u8 = 141;

/// Runs the command in `args` (without the program's name) and returns the exit status.
pub fn main(args: impl Iterator<Item = OsString>) -> u8 {
    console::restore_on_panic(STATUS_FAILURE);
    let command = match options::parse(args) {
        Ok(command) => command,
        Err(Usage { what, hint }) => {
            complain(&format!("error: {what}"), Some(hint));
            return STATUS_FAILURE;
        }
    };
    let quiet = matches!(&command, Command::Run(run) | Command::Trace(run, _) | Command::Snapshot(run, _) if run.quiet);
    let done = match command {
        Command::Run(run) => run::run(&run),
        Command::Bench(args) => bench::bench(*args),
        Command::Trace(run, args) => trace::run(&run, &args),
        Command::Snapshot(run, args) => golden::snapshot(&run, &args),
        Command::Clone(args) => golden::clone(&args),
        Command::Diff(image, other) => golden::diff(&image, &other),
        Command::Guests => print(&guests::list()),
        Command::Host { json } => host::describe(json, &Terminal::of_stdout()).and_then(|text| print(&text)),
        Command::Explain(request) => print(&explain::text(&request, &Terminal::of_stdout())),
        Command::Help(command) => print(&help::text(command)),
        Command::Version => print(concat!("matchstick ", env!("CARGO_PKG_VERSION"), "\n")),
    };
    match done {
        Ok(status) => status,
        // The reader of our output has what it wanted: no reason to complain.
        Err(Error::Output(source) | Error::Export { source, .. })
            if source.kind() == std::io::ErrorKind::BrokenPipe =>
        {
            STATUS_PIPE
        }
        Err(error) => {
            let mut line = format!("error: {error}");
            let mut source = error.source();
            while let Some(cause) = source {
                line += &format!(": {cause}");
                source = cause.source();
            }
            complain(&line, error.hint().filter(|_| !quiet));
            error.exit_status()
        }
    }
}

/// Whether `args` (without the program's name) make sense, without doing what they say.
pub fn check(args: impl Iterator<Item = OsString>) -> Result<(), Usage> {
    options::parse(args).map(drop)
}

/// Writes text of ours to stdout.
fn print(text: &str) -> Result<u8, Error> {
    stdout()?.write_all(text.as_bytes()).map_err(Error::Output)?;
    Ok(0)
}

/// Standard output on a descriptor of its own: std's has a line buffer, and takes a closed one for success.
fn stdout() -> Result<File, Error> {
    let stdout = std::io::stdout().as_fd().try_clone_to_owned().map_err(Error::Output)?;
    Ok(File::from(stdout))
}

/// One line and one hint, on stderr. When even that is gone, there is nobody left to tell.
fn complain(line: &str, hint: Option<&str>) {
    let hint = hint.map_or(String::new(), |hint| format!(" hint: {hint}\n"));
    let _ = write!(std::io::stderr(), "{line}\n{hint}");
}
