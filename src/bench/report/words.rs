//! The result in words: which was first, by how much, and what the figures do and do not say.
//!
//! Nobody is first by chance: where 1 lies in the interval of a ratio, no order is told.

use super::table::{maybe_range, millis, significant};
use super::{Entry, Ratios, Report};
use crate::bench::random::Random;
use crate::bench::stats::INTERVAL_MIN;
use crate::bench::subject::Class;

/// A line each; fewer if there is nothing to compare.
pub fn text(report: &Report) -> String {
    let of_class = |class| {
        let mut lines: Vec<String> = winner(report, class).into_iter().collect();
        lines.extend(ours(report, class));
        lines
    };
    let lines = Class::ALL.into_iter().flat_map(of_class);
    report.verdict().into_iter().chain(lines).chain([scope(report)]).map(|line| line + "\n").collect()
}

/// What is compared, in the order of the medians.
fn ranked(report: &Report, class: Class) -> Vec<&Entry> {
    let mut ranked = report.of_class(class);
    ranked.retain(|entry| entry.kind.is_ranked());
    ranked.sort_by(|one, other| one.median.total_cmp(&other.median));
    ranked
}

/// How one compares with another.
fn ratios(report: &Report, one: &Entry, other: &Entry) -> Option<Ratios> {
    Ratios::of(&one.samples, &other.samples, &other.command, &mut Random::new(report.seed))
}

/// `× 1.28 [1.26–1.30]`
fn shown(ratios: &Ratios) -> String {
    let interval = maybe_range(ratios.reaped.interval, significant);
    let interval = if interval.is_empty() { interval } else { format!(" [{interval}]") };
    format!("× {}{interval}", significant(ratios.reaped.value))
}

fn winner(report: &Report, class: Class) -> Option<String> {
    let ranked = ranked(report, class);
    let [first, second, ..] = ranked.as_slice() else { return None };
    let ratios = ratios(report, second, first)?;
    let (what, end) = match class {
        Class::Command => ("commands", "reaped"),
        Class::Inside => ("that a process starts itself", "given back"),
    };
    let all = format!("Of {} {what}", ranked.len());
    let (first, median, second) = (&first.command, millis(first.median), &second.command);
    Some(if ratios.reaped.interval.is_none() || ratios.paired.interval.is_none() {
        format!("{all} none is ranked: that takes {INTERVAL_MIN} rounds or more.")
    } else if ratios.is_decided() {
        let ratio = shown(&ratios);
        format!(
            "{all}, {first} was {end} first: {median} ms after its start. Next came {second}, with {ratio} of that."
        )
    } else {
        let ratio = shown(&ratios);
        format!(
            "{all}, {first} and {second} cannot be told apart: {second} took {ratio} of {first}'s {median} ms."
        )
    })
}

fn ours(report: &Report, class: Class) -> Vec<String> {
    let ranked = ranked(report, class);
    let of_one = |ours: &&Entry| {
        let others = ranked.iter().filter(|other| !other.kind.is_ours());
        let each = others.filter_map(|other| {
            let ratios = ratios(report, ours, other)?;
            let doubt = if ratios.is_decided() { "" } else { " (no difference to be seen)" };
            Some(format!("{} {}{doubt}", other.command, shown(&ratios)))
        });
        let each: Vec<String> = each.collect();
        (!each.is_empty()).then(|| {
            format!(
                "From start to end, {} took so much of the others' time: {}.",
                ours.command,
                each.join(", ")
            )
        })
    };
    ranked.iter().filter(|entry| entry.kind.is_ours()).filter_map(of_one).collect()
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
