//! The trace for programs: JSON with one event a line, and the format that trace viewers open.
//!
//! Source of the latter: "Trace Event Format" of the Chromium project, which Perfetto and chrome://tracing read.

use super::event::{Event, EventKind, ExitRecord};
use super::{Recording, code, story};
use crate::text::hex;
use serde_json::{Value, json};
use std::time::Duration;

/// One JSON object a line: `phase`, `call`, `exit`, `dropped`, and at the end `summary`. Times are in nanoseconds.
pub fn lines(recording: &Recording) -> String {
    let mut all: Vec<Value> = recording.events.first().iter().map(|event| value(recording, event)).collect();
    if recording.events.dropped() > 0 {
        all.push(json!({ "event": "dropped", "count": recording.events.dropped() }));
    }
    all.extend(recording.events.last().map(|event| value(recording, event)));
    all.push(summary(recording));
    all.iter().map(|value| format!("{value}\n")).collect()
}

fn value(recording: &Recording, event: &Event) -> Value {
    let (at, took) = (nanos(event.at), nanos(event.took));
    match &event.kind {
        EventKind::Phase(phase) => {
            json!({ "event": "phase", "at": at, "took": took, "phase": phase.to_string() })
        }
        EventKind::Call(call) => {
            json!({ "event": "call", "at": at, "took": took, "call": call.name(), "words": call.to_string() })
        }
        EventKind::Exit(exit) => {
            let mut value = json!({ "event": "exit", "at": at, "took": took });
            if let (Value::Object(all), Value::Object(more)) = (&mut value, details(recording, exit)) {
                all.extend(more);
            }
            value
        }
    }
}

/// What is known of an exit.
fn details(recording: &Recording, exit: &ExitRecord) -> Value {
    let mut value = json!({
        "reason": exit.reason.name(),
        "rip": exit.rip,
        "guest": nanos(exit.inside),
        "host": nanos(exit.outside),
    });
    if exit.reason.is_access() {
        value[if exit.reason.is_port() { "port" } else { "address" }] = exit.address.into();
        value["size"] = exit.size.into();
        value["len"] = exit.len.into();
        value["data"] = hex(exit.bytes()).replace(' ', "").into();
        value["text"] = String::from_utf8_lossy(exit.bytes()).into();
        value["device"] = exit.device.into();
    }
    if let Some(code) = exit.code.and_then(|code| recording.codes.get(code)) {
        let (at, instruction) = code::instruction(exit, code);
        value["instruction"] = instruction.into();
        value["instruction_at"] = at.into();
    }
    value
}

fn summary(recording: &Recording) -> Value {
    let split = recording.split();
    let exits: serde_json::Map<String, Value> = recording
        .exits
        .iter()
        .map(|(reason, tally)| {
            let value =
                json!({ "count": tally.count, "guest": nanos(tally.inside), "host": nanos(tally.outside) });
            (reason.name().into(), value)
        })
        .collect();
    json!({
        "event": "summary",
        "guest": recording.name,
        "exits": exits,
        "total": nanos(recording.total),
        "guest_at_most": nanos(split.guest),
        "kvm_at_least": nanos(split.kvm),
        "vmm": nanos(split.vmm),
        "dropped": recording.events.dropped(),
        "overhead": nanos(recording.overhead),
    })
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The rows of a viewer, from the top.
const ROWS: [&str; 4] = ["phases", "calls to Linux and KVM", "guest (in KVM_RUN)", "devices (VMM)"];

/// The whole in the trace event format.
pub fn chrome(recording: &Recording) -> String {
    let mut events: Vec<Value> = vec![name("process_name", 0, &format!("matchstick {}", recording.name))];
    events.extend(ROWS.iter().zip(0..).map(|(row, thread)| name("thread_name", thread, row)));
    events.extend(bars(recording).into_iter().map(|bar| {
        json!({
            "name": bar.name, "cat": ROWS[bar.row], "ph": "X", "pid": 1, "tid": bar.row,
            "ts": micros(bar.at), "dur": micros(bar.took), "args": bar.details,
        })
    }));
    let dropped = recording.events.dropped();
    let other = json!({ "dropped events": dropped, "tracing took (µs)": micros(recording.overhead) });
    json!({ "traceEvents": events, "displayTimeUnit": "ns", "otherData": other }).to_string()
}

fn name(what: &str, thread: usize, name: &str) -> Value {
    json!({ "name": what, "ph": "M", "pid": 1, "tid": thread, "args": { "name": name } })
}

fn micros(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1000.0
}

/// One bar on a row of a timeline.
struct Bar {
    row: usize,
    name: String,
    at: Duration,
    took: Duration,
    details: Value,
}

fn bars(recording: &Recording) -> Vec<Bar> {
    let mut bars = Vec::new();
    for &Event { at, took, ref kind } in recording.events.iter() {
        match kind {
            EventKind::Phase(phase) => {
                bars.push(Bar { row: 0, name: phase.to_string(), at, took, details: json!({}) });
            }
            EventKind::Call(call) => {
                let details = json!({ "words": call.to_string() });
                bars.push(Bar { row: 1, name: call.name().into(), at, took, details });
            }
            EventKind::Exit(exit) => {
                let details = details(recording, exit);
                let name = match exit.reason.is_access() {
                    true => {
                        let data = story::characters(exit.bytes());
                        format!("{} {:#x} {data}", exit.reason.name(), exit.address)
                    }
                    false => exit.reason.name().into(),
                };
                let inside = Bar { row: 2, name: name.clone(), at, took: exit.inside, details };
                bars.push(inside);
                if !exit.device.is_empty() {
                    let (at, took) = (at + exit.inside, exit.outside);
                    let name = format!("{}: {name}", exit.device);
                    bars.push(Bar { row: 3, name, at, took, details: json!({}) });
                }
            }
        }
    }
    bars
}

/// Rows and bars for the page of [`super::html`].
pub(super) fn page_data(recording: &Recording) -> Value {
    let bars: Vec<Value> = bars(recording)
        .into_iter()
        .map(|bar| json!([bar.row, bar.name, micros(bar.at), micros(bar.took), bar.details]))
        .collect();
    json!({
        "guest": recording.name,
        "rows": ROWS,
        "bars": bars,
        "total": micros(recording.total + recording.overhead),
        "dropped": recording.events.dropped(),
        "overhead": micros(recording.overhead),
    })
}
