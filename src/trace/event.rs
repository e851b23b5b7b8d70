//! The records of a trace, each of a fixed size, and the bounded list that keeps them.

use crate::kvm::{Call, Exit};
use crate::timeline::Phase;
use std::collections::VecDeque;
use std::time::Duration;

/// How many bytes of an access are kept; a longer string is cut.
pub const DATA_MAX: usize = 48;

/// Why the guest exited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// OUT to a port.
    Out,
    /// IN from a port.
    In,
    /// A write to an address that is not memory.
    Write,
    /// A read from an address that is not memory.
    Read,
    /// The end of a level-triggered interrupt.
    Eoi,
    /// HLT, without a local APIC.
    Halt,
    /// A signal interrupted `KVM_RUN`.
    Interrupted,
    /// A single step or a breakpoint.
    Debug,
    /// A triple fault.
    Shutdown,
    /// KVM could not go on.
    Failed,
}

impl Reason {
    /// One word for it.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Out => "out",
            Reason::In => "in",
            Reason::Write => "write",
            Reason::Read => "read",
            Reason::Eoi => "eoi",
            Reason::Halt => "halt",
            Reason::Interrupted => "interrupted",
            Reason::Debug => "debug",
            Reason::Shutdown => "shutdown",
            Reason::Failed => "failed",
        }
    }

    /// Whether the guest moved data through a port.
    pub fn is_port(self) -> bool {
        matches!(self, Reason::Out | Reason::In)
    }

    /// Whether the guest moved data at all.
    pub fn is_access(self) -> bool {
        matches!(self, Reason::Out | Reason::In | Reason::Write | Reason::Read)
    }
}

/// One `KVM_RUN`, and the exit that ended it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExitRecord {
    /// Why it ended.
    pub reason: Reason,
    /// Port, guest-physical address, interrupt vector, or KVM's code for a failure.
    pub address: u64,
    /// Bytes of one access.
    pub size: usize,
    /// Bytes of all accesses: a string instruction makes several.
    pub len: usize,
    /// The first of these bytes.
    pub data: [u8; DATA_MAX],
    /// The device that answered.
    pub device: &'static str,
    /// RIP at the exit; after the instruction, if KVM has completed it already.
    pub rip: u64,
    /// DX at the exit: most IN and OUT instructions take the port from there.
    pub dx: u16,
    /// The index in [`Recording::codes`](super::Recording::codes) of the bytes around RIP.
    pub code: Option<usize>,
    /// Time in `KVM_RUN`: the guest's, and KVM's for it.
    pub inside: Duration,
    /// Time from the exit until the guest went on: ours.
    pub outside: Duration,
}

impl ExitRecord {
    /// A record of what `exit` holds. Device, registers and times are filled in later.
    pub fn of(exit: &Exit<'_>) -> ExitRecord {
        let (reason, address, size, bytes): (_, _, _, &[u8]) = match exit {
            Exit::Out { port, size, data } => (Reason::Out, u64::from(*port), *size, data),
            Exit::In { port, size, data } => (Reason::In, u64::from(*port), *size, data),
            Exit::MmioWrite { address, data } => (Reason::Write, *address, data.len(), data),
            Exit::MmioRead { address, data } => (Reason::Read, *address, data.len(), data),
            Exit::Eoi { vector } => (Reason::Eoi, u64::from(*vector), 0, &[]),
            Exit::Halt => (Reason::Halt, 0, 0, &[]),
            Exit::Debug => (Reason::Debug, 0, 0, &[]),
            Exit::Interrupted => (Reason::Interrupted, 0, 0, &[]),
            Exit::Shutdown => (Reason::Shutdown, 0, 0, &[]),
            Exit::Failed { code, .. } => (Reason::Failed, *code, 0, &[]),
        };
        let mut data = [0; DATA_MAX];
        let known = bytes.len().min(DATA_MAX);
        data[..known].copy_from_slice(&bytes[..known]);
        ExitRecord {
            reason,
            address,
            size,
            len: bytes.len(),
            data,
            device: "",
            rip: 0,
            dx: 0,
            code: None,
            inside: Duration::ZERO,
            outside: Duration::ZERO,
        }
    }

    /// The bytes that were noted.
    pub fn bytes(&self) -> &[u8] {
        &self.data[..self.len.min(DATA_MAX)]
    }

