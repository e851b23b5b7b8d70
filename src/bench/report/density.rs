//! The tables of `bench memory` and `bench parallel`.

use super::table::columns;
use crate::bench::memory::{Cost, Slope};
use crate::bench::parallel::Rates;
use comfy_table::CellAlignment;

/// What an instance costs: a row for each subject.
pub fn memory(costs: &[Cost]) -> String {
    let heads = ["KiB an instance", "available", "95 %", "PSS", "95 %", "instances"].map(str::to_owned);
    let mut rows = Vec::new();
    let mut notes = String::new();
    for Cost { name, about, figures } in costs {
        match figures {
            Ok(figures) => {
                let [available, pss] = [figures.available, figures.pss].map(cells);
                let instances = figures.cycles.iter().flatten().map(|point| point.instances);
                let count = instances.max().unwrap_or(0).to_string();
                rows.push([vec![name.clone()], available, pss, vec![count]].concat());
                notes += &format!("{name:<11} {about}\n");
            }
            Err(why) => notes += &format!("{name:<11} {}\n", why.trim()),
        }
    }
    format!("{}\n{notes}\n{MEMORY_NOTES}", columns(&heads, &rows, CellAlignment::Right))
}

const MEMORY_NOTES: &str = "\
Each figure is a slope: what one more idle instance costs when others are there already. available is what the whole
host loses (MemAvailable), the kernel's own tables included. Whatever else the host does is in it as well, and makes
the interval wide: one that reaches below zero says nothing but that the host was busy. PSS is what the instances'
processes hold, shared pages in parts; the kernel's tables are not in it. - is what cannot be read: PSS of a machine in its
sandbox is root's to read.
";

/// Value and interval.
fn cells(slope: Option<Slope>) -> Vec<String> {
    let Some(slope) = slope else { return vec!["-".into(), "-".into()] };
    let range = slope.interval;
    vec![format!("{:.0}", slope.value), format!("{:.0} … {:.0}", range.low, range.high)]
}

/// How many start in a second: a row for each subject and number of concurrent starts.
pub fn parallel(rates: &[Rates]) -> String {
    let heads =
        ["", "at once", "a second", "first byte, ms", "p99, ms", "starts", "failed"].map(str::to_owned);
    let mut rows = Vec::new();
    let mut notes = String::new();
    for Rates { name, levels } in rates {
        match levels {
            Ok(levels) => rows.extend(levels.iter().map(|level| {
                vec![
                    name.clone(),
                    level.at_once.to_string(),
                    format!("{:.0}", level.per_second),
                    millis(level.median),
                    millis(level.p99),
                    level.starts.to_string(),
                    level.failures.to_string(),
                ]
            })),
            Err(why) => notes += &format!("{name:<11} {}\n", why.trim()),
        }
    }
    format!("{}{notes}\n{PARALLEL_NOTES}", columns(&heads, &rows, CellAlignment::Right))
}

const PARALLEL_NOTES: &str = "\
So many threads start one instance after the other. a second counts instances that were started, did their work and
were given back. first byte is the median from the start of one instance to the first byte of its output; p99 is what
99 of 100 stay below.
";

fn millis(seconds: f64) -> String {
    format!("{:.2}", seconds * 1e3)
}
