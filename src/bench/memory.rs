//! What one more idle instance of a subject costs in memory.
//!
//! Instances are started one by one and stay, then end one by one. After each step the kernel is asked twice: how much
//! memory is available to the host (MemAvailable), which counts everything, the kernel's own tables included; and how
//! much the instances' processes have in proportion (PSS), which counts shared pages in parts. What an instance costs
//! is the slope of either over the number of instances, by least squares. What only the first instance costs is
//! not in it. Neither is what the rest of the host takes at a steady rate: it adds to the slope on the way up, and takes
//! as much off it on the way down. All this is done several times; the spread of the slopes gives the interval.

use super::config::RaceConfig;
use super::error::{Error, Result};
use super::idle::{Instance, Start, idle_subjects};
use super::payload::{Payload, Scratch};
use super::stats::Interval;
use super::stop;
use serde::{Deserialize, Serialize};
use std::fs;
use std::thread;
use std::time::Duration;

/// The number of instances, unless `--runs` gives another.
pub const INSTANCES: u32 = 16;
/// How many times the instances are started and ended.
const CYCLES: usize = 5;
/// The pause after each step: the kernel frees some of an instance's memory a little later.
const SETTLE: Duration = Duration::from_millis(15);
/// The least number of instances: fewer points make no useful slope.
pub const INSTANCES_MIN: u32 = 4;

/// What the instances of one subject cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// The subject's name.
    pub name: String,
    /// What an instance is.
    pub about: String,
    /// What was measured, or why nothing was.
    pub figures: std::result::Result<Figures, String>,
}

/// Slopes in KiB for each instance, and the points that they were fitted to. What could not be read has no slope.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// By the host's available memory: what is taken from it.
    pub available: Option<Slope>,
    /// By the processes' proportional share.
    pub pss: Option<Slope>,
    /// Every step of every cycle.
    pub cycles: Vec<Vec<Point>>,
}

/// A step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// How many instances there were.
    pub instances: u32,
    /// KiB available to the host.
    pub available: Option<u64>,
    /// KiB that the instances had in proportion.
    pub pss: Option<u64>,
}

/// The slope of a line through points.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Slope {
    /// The mean of the cycles' slopes.
    pub value: f64,
    /// Where it lies: Student's interval of 95 %.
    pub interval: Interval,
}

impl Slope {
    /// The mean of the cycles' slopes and its interval. `None` for fewer than two.
    pub fn of(slopes: &[f64]) -> Option<Slope> {
        let n = slopes.len() as f64;
        if slopes.len() < 2 {
            return None;
        }
        let value = slopes.iter().sum::<f64>() / n;
        let variance = slopes.iter().map(|slope| (slope - value).powi(2)).sum::<f64>() / (n - 1.0);
        let half = student(n - 1.0) * (variance / n).sqrt();
        Some(Slope { value, interval: Interval { low: value - half, high: value + half } })
    }
}

/// The slope of the line that is nearest to points (x, y), by least squares. `None` if they have all the same x.
fn slope(points: &[(f64, f64)]) -> Option<f64> {
    let n = points.len() as f64;
    let mean = |value: fn(&(f64, f64)) -> f64| points.iter().map(value).sum::<f64>() / n;
    let (x_mean, y_mean) = (mean(|point| point.0), mean(|point| point.1));
    let spread: f64 = points.iter().map(|(x, _)| (x - x_mean).powi(2)).sum();
    let product: f64 = points.iter().map(|(x, y)| (x - x_mean) * (y - y_mean)).sum();
    (spread > 0.0).then(|| product / spread)
}

/// The 97.5 % quantile of Student's t distribution with `freedom` degrees of freedom, from a table.
fn student(freedom: f64) -> f64 {
    const TABLE: [f64; 10] = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228];
    TABLE.get(freedom as usize - 1).copied().unwrap_or(2.228)
}

/// Measures each subject that takes part in the race of `config`, with so many instances.
pub fn measure(
    config: &RaceConfig,
    instances: u32,
    progress: &mut dyn FnMut(f64, &str),
) -> Result<Vec<Cost>> {
    stop::catch()?;
    let scratch = Scratch::new().map_err(Error::Directory)?;
    let payload = Payload::idle(&scratch)?;
    let idle_subjects =
        config.choose_by(idle_subjects(&payload, config.schedule.limit), |subject| subject.name)?;
    let mut costs = Vec::new();
    let count = idle_subjects.len() as f64;
    for (subject, done) in idle_subjects.into_iter().zip(0..) {
        let mut step = |part: f64| progress((f64::from(done) + part) / count, subject.name);
        let figures = figures_of(subject.start, instances, &mut step);
        costs.push(Cost { name: subject.name.into(), about: subject.about.into(), figures });
        if stop::asked() {
            break;
        }
    }
    Ok(costs)
}

