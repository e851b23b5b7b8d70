//! How threads and processes end, and what they leave behind: the locks that they hold, and for execve(2) their process.
//!
//! A lock of a thread that ends is given to who waits for it, if it is on the thread's list (robust futexes). At the end
//! of a process that matters where its memory is also another one's: then its threads end one by one, as each has to
//! have stopped before its lock is somebody else's.
//!
//! A program that execve(2) starts has the number of its process, and so it runs on the thread that has that number here,
//! the first one. Another thread that calls execve leaves it to that one, which is there as long as the process.
//!
//! Sources: get_robust_list(2), the kernel's Documentation/locking/robust-futexes.rst; execve(2), "Effect on process
//! attributes".

use super::process::{Clearing, Process, lock};
use super::stub;
use super::thread::{End, Thread};
use crate::error::Result;
use crate::sys::program as sys;
use crate::timeline::Ended;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How often threads are called back that have not ended yet: one may have been about to be started.
const AGAIN: Duration = Duration::from_millis(10);
/// How long a process that ends waits for its other threads. One whose child of vfork(2) goes on does not come.
const PATIENCE: Duration = Duration::from_secs(1);
/// Locks of a list that Linux looks at: one may be a circle (`ROBUST_LIST_LIMIT`).
const LOCKS_MAX: usize = 2048;

impl Process {
    /// Has all threads end but for one. False if that is under way already, and the caller ends as well.
    pub fn begin_clearing(&self, clearing: Clearing) -> bool {
        let mut threads = lock(&self.threads);
        if threads.clearing.is_some() {
            return false;
        }
        threads.clearing = Some(clearing);
        self.is_clearing.store(true, Ordering::Relaxed);
        threads.alive.iter().for_each(|&thread| sys::kick(thread));
        // The first one may have ended, and wait for the others.
        self.thread_ended.notify_all();
        true
    }

    /// Waits until all threads have ended but `spared`. False if some have not after `patience`.
    fn wait_for_others(&self, spared: i32, patience: Option<Duration>) -> bool {
        let deadline = patience.map(|patience| Instant::now() + patience);
        let mut threads = lock(&self.threads);
        while threads.alive.iter().any(|&thread| thread != spared) {
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return false;
            }
            threads.alive.iter().filter(|&&thread| thread != spared).for_each(|&thread| sys::kick(thread));
            let wait = self.thread_ended.wait_timeout(threads, AGAIN);
            threads = wait.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Ends all threads but the calling one, whose number is `spared`. False if another one does so, and the calling one
    /// is to end.
    pub fn end_others(&self, spared: i32) -> bool {
        if lock(&self.threads).alive.len() == 1 {
            return true;
        }
        if !self.begin_clearing(Clearing::Spared(spared)) {
            return false;
        }
        self.wait_for_others(spared, None);
        lock(&self.threads).clearing = None;
        self.is_clearing.store(false, Ordering::Relaxed);
        true
    }
}

impl Thread {
    /// Runs a thread to its end, or the process's.
    pub fn live(mut self) -> Result<()> {
        sys::attach(crate::kvm::ring3::kick);
        self.apply_mask();
        loop {
            match self.run()? {
                End::Process(status) => {
                    if self.leave_no_lock() {
                        self.end_process(status);
                    }
                    self = match self.end_alone(0)? {
                        Some(next) => next,
                        None => return Ok(()),
                    }
                }
                End::Alone(status) => {
                    self = match self.end_alone(status)? {
                        Some(next) => next,
                        None => return Ok(()),
                    }
                }
            }
        }
    }

    fn end_process(&mut self, status: i32) -> ! {
        self.process.say_end();
        self.tell_end(Ended::Status(status));
        sys::end_process(status)
    }

    /// Ends the process by `signal`, and says so first.
    pub fn die_of(&mut self, signal: i32) -> ! {
        // Should another thread end the process meanwhile: its end is as good.
        self.leave_no_lock();
        self.tell_end(Ended::Signal(signal));
        sys::die_of(signal)
    }

    /// Before the process ends: gives up the locks of its threads that others may wait for, which are in memory that is
    /// also theirs. False if another thread ends the process, or has it become another program.
    fn leave_no_lock(&mut self) -> bool {
        let process = Arc::clone(&self.process);
        if !process.shares_memory.load(Ordering::Relaxed) {
            return true;
        }
        if lock(&process.threads).alive.len() > 1 {
            if !process.begin_clearing(Clearing::Spared(self.number)) {
                return false;
            }
            process.wait_for_others(self.number, Some(PATIENCE));
        }
        self.give_up_locks();
        true
    }

    /// Whether this thread is to end, as another one goes on alone.
    pub fn is_to_end(&self) -> bool {
        if !self.process.is_clearing.load(Ordering::Relaxed) {
            return false;
        }
        match lock(&self.process.threads).clearing {
            Some(Clearing::Spared(spared)) => spared != self.number,
            Some(Clearing::Replaced(_)) => true,
            None => false,
        }
    }

