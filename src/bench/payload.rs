//! What every subject runs: a program of a few instructions, or the guest that does the same.
//!
//! The programs are static and have no C library. What a payload takes is the same for all subjects, and would hide the
//! differences between them. They are built beside the guests (guest-kernels/linux/) and are part of this program.

use super::error::{Error, Result};
use super::file;
use super::subject::Missing;
use crate::container::proc::Mount;
use crate::container::{cgroup, mark};
use crate::elf::{Class, EM_X86_64, Elf};
use crate::guest::Guest;
use crate::sys;
use crate::text::shown;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

macro_rules! program {
    ($name:literal) => {
        include_bytes!(concat!(env!("OUT_DIR"), "/payload-", $name))
    };
}

/// Prints the line of the guest `hello`.
static HELLO: &[u8] = program!("hello");
/// Does the work of the guest `primes`.
static PRIMES: &[u8] = program!("primes");
/// Ends at once.
static EMPTY: &[u8] = program!("empty");
/// Runs another program and tells how much memory it had.
static PEAK: &[u8] = program!("peak");
/// Prints a word, then waits for ever.
static WAIT: &[u8] = program!("wait");
/// Runs another program that does not see a certain mount.
pub(super) static WITHOUT: &[u8] = program!("without");
/// Reports what it sees of the system it runs on, see `guest-kernels/linux/probe.rs`.
pub static PROBE: &[u8] = program!("probe");

/// A directory of ours for the time of a race, removed when it is dropped.
///
/// By hand: the name of vmm-sys-util's temporary directory does not tell a later race whose it was.
pub struct Scratch(PathBuf);

impl Scratch {
    /// A new directory in $TMPDIR. Before, what an earlier race left behind because it was killed is removed.
    pub fn new() -> io::Result<Scratch> {
        remove_left_over();
        let path = Scratch::make()?;
        // Runtimes look into it from other user namespaces.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(Scratch(path))
    }

