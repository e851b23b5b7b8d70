//! An unmodified Linux program in guest ring 3, in a VM without a kernel: its system calls leave the VM, and this
//! process serves them.
//!
//! ```text
//!   ELF file → image → AddressSpace (arena, page tables, slots)
//!     KVM_RUN → exit → Thread: system call → table → host → RAX
//!                              exception   → verdict → a signal's frame
//! ```
//!
//! One process of the host for each process of the program, with a VM of its own; one thread and one vCPU for each of
//! its threads. So fork, pipes, process groups, job control and the exit status are the host's own. What is not here:
//! a kernel. Whatever is served goes to the host's, after `syscall` has checked it. docs/programs.md says what is
//! served and what this wall is worth.
//!
//! Sources: the kernel's Documentation/arch/x86/entry_64.rst, syscalls(2), and what each file names.

mod actions;
mod address_space;
mod calls;
mod child;
mod ending;
mod errno;
mod everywhere;
mod files;
mod filter;
mod image;
mod lent;
mod limits;
mod names;
mod process;
mod processor;
mod procfs;
mod regions;
mod remap;
mod run;
mod signal;
mod stub;
mod syscall;
mod tables;
mod thread;
mod touch;
mod watched;

pub use crate::timeline::Ended;
pub use files::shown;
pub use filter::is_allowed;
pub use image::Refusal;
pub use limits::{Limits, PROCESSES_MAX};
pub use process::Failure;

use crate::error::{Error, Result, Step};
use crate::kvm::Kvm;
use crate::sandbox::{self, Sandbox};
use crate::sys::program as sys;
use crate::timeline::{Observer, Phase, Probe};
use actions::Actions;
use address_space::AddressSpace;
use files::Files;
use process::{Process, Threads};
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use thread::Thread;

/// Where a program is looked for whose environment has no PATH.
pub const DEFAULT_PATH: &[u8] = b"/usr/local/bin:/usr/bin:/bin";

/// What a program may touch, and how it is started.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// The directory that is its root; all of the host's files, if absent.
    pub root: Option<PathBuf>,
    /// Paths on the host whose files it may change. None others.
    pub writable: Vec<PathBuf>,
    /// Whether it may talk to the network.
    pub network: bool,
    /// Whether a container is around this process. Then that is the wall, and what is in it may be reached: all of its
    /// processes, and local sockets by their names.
    pub contained: bool,
    /// Whether the kernel is to keep what was said above as well: the second wall.
    pub sandbox: Sandbox,
    /// Whether it has a /tmp of its own, which is empty at first, in memory, and thrown away at the end.
    pub private_tmp: bool,
    /// What it may take.
    pub limits: Limits,
    /// NAME=value.
    pub environment: Vec<Vec<u8>>,
    /// Whether to name, on standard error, each system call that is not served.
    pub verbose: bool,
    /// With a root: files of the host that it sees at the same place all the same, and may read.
    pub seen: Vec<PathBuf>,
    /// Whom this process becomes before the program's first instruction; nobody else, if absent.
    pub identity: Option<Identity>,
    /// Stay open as long as one of its processes lives: locks.
    pub held: Vec<Arc<OwnedFd>>,
}

/// A user, as a process has one (credentials(7)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The user's number.
    pub user: u32,
    /// The group's number.
    pub group: u32,
    /// Further groups; those of this process, if absent.
    pub groups: Option<Vec<u32>>,
    /// Capabilities, a bit each (capabilities(7)); no others than this process has.
    pub capabilities: u64,
}

/// Takes from this process, and all that it will start, every system call that serving a program does not need. One that
/// is made all the same ends the process with status 125, and is named. Descriptors from `lowest` on are ours.
///
/// For a process that serves a program: [`Program::new`] calls it. It cannot be taken back.
///
/// # Errors
/// Of seccomp(2).
pub fn confine(lowest: i32, network: bool) -> io::Result<()> {
    sandbox::name_forbidden_calls();
    sys::on_fault_in_copies()?;
    filter::confine(lowest, network)
}

/// A program that is ready to run: this process is to become it.
pub struct Program {
    thread: Thread,
}

impl Program {
    /// Finds `arguments[0]` as a shell does, and loads it into a VM of its own.
    ///
    /// # Errors
    /// [`Failure`]: what an execve(2) of it would have said, or what kept the VM from being made.
    pub fn new(config: Config, arguments: Vec<Vec<u8>>) -> std::result::Result<Program, Failure> {
        Program::watched(config, arguments, &mut (), None)
    }

