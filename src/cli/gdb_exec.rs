//! `matchstick exec --gdb`: the same as `exec`, and a gdb says when the program stops and goes on.

use super::error::Result;
use super::exec::{self, ExecArgs};
use super::print::complain;
use crate::debugger::{Address, ProgramDebugger};
use crate::error::{Error, Step};
use crate::sandbox::Sandbox;
use crate::sys::program::lowest_of_ours;
use std::convert::Infallible;

/// Becomes a program that a client steers: comes back only with an error.
pub fn run(mut args: ExecArgs, address: &Address) -> Result<Infallible> {
    // A client may have memory written where the program itself may not, and its socket is used later.
    args.sandbox = Some(Sandbox::Off);
    let lowest = lowest_of_ours().map_err(|source| Error::Host { step: Step::Signals, source })?;
    let announce = |at: &str| complain(&format!("waiting for gdb at {at}"), None);
    let mut program = exec::load(args, &mut (), None)?;
    let debugger = ProgramDebugger::wait(address, announce, || false, lowest)?;
    program.observe(debugger.start()?);
    Ok(program.run()?)
}
