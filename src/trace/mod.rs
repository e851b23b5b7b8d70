//! Traces: every call to the host and every exit of the guest, recorded while it runs and told when it has ended.
//!
//! [`Tracer`] is the probe that records; [`Recording`] is the result. Nothing is written before the guest has ended, so
//! the guest's output is the same as without a trace. A recording becomes text in `story`, JSON in `json` and a page in
//! `html`. [`Stepper`] is another probe: it stops the guest after each instruction and records what has changed.

mod call;
mod changes;
pub mod code;
mod event;
pub mod html;
pub mod json;
pub mod program;
pub mod step;
pub mod story;

pub use changes::{Change, Changes};
pub use event::{Code, Event, EventKind, ExitRecord, HeadAndTail, Reason};
pub use step::{Step, Stepper};

use crate::kvm::{Call, Exit, Vcpu};
use crate::sys;
use crate::timeline::{Phase, Probe};
use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::time::Duration;

/// How many events are kept of the beginning of a run, and of its end. Each takes some 200 bytes.
const KEPT: (usize, usize) = (16_000, 4_000);
/// For how many values of RIP the code is kept.
const CODES_MAX: usize = 4_000;
/// How often a `KVM_RUN` that returns at once is measured; the shortest time counts.
const EMPTY_RUNS: usize = 5;

/// Exits of one reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many there were.
    pub count: u64,
    /// The time in `KVM_RUN` until these exits.
    pub inside: Duration,
    /// The time that we took to answer them.
    pub outside: Duration,
}

/// What a [`Tracer`] has noted.
#[derive(Debug, Clone)]
pub struct Recording {
    /// The guest's name.
    pub name: String,
    /// In the order in which they ended.
    pub events: HeadAndTail<Event>,
    /// The guest's code at each place where it exited.
    pub codes: Vec<Code>,
    /// All exits, also those whose events were dropped.
    pub exits: BTreeMap<Reason, Tally>,
    /// The time in calls other than `KVM_RUN`.
    pub calls: Duration,
    /// The time of the whole run, without [`overhead`](Recording::overhead).
    pub total: Duration,
    /// The time that recording took.
    pub overhead: Duration,
    /// The time of a `KVM_RUN` that returns at once.
    pub empty_run: Duration,
}

impl Recording {
    /// Exits of all reasons.
    pub fn all_exits(&self) -> Tally {
        let add = |sum: Tally, one: &Tally| Tally {
            count: sum.count + one.count,
            inside: sum.inside + one.inside,
            outside: sum.outside + one.outside,
        };
        self.exits.values().fold(Tally::default(), add)
    }

    /// The total, divided into guest, KVM and VMM.
    ///
    /// We cannot see when KVM enters the guest. The time of a `KVM_RUN` that returns at once is certainly KVM's, so
    /// the rest of the time in `KVM_RUN` is the most that can be the guest's.
    pub fn split(&self) -> Split {
        let Tally { count, inside, .. } = self.all_exits();
        let entries = self.empty_run.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX)).min(inside);
        let kvm = self.calls + entries;
        Split { guest: inside - entries, kvm, vmm: self.total.saturating_sub(inside + self.calls) }
    }
}

/// Whose time it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Split {
    /// The guest's, at most: KVM's work for the guest is in it.
    pub guest: Duration,
    /// KVM's, at least.
    pub kvm: Duration,
    /// Ours.
    pub vmm: Duration,
}

/// A probe that records everything.
pub struct Tracer {
    recording: Recording,
    start: Duration,
    /// When the last phase ended, and the overhead until then.
    phase: (Duration, Duration),
    /// When the guest was entered, and the overhead until then.
    entered: (Duration, Duration),
    /// The exit that is being answered, since when, and the overhead until then.
    record: Option<(ExitRecord, Duration, Duration)>,
    /// Which code belongs to a RIP.
    known: HashMap<u64, usize>,
}

impl Tracer {
    /// A tracer that counts from now on.
    pub fn new() -> Tracer {
        let start = sys::monotonic();
        let recording = Recording {
            name: String::new(),
            events: HeadAndTail::of(KEPT.0, KEPT.1),
            codes: Vec::new(),
            exits: BTreeMap::new(),
            calls: Duration::ZERO,
            total: Duration::ZERO,
            overhead: Duration::ZERO,
            empty_run: Duration::ZERO,
        };
        let zero = (start, Duration::ZERO);
        Tracer { recording, start, phase: zero, entered: zero, record: None, known: HashMap::new() }
    }

