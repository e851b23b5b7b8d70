//! A trace as it is told: each record becomes a line when it comes, and the sums follow at the end.

use super::line::line_of;
use super::names;
use super::pages;
use super::sums::Sums;
use crate::trace::event::HeadAndTail;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Records that are kept for the pages: the first and the last.
const KEPT: (usize, usize) = (16_000, 4_000);
/// The most bytes of a record, with its newline.
const RECORD_MAX: usize = 4096;

/// A trace that is being told.
pub struct Story {
    name: String,
    is_json: bool,
    /// What has come of a record that is not whole yet.
    unread: Vec<u8>,
    sums: Sums,
    kept: Option<HeadAndTail<Value>>,
    /// Calls that have begun and have not ended, by their threads.
    begun: BTreeMap<u64, Value>,
    /// Processes that have said how they end.
    ended: BTreeSet<u64>,
}

impl Story {
    /// Of the program `name`: as JSON lines, or as text; `keeps` the records for pages.
    pub fn new(name: &str, is_json: bool, keeps: bool) -> Story {
        let kept = keeps.then(|| HeadAndTail::of(KEPT.0, KEPT.1));
        Story {
            name: name.into(),
            is_json,
            unread: Vec::new(),
            sums: Sums::default(),
            kept,
            begun: BTreeMap::new(),
            ended: BTreeSet::new(),
        }
    }

    /// What stands before all else.
    pub fn head(&self) -> String {
        match self.is_json {
            true => String::new(),
            false => "  pid/tid         at      in VM       wall       host  what\n".into(),
        }
    }

    /// Takes in bytes of the pipe, and returns the lines that they make.
    pub fn hear(&mut self, bytes: &[u8]) -> String {
        self.unread.extend(bytes);
        let mut text = String::new();
        while let Some(end) = self.unread.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.unread.drain(..=end).collect();
            let Ok(record) = serde_json::from_slice::<Value>(&line) else { continue };
            self.sums.add(&record);
            let thread = record["tid"].as_u64().unwrap_or(0);
            match record["event"].as_str() {
                Some("begun") => {
                    self.begun.insert(thread, record);
                    continue;
                }
                Some("call") => drop(self.begun.remove(&thread)),
                Some("end") => drop(self.ended.insert(thread)),
                _ => {}
            }
            text += &self.shown(&record);
            if let Some(kept) = &mut self.kept {
                kept.push(record);
            }
        }
        // Whoever writes more is none of our writers.
        if self.unread.len() > RECORD_MAX {
            self.unread.clear();
        }
        text
    }

    /// Whether anything has happened at all.
    pub fn is_empty(&self) -> bool {
        self.sums.all().count == 0
    }

    /// When nobody is left: calls that have not ended, and the first process, if it was `killed` by a signal and could
    /// say nothing of it.
    pub fn rest(&mut self, first: u64, killed: Option<i32>) -> String {
        let mut text = String::new();
        for (_, mut record) in std::mem::take(&mut self.begun) {
            (record["event"], record["result"]) = ("unfinished".into(), "?".into());
            text += &self.shown(&record);
        }
        if let Some(signal) = killed.filter(|_| !self.ended.contains(&first)) {
            let signal = names::signal(signal as u64);
            text += &self.shown(&json!({ "event": "end", "pid": first, "tid": first, "signal": signal }));
        }
        text
    }

    fn shown(&self, record: &Value) -> String {
        match self.is_json {
            true => format!("{record}\n"),
            false => line_of(record),
        }
    }

    /// What stands at the end.
    pub fn sums(&self) -> String {
        match self.is_json {
            true => format!("{}\n", self.sums.json()),
            false => self.sums.tell(),
        }
    }

    /// The trace event format, of what was kept.
    pub fn chrome(&self) -> String {
        pages::chrome(&self.name, self.kept.iter().flat_map(HeadAndTail::iter), self.dropped())
    }

    /// A page with a timeline, of what was kept.
    pub fn html(&self) -> String {
        let records: Vec<&Value> = self.kept.iter().flat_map(HeadAndTail::iter).collect();
        let lines: String = records.iter().map(|record| line_of(record)).collect();
        let head = Story { is_json: false, ..Story::new("", false, false) }.head();
        pages::html(&self.name, &records, self.dropped(), &(head + &lines + &self.sums.tell()))
    }

    fn dropped(&self) -> u64 {
        self.kept.as_ref().map_or(0, HeadAndTail::dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: &str = r#"{"event":"call","pid":7,"tid":8,"at":1500,"call":"open","arguments":["\"/a\"","O_RDONLY"],
        "result":"-1","error":"ENOENT","vm":25000,"wall":3000,"host":9000,"host_calls":1}"#;

    fn told(story: &mut Story, record: &str) -> String {
        story.hear(format!("{}\n", record.replace('\n', " ")).as_bytes())
    }

    #[test]
    fn a_call_is_a_line_with_its_times() {
        let mut story = Story::new("x", false, false);
        let line = told(&mut story, OPEN);
        assert_eq!(
            line,
            "      7/8        1.5       25.0        3.0        9.0  open(\"/a\", O_RDONLY) = -1 ENOENT\n"
        );
        assert!(!story.is_empty() && story.sums().contains("open "));
    }

    #[test]
    fn what_comes_in_pieces_is_put_together_and_what_is_no_record_is_left_out() {
        let mut story = Story::new("x", true, false);
        assert_eq!(story.hear(b"{\"event\":\"ca"), "");
        assert_eq!(story.hear(b"ll\"}\nnonsense\n"), "{\"event\":\"call\"}\n");
        for _ in 0..100 {
            story.hear(&[b'x'; 1000]);
            assert!(story.unread.len() <= RECORD_MAX + 1000);
        }
        assert_eq!(story.hear(b"\n{}\n"), "{}\n");
    }

    #[test]
    fn signals_and_ends_are_told_as_strace_tells_them() {
        let mut story = Story::new("x", false, false);
        for (record, end) in [
            (r#"{"event":"signal","signal":"SIGSEGV","code":1,"address":16}"#, "--- SIGSEGV at 0x10 ---\n"),
            (r#"{"event":"signal","signal":"SIGCHLD","sender":12}"#, "--- SIGCHLD from 12 ---\n"),
            (r#"{"event":"end","status":3}"#, "+++ exited with 3 +++\n"),
            (r#"{"event":"end","signal":"SIGKILL"}"#, "+++ killed by SIGKILL +++\n"),
        ] {
            let line = told(&mut story, record);
            assert!(line.ends_with(end), "{line}");
        }
    }

    #[test]
    fn a_name_cannot_leave_its_place_on_the_page() {
        let mut story = Story::new("</script><b>", false, true);
        told(&mut story, &OPEN.replace("/a", "</script><i>"));
        let page = story.html();
        assert!(!page.contains("<b>") && !page.contains("<i>") && !page.contains("{{"), "{page}");
        assert!(story.chrome().contains("traceEvents"));
    }
}
