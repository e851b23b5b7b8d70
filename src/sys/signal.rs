//! Signals: what they do, who gets them, and a timer that sends one.
//!
//! Handlers are vmm-sys-util's where nobody asks what was there before. Sources: signal-safety(7), sigaction(2),
//! tgkill(2), timer_create(2).

use super::check;
use libc::c_int;
use std::io;
use std::mem::MaybeUninit;
use std::ptr::null_mut;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;
use vmm_sys_util::signal::{SIGRTMIN, SignalHandler, register_signal_handler};

/// A signal that interrupts system calls and means nothing by itself.
pub(super) fn kick_signal() -> c_int {
    SIGRTMIN()
}

/// Calls `react` in a thread that [`kick_signal`] reaches; a blocking system call of it then ends with EINTR. The first
/// `react` of a process stays its only one.
///
/// `react` may only do what is async-signal-safe, such as storing to an atomic.
pub fn on_kick(react: fn()) -> io::Result<()> {
    static REACT: OnceLock<fn()> = OnceLock::new();
    extern "C" fn kicked(_signal: c_int, _info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
        if let Some(react) = REACT.get() {
            react();
        }
    }
    REACT.get_or_init(|| react);
    on_signal(kick_signal(), kicked)
}

/// Calls `handler`, which may only do what is async-signal-safe, when `signal` arrives.
pub(super) fn on_signal(signal: c_int, handler: SignalHandler) -> io::Result<()> {
    Ok(register_signal_handler(signal, handler)?)
}

/// The signals that ask a program to end.
const ENDING: [c_int; 4] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT];

/// The signal of [`ENDING`] that came last, or 0.
static NOTED: AtomicI32 = AtomicI32::new(0);
static REACT: OnceLock<fn(c_int)> = OnceLock::new();

/// From now on SIGINT, SIGTERM, SIGHUP and SIGQUIT do not end this process but are noted, and `react` is called with
/// each. One that whoever started us wants ignored, as nohup(1) does with SIGHUP, stays so. The first `react` of a
/// process stays its only one.
///
/// `react` may only do what is async-signal-safe.
pub fn note_ending_signals(react: fn(c_int)) -> io::Result<()> {
    extern "C" fn note(signal: c_int) {
        NOTED.store(signal, Ordering::SeqCst);
        if let Some(react) = REACT.get() {
            react(signal);
        }
    }
    REACT.get_or_init(|| react);
    for signal in ENDING {
        if set_action(signal, note as *const () as libc::sighandler_t)? == libc::SIG_IGN {
            set_action(signal, libc::SIG_IGN)?;
        }
    }
    Ok(())
}

/// The signal that was noted last, if any was.
pub fn noted_signal() -> Option<c_int> {
    Some(NOTED.load(Ordering::SeqCst)).filter(|&signal| signal != 0)
}

/// Ends this process by the signal that was noted, if one was: a shell should see the truth.
pub fn die_if_noted() {
    if let Some(signal) = noted_signal() {
        die_of(signal);
    }
}

/// Sets what `signal` does, and returns what it did before, which `register_signal_handler` does not.
fn set_action(signal: c_int, action: libc::sighandler_t) -> io::Result<libc::sighandler_t> {
    // SAFETY: all zeroes is a valid sigaction: an empty mask and no flags, so no SA_RESTART.
    let (mut new, mut old): (libc::sigaction, libc::sigaction) =
        unsafe { MaybeUninit::zeroed().assume_init() };
    new.sa_sigaction = action;
    // SAFETY: `new` is initialised and only read, `old` is written; the handler, if it is one, is a function
    // and lives for ever.
    check(unsafe { libc::sigaction(signal, &new, &mut old) })?;
    Ok(old.sa_sigaction)
}

/// Sends `signal` to a process. One that has ended is none of our concern. Good in signal handlers.
pub fn send_signal(process: i32, signal: c_int) {
    // SAFETY: kill takes plain numbers.
    unsafe { libc::kill(process, signal) };
}

/// Ends this process the way `signal` would have, had we not caught it, so that a shell sees it.
pub fn die_of(signal: c_int) -> ! {
    // SAFETY: both calls take plain numbers. Should the signal be blocked, exit says the same by number.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
    std::process::exit(128 + signal)
}

/// The signals of a process that cannot go on.
pub(super) const CRASHES: [c_int; 5] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGABRT];

/// Keeps signals away from the calling thread, so that they reach the main one: all but [`kick_signal`], and those
/// which are about this thread and would end the process without a word.
///
/// By hand: vmm-sys-util blocks one signal at a time, and fails for one that is blocked already.
pub fn block_signals() {
    // SAFETY: the set is filled before it is used, and only read.
    unsafe {
        let mut all = MaybeUninit::uninit();
        libc::sigfillset(all.as_mut_ptr());
        libc::sigdelset(all.as_mut_ptr(), kick_signal());
        for own in CRASHES.into_iter().chain([libc::SIGSYS]) {
            libc::sigdelset(all.as_mut_ptr(), own);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, all.as_ptr(), null_mut());
    }
}

/// A thread of this process, by the kernel's number.
///
/// By hand: vmm-sys-util's `Killable` is a `JoinHandle`, and a caller's own thread has none; a scoped one neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thread(libc::pid_t);

impl Thread {
    /// The calling thread.
    pub fn current() -> Thread {
        // SAFETY: gettid takes nothing and cannot fail.
        Thread(unsafe { libc::gettid() })
    }

    /// Sends it [`kick_signal`]. A thread that has ended is none of our concern.
    pub fn kick(self) {
        // SAFETY: tgkill takes plain numbers; a stale thread number gives ESRCH.
        unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), self.0, kick_signal()) };
    }
}

/// Sends [`kick_signal`] to one thread when time is up (timer_create(2)).
///
/// By hand: a timerfd can be read and waited for, but does not call a thread out of `KVM_RUN`.
pub struct Timer(libc::timer_t);

// SAFETY: a timer_t is the kernel's number for the timer, good in every thread of the process; setting
// it is one system call.
unsafe impl Send for Timer {}
// SAFETY: as above.
unsafe impl Sync for Timer {}

impl Timer {
    /// A timer for the calling thread, not yet set.
    pub fn new() -> io::Result<Timer> {
        // SAFETY: all zeroes is a valid sigevent; the fields that SIGEV_THREAD_ID needs follow.
        let mut event: libc::sigevent = unsafe { MaybeUninit::zeroed().assume_init() };
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = kick_signal();
        event.sigev_notify_thread_id = Thread::current().0;
        let mut timer = MaybeUninit::uninit();
        // SAFETY: `event` is read, `timer` written; both outlive the call.
        check(unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &mut event, timer.as_mut_ptr()) })?;
        // SAFETY: the call succeeded, so `timer` is written.
        Ok(Timer(unsafe { timer.assume_init() }))
    }

    /// Kicks after `first` (at least a nanosecond) and then every `interval`.
    pub fn set(&self, first: Duration, interval: Duration) {
        let spec = |time: Duration| libc::timespec {
            tv_sec: time.as_secs() as libc::time_t,
            tv_nsec: time.subsec_nanos().into(),
        };
        let first = first.max(Duration::from_nanos(1));
        let time = libc::itimerspec { it_interval: spec(interval), it_value: spec(first) };
        // SAFETY: the timer exists until it is dropped; `time` is only read. It fails only for bad numbers.
        unsafe { libc::timer_settime(self.0, 0, &time, null_mut()) };
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        // SAFETY: the timer exists and is deleted once.
        unsafe { libc::timer_delete(self.0) };
    }
}
