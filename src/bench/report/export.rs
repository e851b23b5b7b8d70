//! The report as a file: JSON with every sample, CSV and Markdown with the table, HTML with plots.

use super::table::{cells, conditions, heads};
use super::{Report, html, words};
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
}

/// The report in that form.
pub fn text(report: &Report, form: Form) -> io::Result<String> {
    Ok(match form {
        Form::Json => serde_json::to_string_pretty(report)? + "\n",
        Form::Csv => csv(report),
        Form::Markdown => markdown(report),
        Form::Html => html::page(report),
    })
}

fn csv(report: &Report) -> String {
    let mut text = String::from(
        "command,mean,stddev,median,user,system,min,max,n,p90,p99,mad,low,high,first_byte,ratio,ratio_low,\
         ratio_high,peak_kib,failures\n",
    );
    for entry in &report.results {
        let reaped = &entry.figures.reaped;
        let ratio = entry.ratios.map(|ratios| ratios.reaped);
        let number = |number: Option<f64>| number.map_or(String::new(), |number| number.to_string());
        let cells = [
            quoted(&entry.command),
            entry.mean.to_string(),
            entry.stddev.to_string(),
            entry.median.to_string(),
            entry.user.to_string(),
            entry.system.to_string(),
            entry.min.to_string(),
            entry.max.to_string(),
            reaped.n.to_string(),
            reaped.p90.to_string(),
            reaped.p99.to_string(),
            reaped.mad.to_string(),
            reaped.interval.low.to_string(),
            reaped.interval.high.to_string(),
            entry.figures.first_byte.median.to_string(),
            number(ratio.map(|ratio| ratio.value)),
            number(ratio.map(|ratio| ratio.interval.low)),
            number(ratio.map(|ratio| ratio.interval.high)),
            entry.peak_kib.map_or(String::new(), |kib| kib.to_string()),
            entry.failures.to_string(),
        ];
        text += &(cells.join(",") + "\n");
    }
    text
}

/// A value that may hold a comma (RFC 4180).
fn quoted(text: &str) -> String {
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.into(),
    }
}

fn markdown(report: &Report) -> String {
    let row = |cells: Vec<String>| {
        let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let heads = heads(report);
    let mut text = row(heads.clone());
    text += &format!("|---|{}\n", "---:|".repeat(heads.len() - 1));
    text.extend(report.results.iter().map(|entry| row(cells(entry))));
    text += "\n";
    text.extend(report.missing.iter().map(|absent| format!("- {}: {}\n", absent.name, absent.missing)));
    let dropped = report.dropped.iter();
    text.extend(dropped.map(|dropped| format!("- {}: dropped, {}\n", dropped.name, dropped.failure.why)));
    text.extend(report.machine.lines().iter().map(|(word, line)| format!("- {word}: {line}\n")));
    text.extend(report.machine.caveats.iter().map(|caveat| format!("- not like other machines: {caveat}\n")));
    text += &format!("- race: {}\n\n", conditions(report));
    text + &words::text(report)
}
