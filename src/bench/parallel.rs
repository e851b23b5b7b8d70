//! How many instances start in a second when several are started at once, and how long the slowest take.
//!
//! Each of several threads starts instances one after the other, and all threads begin together. What they share is the
//! host: its processors, and the locks of its kernel.

use super::config::RaceConfig;
use super::error::{Error, Result};
use super::payload::{Payload, Scratch};
use super::schedule::Length;
use super::stats::quantile;
use super::stop;
use super::subject::Subject;
use super::subjects;
use crate::sys;
use serde::{Deserialize, Serialize};
use std::io;
use std::sync::{PoisonError, RwLock, mpsc};
use std::thread;
use std::time::Duration;

/// The largest number of concurrent starts is at least this: more than there are processors, so that a queue shows.
const AT_ONCE_MIN: usize = 4;

/// The rates of one subject.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// The subject's name.
    pub name: String,
    /// A rate for each number of concurrent starts, or why there are none.
    pub levels: std::result::Result<Vec<Level>, String>,
}

/// What so many concurrent starts gave.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Level {
    /// How many threads started instances.
    pub at_once: usize,
    /// Instances that started, did their work and were given back, in a second.
    pub per_second: f64,
    /// Seconds to the first byte: half of them took less.
    pub median: f64,
    /// The same: 99 of 100 took less.
    pub p99: f64,
    /// How many starts that is.
    pub starts: usize,
    /// How many failed.
    pub failures: usize,
}

/// How many at once: 1, 2, 4 … up to twice the number of processors.
pub fn steps(processors: usize) -> Vec<usize> {
    let most = (2 * processors).max(AT_ONCE_MIN);
    std::iter::successors(Some(1), |n| Some(2 * n)).take_while(|n| *n <= most).collect()
}

/// Measures each subject that takes part in the race of `config`. The time of its schedule is for all of it together.
pub fn measure(config: &RaceConfig, progress: &mut dyn FnMut(f64, &str)) -> Result<Vec<Rates>> {
    stop::catch()?;
    let scratch = Scratch::new().map_err(Error::Directory)?;
    let payload = Payload::new(&config.payload, &scratch)?;
    let is_asked_for = |name: &str| config.only.iter().any(|only| only == name);
    let chosen = config.choose(subjects::all(&payload))?;
    // What is slow to prepare takes part only if it is named: each thread has to prepare its own.
    let takes_part =
        |subject: &dyn Subject| !subject.kind().is_slow_to_prepare() || is_asked_for(subject.name());
    let taking_part = chosen.iter().map(Box::as_ref).filter(|subject| takes_part(*subject));
    let names: Vec<String> = taking_part.map(|subject| subject.name().to_owned()).collect();
    drop(chosen);
    let steps = steps(thread::available_parallelism().map_or(1, usize::from));
    let parts = names.len() * steps.len();
    let time = match config.schedule.length {
        Length::Time(time) => time / parts.max(1) as u32,
        Length::Rounds(_) => Duration::from_secs(1),
    };
    let mut rates = Vec::new();
    for name in names {
        let mut levels = Ok(Vec::new());
        for (&at_once, done) in steps.iter().zip(rates.len() * steps.len()..) {
            progress(done as f64 / parts as f64, &name);
            match level(&name, &payload, at_once, time, config.schedule.limit) {
                Ok(level) => levels = levels.map(|levels| [levels, vec![level]].concat()),
                Err(why) => {
                    levels = Err(why);
                    break;
                }
            }
        }
        rates.push(Rates { name, levels });
        if stop::asked() {
            break;
        }
    }
    Ok(rates)
}

/// What one thread did.
#[derive(Default)]
struct Done {
    first_bytes: Vec<f64>,
    failures: usize,
    last_failure: String,
    end: Duration,
}

