//! The baseline of a race: what a launch costs in itself.

use super::command::Command;
use crate::bench::launcher::Expect;
use crate::bench::payload::Payload;
use crate::bench::subject::{Failure, Kind, Missing, Sample, Subject};
use std::time::Duration;

/// A program that ends at once, started in each round like the others. Its time is what the launcher and the kernel
/// take for any process.
pub struct Baseline(Command);

impl Baseline {
    /// With the empty program that comes with `payload`.
    pub fn new(payload: &Payload) -> Baseline {
        let program = payload.empty.clone();
        let words = move || Ok(vec![program.clone().into()]);
        Baseline(
            Command::new(Kind::Baseline, "launcher", "an empty program", payload, words)
                .expecting(Expect::Nothing),
        )
    }
}

impl Subject for Baseline {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn about(&self) -> &str {
        self.0.about()
    }

    fn kind(&self) -> Kind {
        self.0.kind()
    }

    fn ready(&mut self) -> std::result::Result<(), Missing> {
        self.0.ready()
    }

    fn run(&mut self, limit: Duration) -> std::result::Result<Sample, Failure> {
        self.0.run(limit)
    }
}
