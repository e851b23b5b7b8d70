//! What can be watched of a Linux program in a VM: its system calls, its exits, its signals, its threads and its end.
//!
//! An [`Observer`] watches one thread of it, and is told what happens there; a program that nobody watches has none, and
//! pays a look at an empty place for it. A [`Probe`](super::Probe) is the same for a machine.

use std::os::fd::RawFd;
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
pub trait ProgramMemory {
    /// Fills `bytes` from `at` on; false where there is not so much to be read.
    fn read(&self, at: u64, bytes: &mut [u8]) -> bool;
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
    fn enter(&mut self) {}

    /// It has left the VM, for this reason.
    fn left(&mut self, _why: Left) {}

    /// What it takes to leave the VM and to come back, if the program does nothing: as measured here.
    fn round_trip(&mut self, _time: Duration) {}

    /// It wants this system call, which is about to be checked and served. Each argument has its shape.
    fn call(&mut self, _number: u64, _arguments: &[(u64, Shape)], _memory: &dyn ProgramMemory) {}

    /// The call was served.
    fn answered(&mut self, _how: Answered, _memory: &dyn ProgramMemory) {}

    /// A signal is about to be delivered; `_info` is its siginfo_t.
    fn signal(&mut self, _signal: i32, _info: &[u8; 128]) {}

    /// The process is another program from now on, whose file and arguments these are. Of a program's first process this
    /// is the beginning.
    fn program(&mut self, _path: &[u8], _arguments: &[Vec<u8>]) {}

    /// What is to watch a thread that this one is about to start.
    fn thread(&mut self) -> Box<dyn Observer>;

    /// The thread is the only one of a new process now: the child of a fork(2), with a VM of its own.
    fn forked(&mut self) {}

    /// The process is about to end. Nothing is said of one that is killed from outside.
    fn ended(&mut self, _how: Ended) {}

    /// Descriptors that it needs.
    fn descriptors(&self) -> Vec<RawFd> {
        Vec::new()
    }
}
