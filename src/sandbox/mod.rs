//! The sandbox: what this process gives up before its guest runs.
//!
//! A guest that breaks out of the VM does so through a fault of ours, and is then a thread of this process. So
//! before the first `KVM_RUN` the process gives up what it will not need: files, capabilities, privileges to come,
//! core dumps; and each thread all system calls but those of its role (`rules`).
//!
//! It does not guard against a fault of KVM itself, nor against what a guest learns from caches and clocks:
//! docs/security.md says what is promised. Sources: seccomp(2), landlock(7), capabilities(7).

#[cfg(test)]
pub(crate) mod ask;
mod gate;
/// The filters are made of them by the build script; here they are what the filters are held against.
#[cfg(test)]
mod rules;

pub use gate::{Awaited, Gate};

use crate::error::{Error, Result, Step};
use crate::sys;
use seccompiler::sock_filter;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

include!(concat!(env!("OUT_DIR"), "/filters.rs"));

/// Whether a machine's process and threads give anything up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sandbox {
    /// Nothing is given up: the process is its caller's, who may want to do other things afterwards.
    #[default]
    Off,
    /// All that can be given up is.
    Strict,
    /// The same, but for what `matchstick trace` does while the guest runs and afterwards.
    Traced,
}

/// What a thread does while the guest runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Runs the first vCPU, and ends the process.
    FirstVcpu,
    /// Runs another vCPU.
    OtherVcpu,
    /// Reads standard input.
    Input,
    /// Reads and writes a disk.
    Disk,
}

/// The exit status of a process that tried what it had given up: ours to answer for.
const STATUS: u8 = 125;
/// poll(2) counts against the limit of open files, and one is polled.
const DESCRIPTORS: u64 = 1;
/// Whether this process is in a sandbox.
static IS_IN_FORCE: AtomicBool = AtomicBool::new(false);

/// Whether this process has given up what a sandbox takes.
pub fn is_in_force() -> bool {
    IS_IN_FORCE.load(Ordering::Relaxed)
}

impl Sandbox {
    /// What the whole process gives up. It holds for threads that are started later, so this comes before them;
    /// whatever is needed has to be open.
    pub fn enter(self) -> Result<()> {
        if self == Sandbox::Off {
            return Ok(());
        }
        IS_IN_FORCE.store(true, Ordering::Relaxed);
        let enter = || {
            sys::on_forbidden_call(forbidden)?;
            sys::share_one_heap()?;
            // Kernels before 5.13 have no landlock; there, the other walls have to do.
            sys::close_file_system()?;
            sys::drop_capabilities()?;
            sys::limit_resources(DESCRIPTORS)
        };
        enter().map_err(failed)
    }

    /// What the calling thread gives up.
    pub fn limit(self, role: Role) -> Result<()> {
        if self == Sandbox::Off {
            return Ok(());
        }
        let process = std::process::id();
        let applied = match role {
            Role::FirstVcpu if self == Sandbox::Traced => seccompiler::apply_filter(&traced(process)),
            Role::FirstVcpu => seccompiler::apply_filter(&first(process)),
            Role::OtherVcpu => seccompiler::apply_filter(&other(process)),
            Role::Input => seccompiler::apply_filter(&input(process)),
            Role::Disk => seccompiler::apply_filter(&disk(process)),
        };
        applied.map_err(io::Error::other).map_err(failed)
    }
}

/// From now on a panic, in whichever thread, gives the terminal back before it says what happened, and ends
/// the process with `status`.
pub fn end_on_panic(status: u8) {
    let say = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        sys::restore_terminal();
        if is_in_force() {
            // Not std's hook: for the backtrace that RUST_BACKTRACE asks for, it would open files.
            let hint = "that is a fault of matchstick; with --sandbox off, RUST_BACKTRACE=1 shows where";
            let _ = io::Write::write_fmt(&mut io::stderr(), format_args!("error: {panic}\n hint: {hint}\n"));
        } else {
            say(panic);
        }
        std::process::exit(status.into());
    }));
}

/// From now on a system call that a filter stops is named, where a handler of SIGSYS asks for it. For a process whose
/// signals are a program's; the others have [`Sandbox::enter`].
pub fn name_forbidden_calls() {
    sys::name_forbidden_calls(forbidden);
}

fn failed(source: io::Error) -> Error {
    Error::Host { step: Step::Sandbox, source }
}

/// A signal handler: a system call that no rule allows ends the process, and says which it was.
fn forbidden(number: i32, argument: u64) -> ! {
    sys::restore_terminal();
    let name =
        usize::try_from(number).ok().and_then(syscalls::Sysno::new).map_or("unknown", |call| call.name());
    let mut text = [0; 256];
    let mut rest = &mut text[..];
    // What an ioctl was about is its second argument.
    let line = format_args!(
        "error: the sandbox stopped the system call {name} ({number}, {argument:#x})\n \
         hint: that is a fault of matchstick, or a guest's attack; --sandbox off runs without\n"
    );
    let _ = io::Write::write_fmt(&mut rest, line);
    let left = rest.len();
    sys::die_saying(&text[..text.len() - left], STATUS)
}

#[cfg(test)]
mod tests;
