//! `vm-restore`, `vm-clone` and `vm-pool`: a virtual machine of ours that goes on from a golden image.
//!
//! The image is made before the race, of the guest that does what the payload does: at the point where the guest says
//! that it is ready. `hello` never says so, and its image is made before its first instruction. What is measured is the
//! same as for `vm` and `vm-inproc`, without what the guest did before that point. The first byte is written after the
//! restore.

use super::command::Command;
use super::vm::{self, guest_of};
use crate::bench::payload::Payload;
use crate::bench::subject::{Failure, Kind, Missing, Sample, Subject};
use crate::error::in_words;
use crate::guest::Guest;
use crate::kvm::Kvm;
use crate::machine::{Config, Machine, Outcome};
use crate::snapshot::{Pool, Snapshot, SnapshotError};
use crate::x86::ports::READY_FOR_INPUT;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// How long a guest may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// The golden image of `guest`.
fn image_of(guest: &Guest) -> std::result::Result<Snapshot, SnapshotError> {
    let new = |stop_at| {
        let config = Config { stop_at, timeout: Some(READY_WITHIN), ..guest.config() };
        Machine::new(&config, guest, Box::new(io::sink()))
    };
    let mut machine = new(Some(READY_FOR_INPUT))?;
    match machine.run()? {
        Outcome::Stopped => machine.snapshot(),
        _ => new(None)?.snapshot(),
    }
}

/// The same for the guest that does what `payload` does.
fn ready_image(payload: &Payload) -> std::result::Result<Snapshot, Missing> {
    let guest = guest_of(payload.guest)?;
    image_of(guest).map_err(|error| Missing::new(in_words(&error), "`matchstick snapshot` says more"))
}

/// `matchstick run golden.ms`, the program that measures started once more. The image lies in the race's directory.
pub fn process(payload: &Payload) -> Command {
    let own = payload.clone();
    let about = "matchstick run golden.ms: the same from a golden image, from exec to reaped";
    Command::new(Kind::VmRestored, "vm-restore", about, payload, move || {
        /// `bench parallel` has several threads, and an image for each.
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let image = ready_image(&own)?;
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = own.program.with_file_name(format!("golden-{count}.ms"));
        image.save(&path).map_err(|error| Missing::new(in_words(&error), "is there room in $TMPDIR?"))?;
        Ok(vec![vm::own_program()?.into(), "run".into(), path.into()])
    })
    .of_version(env!("CARGO_PKG_VERSION"))
}

/// A machine in this process that goes on from a golden image.
///
/// A VM that is open makes all others of the host cheaper (docs/performance.md). So whatever is kept open for these
/// subjects is made before their own clock and given back after it, and does not help the rest of the race.
pub struct InProcess {
    payload: Payload,
    name: &'static str,
    about: &'static str,
    command: &'static str,
    start: fn(&InProcess, &Snapshot, Config, Duration) -> std::result::Result<Sample, Failure>,
    image: Option<Snapshot>,
}

impl InProcess {
    /// `vm-clone`: a new machine each time, beside an empty VM that is there already.
    pub fn clones(payload: &Payload) -> InProcess {
        InProcess {
            payload: payload.clone(),
            name: "vm-clone",
            about: "a new machine in the process that measures, from a golden image that it has read",
            command: "matchstick::Snapshot::start, run, drop",
            start: InProcess::clone_once,
            image: None,
        }
    }

    /// `vm-pool`: a machine that has run before.
    pub fn pool(payload: &Payload) -> InProcess {
        InProcess {
            payload: payload.clone(),
            name: "vm-pool",
            about: "a machine that is there already: run, then put back to its golden image",
            command: "matchstick::Pool::take, run, give_back",
            start: InProcess::run_again,
            image: None,
        }
    }

    fn clone_once(
        &self,
        image: &Snapshot,
        config: Config,
        limit: Duration,
    ) -> std::result::Result<Sample, Failure> {
        let failed = |error| Failure::new(in_words(&error));
        let kvm = Kvm::open().map_err(failed)?;
        let _other = kvm.create_vm().map_err(failed)?;
        vm::measure(&self.payload, limit, |output| image.start(&kvm, &config, output)?.run())
    }

