//! The serial cable: two queues between a [`Serial`](super::Serial) port and the world outside the machine.
//!
//! The device holds one end and never waits; the machine's run loop and the thread that reads standard
//! input hold the other. There is no file descriptor in it, so a test can hold that end as well.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

/// Bytes that may wait for the guest before [`Cable::send`] blocks.
const WAITING_MAX: usize = 64 << 10;

/// Bytes that may wait for the guest before [`Cable::offer`] drops more.
const OFFERED_MAX: usize = 1 << 20;

/// Bytes that a driver gets at once, if it is called by interrupt and has a FIFO: as many as a 16750's FIFO holds. The
/// driver stays in its interrupt handler as long as it finds one more byte, and nothing else runs meanwhile; on a wire
/// there would be time between two bytes.
const BURST: usize = 64;
/// Of [`Queues::given`]: the guest has read a burst, and more waits.
const SPENT: usize = BURST + 1;

/// What can come over the wire to a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Symbol {
    /// A byte.
    Byte(u8),
    /// A break: the line is low for longer than a byte takes.
    Break,
}

/// One cable; clones are its ends.
#[derive(Debug, Clone, Default)]
pub struct Cable {
    queues: Arc<Queues>,
}

#[derive(Debug, Default)]
struct Queues {
    to_guest: Mutex<VecDeque<Symbol>>,
    /// Nothing goes to the guest yet.
    is_held: AtomicBool,
    taken: Condvar,
    /// How much of a burst has been taken, or [`SPENT`].
    given: AtomicUsize,
    from_guest: Mutex<Vec<u8>>,
}

/// A queue is whole after each operation, so it can be used even if a thread panicked that held it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Cable {
    /// World to guest: blocks while the guest has not read what was sent before.
    pub fn send(&self, bytes: &[u8]) {
        let mut waiting = lock(&self.queues.to_guest);
        while waiting.len() >= WAITING_MAX {
            waiting = self.queues.taken.wait(waiting).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        waiting.extend(bytes.iter().copied().map(Symbol::Byte));
    }

    /// World to guest, without blocking: what a guest leaves unread for too long is lost.
    pub fn offer(&self, bytes: &[u8]) {
        let mut waiting = lock(&self.queues.to_guest);
        let room = OFFERED_MAX.saturating_sub(waiting.len());
        waiting.extend(bytes.iter().take(room).copied().map(Symbol::Byte));
    }

    /// World to guest: a break, without blocking.
    pub fn offer_break(&self) {
        let mut waiting = lock(&self.queues.to_guest);
        if waiting.len() < OFFERED_MAX {
            waiting.push_back(Symbol::Break);
        }
    }

    /// World side: what is sent waits until the guest writes the POST code
    /// [`READY_FOR_INPUT`](crate::x86::ports::READY_FOR_INPUT). A system that opens its port late would lose what came
    /// before, or show it in the wrong way.
    pub fn hold(&self) {
        self.queues.is_held.store(true, Ordering::Relaxed);
    }

    /// Device side: the guest is ready for what was sent.
    pub(super) fn release(&self) {
        self.queues.is_held.store(false, Ordering::Relaxed);
    }

    /// Empties both queues.
    pub fn clear(&self) {
        lock(&self.queues.to_guest).clear();
        lock(&self.queues.from_guest).clear();
        self.queues.taken.notify_all();
        self.resume();
    }

    /// Whether what is sent waits until the guest is ready.
    pub fn is_held(&self) -> bool {
        self.queues.is_held.load(Ordering::Relaxed)
    }

    /// World side: the guest has read as much as it gets in one go, and more waits until [`Cable::resume`].
    pub fn is_spent(&self) -> bool {
        self.queues.given.load(Ordering::Relaxed) == SPENT
    }

    /// World side: the guest has had time for what it has read.
    pub fn resume(&self) {
        self.queues.given.store(0, Ordering::Relaxed);
    }

    /// Device side: [`take`](Cable::take) for a receiver that is empty and tells so by interrupt: no more than a burst.
    pub(super) fn take_burst(&self, room: usize, mut each: impl FnMut(Symbol)) {
        let given = self.queues.given.load(Ordering::Relaxed);
        let Some(left) = BURST.checked_sub(given) else { return };
        let mut count = 0_usize;
        let is_more = self.take(room.min(left), |symbol| {
            count = count.saturating_add(1);
            each(symbol);
        });
        let given = match (count, is_more) {
            (0, true) => SPENT,
            // There was nothing to take: the guest waits for input, and a new burst begins.
            (0, false) => 0,
            _ => given.saturating_add(count),
        };
        self.queues.given.store(given, Ordering::Relaxed);
    }

    /// Device side: takes up to `room` symbols that wait for the guest. True if more wait.
    pub(super) fn take(&self, room: usize, mut each: impl FnMut(Symbol)) -> bool {
        if self.queues.is_held.load(Ordering::Relaxed) {
            return false;
        }
        let mut waiting = lock(&self.queues.to_guest);
        let was_full = waiting.len() >= WAITING_MAX;
        let count = room.min(waiting.len());
        waiting.drain(..count).for_each(&mut each);
        let (is_more, is_full) = (!waiting.is_empty(), waiting.len() >= WAITING_MAX);
        drop(waiting);
        // A sender waits only while the queue is full. To wake nobody is a system call all the same.
        if was_full && !is_full {
            self.queues.taken.notify_all();
        }
        is_more
    }

    /// Device side: what was taken and is not wanted yet goes back to the front.
    pub(super) fn untake(&self, symbols: &[Symbol]) {
        let mut waiting = lock(&self.queues.to_guest);
        symbols.iter().rev().for_each(|&symbol| waiting.push_front(symbol));
    }

    /// Device side: guest to world. Returns how many bytes there were.
    pub(super) fn put(&self, bytes: impl Iterator<Item = u8>) -> usize {
        let mut written = lock(&self.queues.from_guest);
        let before = written.len();
        written.extend(bytes);
        written.len().saturating_sub(before)
    }

    /// World side: what the guest has written, to be drained by the caller.
    pub fn written(&self) -> MutexGuard<'_, Vec<u8>> {
        lock(&self.queues.from_guest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    #[test]
    fn a_sender_that_waits_goes_on_as_soon_as_there_is_room() {
        let cable = Cable::default();
        cable.send(&[1; WAITING_MAX]);
        let take_one = |cable: &Cable| assert!(cable.take(1, drop));
        for make_room in [take_one, Cable::clear] {
            let (tell, told) = mpsc::channel();
            let end = cable.clone();
            thread::spawn(move || {
                end.send(&[2; WAITING_MAX]);
                tell.send(()).unwrap();
            });
            let too_soon = told.recv_timeout(Duration::from_millis(50));
            assert_eq!(too_soon, Err(mpsc::RecvTimeoutError::Timeout));
            make_room(&cable);
            assert_eq!(told.recv_timeout(Duration::from_secs(10)), Ok(()));
        }
    }
}
