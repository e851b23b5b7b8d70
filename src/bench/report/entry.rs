//! One subject's part of a report: its figures, its ratios and every sample.

use crate::bench::race::{Record, Run};
use crate::bench::random::Random;
use crate::bench::stats::{self, Paired, Ratio, Summary};
use crate::bench::subject::{Kind, Sample, Subject};
use serde::{Deserialize, Serialize};

/// One subject. The first ten fields are hyperfine's; its times are those until reaped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The subject's name.
    pub command: String,
    /// The mean of `times`.
    pub mean: f64,
    /// Its standard deviation; a single time has none.
    pub stddev: Option<f64>,
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
    /// Against the reference; the reference itself has none.
    pub ratios: Option<Ratios>,
    /// The most KiB that any one process of it had resident; `None` also for less than Linux counts.
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

/// How a subject compares with the reference of its class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ratios {
    /// The reference's name.
    pub to: String,
    /// Of the medians until the first byte.
    pub first_byte: Ratio,
    /// Of the medians until reaped.
    pub reaped: Ratio,
    /// Until reaped, by rounds.
    pub paired: Paired,
}

impl Ratios {
    /// Of one subject's starts to another's, whose name is `to`. `None` if they have no round in common.
    pub fn of(one: &[Times], other: &[Times], to: &str, random: &mut Random) -> Option<Ratios> {
        let list = |times: &[Times], of: fn(&Times) -> f64| times.iter().map(of).collect::<Vec<f64>>();
        let ratio =
            |of: fn(&Times) -> f64, random: &mut Random| Ratio::of(&list(one, of), &list(other, of), random);
        let rounds = |times: &[Times]| -> Vec<(u32, f64)> {
            times.iter().map(|times| (times.round, times.reaped)).collect()
        };
        Some(Ratios {
            to: to.into(),
            first_byte: ratio(|times| times.first_byte, random)?,
            reaped: ratio(|times| times.reaped, random)?,
            paired: Paired::of(&rounds(one), &rounds(other), random)?,
        })
    }

    /// Whether the two can be told apart: by their medians and by their rounds.
    pub fn is_decided(&self) -> bool {
        self.reaped.is_decided() && self.paired.is_decided()
    }
}

impl Times {
    /// As they were measured.
    pub fn of(run: &Run) -> Times {
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

impl Entry {
    /// `None` for one without a start that counts.
    pub(super) fn new(
        subject: &dyn Subject,
        record: &Record,
        reference: Option<(&str, &[Times])>,
        random: &mut Random,
    ) -> Option<Entry> {
        let times = reapeds(&record.runs);
        let figures = Figures::of(&record.runs, random)?;
        let Figures { reaped, .. } = &figures;
        let mean = |of: fn(&Sample) -> std::time::Duration| {
            let sum: f64 = record.runs.iter().map(|run| of(&run.sample).as_secs_f64()).sum();
            sum / record.runs.len().max(1) as f64
        };
        let samples: Vec<Times> = record.runs.iter().map(Times::of).collect();
        let other = reference.filter(|(name, _)| *name != subject.name());
        let ratios = other.and_then(|(name, other)| Ratios::of(&samples, other, name, random));
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
            ratios,
            peak_kib: record.peak.filter(|kib| *kib > 0),
            first,
            cold: Figures::of(&record.cold, random),
            failures: record.failures,
            warnings: stats::warnings(&times).iter().map(ToString::to_string).collect(),
            samples,
            times,
            figures,
        })
    }
}