    fn run_again(
        &self,
        image: &Snapshot,
        config: Config,
        limit: Duration,
    ) -> std::result::Result<Sample, Failure> {
        let mut pool = Pool::new(image, &config, 1).map_err(|error| Failure::new(in_words(&error)))?;
        let mut start = || vm::measure(&self.payload, limit, |output| run_from(&mut pool, output));
        start()?;
        start()
    }
}

impl Subject for InProcess {
    fn name(&self) -> &str {
        self.name
    }

    fn kind(&self) -> Kind {
        Kind::VmInProcessRestored
    }

    fn about(&self) -> &str {
        self.about
    }

    fn command(&self) -> String {
        self.command.into()
    }

    fn version(&self) -> Option<String> {
        Some(env!("CARGO_PKG_VERSION").into())
    }

    fn ready(&mut self) -> std::result::Result<(), Missing> {
        self.image = Some(ready_image(&self.payload)?);
        Ok(())
    }

    fn run(&mut self, limit: Duration) -> std::result::Result<Sample, Failure> {
        let config = Config { timeout: Some(limit), ..Config::default() };
        let image = self.image.as_ref().ok_or_else(|| Failure::new("it is not ready"))?;
        (self.start)(self, image, config, limit)
    }
}

/// One run of a machine from `pool`, until it is clean again.
fn run_from(
    pool: &mut Pool<'_>,
    output: Box<dyn Write + Send>,
) -> std::result::Result<Outcome, SnapshotError> {
    let mut machine = pool.take(output)?;
    let outcome = machine.run()?;
    pool.give_back(machine)?;
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::payload::Scratch;
    use std::fs;

    const LIMIT: Duration = Duration::from_secs(20);

    #[test]
    fn what_goes_on_from_an_image_prints_what_the_payload_prints_each_time() {
        let scratch = Scratch::new().unwrap();
        for name in ["hello", "primes"] {
            let payload = Payload::new(name, &scratch).unwrap();
            for mut subject in [InProcess::clones(&payload), InProcess::pool(&payload)] {
                match subject.ready() {
                    Ok(()) => {}
                    Err(missing) if std::env::var_os("REQUIRE_KVM").is_none() => {
                        return eprintln!("skipped: {missing}");
                    }
                    Err(missing) => panic!("{missing}"),
                }
                for _ in 0..3 {
                    let sample = subject.run(LIMIT).unwrap();
                    assert!(sample.first_byte > Duration::ZERO && sample.first_byte < sample.reaped);
                }
            }
        }
    }

    #[test]
    fn a_guest_that_is_ready_when_it_has_counted_does_not_count_again() {
        let Ok(()) = vm::can_run() else { return eprintln!("skipped: no KVM") };
        let exits = |name: &str| {
            let image = image_of(Guest::find(name).unwrap()).unwrap();
            image.state().vcpus[0].regs().unwrap().rip
        };
        let entry = |name: &str| {
            let guest = Guest::find(name).unwrap();
            u64::from_le_bytes(guest.image[24..32].try_into().unwrap())
        };
        assert_eq!(exits("hello"), entry("hello"), "before its first instruction");
        assert_ne!(exits("primes"), entry("primes"));
    }

    #[test]
    fn the_images_of_a_race_lie_in_its_directory_and_go_with_it() {
        let Ok(()) = vm::can_run() else { return eprintln!("skipped: no KVM") };
        let scratch = Scratch::new().unwrap();
        let payload = Payload::new("hello", &scratch).unwrap();
        for _ in 0..2 {
            process(&payload).ready().unwrap();
        }
        let images = || {
            let names = fs::read_dir(scratch.path()).unwrap().map(|entry| entry.unwrap().file_name());
            names.filter(|name| name.to_string_lossy().ends_with(".ms")).count()
        };
        assert_eq!(images(), 2);
        let path = scratch.path().to_owned();
        drop(scratch);
        assert!(!path.exists());
    }
}
