//! What a program sees of the host when it is run by each subject.
//!
//! The program is the probe, `guest-kernels/linux/probe.rs`. What it sees is compared with what this process sees. A
//! virtual machine without Linux runs no programs: there, what the guest can reach is known without a probe.

use super::config::RaceConfig;
use super::error::{Error, Result};
use super::idle;
use super::observed::{Observed, Seen, View};
use super::payload::{Payload, Scratch};
use super::stop;
use super::subject::{Kind, Subject};
use super::subjects;
use super::subjects::namespaces::Namespaces;
use super::subjects::vm::can_run;
use std::fs;
use std::time::Duration;

/// Runs the probe by each subject that takes part in the race of `config`.
pub fn observe(config: &RaceConfig) -> Result<Vec<Observed>> {
    stop::catch()?;
    let scratch = Scratch::new().map_err(Error::Directory)?;
    let payload = Payload::probe(&scratch)?;
    let all = subjects::all(&payload);
    let mut subjects = config.choose(all)?;
    let mut observed = Vec::new();
    for subject in &mut subjects {
        if stop::asked() {
            break;
        }
        observed.push(Observed { name: subject.name().into(), view: view(subject.as_mut(), config) });
    }
    Ok(observed)
}

/// How many system calls of this host's kernel a program reaches that no filter stands before: by the same probe, in bare
/// namespaces. `None` where these cannot be made.
pub fn system_calls(limit: Duration) -> Option<u64> {
    let scratch = Scratch::new().ok()?;
    let mut subject = Namespaces::new(&Payload::probe(&scratch).ok()?);
    subject.ready().ok()?;
    let output = subject.output(limit).ok()?;
    Seen::parse(&String::from_utf8_lossy(&output)).calls_of_kernel()
}

fn view(subject: &mut dyn Subject, config: &RaceConfig) -> View {
    match subject.kind() {
        // The monitor is the same, whether the machine is new or restored.
        Kind::Vm | Kind::VmRestored => return monitor(config.schedule.limit),
        Kind::VmInProcess | Kind::VmInProcessRestored => {
            return can_run().map_or_else(View::Missing, |()| View::Machine(None));
        }
        _ => {}
    }
    if let Err(missing) = subject.ready() {
        return View::Missing(missing);
    }
    match subject.output(config.schedule.limit) {
        Ok(output) => {
            let seen = Seen::parse(&String::from_utf8_lossy(&output));
            if subject.kind() == Kind::VmExec { View::Served(seen) } else { View::Seen(seen) }
        }
        Err(failure) => View::Failed(format!("{} {}", failure.why, failure.stderr)),
    }
}

/// What the monitor's process may do: read from outside, while its guest waits for input.
fn monitor(limit: Duration) -> View {
    let mut start = match idle::idle_vms(limit) {
        Ok(start) => start,
        Err(missing) => return View::Missing(missing),
    };
    let instance = match start() {
        Ok(instance) => instance,
        Err(failure) => return View::Failed(failure.why),
    };
    let mut seen = Seen::default();
    let status = fs::read_to_string(format!("/proc/{}/status", instance.pid)).unwrap_or_default();
    status.lines().for_each(|line| seen.status(&line.replace('\t', " ")));
    View::Machine(Some(Box::new(seen)))
}

/// What this process sees: the others are compared with it.
pub fn host() -> Seen {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let lines = |path: &str| -> Vec<String> { read(path).lines().map(str::to_owned).collect() };
    let namespace = |name: &str| {
        let link = fs::read_link(format!("/proc/self/ns/{name}")).ok()?;
        Some((name.to_owned(), link.to_string_lossy().into_owned()))
    };
    let names = ["mnt", "pid", "net", "ipc", "uts", "user", "cgroup"];
    Seen {
        release: read("/proc/sys/kernel/osrelease").trim().into(),
        pid: Some(std::process::id().into()),
        namespaces: names.into_iter().filter_map(namespace).collect(),
        cgroup: lines("/proc/self/cgroup"),
        ..Seen::default()
    }
}
