//! What a series of times says, and how sure that is.
//!
//! Distributions, not means: the median and its interval, the tail, and how far values scatter. Nothing is assumed of
//! the shape of a distribution: intervals are found by resampling (Efron's percentile bootstrap). Times are in
//! whatever unit they come in.

use super::random::Random;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// The number of resamples for an interval. With so many, its ends move by a few per cent of its width between seeds.
const RESAMPLES: usize = 1000;
/// The part of resamples that lies inside an interval.
pub const CONFIDENCE: f64 = 0.95;
/// The least number of values that have an interval. That of fewer would not hold what it says: the least and the
/// largest of five lie around the median in 15 of 16 cases (1 - 2 · 0.5⁵), which is less than 95 %.
pub const INTERVAL_MIN: usize = 6;
/// The factor that makes the MAD of a normal distribution its standard deviation.
const NORMAL: f64 = 1.4826;
/// A value is an outlier if it is further from the median than so many times the scaled MAD.
const OUTLIER: f64 = 10.0;

/// A range that holds the true value with [`CONFIDENCE`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

/// One series in figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// How many values.
    pub n: usize,
    /// The least.
    pub min: f64,
    /// Half of the values are less.
    pub median: f64,
    /// 90 of 100 values are less.
    pub p90: f64,
    /// 99 of 100 values are less.
    pub p99: f64,
    /// The largest.
    pub max: f64,
    /// The mean, which outliers move more than the median.
    pub mean: f64,
    /// The standard deviation of the sample; a single value has none.
    pub stddev: Option<f64>,
    /// The median distance from the median.
    pub mad: f64,
    /// Where the median lies; `None` for fewer values than [`INTERVAL_MIN`].
    pub interval: Option<Interval>,
}

impl Summary {
    /// The figures of `values`; without any there are none.
    pub fn of(values: &[f64], random: &mut Random) -> Option<Summary> {
        let sorted = sorted(values);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let n = sorted.len();
        let mean = sorted.iter().sum::<f64>() / n as f64;
        let squares: f64 = sorted.iter().map(|value| (value - mean).powi(2)).sum();
        Some(Summary {
            n,
            min,
            median: quantile(&sorted, 0.5),
            p90: quantile(&sorted, 0.9),
            p99: quantile(&sorted, 0.99),
            max,
            mean,
            stddev: (n > 1).then(|| (squares / (n - 1) as f64).sqrt()),
            mad: mad(&sorted),
            interval: interval_of(&sorted, random),
        })
    }
}

/// Where the median of `sorted` lies, if they are enough.
fn interval_of(sorted: &[f64], random: &mut Random) -> Option<Interval> {
    let mut resampled = || (0..RESAMPLES).map(|_| resampled_median(sorted, random)).collect();
    (sorted.len() >= INTERVAL_MIN).then(|| interval(resampled()))
}

/// How one median compares with another.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    /// The one divided by the other.
    pub value: f64,
    /// Where that lies; `None` if either has fewer values than [`INTERVAL_MIN`].
    pub interval: Option<Interval>,
    /// The part of resamples in which the one is larger than the other; where they are equal, half of one.
    pub larger: f64,
}

impl Ratio {
    /// The median of `values` divided by that of `reference`.
    pub fn of(values: &[f64], reference: &[f64], random: &mut Random) -> Option<Ratio> {
        let (values, reference) = (sorted(values), sorted(reference));
        if values.is_empty() || reference.is_empty() || quantile(&reference, 0.5) <= 0.0 {
            return None;
        }
        let mut ratio = || resampled_median(&values, random) / resampled_median(&reference, random);
        let ratios: Vec<f64> = (0..RESAMPLES).map(|_| ratio()).collect();
        let larger = |&ratio: &f64| match ratio.partial_cmp(&1.0) {
            Some(Ordering::Greater) => 1.0,
            Some(Ordering::Equal) => 0.5,
            _ => 0.0,
        };
        let larger = ratios.iter().map(larger).sum::<f64>();
        Some(Ratio {
            value: quantile(&values, 0.5) / quantile(&reference, 0.5),
            interval: (values.len().min(reference.len()) >= INTERVAL_MIN).then(|| interval(ratios)),
            larger: larger / RESAMPLES as f64,
        })
    }

