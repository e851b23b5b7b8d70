//! A program's trace for viewers: the trace event format, and the page of [`html`](crate::trace::html). A row is a
//! thread, and a bar is a call, from when the VM was left until the program went on; between them it runs.

use super::line::what;
use super::sums::micros;
use crate::trace::html;
use serde_json::{Value, json};

/// What a bar needs of a record: its row, name, begin and length in µs. `None` for records that have none.
fn bar(record: &Value) -> Option<(u64, String, f64, f64)> {
    let number = |key: &str| record[key].as_u64().unwrap_or(0);
    let name = match record["event"].as_str()? {
        "call" => what(record),
        "exit" => record["why"].as_str()?.to_owned(),
        _ => return None,
    };
    Some((number("tid"), name, micros(number("at")), micros(number("wall") + number("host"))))
}

/// The details that a reader gets.
fn details(record: &Value) -> Value {
    let mut details = serde_json::Map::new();
    for (key, name) in [("vm", "in the VM before (µs)"), ("wall", "wall (µs)"), ("host", "host (µs)")] {
        details.insert(name.into(), micros(record[key].as_u64().unwrap_or(0)).into());
    }
    details.insert("host calls".into(), record["host_calls"].clone());
    details.into()
}

/// The whole in the trace event format.
pub fn chrome<'a>(name: &str, records: impl Iterator<Item = &'a Value>, dropped: u64) -> String {
    let mut events = Vec::new();
    for record in records {
        let pid = &record["pid"];
        if record["event"] == "program" {
            let path = record["path"].as_str().unwrap_or("?");
            events.push(json!({ "name": "process_name", "ph": "M", "pid": pid, "args": { "name": path } }));
        }
        let Some((tid, name, at, took)) = bar(record) else { continue };
        let args = details(record);
        events.push(json!({
            "name": name, "cat": record["event"], "ph": "X", "pid": pid, "tid": tid, "ts": at, "dur": took, "args": args,
        }));
    }
    let other = json!({ "program": name, "dropped events": dropped });
    json!({ "traceEvents": events, "displayTimeUnit": "ns", "otherData": other }).to_string()
}

/// The page, with `story` as its text.
pub fn html(name: &str, records: &[&Value], dropped: u64, story: &str) -> String {
    let bars: Vec<_> = records.iter().filter_map(|record| Some((bar(record)?, details(record)))).collect();
    let mut threads: Vec<u64> = Vec::new();
    for ((thread, ..), _) in &bars {
        if !threads.contains(thread) {
            threads.push(*thread);
        }
    }
    let row = |thread: u64| threads.iter().position(|known| *known == thread);
    let end = bars.iter().map(|((_, _, at, took), _)| at + took).fold(0.0, f64::max);
    let bars: Vec<Value> = bars
        .iter()
        .map(|((thread, name, at, took), details)| json!([row(*thread), name, at, took, details]))
        .collect();
    let rows: Vec<String> = threads.iter().map(|thread| format!("thread {thread}")).collect();
    let data =
        json!({ "guest": name, "rows": rows, "bars": bars, "total": end, "dropped": dropped, "overhead": 0 });
    html::filled(&data, story)
}
