//! A whole race, from a [`RaceConfig`] to a [`Report`].
//!
//! It does not print: the progress goes to whoever asks for it, the report to the caller.

use super::card::{self, Card};
use super::config::RaceConfig;
use super::error::{Error, Result};
use super::payload::{Payload, Scratch};
use super::race::{self, Environment};
use super::report::{Circumstances, Phase, Report};
use super::stop;
use super::subject::{Kind, Subject};
use super::subjects::baseline::Baseline;
use super::subjects::{self, vm, with};
use crate::sys;
use crate::timeline::Timeline;
use std::time::Duration;

/// Is told how far a race is: the part that is over (0 to 1), and the subject that is next.
pub type Progress<'a> = &'a mut dyn FnMut(f64, &str);

/// A race whose configuration was checked, and that is ready to run.
pub struct Prepared {
    config: RaceConfig,
    payload: Payload,
    subjects: Vec<Box<dyn Subject>>,
    // The last field, and so dropped last: the others use files in it.
    _scratch: Scratch,
}

impl RaceConfig {
    /// Checks what was asked for against what there is.
    pub fn prepare(self) -> Result<Prepared> {
        stop::catch()?;
        let scratch = Scratch::new().map_err(Error::Directory)?;
        let payload = Payload::new(&self.payload, &scratch)?;
        let with = self.with.iter().map(|(name, line)| with::with(name, line, &payload));
        let with = with.collect::<Result<Vec<Box<dyn Subject>>>>()?;
        let all: Vec<Box<dyn Subject>> = subjects::all(&payload).into_iter().chain(with).collect();
        let subjects = self.choose(all)?;
        if let Some(reference) = &self.reference
            && !subjects.iter().any(|subject| subject.name() == reference)
        {
            return Err(Error::Request(format!("the reference {reference} does not take part")));
        }
        if let Some(processor) = self.pin {
            sys::bind_to(processor).map_err(|source| Error::Pin { cpu: processor, source })?;
        }
        Ok(Prepared { config: self, payload, subjects, _scratch: scratch })
    }
}

/// This host, with its clock.
struct ThisHost<'a> {
    progress: Progress<'a>,
}

impl Environment for ThisHost<'_> {
    fn now(&self) -> Duration {
        sys::monotonic()
    }

    fn stopped(&self) -> bool {
        stop::asked()
    }

    fn progress(&mut self, part: f64, subject: &str) {
        (self.progress)(part, subject);
    }

    fn drop_caches(&mut self) -> std::result::Result<(), String> {
        // 1 is the page cache alone (Linux: Documentation/admin-guide/sysctl/vm.rst).
        let file = "/proc/sys/vm/drop_caches";
        std::fs::write(file, "1").map_err(|error| format!("{file}: {error} (it takes root)"))
    }
}

impl Prepared {
    /// Runs it.
    pub fn run(mut self, progress: Progress<'_>) -> Result<Report> {
        let machine = Card::gather();
        let schedule = &self.config.schedule;
        self.subjects.push(Box::new(Baseline::new(&self.payload)));
        let mut race = race::race(&mut self.subjects, schedule, &mut ThisHost { progress });
        self.subjects.pop();
        let launcher = race.records.pop().map_or(Vec::new(), |record| record.runs);
        let circumstances = Circumstances {
            command: self.config.command.clone(),
            machine,
            load_after: card::load(),
            launcher,
            phases: self.phases(race.rounds),
            payload: self.config.payload.clone(),
            pinned: self.config.pin,
            reference: self.config.reference.clone(),
        };
        Ok(Report::new(&self.subjects, &race, schedule, circumstances))
    }

    /// The medians of a VM's phases, from some more starts in this process.
    fn phases(&self, rounds: u32) -> Vec<Phase> {
        if !self.subjects.iter().any(|subject| subject.kind() == Kind::VmInProcess) {
            return Vec::new();
        }
        let mut subject = vm::InProcess::new(&self.payload);
        if subject.ready().is_err() {
            return Vec::new();
        }
        let start = |_| {
            let begin = sys::monotonic();
            let mut timeline = Timeline::since(begin);
            subject.start(self.config.schedule.limit, &mut timeline).ok().filter(|_| !stop::asked())?;
            Some((timeline, sys::monotonic() - begin))
        };
        vm::medians((0..=rounds.min(50)).map_while(start).skip(1).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::schedule::{Length, Schedule};

    fn config() -> RaceConfig {
        let schedule = Schedule {
            length: Length::Rounds(3),
            warmup: 1,
            seed: 1,
            limit: Duration::from_secs(20),
            cold: false,
        };
        RaceConfig {
            command: "matchstick bench".into(),
            schedule,
            payload: "hello".into(),
            only: vec!["process".into()],
            skip: Vec::new(),
            with: Vec::new(),
            reference: None,
            pin: None,
        }
    }

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.into()).collect()
    }

    #[test]
    fn what_makes_no_sense_is_refused_before_anything_is_run() {
        for (config, error) in [
            (
                RaceConfig { only: strings(&["nonsense"]), ..config() },
                "no such subject: nonsense; there are process,",
            ),
            (RaceConfig { skip: strings(&["process"]), ..config() }, "no subject is left"),
            (RaceConfig { reference: Some("vm".into()), ..config() }, "the reference vm does not take part"),
            (
                RaceConfig { with: vec![("vm".into(), "true".into())], ..config() },
                "two subjects are called vm",
            ),
            (RaceConfig { with: vec![("a".into(), "'".into())], ..config() }, "a quote is left open in '"),
        ] {
            let refused = config.prepare().err().unwrap().to_string();
            assert!(refused.starts_with(error), "{refused}");
        }
    }

    #[test]
    fn a_race_has_figures_and_says_who_is_missing_and_who_failed() {
        let with =
            [("speaks", "/bin/echo hi"), ("is-mute", "/bin/true"), ("is-not", "nonsense-that-is-not 1")];
        let with = with.map(|(name, line)| (name.to_owned(), line.to_owned())).to_vec();
        let report = RaceConfig { with, ..config() }.prepare().unwrap().run(&mut |_, _| {}).unwrap();
        let names: Vec<&str> = report.results.iter().map(|entry| entry.command.as_str()).collect();
        assert_eq!(names, ["process", "speaks"]);
        assert!(report.results.iter().all(|entry| entry.times.len() == 3 && entry.exit_codes == [0; 3]));
        assert_eq!(report.references, ["process"]);
        assert_eq!(report.entry("process").unwrap().ratios, None);
        let ratios = report.entry("speaks").unwrap().ratios.clone().unwrap();
        assert_eq!((&*ratios.to, ratios.reaped.interval, ratios.paired.interval), ("process", None, None));
        assert_eq!(report.missing[0].missing.why, "there is no nonsense-that-is-not");
        assert_eq!((&*report.dropped[0].name, report.dropped[0].failures), ("is-mute", 3));
        assert_eq!(report.dropped[0].failure.why, "it printed nothing");
        assert!(report.launcher.is_some());
    }
}
