//! Where the time of a start goes: marks on the way, and the waterfall that shows them.
//!
//! Whoever wants to watch a machine implements a [`Probe`], and an [`Observer`] to watch a Linux program.

mod observer;
mod probe;

pub use observer::{Answered, Ended, Halted, Left, Observer, ProgramMemory, Shape};
pub use probe::{Companion, Phase, Probe};

use crate::kvm::Exit;
use crate::sys;
use crate::x86::ports::{COM1, POST, READY_FOR_INPUT};
use std::fmt;
use std::time::Duration;

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Phase::Exec => "exec to main",
            Phase::Prepare => "arguments, image",
            Phase::Open => "open /dev/kvm",
            Phase::CreateVm => "KVM_CREATE_VM",
            Phase::LocalApics => "split irqchip",
            Phase::AddMemory => "guest memory",
            Phase::Arena => "address space",
            Phase::Devices => "devices",
            Phase::Load => "load image",
            Phase::CreateVcpus => "KVM_CREATE_VCPU",
            Phase::Registers => "vCPU registers",
            Phase::Confine => "timer, sandbox",
            Phase::FirstByte => "guest: first byte",
            Phase::Post(READY_FOR_INPUT) => "guest: init runs",
            Phase::Post(code) => return f.pad(&format!("guest: POST {code:#04x}")),
            Phase::FirstCall => "first system call",
            Phase::Program => "program: to end",
            Phase::Guest => "guest: to its end",
            Phase::Teardown => "VM torn down",
            Phase::Reap => "exit to reaped",
        })
    }
}

/// More marks than these are not made of a guest's milestones. As lines they fit into any pipe, so that the
/// process that was measured never waits for the one that measures (`run --timings`).
const MARKS_MAX: usize = 64;

/// A probe that notes when each phase ended, and the first time of each milestone.
#[derive(Debug, Clone)]
pub struct Timeline {
    start: Duration,
    marks: Vec<(Phase, Duration)>,
    spoke: bool,
    /// COM1's LCR.DLAB: while it is set, the transmit register is half of the divisor.
    divisor: bool,
}

impl Timeline {
    /// An empty timeline that counts from `start`, a time of CLOCK_MONOTONIC.
    pub fn since(start: Duration) -> Timeline {
        Timeline { start, marks: Vec::with_capacity(16), spoke: false, divisor: false }
    }

    /// Whether there is room for `phase` and it was not marked before. A guest may write milestones without
    /// end, as Linux does to let time pass.
    fn is_news(&self, phase: Phase) -> bool {
        self.marks.len() < MARKS_MAX && self.marks.iter().all(|&(marked, _)| marked != phase)
    }

    /// Every phase with the time at which it ended, counted from the start.
    pub fn marks(&self) -> &[(Phase, Duration)] {
        &self.marks
    }
}

/// Phases and when they ended, drawn one line each: the bar stands where the phase lies in the whole.
pub fn waterfall(marks: &[(String, Duration)]) -> String {
    const WIDTH: u128 = 40;
    let total = marks.last().map_or(Duration::ZERO, |&(_, end)| end);
    let column = |at: Duration| (at.as_nanos() * WIDTH / total.as_nanos().max(1)) as usize;
    let micros = |time: Duration| time.as_nanos() as f64 / 1000.0;
    let mut text = String::new();
    let mut begin = Duration::ZERO;
    for (phase, end) in marks {
        let (from, to) = (column(begin), column(*end));
        let bar = "▇".repeat((to - from).max(1));
        text += &format!("{phase:<18}{:>10.1} µs  {:from$}{bar}\n", micros(*end - begin), "");
        begin = *end;
    }
    text + &format!("{:<18}{:>10.1} µs\n", "total", micros(total))
}

impl Probe for Timeline {
    fn mark(&mut self, phase: Phase) {
        self.marks.push((phase, sys::monotonic() - self.start));
    }

    fn exit(&mut self, exit: &Exit<'_>) {
        /// COM1's line control register.
        const LCR: u16 = COM1 + 3;
        match *exit {
            Exit::Out { port: LCR, data: &[lcr, ..], .. } => self.divisor = lcr & 0x80 != 0,
            Exit::Out { port: COM1, .. } if !self.spoke && !self.divisor => {
                self.spoke = true;
                self.mark(Phase::FirstByte);
            }
            Exit::Out { port: POST, data: &[code, ..], .. } if self.is_news(Phase::Post(code)) => {
                self.mark(Phase::Post(code));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_divisor_is_not_a_first_byte_and_a_milestone_is_noted_once() {
        let mut timeline = Timeline::since(sys::monotonic());
        let mut out = |port, byte| timeline.exit(&Exit::Out { port, size: 1, data: &[byte] });
        for (port, byte) in
            [(0x3fb, 0x83), (0x3f8, 12), (0x3fb, 0x03), (0x80, 1), (0x3f8, b'A'), (0x3f8, b'B')]
        {
            out(port, byte);
        }
        for code in 0..=255 {
            out(0x80, 1);
            out(0x80, code);
        }
        let phases: Vec<Phase> = timeline.marks().iter().map(|&(phase, _)| phase).collect();
        assert_eq!(phases[..4], [Phase::Post(1), Phase::FirstByte, Phase::Post(0), Phase::Post(2)]);
        assert_eq!(phases.len(), MARKS_MAX);
    }
}
