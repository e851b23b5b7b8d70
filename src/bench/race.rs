//! The race itself: who runs when, what counts, and who is dropped.
//!
//! ```text
//!   ready? ─▶ peak memory ─▶ warm-up rounds ─▶ rounds A C B · B A C · C B A … ─▶ cold rounds
//! ```
//!
//! Every subject starts once in each round, in an order shuffled anew by the seed, so that a drift of the machine
//! cannot become a result. The clock and the host are behind [`Environment`]: the engine is
//! tested without either.

use super::random::Random;
use super::schedule::{Length, Schedule};
use super::subject::{Failure, Kind, Missing, Sample, Subject};
use std::time::Duration;

/// A subject that fails so often in a row is dropped.
const FAILURES_MAX: u32 = 3;
/// A race by time has at least so many rounds, however slow the subjects are.
const ROUNDS_MIN: u32 = 5;
/// The number of cold rounds: enough for a median, and few, as each of them slows the machine down.
const COLD_ROUNDS: u32 = 10;

/// What the engine needs of the environment that it runs in.
pub trait Environment {
    /// A clock.
    fn now(&self) -> Duration;
    /// Whether the race is to end now.
    fn stopped(&self) -> bool;
    /// `part` of the race is over (0 to 1), and `subject` is next.
    fn progress(&mut self, part: f64, subject: &str);
    /// Empties the page cache.
    fn drop_caches(&mut self) -> Result<(), String>;
}

/// One start that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The round, from 0.
    pub round: u32,
    /// Which start of the round it was, from 0.
    pub place: u32,
    /// What it took.
    pub sample: Sample,
}

/// A subject's part of a race.
#[derive(Debug, Default)]
pub struct Record {
    /// Starts that count, in order.
    pub runs: Vec<Run>,
    /// Starts with an empty page cache, in order.
    pub cold: Vec<Run>,
    /// The very first start, when nothing was cached yet.
    pub first: Option<Sample>,
    /// The peak resident memory of any one of its processes, in KiB.
    pub peak: Option<u64>,
    /// Starts that did not count because something was wrong with them.
    pub failures: u32,
    /// The last thing that was wrong.
    pub failure: Option<Failure>,
    /// How many of the last starts failed, without a good one since.
    in_a_row: u32,
    /// Why it never took part.
    pub missing: Option<Missing>,
}

impl Record {
    /// Whether it failed so often in a row that it was taken out of the race.
    pub fn dropped(&self) -> bool {
        self.in_a_row >= FAILURES_MAX
    }

    fn is_in(&self) -> bool {
        self.missing.is_none() && !self.dropped()
    }
}

/// How a race went; the records are in the order of the subjects.
#[derive(Debug)]
pub struct Race {
    /// One for each subject.
    pub records: Vec<Record>,
    /// Whole rounds that were run.
    pub rounds: u32,
    /// Whether someone ended it early.
    pub interrupted: bool,
    /// Why there are no cold rounds, though they were asked for.
    pub no_cold: Option<String>,
}

/// Runs a race.
pub fn race(
    subjects: &mut [Box<dyn Subject + '_>],
    schedule: &Schedule,
    environment: &mut dyn Environment,
) -> Race {
    let records = subjects.iter().map(|_| Record::default()).collect();
    let order = (0..subjects.len()).collect();
    let race = Race { records, rounds: 0, interrupted: false, no_cold: None };
    let mut engine =
        Engine { subjects, schedule, environment, race, order, random: Random::new(schedule.seed) };
    engine.run();
    engine.race.interrupted = engine.environment.stopped();
    engine.race
}

/// What kind of round it is.
#[derive(Clone, Copy, PartialEq)]
enum Round {
    Warmup,
    Counted,
    Cold,
}

struct Engine<'a, 'b> {
    subjects: &'a mut [Box<dyn Subject + 'b>],
    schedule: &'a Schedule,
    environment: &'a mut dyn Environment,
    race: Race,
    order: Vec<usize>,
    random: Random,
}