fn level(
    name: &str,
    payload: &Payload,
    at_once: usize,
    time: Duration,
    limit: Duration,
) -> std::result::Result<Level, String> {
    // All threads wait for this lock; its value then says whether they shall go on. Through the channel nothing is sent:
    // each thread drops its sender when it is ready or has panicked, and when all are dropped, receiving ends.
    let word = RwLock::new(false);
    let (ready_one, ready_all) = mpsc::channel::<()>();
    let (begin, threads) = thread::scope(|scope| {
        let mut go = word.write().unwrap_or_else(PoisonError::into_inner);
        let spawn = |_| {
            let ready_one = ready_one.clone();
            // A subject cannot move between threads: it is made in the one that uses it.
            thread::Builder::new().spawn_scoped(scope, || {
                let subject = ready(name, payload, limit);
                drop(ready_one);
                if !*word.read().unwrap_or_else(PoisonError::into_inner) {
                    return Err("another thread could not be started".into());
                }
                subject.map(|mut subject| start_until(subject.as_mut(), sys::monotonic() + time, limit))
            })
        };
        let threads = (0..at_once).map(spawn).collect::<io::Result<Vec<_>>>();
        let threads = threads.map_err(|error| format!("a thread cannot be started: {error}"))?;
        drop(ready_one);
        let _ = ready_all.recv();
        let begin = sys::monotonic();
        *go = true;
        drop(go);
        let done = threads.into_iter().map(|thread| {
            thread.join().unwrap_or_else(|_| Err("a thread of the measurement panicked".into()))
        });
        Ok::<_, String>((begin, done.collect::<Vec<_>>()))
    })?;
    let done = threads.into_iter().collect::<std::result::Result<Vec<Done>, String>>()?;
    let end = done.iter().map(|done| done.end).max().unwrap_or(begin);
    let failures = done.iter().map(|done| done.failures).sum();
    let mut first_bytes: Vec<f64> = done.iter().flat_map(|done| done.first_bytes.iter().copied()).collect();
    first_bytes.sort_by(f64::total_cmp);
    if first_bytes.is_empty() {
        let said = done.into_iter().map(|done| done.last_failure).find(|why| !why.is_empty());
        return Err(said.unwrap_or_else(|| "it was interrupted".into()));
    }
    Ok(Level {
        at_once,
        per_second: first_bytes.len() as f64 / (end - begin).as_secs_f64(),
        median: quantile(&first_bytes, 0.5),
        p99: quantile(&first_bytes, 0.99),
        starts: first_bytes.len(),
        failures,
    })
}

/// The subject, prepared and started once. That start does not count.
fn ready(name: &str, payload: &Payload, limit: Duration) -> std::result::Result<Box<dyn Subject>, String> {
    let subject = subjects::all(payload).into_iter().find(|subject| subject.name() == name);
    let mut subject = subject.ok_or_else(|| format!("there is no {name}"))?;
    subject.ready().map_err(|missing| missing.to_string())?;
    subject.run(limit).map_err(|failure| format!("{} {}", failure.why, failure.stderr))?;
    Ok(subject)
}

fn start_until(subject: &mut dyn Subject, end: Duration, limit: Duration) -> Done {
    let mut done = Done::default();
    while sys::monotonic() < end && !stop::asked() {
        match subject.run(limit) {
            Ok(sample) => done.first_bytes.push(sample.first_byte.as_secs_f64()),
            Err(failure) => {
                done.failures += 1;
                done.last_failure = format!("{} {}", failure.why, failure.stderr);
            }
        }
    }
    done.end = sys::monotonic();
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steps_double_until_there_is_a_queue() {
        assert_eq!(steps(1), [1, 2, 4]);
        assert_eq!(steps(2), [1, 2, 4]);
        assert_eq!(steps(6), [1, 2, 4, 8]);
        assert_eq!(steps(8), [1, 2, 4, 8, 16]);
    }

    #[test]
    fn processes_started_by_two_threads_are_counted_together() {
        let scratch = Scratch::new().unwrap();
        let payload = Payload::new("hello", &scratch).unwrap();
        let time = Duration::from_millis(200);
        let level = level("process", &payload, 2, time, Duration::from_secs(10)).unwrap();
        assert!(level.starts > 2 && level.failures == 0, "{level:?}");
        assert!(level.median <= level.p99 && level.per_second > 0.0, "{level:?}");
        assert!(super::level("nobody", &payload, 2, time, time).unwrap_err().contains("no nobody"));
    }
}