    /// Whether the two can be told apart: there is an interval, and 1 is not in it.
    pub fn is_decided(&self) -> bool {
        is_decided(self.interval)
    }

    /// The part of resamples that agree on the direction of the difference, 0.5 to 1.
    pub fn certainty(&self) -> f64 {
        self.larger.max(1.0 - self.larger)
    }
}

/// How values compare with those of the same round: what slows a whole round down is in both, and not in their ratio.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Paired {
    /// The median of the ratios.
    pub value: f64,
    /// Where that lies; `None` for fewer rounds than [`INTERVAL_MIN`].
    pub interval: Option<Interval>,
}

impl Paired {
    /// The median of `values` divided by `reference`, round by round: both are pairs of a round and a value. `None`
    /// if they have no round in common.
    pub fn of(values: &[(u32, f64)], reference: &[(u32, f64)], random: &mut Random) -> Option<Paired> {
        let reference: BTreeMap<u32, f64> = reference.iter().copied().collect();
        let ratio = |&(round, value): &(u32, f64)| {
            reference.get(&round).filter(|other| **other > 0.0).map(|other| value / other)
        };
        let ratios = sorted(&values.iter().filter_map(ratio).collect::<Vec<f64>>());
        let value = (!ratios.is_empty()).then(|| quantile(&ratios, 0.5))?;
        Some(Paired { value, interval: interval_of(&ratios, random) })
    }

    /// Whether the two can be told apart: there is an interval, and 1 is not in it.
    pub fn is_decided(&self) -> bool {
        is_decided(self.interval)
    }
}

fn is_decided(interval: Option<Interval>) -> bool {
    interval.is_some_and(|Interval { low, high }| high < 1.0 || 1.0 < low)
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// The value below which the part `q` of `sorted` lies, between two values by their distance (Hyndman and Fan's
/// definition 7, the usual one). `sorted` is not empty.
pub fn quantile(sorted: &[f64], q: f64) -> f64 {
    let at = q * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    below + (above - below) * at.fract()
}

/// The median distance from the median.
fn mad(values: &[f64]) -> f64 {
    let median = quantile(values, 0.5);
    let distances: Vec<f64> = values.iter().map(|value| (value - median).abs()).collect();
    quantile(&sorted(&distances), 0.5)
}

/// The median of as many values, each drawn from all of `values`.
fn resampled_median(values: &[f64], random: &mut Random) -> f64 {
    let mut drawn: Vec<f64> = values.iter().map(|_| values[random.below(values.len())]).collect();
    let middle = drawn.len() / 2;
    let (less, &mut median, _) = drawn.select_nth_unstable_by(middle, f64::total_cmp);
    match values.len() % 2 {
        1 => median,
        _ => (median + less.iter().copied().fold(f64::NEG_INFINITY, f64::max)) / 2.0,
    }
}

fn interval(estimates: Vec<f64>) -> Interval {
    let estimates = sorted(&estimates);
    let outside = (1.0 - CONFIDENCE) / 2.0;
    Interval { low: quantile(&estimates, outside), high: quantile(&estimates, 1.0 - outside) }
}

/// The probability of ranks at least as uneven as these if both series came from the same distribution (Mann and
/// Whitney's U, two-sided, by the normal approximation with ties).
pub fn mann_whitney(a: &[f64], b: &[f64]) -> f64 {
    let (n, m) = (a.len() as f64, b.len() as f64);
    let mut all: Vec<(f64, bool)> =
        a.iter().map(|&v| (v, true)).chain(b.iter().map(|&v| (v, false))).collect();
    all.sort_by(|one, other| one.0.total_cmp(&other.0));
    let (mut ranks, mut ties, mut before) = (0.0, 0.0, 0.0);
    for equal in all.chunk_by(|one, other| one.0 == other.0) {
        let count = equal.len() as f64;
        // All equal values share the mean of their ranks.
        let rank = before + (count + 1.0) / 2.0;
        ranks += rank * equal.iter().filter(|(_, from_a)| *from_a).count() as f64;
        ties += count.powi(3) - count;
        before += count;
    }
    let u = ranks - n * (n + 1.0) / 2.0;
    let total = n + m;
    let variance = n * m / 12.0 * (total + 1.0 - ties / (total * (total - 1.0)));
    if variance.is_nan() || variance <= 0.0 {
        return 1.0;
    }
    let z = ((u - n * m / 2.0).abs() - 0.5).max(0.0) / variance.sqrt();
    complementary_error(z / std::f64::consts::SQRT_2)
}

/// erfc(x) for x ≥ 0, to seven digits (Abramowitz and Stegun, 7.1.26).
fn complementary_error(x: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.327_591_1 * x);
    let terms = [1.061_405_429, -1.453_152_027, 1.421_413_741, -0.284_496_736, 0.254_829_592];
    let polynomial = terms.iter().fold(0.0, |sum, term| (sum + term) * t);
    polynomial * (-x * x).exp()
}

