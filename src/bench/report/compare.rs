//! The comparison with an older race: the ratio for each subject, and how likely it is that it has changed.

use super::Report;
use super::table::{millis, range, significant};
use crate::bench::random::Random;
use crate::bench::stats::{Ratio, mann_whitney};

/// How each subject that is in both races has changed.
pub fn text(then: &Report, now: &Report) -> String {
    let mut text = String::from("Then and now, until reaped:\n");
    let mut common = 0;
    for entry in &now.results {
        let Some(old) = then.entry(&entry.command) else { continue };
        let Some(ratio) = Ratio::of(&entry.times, &old.times, &mut Random::new(now.seed)) else { continue };
        common += 1;
        let p = mann_whitney(&entry.times, &old.times);
        text += &format!(
            "{:<11} {} → {} ms  × {} [{}]  {}, p {}\n",
            entry.command,
            millis(old.median),
            millis(entry.median),
            significant(ratio.value),
            range(ratio.interval, significant),
            verdict(&ratio, p),
            probability(p),
        );
    }
    if common == 0 {
        text += "no subject is in both\n";
    }
    if then.payload != now.payload {
        text += &format!("{:<11} the payload was {}: not the same race\n", "warning", then.payload);
    }
    let differences = then.machine.differences(&now.machine);
    text.extend(
        differences.iter().map(|difference| format!("{:<11} another machine: {difference}\n", "warning")),
    );
    text
}

/// It has changed if both tests say so: with few values, all resamples may agree by chance.
fn verdict(ratio: &Ratio, p: f64) -> String {
    let share = percent(ratio.certainty());
    match ratio.certainty() >= 0.95 && p < 0.05 {
        false => format!("no difference to be seen: the same direction in {share} of resamples"),
        true if ratio.value > 1.0 => format!("slower: {share} likely"),
        true => format!("faster: {share} likely"),
    }
}

/// The share of resamples in which the medians differ in this direction; never certain.
fn percent(share: f64) -> String {
    if share > 0.999 { "over 99.9 %".into() } else { format!("{:.1} %", 100.0 * share) }
}

fn probability(p: f64) -> String {
    if p < 0.0001 { "< 0.0001".into() } else { format!("{p:.4}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::stats::Interval;

    fn of(value: f64, larger: f64, p: f64) -> String {
        verdict(&Ratio { value, interval: Interval { low: value, high: value }, larger }, p)
    }

    #[test]
    fn a_difference_takes_both_the_resamples_and_the_test() {
        assert_eq!(of(1.2, 0.97, 0.01), "slower: 97.0 % likely");
        assert_eq!(of(0.8, 0.0, 0.00001), "faster: over 99.9 % likely");
        // Two values against many.
        let none = "no difference to be seen: the same direction in";
        assert_eq!(of(1.2, 0.999, 0.2398), format!("{none} 99.9 % of resamples"));
        assert_eq!(of(0.9, 0.056, 0.01), format!("{none} 94.4 % of resamples"));
    }
}
