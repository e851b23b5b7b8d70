//! A trace of instructions: what each of them has changed.
//!
//! The guest stops after each instruction (`KVM_SET_GUEST_DEBUG`), and the registers are compared with those before it.
//! KVM does not stop after an instruction that caused an exit, such as OUT: [`Vcpu::run_empty`] completes it.

use super::changes::{Changes, flags};
use super::event::HeadAndTail;
use crate::error::{self, Error, Result};
use crate::kvm::{Exit, StopPoint, Vcpu};
use crate::text::hex;
use crate::timeline::Probe;
use crate::x86::{Registers, disassembly};
use serde_json::{Value, json};
use std::io;
use std::ops::ControlFlow;

/// How many steps are kept of the beginning of a run, and of its end.
const KEPT: (usize, usize) = (16_000, 4_000);

/// An instruction that was executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its address.
    pub rip: u64,
    /// The instruction as text, or its bytes.
    pub instruction: String,
    /// What it has changed; of several times in a row, all together.
    pub changes: Changes,
    /// How often it was executed in a row.
    pub times: u64,
}

/// A probe that stops the guest after each instruction.
pub struct Stepper {
    steps: HeadAndTail<Step>,
    /// How many instructions were executed.
    count: u64,
    /// The registers before the instruction that is executed now.
    before: Option<Registers>,
    /// The registers before the first of several executions in a row at one address.
    first: Registers,
    /// Where the guest has stopped.
    stopped: StopPoint,
    failure: Option<Error>,
}

impl Stepper {
    /// A stepper that has recorded nothing yet.
    pub fn new() -> Stepper {
        Stepper {
            steps: HeadAndTail::of(KEPT.0, KEPT.1),
            count: 0,
            before: None,
            first: Registers::default(),
            stopped: StopPoint::BeforeInstruction,
            failure: None,
        }
    }

    /// The steps, and how many instructions were executed; or why there are none.
    pub fn finish(self) -> Result<(HeadAndTail<Step>, u64)> {
        match self.failure {
            Some(failure) => Err(failure),
            None if self.count == 0 => {
                let source = io::Error::other("this KVM runs it without stopping");
                Err(Error::Host { step: error::Step::SingleStep, source })
            }
            None => Ok((self.steps, self.count)),
        }
    }

    /// Records what the last instruction has done, if one has ended.
    fn look(&mut self, vcpu: &mut Vcpu) -> Result<()> {
        let Some(before) = self.before else {
            vcpu.run_empty();
            self.before = Some(vcpu.registers_at_exit()?);
            return vcpu.single_step(true);
        };
        match std::mem::replace(&mut self.stopped, StopPoint::BeforeInstruction) {
            StopPoint::AfterInstruction => {}
            StopPoint::WithinInstruction => vcpu.run_empty(),
            StopPoint::BeforeInstruction | StopPoint::Down => return Ok(()),
        }
        let now = vcpu.registers_at_exit()?;
        self.before = Some(now);
        self.count += 1;
        // A string instruction stops after each of its iterations.
        match self.steps.newest() {
            Some(last) if last.rip == before.general.rip => {
                last.times += 1;
                last.changes = Changes::between(&self.first, &now);
            }
            _ => {
                self.first = before;
                self.steps.push(Step {
                    rip: before.general.rip,
                    instruction: instruction(vcpu, &before),
                    changes: Changes::between(&before, &now),
                    times: 1,
                });
            }
        }
        vcpu.single_step(true)
    }
}

/// The instruction that `registers` point at.
fn instruction(vcpu: &Vcpu, registers: &Registers) -> String {
    let mut bytes = [0; 15];
    let known = vcpu.peek(registers, registers.linear_rip(), &mut bytes);
    match disassembly::text(registers.bits(), registers.general.rip, &bytes[..known]) {
        Some((text, _)) => text,
        None => hex(&bytes[..known.min(8)]),
    }
}

impl Default for Stepper {
    fn default() -> Stepper {
        Stepper::new()
    }
}

impl Probe for Stepper {
    fn enter(&mut self, vcpu: &mut Vcpu) -> ControlFlow<()> {
        match self.look(vcpu) {
            Ok(()) => ControlFlow::Continue(()),
            Err(failure) => {
                self.failure = Some(failure);
                ControlFlow::Break(())
            }
        }
    }

    fn exit(&mut self, exit: &Exit<'_>) {
        self.stopped = exit.stop_point();
    }

    fn left(&mut self, vcpu: &mut Vcpu) {
        // This records the last instruction. If it cannot be recorded any more, the run has not failed.
        let _ = self.look(vcpu);
    }
}

/// The steps as text.
pub fn tell(name: &str, steps: &HeadAndTail<Step>, count: u64) -> String {
    let mut text = format!("The guest {name}, instruction by instruction.\n\n");
    text += "       rip  instruction                   what it changed\n";
    text.extend(steps.first().iter().map(line));
    match steps.dropped() {
        0 => {}
        1 => text += "            … 1 step was dropped here\n",
        dropped => text += &format!("            … {dropped} steps were dropped here\n"),
    }
    text.extend(steps.last().map(line));
    text + &format!("\n{count} {}\n", if count == 1 { "step" } else { "steps" })
}

fn line(step: &Step) -> String {
    let change = |change: &super::Change| match change.register {
        // Flags by their names. Bits that control the processor have a line of their own.
        "rflags" => format!("flags: {}", flags(change.after)),
        name => format!("{name} {:#x} → {:#x}", change.before, change.after),
    };
    let changes: Vec<String> = step.changes.registers.iter().map(change).collect();
    let times = if step.times > 1 { format!("  × {}", step.times) } else { String::new() };
    let head = format!(
        "{:>10}  {:<28}  {}{times}",
        format!("{:#x}", step.rip),
        step.instruction,
        changes.join(", ")
    );
    let mut text = format!("{}\n", head.trim_end());
    for note in &step.changes.notes {
        text += &format!("{:12}▸ {note}\n", "");
    }
    text
}

/// The steps as JSON, one a line.
pub fn json_lines(steps: &HeadAndTail<Step>, count: u64) -> String {
    let value = |step: &Step| {
        let changes: Vec<Value> = step
            .changes
            .registers
            .iter()
            .map(|c| json!({ "register": c.register, "before": c.before, "after": c.after }))
            .collect();
        json!({
            "event": "step", "rip": step.rip, "instruction": step.instruction, "times": step.times,
            "changes": changes, "notes": step.changes.notes,
        })
    };
    let mut all: Vec<Value> = steps.first().iter().map(value).collect();
    if steps.dropped() > 0 {
        all.push(json!({ "event": "dropped", "count": steps.dropped() }));
    }
    all.extend(steps.last().map(value));
    all.push(json!({ "event": "summary", "steps": count, "dropped": steps.dropped() }));
    all.iter().map(|value| format!("{value}\n")).collect()
}
