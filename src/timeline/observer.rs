//! What can be watched of a Linux program in a VM: its system calls, its exits, its signals, its threads and its end.
//!
//! An [`Observer`] watches one thread of it, and is told what happens there; a program that nobody watches has none, and
//! pays a look at an empty place for it. A [`Probe`](super::Probe) is the same for a machine.

use crate::error::Result;
use kvm_bindings::kvm_regs;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

/// What an argument of a system call is, as far as its kind says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A number.
    Number,
    /// An open file.
    Descriptor,
    /// A directory to look from: an open file, or AT_FDCWD.
    Directory,
    /// The address of a path.
    Path,
    /// The address of so many bytes, or 0 for none. If the call alone knows how many, 0 bytes.
    Memory(u64),
}

/// Why a thread has left the VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Left {
    /// A system call.
    Call,
    /// A page fault.
    PageFault,
    /// Another exception of the processor, or an access to a port.
    Exception,
    /// A signal for the host's thread.
    Signal,
    /// The host has no page there.
    NoPage,
}

/// How a system call has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answered {
    /// With this value in RAX: -4095 to -1 are errors.
    Value(i64),
    /// It was not made, as a signal came first. It is made once more, unless the signal's handler has it fail.
    Again,
    /// It does not come back: the thread or the process ends.
    Never,
    /// It is not one that is served.
    Unknown,
}

/// How a process has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Of itself, with this status.
    Status(i32),
    /// By this signal.
    Signal(i32),
}

/// A program's memory, for who watches it.
pub trait ProgramMemory: Send + Sync {
    /// Fills `bytes` from `at` on; false where there is not so much to be read.
    fn read(&self, at: u64, bytes: &mut [u8]) -> bool;

    /// Writes `bytes` at `at`, also where the program itself may not; false if there is nothing.
    fn write(&self, at: u64, bytes: &[u8]) -> bool;
}

/// A thread of a program that is not in the VM, for who steers it.
pub trait Halted {
    /// The kernel's number of the thread.
    fn number(&self) -> i32;

    /// Its registers, as the program has them.
    fn registers(&mut self) -> kvm_regs;

    /// Has it go on with these.
    fn set_registers(&mut self, registers: kvm_regs) -> Result<()>;

    /// x87 and SSE, as FXSAVE writes them (SDM volume 1, section 10.5.1), and the bases of FS and GS.
    fn others(&mut self) -> Result<(Vec<u8>, [u64; 2])>;

    /// Whether it has made a system call that was not heard of yet: it has to be, before anything else.
    fn is_before_call(&self) -> bool;

    /// The program's memory.
    fn memory(&self) -> Arc<dyn ProgramMemory>;
}

/// Something that watches one thread of a program.
///
/// ```text
///   enter ─▶ KVM_RUN ─▶ left ┬─▶ call ─▶ (served) ─▶ answered ─┐
///     ▲                      └─▶ (a signal, a fault) ──────────┤
///     └────────────────────────────────────────────────────────┘
/// ```
pub trait Observer: Send {
    /// The thread is about to run in the VM.
    fn enter(&mut self, _thread: &mut dyn Halted) -> Result<()> {
        Ok(())
    }

    /// It has left the VM, for this reason.
    fn left(&mut self, _why: Left) {}

    /// What it takes to leave the VM and to come back, if the program does nothing: as measured here.
    fn round_trip(&mut self, _time: Duration) {}

    /// It wants this system call, which is about to be checked and served. Each argument has its shape.
    fn call(&mut self, _thread: &mut dyn Halted, _number: u64, _arguments: &[(u64, Shape)]) -> Result<()> {
        Ok(())
    }

    /// The call was served.
    fn answered(&mut self, _how: Answered, _memory: &dyn ProgramMemory) {}

    /// A signal is about to be delivered; `_info` is its siginfo_t. False if it is not to be.
    fn signal(&mut self, _thread: &mut dyn Halted, _signal: i32, _info: &[u8; 128]) -> Result<bool> {
        Ok(true)
    }

    /// An exception of the program: its vector; the registers are those at its instruction, or behind INT3. True if
    /// that was for the observer, and the program is not to hear of it.
    fn exception(&mut self, _thread: &mut dyn Halted, _vector: u8) -> Result<bool> {
        Ok(false)
    }

    /// The process is another program from now on, whose file and arguments these are. Of a program's first process this
    /// is the beginning.
    fn program(&mut self, _path: &[u8], _arguments: &[Vec<u8>]) {}

    /// What is to watch a thread that this one is about to start.
    fn thread(&mut self) -> Box<dyn Observer>;

    /// The thread is the only one of a new process now: the child of a fork(2), with a VM of its own.
    fn forked(&mut self, _memory: &dyn ProgramMemory) {}

    /// The process is about to end. Nothing is said of one that is killed from outside.
    fn ended(&mut self, _how: Ended) {}

    /// Descriptors that it needs.
    fn descriptors(&self) -> Vec<RawFd> {
        Vec::new()
    }
}
