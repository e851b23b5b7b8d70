//! `matchstick trace --gdb`: the same as `run`, and a gdb says when the guest stops and goes on.

use super::error::Result;
use super::print::complain;
use super::run_options::RunArgs;
use super::{start, status};
use crate::console;
use crate::debugger::{Address, Debugger};
use crate::sandbox::Sandbox;
use crate::sys;

/// Runs a guest that a client steers, and returns the exit status.
pub fn run(run: &RunArgs, address: &Address) -> Result<u8> {
    // A client is let in when the machine stands, and its socket removed at the end.
    let run = &RunArgs { sandbox: Some(Sandbox::Off), ..run.clone() };
    let announce = |at: &str| complain(&format!("waiting for gdb at {at}"), None);
    let announce: Option<fn(&str)> = if run.quiet { None } else { Some(announce) };
    let mut debugger = Debugger::listen(address, announce, console::is_ending)?;
    let status = start::start(run, &mut debugger)?.conclude(run);
    debugger.finish(*status.as_ref().unwrap_or(&status::FAILURE))?;
    sys::die_if_noted();
    Ok(status?)
}
