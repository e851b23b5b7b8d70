//! The report as a file: JSON with every sample, CSV and Markdown with the table, HTML with plots.

use super::bars;
use super::sheet::Sheet;
use super::table::{conditions, ratios, times};
use super::{Entry, Report, compare, html, words};
use crate::bench::subject::Class;
use crate::sys::date;
use std::io;

/// A form of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Everything, every sample included.
    Json,
    /// A line a subject; hyperfine's columns first.
    Csv,
    /// A table for a README.
    Markdown,
    /// A page with plots.
    Html,
    /// A picture: bars with intervals.
    Svg,
}

/// The report in that form. `then` is an older race that it is held against.
///
/// # Errors
/// Of writing JSON.
pub fn text(report: &Report, then: Option<&Report>, form: Form) -> io::Result<String> {
    Ok(match form {
        Form::Json => serde_json::to_string_pretty(report)? + "\n",
        Form::Csv => values(report).csv(),
        Form::Markdown => markdown(report, then),
        Form::Html => html::page(report, then),
        Form::Svg => {
            let machine = report.machine.lines().swap_remove(0).1;
            let when = format!("{} UTC, {}, {}", date(report.machine.time), report.program, report.command);
            let load =
                report.machine.load.map_or(String::new(), |load| format!("; load {load:.2} before the race"));
            let lines =
                [format!("{machine}{load}"), when, "Medians until reaped, and their intervals (95 %)".into()];
            bars::alone("VM start against container start", &lines, &bars::of_race(report))
        }
    })
}

/// A line a subject, with full values in seconds; hyperfine's columns first.
fn values(report: &Report) -> Sheet {
    let heads = [
        "command",
        "mean",
        "stddev",
        "median",
        "user",
        "system",
        "min",
        "max",
        "n",
        "p90",
        "p99",
        "mad",
        "low",
        "high",
        "first_byte",
        "reference",
        "ratio",
        "ratio_low",
        "ratio_high",
        "paired",
        "paired_low",
        "paired_high",
        "peak_kib",
        "failures",
    ];
    let number = |number: Option<f64>| number.map_or(String::new(), |number| number.to_string());
    let row = |entry: &Entry| {
        let (reaped, ratios) = (&entry.figures.reaped, entry.ratios.as_ref());
        let [interval, ratio, paired] = [
            reaped.interval,
            ratios.and_then(|ratios| ratios.reaped.interval),
            ratios.and_then(|ratios| ratios.paired.interval),
        ]
        .map(|interval| [interval.map(|it| it.low), interval.map(|it| it.high)].map(number));
        let times =
            [entry.median, entry.user, entry.system, entry.min, entry.max].map(|time| time.to_string());
        let rest = [reaped.p90, reaped.p99, reaped.mad].map(|time| time.to_string());
        [
            vec![entry.command.clone(), entry.mean.to_string(), number(entry.stddev)],
            times.to_vec(),
            vec![reaped.n.to_string()],
            rest.to_vec(),
            interval.to_vec(),
            vec![entry.figures.first_byte.median.to_string()],
            vec![ratios.map_or(String::new(), |ratios| ratios.to.clone())],
            vec![number(ratios.map(|ratios| ratios.reaped.value))],
            ratio.to_vec(),
            vec![number(ratios.map(|ratios| ratios.paired.value))],
            paired.to_vec(),
            vec![entry.peak_kib.map_or(String::new(), |kib| kib.to_string()), entry.failures.to_string()],
        ]
        .concat()
    };
    Sheet::figures(&heads, report.results.iter().map(row).collect())
}

fn markdown(report: &Report, then: Option<&Report>) -> String {
    let mut text = String::new();
    for class in Class::ALL {
        if !report.of_class(class).is_empty() {
            let (times, ratios) = (times(report, class).markdown(), ratios(report, class).markdown());
            text += &format!("**{}**\n\n{times}\n{ratios}\n", class.title());
        }
    }
    text.extend(report.missing.iter().map(|absent| format!("- {}: {}\n", absent.name, absent.missing)));
    let dropped = report.dropped.iter();
    text.extend(dropped.map(|dropped| format!("- {}: dropped, {}\n", dropped.name, dropped.failure.why)));
    text.extend(report.machine.lines().iter().map(|(word, line)| format!("- {word}: {line}\n")));
    text.extend(report.machine.caveats.iter().map(|caveat| format!("- not like other machines: {caveat}\n")));
    text += &format!("- race: {}, by `{}`\n\n", conditions(report), report.command);
    if let Some(then) = then {
        let remarks = compare::remarks(then, report).into_iter().map(|line| format!("- {line}\n"));
        text += &format!(
            "Then and now:\n\n{}\n{}\n",
            compare::sheet(then, report).markdown(),
            remarks.collect::<String>()
        );
    }
    text + &words::text(report)
}
