//! The figures of the lessons about who serves a program's system calls: of one small program, in a VM without a kernel.

use super::measure::in_words;
use serde_json::Value;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The names of these figures.
pub(super) const NAMES: [&str; 5] =
    ["exec_calls", "exec_host_calls", "exec_round_trip", "exec_wall", "exec_host"];

/// What is run: it is on every host, and does nothing but start and end.
const PROGRAM: &str = "true";

/// All of them, by one run of this program itself. `None` where that cannot be.
pub(super) fn measure() -> Vec<(String, Option<String>)> {
    let summary = summary();
    let figure = |name: &str| {
        let summary = summary.as_ref()?;
        let calls = summary["calls"].as_object()?.values();
        let time = |key: &str| Some(in_words(Duration::from_nanos(summary[key].as_u64()?)));
        match name {
            "exec_calls" => Some(calls.filter_map(|call| call["count"].as_u64()).sum::<u64>().to_string()),
            "exec_host_calls" => Some(summary["host_calls"].as_u64()?.to_string()),
            "exec_round_trip" => time("round_trip"),
            "exec_wall" => time("wall"),
            _ => time("host"),
        }
    };
    NAMES.iter().map(|&name| (name.to_owned(), figure(name))).collect()
}

/// What a trace says at its end.
fn summary() -> Option<Value> {
    let mut command = Command::new(std::env::current_exe().ok()?);
    command.args(["trace", "exec", "--json", PROGRAM]).stdin(Stdio::null());
    let traced = command.output().ok().filter(|traced| traced.status.success())?;
    let text = String::from_utf8(traced.stderr).ok()?;
    let last: Value = serde_json::from_str(text.lines().last()?).ok()?;
    (last["event"] == "summary").then_some(last)
}
