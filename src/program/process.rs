//! A process of a program: what its threads share, and how a file becomes what it runs.
//!
//! Sources: execve(2), path_resolution(7).

use super::actions::Actions;
use super::address_space::AddressSpace;
use super::calls::Return;
use super::errno::Errno;
use super::files::{CWD, Files, shown};
use super::image::{self, Begin, Executable, Refusal, Start};
use super::lent::Lent;
use super::limits::Output;
use super::names::Names;
use super::processor::{self, Processor};
use super::stub;
use crate::error::{Error, Result};
use crate::kvm::Kvm;
use crate::kvm::ring3::ProgramVcpu;
use crate::sys::program::{self as sys, Arena, Argument};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};

/// Why a program was not started.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// There is no such file.
    #[error("there is no such program")]
    NotFound,
    /// There is one, and it may not be run: by the number of errno(3).
    #[error("{}", std::io::Error::from_raw_os_error(*.0))]
    Denied(i32),
    /// It is no program that can be run; or its interpreter, which is named then, is none.
    #[error("{}{}", .1.as_ref().map_or(String::new(), |path| format!("its interpreter {}: ", shown(path))), .0)]
    Refused(Refusal, Option<Vec<u8>>),
    /// What it is to have as its root, or to change, is not there.
    #[error("{}", crate::text::shown(.0))]
    Place(PathBuf, #[source] std::io::Error),
    /// What a child that was to become it has said; see [`Program::capture`](super::Program::capture).
    #[error("{0}")]
    Child(String),
    /// The VM could not be made.
    #[error(transparent)]
    Vmm(#[from] Error),
}

/// A process: what its threads share.
pub struct Process {
    pub kvm: Kvm,
    /// What CPUID shows, once a thread has asked or needs it: to find it out is dear.
    pub processor: OnceLock<Processor>,
    pub arena: Arc<Arena>,
    pub space: Mutex<AddressSpace>,
    pub actions: Mutex<Actions>,
    pub files: Files,
    pub names: Names,
    pub threads: Mutex<Threads>,
    pub thread_ended: Condvar,
    /// Whether threads are to end: `Threads::clearing` says which.
    pub is_clearing: AtomicBool,
    /// Whether it has had memory that other processes see as well, in which they may wait for a lock.
    pub shares_memory: AtomicBool,
    /// How system calls go back: 0 until the first one.
    pub how: AtomicU8,
    /// The process of the same program that has made this one by fork(2); 0 for its first one.
    pub maker: AtomicI32,
    /// Whether the kernel keeps signals to other processes in.
    pub keeps_signals: AtomicBool,
    pub network: bool,
    pub verbose: bool,
    /// What counts as output, where that is limited.
    pub output: Option<Output>,
    /// What a child of vfork(2) tells its parent when it ends, instead of becoming another program.
    pub vfork: Mutex<Option<Lent>>,
}

/// The threads of a process.
pub struct Threads {
    pub alive: BTreeSet<i32>,
    /// With which status the last one has ended.
    pub status: i32,
    /// Whether all but one are to end.
    pub clearing: Option<Clearing>,
    /// vCPUs of threads that have ended, each with its page: one cannot be given back before its VM is.
    pub idle: Vec<(ProgramVcpu, u64)>,
}

/// Every thread of a process ends, but for one.
pub enum Clearing {
    /// The one with that number, which goes on.
    Spared(i32),
    /// The first one, which goes on as another program.
    Replaced(Box<Replacement>),
}

/// The program that a process is about to become.
pub struct Replacement {
    pub opened: Opened,
    pub environment: Vec<Vec<u8>>,
    /// The signals that the thread blocks that has called execve(2).
    pub mask: u64,
}

/// Takes a lock. No thread panics while it holds one, so what it guards is whole.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Process {
    /// How system calls go back, once it is known.
    pub fn how(&self) -> Option<Return> {
        match self.how.load(Ordering::Relaxed) {
            1 => Some(Return::Sysret),
            2 => Some(Return::Jump),
            _ => None,
        }
    }

    /// Learns it from the first call's registers.
    pub fn learn(&self, vcpu: &mut ProgramVcpu) -> Return {
        if let Some(how) = self.how() {
            return how;
        }
        let how = stub::find_return(&vcpu.system_at_exit());
        vcpu.bring_system(false);
        self.how.store(if how == Return::Sysret { 1 } else { 2 }, Ordering::Relaxed);
        how
    }

    /// A vCPU for a thread, ready but for its registers, with its page.
    pub fn vcpu(&self) -> Result<(ProgramVcpu, u64)> {
        if let Some(idle) = lock(&self.threads).idle.pop() {
            return Ok(idle);
        }
        let (mut vcpu, page) = lock(&self.space).create_vcpu()?;
        self.set_up(&mut vcpu, page)?;
        Ok((vcpu, page))
    }

    /// The processor that a vCPU is.
    pub fn processor(&self) -> Result<&Processor> {
        if self.processor.get().is_none() {
            // Should another thread have been faster, it has found the same.
            let _ = self.processor.set(Processor::find(&self.kvm)?);
        }
        Ok(self.processor.get().expect("it was set"))
    }

    /// What a new vCPU needs once.
    pub fn set_up(&self, vcpu: &mut ProgramVcpu, page: u64) -> Result<()> {
        let Processor { cpuid, xcr0, has_xsave, has_fsgsbase, .. } = self.processor()?;
        vcpu.set_system(stub::system_registers(page, *has_xsave, *has_fsgsbase));
        vcpu.bring_system(self.how().is_none());
        vcpu.set_up(cpuid, has_xsave.then_some(*xcr0), &stub::msrs(page))
    }

    /// The same for a program's first vCPU, but without CPUID, which a program may never execute: if it does, it faults
    /// (`Thread::complete`). False where KVM cannot have it fault.
    pub fn set_up_bare(&self, vcpu: &mut ProgramVcpu, page: u64) -> Result<bool> {
        if sys::auxiliary(libc::AT_MINSIGSTKSZ) == 0 {
            return Ok(false);
        }
        vcpu.set_system(stub::system_registers(page, false, false));
        vcpu.bring_system(self.how().is_none());
        vcpu.set_up_bare(&stub::msrs(page))
    }

    /// Reads a program, and what loads it; a script is run by what its first line names. `depth` is how many of those
    /// there were. Returns the arguments as they are then.
    pub fn open(
        &self,
        path: &[u8],
        arguments: Vec<Vec<u8>>,
        depth: usize,
    ) -> std::result::Result<Opened, Failure> {
        /// As many as Linux goes through.
        const SCRIPTS: usize = 5;
        let denied = |errno: Errno| match errno {
            Errno(libc::ENOENT | libc::ENOTDIR) => Failure::NotFound,
            Errno(errno) => Failure::Denied(errno),
        };
        let handle = self.files.find(CWD, path, true).map_err(denied)?;
        let kind = handle.kind().map_err(|error| denied(error.into()))?;
        let is_file = kind.mode & libc::S_IFMT == libc::S_IFREG;
        // A file of memory (memfd_create) is a regular one as well.
        if !is_file || kind.mode & 0o111 == 0 {
            return Err(Failure::Denied(libc::EACCES));
        }
        let file = handle.read(self.files.lowest()).map_err(|error| denied(error.into()))?;
        let file_path = handle.path().unwrap_or_default();
        if let Some((interpreter, argument)) = script(&file) {
            if depth >= SCRIPTS {
                return Err(Failure::Denied(libc::ELOOP));
            }
            let words = [Some(interpreter.clone()), argument, Some(path.to_vec())];
            let words = words.into_iter().flatten().chain(arguments.into_iter().skip(1)).collect();
            return self.open(&interpreter, words, depth + 1).map_err(|failure| match failure {
                Failure::NotFound if depth == 0 => {
                    Failure::Refused(Refusal::System(libc::ENOENT), Some(interpreter))
                }
                failure => failure,
            });
        }
        let program = Executable::read(file, kind.size).map_err(|refusal| Failure::Refused(refusal, None))?;
        let interpreter = match &program.interpreter {
            None => None,
            Some(path) => {
                let refused = |refusal| Failure::Refused(refusal, Some(path.clone()));
                let handle = self
                    .files
                    .find(CWD, path, true)
                    .map_err(|Errno(errno)| refused(Refusal::System(errno)))?;
                let size = handle.kind().map_err(|error| refused(error.into()))?.size;
                let file = handle.read(self.files.lowest()).map_err(|error| refused(error.into()))?;
                Some(Executable::read(file, size).map_err(refused)?)
            }
        };
        Ok(Opened { program, interpreter, path: path.to_vec(), file_path, arguments })
    }

    /// Whether `to`, a number as kill(2) takes it, is the process itself, one of its threads, its group, a child, or the
    /// one that has made it. That one's number is nobody else's as long as it is the parent.
    pub fn is_near(&self, to: i32) -> bool {
        let own = std::process::id() as i32;
        let is_maker = || to == self.maker.load(Ordering::Relaxed) && to == sys::parent();
        to == own
            || to == 0
            || to == -own
            || lock(&self.threads).alive.contains(&to)
            || sys::is_child(to)
            || is_maker()
    }

    /// Before the process ends: tells a parent that has lent its memory what has changed in it.
    pub fn say_end(&self) {
        let lent = lock(&self.vfork).take();
        if let Some(lent) = lent {
            lent.say_end(&self.arena, lock(&self.space).regions());
        }
    }

    /// Wakes who waits for a word of the program's memory (futex(2)). For a thread that ends: a signal that has come for it
    /// is forgotten.
    pub fn wake(&self, at: u64) {
        if let Ok(place) = self.arena.place(at, 4) {
            let (operation, none) = (Argument::Word(libc::FUTEX_WAKE as u64), Argument::Word(0));
            let arguments = [Argument::Memory(place), operation, Argument::Word(1), none, none, none];
            while matches!(sys::call(libc::SYS_futex, arguments), sys::NOT_MADE | sys::RESTART) {
                // What has called back a thread that ends.
                let _ = sys::Inbox::take();
            }
        }
    }

    /// Puts a program into the address space, which is empty.
    pub fn load(&self, opened: &Opened, environment: &[Vec<u8>]) -> std::result::Result<Begin, Refusal> {
        let start = Start {
            path: &opened.path,
            arguments: &opened.arguments,
            environment,
            ids: sys::ids(),
            signal_stack_min: match self.processor.get() {
                Some(processor) => processor::frame_size(processor.fpu_size),
                // The host's, with whose processor it is at least as large.
                None => sys::auxiliary(libc::AT_MINSIGSTKSZ),
            },
        };
        let begin =
            image::load(&mut lock(&self.space), &opened.program, opened.interpreter.as_ref(), &start)?;
        self.files.set_program(opened.file_path.clone(), opened.arguments.clone());
        sys::set_name(opened.file_path.file_name().unwrap_or_default());
        Ok(begin)
    }
}

