//! Subjects that start and then wait. `bench memory` measures what an idle one costs, and `bench isolation` looks at
//! one from outside.

use super::payload::Payload;
use super::subject::{Failure, Missing, Subject};
use super::subjects::namespaces::Namespaces;
use super::subjects::oci::Bundle;
use super::subjects::vm::{can_run, own_program};
use crate::sys::spawn::{Child, Program, wait_readable};
use std::any::Any;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, PipeReader, Read};
use std::os::fd::AsFd;
use std::time::Duration;

/// Something that runs until it is dropped.
pub(super) struct Instance {
    /// Its first process.
    pub pid: i32,
    _held: Box<dyn Any>,
}

/// One more instance, or why there is none.
pub(super) type Started = std::result::Result<Instance, Failure>;
/// Prepares a subject.
pub(super) type Start = Box<dyn FnOnce() -> std::result::Result<Box<dyn FnMut() -> Started>, Missing>>;

/// A subject that can be started so that it waits.
pub(super) struct IdleSubject {
    /// The name of the subject that it is when it does not wait.
    pub name: &'static str,
    /// What an instance is.
    pub about: &'static str,
    /// Prepares it, and returns a function that starts one instance at each call.
    pub start: Start,
}

/// All of them. Those that run a program run `payload`. An instance has to write its first byte within `limit`.
pub(super) fn idle_subjects(payload: &Payload, limit: Duration) -> Vec<IdleSubject> {
    let [process, served, contained, runc] = [(); 4].map(|()| payload.clone());
    vec![
        IdleSubject {
            name: "process",
            about: "a program that waits",
            start: Box::new(move || commands(vec![process.program.into()], limit)),
        },
        IdleSubject {
            name: "vm",
            about: "matchstick run echo, which waits for input",
            start: Box::new(move || idle_vms(limit)),
        },
        IdleSubject {
            name: "vm-exec",
            about: "the same program in a VM without a kernel, by matchstick exec",
            start: Box::new(move || served_ones(&served, limit)),
        },
        IdleSubject {
            name: "namespaces",
            about: "the same program in a container of ours",
            start: Box::new(move || contained_ones(&contained, limit)),
        },
        IdleSubject {
            name: "runc",
            about: "the same program in a container that runc left running",
            start: Box::new(move || runc_ones(&runc, limit)),
        },
    ]
}

/// Virtual machines that wait for input, each in a process of its own.
pub(super) fn idle_vms(limit: Duration) -> std::result::Result<Box<dyn FnMut() -> Started>, Missing> {
    can_run()?;
    commands(vec![own_program()?.into(), "run".into(), "echo".into()], limit)
}

fn served_ones(
    payload: &Payload,
    limit: Duration,
) -> std::result::Result<Box<dyn FnMut() -> Started>, Missing> {
    can_run()?;
    commands(vec![own_program()?.into(), "exec".into(), payload.program.clone().into()], limit)
}

fn failure(error: io::Error) -> Failure {
    Failure::new(error)
}

/// Waits for the first byte.
fn speaks(pipe: &mut PipeReader, limit: Duration) -> std::result::Result<(), Failure> {
    let heard = wait_readable([Some(pipe.as_fd())], limit).map_err(failure)?[0];
    let count = if heard { pipe.read(&mut [0; 64]).map_err(failure)? } else { 0 };
    if count == 0 { Err(Failure::new("it says nothing")) } else { Ok(()) }
}

/// Commands that wait for their input, which stays open.
fn commands(
    words: Vec<OsString>,
    limit: Duration,
) -> std::result::Result<Box<dyn FnMut() -> Started>, Missing> {
    let missing = |error: io::Error| Missing::new(error.to_string(), "is it a program?");
    let program = Program::new(&words, &[]).map_err(missing)?;
    let null = File::options().write(true).open("/dev/null").map_err(missing)?;
    Ok(Box::new(move || {
        let (stdin, input) = io::pipe().map_err(failure)?;
        let (mut output, stdout) = io::pipe().map_err(failure)?;
        let files = [stdin.as_fd(), stdout.as_fd(), null.as_fd()];
        let child: Child = program.prepare(&files).and_then(|ready| ready.spawn()).map_err(failure)?;
        drop((stdin, stdout));
        speaks(&mut output, limit)?;
        Ok(Instance { pid: child.id(), _held: Box::new((child, input, output)) })
    }))
}

fn contained_ones(
    payload: &Payload,
    limit: Duration,
) -> std::result::Result<Box<dyn FnMut() -> Started>, Missing> {
    let mut subject = Namespaces::new(payload);
    subject.ready()?;
    Ok(Box::new(move || {
        let (mut output, end) = io::pipe().map_err(failure)?;
        let container = subject.start(&end, &end)?;
        drop(end);
        speaks(&mut output, limit)?;
        let pid = container.child.id();
        // In this order: a cgroup can only be removed when no process is in it.
        let (child, cgroup) = (container.child, container.cgroup);
        Ok(Instance { pid, _held: Box::new((child, cgroup, output)) })
    }))
}

fn runc_ones(
    payload: &Payload,
    limit: Duration,
) -> std::result::Result<Box<dyn FnMut() -> Started>, Missing> {
    let bundle = std::rc::Rc::new(Bundle::of("runc", payload)?);
    let mut count = 0;
    Ok(Box::new(move || {
        count += 1;
        let (mut output, end) = io::pipe().map_err(failure)?;
        let detached = bundle.start_detached(count, &end).map_err(Failure::new)?;
        drop(end);
        speaks(&mut output, limit)?;
        Ok(Instance { pid: detached.pid, _held: Box::new((detached, output)) })
    }))
}
