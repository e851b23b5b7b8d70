//! The rest of libc: signals, timers and terminals, each behind a safe function.
//!
//! Nothing here knows about virtual machines. Sources: signal-safety(7), timer_create(2), termios(3).
#![allow(unsafe_code)]

pub mod clone;
mod confine;
pub mod contents;
mod host;
pub mod spawn;
pub mod stopped;

pub use confine::{
    close_file_system, die_saying, drop_capabilities, limit_resources, on_forbidden_call, share_one_heap,
};
pub use host::{columns, cpuid, effective_user, ring, smallest_system_call};

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd};
use std::ptr::null_mut;
use std::sync::Mutex;
use std::time::Duration;

/// Zero for success, as most of libc has it.
fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A signal that interrupts system calls and means nothing by itself.
pub fn kick_signal() -> libc::c_int {
    libc::SIGRTMIN()
}

/// Calls `handler` when `signal` arrives. A blocking system call then ends with EINTR.
///
/// The handler may only do what is async-signal-safe, such as storing to an atomic.
pub fn on_signal(signal: libc::c_int, handler: extern "C" fn(libc::c_int)) -> io::Result<()> {
    set_action(signal, handler as *const () as libc::sighandler_t).map(drop)
}

/// The same, but a signal that whoever started us wants ignored, as nohup(1) does with SIGHUP, stays so.
pub fn on_signal_unless_ignored(signal: libc::c_int, handler: extern "C" fn(libc::c_int)) -> io::Result<()> {
    match set_action(signal, handler as *const () as libc::sighandler_t)? {
        libc::SIG_IGN => set_action(signal, libc::SIG_IGN).map(drop),
        _ => Ok(()),
    }
}

/// Sets what `signal` does, and returns what it did before.
fn set_action(signal: libc::c_int, action: libc::sighandler_t) -> io::Result<libc::sighandler_t> {
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
pub fn send_signal(process: i32, signal: libc::c_int) {
    // SAFETY: kill takes plain numbers.
    unsafe { libc::kill(process, signal) };
}

/// Has this process asked to end, by SIGTERM, when the one that started it ends (prctl(2)).
pub fn end_with_parent() {
    // SAFETY: plain numbers. It cannot fail for a signal that exists.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) };
}

/// Ends this process the way `signal` would have, had we not caught it, so that a shell sees it.
pub fn die_of(signal: libc::c_int) -> ! {
    // SAFETY: both calls take plain numbers. Should the signal be blocked, exit says the same by number.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
    std::process::exit(128 + signal)
}

/// Keeps signals away from the calling thread, so that they reach the main one: all but [`kick_signal`], and those
/// which are about this thread and would end the process without a word.
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

/// Sends [`kick_signal`] to one thread when time is up.
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

/// What standard input is, as far as a console cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// A terminal, and we are in its foreground: it may be switched to raw mode.
    Terminal,
    /// A terminal, but others are in its foreground: to change it or to read from it would stop us
    /// (SIGTTOU, SIGTTIN).
    Background,
    /// A pipe, a file, a socket: bytes to pass on.
    Stream,
    /// /dev/null: nothing but an end.
    Empty,
}

/// Looks at file descriptor 0.
pub fn stdin_kind() -> Input {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: fstat writes `stat` or fails; the other calls take plain numbers.
    unsafe {
        if libc::fstat(0, stat.as_mut_ptr()) != 0 {
            return Input::Empty;
        }
        let stat = stat.assume_init();
        // /dev/null is character device 1:3 (kernel: admin-guide/devices.txt).
        if stat.st_mode & libc::S_IFMT != libc::S_IFCHR {
            return Input::Stream;
        } else if stat.st_rdev == libc::makedev(1, 3) {
            return Input::Empty;
        } else if libc::isatty(0) == 0 {
            return Input::Stream;
        }
        match libc::tcgetpgrp(0) {
            // Not the terminal of our session, so it has no background.
            -1 => Input::Terminal,
            group if group == libc::getpgrp() => Input::Terminal,
            _ => Input::Background,
        }
    }
}

/// How the terminal on standard input was set before [`raw_terminal`].
static COOKED: Mutex<Option<libc::termios>> = Mutex::new(None);

