//! One launcher for every subject that is a command, so that its cost is the same for all of them.
//!
//! Standard input is /dev/null, standard output a pipe, standard error a file in memory. The clock is read, the pipe
//! made and the program spawned, as any parent has to; then one poll(2) waits for the pipe and for the end of the
//! process. `first_byte` is when read(2) has returned the first of them; `reaped` is when wait4(2) has returned.

use super::payload::Payload;
use super::stop;
use super::subject::{Failure, Sample};
use crate::sys::memory_file;
use crate::sys::spawn::{Child, Prepared, Program, Usage, wait_readable};
use crate::sys::{self, spawn};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, PipeReader, Read, Seek};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::time::Duration;

/// How often a wait checks whether the race is to be stopped.
const BEAT: Duration = Duration::from_millis(100);
/// The most output, in bytes. A payload prints far less.
const OUTPUT_MAX: usize = 1 << 20;
/// How many bytes of a program's standard error are kept.
const STDERR_MAX: u64 = 16 << 10;

/// What a command has to print to have run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expect {
    /// These bytes and no others.
    Exactly(Vec<u8>),
    /// At least one byte.
    Something,
    /// Nothing: the launcher alone is measured.
    Nothing,
}

impl Expect {
    /// What `payload` prints.
    pub fn of(payload: &Payload) -> Expect {
        payload.expect.clone().map_or(Expect::Something, Expect::Exactly)
    }

    /// Whether a start did what it should, and what it took.
    pub(super) fn judge(&self, watched: &Watched) -> Result<Sample, String> {
        let Watched { output, first_byte, reaped, usage } = watched;
        match (usage.status.code(), usage.status.signal()) {
            (Some(0), _) => {}
            (Some(code), _) => return Err(format!("it ended with status {code}")),
            (None, signal) => return Err(format!("it was ended by signal {}", signal.unwrap_or(0))),
        }
        self.check(output)?;
        let (user, system) = (usage.user, usage.system);
        Ok(Sample { first_byte: first_byte.unwrap_or(*reaped), reaped: *reaped, user, system })
    }

    fn check(&self, output: &[u8]) -> Result<(), String> {
        match self {
            Expect::Exactly(bytes) if output == bytes => Ok(()),
            Expect::Nothing if output.is_empty() => Ok(()),
            Expect::Something if !output.is_empty() => Ok(()),
            _ if output.is_empty() => Err("it printed nothing".into()),
            Expect::Exactly(bytes) => {
                Err(format!("it printed {} instead of {}", shown(output), shown(bytes)))
            }
            _ => Err(format!("it printed {}", shown(output))),
        }
    }
}

/// The beginning of `bytes`, for a message.
fn shown(bytes: &[u8]) -> String {
    const MAX: usize = 60;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(MAX)]);
    format!("{text:?}{}", if bytes.len() > MAX { " …" } else { "" })
}

/// A command that can be launched again and again.
pub struct Launcher {
    words: Vec<OsString>,
    program: Program,
    peak: Option<Program>,
    expect: Expect,
    null: File,
}

impl Launcher {
    /// `words` are a program, by its path, and its arguments; `variables` are added to the environment.
    pub fn new(
        words: &[impl AsRef<OsStr>],
        variables: &[(&str, &OsStr)],
        expect: Expect,
        payload: &Payload,
    ) -> io::Result<Launcher> {
        let words: Vec<OsString> = words.iter().map(|word| word.as_ref().to_owned()).collect();
        let peak_memory = [payload.peak_memory.clone().into_os_string()];
        let below_it: Vec<&OsString> = peak_memory.iter().chain(&words).collect();
        Ok(Launcher {
            program: Program::new(&words, variables)?,
            peak: Some(Program::new(&below_it, variables)?),
            words,
            expect,
            null: File::open("/dev/null")?,
        })
    }

    /// What is launched, as one would type it.
    pub fn command(&self) -> String {
        let words: Vec<String> = self.words.iter().map(|word| quoted(word)).collect();
        words.join(" ")
    }

