//! `run --timings` and `exec --timings`: the waterfall from exec to reaped.
//!
//! A process cannot see its own beginning, nor its end. So we start ourselves once more, exactly as a
//! shell would, and watch: the child notes its phases on the same clock and hands them over a pipe.

use super::error::Result;
use super::print::{complain, tell_beside};
use super::status;
use crate::error::{Error, Step};
use crate::sys;
use crate::timeline::{Ended, Left, Observer, Phase, Probe, ProgramMemory, Timeline, waterfall};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, RawFd};
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

/// What a child that is measured has: its timeline, and the pipe by which it hands it over. `None` in any other process.
fn inside() -> Option<(File, Timeline)> {
    let value = std::env::var(VARIABLE).ok()?;
    let (parent, value) = value.split_once(',')?;
    let (fd, start) = value.split_once(',')?;
    let parent = parent.parse().ok()?;
    let pipe = sys::inherited_pipe(fd.parse().ok()?)?;
    let started = Duration::from_nanos(start.parse().ok()?);
    // Should the parent be killed, nobody would end the guest.
    sys::end_with_parent(parent);
    let mut timeline = Timeline::since(started);
    timeline.mark(Phase::Exec);
    Some((pipe, timeline))
}

/// Marks as lines.
fn lines<'a>(marks: impl IntoIterator<Item = &'a (Phase, Duration)>) -> String {
    marks.into_iter().map(|(phase, end)| format!("{}\t{phase}\n", end.as_nanos())).collect()
}

/// The child's part: has `run` run the guest with a timeline, and hands that over. `None` in any other process.
pub fn run_if_inside(run: impl FnOnce(&mut Timeline) -> Result<u8>) -> Option<Result<u8>> {
    let (mut pipe, mut timeline) = inside()?;
    let status = run(&mut timeline);
    // Should the parent be gone, nobody is left who wants to know.
    let _ = pipe.write_all(lines(timeline.marks()).as_bytes());
    Some(status)
}

/// Whether a variable of the environment is ours, and none of a program's.
pub fn is_ours(name: &OsStr) -> bool {
    name == VARIABLE
}

/// The same for `exec`: the timeline of the start, and who hands it over when the program has ended.
pub fn program_if_inside() -> Option<(Timeline, impl FnOnce(Timeline) -> Box<dyn Observer>)> {
    let (pipe, timeline) = inside()?;
    let to_observer =
        |timeline| -> Box<dyn Observer> { Box::new(Stages { pipe: out_of_reach(pipe), timeline }) };
    Some((timeline, to_observer))
}

/// The pipe by a descriptor that the program does not have.
fn out_of_reach(pipe: File) -> Option<File> {
    let lowest = sys::program::lowest_of_ours().ok()?;
    sys::program::duplicate_above(pipe.as_fd(), lowest).ok().map(File::from)
}

/// What is left of a program's timeline when it runs: its first call, and its end.
struct Stages {
    /// `None` where nobody wants to know: in its children.
    pipe: Option<File>,
    timeline: Timeline,
}

impl Observer for Stages {
    fn left(&mut self, _why: Left) {
        if self.timeline.marks().iter().all(|(phase, _)| *phase != Phase::FirstCall) {
            self.timeline.mark(Phase::FirstCall);
        }
    }

    fn thread(&mut self) -> Box<dyn Observer> {
        let pipe = self.pipe.as_ref().and_then(|pipe| pipe.try_clone().ok());
        Box::new(Stages { pipe: pipe.and_then(out_of_reach), timeline: self.timeline.clone() })
    }

    fn forked(&mut self, _: &dyn ProgramMemory) {
        self.pipe = None;
    }

    fn ended(&mut self, _how: Ended) {
        self.timeline.mark(Phase::Program);
        if let Some(pipe) = &mut self.pipe {
            let _ = pipe.write_all(lines(self.timeline.marks()).as_bytes());
        }
    }

    fn descriptors(&self) -> Vec<RawFd> {
        self.pipe.iter().map(AsRawFd::as_raw_fd).collect()
    }
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

/// Whether this process was started to be measured. One whose pipe is not there must not start another one, which would
/// start another one.
pub fn is_measured() -> bool {
    std::env::var_os(VARIABLE).is_some()
}

/// The parent's part: starts the child, waits for it and shows where its time went.
pub fn measure() -> Result<u8> {
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
            tell_beside(&waterfall(&marks))
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