/// Switches the terminal on standard input to raw mode: every key goes through, Ctrl-C included.
pub fn raw_terminal() -> io::Result<()> {
    let mut termios = MaybeUninit::uninit();
    // SAFETY: tcgetattr writes `termios` or fails.
    check(unsafe { libc::tcgetattr(0, termios.as_mut_ptr()) })?;
    // SAFETY: the call succeeded.
    let cooked = unsafe { termios.assume_init() };
    let mut raw = cooked;
    // SAFETY: cfmakeraw changes the struct it is given.
    unsafe { libc::cfmakeraw(&mut raw) };
    // Our own messages go to the same terminal, and end their lines with \n alone.
    raw.c_oflag = cooked.c_oflag;
    COOKED.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).get_or_insert(cooked);
    CRASHES.into_iter().try_for_each(|signal| on_signal(signal, crashed))?;
    // SAFETY: `raw` is initialised and only read.
    check(unsafe { libc::tcsetattr(0, libc::TCSANOW, &raw) })
}

/// Gives the terminal back as [`raw_terminal`] found it. Nothing happens if it was never called.
pub fn restore_terminal() {
    // Not lock(): a panic may come from the thread that holds it.
    if let Ok(mut saved) = COOKED.try_lock()
        && let Some(cooked) = saved.take()
    {
        // SAFETY: `cooked` is what tcgetattr gave. Should the terminal be gone, there is nothing to restore.
        unsafe { libc::tcsetattr(0, libc::TCSANOW, &cooked) };
    }
}

/// The signals of a process that cannot go on.
const CRASHES: [libc::c_int; 5] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGABRT];

/// Nobody else would give the terminal back.
extern "C" fn crashed(_signal: libc::c_int) {
    restore_terminal();
    let text = b"error: matchstick crashed\n hint: that is a fault of its own, or somebody shortened a file in use\n";
    die_saying(text, 125)
}

/// Waits until standard output takes bytes again, for a pipe that someone made non-blocking.
pub fn wait_for_stdout() {
    let mut poll = libc::pollfd { fd: 1, events: libc::POLLOUT, revents: 0 };
    // SAFETY: one pollfd, and it is ours.
    unsafe { libc::poll(&mut poll, 1, 100) };
}

/// The time of CLOCK_MONOTONIC, which all processes of a host share.
pub fn monotonic() -> Duration {
    let mut now = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: clock_gettime writes `now`; this clock always exists.
    let now = unsafe {
        libc::clock_gettime(libc::CLOCK_MONOTONIC, now.as_mut_ptr());
        now.assume_init()
    };
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// How often the kernel's timer ticks in a second: its coarse clock advances by one tick at a time.
pub fn timer_frequency() -> u32 {
    let mut tick = MaybeUninit::<libc::timespec>::zeroed();
    // SAFETY: clock_getres writes `tick`; this clock exists since Linux 2.6.32, and all zeroes is valid, too.
    let tick = unsafe {
        libc::clock_getres(libc::CLOCK_MONOTONIC_COARSE, tick.as_mut_ptr());
        tick.assume_init()
    };
    u32::try_from(1_000_000_000 / tick.tv_nsec.max(1)).unwrap_or(0)
}

/// Binds this thread, and what it starts, to one processor (sched_setaffinity(2)).
pub fn bind_to(processor: u32) -> io::Result<()> {
    // SAFETY: all zeroes is an empty set; CPU_SET checks its bounds; the set is only read by the call.
    unsafe {
        let mut set: libc::cpu_set_t = MaybeUninit::zeroed().assume_init();
        if processor as usize >= 8 * size_of::<libc::cpu_set_t>() {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        libc::CPU_SET(processor as usize, &mut set);
        check(libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set))
    }
}

/// A pipe whose writing end a child inherits.
pub fn pipe_for_child() -> io::Result<(PipeReader, PipeWriter)> {
    let (reader, writer) = io::pipe()?;
    // SAFETY: the descriptor is open; clearing FD_CLOEXEC changes nothing but what exec does to it.
    match unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETFD, 0) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok((reader, writer)),
    }
}

/// The writing end, in the child: `None` unless `fd` is an open pipe that is not one of the first three.
pub fn inherited_pipe(fd: i32) -> Option<File> {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: fstat writes `stat` or fails.
    let is_pipe = unsafe {
        fd > 2
            && libc::fstat(fd, stat.as_mut_ptr()) == 0
            && stat.assume_init().st_mode & libc::S_IFMT == libc::S_IFIFO
    };
    // SAFETY: our parent opened it for us alone, and nothing in this process has asked for it before.
    is_pipe.then(|| unsafe { File::from_raw_fd(fd) })
}

