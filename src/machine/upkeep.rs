//! What is done for a guest beside answering its exits: its interrupts are sent, its output is passed on, its input comes
//! at a pace it can keep; and it is looked after from time to time, whether it has halted or its time is over.
//!
//! HLT waits inside KVM, where nobody would notice that a guest has halted for good. So a timer calls vCPU 0 back.

use super::halted::HaltDetector;
use super::pacing::Pacing;
use super::vcpu_loop::{End, Upkeep};
use super::{Board, Outcome, Shared, lock};
use crate::device::Msi;
use crate::error::{Error, Result, Step};
use crate::kvm::{Call, Exit, Vcpu};
use crate::sys::Timer;
use crate::timeline::Probe;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long a guest runs before we look whether it has halted for good; a tiny one is gone by then.
const FIRST_LOOK: Duration = Duration::from_millis(10);
/// How often we look from then on.
const INTERVAL: Duration = Duration::from_millis(50);

/// What the threads of one run share while it lasts.
pub(super) struct Run<'a> {
    pub shared: &'a Shared,
    /// Calls vCPU 0 back from time to time.
    timer: Timer,
    deadline: Option<Instant>,
    halts: HaltDetector,
    pacing: Mutex<Pacing>,
    /// Set once `ending` is decided, for the vCPUs that still run.
    ended: AtomicBool,
    /// How the machine has ended.
    pub ending: Mutex<Option<Result<Outcome>>>,
}

impl Run<'_> {
    /// Begins a run of the calling thread and of `others` vCPUs on threads of their own.
    pub fn new(shared: &Shared, others: usize) -> Result<Run<'_>> {
        let timeout = shared.timeout;
        let timer = Timer::new().map_err(|source| Error::Host { step: Step::Signals, source })?;
        timer.set(timeout.unwrap_or(FIRST_LOOK).min(FIRST_LOOK), INTERVAL);
        Ok(Run {
            shared,
            timer,
            // A time that no clock will ever show is no limit.
            deadline: timeout.and_then(|timeout| Instant::now().checked_add(timeout)),
            halts: HaltDetector::new(others),
            pacing: Mutex::new(Pacing::default()),
            ended: AtomicBool::new(false),
            ending: Mutex::new(None),
        })
    }

    /// Decides how the machine ends, unless that is decided.
    pub fn end(&self, result: Result<Outcome>) {
        let mut ending = lock(&self.ending);
        // What a vCPU has come to while another one was stopped is not to be lost.
        let is_worth_more =
            matches!(&*ending, Some(Ok(Outcome::Stopped))) && !matches!(&result, Ok(Outcome::Stopped));
        if ending.is_none() || is_worth_more {
            *ending = Some(result);
            self.ended.store(true, Ordering::SeqCst);
            self.shared.remote.kick();
        }
    }

    /// At the end: passes on all that the guest has written.
    pub fn finish(&self) -> Result<()> {
        self.shared.deliver(&mut lock(&self.shared.board));
        self.flush_output()
    }

    /// Lets the devices take input, and carries their interrupts to the local APICs. When a guest has read a burst of
    /// input and more waits, a [pause](Pacing) begins, at whose end the timer calls.
    fn settle<P: Probe>(&self, probe: &mut P) -> Result<()> {
        let mut board = lock(&self.shared.board);
        self.shared.deliver(&mut board);
        board.settle(|Msi { address, data }| {
            probe.call(|| Call::SignalMsi { address, data }, || self.shared.vm.signal_msi(address, data))
        })?;
        drop(board);
        if self.shared.cable.is_spent()
            && let Some(pause) = lock(&self.pacing).begin(Instant::now())
        {
            self.timer.set(pause, INTERVAL);
        }
        Ok(())
    }

    /// Passes on what vCPU `index` has just written. Only the first vCPU's thread writes it to the sink: when
    /// nobody reads there, it is the one that the timer and signals call back.
    /// True when that is more than the guest may write.
    fn offer_output(&self, index: usize) -> Result<bool> {
        let mut bytes = self.shared.cable.written();
        let mut output = lock(&self.shared.output);
        let is_too_much = output.is_over(bytes.len());
        let soon = match index {
            0 => output.offer(&mut bytes, || self.gives_up()).map_err(Error::Output)?,
            _ => output.promise(&bytes),
        };
        if let Some(soon) = soon {
            self.timer.set(soon, INTERVAL);
        }
        Ok(is_too_much)
    }

    fn flush_output(&self) -> Result<()> {
        let mut bytes = self.shared.cable.written();
        lock(&self.shared.output).flush(&mut bytes, || self.gives_up()).map_err(Error::Output)
    }

    /// Whether to stop waiting for a reader that does not read.
    fn gives_up(&self) -> bool {
        self.shared.remote.is_asked() || self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }
}

impl Upkeep for Run<'_> {
    fn is_over(&self) -> bool {
        self.shared.remote.is_asked() || self.ended.load(Ordering::SeqCst)
    }

    fn before_access(&self, board: &mut Board, access: &Exit<'_>) {
        self.shared.deliver(board);
        lock(&self.shared.coalescing).note(access);
    }

    fn after_access<P: Probe>(&self, index: usize, vcpu: &Vcpu, probe: &mut P) -> Result<Option<End>> {
        let vm = &self.shared.vm;
        lock(&self.shared.coalescing)
            .begin(|port| probe.call(|| Call::CoalesceWrites { port }, || vm.coalesce_writes(port, vcpu)));
        self.settle(probe)?;
        Ok(self.offer_output(index)?.then_some(End::TooMuchOutput))
    }

    /// Is there input, output that waited long enough, or a reason to end?
    fn look_around<P: Probe>(&self, index: usize, vcpu: &mut Vcpu, probe: &mut P) -> Result<Option<End>> {
        let Run { timer, deadline, halts, pacing, .. } = self;
        if self.is_over() {
            return Ok(Some(End::Stopped));
        }
        // The timer calls the first vCPU alone.
        if index == 0 && lock(pacing).end(Instant::now()) {
            self.shared.cable.resume();
        }
        self.settle(probe)?;
        let halted = probe.call(|| Call::MpState { index }, || vcpu.halted_for_good())?;
        if index > 0 {
            halts.answer(index, halted);
            return Ok(None);
        }
        self.flush_output()?;
        let Shared { bios_watch, silence_watch, output, .. } = self.shared;
        bios_watch.look(vcpu);
        silence_watch.look(vcpu, output, bios_watch);
        if let Some(deadline) = deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Some(End::TimedOut));
            }
            timer.set(left.min(INTERVAL), INTERVAL);
        }
        if let Some(left) = lock(pacing).left(Instant::now()) {
            timer.set(left, INTERVAL);
        }
        if halted.is_some() {
            if halts.ask() {
                return Ok(Some(End::Halted));
            }
            self.shared.remote.kick_others();
        }
        Ok(None)
    }
}

impl Shared {
    /// Brings the bytes that KVM has coalesced to their device.
    pub fn deliver(&self, board: &mut Board) {
        lock(&self.coalescing).take(|port, bytes| board.write_string(port, bytes));
    }
}
