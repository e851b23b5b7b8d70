//! What each signal does to a process, and where a thread handles them.
//!
//! Sources: signal(7), rt_sigaction(2), sigaltstack(2).

use super::errno::Errno;
use crate::sys::program::{self as sys, Action};
use std::collections::BTreeSet;

/// What a signal does: `struct sigaction` as the kernel takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Disposition {
    /// An address, or [`DEFAULT`], or [`IGNORE`].
    pub handler: u64,
    /// SA_ flags.
    pub flags: u64,
    /// Where the handler returns to.
    pub restorer: u64,
    /// What is blocked meanwhile.
    pub mask: u64,
}

/// SIG_DFL.
pub const DEFAULT: u64 = 0;
/// SIG_IGN.
pub const IGNORE: u64 = 1;

/// The bit of a signal in a set.
pub const fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

/// What cannot be blocked.
pub const UNBLOCKABLE: u64 = bit(libc::SIGKILL) | bit(libc::SIGSTOP);

/// What the kernel does by default with a signal that nobody handles.
#[derive(Debug, PartialEq, Eq)]
pub enum ByDefault {
    /// It comes to nothing.
    Nothing,
    /// The process stops.
    Stop,
    /// It ends.
    End,
}

/// Of a signal (signal(7), "Standard signals").
pub fn by_default(signal: i32) -> ByDefault {
    match signal {
        libc::SIGCHLD | libc::SIGCONT | libc::SIGURG | libc::SIGWINCH => ByDefault::Nothing,
        libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU => ByDefault::Stop,
        _ => ByDefault::End,
    }
}

/// What each signal does, as far as the program has said so.
pub struct Actions {
    all: [Option<Disposition>; 65],
    /// Signals that end the process are noted as well, as somebody wants to hear of them.
    is_watched: bool,
    /// Timers that send some (timer_create(2)), by their numbers.
    pub timers: BTreeSet<i32>,
}

impl Actions {
    /// As whoever started us has set it: what is ignored stays ignored.
    pub fn inherited() -> Actions {
        Actions { all: [None; 65], is_watched: false, timers: BTreeSet::new() }
    }

    /// What `signal` does.
    pub fn of(&self, signal: i32) -> Disposition {
        self.all[signal as usize].unwrap_or_else(|| Disposition {
            handler: if sys::is_ignored(signal) { IGNORE } else { DEFAULT },
            ..Disposition::default()
        })
    }

    /// Sets it, for the host as well.
    pub fn set(&mut self, signal: i32, new: Disposition) -> std::result::Result<(), Errno> {
        let action = match new.handler {
            DEFAULT if self.is_watched && by_default(signal) == ByDefault::End => Action::Note,
            DEFAULT => Action::Default,
            IGNORE => Action::Ignore,
            _ => Action::Note,
        };
        sys::set_action(signal, action, new.flags)?;
        self.all[signal as usize] = Some(new);
        Ok(())
    }

    /// Has signals that end the process come by way of us first.
    pub fn watch(&mut self) {
        self.is_watched = true;
        for signal in (1..=64).filter(|&signal| by_default(signal) == ByDefault::End) {
            if self.of(signal).handler == DEFAULT {
                // SIGKILL stays as it is.
                let _ = self.set(signal, Disposition::default());
            }
        }
    }

    /// What a new program begins with: nothing is handled.
    pub fn reset(&mut self) {
        for signal in 1..=64 {
            if self.all[signal as usize].is_some_and(|action| action.handler > IGNORE) {
                // It could be set to a handler, so it can be set to none.
                let _ = self.set(signal, Disposition::default());
            }
        }
    }
}

/// The stack that a thread has set aside for handlers (sigaltstack(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AlternateStack {
    /// Its lowest address.
    pub start: u64,
    /// Its size; 0 if there is none.
    pub size: u64,
    /// SS_AUTODISARM, or 0.
    pub flags: u32,
}

impl AlternateStack {
    /// Whether a stack pointer is on it.
    pub fn holds(&self, rsp: u64) -> bool {
        rsp > self.start && rsp <= self.start.saturating_add(self.size)
    }

    /// As the kernel writes it down: address, flags, size.
    pub fn words(&self, rsp: u64) -> [u64; 3] {
        let flags = match (self.size, self.holds(rsp)) {
            (0, _) => libc::SS_DISABLE as u32,
            (_, true) => libc::SS_ONSTACK as u32,
            _ => self.flags,
        };
        [self.start, flags.into(), self.size]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_for_handlers_is_told_as_the_kernel_tells_it() {
        let none = AlternateStack::default();
        assert_eq!(none.words(0x1000), [0, libc::SS_DISABLE as u64, 0]);
        let stack = AlternateStack { start: 0x1000, size: 0x1000, flags: 0 };
        assert_eq!(stack.words(0x3000), [0x1000, 0, 0x1000]);
        assert_eq!(stack.words(0x2000), [0x1000, libc::SS_ONSTACK as u64, 0x1000]);
        assert!(!stack.holds(0x1000));
    }
}