/// A program that was read and is to be loaded.
pub struct Opened {
    program: Executable,
    interpreter: Option<Executable>,
    path: Vec<u8>,
    file_path: PathBuf,
    arguments: Vec<Vec<u8>>,
}

impl Opened {
    /// Refuses what ends too early, or whose interpreter does.
    pub fn check_size(&self) -> std::result::Result<(), Failure> {
        let interpreter = self.interpreter.as_ref().and_then(|interpreter| interpreter.short);
        match (self.program.short, interpreter) {
            (Some(refusal), _) => Err(Failure::Refused(refusal, None)),
            (None, Some(refusal)) => Err(Failure::Refused(refusal, self.program.interpreter.clone())),
            (None, None) => Ok(()),
        }
    }

    /// Its path, as it was given.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// Whether it executes CPUID as soon as it starts, as far as can be told.
    pub fn asks_cpuid(&self) -> bool {
        self.program.asks_cpuid()
    }
}

/// The interpreter that a script's first line names, and its one argument (execve(2), "Interpreter scripts").
fn script(file: &std::fs::File) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
    use std::os::unix::fs::FileExt;
    let mut head = [0; 256];
    let len = file.read_at(&mut head, 0).ok()?;
    let line = head[..len].strip_prefix(b"#!")?;
    let line = line.split(|&byte| byte == b'\n').next()?.trim_ascii();
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    match line.iter().position(is_blank) {
        Some(at) => Some((line[..at].to_vec(), Some(line[at..].trim_ascii().to_vec()))),
        None => (!line.is_empty()).then(|| (line.to_vec(), None)),
    }
}