fn figures_of(
    start: Start,
    instances: u32,
    step: &mut dyn FnMut(f64),
) -> std::result::Result<Figures, String> {
    let mut start = start().map_err(|missing| missing.to_string())?;
    let mut start = || start().map_err(|failure| format!("{} {}", failure.why, failure.stderr));
    // The first one fills caches and loads modules.
    drop(start()?);
    let mut cycles: Vec<Vec<Point>> = Vec::new();
    for cycle in 0..CYCLES {
        let mut part = |part: f64| step((cycle as f64 + part) / CYCLES as f64);
        match up_and_down(&mut start, instances, &mut part)? {
            Some(points) => cycles.push(points),
            None => break,
        }
    }
    if cycles.len() < 2 {
        return Err("it was interrupted".into());
    }
    let available = slope_of(&cycles, |point| Some(-(point.available? as f64)));
    let pss = slope_of(&cycles, |point| Some(point.pss? as f64));
    match (available, pss) {
        (None, None) => Err("neither /proc/meminfo nor /proc/PID/smaps_rollup can be read".into()),
        (available, pss) => Ok(Figures { available, pss, cycles }),
    }
}

/// The slope of one value of the points, over all cycles. `None` if it could not be read at each of them.
fn slope_of(cycles: &[Vec<Point>], value: impl Fn(&Point) -> Option<f64>) -> Option<Slope> {
    let of_cycle = |points: &Vec<Point>| {
        let points = points.iter().map(|point| Some((point.instances.into(), value(point)?)));
        slope(&points.collect::<Option<Vec<_>>>()?)
    };
    Slope::of(&cycles.iter().map(of_cycle).collect::<Option<Vec<_>>>()?)
}

/// One cycle; `None` if it was interrupted.
fn up_and_down(
    start: &mut dyn FnMut() -> std::result::Result<Instance, String>,
    instances: u32,
    step: &mut dyn FnMut(f64),
) -> std::result::Result<Option<Vec<Point>>, String> {
    let mut running: Vec<Instance> = Vec::new();
    let mut points = vec![point(&running)];
    for i in 0..2 * instances {
        if stop::asked() {
            return Ok(None);
        }
        step(f64::from(i) / f64::from(2 * instances));
        if i < instances {
            running.push(start()?);
        } else {
            running.pop();
        }
        points.push(point(&running));
    }
    Ok(Some(points))
}

/// Memory as it is while these instances run.
fn point(running: &[Instance]) -> Point {
    thread::sleep(SETTLE);
    // Root may ask the kernel to add up the counts that each processor keeps for itself.
    let _ = fs::write("/proc/sys/vm/stat_refresh", "1");
    let pss = running.iter().map(|instance| field(&format!("/proc/{}/smaps_rollup", instance.pid), "Pss:"));
    Point {
        instances: running.len() as u32,
        available: field("/proc/meminfo", "MemAvailable:"),
        pss: pss.sum(),
    }
}

/// The number that follows `key` in a file of lines.
fn field(path: &str, key: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix(key))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_straight_line_has_its_slope_and_an_even_drift_is_no_part_of_it() {
        let line = [(0.0, 10.0), (1.0, 13.0), (2.0, 16.0)];
        assert!((slope(&line).unwrap() - 3.0).abs() < 1e-12);
        // Up and down again, while something else grows by 5 at each step.
        let counts = [0.0, 1.0, 2.0, 3.0, 2.0, 1.0, 0.0];
        let drifting = counts.iter().zip(0..).map(|(x, step)| (*x, 3.0 * x + 5.0 * f64::from(step)));
        assert!((slope(&drifting.collect::<Vec<_>>()).unwrap() - 3.0).abs() < 1e-12);
        assert_eq!(slope(&[(1.0, 2.0), (1.0, 3.0)]), None);
        assert_eq!(slope(&[]), None);
    }

    #[test]
    fn what_could_not_be_read_once_has_no_slope_and_is_not_zero() {
        let point =
            |instances: u32, pss| Point { instances, available: Some(1000 - u64::from(instances)), pss };
        let cycle = |last| vec![point(0, Some(0)), point(1, Some(7)), point(2, last)];
        let slopes = |cycles: &[Vec<Point>]| {
            let value = |slope: Option<Slope>| slope.map(|slope| slope.value);
            let available = slope_of(cycles, |point| Some(-(point.available? as f64)));
            [value(available), value(slope_of(cycles, |point| Some(point.pss? as f64)))]
        };
        assert_eq!(slopes(&[cycle(Some(14)), cycle(Some(14))]), [Some(1.0), Some(7.0)]);
        assert_eq!(slopes(&[cycle(Some(14)), cycle(None)]), [Some(1.0), None]);
        assert_eq!(field("/nonexistent", "Pss:"), None);
        assert_eq!(field("/proc/meminfo", "Nothing:"), None);
    }

    #[test]
    fn slopes_that_differ_widen_the_interval_as_in_the_textbook() {
        // R: t.test(c(1, 2, 3, 4, 5)) gives 3 and 1.036757 to 4.963243.
        let slope = Slope::of(&[1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
        assert_eq!(slope.value, 3.0);
        assert!((slope.interval.low - 1.0368).abs() < 1e-3 && (slope.interval.high - 4.9632).abs() < 1e-3);
        assert_eq!(Slope::of(&[1.0]), None);
    }
}