    /// The name is marked, and so can be guessed: one that somebody else has taken is passed over.
    fn make() -> io::Result<PathBuf> {
        /// Far more than a process has at once.
        const TRIES: u32 = 1000;
        let (directory, mark) = (std::env::temp_dir(), mark::own());
        let mut taken = None;
        for count in 0..TRIES {
            let path = directory.join(format!("{mark}{count}"));
            match fs::create_dir(&path) {
                Ok(()) => return Ok(path),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => taken = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(taken.unwrap_or_else(|| io::ErrorKind::AlreadyExists.into()))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Puts an executable file into it.
    pub fn add_program(&self, name: &str, bytes: &[u8]) -> io::Result<PathBuf> {
        let path = self.0.join(name);
        fs::write(&path, bytes)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Removes what races left behind that were killed: their cgroups, with the processes in them, and their directories in
/// $TMPDIR, with what is mounted in them. Only what is ours and whose race has certainly ended.
fn remove_left_over() {
    cgroup::remove_left_over();
    let is_ours = |entry: &fs::DirEntry| {
        let is_left_over = entry.file_name().to_str().is_some_and(mark::is_left_over);
        // Not of a link: of what has the name.
        is_left_over
            && entry.metadata().is_ok_and(|file| file.is_dir() && file.uid() == sys::effective_user())
    };
    let entries = fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten();
    for directory in entries.filter(is_ours).map(|entry| entry.path()) {
        let mounts = Mount::all(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default());
        // What was mounted last first.
        for mount in mounts.iter().rev().filter(|mount| Path::new(&mount.point).starts_with(&directory)) {
            let _ = sys::unmount(Path::new(&mount.point));
        }
        let _ = fs::remove_dir_all(&directory);
    }
}

/// The payload of a race.
#[derive(Debug, Clone)]
pub struct Payload {
    /// `hello`, `primes` or the name of a file.
    pub name: String,
    /// The static program, a file.
    pub program: PathBuf,
    /// The bytes it prints. `None` if that is not known: then it has to print at least one byte.
    pub expect: Option<Vec<u8>>,
    /// The guest that prints the same.
    pub guest: Option<&'static Guest>,
    /// What has to be there as well to run it: the interpreter that a dynamic program or a script names.
    pub interpreter: Option<String>,
    /// Whether it is the probe. That wants a /proc, which some subjects only have if they are asked for it.
    pub is_probe: bool,
    /// A program that ends at once, for the baseline.
    pub empty: PathBuf,
    /// A program that runs another and reports its peak memory.
    pub peak_memory: PathBuf,
}

impl Payload {
    /// The payload of that name, or the file of that path, put into `scratch`.
    pub fn new(name: &str, scratch: &Scratch) -> Result<Payload> {
        let file;
        let bytes = match name {
            "hello" => HELLO,
            "primes" => PRIMES,
            path => {
                file = read(Path::new(path))?;
                check(&file).map_err(|source| Error::NoPayload { path: path.into(), source })?;
                &file
            }
        };
        let guest = match name {
            "hello" | "primes" => Guest::find(name),
            _ => None,
        };
        let expect = guest.map(|guest| guest.expect.iter().flat_map(|line| [line, "\n"]).collect::<String>());
        Payload::of(name, bytes, expect.map(String::into_bytes), guest, scratch)
    }

    /// The probe.
    pub fn probe(scratch: &Scratch) -> Result<Payload> {
        Ok(Payload { is_probe: true, ..Payload::of("probe", PROBE, None, None, scratch)? })
    }

    /// A program that prints a word and then waits for ever.
    pub fn idle(scratch: &Scratch) -> Result<Payload> {
        Payload::of("wait", WAIT, None, None, scratch)
    }

    fn of(
        name: &str,
        bytes: &[u8],
        expect: Option<Vec<u8>>,
        guest: Option<&'static Guest>,
        scratch: &Scratch,
    ) -> Result<Payload> {
        let add = |name, bytes| {
            let added = scratch.add_program(name, bytes);
            added.map_err(Error::Fill)
        };
        Ok(Payload {
            name: shown(name),
            program: add("payload", bytes)?,
            expect,
            guest,
            interpreter: interpreter(bytes),
            is_probe: false,
            empty: add("empty", EMPTY)?,
            peak_memory: add("peak", PEAK)?,
        })
    }
}

impl Payload {
    /// Checks that it can be run where there is no other file.
    pub fn stands_alone(&self) -> std::result::Result<(), Missing> {
        match &self.interpreter {
            None => Ok(()),
            Some(path) => Err(Missing::new(
                format!("its root has the payload alone, and that wants {path}"),
                "a static program: cc -static",
            )),
        }
    }
}

/// Checks that Linux would run it on this kind of processor.
fn check(file: &[u8]) -> io::Result<()> {
    let is_ours = |elf: &Elf<'_>| elf.header.e_machine == EM_X86_64 && elf.header.class == Class::Elf64;
    match Elf::parse(file) {
        _ if file.starts_with(SCRIPT) => Ok(()),
        Err(error) => Err(io::Error::other(error.to_string())),
        Ok(elf) if is_ours(&elf) => Ok(()),
        Ok(_) => Err(io::Error::other("it is for another processor, and x86-64 is meant")),
    }
}

/// How a script begins; the path of what runs it follows (execve(2), "Interpreter scripts").
const SCRIPT: &[u8] = b"#!";

/// What has to be there to run `file` as well.
fn interpreter(file: &[u8]) -> Option<String> {
    let path = match file.strip_prefix(SCRIPT) {
        Some(rest) => {
            let line = rest.split(|&byte| byte == b'\n').next()?.trim_ascii();
            line.split(u8::is_ascii_whitespace).next()?
        }
        None => Elf::parse(file).ok()?.interpreter().ok()??,
    };
    Some(shown(OsStr::from_bytes(path)))
}

/// The largest payload, in bytes. It is copied for each subject, and some keep it in memory.
const PROGRAM_MAX: u64 = 256 << 20;

/// Reads a payload of the user's.
fn read(path: &Path) -> Result<Vec<u8>> {
    file::read(path, PROGRAM_MAX).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => crate::error::Error::NotFound { path: path.into(), source }.into(),
        // Not an error of the system: it says what the file is.
        io::ErrorKind::Other => Error::NoPayload { path: path.into(), source },
        _ => crate::error::Error::Unreadable { path: path.into(), source }.into(),
    })
}