    /// The same, where `probe` is told of each phase of the start, and `observer`, if there is one, of what the program
    /// does.
    ///
    /// # Errors
    /// As [`Program::new`].
    pub fn watched(
        config: Config,
        arguments: Vec<Vec<u8>>,
        probe: &mut impl Probe,
        observer: Option<Box<dyn Observer>>,
    ) -> std::result::Result<Program, Failure> {
        let host = |step| move |source| Failure::Vmm(Error::Host { step, source });
        let mut config = config;
        if config.private_tmp {
            let tmp = config.root.as_deref().unwrap_or(Path::new("/")).join("tmp");
            let made = sys::private_directory(&tmp, config.limits.memory);
            made.map_err(host(Step::PrivateDirectory))?;
            config.writable.push(tmp);
        }
        let lowest = sys::lowest_of_ours().map_err(host(Step::OpenKvm))?;
        let kvm = Kvm::open()?.out_of_reach(lowest)?;
        probe.mark(Phase::Open);
        let arena = address_space::reserve()?;
        let files = Files::new(config.root.as_deref(), &config.writable, lowest);
        let mut files = files.map_err(|(path, source)| Failure::Place(path, source))?;
        files.see(config.seen);
        files.hold(&config.held).map_err(host(Step::OpenKvm))?;
        files.contained = config.contained;
        if let Some(root) = files.root()
            && !std::env::current_dir().is_ok_and(|current| current.starts_with(root))
        {
            std::env::set_current_dir(root).map_err(|_| Failure::Denied(libc::EACCES))?;
        }
        sys::on_fault_in_copies().map_err(host(Step::Signals))?;
        sys::default_everything().map_err(host(Step::Signals))?;
        let name = shown(arguments.first().map_or(b"", Vec::as_slice));
        limits::put_in_force(&config.limits, &name, lowest)?;
        probe.mark(Phase::Arena);
        let mut space = AddressSpace::new(&kvm, Arc::clone(&arena), lowest)?;
        // Its first stack has a limit of its own.
        space.limit(config.limits.memory.map(|memory| memory.saturating_add(image::STACK)));
        probe.mark(Phase::CreateVm);
        let process = Process {
            processor: OnceLock::new(),
            arena,
            space: Mutex::new(space),
            kvm,
            actions: Mutex::new(Actions::inherited()),
            files,
            names: names::Names::default(),
            threads: Mutex::new(Threads {
                alive: BTreeSet::from([sys::thread_id()]),
                status: 0,
                clearing: None,
                idle: Vec::new(),
            }),
            thread_ended: Condvar::new(),
            is_clearing: AtomicBool::new(false),
            shares_memory: AtomicBool::new(false),
            how: AtomicU8::new(0),
            maker: AtomicI32::new(0),
            keeps_signals: AtomicBool::new(config.contained),
            network: config.network,
            verbose: config.verbose,
            output: limits::Output::find(),
            vfork: Mutex::new(None),
        };
        let name = arguments.first().cloned().unwrap_or_default();
        let path = match name.contains(&b'/') {
            true => name,
            false => {
                let is_path = |entry: &&Vec<u8>| entry.starts_with(b"PATH=");
                let path = config.environment.iter().find(is_path).map(|entry| &entry[5..]);
                let found = process.files.find_in_path(&name, path.unwrap_or(DEFAULT_PATH));
                found.ok_or(Failure::NotFound)?
            }
        };
        let opened = process.open(&path, arguments, 0)?;
        opened.check_size()?;
        if opened.asks_cpuid() {
            process.processor()?;
        }
        let begin =
            process.load(&opened, &config.environment).map_err(|refusal| Failure::Refused(refusal, None))?;
        probe.mark(Phase::Load);
        let process = Arc::new(process);
        if config.sandbox != Sandbox::Off && !config.contained {
            let files = &process.files;
            let root = files.root().unwrap_or(Path::new("/"));
            let keeps_signals = sys::wall(root, files.writable(), files.seen(), config.network);
            process.keeps_signals.store(keeps_signals.map_err(host(Step::Sandbox))?, Ordering::Relaxed);
        }
        if let Some(Identity { user, group, groups, capabilities }) = &config.identity {
            let become_user = sys::become_user(*user, *group, groups.as_deref(), *capabilities);
            become_user.map_err(|error| Failure::Denied(error.raw_os_error().unwrap_or(libc::EIO)))?;
        }
        if config.sandbox != Sandbox::Off {
            sandbox::name_forbidden_calls();
            filter::confine(lowest, config.network).map_err(host(Step::Sandbox))?;
        }
        probe.mark(Phase::Confine);
        let thread = Thread::first(process, begin, opened.asks_cpuid(), run::other)?;
        probe.mark(Phase::CreateVcpus);
        let mut program = Program { thread };
        if let Some(observer) = observer {
            program.observe(observer);
        }
        Ok(program)
    }

    /// Has `observer` told of what the program does.
    pub fn observe(&mut self, mut observer: Box<dyn Observer>) {
        let (path, arguments) = self.thread.process.files.what_runs();
        observer.program(path.as_os_str().as_bytes(), &arguments);
        process::lock(&self.thread.process.actions).watch();
        self.thread.observer = Some(observer);
    }

    /// Runs it. This process ends as the program ends: with its status, or by its signal.
    pub fn run(self) -> Result<Infallible> {
        run::first(self.thread)?;
        // The first thread does not end before its process.
        sys::end_process(125)
    }
}