    /// The end of one of several threads. The first one waits for the others, and ends the process with the status of the
    /// last one (`synchronize_group_exit` of Linux's kernel/exit.c), unless that is to be another program: then it goes on as
    /// that.
    fn end_alone(mut self, status: i32) -> Result<Option<Thread>> {
        // Signals for the process are for those who are left.
        sys::mask(sys::WHOLE_MASK);
        self.give_up_locks();
        let Thread { process, vcpu, page, number, clear_at_end, mut observer, run_other, .. } = self;
        if clear_at_end != 0 {
            let _ = process.arena.write(clear_at_end, &[0; 4]);
            process.wake(clear_at_end);
        }
        let mut threads = lock(&process.threads);
        threads.alive.remove(&number);
        threads.status = status;
        threads.idle.push((vcpu, page));
        process.thread_ended.notify_all();
        if number != std::process::id() as i32 {
            return Ok(None);
        }
        let replacement = loop {
            match (&threads.clearing, threads.alive.is_empty()) {
                (Some(Clearing::Replaced(_)), true) => {
                    let Some(Clearing::Replaced(replacement)) = threads.clearing.take() else { break None };
                    break Some(replacement);
                }
                (_, true) => break None,
                (Some(Clearing::Replaced(_)), false) => {
                    drop(threads);
                    process.wait_for_others(number, None);
                    threads = lock(&process.threads);
                }
                (_, false) => {
                    threads = process.thread_ended.wait(threads).unwrap_or_else(PoisonError::into_inner);
                }
            }
        };
        let Some(replacement) = replacement else {
            let status = threads.status;
            drop(threads);
            process.say_end();
            if let Some(observer) = &mut observer {
                observer.ended(Ended::Status(status));
            }
            sys::end_process(status)
        };
        threads.alive.insert(number);
        process.is_clearing.store(false, Ordering::Relaxed);
        drop(threads);
        // What has called this thread back.
        let _ = sys::Inbox::take();
        let (vcpu, page) = process.vcpu()?;
        let mut thread = Thread::on(process, vcpu, page, run_other);
        (thread.mask, thread.observer) = (replacement.mask, observer);
        let processor = thread.process.processor()?;
        let system = stub::system_registers(page, processor.has_xsave, processor.has_fsgsbase);
        thread.vcpu.set_system(system);
        thread.set_calls();
        thread.become_program(&replacement.opened, &replacement.environment)?;
        thread.apply_mask();
        Ok(Some(thread))
    }

    /// Gives each lock on this thread's list to who waits for it, and says with it that its owner has died
    /// (`exit_robust_list` of Linux's kernel/futex/core.c).
    pub fn give_up_locks(&mut self) {
        let list = std::mem::take(&mut self.robust_list);
        let arena = &self.process.arena;
        let word = |at: u64| arena.read_u64(at).ok();
        let read = || Some((word(list)?, word(list.wrapping_add(8))?, word(list.wrapping_add(16))?));
        let Some((mut next, offset, pending)) = (if list == 0 { None } else { read() }) else { return };
        for _ in 0..LOCKS_MAX {
            let entry = next & !1;
            if entry == list {
                break;
            }
            let after = word(entry);
            // What was being taken or given up may be on the list or not: it is looked at below.
            if entry != pending & !1 && !self.give_up(entry.wrapping_add(offset), next & 1 != 0, false) {
                return;
            }
            match after {
                Some(after) => next = after,
                None => return,
            }
        }
        if pending & !1 != 0 {
            self.give_up((pending & !1).wrapping_add(offset), pending & 1 != 0, true);
        }
    }

    /// The same for one of them, whose word is at `at`. False if there is none.
    fn give_up(&self, at: u64, is_pi: bool, is_pending: bool) -> bool {
        const TID: u32 = 0x3fff_ffff;
        const WAITERS: u32 = 0x8000_0000;
        const OWNER_DIED: u32 = 0x4000_0000;
        let process = &self.process;
        let mut bytes = [0; 4];
        if !at.is_multiple_of(4) || process.arena.read(at, &mut bytes).is_err() {
            return false;
        }
        let mut found = u32::from_le_bytes(bytes);
        loop {
            if is_pending && !is_pi && found & TID == 0 {
                // Given up already, but whoever waits may not have been woken.
                process.wake(at);
                return true;
            }
            if found & TID != self.number as u32 {
                return true;
            }
            match process.arena.compare_exchange(at, found, found & WAITERS | OWNER_DIED) {
                Err(_) => return false,
                Ok(before) if before == found => break,
                Ok(before) => found = before,
            }
        }
        if !is_pi && found & WAITERS != 0 {
            process.wake(at);
        }
        true
    }
}
