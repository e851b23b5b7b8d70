//! The same in words: what won, by how much, and what the figures do and do not say.

use super::table::{millis, range, significant};
use super::{Entry, Report};
use crate::bench::random::Random;
use crate::bench::stats::Ratio;

/// Without a world around the payload, without a process around the world, or the same world that begins otherwise:
/// not what is to be compared.
const APART: [&str; 5] = ["process", "vm-inproc", "vm-clone", "vm-pool", "vm-restore"];
/// What this program is about.
const OURS: &str = "vm";

/// Three lines; fewer if there is nothing to compare.
pub fn text(report: &Report) -> String {
    let lines = [winner(report), ours(report), Some(scope(report))];
    lines.into_iter().flatten().map(|line| line + "\n").collect()
}

/// The worlds in the order of their medians.
fn worlds(report: &Report) -> Vec<&Entry> {
    let mut worlds: Vec<&Entry> =
        report.results.iter().filter(|entry| !APART.contains(&entry.command.as_str())).collect();
    worlds.sort_by(|one, other| one.median.total_cmp(&other.median));
    worlds
}

/// The ratio of two subjects' times until reaped, with its interval: `× 1.28 [1.26–1.30]`.
fn ratio(report: &Report, one: &Entry, other: &Entry) -> Option<String> {
    let ratio = Ratio::of(&one.times, &other.times, &mut Random::new(report.seed))?;
    Some(format!("× {} [{}]", significant(ratio.value), range(ratio.interval, significant)))
}

fn winner(report: &Report) -> Option<String> {
    let worlds = worlds(report);
    let [first, second, ..] = worlds.as_slice() else { return None };
    Some(format!(
        "Of {} worlds, {} was reaped first: {} ms after its start. Next came {}, with {} of that.",
        worlds.len(),
        first.command,
        millis(first.median),
        second.command,
        ratio(report, second, first)?
    ))
}

fn ours(report: &Report) -> Option<String> {
    let ours = report.entry(OURS)?;
    let others = worlds(report).into_iter().filter(|entry| entry.command != OURS);
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
         shows what each world shares with the host."
    )
}