    /// Launches it once; what was measured, and what it printed.
    pub fn output(&self, limit: Duration) -> Result<(Sample, Vec<u8>), Failure> {
        let mut stderr = memory_file().map_err(Failure::new)?;
        let run = || -> Result<(Sample, Vec<u8>), String> {
            let begin = sys::monotonic();
            let (mut output, end) = io::pipe().map_err(|error| error.to_string())?;
            let files = [self.null.as_fd(), end.as_fd(), stderr.as_fd()];
            let prepared = self.program.prepare(&files).map_err(|error| error.to_string())?;
            let child = start(prepared)?;
            drop(end);
            let watched = watch(child, &mut output, begin, limit)?;
            Ok((self.expect.judge(&watched)?, watched.output))
        };
        let result = run();
        result.map_err(|why| Failure { why, stderr: all_of(&mut stderr) })
    }

    /// Launches it once, as the child of a small program that reports the peak resident memory of any one process, in
    /// KiB. Only processes that were waited for are counted: a daemon that does the work is not among them.
    pub fn peak_memory(&self, limit: Duration) -> Option<u64> {
        let begin = sys::monotonic();
        let (mut output, end) = io::pipe().ok()?;
        let (mut answer, answer_end) = io::pipe().ok()?;
        let stderr = memory_file().ok()?;
        let files = [self.null.as_fd(), end.as_fd(), stderr.as_fd(), answer_end.as_fd()];
        let prepared = self.peak.as_ref()?.prepare(&files).ok()?;
        let child = start(prepared).ok()?;
        drop((end, answer_end));
        let watched = watch(child, &mut output, begin, limit).ok()?;
        let mut text = [0; 20];
        let can_be_read = wait_readable([Some(answer.as_fd())], Duration::ZERO).ok()?[0];
        let count = if can_be_read { answer.read(&mut text).ok()? } else { 0 };
        watched.usage.status.success().then(|| std::str::from_utf8(&text[..count]).ok()?.parse().ok())?
    }
}

fn start(prepared: Prepared<'_>) -> Result<Child, String> {
    prepared.spawn().map_err(|error| format!("it cannot be started: {error}"))
}

/// What was seen of a process.
pub(super) struct Watched {
    pub output: Vec<u8>,
    pub first_byte: Option<Duration>,
    pub reaped: Duration,
    pub usage: Usage,
}

/// Reads its output and waits for its end. It is killed when `limit` is over or the race is to be stopped.
pub(super) fn watch(
    child: Child,
    pipe: &mut PipeReader,
    begin: Duration,
    limit: Duration,
) -> Result<Watched, String> {
    let mut output = Vec::new();
    let mut first_byte = None;
    let mut open = true;
    loop {
        let left = limit.saturating_sub(sys::monotonic() - begin);
        if left.is_zero() {
            return Err(format!("it did not end within {limit:?}"));
        } else if stop::asked() {
            return Err("it was interrupted".into());
        }
        let files = [open.then(|| pipe.as_fd()), child.end()];
        let [readable, ended] = wait_readable(files, left.min(BEAT)).map_err(|error| error.to_string())?;
        if readable {
            open = take(pipe, &mut output)? > 0;
            if first_byte.is_none() && !output.is_empty() {
                first_byte = Some(sys::monotonic() - begin);
            }
        } else if ended {
            let usage = child.wait().map_err(|error| error.to_string())?;
            let reaped = sys::monotonic() - begin;
            return Ok(Watched { output, first_byte, reaped, usage });
        }
    }
}

/// Reads what is there.
fn take(pipe: &mut PipeReader, output: &mut Vec<u8>) -> Result<usize, String> {
    let mut bytes = [0; 4096];
    let count = pipe.read(&mut bytes).map_err(|error| error.to_string())?;
    output.extend(&bytes[..count]);
    match output.len() {
        ..=OUTPUT_MAX => Ok(count),
        _ => Err("it prints without end".into()),
    }
}

/// What was written to standard error, as text.
pub(super) fn all_of(stderr: &mut File) -> String {
    let mut bytes = Vec::new();
    // The file's offset is shared with those who wrote to it.
    let _ = stderr.rewind().and_then(|()| stderr.take(STDERR_MAX).read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).trim_end().to_owned()
}

/// A word as a shell would want it.
pub fn quoted(word: &OsStr) -> String {
    let text = word.to_string_lossy();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    match !text.is_empty() && text.chars().all(is_plain) {
        true => text.into_owned(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

/// Where the shell would find the program `name`.
pub fn find_program(name: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let is_program = |path: &PathBuf| {
        path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(is_program)
}

/// The processor time of this thread, in user mode and in the kernel: for subjects without a process of their own.
pub fn thread_times() -> (Duration, Duration) {
    spawn::thread_times()
}
