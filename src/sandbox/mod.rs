//! The sandbox: what this process gives up before its guest runs.
//!
//! A guest that breaks out of the VM does so through a fault of ours, and is then a thread of this process. So
//! before the first `KVM_RUN` the process gives up what it will not need: files, capabilities, privileges to come,
//! core dumps; and each thread all system calls but those of its role ([`rules`]).
//!
//! It does not guard against a fault of KVM itself, nor against what a guest learns from caches and clocks:
//! docs/security.md says what is promised. Sources: seccomp(2), landlock(7), capabilities(7).

pub mod rules;

use crate::error::{Error, Result, Step};
use crate::sys;
use seccompiler::sock_filter;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

/// One of a filter: code, jump if true, jump if false, constant.
type Instruction = (u16, u8, u8, u32);

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
        let filter: &[Instruction] = match role {
            Role::FirstVcpu if self == Sandbox::Traced => &TRACED,
            Role::FirstVcpu => &FIRST,
            Role::OtherVcpu => &OTHER,
            Role::Input => &INPUT,
        };
        let filter: Vec<_> =
            filter.iter().map(|&(code, jt, jf, k)| sock_filter { code, jt, jf, k }).collect();
        seccompiler::apply_filter(&filter).map_err(io::Error::other).map_err(failed)
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
mod tests {
    use super::rules::{self, Rules};
    use super::*;

    const X86_64: u32 = 0xc000_003e;
    const ALLOW: u32 = 0x7fff_0000;
    const TRAP: u32 = 0x0003_0000;

    /// What a filter answers: the few instructions that ours are made of.
    fn ask(filter: &[Instruction], architecture: u32, number: u32, arguments: [u32; 3]) -> u32 {
        let (mut at, mut loaded) = (0, 0);
        loop {
            let (code, yes, no, k) = filter[at];
            let jump = |taken| 1 + usize::from(if taken { yes } else { no });
            at += match code {
                0x20 => {
                    loaded = match k {
                        0 => number,
                        4 => architecture,
                        8 => 0x1234,
                        16 | 24 | 32 => arguments[(k as usize - 16) / 8],
                        _ => panic!("nothing of interest is at {k}"),
                    };
                    1
                }
                0x15 => jump(loaded == k),
                0x45 => jump(loaded & k != 0),
                0x06 => return k,
                _ => panic!("instruction {code:#x}"),
            };
        }
    }

    #[test]
    fn each_filter_allows_what_its_rules_say_and_nothing_else() {
        let roles: [(&[Instruction], Rules); 4] = [
            (&FIRST, rules::FIRST),
            (&TRACED, rules::TRACED),
            (&OTHER, rules::OTHER),
            (&INPUT, rules::INPUT),
        ];
        for (filter, rules) in roles {
            for number in 0..2048 {
                let is_free = |calls: &[i64]| calls.contains(&i64::from(number));
                let values: &[u64] = match i64::from(number) {
                    libc::SYS_ioctl => rules.requests,
                    libc::SYS_tgkill => rules::SIGNALS,
                    libc::SYS_fcntl => rules::FCNTL,
                    _ => &[],
                };
                let argument = if i64::from(number) == libc::SYS_tgkill { 2 } else { 1 };
                let with = |value: u32| {
                    let mut arguments = [0; 3];
                    arguments[argument] = value;
                    ask(filter, X86_64, number, arguments)
                };
                for &value in values {
                    assert_eq!(with(value as u32), ALLOW, "{}: {number} with {value}", rules.role);
                }
                let expected = match i64::from(number) {
                    libc::SYS_mmap | libc::SYS_mprotect => ALLOW,
                    _ if is_free(rules.calls) || is_free(rules::COMMON) => ALLOW,
                    _ => TRAP,
                };
                assert_eq!(with(0x7fff_fff0), expected, "{}: {number}", rules.role);
                // The same number means another call to a 32-bit program, and x32 has a bit of its own.
                assert_eq!(ask(filter, 0x4000_0003, number, [0; 3]), TRAP);
                assert_eq!(ask(filter, X86_64, number | 1 << 30, [0; 3]), TRAP);
            }
        }
    }

    #[test]
    fn no_memory_becomes_executable() {
        for call in [libc::SYS_mmap, libc::SYS_mprotect] {
            let ask = |protection: i32| ask(&FIRST, X86_64, call as u32, [0, 0, protection as u32]);
            assert_eq!(ask(libc::PROT_READ | libc::PROT_WRITE), ALLOW);
            assert_eq!(ask(libc::PROT_READ | libc::PROT_EXEC), TRAP);
        }
    }
}
