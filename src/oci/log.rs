//! An error where callers look for it: on standard error, and in the file of `--log`, as text or a line of JSON.
//!
//! Both are runc's, which has them from the Go package logrus: level, msg, time.

use super::call::Call;
use super::error::OciError;
use crate::error::in_words;
use crate::sys;
use crate::text::one_line;
use serde_json::json;
use std::fs::File;
use std::io::Write;

/// Reports it. A log that cannot be written is no reason to say less on standard error.
pub fn report(call: &Call, error: &OciError) {
    let what = match call.command.as_deref() {
        Some("exec") => "exec failed: ",
        Some("create" | "run") => "create failed: ",
        _ => "",
    };
    let message = format!("matchstick {what}{}", one_line(&in_words(error)));
    if let Some(path) = &call.log {
        let line = line(&message, call.is_json, sys::unix_time());
        let log = File::options().append(true).create(true).open(path);
        let _ = log.and_then(|mut log| log.write_all(line.as_bytes()));
    }
    let _ = writeln!(std::io::stderr(), "{message}");
}

fn line(message: &str, is_json: bool, now: u64) -> String {
    let time = date(now);
    match is_json {
        true => format!("{}\n", json!({ "level": "error", "msg": message, "time": time })),
        false => format!("time=\"{time}\" level=error msg={message:?}\n"),
    }
}

/// Seconds since 1970 as RFC 3339 has them. Days are counted from March on, so that a leap day is the last of its year.
fn date(seconds: u64) -> String {
    let (days, second) = (seconds / 86400 + 719_468, seconds % 86400);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + later;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_what_runc_would_write() {
        let text = line("a \"b\"", true, 1_709_210_096);
        assert_eq!(text, "{\"level\":\"error\",\"msg\":\"a \\\"b\\\"\",\"time\":\"2024-02-29T12:34:56Z\"}\n");
        let text = line("a \"b\"", false, 0);
        assert_eq!(text, "time=\"1970-01-01T00:00:00Z\" level=error msg=\"a \\\"b\\\"\"\n");
        for (seconds, day) in
            [(951_782_400, "2000-02-29"), (951_868_800, "2000-03-01"), (4_102_444_799, "2099-12-31")]
        {
            assert!(date(seconds).starts_with(day), "{}", date(seconds));
        }
    }
}
