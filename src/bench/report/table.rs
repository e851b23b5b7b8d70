//! The table: one row a subject, those that are missing included, and the machine above it.

use super::{Entry, Report};
use crate::bench::stats::{CONFIDENCE, Interval};
use comfy_table::{Cell, CellAlignment, Table, TableStyle};

/// The machine, the table and the warnings, as they are printed.
pub fn text(report: &Report) -> String {
    let mut text = String::new();
    for (word, line) in report.machine.lines() {
        text += &format!("{word:<11} {line}\n");
    }
    for caveat in &report.machine.caveats {
        text += &format!("{:<11} not like other machines: {caveat}\n", "warning");
    }
    text += &format!("{:<11} {}\n\n", "race", conditions(report));
    text += &rows(report);
    text += &beside(report);
    text
}

/// How it was run, in a line.
pub fn conditions(report: &Report) -> String {
    let pinned = report.pinned.map_or(String::new(), |cpu| format!(", all on CPU {cpu}"));
    format!(
        "payload {}, {} rounds after {} of warm-up, shuffled by seed {}{pinned}",
        report.payload, report.rounds, report.warmup, report.seed
    )
}

/// The heads of the table's columns.
pub fn heads(report: &Report) -> Vec<String> {
    let percent = format!("{:.0} %", 100.0 * CONFIDENCE);
    let reference = report.reference.as_deref().unwrap_or("-");
    let heads = [
        "ms",
        "first byte",
        "reaped",
        &percent,
        "min",
        "p90",
        "p99",
        "MAD",
        &format!("× {reference}"),
        &percent,
        "user",
        "system",
        "KiB",
        "n",
    ];
    heads.map(str::to_owned).to_vec()
}

/// The cells of one row.
pub fn cells(entry: &Entry) -> Vec<String> {
    let reaped = &entry.figures.reaped;
    let ratio = entry.ratios.map(|ratios| ratios.reaped);
    vec![
        entry.command.clone(),
        millis(entry.figures.first_byte.median),
        millis(reaped.median),
        range(reaped.interval, millis),
        millis(reaped.min),
        millis(reaped.p90),
        millis(reaped.p99),
        millis(reaped.mad),
        ratio.map_or("-".into(), |ratio| significant(ratio.value)),
        ratio.map_or("-".into(), |ratio| range(ratio.interval, significant)),
        millis(entry.user),
        millis(entry.system),
        entry.peak_kib.map_or("-".into(), kib),
        reaped.n.to_string(),
    ]
}

fn rows(report: &Report) -> String {
    let rows: Vec<Vec<String>> = report.results.iter().map(cells).collect();
    if rows.is_empty() {
        return String::new();
    }
    columns(&heads(report), &rows, CellAlignment::Right)
}

/// Rows below heads, without lines between them. The first column is at the left, the others as `alignment` says.
pub(super) fn columns(heads: &[String], rows: &[Vec<String>], alignment: CellAlignment) -> String {
    let mut table = Table::new();
    table.load_style(TableStyle::new());
    table.set_header(heads);
    for row in rows {
        let cells = row.iter().zip(0..);
        table.add_row(cells.map(|(text, n)| {
            Cell::new(text).set_alignment(if n == 0 { CellAlignment::Left } else { alignment })
        }));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(alignment);
        column.set_padding((1, 0));
    }
    if let Some(first) = table.column_mut(0) {
        first.set_padding((0, 0));
    }
    table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// What stands below the rows: who is not among them, and what is to be said against those who are.
fn beside(report: &Report) -> String {
    let mut text = String::new();
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

/// `low–high`.
pub fn range(interval: Interval, show: impl Fn(f64) -> String) -> String {
    format!("{}–{}", show(interval.low), show(interval.high))
}

/// Linux counts a process's pages in batches: a very small one has none.
fn kib(kib: u64) -> String {
    if kib == 0 { "few".into() } else { kib.to_string() }
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
