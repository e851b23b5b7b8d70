//! `vm` and `vm-inproc`: a virtual machine of ours, with a process of its own and inside this process.

use super::command::Command;
use crate::bench::launcher::thread_times;
use crate::bench::payload::Payload;
use crate::bench::report::Phase;
use crate::bench::stats::quantile;
use crate::bench::subject::{Failure, Kind, Missing, Sample, Subject};
use crate::error::in_words;
use crate::guest::Guest;
use crate::kvm::Kvm;
use crate::machine::{Config, Machine, Outcome};
use crate::sys;
use crate::timeline::{self, Probe, Timeline};
use std::error::Error;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// `matchstick run GUEST`, the program that measures started once more.
pub fn process(payload: &Payload) -> Command {
    let guest = payload.guest;
    let about = "matchstick run: a virtual machine, from exec of its monitor to reaped";
    Command::new(Kind::Vm, "vm", about, payload, move || {
        let guest = guest_of(guest)?;
        Ok(vec![own_program()?.into(), "run".into(), guest.name.into()])
    })
    .of_version(env!("CARGO_PKG_VERSION"))
}

/// Where this program is.
pub(in crate::bench) fn own_program() -> Result<PathBuf, Missing> {
    std::env::current_exe().map_err(|error| {
        Missing::new(format!("our own program is not to be found: {error}"), "is /proc mounted?")
    })
}

/// The guest, if there is one and it can be started.
pub(super) fn guest_of(guest: Option<&'static Guest>) -> Result<&'static Guest, Missing> {
    let guest = guest.ok_or_else(|| {
        Missing::new(
            "it boots kernels, and no guest does what this program does",
            "vm-exec runs the program itself",
        )
    })?;
    can_run()?;
    Ok(guest)
}

/// Checks that this host runs virtual machines.
pub(in crate::bench) fn can_run() -> Result<(), Missing> {
    Kvm::open()
        .and_then(|kvm| kvm.create_vm())
        .map(drop)
        .map_err(|error| Missing::new(in_words(&error), "`matchstick host` says what is missing"))
}

/// Our OCI runtime: a link to this program in `directory`, by whose name it knows what it is.
pub(in crate::bench) fn runtime_in(directory: &Path) -> Result<PathBuf, String> {
    let program = own_program().map_err(|missing| missing.why)?;
    let runtime = directory.join("matchstick-runtime");
    std::os::unix::fs::symlink(program, &runtime).map_err(|error| error.to_string())?;
    Ok(runtime)
}

/// A machine in this process: what a start costs without the start of a process.
pub struct InProcess {
    payload: Payload,
    guest: Option<&'static Guest>,
}

impl InProcess {
    /// Starts the guest that does what `payload` does.
    pub fn new(payload: &Payload) -> InProcess {
        InProcess { payload: payload.clone(), guest: None }
    }

    /// One start, watched by `probe`.
    pub fn start<P: Probe>(&self, limit: Duration, probe: &mut P) -> Result<Sample, Failure> {
        let guest = self.guest.ok_or_else(|| Failure::new("it is not ready"))?;
        let config = Config { timeout: Some(limit), ..guest.config() };
        measure(&self.payload, limit, |output| {
            Machine::watched(&config, guest, output, probe)?.run_watched(probe)
        })
    }
}

/// One start in this process: `start` gives a machine this output, runs it and gives it back. It has to print what
/// `payload` does.
pub(super) fn measure<E: Error + 'static>(
    payload: &Payload,
    limit: Duration,
    start: impl FnOnce(Box<dyn Write + Send>) -> Result<Outcome, E>,
) -> Result<Sample, Failure> {
    let output = Output::default();
    let sink = Box::new(output.clone());
    let (user, system) = thread_times();
    let begin = sys::monotonic();
    let outcome = start(sink);
    let reaped = sys::monotonic() - begin;
    let (user_now, system_now) = thread_times();
    match outcome {
        Ok(Outcome::Exited(0)) => {}
        Ok(Outcome::TimedOut) => return Err(Failure::new(format!("it did not end within {limit:?}"))),
        Ok(other) => return Err(Failure::new(format!("it ended otherwise: {other:?}"))),
        Err(error) => return Err(Failure::new(in_words(&error))),
    }
    let output = output.lock();
    if payload.expect.as_ref().is_some_and(|expect| *expect != output.bytes) {
        return Err(Failure::new(format!("it printed {:?}", String::from_utf8_lossy(&output.bytes))));
    }
    let first_byte = output.first_byte.map_or(reaped, |at| at - begin);
    Ok(Sample { first_byte, reaped, user: user_now - user, system: system_now - system })
}

