//! The command line: what was typed becomes a `Command`, a command becomes an exit status.
//!
//! Guest output goes to stdout and nothing else does; everything of ours goes to stderr.

#[cfg(feature = "race")]
mod bench;
mod clone;
mod diff;
mod disks;
mod error;
mod exec;
mod explain;
#[cfg(all(feature = "trace", feature = "debugger"))]
mod gdb;
#[cfg(feature = "debugger")]
mod gdb_exec;
mod guests;
mod help;
mod hint;
mod host;
mod image;
#[cfg(feature = "images")]
mod images;
mod inherited;
mod korean;
mod lab;
mod lesson;
mod oci;
mod option;
mod options;
#[cfg(any(feature = "race", feature = "trace"))]
mod output_file;
mod print;
mod run;
#[cfg(feature = "images")]
mod run_image;
mod run_options;
mod snapshot;
mod start;
mod status;
mod suggest;
mod table;
pub mod terminal;
mod timings;
#[cfg(feature = "trace")]
mod trace;
#[cfg(feature = "trace")]
mod trace_exec;
mod values;

pub use option::{CommandHelp, OptionHelp};
pub use options::Usage;
pub use table::COMMANDS;

use crate::oci::become_runtime;
use crate::{sandbox, sys};
use error::Result;
use korean::say_error;
use options::Command;
use print::{complain, print, print_drawn};
use std::ffi::OsString;
use terminal::Terminal;

/// Runs the command in `args` (after the program's name) and returns the exit status.
///
/// To be the only thing that a process does: it changes how signals and panics end it, and its standard descriptors if
/// they are closed.
pub fn main(args: impl Iterator<Item = OsString>) -> u8 {
    let mut args: Vec<OsString> = args.collect();
    // Before anything is changed in this process: another program goes on with what it has.
    if let Some(call) = oci::call(&mut args) {
        return become_runtime(call);
    }
    sys::begin();
    inherited::close(&args);
    sandbox::end_on_panic(status::FAILURE);
    let command = match options::parse(args.into_iter()) {
        Ok(command) => command,
        Err(Usage { what, hint }) => {
            complain(&format!("error: {what}"), Some(hint));
            return status::FAILURE;
        }
    };
    let quiet = command.is_quiet();
    match carry_out(command) {
        Ok(status) => status,
        Err(error) => {
            let status = error.exit_status();
            // The reader of our output has what it wanted: no reason to complain.
            if status != status::PIPE {
                complain(&format!("error: {}", say_error(&error)), error.hint().filter(|_| !quiet));
            }
            status
        }
    }
}

fn carry_out(command: Command) -> Result<u8> {
    Ok(match command {
        Command::Run(run) => run::run(&run)?,
        #[cfg(feature = "debugger")]
        Command::Exec(mut args) if args.gdb.is_some() => match args.gdb.take() {
            Some(address) => match gdb_exec::run(args, &address)? {},
            None => exec::run(args)?,
        },
        Command::Exec(args) => exec::run(args)?,
        #[cfg(feature = "race")]
        Command::Bench(args) => bench::run(*args)?,
        #[cfg(feature = "trace")]
        Command::Trace(run, args) => trace::run(&run, &args)?,
        #[cfg(feature = "trace")]
        Command::TraceExec(exec, args) => trace_exec::run(exec, &args)?,
        Command::Snapshot(run, args) => snapshot::run(&run, &args)?,
        Command::Clone(args) => clone::run(&args)?,
        Command::Diff(args) => diff::run(&args)?,
        Command::Oci(args) => oci::run(&args)?,
        #[cfg(feature = "images")]
        Command::RunImage(args) => run_image::run(*args)?,
        #[cfg(feature = "images")]
        Command::Images(args) => print(&images::run(&args)?)?,
        Command::Guests => print(&guests::list())?,
        Command::Host { json } => print_drawn(&host::describe(json, &Terminal::of_stdout())?)?,
        Command::Explain(request) => explain::run(&request)?,
        Command::Lab(args) => lab::run(&args)?,
        Command::Help(command) => print(&help::text(command))?,
        Command::Version => print(&help::version())?,
    })
}

/// Whether `args` (without the program's name) make sense, without doing what they say.
pub fn check(args: impl Iterator<Item = OsString>) -> std::result::Result<(), Usage> {
    options::parse(args).map(drop)
}