/// Something that makes a series worth less than it seems.
#[derive(Debug, Clone, PartialEq)]
pub enum Warning {
    /// Values far from all others: how many, and the largest in medians.
    Outliers {
        /// How many.
        count: usize,
        /// The worst, divided by the median.
        worst: f64,
    },
    /// The first run took so many medians.
    SlowFirst(f64),
    /// Fewer values than a tail needs.
    Few(usize),
    /// The second half's median divided by the first's, where that is no chance.
    Drift(f64),
}

impl std::fmt::Display for Warning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Warning::Outliers { count, worst } => {
                let runs = if *count == 1 { "1 outlier".into() } else { format!("{count} outliers") };
                write!(f, "{runs}, up to {worst:.1} times the median: a quieter machine, or --pin, has fewer")
            }
            Warning::SlowFirst(ratio) => {
                write!(f, "the first run took {ratio:.1} times the median: --warmup N with more than now")
            }
            Warning::Few(n) => {
                let runs = if *n == 1 { "1 run says".into() } else { format!("{n} runs say") };
                write!(f, "{runs} little about a tail: --time or --runs for more")
            }
            Warning::Drift(ratio) => write!(
                f,
                "the second half took {ratio:.2} times the first: the machine changed, which interleaving shares out"
            ),
        }
    }
}

