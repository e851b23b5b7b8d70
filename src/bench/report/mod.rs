//! What a race found, as data: every figure, every sample, and the machine they hold for.
//!
//! A [`Report`] is what JSON holds and what every other form is made of: table, words, CSV, Markdown, HTML. Times are
//! in seconds, memory is in KiB. The entries of `results` keep the field names of hyperfine's export: scripts for that
//! read this as well.

mod bars;
pub mod compare;
pub mod density;
pub mod entry;
mod escape;
pub mod export;
pub mod html;
pub mod isolation;
mod plots;
pub mod sheet;
pub mod survey;
pub mod table;
pub mod words;

use super::card::Card;
use super::observed::{Observed, Seen};
use super::race::{Race, Record, Run};
use super::random::Random;
use super::schedule::{Length, Schedule};
use super::subject::{Class, Failure, Missing, Subject};
use crate::text::counted;
pub use entry::{Entry, Figures, Ratios, Times};
use serde::{Deserialize, Serialize};
use std::io;

/// The form of the JSON. The number changes when a field changes its name or meaning.
pub const FORMAT: u32 = 3;

/// Everything about one race.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`FORMAT`]
    pub format: u32,
    /// What measured: `matchstick 0.1.0`.
    pub program: String,
    /// The command line.
    pub command: String,
    /// The machine it was run on, before the race.
    pub machine: Card,
    /// The load average of the last minute after the race, which has the race's own part in it.
    pub load_after: Option<f64>,
    /// `hello`, `primes` or a file.
    pub payload: String,
    /// What decided the order.
    pub seed: u64,
    /// Rounds that were run to their end.
    pub rounds: u32,
    /// Rounds before them that do not count.
    pub warmup: u32,
    /// The processor it was bound to.
    pub pinned: Option<u32>,
    /// Whether someone ended it early.
    pub interrupted: bool,
    /// The subjects that ratios refer to: one for what is executed, one for what a process starts itself, if there are
    /// figures of any.
    pub references: Vec<String>,
    /// An empty program by the same launcher: so much of each figure is the launcher's and the kernel's.
    pub launcher: Option<Figures>,
    /// Who raced.
    pub results: Vec<Entry>,
    /// Who was taken out of the race.
    pub dropped: Vec<Dropped>,
    /// Who could not take part.
    pub missing: Vec<Absent>,
    /// What else is to be said.
    pub notes: Vec<String>,
    /// Where the time of a start of a VM goes.
    pub phases: Vec<Phase>,
    /// What a program sees of the host when each subject runs it, if that was looked at.
    pub isolation: Option<Isolation>,
}

/// What programs see.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Isolation {
    /// On the host itself.
    pub host: Seen,
    /// When each subject runs it.
    pub observed: Vec<Observed>,
}

/// A subject that failed so often in a row that it was taken out of the race.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Dropped {
    /// Its name.
    pub name: String,
    /// How many of its starts failed.
    pub failures: u32,
    /// How the last one did.
    #[serde(flatten)]
    pub failure: Failure,
}

/// A subject that could not take part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Absent {
    /// Its name.
    pub name: String,
    /// Why, and what would help.
    #[serde(flatten)]
    pub missing: Missing,
}

/// A step of a start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// What happens in it.
    pub name: String,
    /// The median of its length.
    pub median: f64,
}

/// What a report is made of, besides the race.
pub struct Circumstances {
    /// The command line.
    pub command: String,
    /// Where it was run.
    pub machine: Card,
    /// The load average after it.
    pub load_after: Option<f64>,
    /// The payload's name.
    pub payload: String,
    /// The processor it was bound to.
    pub pinned: Option<u32>,
    /// The subject that was asked for as reference.
    pub reference: Option<String>,
    /// Starts of an empty program.
    pub launcher: Vec<Run>,
    /// Where the time of a start of a VM goes.
    pub phases: Vec<Phase>,
}

