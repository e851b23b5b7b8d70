//! A subject of the race: anything that can be started, prints the payload's bytes and ends.
//!
//! What a figure spans is the same for all (docs/benchmarking.md): one clock, CLOCK_MONOTONIC, read just before the
//! start; `first_byte` when the first byte of the output is with us; `reaped` when everything is given back.

use crate::text::one_line;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// Something that can be raced.
pub trait Subject {
    /// Its name, one word: for `--only` and for the table.
    fn name(&self) -> &str;

    /// What kind of thing is started.
    fn kind(&self) -> Kind;

    /// One line about it: what is started, and around what.
    fn about(&self) -> &str;

    /// What is started, as one would type it. It stands in the exports.
    fn command(&self) -> String {
        self.name().into()
    }

    /// The version of what starts it, if it is another program.
    fn version(&self) -> Option<String> {
        None
    }

    /// Looks for what it needs and prepares what is not part of a start. Called once, before anything is run.
    fn ready(&mut self) -> Result<(), Missing> {
        Ok(())
    }

    /// One start, until everything that it took is given back. It fails if that takes longer than `limit`.
    fn run(&mut self, limit: Duration) -> Result<Sample, Failure>;

    /// One more start. Returns what it printed.
    fn output(&mut self, _limit: Duration) -> Result<Vec<u8>, Failure> {
        Err(Failure::new("it does not run programs"))
    }

    /// One more start, not timed. Returns the peak resident memory of any one of its processes, in KiB; `None` if that
    /// cannot be known.
    fn peak_memory(&mut self, _limit: Duration) -> Option<u64> {
        None
    }
}

/// The kinds of subjects. What is done with a subject depends on its kind, never on its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// An empty program: what a launch costs in itself. It is not raced: a race that has nobody else ends.
    Baseline,
    /// The payload as a plain process.
    Process,
    /// A virtual machine, with a process of its own around it.
    Vm,
    /// The same, which goes on from a golden image.
    VmRestored,
    /// A virtual machine without a kernel around the payload itself, with a process of its own.
    VmExec,
    /// A virtual machine in the process that measures.
    VmInProcess,
    /// The same, which goes on from a golden image.
    VmInProcessRestored,
    /// A virtual machine that boots a Linux, which runs the payload.
    VmLinux,
    /// A container of ours, started by the process that measures.
    Namespaces,
    /// A tool that puts a command into namespaces.
    Sandbox,
    /// A tool that starts a container for a whole system.
    SystemContainer,
    /// An OCI runtime.
    Runtime,
    /// An engine, which keeps images and calls a runtime.
    Engine,
    /// A command of the user's.
    Custom,
}

/// By whom a subject is started. Only what is started alike is compared: the start of a tool is a part of its time, and
/// what a process makes itself is spared it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// A command: a program is executed.
    Command,
    /// A process that runs already makes it.
    Inside,
}

impl Class {
    /// Both, in the order of the tables.
    pub const ALL: [Class; 2] = [Class::Command, Class::Inside];

    /// What stands above its table.
    pub fn title(self) -> &'static str {
        match self {
            Class::Command => "Commands: a program is executed, until it is reaped",
            Class::Inside => "What a process that runs already can start, until it is given back",
        }
    }
}

impl Kind {
    /// By whom it is started.
    pub fn class(self) -> Class {
        match self {
            Kind::VmInProcess | Kind::VmInProcessRestored | Kind::Namespaces => Class::Inside,
            _ => Class::Command,
        }
    }

    /// Whether it is ranked with the others of its class: a whole start around the payload, as a user would have it. A
    /// plain process isolates nothing, and what goes on from an image is the same machine once more, begun otherwise.
    pub fn is_ranked(self) -> bool {
        use Kind::*;
        !matches!(self, Baseline | Process | VmRestored | VmInProcessRestored)
    }

    /// Whether the others of its class are compared with it, if nothing else is asked for: what isolates nothing, and
    /// among what a process starts itself the least container there is.
    pub fn is_reference(self) -> bool {
        matches!(self, Kind::Process | Kind::Namespaces)
    }

    /// Whether there is a virtual machine around the payload.
    pub fn is_machine(self) -> bool {
        use Kind::*;
        matches!(self, Vm | VmRestored | VmExec | VmInProcess | VmInProcessRestored | VmLinux)
    }

    /// Whether it is a virtual machine of ours that begins anew, of which is said how it compares with the others.
    pub fn is_ours(self) -> bool {
        matches!(self, Kind::Vm | Kind::VmExec | Kind::VmInProcess)
    }

    /// Whether to get one ready takes longer than to measure it.
    pub fn is_slow_to_prepare(self) -> bool {
        matches!(self, Kind::Engine | Kind::SystemContainer | Kind::VmLinux)
    }
}

/// The times of one start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sample {
    /// Until the first byte of the output was read.
    pub first_byte: Duration,
    /// Until it had ended and was reaped.
    pub reaped: Duration,
    /// Time on a processor in its own code, and that of children it waited for.
    pub user: Duration,
    /// The same in the kernel.
    pub system: Duration,
}

/// Why a subject is not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// A few words: `not installed`.
    pub why: String,
    /// What would help: `apt install crun`.
    pub hint: String,
}

impl Missing {
    /// With these words.
    pub fn new(why: impl Into<String>, hint: impl Into<String>) -> Missing {
        Missing { why: one_line(&why.into()), hint: hint.into() }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.why, self.hint)
    }
}

/// Why a start does not count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What was wrong: `it ended with status 3`.
    pub why: String,
    /// What it wrote to its standard error.
    pub stderr: String,
}

impl Failure {
    /// One that wrote nothing to standard error.
    pub fn new(why: impl fmt::Display) -> Failure {
        Failure { why: one_line(&why.to_string()), stderr: String::new() }
    }
}
