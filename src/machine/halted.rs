//! Whether every processor is halted for good, so that nothing will ever happen again.
//!
//! A processor that halted with interrupts off can still be woken by another one: Linux waits for a contended lock like
//! that. So the guest has ended only if all of them are halted at the same moment, and they can only be asked one after
//! the other. While vCPU 0 is halted, it asks the others in rounds. If another one is halted in two rounds in a row, with
//! the same registers, it has not run in between. So it was halted when the second round began; and at that moment
//! vCPU 0 was halted, too.

use kvm_bindings::kvm_regs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

/// Asks all vCPUs of one run, round after round.
pub(super) struct HaltDetector {
    round: AtomicU32,
    /// The last answer of each vCPU but the first.
    answers: Vec<Mutex<Answer>>,
}

/// What a vCPU found of itself when it was asked last.
#[derive(Default)]
struct Answer {
    round: u32,
    /// Its registers, if it was halted.
    halted: Option<kvm_regs>,
    /// It was halted when the round began.
    was_halted: bool,
}

impl HaltDetector {
    /// For a machine with `others` vCPUs beside the first.
    pub fn new(others: usize) -> HaltDetector {
        let answers = (0..others).map(|_| Mutex::default()).collect();
        HaltDetector { round: AtomicU32::new(0), answers }
    }

    /// The answer of vCPU `index`, not the first: its registers if it is halted.
    pub fn answer(&self, index: usize, halted: Option<kvm_regs>) {
        let round = self.round.load(Ordering::SeqCst);
        let mut last = super::lock(&self.answers[index - 1]);
        if last.round != round {
            let was_halted = halted.is_some() && last.round.wrapping_add(1) == round && last.halted == halted;
            *last = Answer { round, halted, was_halted };
        }
    }

    /// vCPU 0 is halted. True if all are, by the answers of the last round. If not, a new round begins, and the caller
    /// is to call the others.
    pub fn ask(&self) -> bool {
        let round = self.round.load(Ordering::SeqCst);
        let was_halted = |answer: &Mutex<Answer>| {
            let answer = super::lock(answer);
            answer.round == round && answer.was_halted
        };
        let all = self.answers.iter().all(was_halted);
        self.round.store(round.wrapping_add(1), Ordering::SeqCst);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(rip: u64) -> Option<kvm_regs> {
        Some(kvm_regs { rip, ..Default::default() })
    }

    #[test]
    fn a_processor_alone_is_halted_for_good_at_once() {
        assert!(HaltDetector::new(0).ask());
    }

    #[test]
    fn the_others_must_not_have_run_between_two_rounds() {
        let detector = HaltDetector::new(2);
        let round = |one, other| {
            let all = detector.ask();
            detector.answer(1, one);
            // Called for another reason as well: that is no second round.
            detector.answer(1, one);
            detector.answer(2, other);
            all
        };
        assert!(!round(at(1), at(2)));
        assert!(!round(at(1), None));
        assert!(!round(at(1), at(2)), "the second one was running");
        assert!(!round(at(1), at(3)), "the second one is halted for the first time");
        assert!(!round(at(1), at(2)), "the second one was halted elsewhere before");
        assert!(!round(at(1), at(2)));
        assert!(round(at(1), at(2)));
    }

    #[test]
    fn an_answer_to_an_earlier_round_does_not_count() {
        let detector = HaltDetector::new(1);
        for _ in 0..3 {
            assert!(!detector.ask());
            detector.answer(1, at(1));
            // One round that it does not hear of.
            detector.ask();
        }
    }
}