impl Engine<'_, '_> {
    fn run(&mut self) {
        self.get_ready();
        for round in 0..self.schedule.warmup {
            if !self.round(round, Round::Warmup, 0.0) {
                return;
            }
        }
        let begin = self.environment.now();
        while let Some(part) = self.part_done(begin) {
            if !self.round(self.race.rounds, Round::Counted, part) {
                return;
            }
            self.race.rounds += 1;
        }
        let cold = if self.schedule.cold { self.race.rounds.min(COLD_ROUNDS) } else { 0 };
        for round in 0..cold {
            if self.race.no_cold.is_some() || !self.round(round, Round::Cold, 1.0) {
                return;
            }
        }
    }

    /// Finds out who takes part, and how much memory each has.
    fn get_ready(&mut self) {
        for (subject, record) in self.subjects.iter_mut().zip(&mut self.race.records) {
            if self.environment.stopped() {
                return;
            }
            self.environment.progress(0.0, subject.name());
            match subject.ready() {
                Ok(()) => record.peak = subject.peak_memory(self.schedule.limit),
                Err(missing) => record.missing = Some(missing),
            }
        }
    }

    /// How much of the race is over; `None` for all of it.
    fn part_done(&self, begin: Duration) -> Option<f64> {
        let done = match self.schedule.length {
            Length::Rounds(rounds) => f64::from(self.race.rounds) / f64::from(rounds.max(1)),
            Length::Time(time) => {
                let spent = self.environment.now().saturating_sub(begin).as_secs_f64() / time.as_secs_f64();
                // Neither the time nor the least number of rounds alone is enough.
                spent.min(f64::from(self.race.rounds) / f64::from(ROUNDS_MIN))
            }
        };
        let mut all = self.subjects.iter().zip(&self.race.records);
        let anyone = all.any(|(subject, record)| record.is_in() && subject.kind() != Kind::Baseline);
        (done < 1.0 && anyone).then_some(done)
    }

