//! What every subject runs: a program of a few instructions, or the guest that does the same.
//!
//! The programs are static and have no C library. What a payload takes is the same for all subjects, and would hide the
//! differences between them. They are built beside the guests (guest-kernels/linux/) and are part of this program.

use super::error::{Error, Result};
use super::file;
use crate::guest::Guest;
use crate::sys;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
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
pub struct Scratch(PathBuf);

impl Scratch {
    /// A new directory in $TMPDIR.
    pub fn new() -> io::Result<Scratch> {
        let unique = u64::from_ne_bytes(sys::random()?);
        let path = std::env::temp_dir().join(format!("matchstick-bench-{unique:016x}"));
        fs::create_dir(&path)?;
        // Runtimes look into it from other user namespaces.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(Scratch(path))
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
    /// Whether it needs a /proc. Some subjects only have one if they are asked for it.
    pub proc: bool,
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
        Ok(Payload { proc: true, ..Payload::of("probe", PROBE, None, None, scratch)? })
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
            name: name.into(),
            program: add("payload", bytes)?,
            expect,
            guest,
            proc: false,
            empty: add("empty", EMPTY)?,
            peak_memory: add("peak", PEAK)?,
        })
    }
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
