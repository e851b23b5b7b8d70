//! The figures of the lessons that are starts: of a process, containers and machines.
//!
//! They are measured as `matchstick bench` does it, only shorter: by its engine, in turns, in an order that is shuffled
//! for each round. So whatever slows the machine down slows all of them down.

use super::measure::{LIMIT, in_unit, in_words, unit_of};
use crate::bench::payload::{Payload, Scratch};
use crate::bench::race::{self, Environment, Run};
use crate::bench::random::Random;
use crate::bench::report::table::{range, significant};
use crate::bench::schedule::{Length, Schedule};
use crate::bench::stats::{Paired, Summary};
use crate::bench::subject::Subject;
use crate::bench::{isolation, subjects};
use crate::sys;
use std::time::Duration;

/// The names of these figures.
pub(super) const NAMES: [&str; 7] =
    ["process_start", "vm_start", "vm_boot", "container_start", "runc_start", "rounds", "vm_to_container"];
/// Enough for an interval, and few enough to wait for.
const ROUNDS: u32 = 21;

/// This host, without anyone to tell how far the race is.
struct Quiet;

impl Environment for Quiet {
    fn now(&self) -> Duration {
        sys::monotonic()
    }
    fn stopped(&self) -> bool {
        false
    }
    fn progress(&mut self, _: f64, _: &str) {}
    fn drop_caches(&mut self) -> Result<(), String> {
        Err("a lesson has no cold rounds".into())
    }
}

/// What is started for the figure `name`.
fn subject(name: &str, payload: &Payload) -> Option<Box<dyn Subject>> {
    Some(match name {
        "process_start" => Box::new(subjects::process(payload)),
        "vm_start" => Box::new(subjects::vm::process(payload)),
        "vm_boot" => Box::new(subjects::vm::InProcess::new(payload)),
        "container_start" => Box::new(subjects::namespaces::Namespaces::new(payload)),
        "runc_start" => {
            let mut runtimes = subjects::oci::all(payload).into_iter();
            Box::new(runtimes.find(|runtime| runtime.name() == "runc")?)
        }
        _ => return None,
    })
}

/// All figures of `wanted` that are starts, by one race. `None` for what cannot be started here.
pub(super) fn measure(wanted: &[String]) -> Vec<(String, Option<String>)> {
    let all = wanted.iter().filter(|name| NAMES.contains(&name.as_str()));
    let nothing = all.clone().map(|name| (name.clone(), None)).collect();
    let Ok(scratch) = Scratch::new() else { return nothing };
    let Ok(payload) = Payload::new("hello", &scratch) else { return nothing };
    let contestants = all.clone().filter_map(|name| Some((name.as_str(), subject(name, &payload)?)));
    let (names, mut subjects): (Vec<&str>, Vec<Box<dyn Subject>>) = contestants.unzip();
    let seed = u32::from_ne_bytes(sys::random().unwrap_or_default()).into();
    let schedule = Schedule { length: Length::Rounds(ROUNDS), warmup: 1, seed, limit: LIMIT, cold: false };
    let race = race::race(&mut subjects, &schedule, &mut Quiet);
    let runs = |name: &str| {
        let record = &race.records[names.iter().position(|known| *known == name)?];
        Some(&record.runs[..]).filter(|_| !record.dropped())
    };
    let mut random = Random::new(seed);
    let mut figure = |name: &str| match name {
        "rounds" => Some(race.rounds.to_string()),
        "vm_to_container" => in_pairs(runs("vm_boot")?, runs("container_start")?, &mut random),
        name => in_figures(runs(name)?, &mut random),
    };
    all.map(|name| (name.clone(), figure(name))).collect()
}

/// The median of a subject's starts, until everything was given back, and its interval.
fn in_figures(runs: &[Run], random: &mut Random) -> Option<String> {
    let times: Vec<f64> = runs.iter().map(|run| run.sample.reaped.as_secs_f64()).collect();
    let Summary { median, interval, .. } = Summary::of(&times, random)?;
    Some(match interval {
        Some(interval) => {
            let nanos = |seconds: f64| (seconds * 1e9) as u128;
            let unit = unit_of(nanos(median));
            format!(
                "{} {} [{}]",
                in_unit(nanos(median), unit),
                unit.1,
                range(interval, |end| in_unit(nanos(end), unit))
            )
        }
        None => in_words(Duration::from_secs_f64(median)),
    })
}

/// How many times as long the one took as the other: the median over the rounds, and its interval. `None` for too few.
fn in_pairs(one: &[Run], other: &[Run], random: &mut Random) -> Option<String> {
    let rounds = |runs: &[Run]| -> Vec<(u32, f64)> {
        runs.iter().map(|run| (run.round, run.sample.reaped.as_secs_f64())).collect()
    };
    let Paired { value, interval } = Paired::of(&rounds(one), &rounds(other), random)?;
    Some(format!("× {} [{}]", significant(value), range(interval?, significant)))
}

/// How many system calls the kernel has, as `matchstick bench isolation` counts them.
pub(super) fn system_calls() -> Option<u64> {
    isolation::system_calls(LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::subject::Sample;

    fn runs(millis: impl Fn(u32) -> u64) -> Vec<Run> {
        let run = |round| {
            let sample = Sample { reaped: Duration::from_millis(millis(round)), ..Sample::default() };
            Run { round, place: 0, sample }
        };
        (0..20).map(run).collect()
    }

    /// What is measured in blocks takes a machine that slows down for a difference.
    #[test]
    fn a_machine_that_slows_down_changes_no_ratio_of_pairs() {
        let (one, other) =
            (runs(|round| 20 * (1 + u64::from(round))), runs(|round| 10 * (1 + u64::from(round))));
        assert_eq!(in_pairs(&one, &other, &mut Random::new(1)).unwrap(), "× 2.00 [2.00–2.00]");
        let few = &one[..5];
        assert_eq!(in_pairs(few, &other, &mut Random::new(1)), None);
        assert_eq!(in_figures(few, &mut Random::new(1)).unwrap(), "60.00 ms");
        assert!(in_figures(&one, &mut Random::new(1)).unwrap().starts_with("210.00 ms ["));
    }

    #[test]
    fn a_process_and_a_container_are_raced_together() {
        let wanted = ["process_start", "container_start", "rounds", "syscall"].map(str::to_owned);
        let figures = measure(&wanted);
        let names: Vec<&str> = figures.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["process_start", "container_start", "rounds"]);
        assert!(figures[0].1.as_ref().is_some_and(|figure| figure.contains('[')), "{figures:?}");
        assert_eq!(figures[2].1.as_deref(), Some("21"));
    }
}
