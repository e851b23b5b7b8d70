//! What the container subjects share: a root file system with nothing but the payload, and calls to their tools.

use crate::bench::payload::Payload;
use crate::container::mark;
use std::ffi::OsString;
use std::fs;
use std::io::{self, PipeWriter};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory for one subject inside that of the race, with a `rootfs` in it.
pub struct Rootfs {
    directory: PathBuf,
    name: String,
    number: u32,
}

impl Rootfs {
    /// Makes one: /payload, and empty directories.
    pub fn new(subject: &str, payload: &Payload, directories: &[&str]) -> io::Result<Rootfs> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{subject}-{number}");
        let directory = payload.program.with_file_name(&name);
        let rootfs = Rootfs { directory, name, number };
        fs::create_dir_all(rootfs.path())?;
        // The very same file for all of them, where that is possible: a copy has other pages in the page cache.
        let payload_in_it = rootfs.path().join("payload");
        fs::hard_link(&payload.program, &payload_in_it)
            .or_else(|_| fs::copy(&payload.program, &payload_in_it).map(drop))?;
        directories.iter().try_for_each(|name| fs::create_dir(rootfs.path().join(name)))?;
        Ok(rootfs)
    }

    /// The subject's own directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A path beside it with a short name, for tools that take no long ones: `letter` and our number.
    pub fn short_path(&self, letter: char) -> PathBuf {
        self.directory.with_file_name(format!("{letter}{}", self.number))
    }

    /// The root file system in it.
    pub fn path(&self) -> PathBuf {
        self.directory.join("rootfs")
    }

    /// A name that nothing else on this machine has, with our mark.
    pub fn unique_name(&self) -> String {
        format!("{}{}", mark::own(), self.name)
    }
}

/// The first line of what `program` says to `--version`.
pub fn version_of(program: &Path) -> Option<String> {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().next()?.trim();
    (!line.is_empty()).then(|| line.to_owned())
}

/// Runs a command to its end; the error is what it said last, or how it ended.
pub fn call(words: &[OsString]) -> Result<(), String> {
    output_of(words).map(drop)
}

/// The same, and what it printed.
pub fn output_of(words: &[OsString]) -> Result<String, String> {
    let (program, arguments) = words.split_first().ok_or("no program is named")?;
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(said.trim().lines().last().map_or(output.status.to_string(), str::to_owned)),
    }
}

/// The same, with standard output going to a pipe: also that of processes that it leaves running.
pub fn call_into(words: &[OsString], stdout: &PipeWriter) -> Result<(), String> {
    let (program, arguments) = words.split_first().ok_or("no program is named")?;
    let end = stdout.try_clone().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(end).stderr(Stdio::null());
    let status = command.status().map_err(|error| error.to_string())?;
    if status.success() { Ok(()) } else { Err(format!("it ended with {status}")) }
}

/// The same; whether it succeeds does not matter.
pub fn quietly(words: &[OsString]) {
    let _ = call(words);
}
