//! The tables of `bench memory` and `bench parallel`.

use super::sheet::Sheet;
use super::table::millis;
use crate::bench::memory::{Cost, Slope};
use crate::bench::parallel::Rates;

/// What an instance costs, in KiB: a row for each subject of which something is known.
pub fn memory(costs: &[Cost]) -> Sheet {
    let heads = ["KiB an instance", "available", "95 %", "PSS", "95 %", "instances"];
    let rows = costs.iter().filter_map(|Cost { name, figures, .. }| {
        let figures = figures.as_ref().ok()?;
        let [available, pss] = [figures.available, figures.pss].map(cells);
        let instances = figures.cycles.iter().flatten().map(|point| point.instances).max();
        let count = instances.map_or(String::new(), |count| count.to_string());
        Some([vec![name.clone()], available, pss, vec![count]].concat())
    });
    Sheet::figures(&heads, rows.collect())
}

/// What each instance is, or why there is none.
pub fn instances(costs: &[Cost]) -> Vec<(String, String)> {
    let about = |cost: &Cost| match &cost.figures {
        Ok(_) => (cost.name.clone(), cost.about.clone()),
        Err(why) => (cost.name.clone(), why.trim().to_owned()),
    };
    costs.iter().map(about).collect()
}

/// What a reader has to know about the columns.
pub const MEMORY_NOTES: &str = "\
Each figure is a slope: what one more idle instance costs when others are there already. available is what the whole
host loses (MemAvailable), the kernel's own tables included. Whatever else the host does is in it as well, and makes
the interval wide: one that reaches below zero says nothing but that the host was busy. PSS is what the instances'
processes hold, shared pages in parts; the kernel's tables are not in it. - is what cannot be read: PSS of a machine in its
sandbox is root's to read.
";

/// Value and interval.
fn cells(slope: Option<Slope>) -> Vec<String> {
    let Some(Slope { value, interval }) = slope else { return vec![String::new(); 2] };
    vec![format!("{value:.0}"), format!("{:.0} … {:.0}", interval.low, interval.high)]
}

/// How many start in a second: a row for each subject and number of concurrent starts.
pub fn parallel(rates: &[Rates]) -> Sheet {
    let heads = ["", "at once", "a second", "first byte, ms", "p99, ms", "starts", "failed"];
    let rows = rates.iter().flat_map(|Rates { name, levels }| {
        levels.iter().flatten().map(|level| {
            vec![
                name.clone(),
                level.at_once.to_string(),
                format!("{:.0}", level.per_second),
                millis(level.median),
                millis(level.p99),
                level.starts.to_string(),
                level.failures.to_string(),
            ]
        })
    });
    Sheet::figures(&heads, rows.collect())
}

/// Who has no rate, and why.
pub fn without_rates(rates: &[Rates]) -> Vec<(String, String)> {
    let absent = |rates: &Rates| Some((rates.name.clone(), rates.levels.as_ref().err()?.trim().to_owned()));
    rates.iter().filter_map(absent).collect()
}

/// What a reader has to know about the columns.
pub const PARALLEL_NOTES: &str = "\
So many threads start one instance after the other. a second counts instances that were started, did their work and
were given back. first byte is the median from the start of one instance to the first byte of its output; p99 is what
99 of 100 stay below.
";