impl Report {
    /// Puts the figures to what was measured.
    pub fn new(
        subjects: &[Box<dyn Subject + '_>],
        race: &Race,
        schedule: &Schedule,
        circumstances: Circumstances,
    ) -> Report {
        let mut random = Random::new(schedule.seed);
        let all: Vec<(&dyn Subject, &Record)> =
            subjects.iter().map(|subject| &**subject as &dyn Subject).zip(&race.records).collect();
        let has_run = |(_, record): &&(&dyn Subject, &Record)| !record.runs.is_empty();
        let reference_of = |class: Class| {
            let mut of_class =
                all.iter().filter(has_run).filter(|(subject, _)| subject.kind().class() == class);
            let asked = |(subject, _): &&(&dyn Subject, &Record)| {
                circumstances.reference.as_deref() == Some(subject.name())
            };
            let usual = |(subject, _): &&(&dyn Subject, &Record)| subject.kind().is_reference();
            let found = of_class.clone().find(asked).or(of_class.clone().find(usual)).or(of_class.next())?;
            Some((found.0.name(), found.1.runs.iter().map(Times::of).collect::<Vec<Times>>()))
        };
        let references = Class::ALL.map(reference_of);
        let results = all.iter().filter_map(|(subject, record)| {
            let class = subject.kind().class() as usize;
            let reference = references[class].as_ref().map(|(name, times)| (*name, times.as_slice()));
            Entry::new(*subject, record, reference, &mut random)
        });
        let results = results.collect();
        let references: Vec<String> =
            references.iter().flatten().map(|(name, _)| (*name).to_owned()).collect();
        let missing = all.iter().filter_map(|(subject, record)| {
            Some(Absent { name: subject.name().into(), missing: record.missing.clone()? })
        });
        // In a short race, one that failed each time has not failed often enough to be taken out of it.
        let is_lost = |record: &Record| record.dropped() || record.runs.is_empty();
        let dropped = all.iter().filter(|(_, record)| is_lost(record)).filter_map(|(subject, record)| {
            let failure = record.failure.clone()?;
            Some(Dropped { name: subject.name().into(), failures: record.failures, failure })
        });
        Report {
            format: FORMAT,
            program: concat!("matchstick ", env!("CARGO_PKG_VERSION")).into(),
            command: circumstances.command,
            machine: circumstances.machine,
            load_after: circumstances.load_after,
            payload: circumstances.payload,
            seed: schedule.seed,
            rounds: race.rounds,
            warmup: schedule.warmup,
            pinned: circumstances.pinned,
            interrupted: race.interrupted,
            launcher: Figures::of(&circumstances.launcher, &mut random),
            results,
            dropped: dropped.collect(),
            missing: missing.collect(),
            notes: notes(race, schedule, circumstances.reference.as_deref(), &references),
            references,
            phases: circumstances.phases,
            isolation: None,
        }
    }

    /// The entry of that name, if it has figures.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.results.iter().find(|entry| entry.command == name)
    }

    /// Those that are started alike, in the order of the tables.
    pub fn of_class(&self, class: Class) -> Vec<&Entry> {
        self.results.iter().filter(|entry| entry.kind.class() == class).collect()
    }

    /// The subject that the ratios of these refer to.
    pub fn reference_of(&self, class: Class) -> Option<&str> {
        self.references
            .iter()
            .map(String::as_str)
            .find(|name| self.entry(name).is_some_and(|entry| entry.kind.class() == class))
    }

    /// What a load beyond the processors makes of the figures.
    pub fn verdict(&self) -> Option<String> {
        let processors = self.machine.processors;
        let load = self.machine.load.filter(|load| *load > processors as f64)?;
        let after = self.load_after.map_or(String::new(), |after| format!(", and {after:.2} after it"));
        Some(format!(
            "Not to be quoted: with a load of {load:.2} on {} before the race{after}, these starts waited for the work of \
             others. The ratios of the same rounds suffer least from that.",
            counted(processors, "processor")
        ))
    }
}

/// The most starts that a report to compare with may hold, of all subjects together: to resample more takes minutes.
const TIMES_MAX: usize = 1_000_000;

/// The report that `json` holds, as [`export`] writes it.
///
/// # Errors
/// If it is none, has another form, or more starts than 1,000,000.
pub fn from_json(json: &[u8]) -> io::Result<Report> {
    /// What every report has, whatever its form.
    #[derive(Deserialize)]
    struct Head {
        format: u32,
    }
    match serde_json::from_slice(json)? {
        Head { format: FORMAT } => {
            let report: Report = serde_json::from_slice(json)?;
            match report.results.iter().map(|entry| entry.times.len()).sum::<usize>() {
                ..=TIMES_MAX => Ok(report),
                count => {
                    Err(io::Error::other(format!("it has {count} starts, and {TIMES_MAX} are the most")))
                }
            }
        }
        Head { format } => {
            Err(io::Error::other(format!("it has form {format}, and this matchstick reads form {FORMAT}")))
        }
    }
}

/// What else is to be said of a race.
fn notes(race: &Race, schedule: &Schedule, asked: Option<&str>, references: &[String]) -> Vec<String> {
    let mut notes = Vec::new();
    if race.interrupted {
        notes.push("it was interrupted: the figures are of what was run until then".into());
    }
    if let Length::Rounds(rounds) = schedule.length
        && rounds > race.rounds
        && !race.interrupted
    {
        notes.push(format!("it ended after {}, as nobody was left", counted(race.rounds as usize, "round")));
    }
    if let Some(why) = &race.no_cold {
        notes.push(format!("no cold starts were measured: {why}"));
    }
    if let Some(asked) = asked
        && !references.iter().any(|name| name == asked)
    {
        notes.push(format!("{asked} has no figures, so ratios refer to {}", references.join(" and ")));
    }
    notes
}