    /// The recording, of the guest `name`.
    pub fn finish(mut self, name: &str) -> Recording {
        self.recording.total = self.since((self.start, Duration::ZERO), sys::monotonic());
        self.recording.name = name.into();
        self.recording
    }

    /// The time from `begin` to `end`, without the overhead in between.
    fn since(&self, (begin, overhead): (Duration, Duration), end: Duration) -> Duration {
        end.saturating_sub(begin).saturating_sub(self.recording.overhead - overhead)
    }

    fn note(&mut self, begin: Duration, took: Duration, kind: EventKind) {
        self.recording.events.push(Event { at: begin.saturating_sub(self.start), took, kind });
    }

    /// Counts the time since `begin` as overhead.
    fn charge(&mut self, begin: Duration) {
        self.recording.overhead += sys::monotonic().saturating_sub(begin);
    }

    /// Completes the record of the exit that has been answered, and adds it to the recording.
    fn close(&mut self, vcpu: &mut Vcpu, now: Duration) {
        let Some((mut record, begin, overhead)) = self.record.take() else { return };
        record.outside = self.since((begin, overhead), now);
        let general = vcpu.general();
        (record.rip, record.dx) = (general.rip, general.rdx as u16);
        record.code = self.code_at(vcpu, record.rip);
        let tally = self.recording.exits.entry(record.reason).or_default();
        tally.count += 1;
        tally.inside += record.inside;
        tally.outside += record.outside;
        self.note(self.entered.0, record.inside + record.outside, EventKind::Exit(record));
    }

    /// The bytes around `rip`, read the first time that the guest exits there.
    fn code_at(&mut self, vcpu: &mut Vcpu, rip: u64) -> Option<usize> {
        if let Some(&known) = self.known.get(&rip) {
            return Some(known);
        }
        if self.recording.codes.len() == CODES_MAX {
            return None;
        }
        let registers = vcpu.registers_at_exit().ok()?;
        let mut code =
            Code { rip, bits: registers.bits(), bytes: [0; Code::BEFORE + Code::BEHIND], known: (0, 0) };
        let linear = registers.linear_rip();
        let (before, behind) = code.bytes.split_at_mut(Code::BEFORE);
        if vcpu.peek(&registers, linear.wrapping_sub(Code::BEFORE as u64), before) == Code::BEFORE {
            code.known.0 = Code::BEFORE;
        }
        code.known.1 = vcpu.peek(&registers, linear, behind);
        self.known.insert(rip, self.recording.codes.len());
        self.recording.codes.push(code);
        Some(self.recording.codes.len() - 1)
    }
}

impl Default for Tracer {
    fn default() -> Tracer {
        Tracer::new()
    }
}

impl Probe for Tracer {
    fn mark(&mut self, phase: Phase) {
        let now = sys::monotonic();
        let took = self.since(self.phase, now);
        self.note(self.phase.0, took, EventKind::Phase(phase));
        self.charge(now);
        self.phase = (now, self.recording.overhead);
    }

    fn call<T>(&mut self, call: impl FnOnce() -> Call, body: impl FnOnce() -> T) -> T {
        let begin = sys::monotonic();
        let result = body();
        let end = sys::monotonic();
        self.recording.calls += end - begin;
        self.note(begin, end - begin, EventKind::Call(call()));
        self.charge(end);
        result
    }

    fn enter(&mut self, vcpu: &mut Vcpu) -> ControlFlow<()> {
        let now = sys::monotonic();
        self.close(vcpu, now);
        self.charge(now);
        self.entered = (sys::monotonic(), self.recording.overhead);
        ControlFlow::Continue(())
    }

    fn exit(&mut self, exit: &Exit<'_>) {
        let now = sys::monotonic();
        let record = ExitRecord { inside: now.saturating_sub(self.entered.0), ..ExitRecord::of(exit) };
        self.charge(now);
        self.record = Some((record, now, self.recording.overhead));
    }

    fn served(&mut self, exit: &Exit<'_>, device: impl FnOnce() -> &'static str) {
        let now = sys::monotonic();
        if let Some((record, ..)) = &mut self.record {
            // What the guest reads has been filled in since `exit`.
            record.data = ExitRecord::of(exit).data;
            record.device = device();
        }
        self.charge(now);
    }

    fn left(&mut self, vcpu: &mut Vcpu) {
        let now = sys::monotonic();
        self.close(vcpu, now);
        let time = |_| {
            let begin = sys::monotonic();
            vcpu.run_empty();
            sys::monotonic() - begin
        };
        self.recording.empty_run = (0..EMPTY_RUNS).map(time).min().unwrap_or_default();
        self.charge(now);
    }
}