    /// Whether two exits differ in data and times only, so that one line can tell of both.
    pub fn is_like(&self, other: &ExitRecord) -> bool {
        let key = |exit: &ExitRecord| (exit.reason, exit.address, exit.size, exit.device, exit.rip);
        key(self) == key(other)
    }
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// A phase of the run.
    Phase(Phase),
    /// A call to the host.
    Call(Call),
    /// The guest ran, and exited.
    Exit(ExitRecord),
}

/// Something that happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// When it began, from the start of the trace.
    pub at: Duration,
    /// How long it took; for an exit, inside and outside `KVM_RUN` together.
    pub took: Duration,
    /// What it was.
    pub kind: EventKind,
}

/// Bytes of guest memory around an instruction pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code {
    /// RIP.
    pub rip: u64,
    /// 16, 32 or 64: how the processor reads the bytes.
    pub bits: u32,
    /// Bytes from RIP - [`Code::BEFORE`] on.
    pub bytes: [u8; Code::BEFORE + Code::BEHIND],
    /// How many of them before RIP could be read, counted back from RIP, and how many from RIP on.
    pub known: (usize, usize),
}

impl Code {
    /// Bytes kept before RIP: the longest instruction (SDM volume 2, "Instruction Format").
    pub const BEFORE: usize = 15;
    /// Bytes kept from RIP on, for the same reason.
    pub const BEHIND: usize = 15;

    /// The bytes from RIP on.
    pub fn behind(&self) -> &[u8] {
        &self.bytes[Code::BEFORE..Code::BEFORE + self.known.1]
    }
}

/// The first items and the last items of a long list; those between are only counted.
#[derive(Debug, Clone)]
pub struct HeadAndTail<T> {
    first: Vec<T>,
    last: VecDeque<T>,
    dropped: u64,
    limits: (usize, usize),
}

impl<T> HeadAndTail<T> {
    /// An empty list that will keep `first` items of the beginning and `last` of the end.
    pub fn of(first: usize, last: usize) -> HeadAndTail<T> {
        HeadAndTail { first: Vec::new(), last: VecDeque::new(), dropped: 0, limits: (first, last) }
    }

    /// Adds an item.
    pub fn push(&mut self, one: T) {
        if self.first.len() < self.limits.0 {
            return self.first.push(one);
        }
        if self.last.len() == self.limits.1 {
            self.last.pop_front();
            self.dropped += 1;
        }
        self.last.push_back(one);
    }

    /// The item added last.
    pub fn newest(&mut self) -> Option<&mut T> {
        self.last.back_mut().or(self.first.last_mut())
    }

    /// The first ones.
    pub fn first(&self) -> &[T] {
        &self.first
    }

    /// How many items between the first and the last were not kept.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The last ones, which follow those that were dropped.
    pub fn last(&self) -> impl Iterator<Item = &T> {
        self.last.iter()
    }

    /// All items that were kept.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.first.iter().chain(&self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_and_the_last_are_kept_and_the_rest_is_counted() {
        let mut events = HeadAndTail::of(3, 2);
        for n in 0..10 {
            let at = Duration::from_nanos(n);
            events.push(Event { at, took: at, kind: EventKind::Phase(Phase::Guest) });
            assert_eq!(events.dropped(), (n + 1).saturating_sub(5));
        }
        let kept: Vec<u128> = events.iter().map(|event| event.at.as_nanos()).collect();
        assert_eq!(kept, [0, 1, 2, 8, 9]);
    }

    #[test]
    fn exits_are_alike_when_only_data_and_times_differ() {
        let one = ExitRecord::of(&Exit::Out { port: 0x3f8, size: 1, data: b"a" });
        let two = ExitRecord::of(&Exit::Out { port: 0x3f8, size: 1, data: b"b" });
        assert!(one.is_like(&ExitRecord { inside: Duration::from_secs(1), ..two }));
        assert!(!one.is_like(&ExitRecord { rip: 1, ..two }));
        assert!(!one.is_like(&ExitRecord::of(&Exit::Out { port: 0x3f9, size: 1, data: b"a" })));
    }

    #[test]
    fn a_long_string_is_cut_and_keeps_its_length() {
        let exit = ExitRecord::of(&Exit::Out { port: 0x3f8, size: 1, data: &[b'x'; 200] });
        assert_eq!((exit.len, exit.bytes().len()), (200, DATA_MAX));
    }
}
