//! What a race found, as data: every figure, every sample, and the machine they hold for.
//!
//! A [`Report`] is what JSON holds and what every other form is made of: table, words, CSV, Markdown, HTML. Times are
//! in seconds, memory is in KiB. The entries of `results` keep the field names of hyperfine's export: scripts for that
//! read this as well.

pub mod compare;
pub mod density;
mod escape;
pub mod export;
pub mod html;
pub mod isolation;
mod plots;
pub mod table;
pub mod words;

use super::card::Card;
use super::observed::{Observed, Seen};
use super::race::{Race, Record, Run};
use super::random::Random;
use super::schedule::{Length, Schedule};
use super::stats::{self, Ratio, Summary};
use super::subject::{Failure, Kind, Missing, Sample, Subject};
use serde::{Deserialize, Serialize};
use std::io;

/// The form of the JSON. The number changes when a field changes its name or meaning.
pub const FORMAT: u32 = 2;

/// Everything about one race.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`FORMAT`]
    pub format: u32,
    /// What measured: `matchstick 0.1.0`.
    pub program: String,
    /// The machine it was run on.
    pub machine: Card,
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
    /// The subject that ratios refer to.
    pub reference: Option<String>,
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

/// One subject. The first ten fields are hyperfine's; its times are those until reaped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The subject's name.
    pub command: String,
    /// The mean of `times`.
    pub mean: f64,
    /// Its standard deviation.
    pub stddev: f64,
    /// The median of `times`.
    pub median: f64,
    /// The mean time on a processor in user mode.
    pub user: f64,
    /// The mean time on a processor in the kernel.
    pub system: f64,
    /// The least of `times`.
    pub min: f64,
    /// The largest of `times`.
    pub max: f64,
    /// Until reaped, in the order in which they were measured.
    pub times: Vec<f64>,
    /// Of every start that counts: zeroes, as no other does.
    pub exit_codes: Vec<i32>,
    /// What kind of subject it is.
    pub kind: Kind,
    /// One line about it.
    pub about: String,
    /// What was started.
    pub line: String,
    /// The version of what started it.
    pub version: Option<String>,
    /// Both times in figures.
    pub figures: Figures,
    /// Against the reference.
    pub ratios: Option<Ratios>,
    /// The most KiB that any one process of it had resident; 0 for less than Linux counts.
    pub peak_kib: Option<u64>,
    /// The very first start, before any warm-up.
    pub first: Option<Times>,
    /// The median with an empty page cache.
    pub cold: Option<Figures>,
    /// Starts that did not count.
    pub failures: u32,
    /// What is to be said against its figures.
    pub warnings: Vec<String>,
    /// Every start that counts.
    pub samples: Vec<Times>,
}

/// One start.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Times {
    /// The round, from 0.
    pub round: u32,
    /// Which start of the round it was, from 0.
    pub place: u32,
    /// Until the first byte.
    pub first_byte: f64,
    /// Until reaped.
    pub reaped: f64,
    /// On a processor in user mode.
    pub user: f64,
    /// On a processor in the kernel.
    pub system: f64,
}

/// Both times in figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Until the first byte.
    pub first_byte: Summary,
    /// Until reaped.
    pub reaped: Summary,
}

/// Ratios of medians.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Ratios {
    /// Until the first byte.
    pub first_byte: Ratio,
    /// Until reaped.
    pub reaped: Ratio,
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

impl Times {
    fn of(run: &Run) -> Times {
        let Sample { first_byte, reaped, user, system } = run.sample;
        Times {
            round: run.round,
            place: run.place,
            first_byte: first_byte.as_secs_f64(),
            reaped: reaped.as_secs_f64(),
            user: user.as_secs_f64(),
            system: system.as_secs_f64(),
        }
    }
}

impl Figures {
    /// The figures of `runs`; without any there are none.
    pub fn of(runs: &[Run], random: &mut Random) -> Option<Figures> {
        Some(Figures {
            first_byte: Summary::of(&firsts(runs), random)?,
            reaped: Summary::of(&reapeds(runs), random)?,
        })
    }
}

fn firsts(runs: &[Run]) -> Vec<f64> {
    runs.iter().map(|run| run.sample.first_byte.as_secs_f64()).collect()
}

fn reapeds(runs: &[Run]) -> Vec<f64> {
    runs.iter().map(|run| run.sample.reaped.as_secs_f64()).collect()
}