impl Subject for InProcess {
    fn name(&self) -> &str {
        "vm-inproc"
    }

    fn kind(&self) -> Kind {
        Kind::VmInProcess
    }

    fn about(&self) -> &str {
        "a virtual machine in the process that measures: KVM and our set-up alone"
    }

    fn command(&self) -> String {
        "matchstick::Machine::new, run, drop".into()
    }

    fn version(&self) -> Option<String> {
        Some(env!("CARGO_PKG_VERSION").into())
    }

    fn ready(&mut self) -> Result<(), Missing> {
        self.guest = Some(guest_of(self.payload.guest)?);
        Ok(())
    }

    fn run(&mut self, limit: Duration) -> Result<Sample, Failure> {
        self.start(limit, &mut ())
    }
}

/// Keeps what the guest writes, and when it began.
#[derive(Clone, Default)]
struct Output(Arc<Mutex<Written>>);

#[derive(Default)]
struct Written {
    bytes: Vec<u8>,
    first_byte: Option<Duration>,
}

impl Output {
    fn lock(&self) -> MutexGuard<'_, Written> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut written = self.lock();
        written.first_byte.get_or_insert_with(sys::monotonic);
        written.bytes.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The median length of each phase over many starts: their timelines, and when each was over.
pub(crate) fn medians(starts: Vec<(Timeline, Duration)>) -> Vec<Phase> {
    let mut phases: Vec<(String, Vec<f64>)> = Vec::new();
    for (timeline, end) in starts {
        let mut begin = Duration::ZERO;
        let marks = timeline.marks().iter().map(|&(phase, at)| (phase.to_string(), at));
        for (name, at) in marks.chain([(timeline::Phase::Teardown.to_string(), end)]) {
            let length = at.saturating_sub(begin).as_secs_f64();
            begin = at;
            match phases.iter_mut().find(|(known, _)| *known == name) {
                Some((_, lengths)) => lengths.push(length),
                None => phases.push((name, vec![length])),
            }
        }
    }
    let median = |mut lengths: Vec<f64>| {
        lengths.sort_by(f64::total_cmp);
        quantile(&lengths, 0.5)
    };
    phases.into_iter().map(|(name, lengths)| Phase { name, median: median(lengths) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::payload::Scratch;
    use crate::elf::images::Image;

    #[test]
    fn a_machine_in_this_process_prints_what_the_payload_prints() {
        let scratch = Scratch::new().unwrap();
        let mut subject = InProcess::new(&Payload::new("hello", &scratch).unwrap());
        match subject.ready() {
            Ok(()) => {}
            Err(missing) if std::env::var_os("REQUIRE_KVM").is_none() => {
                return eprintln!("skipped: {missing}");
            }
            Err(missing) => panic!("{missing}"),
        }
        let sample = subject.run(Duration::from_secs(20)).unwrap();
        assert!(sample.first_byte > Duration::ZERO && sample.first_byte < sample.reaped);
    }

    /// What runs in our own process has no filter: only guests that are part of this program may (docs/security.md).
    #[test]
    fn a_file_of_the_users_never_runs_in_our_own_process() {
        let scratch = Scratch::new().unwrap();
        // `hello` as the name of a file of the user's is that file as well.
        for name in ["program", "hello"] {
            let path = scratch.add_program(name, &Image::elf64().bytes()).unwrap();
            let payload = Payload::new(path.to_str().unwrap(), &scratch).unwrap();
            let is_of_ours = |subject: &&mut Box<dyn Subject>| {
                use Kind::*;
                matches!(subject.kind(), Vm | VmRestored | VmInProcess | VmInProcessRestored)
            };
            let mut all = crate::bench::subjects::all(&payload);
            let missing: Vec<String> =
                all.iter_mut().filter(is_of_ours).map(|subject| subject.ready().unwrap_err().why).collect();
            assert_eq!(missing, ["it boots kernels, and no guest does what this program does"; 5]);
        }
    }
}
