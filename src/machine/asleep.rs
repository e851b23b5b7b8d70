//! Whether every processor sleeps for good, so that nothing will ever happen again.
//!
//! One that halted with interrupts off can still be woken by another: Linux waits for a contended lock like that.
//! So they must all sleep at the same moment, and they can only be asked one after the other. vCPU 0, while it
//! sleeps, asks in rounds. Another one that sleeps in two rounds in a row, with the same registers, has not run in
//! between, and so slept at the moment when the second round began, at which vCPU 0 was not running either.

use kvm_bindings::kvm_regs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

/// The rounds of one run.
pub(super) struct Sleepers {
    round: AtomicU32,
    /// Of each vCPU but the first.
    looks: Vec<Mutex<Look>>,
}

/// What a vCPU saw of itself when it was asked last.
#[derive(Default)]
struct Look {
    round: u32,
    /// Its registers, if it was asleep.
    asleep: Option<kvm_regs>,
    /// It slept when the round began.
    slept: bool,
}

impl Sleepers {
    /// For a machine with `others` vCPUs beside the first.
    pub fn new(others: usize) -> Sleepers {
        let looks = (0..others).map(|_| Mutex::default()).collect();
        Sleepers { round: AtomicU32::new(0), looks }
    }

    /// vCPU `index`, not the first, looked after itself: `asleep` has its registers if it sleeps.
    pub fn answer(&self, index: usize, asleep: Option<kvm_regs>) {
        let round = self.round.load(Ordering::SeqCst);
        let mut look = super::lock(&self.looks[index - 1]);
        if look.round != round {
            let slept = asleep.is_some() && look.round.wrapping_add(1) == round && look.asleep == asleep;
            *look = Look { round, asleep, slept };
        }
    }

    /// vCPU 0 sleeps. Whether all do, by the last round; if not, a new one begins, and the others are to be called.
    pub fn ask(&self) -> bool {
        let round = self.round.load(Ordering::SeqCst);
        let slept = |look: &Mutex<Look>| {
            let look = super::lock(look);
            look.round == round && look.slept
        };
        let all = self.looks.iter().all(slept);
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
    fn a_processor_alone_sleeps_for_good_at_once() {
        assert!(Sleepers::new(0).ask());
    }

    #[test]
    fn the_others_must_not_have_run_between_two_rounds() {
        let sleepers = Sleepers::new(2);
        let round = |one, other| {
            let all = sleepers.ask();
            sleepers.answer(1, one);
            // Called for another reason as well: that is no second round.
            sleepers.answer(1, one);
            sleepers.answer(2, other);
            all
        };
        assert!(!round(at(1), at(2)));
        assert!(!round(at(1), None));
        assert!(!round(at(1), at(2)), "the second one was awake");
        assert!(!round(at(1), at(3)), "the second one slept for the first time");
        assert!(!round(at(1), at(2)), "the second one slept elsewhere before");
        assert!(!round(at(1), at(2)));
        assert!(round(at(1), at(2)));
    }

    #[test]
    fn an_answer_to_an_earlier_round_does_not_count() {
        let sleepers = Sleepers::new(1);
        for _ in 0..3 {
            assert!(!sleepers.ask());
            sleepers.answer(1, at(1));
            // One round that it does not hear of.
            sleepers.ask();
        }
    }
}