    /// One start of each; false if the race is to end.
    fn round(&mut self, round: u32, kind: Round, part: f64) -> bool {
        self.random.shuffle(&mut self.order);
        for (place, index) in (0..).zip(self.order.clone()) {
            if self.environment.stopped() {
                return false;
            }
            let (subject, record) = (&mut self.subjects[index], &mut self.race.records[index]);
            if !record.is_in() {
                continue;
            }
            self.environment.progress(part, subject.name());
            if kind == Round::Cold
                && let Err(why) = self.environment.drop_caches()
            {
                self.race.no_cold = Some(why);
                return false;
            }
            match subject.run(self.schedule.limit) {
                Ok(sample) => {
                    let run = Run { round, place, sample };
                    record.in_a_row = 0;
                    record.first.get_or_insert(sample);
                    match kind {
                        Round::Warmup => {}
                        Round::Counted => record.runs.push(run),
                        Round::Cold => record.cold.push(run),
                    }
                }
                // It was killed because the race ends. That is no failure.
                Err(_) if self.environment.stopped() => return false,
                Err(failure) => {
                    record.failures += 1;
                    record.in_a_row += 1;
                    record.failure = Some(failure);
                }
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};
    use std::rc::Rc;

    /// An environment in which time passes only when a subject says so.
    #[derive(Default)]
    struct Mock {
        now: Rc<Cell<Duration>>,
        log: Rc<RefCell<Vec<String>>>,
        stop_after: Option<usize>,
        no_cold: bool,
    }

    impl Environment for Mock {
        fn now(&self) -> Duration {
            self.now.get()
        }
        fn stopped(&self) -> bool {
            self.stop_after.is_some_and(|count| self.log.borrow().len() >= count)
        }
        fn progress(&mut self, part: f64, _: &str) {
            assert!((0.0..=1.0).contains(&part));
        }
        fn drop_caches(&mut self) -> Result<(), String> {
            self.log.borrow_mut().push("drop".into());
            if self.no_cold { Err("not root".into()) } else { Ok(()) }
        }
    }

    /// A subject that takes the times it is told to, again and again; a zero is a failure.
    struct Scripted {
        name: String,
        script: Vec<u64>,
        count: usize,
        now: Rc<Cell<Duration>>,
        log: Rc<RefCell<Vec<String>>>,
        missing: bool,
    }

    impl Subject for Scripted {
        fn name(&self) -> &str {
            &self.name
        }
        fn kind(&self) -> Kind {
            Kind::Custom
        }
        fn about(&self) -> &str {
            "a mock"
        }
        fn ready(&mut self) -> Result<(), Missing> {
            if self.missing { Err(Missing::new("not installed", "apt install it")) } else { Ok(()) }
        }
        fn peak_memory(&mut self, _: Duration) -> Option<u64> {
            Some(self.script[0])
        }
        fn run(&mut self, limit: Duration) -> Result<Sample, Failure> {
            assert_eq!(limit, Duration::from_secs(1));
            self.log.borrow_mut().push(self.name.clone());
            let millis = self.script[self.count % self.script.len()];
            self.count += 1;
            let reaped = Duration::from_millis(millis);
            self.now.set(self.now.get() + reaped);
            match millis {
                0 => Err(Failure { why: "it failed".into(), stderr: format!("alas {}", self.count) }),
                _ => Ok(Sample { reaped, ..Sample::default() }),
            }
        }
    }

    impl Mock {
        fn subject(&self, name: &str, script: &[u64]) -> Box<dyn Subject> {
            Box::new(self.scripted(name, script))
        }
        fn scripted(&self, name: &str, script: &[u64]) -> Scripted {
            let (now, log) = (self.now.clone(), self.log.clone());
            Scripted { name: name.into(), script: script.to_vec(), count: 0, now, log, missing: false }
        }
        fn order(&self) -> String {
            self.log.borrow().join("")
        }
    }

    fn schedule(length: Length, warmup: u32, seed: u64) -> Schedule {
        Schedule { length, warmup, seed, limit: Duration::from_secs(1), cold: false }
    }

    fn millis(runs: &[Run]) -> Vec<u128> {
        runs.iter().map(|run| run.sample.reaped.as_millis()).collect()
    }

    #[test]
    fn rounds_are_interleaved_and_the_seed_decides_their_order() {
        let order = |seed| {
            let mut mock = Mock::default();
            let mut subjects = ["a", "b", "c"].map(|name| mock.subject(name, &[1]));
            let race = race(&mut subjects, &schedule(Length::Rounds(20), 0, seed), &mut mock);
            assert_eq!(race.rounds, 20);
            for record in &race.records {
                let rounds: Vec<u32> = record.runs.iter().map(|run| run.round).collect();
                assert_eq!(rounds, (0..20).collect::<Vec<_>>());
            }
            let order = mock.order();
            for (round, three) in order.as_bytes().chunks(3).enumerate() {
                // Each once, in the place that its record tells.
                for (record, name) in race.records.iter().zip("abc".bytes()) {
                    assert_eq!(three[record.runs[round].place as usize], name);
                }
            }
            order
        };
        assert_eq!(order(1), order(1));
        assert_ne!(order(1), order(2));
        let rounds: std::collections::BTreeSet<String> =
            order(1).as_bytes().chunks(3).map(|three| String::from_utf8_lossy(three).into_owned()).collect();
        assert!(rounds.len() > 3, "every round has the same order");
    }

    #[test]
    fn warm_up_is_run_and_not_counted_but_the_first_start_is_kept() {
        let mut mock = Mock::default();
        let mut subjects = [mock.subject("a", &[90, 50, 3, 4, 5])];
        let race = race(&mut subjects, &schedule(Length::Rounds(3), 2, 0), &mut mock);
        assert_eq!(millis(&race.records[0].runs), [3, 4, 5]);
        assert_eq!(race.records[0].first.unwrap().reaped, Duration::from_millis(90));
        assert_eq!(race.records[0].peak, Some(90));
        assert_eq!(mock.order(), "aaaaa");
    }

    #[test]
    fn a_race_by_time_has_whole_rounds_and_a_least_number_of_them() {
        for (time, rounds) in [(100, 10), (95, 10), (10, ROUNDS_MIN), (101, 11)] {
            let mut mock = Mock::default();
            let mut subjects = [mock.subject("a", &[4]), mock.subject("b", &[6])];
            let length = Length::Time(Duration::from_millis(time));
            let race = race(&mut subjects, &schedule(length, 1, 0), &mut mock);
            assert_eq!(race.rounds, rounds, "{time} ms");
            assert_eq!(race.records[1].runs.len() as u32, rounds);
        }
    }

    #[test]
    fn three_failures_in_a_row_drop_a_subject_and_the_rest_goes_on() {
        let mut mock = Mock::default();
        let mut subjects = [mock.subject("a", &[1]), mock.subject("b", &[7, 0, 0, 8, 0, 0, 0, 9])];
        let race = race(&mut subjects, &schedule(Length::Rounds(12), 0, 0), &mut mock);
        let [a, b] = &race.records[..] else { panic!() };
        assert_eq!((a.runs.len(), a.failures, a.dropped()), (12, 0, false));
        assert_eq!((millis(&b.runs), b.failures, b.dropped()), (vec![7, 8], 5, true));
        assert_eq!(b.failure.as_ref().unwrap().stderr, "alas 7");
        assert!(!race.interrupted);
    }

    #[test]
    fn failures_in_the_warm_up_count_and_a_race_without_anyone_ends() {
        let mut mock = Mock::default();
        let mut subjects = [mock.subject("a", &[0])];
        let length = Length::Time(Duration::from_secs(1));
        let race = race(&mut subjects, &schedule(length, 2, 0), &mut mock);
        assert!(race.records[0].dropped());
        assert_eq!((race.records[0].runs.len(), mock.order().len()), (0, 3));
    }

    #[test]
    fn who_is_missing_is_not_started() {
        let mut mock = Mock::default();
        let missing = Scripted { missing: true, ..mock.scripted("a", &[1]) };
        let mut subjects: [Box<dyn Subject>; 2] = [Box::new(missing), mock.subject("b", &[1])];
        let race = race(&mut subjects, &schedule(Length::Rounds(2), 1, 0), &mut mock);
        assert_eq!(mock.order(), "bbb");
        assert_eq!(race.records[0].missing.as_ref().unwrap().to_string(), "not installed: apt install it");
    }

    #[test]
    fn an_interrupted_race_keeps_what_it_has() {
        let mut mock = Mock { stop_after: Some(8), ..Mock::default() };
        let mut subjects = [mock.subject("a", &[1]), mock.subject("b", &[1]), mock.subject("c", &[1])];
        let race = race(&mut subjects, &schedule(Length::Rounds(100), 1, 0), &mut mock);
        assert!(race.interrupted);
        assert_eq!(race.rounds, 1);
        assert_eq!(race.records.iter().map(|record| record.runs.len()).sum::<usize>(), 5);
    }

    #[test]
    fn a_start_that_is_killed_by_the_end_of_the_race_is_no_failure() {
        let mut mock = Mock { stop_after: Some(4), ..Mock::default() };
        let mut subjects = [mock.subject("a", &[1, 1, 1, 0])];
        let race = race(&mut subjects, &schedule(Length::Rounds(100), 0, 0), &mut mock);
        assert_eq!((race.records[0].runs.len(), race.records[0].failures), (3, 0));
    }

    #[test]
    fn cold_rounds_come_last_and_are_apart() {
        let mut mock = Mock::default();
        let mut subjects = [mock.subject("a", &[1, 1, 30])];
        let schedule = Schedule { cold: true, ..schedule(Length::Rounds(2), 0, 0) };
        let first = race(&mut subjects, &schedule, &mut mock);
        assert_eq!(mock.order(), "aadropadropa");
        assert_eq!(
            (millis(&first.records[0].runs), millis(&first.records[0].cold)),
            (vec![1, 1], vec![30, 1])
        );

        let mut mock = Mock { no_cold: true, ..Mock::default() };
        let second = race(&mut [mock.subject("a", &[1])], &schedule, &mut mock);
        assert_eq!(second.no_cold.as_deref(), Some("not root"));
        assert_eq!((second.records[0].runs.len(), second.records[0].cold.len()), (2, 0));
    }
}
