//! Limits for all processes of a program together: a time, an amount of output, a number of processes.
//!
//! Nobody watches over them: they watch themselves. What is left of the output, and whether the end has come, stands in
//! memory that they share. Each process holds a lock on a byte of a file of its own, which the kernel takes back when
//! it dies, however that happens: so the locks tell which processes there are. Each has a timer for the same moment.
//!
//! Whoever finds a limit reached ends the others. The first process ends with a line and the limit's status, in a signal
//! handler that nothing can block (`signals`). Sources: fcntl(2) "Advisory record locking", timer_create(2).

use super::process::{Forked, duplicate_above};
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::mem::zeroed;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::ptr::null_mut;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// The most processes that can be counted.
pub const PROCESSES_MAX: u32 = 4096;

/// What all processes of a program together may take. Nothing is limited by default.
#[derive(Debug, Clone, Default)]
pub struct Limits {
    /// How long they may run, and what the first one says when that is over, with which status it ends.
    pub time: Option<(Duration, Last)>,
    /// How many bytes of output they may write, and the same.
    pub output: Option<(u64, Last)>,
    /// How many of them there may be at once.
    pub processes: Option<u32>,
}

/// How the first process ends.
#[derive(Debug, Clone)]
pub struct Last {
    /// What it says.
    pub text: String,
    /// Its exit status.
    pub status: u8,
}

/// Shared by the processes.
#[derive(Debug)]
struct Shared {
    output_left: AtomicU64,
    /// 0, or one more than the index of what ended it in `lasts`.
    ended: AtomicI32,
}

/// What each process knows.
struct Kept {
    shared: &'static Shared,
    locks: File,
    processes: u32,
    deadline: Option<libc::timespec>,
    has_output: bool,
    lasts: [Option<Last>; 2],
}

const TIME: i32 = 1;
const OUTPUT: i32 = 2;

static KEPT: OnceLock<Kept> = OnceLock::new();
/// This process's timer, or -1.
static TIMER: AtomicI32 = AtomicI32::new(-1);
/// This process's byte: 0 is the first one's.
static PLACE: AtomicU32 = AtomicU32::new(0);

/// Limits this process and all that it will start. To be called once, by the first of them; our descriptor is `lowest`
/// or more.
pub fn limit(limits: Limits, lowest: RawFd) -> io::Result<()> {
    let Limits { time, output, processes } = limits;
    if time.is_none() && output.is_none() && processes.is_none() {
        return Ok(());
    }
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping; zeroes are a valid `Shared`, and it stays as long as the process.
    let shared = unsafe {
        let at =
            libc::mmap(null_mut(), size_of::<Shared>(), libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        &*at.cast::<Shared>()
    };
    shared.output_left.store(output.as_ref().map_or(u64::MAX, |(bytes, _)| *bytes), Ordering::Relaxed);
    let file = super::super::memory_file()?;
    let locks = File::from(duplicate_above(file.as_fd(), lowest)?);
    // Its locks go when any descriptor of the file is closed, so there is none yet.
    drop(file);
    let deadline = time.as_ref().map(|(time, _)| after(*time));
    let kept = Kept {
        shared,
        locks,
        processes: processes.unwrap_or(PROCESSES_MAX),
        deadline,
        has_output: output.is_some(),
        lasts: [time.map(|(_, last)| last), output.map(|(_, last)| last)],
    };
    let kept = KEPT.get_or_init(|| kept);
    kept.lock(0, libc::F_SETLK)?;
    kept.arm()
}

fn after(time: Duration) -> libc::timespec {
    // SAFETY: the struct is written by the call, which cannot fail for this clock.
    let mut now = unsafe { zeroed::<libc::timespec>() };
    // SAFETY: as above.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    let nanoseconds = now.tv_nsec + i64::from(time.subsec_nanos());
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX / 2);
    now.tv_sec = now.tv_sec.saturating_add(seconds).saturating_add(nanoseconds / 1_000_000_000);
    now.tv_nsec = nanoseconds % 1_000_000_000;
    now
}

impl Kept {
    /// fcntl(2) about the lock on byte `at`.
    fn lock(&self, at: u32, command: i32) -> io::Result<libc::flock> {
        // SAFETY: zeroes are a valid flock, and the call reads or writes one.
        let mut lock = unsafe { zeroed::<libc::flock>() };
        (lock.l_type, lock.l_whence) = (libc::F_WRLCK as i16, libc::SEEK_SET as i16);
        (lock.l_start, lock.l_len) = (at.into(), 1);
        // SAFETY: as above.
        super::super::check(unsafe { libc::fcntl(self.locks.as_raw_fd(), command, &mut lock) })?;
        Ok(lock)
    }

    /// Who has byte `at`; 0 for nobody, or this process.
    fn holder(&self, at: u32) -> i32 {
        match self.lock(at, libc::F_GETLK) {
            Ok(lock) if lock.l_type != libc::F_UNLCK as i16 => lock.l_pid,
            _ => 0,
        }
    }

    /// The byte of whoever makes a process.
    fn door(&self) -> u32 {
        self.processes
    }

    fn open_door(&self) {
        // SAFETY: zeroes are a valid flock, which is only read.
        let mut lock = unsafe { zeroed::<libc::flock>() };
        (lock.l_type, lock.l_whence) = (libc::F_UNLCK as i16, libc::SEEK_SET as i16);
        (lock.l_start, lock.l_len) = (self.door().into(), 1);
        // SAFETY: as above.
        unsafe { libc::fcntl(self.locks.as_raw_fd(), libc::F_SETLK, &lock) };
    }

