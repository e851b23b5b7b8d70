//! The comparison with an older race: the ratio for each subject, and how likely it is that it has changed.

use super::Report;
use super::sheet::Sheet;
use super::table::{maybe_range, millis, significant};
use crate::bench::random::Random;
use crate::bench::stats::{Ratio, mann_whitney};

/// How each subject that is in both races has changed.
pub fn text(then: &Report, now: &Report) -> String {
    let sheet = sheet(then, now);
    let nobody = if sheet.rows.is_empty() { "no subject is in both\n" } else { "" };
    let remarks = remarks(then, now).into_iter().map(|line| format!("{:<11} {line}\n", "warning"));
    format!("Then and now, until reaped:\n{}{nobody}{}", sheet.text(), remarks.collect::<String>())
}

/// The same as a table.
pub fn sheet(then: &Report, now: &Report) -> Sheet {
    let row = |entry: &super::Entry| {
        let old = then.entry(&entry.command)?;
        let ratio = Ratio::of(&entry.times, &old.times, &mut Random::new(now.seed))?;
        let p = mann_whitney(&entry.times, &old.times);
        Some(vec![
            entry.command.clone(),
            millis(old.median),
            millis(entry.median),
            significant(ratio.value),
            maybe_range(ratio.interval, significant),
            verdict(&ratio, p),
            probability(p),
        ])
    };
    let heads = ["ms", "then", "now", "ratio", "95 %", "verdict", "p"];
    Sheet::words(&heads, now.results.iter().filter_map(row).collect())
}

/// What the two races do not have in common.
pub fn remarks(then: &Report, now: &Report) -> Vec<String> {
    let mut remarks = Vec::new();
    if then.payload != now.payload {
        remarks.push(format!("the payload was {}: not the same race", then.payload));
    }
    let differences = then.machine.differences(&now.machine);
    remarks.extend(differences.iter().map(|difference| format!("another machine: {difference}")));
    remarks
}

/// It has changed if both tests say so: with few values, all resamples may agree by chance.
fn verdict(ratio: &Ratio, p: f64) -> String {
    let share = percent(ratio.certainty());
    match ratio.certainty() >= 0.95 && p < 0.05 {
        _ if ratio.interval.is_none() => "too few rounds to tell".into(),
        false => format!("no difference to be seen: {share} likely"),
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
        verdict(&Ratio { value, interval: Some(Interval { low: value, high: value }), larger }, p)
    }

    #[test]
    fn a_difference_takes_both_the_resamples_and_the_test() {
        assert_eq!(of(1.2, 0.97, 0.01), "slower: 97.0 % likely");
        assert_eq!(of(0.8, 0.0, 0.00001), "faster: over 99.9 % likely");
        assert_eq!(
            verdict(&Ratio { value: 9.0, interval: None, larger: 1.0 }, 0.0),
            "too few rounds to tell"
        );
        // Few values against many.
        let none = "no difference to be seen:";
        assert_eq!(of(1.2, 0.999, 0.2398), format!("{none} 99.9 % likely"));
        assert_eq!(of(0.9, 0.056, 0.01), format!("{none} 94.4 % likely"));
    }
}
