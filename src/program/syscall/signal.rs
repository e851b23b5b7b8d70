//! Calls about signals: what they do is kept here, what blocks them is the host's mask of the same thread.
//!
//! Sources: rt_sigaction(2), rt_sigprocmask(2), sigaltstack(2), rt_sigtimedwait(2), signalfd(2), timer_create(2).

use super::answer::{Answer, Done, descriptor, errno, host, value};
use super::file::signals;
use super::kinds::Checked;
use crate::program::actions::{AlternateStack, Disposition, IGNORE, UNBLOCKABLE};
use crate::program::process::lock;
use crate::program::thread::Thread;
use crate::sys::program::{self as sys, Argument};
use Argument::{Bytes, Word};
use std::sync::atomic::Ordering;

/// The smallest stack for handlers (MINSIGSTKSZ).
const STACK_MIN: u64 = 2048;
/// `SS_AUTODISARM`
const AUTODISARM: u32 = 1 << 31;
const SIGSET: u64 = 8;

pub(super) fn sigaction(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    let signal = call.int(0);
    if call.words[3] != SIGSET || !(1..=64).contains(&signal) {
        return errno(libc::EINVAL);
    }
    if call.words[1] != 0 && thread.process.arena.read_u64(call.words[1])? > IGNORE {
        // A handler's frame has all registers.
        thread.complete()?;
    }
    let arena = &thread.process.arena;
    let mut actions = lock(&thread.process.actions);
    let old = actions.of(signal);
    if call.words[1] != 0 {
        let mut bytes = [0; 32];
        arena.read(call.words[1], &mut bytes)?;
        let word = |at: usize| u64::from_le_bytes(bytes[at * 8..at * 8 + 8].try_into().expect("eight bytes"));
        if matches!(signal, libc::SIGKILL | libc::SIGSTOP) {
            return errno(libc::EINVAL);
        }
        let mask = word(3) & !UNBLOCKABLE;
        actions.set(signal, Disposition { handler: word(0), flags: word(1), restorer: word(2), mask })?;
    }
    if call.words[2] != 0 {
        let words = [old.handler, old.flags, old.restorer, old.mask];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        arena.write(call.words[2], &bytes)?;
    }
    value(0)
}

pub(super) fn sigprocmask(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    let [_, new, old, size, ..] = call.words;
    if size != SIGSET {
        return errno(libc::EINVAL);
    }
    let before = thread.mask;
    let mut after = before;
    if new != 0 {
        let set = thread.process.arena.read_u64(new)?;
        after = match call.int(0) {
            libc::SIG_BLOCK => before | set,
            libc::SIG_UNBLOCK => before & !set,
            libc::SIG_SETMASK => set,
            _ => return errno(libc::EINVAL),
        } & !UNBLOCKABLE;
    }
    if old != 0 {
        thread.process.arena.write(old, &before.to_le_bytes())?;
    }
    if after != before {
        thread.mask = after;
        thread.apply_mask();
    }
    value(0)
}

pub(super) fn sigreturn(thread: &mut Thread, _: &Checked<'_>) -> Answer {
    thread.return_from_handler()?;
    Ok(Done::Elsewhere)
}

pub(super) fn sigsuspend(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    let Some(set) = signals(thread, call.words[0], call.words[1])? else { return errno(libc::EFAULT) };
    host(call.number, [Bytes(&set.to_ne_bytes()), Word(SIGSET)])
}

pub(super) fn sigtimedwait(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    let Some(set) = signals(thread, call.words[0], call.words[3])? else { return errno(libc::EFAULT) };
    host(call.number, [Bytes(&set.to_ne_bytes()), call.memory(1), call.memory(2), Word(SIGSET)])
}

pub(super) fn signalfd(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    let Some(set) = signals(thread, call.words[1], call.words[2])? else { return errno(libc::EINVAL) };
    let [fd, _, _, flags, ..] = call.words;
    let answer = host(call.number, [Word(fd), Bytes(&set.to_ne_bytes()), Word(SIGSET), Word(flags)]);
    descriptor(answer, thread.process.files.limit())
}

pub(super) fn sigaltstack(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    let arena = std::sync::Arc::clone(&thread.process.arena);
    let rsp = thread.state().rsp;
    let old = thread.alternate.words(rsp);
    if call.words[0] != 0 {
        let mut bytes = [0; 24];
        arena.read(call.words[0], &mut bytes)?;
        let word = |at: usize| u64::from_le_bytes(bytes[at * 8..at * 8 + 8].try_into().expect("eight bytes"));
        let (start, flags, size) = (word(0), word(1) as u32, word(2));
        if thread.alternate.size > 0 && thread.alternate.holds(rsp) {
            return errno(libc::EPERM);
        }
        let mode = flags & !AUTODISARM;
        thread.alternate = match mode as i32 {
            libc::SS_DISABLE => AlternateStack::default(),
            0 | libc::SS_ONSTACK if size < STACK_MIN => return errno(libc::ENOMEM),
            0 | libc::SS_ONSTACK => AlternateStack { start, size, flags: flags & AUTODISARM },
            _ => return errno(libc::EINVAL),
        };
    }
    if call.words[1] != 0 {
        let bytes: Vec<u8> = old.iter().flat_map(|word| word.to_le_bytes()).collect();
        arena.write(call.words[1], &bytes)?;
    }
    value(0)
}

pub(super) fn timer_create(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    // struct sigevent: all of it are numbers, also where C has a union with a function.
    let mut event = [0; 64];
    let event = match call.words[1] {
        0 => Word(0),
        at => {
            thread.process.arena.read(at, &mut event)?;
            Bytes(&event)
        }
    };
    let answer = host(call.number, [Word(call.words[0]), event, call.memory(2)]);
    let mut number = [0; 4];
    if matches!(answer, Ok(Done::Value(_))) && thread.process.arena.read(call.words[2], &mut number).is_ok() {
        lock(&thread.process.actions).timers.insert(i32::from_le_bytes(number));
    }
    answer
}

/// Deletes a timer of a program that becomes another one.
pub(super) fn delete_timer(number: i32) {
    if !sys::limits::is_our_timer(number) {
        let _ = host(libc::SYS_timer_delete, [Word(number as u64)]);
    }
}

/// A timer of the program's: this process's own is none.
pub(super) fn timer(_: &mut Thread, call: &Checked<'_>) -> Answer {
    if sys::limits::is_our_timer(call.int(0)) {
        return errno(libc::EINVAL);
    }
    host(call.number, call.arguments())
}

/// Signals to oneself, to one's own group and to one's children. Where the kernel keeps them in, it also knows
/// grandchildren, and decides.
pub(super) fn send(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    let to = call.int(0);
    if !thread.process.keeps_signals.load(Ordering::Relaxed) && !thread.process.is_near(to) {
        return errno(libc::EPERM);
    }
    let [a, b, c, ..] = call.words;
    match call.number {
        libc::SYS_rt_sigqueueinfo => host(call.number, [Word(a), Word(b), call.memory(2)]),
        libc::SYS_rt_tgsigqueueinfo => host(call.number, [Word(a), Word(b), Word(c), call.memory(3)]),
        _ => host(call.number, [Word(a), Word(b), Word(c)]),
    }
}