/// What is to be said against `values`, which are in the order in which they were measured.
pub fn warnings(values: &[f64]) -> Vec<Warning> {
    /// The least number that has a 90th percentile of its own.
    const ENOUGH: usize = 10;
    /// A drift below this is not worth a word.
    const DRIFT: f64 = 0.05;
    let mut warnings = Vec::new();
    if values.len() < ENOUGH {
        return vec![Warning::Few(values.len())];
    }
    let all = sorted(values);
    let median = quantile(&all, 0.5);
    // Never so narrow that the clock's own grain is an outlier.
    let limit = OUTLIER * (NORMAL * mad(&all)).max(median * 0.01);
    let is_far = |value: &&f64| (**value - median).abs() > limit;
    let slow_first = is_far(&&values[0]) && values[0] > median;
    if slow_first {
        warnings.push(Warning::SlowFirst(values[0] / median));
    }
    let count = values.iter().skip(slow_first.into()).filter(is_far).count();
    if count > 0 {
        warnings.push(Warning::Outliers { count, worst: all[all.len() - 1] / median });
    }
    let (first, second) = values.split_at(values.len() / 2);
    let drift = quantile(&sorted(second), 0.5) / quantile(&sorted(first), 0.5);
    if (drift - 1.0).abs() > DRIFT && mann_whitney(first, second) < 0.001 {
        warnings.push(Warning::Drift(drift));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn is_near(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-6 * b.abs().max(1.0)
    }

    #[test]
    fn the_figures_are_those_of_r_and_numpy() {
        let values = [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0, 100.0, 1.0];
        let summary = Summary::of(&values, &mut Random::new(1)).unwrap();
        assert_eq!((summary.n, summary.min, summary.max), (10, 1.0, 100.0));
        assert!(is_near(summary.median, 4.5), "{summary:?}");
        assert!(is_near(summary.p90, 18.1), "{summary:?}");
        assert!(is_near(summary.p99, 91.81), "{summary:?}");
        assert!(is_near(summary.mean, 14.1), "{summary:?}");
        assert!(is_near(summary.stddev.unwrap(), 30.267143902258105), "{summary:?}");
        assert!(is_near(summary.mad, 1.5), "{summary:?}");
        assert_eq!(Summary::of(&[], &mut Random::new(1)), None);
        let single = Summary::of(&[3.0], &mut Random::new(1)).unwrap();
        assert_eq!((single.median, single.p99, single.stddev, single.mad), (3.0, 3.0, None, 0.0));
    }

    /// Known values of a bell curve: sums of uniform numbers.
    fn bell(n: usize, mean: f64, random: &mut Random) -> Vec<f64> {
        let unit = |random: &mut Random| random.number() as f64 / u64::MAX as f64;
        (0..n).map(|_| mean + (0..12).map(|_| unit(random)).sum::<f64>() - 6.0).collect()
    }

    #[test]
    fn an_interval_holds_the_true_median_as_often_as_it_says() {
        let mut random = Random::new(7);
        let holds = |random: &mut Random| {
            let interval = Summary::of(&bell(40, 50.0, random), random).unwrap().interval.unwrap();
            (interval.low..=interval.high).contains(&50.0)
        };
        let count = (0..200).filter(|_| holds(&mut random)).count();
        // 95 % of 200, and what chance allows.
        assert!((178..=200).contains(&count), "{count} of 200");
    }

    #[test]
    fn a_ratio_of_medians_has_an_interval_around_it() {
        let mut random = Random::new(3);
        let (slow, fast) = (bell(200, 100.0, &mut random), bell(200, 50.0, &mut random));
        let ratio = Ratio::of(&slow, &fast, &mut random).unwrap();
        assert!((1.98..2.02).contains(&ratio.value), "{ratio:?}");
        let interval = ratio.interval.unwrap();
        assert!(interval.low < ratio.value && ratio.value < interval.high && ratio.is_decided());
        assert!(interval.high - interval.low < 0.03, "{ratio:?}");
        assert_eq!(ratio.certainty(), 1.0);
        let same = Ratio::of(&[1.0; 5], &[1.0; 9], &mut random).unwrap();
        assert_eq!(same.certainty(), 0.5);
        assert_eq!(Ratio::of(&[], &fast, &mut random), None);
        assert_eq!(Ratio::of(&slow, &[0.0], &mut random), None);
    }

    #[test]
    fn a_difference_that_is_none_is_not_certain() {
        let mut random = Random::new(5);
        let (one, other) = (bell(100, 50.0, &mut random), bell(100, 50.0, &mut random));
        let ratio = Ratio::of(&one, &other, &mut random).unwrap();
        assert!(!ratio.is_decided(), "{ratio:?}");
        assert!(mann_whitney(&one, &other) > 0.01);
    }

    #[test]
    fn fewer_than_six_values_have_no_interval() {
        let mut random = Random::new(1);
        let values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let mut has = |n: usize| {
            let pairs: Vec<(u32, f64)> = (0..).zip(values[..n].iter().copied()).collect();
            let summary = Summary::of(&values[..n], &mut random).unwrap();
            let ratio = Ratio::of(&values[..n], &[0.1; 9], &mut random).unwrap();
            let paired = Paired::of(&pairs, &pairs, &mut random).unwrap();
            assert_eq!(ratio.is_decided(), ratio.interval.is_some());
            [summary.interval.is_some(), ratio.interval.is_some(), paired.interval.is_some()]
        };
        assert_eq!((has(5), has(6)), ([false; 3], [true; 3]));
    }

    #[test]
    fn a_machine_that_slows_down_changes_no_ratio_of_the_same_round() {
        let mut random = Random::new(1);
        let slowing = |of: f64| -> Vec<(u32, f64)> { (0..20).map(|n| (n, of * f64::from(n + 1))).collect() };
        let paired = Paired::of(&slowing(3.0), &slowing(2.0), &mut random).unwrap();
        let whole = Interval { low: 1.5, high: 1.5 };
        assert_eq!(paired, Paired { value: 1.5, interval: Some(whole) });
        assert!(paired.is_decided());
        // Rounds that only one of them has are no pairs.
        let other = Paired::of(&slowing(3.0)[10..], &slowing(2.0)[..15], &mut random).unwrap();
        assert_eq!((other.value, other.interval), (1.5, None));
        assert_eq!(Paired::of(&slowing(3.0)[10..], &slowing(2.0)[..10], &mut random), None);
    }

    /// R: wilcox.test(a, b, exact=FALSE, correct=TRUE).
    #[test]
    fn the_test_of_mann_and_whitney_gives_the_values_of_r() {
        let a = [0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46];
        let b = [1.15, 0.88, 0.90, 0.74, 1.21];
        assert!((mann_whitney(&a, &b) - 0.2448).abs() < 0.0005, "{}", mann_whitney(&a, &b));
        assert_eq!(mann_whitney(&[1.0, 1.0], &[1.0, 1.0]), 1.0);
        assert!(mann_whitney(&[1.0; 50], &[2.0; 50]) < 1e-6);
    }

    #[test]
    fn warnings_tell_a_slow_first_run_from_outliers_and_from_drift() {
        let mut random = Random::new(11);
        let quiet: Vec<f64> = bell(60, 100.0, &mut random);
        assert_eq!(warnings(&quiet), []);
        let mut slow_first = quiet.clone();
        slow_first[0] = 300.0;
        assert!(matches!(warnings(&slow_first)[..], [Warning::SlowFirst(ratio)] if ratio > 2.9));
        let mut outliers = quiet.clone();
        (outliers[10], outliers[20]) = (200.0, 500.0);
        let warned = warnings(&outliers);
        assert!(matches!(warned[..], [Warning::Outliers { count: 2, worst }] if worst > 4.9), "{warned:?}");
        let drift: Vec<f64> =
            (0..).zip(&quiet).map(|(n, value)| value + if n < 30 { 0.0 } else { 12.0 }).collect();
        assert!(matches!(warnings(&drift)[..], [Warning::Drift(ratio)] if ratio > 1.1));
        assert_eq!(warnings(&quiet[..9]), [Warning::Few(9)]);
        assert!(Warning::Few(9).to_string().starts_with("9 runs say little"));
        assert!(Warning::Few(1).to_string().starts_with("1 run says little"));
        for warning in warned.iter().chain(&warnings(&slow_first)).chain(&warnings(&quiet[..9])) {
            assert!(warning.to_string().contains(": "), "no advice: {warning}");
        }
    }

    proptest! {
        #[test]
        fn figures_are_in_order_and_do_not_depend_on_that_of_the_values(
            mut values in prop::collection::vec(0.001f64..1e6, 1..60), seed: u64,
        ) {
            let one = Summary::of(&values, &mut Random::new(seed)).unwrap();
            let order = [one.min, one.median, one.p90, one.p99, one.max];
            prop_assert!(order.is_sorted(), "{order:?}");
            prop_assert_eq!(one.interval.is_some(), one.n >= INTERVAL_MIN);
            if let Some(interval) = one.interval {
                prop_assert!(one.min <= interval.low && interval.low <= interval.high);
                prop_assert!(interval.high <= one.max);
            }
            values.reverse();
            let other = Summary::of(&values, &mut Random::new(seed)).unwrap();
            prop_assert_eq!(one, other);
        }
    }
}
