//! The tables of a race: one row a subject, those that are missing named below, and the machine above.
//!
//! What is executed and what a process starts itself are two tables: only what is started alike is compared. Each is
//! shown in two parts, times and ratios, so that it fits a terminal of 80 columns.

use super::sheet::Sheet;
use super::{Entry, Ratios, Report};
use crate::bench::stats::{CONFIDENCE, Interval};
use crate::bench::subject::Class;
use crate::sys::date;
use crate::text::counted;

/// The machine, the tables and the warnings, as they are printed.
pub fn text(report: &Report) -> String {
    let mut text = String::new();
    for (word, line) in report.machine.lines() {
        text += &format!("{word:<11} {line}\n");
    }
    for caveat in &report.machine.caveats {
        text += &format!("{:<11} not like other machines: {caveat}\n", "warning");
    }
    text += &format!("{:<11} {}\n", "race", conditions(report));
    for class in Class::ALL {
        if !report.of_class(class).is_empty() {
            let (times, ratios) = (times(report, class), ratios(report, class));
            text += &format!("\n{}\n{}\n{}", class.title(), times.text(), ratios.text());
        }
    }
    text + &beside(report)
}

/// How it was run, in a line.
pub fn conditions(report: &Report) -> String {
    let pinned = report.pinned.map_or(String::new(), |cpu| format!(", all on CPU {cpu}"));
    format!(
        "{} UTC, payload {}, {} after {} of warm-up, shuffled by seed {}{pinned}",
        date(report.machine.time),
        report.payload,
        counted(report.rounds as usize, "round"),
        report.warmup,
        report.seed
    )
}

/// Both times of these subjects, in milliseconds.
pub fn times(report: &Report, class: Class) -> Sheet {
    let heads = ["ms", "first byte", "reaped", &percent(), "min", "p90", "p99", "MAD", "n"];
    let row = |entry: &&Entry| {
        let reaped = &entry.figures.reaped;
        vec![
            entry.command.clone(),
            millis(entry.figures.first_byte.median),
            millis(reaped.median),
            maybe_range(reaped.interval, millis),
            millis(reaped.min),
            millis(reaped.p90),
            millis(reaped.p99),
            millis(reaped.mad),
            reaped.n.to_string(),
        ]
    };
    Sheet::figures(&heads, report.of_class(class).iter().map(row).collect())
}

/// The ratios of these subjects to their reference, and what else they took.
pub fn ratios(report: &Report, class: Class) -> Sheet {
    let reference = report.reference_of(class).unwrap_or_default();
    let (ratio, percent) = (format!("× {reference}"), percent());
    let heads = ["", &ratio, &percent, "by rounds", &percent, "user", "system", "KiB"];
    let row = |entry: &&Entry| {
        let [value, interval, paired, paired_interval] = cells(entry, reference);
        let kib = entry.peak_kib.map_or(String::new(), |kib| kib.to_string());
        let (user, system) = (millis(entry.user), millis(entry.system));
        vec![entry.command.clone(), value, interval, paired, paired_interval, user, system, kib]
    };
    Sheet::figures(&heads, report.of_class(class).iter().map(row).collect())
}

/// A ratio with its interval, and that of the same rounds with its own. The reference is itself, without any doubt.
fn cells(entry: &Entry, reference: &str) -> [String; 4] {
    match &entry.ratios {
        Some(Ratios { reaped, paired, .. }) => [
            significant(reaped.value),
            maybe_range(reaped.interval, significant),
            significant(paired.value),
            maybe_range(paired.interval, significant),
        ],
        None if entry.command == reference => ["1", "", "1", ""].map(str::to_owned),
        None => [(); 4].map(|()| String::new()),
    }
}

fn percent() -> String {
    format!("{:.0} %", 100.0 * CONFIDENCE)
}

/// What stands below the rows: who is not among them, and what is to be said against those who are.
fn beside(report: &Report) -> String {
    let mut text = String::from("\n");
    for entry in &report.results {
        if let Some(cold) = &entry.cold {
            let (first, reaped) = (millis(cold.first_byte.median), millis(cold.reaped.median));
            let n = cold.reaped.n;
            text += &format!("{:<11} cold: first byte {first}, reaped {reaped} ms (n {n})\n", entry.command);
        }
    }
    for absent in &report.missing {
        text += &format!("{:<11} {}\n", absent.name, absent.missing);
    }
    for dropped in &report.dropped {
        let (failures, failure) = (dropped.failures, &dropped.failure);
        let all = if failures == 1 { "a failure".into() } else { format!("{failures} failures") };
        text += &format!("{:<11} dropped after {all}: {}\n", dropped.name, failure.why);
        text.extend(failure.stderr.lines().map(|line| format!("{:<11} | {line}\n", "")));
    }
    for entry in &report.results {
        if entry.failures > 0 && !report.dropped.iter().any(|dropped| dropped.name == entry.command) {
            let starts = if entry.failures == 1 { "start" } else { "starts" };
            text += &format!("{:<11} {} more {starts} failed\n", entry.command, entry.failures);
        }
        text.extend(entry.warnings.iter().map(|warning| format!("{:<11} {warning}\n", entry.command)));
    }
    text.extend(report.notes.iter().map(|note| format!("{:<11} {note}\n", "note")));
    if let Some(launcher) = &report.launcher {
        let reaped = millis(launcher.reaped.median);
        text += &format!(
            "{:<11} an empty program takes {reaped} ms: so much of each row that is a process is the launcher's\n",
            "launcher"
        );
    }
    text
}

/// Seconds as milliseconds, to three figures.
pub fn millis(seconds: f64) -> String {
    significant(seconds * 1000.0)
}

/// A number to three figures, without an exponent.
pub fn significant(number: f64) -> String {
    let digits = match number.abs() {
        0.0 => 0,
        size => (2 - size.log10().floor() as i32).clamp(0, 6) as usize,
    };
    format!("{number:.digits$}")
}

/// The same of an interval that there may not be: then nothing.
pub fn maybe_range(interval: Option<Interval>, show: impl Fn(f64) -> String) -> String {
    interval.map_or(String::new(), |interval| range(interval, show))
}

/// `low–high`.
pub fn range(interval: Interval, show: impl Fn(f64) -> String) -> String {
    format!("{}–{}", show(interval.low), show(interval.high))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_three_figures_and_no_exponent() {
        for (number, text) in [
            (0.0, "0"),
            (0.0741234, "0.0741"),
            (0.000123456, "0.000123"),
            (0.9996, "1.000"),
            (1.0, "1.00"),
            (36.449, "36.4"),
            (284.4, "284"),
            (12345.6, "12346"),
        ] {
            assert_eq!(significant(number), text);
        }
        assert_eq!(range(Interval { low: 0.0012, high: 0.0123 }, millis), "1.20–12.3");
    }
}