/// Bytes from the host's random number generator (getrandom(2)).
pub fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    // SAFETY: getrandom writes at most as many bytes as it is told, into an array of that length.
    let count = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), N, 0) };
    match usize::try_from(count) {
        Ok(count) if count == N => Ok(bytes),
        // Up to 256 bytes come whole or not at all.
        _ => Err(io::Error::last_os_error()),
    }
}

/// Seconds since the start of 1970, UTC.
pub fn unix_time() -> u64 {
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Nanoseconds since the start of 1970, UTC.
pub fn unix_nanos() -> u64 {
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

/// Where the next data of a sparse file begin, from `offset` on; `None` if only a hole is left (lseek(2), SEEK_DATA).
pub fn next_data(file: &File, offset: u64) -> io::Result<Option<u64>> {
    // SAFETY: lseek takes plain numbers. It moves the descriptor's own place, at which nobody of ours reads.
    match unsafe { libc::lseek(file.as_raw_fd(), offset as libc::off_t, libc::SEEK_DATA) } {
        -1 => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ENXIO) => Ok(None),
            // A file system without holes has data everywhere.
            error if error.raw_os_error() == Some(libc::EINVAL) => Ok(Some(offset)),
            error => Err(error),
        },
        data => Ok(Some(data as u64)),
    }
}

/// Which of `pages` pages from `address` on are the process's own, and no longer those of the file that is mapped
/// there (kernel: admin-guide/mm/pagemap.rst). `pagemap` is that file of /proc.
pub fn own_pages(pagemap: &File, address: usize, pages: usize) -> io::Result<Vec<usize>> {
    use std::os::unix::fs::FileExt;
    /// Bits of an entry: in memory, swapped, of a file.
    const PRESENT: u64 = 1 << 63;
    const SWAPPED: u64 = 1 << 62;
    const OF_A_FILE: u64 = 1 << 61;
    let mut entries = vec![0; pages * size_of::<u64>()];
    pagemap.read_exact_at(&mut entries, (address / 4096 * size_of::<u64>()) as u64)?;
    let entries = entries.chunks_exact(8).filter_map(|entry| entry.try_into().ok()).map(u64::from_le_bytes);
    let is_own = |entry: u64| entry & (PRESENT | SWAPPED) != 0 && entry & OF_A_FILE == 0;
    Ok(entries.enumerate().filter(|&(_, entry)| is_own(entry)).map(|(number, _)| number).collect())
}

/// Allows this process as many open files as it may have at all (setrlimit(2)).
pub fn raise_open_files() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls read or write one rlimit, which is ours. Should they fail, the limit is as it was.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}

/// A file that is nowhere but in memory (memfd_create(2)).
pub fn memory_file() -> io::Result<File> {
    // SAFETY: the name is a constant; the descriptor that comes back is nobody's yet.
    match unsafe { libc::memfd_create(c"matchstick".as_ptr(), libc::MFD_CLOEXEC) } {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: as above.
        fd => Ok(unsafe { File::from_raw_fd(fd) }),
    }
}

/// What std does before `main`, for a program that is started without it: writing to a closed pipe is an
/// error instead of a signal, and descriptors 0 to 2 are not free for the next file that is opened. Beside that, writing
/// more than a file may hold (`ulimit -f`) is an error, too.
///
/// A closed one becomes /dev/null, but opened for reading: what is written to it fails instead of vanishing.
pub fn begin() {
    let mut standard = [0, 1, 2].map(|fd| libc::pollfd { fd, events: 0, revents: 0 });
    // SAFETY: poll is given as many entries as it is told; signal and open take constants. open returns the
    // lowest free number, and we ask in ascending order.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        libc::poll(standard.as_mut_ptr(), standard.len() as libc::nfds_t, 0);
        for closed in standard.iter().filter(|poll| poll.revents & libc::POLLNVAL != 0) {
            libc::open(c"/dev/null".as_ptr(), if closed.fd == 0 { libc::O_RDWR } else { libc::O_RDONLY });
        }
    }
}