    /// Sets this process's timer.
    fn arm(&self) -> io::Result<()> {
        let Some(deadline) = self.deadline else { return Ok(()) };
        // SAFETY: zeroes are valid structs; the calls read them and write the timer's number.
        unsafe {
            let mut event: libc::sigevent = zeroed();
            (event.sigev_notify, event.sigev_signo) = (libc::SIGEV_SIGNAL, libc::SIGSYS);
            let mut timer = 0_i32;
            let made = libc::syscall(libc::SYS_timer_create, libc::CLOCK_MONOTONIC, &event, &mut timer);
            super::super::check(made as i32)?;
            TIMER.store(timer, Ordering::Relaxed);
            let time = libc::itimerspec { it_interval: zeroed(), it_value: deadline };
            let set = libc::syscall(libc::SYS_timer_settime, timer, libc::TIMER_ABSTIME, &time, 0);
            super::super::check(set as i32)
        }
    }

    /// Ends all processes of the program; this one says why, if it is the first.
    fn end(&self, why: i32) -> ! {
        let before = self.shared.ended.compare_exchange(0, why, Ordering::SeqCst, Ordering::SeqCst);
        let why = before.err().unwrap_or(why);
        // SAFETY: plain numbers; the locks' holders live, and are processes of this program.
        unsafe {
            for holder in (1..self.processes).map(|at| self.holder(at)).filter(|holder| *holder > 0) {
                libc::kill(holder, libc::SIGKILL);
            }
            let first = self.holder(0);
            if first > 0 {
                libc::kill(first, libc::SIGCONT);
                libc::kill(first, libc::SIGSYS);
            }
        }
        match &self.lasts[(why - 1) as usize] {
            Some(Last { text, status }) if PLACE.load(Ordering::Relaxed) == 0 => {
                super::super::restore_terminal();
                super::super::die_saying(text.as_bytes(), *status)
            }
            last => super::end_process(last.as_ref().map_or(0, |last| last.status.into())),
        }
    }
}

/// For the handler of SIGSYS: ends this process if it is time.
pub(super) fn look(info: &[u8]) {
    let Some(kept) = KEPT.get() else { return };
    // si_code, and the number of a timer (sigaction(2)).
    let int = |at: usize| i32::from_ne_bytes(info[at..at + 4].try_into().expect("four bytes"));
    let is_timer = int(8) == libc::SI_TIMER && is_our_timer(int(16));
    match kept.shared.ended.load(Ordering::SeqCst) {
        0 if is_timer => kept.end(TIME),
        0 => {}
        why => kept.end(why),
    }
}

/// Whether a timer's number is that of this process's own, and so none of the program's.
pub fn is_our_timer(number: i32) -> bool {
    number >= 0 && number == TIMER.load(Ordering::Relaxed)
}

/// Our descriptor, which a child needs as well.
pub fn descriptor() -> Option<RawFd> {
    KEPT.get().map(|kept| kept.locks.as_raw_fd())
}

/// Room for one more process; nobody else makes one while it is there.
pub struct Room(Option<(u32, PipeReader, PipeWriter)>);

impl Room {
    /// Waits until nobody else makes one.
    ///
    /// # Errors
    /// EAGAIN: there are as many as there may be.
    pub fn find() -> io::Result<Room> {
        let Some(kept) = KEPT.get() else { return Ok(Room(None)) };
        while let Err(error) = kept.lock(kept.door(), libc::F_SETLKW) {
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
        let own = PLACE.load(Ordering::Relaxed);
        let is_free = |at: &u32| *at != own && kept.holder(*at) == 0;
        let found = (0..kept.processes).find(is_free).ok_or(io::Error::from_raw_os_error(libc::EAGAIN));
        let room = found.and_then(|at| io::pipe().map(|(reader, writer)| Room(Some((at, reader, writer)))));
        room.inspect_err(|_| kept.open_door())
    }

    /// After the fork, or without it: the child has its place, and others may make processes again.
    pub fn settle(self, forked: &io::Result<Forked>) {
        let (Some((at, mut reader, mut writer)), Some(kept)) = (self.0, KEPT.get()) else { return };
        if !matches!(forked, Ok(Forked::Child)) {
            drop(writer);
            // Nothing, if it was killed meanwhile.
            let _ = reader.read(&mut [0]);
            return kept.open_door();
        }
        TIMER.store(-1, Ordering::Relaxed);
        PLACE.store(at, Ordering::Relaxed);
        if kept.lock(at, libc::F_SETLK).is_err() || kept.arm().is_err() {
            super::end_process(125);
        }
        let _ = writer.write(&[1]);
        match kept.shared.ended.load(Ordering::SeqCst) {
            0 => {}
            why => kept.end(why),
        }
    }
}

/// Whether there is a limit on output.
pub fn has_output_limit() -> bool {
    KEPT.get().is_some_and(|kept| kept.has_output)
}

/// Takes up to `wanted` bytes of what may still be written.
pub fn take_output(wanted: u64) -> u64 {
    let Some(kept) = KEPT.get() else { return wanted };
    let take = |left: u64| Some(left - left.min(wanted));
    let left = kept.shared.output_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take);
    left.unwrap_or_default().min(wanted)
}

/// Gives back what was taken and not written.
pub fn give_back_output(bytes: u64) {
    if let Some(kept) = KEPT.get() {
        kept.shared.output_left.fetch_add(bytes, Ordering::SeqCst);
    }
}

/// Ends all processes: there was more output than there may be.
pub fn end_for_output() -> ! {
    match KEPT.get() {
        Some(kept) => kept.end(OUTPUT),
        None => super::end_process(125),
    }
}
