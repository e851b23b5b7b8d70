//! The result in words: which was first, by how much, and what the figures do and do not say.

use super::table::{millis, range, significant};
use super::{Entry, Report};
use crate::bench::random::Random;
use crate::bench::stats::Ratio;
use crate::bench::subject::Kind;

/// Three lines; fewer if there is nothing to compare.
pub fn text(report: &Report) -> String {
    let lines = [winner(report), ours(report), Some(scope(report))];
    lines.into_iter().flatten().map(|line| line + "\n").collect()
}

/// What is compared, in the order of the medians.
fn ranked(report: &Report) -> Vec<&Entry> {
    let mut ranked: Vec<&Entry> = report.results.iter().filter(|entry| entry.kind.is_ranked()).collect();
    ranked.sort_by(|one, other| one.median.total_cmp(&other.median));
    ranked
}

/// The ratio of two subjects' times until reaped, with its interval: `× 1.28 [1.26–1.30]`.
fn ratio(report: &Report, one: &Entry, other: &Entry) -> Option<String> {
    let ratio = Ratio::of(&one.times, &other.times, &mut Random::new(report.seed))?;
    Some(format!("× {} [{}]", significant(ratio.value), range(ratio.interval, significant)))
}

fn winner(report: &Report) -> Option<String> {
    let ranked = ranked(report);
    let [first, second, ..] = ranked.as_slice() else { return None };
    Some(format!(
        "Of {} subjects, {} was reaped first: {} ms after its start. Next came {}, with {} of that.",
        ranked.len(),
        first.command,
        millis(first.median),
        second.command,
        ratio(report, second, first)?
    ))
}

fn ours(report: &Report) -> Option<String> {
    let ours = report.results.iter().find(|entry| entry.kind == Kind::Vm)?;
    let others = ranked(report).into_iter().filter(|entry| entry.kind != Kind::Vm);
    let each = others.filter_map(|other| Some(format!("{} {}", other.command, ratio(report, ours, other)?)));
    let each: Vec<String> = each.collect();
    if each.is_empty() {
        return None;
    }
    Some(format!(
        "From start to end, a virtual machine took so much of the others' time: {}.",
        each.join(", ")
    ))
}

fn scope(report: &Report) -> String {
    let what = match report.payload.as_str() {
        "hello" => "a start and an end around one line of output",
        "primes" => "a start and an end around a little work",
        _ => "a start and an end around this payload",
    };
    format!(
        "This says how long {what} take, once everything is warm; not how work runs, nor what isolates better: a \
         container uses a kernel that was booted long ago, and a tiny guest is not Linux. `matchstick bench isolation` \
         shows what each of them shares with the host."
    )
}
