//! Who watches a program: each thread's [`Watcher`] writes what happens as records into a pipe, which all processes of
//! the program share, and whose other end a process outside reads.
//!
//! A record is one JSON object in one line, and shorter than what a pipe takes whole (PIPE_BUF), so that those of several
//! processes do not mix. What watching costs is measured as well, and is in none of the times that are told.

use super::meaning::Meaning;
use super::names;
use super::words::{Call, quoted, result};
use crate::error::Result;
use crate::sys;
use crate::sys::program::{begin_host_time, end_host_time, thread_id};
use crate::timeline::{Answered, Ended, Halted, Left, Observer, ProgramMemory, Shape};
use serde_json::{Value, json};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;
use syscalls::Sysno;

/// The most bytes that a pipe takes in one piece (pipe(7)).
const RECORD_MAX: usize = 4096;
/// Arguments of a program that are told.
const ARGUMENTS_MAX: usize = 16;

/// A system call that is being served.
struct Pending {
    number: u64,
    words: [u64; 6],
    meanings: Vec<(Meaning, u64)>,
    /// Those that are known before it, and empty places for the others.
    arguments: Vec<String>,
}

/// Watches one thread.
pub struct Watcher {
    pipe: Arc<File>,
    /// When the trace began.
    start: Duration,
    entered: Duration,
    left: Duration,
    why: Left,
    /// What watching has cost since the VM was left.
    overhead: Duration,
    pending: Option<Pending>,
    /// Whether there is still somebody who reads.
    is_heard: bool,
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A call's name.
fn name_of(number: u64) -> String {
    let call = usize::try_from(number).ok().and_then(Sysno::new);
    call.map_or_else(|| format!("syscall_{number:#x}"), |call| call.name().to_owned())
}

impl Watcher {
    /// Watches the first thread of a program, and tells it by `pipe`. Times count from `start`, of CLOCK_MONOTONIC.
    pub fn new(pipe: File, start: Duration) -> Watcher {
        Watcher::on(Arc::new(pipe), start)
    }

    fn on(pipe: Arc<File>, start: Duration) -> Watcher {
        let now = sys::monotonic();
        Watcher {
            pipe,
            start,
            entered: now,
            left: now,
            why: Left::Signal,
            overhead: Duration::ZERO,
            pending: None,
            is_heard: true,
        }
    }

    /// Writes a record about something that began at `begin`.
    fn tell(&mut self, event: &str, begin: Duration, more: Value) {
        let mut record = json!({
            "event": event,
            "pid": std::process::id(),
            "tid": thread_id(),
            "at": nanos(begin.saturating_sub(self.start)),
        });
        if let (Value::Object(record), Value::Object(more)) = (&mut record, more) {
            record.extend(more);
        }
        let mut line = format!("{record}\n");
        if line.len() > RECORD_MAX {
            record["arguments"] = json!(["..."]);
            line = format!("{record}\n");
        }
        if self.is_heard && line.len() <= RECORD_MAX {
            self.is_heard = (&*self.pipe).write_all(line.as_bytes()).is_ok();
        }
    }

    /// Times of what has ended at `now`: in the VM before, ours, and the host's.
    fn times(&mut self, now: Duration) -> Value {
        let host = end_host_time();
        let outside = now.saturating_sub(self.left).saturating_sub(self.overhead);
        json!({
            "vm": nanos(self.left.saturating_sub(self.entered)),
            "wall": nanos(outside.saturating_sub(host.time)),
            "host": nanos(host.time),
            "host_calls": host.calls,
        })
    }

    /// Tells of an exit that is no call, when the thread goes back.
    fn close(&mut self, now: Duration) {
        let why = match self.why {
            Left::Call => return,
            Left::PageFault => "page fault",
            Left::Exception => "exception",
            Left::Signal => "signal",
            Left::NoPage => "no page",
        };
        let mut more = self.times(now);
        more["why"] = why.into();
        self.tell("exit", self.left, more);
    }

    fn charge(&mut self, since: Duration) {
        self.overhead += sys::monotonic().saturating_sub(since);
    }
}

impl Observer for Watcher {
    fn enter(&mut self, _: &mut dyn Halted) -> Result<()> {
        let now = sys::monotonic();
        if self.left > self.entered {
            self.close(now);
        }
        self.entered = sys::monotonic();
        Ok(())
    }

    fn left(&mut self, why: Left) {
        (self.left, self.why, self.overhead) = (sys::monotonic(), why, Duration::ZERO);
        begin_host_time();
    }

    fn round_trip(&mut self, time: Duration) {
        let now = sys::monotonic();
        self.tell("round trip", now, json!({ "took": nanos(time) }));
        // What was measured meanwhile is no part of the call.
        self.charge(self.left);
    }

