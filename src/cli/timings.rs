//! `run --timings`: the waterfall from exec to reaped.
//!
//! A process cannot see its own beginning, nor its end. So we start ourselves once more, exactly as a
//! shell would, and watch: the child notes its phases on the same clock and hands them over a pipe.

use super::error::Result;
use super::print::{complain, print_beside};
use super::run_options::RunArgs;
use super::{start, status};
use crate::error::{Error, Step};
use crate::sys;
use crate::timeline::{Phase, Timeline, waterfall};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

/// How the parent tells the child: `PARENT,FD,NANOSECONDS`, its own process number, where to write to, and when the child
/// was started.
const VARIABLE: &str = "MATCHSTICK_TIMINGS";

/// The pipe that the child was given.
pub fn descriptor() -> Option<u32> {
    let value = std::env::var(VARIABLE).ok()?;
    value.split(',').nth(1)?.parse().ok()
}

/// The child's part: runs the guest with a timeline and hands it over. `None` in any other process.
pub fn run_if_inside(args: &RunArgs) -> Option<Result<u8>> {
    let value = std::env::var(VARIABLE).ok()?;
    let (parent, value) = value.split_once(',')?;
    let (fd, start) = value.split_once(',')?;
    let parent = parent.parse().ok()?;
    let mut pipe = sys::inherited_pipe(fd.parse().ok()?)?;
    let started = Duration::from_nanos(start.parse().ok()?);
    // Should the parent be killed, nobody would end the guest.
    sys::end_with_parent(parent);
    let mut timeline = Timeline::since(started);
    crate::timeline::Probe::mark(&mut timeline, Phase::Exec);
    let status = start::run(args, &mut timeline);
    let mut lines = String::new();
    for (phase, end) in timeline.marks() {
        lines += &format!("{}\t{phase}\n", end.as_nanos());
    }
    // Should the parent be gone, nobody is left who wants to know.
    let _ = pipe.write_all(lines.as_bytes());
    Some(status)
}

/// The child's process number, or 0.
static CHILD: AtomicI32 = AtomicI32::new(0);

/// The child decides what a signal means; we stay to show what it measured.
fn pass_on(signal: i32) {
    match CHILD.load(Ordering::SeqCst) {
        0 => {}
        child => sys::send_signal(child, signal),
    }
}

/// The parent's part: starts the child, waits for it and shows where its time went.
pub fn measure(args: &RunArgs) -> Result<u8> {
    // A child whose pipe is not there must not start another one, which would start another one.
    if std::env::var_os(VARIABLE).is_some() {
        return start::run(args, &mut ());
    }
    let os = |source| Error::Host { step: Step::StartProcess, source };
    let (mut reader, writer) = sys::pipe_for_child().map_err(os)?;
    sys::note_ending_signals(pass_on).map_err(os)?;
    let mut command = Command::new(std::env::current_exe().map_err(os)?);
    command.args(std::env::args_os().skip(1));
    let start = sys::monotonic();
    command.env(VARIABLE, format!("{},{},{}", std::process::id(), writer.as_raw_fd(), start.as_nanos()));
    let mut child = command.spawn().map_err(os)?;
    CHILD.store(child.id() as i32, Ordering::SeqCst);
    // One that came before there was a child to pass it on to.
    if let Some(signal) = sys::noted_signal() {
        pass_on(signal);
    }
    drop(writer);
    let status = child.wait().map_err(os)?;
    CHILD.store(0, Ordering::SeqCst);
    let reaped = sys::monotonic() - start;
    let mut lines = String::new();
    reader.read_to_string(&mut lines).map_err(os)?;
    let mut marks: Vec<(String, Duration)> = Vec::new();
    for line in lines.lines() {
        if let Some((end, phase)) = line.split_once('\t')
            && let Ok(end) = end.parse()
        {
            marks.push((phase.into(), Duration::from_nanos(end)));
        }
    }
    let told = match marks.is_empty() {
        true => Ok(()),
        false => {
            marks.push((Phase::Reap.to_string(), reaped));
            print_beside(&waterfall(&marks))
        }
    };
    match (status.code(), status.signal()) {
        (Some(code), _) => {
            told?;
            Ok(code as u8)
        }
        (None, Some(signal)) => sys::die_of(signal),
        (None, None) => {
            complain("error: the measured process ended without a status", None);
            Ok(status::FAILURE)
        }
    }
}
