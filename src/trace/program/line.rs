//! A record of a program's trace as a line: times in columns, and what it was as strace(1) writes it.

use super::sums::micros;
use serde_json::Value;

/// A record as a line; none for what only the sums need.
pub fn line_of(record: &Value) -> String {
    let number = |key: &str| record[key].as_u64().unwrap_or(0);
    let who = match (number("pid"), number("tid")) {
        (pid, tid) if pid == tid => pid.to_string(),
        (pid, tid) => format!("{pid}/{tid}"),
    };
    let times = |keys: [&str; 3]| keys.map(|key| format!("{:>10.1} ", micros(number(key)))).concat();
    let (times, what) = match record["event"].as_str() {
        Some("call") => (times(["vm", "wall", "host"]), what(record)),
        Some("unfinished") => (" ".repeat(33), what(record)),
        Some("exit") => (times(["vm", "wall", "host"]), format!("({})", word(&record["why"]))),
        Some("fork") => {
            let took = format!("{:>10} {:>10.1} {:>10} ", "", micros(number("took")), "");
            (took, format!("(a new process, child of {}, with a VM of its own)", number("parent")))
        }
        Some("program") => {
            let what =
                format!("(the program is {} [{}])", word(&record["path"]), words(&record["arguments"]));
            (" ".repeat(33), what)
        }
        Some("signal") => {
            let why = match (record["address"].as_u64(), record["sender"].as_u64()) {
                (Some(address), _) => format!(" at {address:#x}"),
                (_, Some(sender)) if sender > 0 => format!(" from {sender}"),
                _ => String::new(),
            };
            (" ".repeat(33), format!("--- {}{why} ---", word(&record["signal"])))
        }
        Some("end") => {
            let how = match record["signal"].as_str() {
                Some(signal) => format!("killed by {signal}"),
                None => format!("exited with {}", record["status"].as_i64().unwrap_or(0)),
            };
            (" ".repeat(33), format!("+++ {how} +++"))
        }
        _ => return String::new(),
    };
    let at = record["at"].as_u64().map_or(String::new(), |at| format!("{:.1}", micros(at)));
    format!("{who:>9} {at:>10} {times} {what}\n")
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

fn words(value: &Value) -> String {
    value.as_array().into_iter().flatten().map(word).collect::<Vec<_>>().join(", ")
}

/// A call as strace(1) writes it.
pub fn what(record: &Value) -> String {
    let error = record["error"].as_str().map_or(String::new(), |error| format!(" {error}"));
    let note = record["note"].as_str().map_or(String::new(), |note| format!(" ({note})"));
    let arguments = words(&record["arguments"]);
    format!("{}({arguments}) = {}{error}{note}", word(&record["call"]), word(&record["result"]))
}