/// What a report is made of, besides the race.
pub struct Circumstances {
    /// Where it was run.
    pub machine: Card,
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
        let has_run = |name: &str| all.iter().any(|(s, r)| s.name() == name && !r.runs.is_empty());
        let first = all.iter().find(|(_, record)| !record.runs.is_empty()).map(|(subject, _)| subject.name());
        let process = all.iter().find(|(subject, _)| subject.kind() == Kind::Process);
        let asked = circumstances.reference.as_deref().or(process.map(|(subject, _)| subject.name()));
        let reference = asked.filter(|name| has_run(name)).or(first);
        let of_reference = all.iter().find(|(subject, _)| Some(subject.name()) == reference);
        let of_reference = of_reference.map_or(&[][..], |(_, record)| &record.runs);
        let results = all
            .iter()
            .filter_map(|(subject, record)| Entry::new(*subject, record, of_reference, &mut random));
        let results = results.collect();
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
            machine: circumstances.machine,
            payload: circumstances.payload,
            seed: schedule.seed,
            rounds: race.rounds,
            warmup: schedule.warmup,
            pinned: circumstances.pinned,
            interrupted: race.interrupted,
            reference: reference.map(Into::into),
            launcher: Figures::of(&circumstances.launcher, &mut random),
            results,
            dropped: dropped.collect(),
            missing: missing.collect(),
            notes: notes(race, schedule, circumstances.reference.as_deref(), reference),
            phases: circumstances.phases,
            isolation: None,
        }
    }

    /// The entry of that name, if it has figures.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.results.iter().find(|entry| entry.command == name)
    }
}

/// The report that `json` holds, as [`export`] writes it.
pub fn from_json(json: &[u8]) -> io::Result<Report> {
    /// What every report has, whatever its form.
    #[derive(Deserialize)]
    struct Head {
        format: u32,
    }
    match serde_json::from_slice(json)? {
        Head { format: FORMAT } => Ok(serde_json::from_slice(json)?),
        Head { format } => {
            Err(io::Error::other(format!("it has form {format}, and this matchstick reads form {FORMAT}")))
        }
    }
}

/// What else is to be said of a race.
fn notes(race: &Race, schedule: &Schedule, asked: Option<&str>, reference: Option<&str>) -> Vec<String> {
    let mut notes = Vec::new();
    if race.interrupted {
        notes.push("it was interrupted: the figures are of what was run until then".into());
    }
    if let Length::Rounds(rounds) = schedule.length
        && rounds > race.rounds
        && !race.interrupted
    {
        notes.push(format!("it ended after {} rounds, as nobody was left", race.rounds));
    }
    if let Some(why) = &race.no_cold {
        notes.push(format!("no cold starts were measured: {why}"));
    }
    if let (Some(asked), Some(reference)) = (asked, reference)
        && asked != reference
    {
        notes.push(format!("{asked} has no figures, so ratios refer to {reference}"));
    }
    notes
}

impl Entry {
    /// `None` for one without a start that counts.
    fn new(subject: &dyn Subject, record: &Record, reference: &[Run], random: &mut Random) -> Option<Entry> {
        let times = reapeds(&record.runs);
        let figures = Figures::of(&record.runs, random)?;
        let Figures { reaped, .. } = &figures;
        let mean = |of: fn(&Sample) -> std::time::Duration| {
            let sum: f64 = record.runs.iter().map(|run| of(&run.sample).as_secs_f64()).sum();
            sum / record.runs.len().max(1) as f64
        };
        let ratios = |random: &mut Random| {
            Some(Ratios {
                first_byte: Ratio::of(&firsts(&record.runs), &firsts(reference), random)?,
                reaped: Ratio::of(&times, &reapeds(reference), random)?,
            })
        };
        let first = record.first.map(|sample| Times::of(&Run { round: 0, place: 0, sample }));
        Some(Entry {
            command: subject.name().into(),
            mean: reaped.mean,
            stddev: reaped.stddev,
            median: reaped.median,
            user: mean(|sample| sample.user),
            system: mean(|sample| sample.system),
            min: reaped.min,
            max: reaped.max,
            exit_codes: vec![0; times.len()],
            kind: subject.kind(),
            about: subject.about().into(),
            line: subject.command(),
            version: subject.version(),
            ratios: ratios(random),
            peak_kib: record.peak,
            first,
            cold: Figures::of(&record.cold, random),
            failures: record.failures,
            warnings: stats::warnings(&times).iter().map(ToString::to_string).collect(),
            samples: record.runs.iter().map(Times::of).collect(),
            times,
            figures,
        })
    }
}
