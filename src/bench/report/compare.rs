//! Then and now: the same race from a file, and how likely it is that a difference is one.

use super::Report;
use super::table::{millis, range, significant};
use crate::bench::random::Random;
use crate::bench::stats::{Ratio, mann_whitney};

/// What became of each subject that is in both.
pub fn text(then: &Report, now: &Report) -> String {
    let mut text = String::from("Then and now, until reaped:\n");
    let mut common = 0;
    for entry in &now.results {
        let Some(old) = then.entry(&entry.command) else { continue };
        let Some(ratio) = Ratio::of(&entry.times, &old.times, &mut Random::new(now.seed)) else { continue };
        common += 1;
        let verdict = match ratio.certainty() {
            certainty if certainty < 0.95 => "no difference to be seen",
            _ if ratio.value > 1.0 => "slower",
            _ => "faster",
        };
        text += &format!(
            "{:<11} {} → {} ms  × {} [{}]  {verdict}: {} likely, p {}\n",
            entry.command,
            millis(old.median),
            millis(entry.median),
            significant(ratio.value),
            range(ratio.interval, significant),
            percent(ratio.certainty()),
            probability(mann_whitney(&entry.times, &old.times)),
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

/// The share of resamples in which the medians differ in this direction; never certain.
fn percent(share: f64) -> String {
    if share > 0.999 { "over 99.9 %".into() } else { format!("{:.1} %", 100.0 * share) }
}

fn probability(p: f64) -> String {
    if p < 0.0001 { "< 0.0001".into() } else { format!("{p:.4}") }
}