    fn call(&mut self, thread: &mut dyn Halted, number: u64, arguments: &[(u64, Shape)]) -> Result<()> {
        let begin = sys::monotonic();
        let mut words = [0; 6];
        for (word, (value, _)) in words.iter_mut().zip(arguments) {
            *word = *value;
        }
        let length = |shape: &Shape| if let Shape::Memory(len) = shape { *len } else { 0 };
        let meaning = |(at, (_, shape)): (usize, &(u64, Shape))| {
            (Meaning::of(number as i64, at, *shape), length(shape))
        };
        let is_used = |(at, _): &(usize, &(u64, Shape))| Meaning::is_used(number as i64, *at, &words);
        let meanings: Vec<_> = arguments.iter().enumerate().take_while(is_used).map(meaning).collect();
        let memory = thread.memory();
        let call = Call { words: &words, result: None, memory: &*memory };
        let shown = meanings.iter().enumerate().map(|(at, &(meaning, len))| match meaning.is_written() {
            true => String::new(),
            false => call.argument(at, meaning, len),
        });
        let arguments: Vec<String> = shown.collect();
        if Meaning::may_stay(number as i64) {
            let begun = json!({ "call": name_of(number), "arguments": arguments });
            self.tell("begun", self.left, begun);
        }
        self.pending = Some(Pending { number, words, meanings, arguments });
        self.charge(begin);
        Ok(())
    }

    fn answered(&mut self, how: Answered, memory: &dyn ProgramMemory) {
        let now = sys::monotonic();
        let Some(Pending { number, words, meanings, mut arguments }) = self.pending.take() else { return };
        let mut more = self.times(now);
        let result_of_call = match how {
            Answered::Value(value) => {
                let (text, error) = result(number as i64, value);
                more["result"] = text.into();
                more["error"] = error.into();
                (!(-4095..0).contains(&value)).then_some(value as u64)
            }
            Answered::Unknown => {
                (more["result"], more["error"]) = ("-1".into(), "ENOSYS".into());
                more["note"] = "not served".into();
                None
            }
            Answered::Again => {
                more["result"] = "?".into();
                more["note"] = "a signal came first".into();
                None
            }
            Answered::Never => {
                more["result"] = "?".into();
                None
            }
        };
        // What a program that is another one by now has given lies in no memory any more: it was shown before.
        let call = Call { words: &words, result: result_of_call, memory };
        for (at, &(meaning, len)) in
            meanings.iter().enumerate().filter(|(_, (meaning, _))| meaning.is_written())
        {
            arguments[at] = call.argument(at, meaning, len);
        }
        more["call"] = name_of(number).into();
        more["arguments"] = arguments.into();
        self.tell("call", self.left, more);
        self.left = self.entered;
    }

    fn signal(&mut self, _: &mut dyn Halted, signal: i32, info: &[u8; 128]) -> Result<bool> {
        let now = sys::monotonic();
        // siginfo_t: si_code, and si_addr of a fault or si_pid of a sender.
        let int = |at: usize| i32::from_le_bytes(info[at..at + 4].try_into().expect("four bytes"));
        let mut more = json!({ "signal": names::signal(signal as u64), "code": int(8) });
        let is_fault =
            matches!(signal, libc::SIGSEGV | libc::SIGBUS | libc::SIGFPE | libc::SIGILL | libc::SIGTRAP);
        if is_fault && int(8) > 0 {
            let address = u64::from_le_bytes(info[16..24].try_into().expect("eight bytes"));
            more["address"] = address.into();
        } else if int(8) <= 0 || signal == libc::SIGCHLD {
            more["sender"] = int(16).into();
        }
        self.tell("signal", now, more);
        self.charge(now);
        Ok(true)
    }

    fn program(&mut self, path: &[u8], arguments: &[Vec<u8>]) {
        let now = sys::monotonic();
        let short = |bytes: &[u8]| quoted(&bytes[..bytes.len().min(200)], bytes.len() > 200);
        let mut shown: Vec<String> = arguments.iter().take(ARGUMENTS_MAX).map(|word| short(word)).collect();
        if arguments.len() > ARGUMENTS_MAX {
            shown.push("...".into());
        }
        self.tell("program", now, json!({ "path": short(path), "arguments": shown }));
        self.charge(now);
    }

    fn thread(&mut self) -> Box<dyn Observer> {
        Box::new(Watcher::on(Arc::clone(&self.pipe), self.start))
    }

    fn forked(&mut self, _: &dyn ProgramMemory) {
        let now = sys::monotonic();
        end_host_time();
        let took = now.saturating_sub(self.left);
        self.pending = None;
        self.tell("fork", now, json!({ "parent": sys::program::parent(), "took": nanos(took) }));
        (self.left, self.entered) = (now, now);
    }

    fn ended(&mut self, how: Ended) {
        let now = sys::monotonic();
        let more = match how {
            Ended::Status(status) => json!({ "status": status }),
            Ended::Signal(signal) => json!({ "signal": names::signal(signal as u64) }),
        };
        self.tell("end", now, more);
    }

    fn descriptors(&self) -> Vec<RawFd> {
        vec![self.pipe.as_raw_fd()]
    }
}
