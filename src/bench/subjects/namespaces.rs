//! `namespaces`: our own container, started by this process. Every runtime has to do at least this much.

use crate::bench::launcher::{Expect, Watched, all_of, watch};
use crate::bench::payload::Payload;
use crate::bench::subject::{Failure, Kind, Missing, Sample, Subject};
use crate::container::cgroup::CgroupParent;
use crate::container::{Config, Container};
use crate::error::in_words;
use crate::sys;
use crate::sys::memory_file;
use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

/// The payload in a [`Container`].
pub struct Namespaces {
    payload: Payload,
    prepared: Option<Prepared>,
}

/// What is not part of a start.
struct Prepared {
    program: Vec<u8>,
    arguments: [CString; 1],
    cgroup: Option<CgroupParent>,
    expect: Expect,
    null: File,
}

impl Namespaces {
    /// Runs `payload`.
    pub fn new(payload: &Payload) -> Namespaces {
        Namespaces { payload: payload.clone(), prepared: None }
    }

    /// Starts one whose output goes to `stdout`. The caller has to end it.
    pub fn start(&self, stdout: &impl AsFd, stderr: &impl AsFd) -> Result<Container, Failure> {
        let prepared = self.prepared.as_ref().ok_or_else(|| Failure::new("it is not ready"))?;
        let config = Config {
            program: &prepared.program,
            arguments: &prepared.arguments,
            hostname: "matchstick",
            proc: self.payload.is_probe,
            cgroup: prepared.cgroup.as_ref(),
        };
        let files = [prepared.null.as_fd(), stdout.as_fd(), stderr.as_fd()];
        Container::start(&config, files).map_err(|error| Failure::new(in_words(&error)))
    }

    /// One start to its end. Making and removing the cgroup is part of it.
    fn launch(&self, limit: Duration) -> Result<(Sample, Vec<u8>), Failure> {
        let prepared = self.prepared.as_ref().ok_or_else(|| Failure::new("it is not ready"))?;
        let mut stderr = memory_file().map_err(Failure::new)?;
        let begin = sys::monotonic();
        let (mut output, end) = io::pipe().map_err(Failure::new)?;
        let Container { child, cgroup } = self.start(&end, &stderr)?;
        drop(end);
        let watched = watch(child, &mut output, begin, limit);
        drop(cgroup);
        let reaped = sys::monotonic() - begin;
        let judged = watched.and_then(|watched| {
            let watched = Watched { reaped, ..watched };
            Ok((prepared.expect.judge(&watched)?, watched.output))
        });
        judged.map_err(|why| Failure { why, stderr: all_of(&mut stderr) })
    }
}

impl Subject for Namespaces {
    fn name(&self) -> &str {
        "namespaces"
    }

    fn kind(&self) -> Kind {
        Kind::Namespaces
    }

    fn about(&self) -> &str {
        "a container of ours, from this process: seven namespaces, pivot_root, a cgroup, no capabilities"
    }

    fn command(&self) -> String {
        "matchstick::container::Container::start".into()
    }

    fn version(&self) -> Option<String> {
        Some(env!("CARGO_PKG_VERSION").into())
    }

    fn ready(&mut self) -> Result<(), Missing> {
        self.payload.stands_alone()?;
        let missing = |error: io::Error| Missing::new(error.to_string(), "is it a program?");
        self.prepared = Some(Prepared {
            program: fs::read(&self.payload.program).map_err(missing)?,
            arguments: [c"payload".to_owned()],
            cgroup: CgroupParent::find(),
            expect: Expect::of(&self.payload),
            null: File::open("/dev/null").map_err(missing)?,
        });
        Ok(())
    }

    fn run(&mut self, limit: Duration) -> Result<Sample, Failure> {
        self.launch(limit).map(|(sample, _)| sample)
    }

    fn output(&mut self, limit: Duration) -> Result<Vec<u8>, Failure> {
        self.launch(limit).map(|(_, output)| output)
    }
}
