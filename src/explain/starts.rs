//! The figures of the lessons that are starts: of a process, containers and machines, as the race has them.

use super::measure::{LIMIT, PAUSE, RUNS, in_words, median};
use crate::bench::payload::{Payload, Scratch};
use crate::bench::subject::Subject;
use crate::bench::subjects;
use std::thread;
use std::time::Duration;

/// The median of a few starts; `None` where such a thing cannot be started.
pub(super) fn figure(name: &str) -> Option<String> {
    match name {
        "vm_boot" => with_payload(|payload| median_of(&mut subjects::vm::InProcess::new(payload))),
        "vm_start" => with_payload(|payload| median_of(&mut subjects::vm::process(payload))),
        "process_start" => with_payload(|payload| median_of(&mut subjects::process(payload))),
        "container_start" => {
            with_payload(|payload| median_of(&mut subjects::namespaces::Namespaces::new(payload)))
        }
        "runc_start" => with_payload(|payload| {
            let mut runtimes = subjects::oci::all(payload).into_iter();
            median_of(&mut runtimes.find(|runtime| runtime.name() == "runc")?)
        }),
        _ => None,
    }
}

/// Does `work` with the payload of a race.
fn with_payload(work: impl FnOnce(&Payload) -> Option<Duration>) -> Option<String> {
    let scratch = Scratch::new().ok()?;
    let payload = Payload::new("hello", &scratch).ok()?;
    work(&payload).map(in_words)
}

/// The median of a few starts, until everything is given back.
fn median_of(subject: &mut dyn Subject) -> Option<Duration> {
    subject.ready().ok()?;
    let once = |_| {
        thread::sleep(PAUSE);
        subject.run(LIMIT).ok().map(|sample| sample.reaped)
    };
    median((0..RUNS).map(once).collect::<Option<_>>()?)
}
