//! What an argument of a system call means, where its kind in the table of calls does not say it: which flags, which
//! struct, and whether the call reads or writes it.
//!
//! Sources: syscalls(2) and the manual page of each call.

use super::names::{self, Name};
use crate::timeline::Shape;

/// A meaning. What is read is shown as it is before the call, what is written as it is after it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Meaning {
    /// A number: with a sign, if its 32 bits have one.
    Number,
    /// An address.
    Address,
    /// In hexadecimal.
    Hex,
    /// Permissions.
    Octal,
    /// An open file, or AT_FDCWD.
    Descriptor,
    /// A path.
    Path,
    /// Bits.
    Flags(&'static [Name]),
    /// One of several.
    Choice(&'static [Name]),
    /// One of several in the low bits of that mask, and bits beside it.
    Both(u64, &'static [Name], &'static [Name]),
    /// A signal.
    Signal,
    /// clone(2): bits, and a signal below them.
    Clone,
    /// Bytes that the call reads: as many as its kind says.
    Data,
    /// Bytes that the call writes: as many as its result says.
    Filled,
    /// Text that the call writes, up to its zero.
    Text,
    /// Pieces of memory that the call reads: an array of `iovec`s, whose number is that argument.
    Pieces(usize),
    /// The same, to be written to.
    Room(usize),
    /// Arguments of a program.
    Strings,
    /// Its environment: only how many.
    Environment,
    /// `struct stat`, written.
    Stat,
    /// Two 64-bit numbers with these names; whether they are written.
    Pair(&'static str, &'static str, bool),
    /// Four of them: `struct itimerspec`, `struct itimerval`; whether it is written.
    Timer(bool),
    /// A set of signals; whether it is written.
    Signals(bool),
    /// `struct sigaction`; whether it is written.
    Action(bool),
    /// `struct pollfd`s, whose number is the second argument: before the call.
    Polled,
    /// `int`s, written: so many.
    Ints(usize),
    /// The status of wait4(2), written.
    WaitStatus,
    /// `struct utsname`, written.
    System,
    /// A socket's address, read.
    SocketAddress,
}

impl Meaning {
    /// Whether it is known after the call only.
    pub fn is_written(self) -> bool {
        use Meaning::*;
        matches!(
            self,
            Filled
                | Text
                | Room(_)
                | Stat
                | Pair(_, _, true)
                | Timer(true)
                | Signals(true)
                | Action(true)
                | Ints(_)
                | WaitStatus
                | System
        )
    }

    /// Whether argument `at` means anything: the mode of a file that is not made does not.
    pub fn is_used(number: i64, at: usize, words: &[u64; 6]) -> bool {
        const MAKES: u64 = (libc::O_CREAT | libc::O_TMPFILE & !libc::O_DIRECTORY) as u64;
        match (number, at) {
            (libc::SYS_open, 2) => words[1] & MAKES != 0,
            (libc::SYS_openat, 3) => words[2] & MAKES != 0,
            (libc::SYS_fcntl, 2) => !matches!(
                words[1] as i32,
                libc::F_GETFD
                    | libc::F_GETFL
                    | libc::F_GETOWN
                    | libc::F_GETLEASE
                    | libc::F_GETPIPE_SZ
                    | libc::F_GET_SEALS
            ),
            _ => true,
        }
    }

    /// Whether call `number` may take long, or may be the process's last: it is told of before it is made.
    pub fn may_stay(number: i64) -> bool {
        matches!(
            number,
            libc::SYS_read
                | libc::SYS_readv
                | libc::SYS_wait4
                | libc::SYS_waitid
                | libc::SYS_poll
                | libc::SYS_ppoll
                | libc::SYS_select
                | libc::SYS_pselect6
                | libc::SYS_epoll_wait
                | libc::SYS_epoll_pwait
                | libc::SYS_epoll_pwait2
                | libc::SYS_futex
                | libc::SYS_nanosleep
                | libc::SYS_clock_nanosleep
                | libc::SYS_pause
                | libc::SYS_rt_sigsuspend
                | libc::SYS_rt_sigtimedwait
                | libc::SYS_accept
                | libc::SYS_accept4
                | libc::SYS_connect
                | libc::SYS_recvfrom
                | libc::SYS_recvmsg
                | libc::SYS_flock
                | libc::SYS_vfork
                | libc::SYS_kill
                | libc::SYS_tkill
                | libc::SYS_tgkill
                | libc::SYS_rt_sigqueueinfo
                | libc::SYS_rt_tgsigqueueinfo
        )
    }

    /// What argument `at` of call `number` means, whose kind is `shape`.
    pub fn of(number: i64, at: usize, shape: Shape) -> Meaning {
        special(number, at).unwrap_or(match shape {
            Shape::Number => Meaning::Number,
            Shape::Descriptor | Shape::Directory => Meaning::Descriptor,
            Shape::Path => Meaning::Path,
            Shape::Memory(_) => Meaning::Address,
        })
    }
}

const TIMESPEC: Meaning = Meaning::Pair("tv_sec", "tv_nsec", false);
const TIMESPEC_OUT: Meaning = Meaning::Pair("tv_sec", "tv_nsec", true);
const TIMEVAL_OUT: Meaning = Meaning::Pair("tv_sec", "tv_usec", true);
const RLIMIT: Meaning = Meaning::Pair("rlim_cur", "rlim_max", false);
const RLIMIT_OUT: Meaning = Meaning::Pair("rlim_cur", "rlim_max", true);

#[rustfmt::skip]
#[allow(non_upper_case_globals, reason = "as libc spells them")]
#[deny(unreachable_patterns, reason = "a name that libc does not have would match everything")]
fn special(number: i64, at: usize) -> Option<Meaning> {
    use libc::*;
    use Meaning::*;
    Some(match (number, at) {
        (SYS_write | SYS_pwrite64 | SYS_sendto, 1) | (SYS_setsockopt, 3) => Data,
        (SYS_read | SYS_pread64 | SYS_recvfrom, 1) | (SYS_getrandom, 0) => Filled,
        (SYS_readlink, 1) | (SYS_readlinkat, 2) => Filled,
        (SYS_getcwd, 0) => Text,
        (SYS_writev | SYS_pwritev | SYS_pwritev2, 1) => Pieces(2),
        (SYS_readv | SYS_preadv | SYS_preadv2, 1) => Room(2),

        (SYS_open, 1) | (SYS_openat, 2) => Both(3, names::ACCESS_MODE, names::OPEN),
        (SYS_pipe2 | SYS_inotify_init1, _) | (SYS_dup3, 2) if number != SYS_pipe2 || at == 1 => Flags(names::OPEN),
        (SYS_open, 2) | (SYS_creat | SYS_mkdir | SYS_mknod | SYS_chmod | SYS_fchmod, 1) | (SYS_umask, 0)
        | (SYS_openat, 3) | (SYS_mkdirat | SYS_mknodat | SYS_fchmodat, 2) => Octal,
        (SYS_access, 1) | (SYS_faccessat | SYS_faccessat2, 2) => Flags(names::ACCESS),
        (SYS_faccessat2, 3) => Flags(names::AT_ACCESS),
        (SYS_newfstatat | SYS_utimensat, 3) | (SYS_statx | SYS_unlinkat, 2) | (SYS_linkat | SYS_fchownat | SYS_execveat, 4)
            => Flags(names::AT),
        (SYS_statx, 3) => Hex,
        (SYS_renameat2, 4) => Flags(names::RENAME),
        (SYS_fstat | SYS_stat | SYS_lstat, 1) | (SYS_newfstatat, 2) => Stat,
        (SYS_lseek, 2) => Choice(names::WHENCE),
        (SYS_fcntl, 1) => Choice(names::FCNTL),
        (SYS_ioctl, 1) => Choice(names::IOCTL),
        (SYS_ioctl, 2) => Address,
        (SYS_flock, 1) => Flags(names::FLOCK),
        (SYS_close_range, 2) => Flags(names::CLOSE_RANGE),
        (SYS_memfd_create, 1) => Flags(names::MEMFD),
        (SYS_pipe | SYS_pipe2, 0) => Ints(2),
        (SYS_socketpair, 3) => Ints(2),
        (SYS_eventfd2, 1) => Flags(names::EVENTFD),
        (SYS_timerfd_create, 1) => Flags(names::TIMERFD),
        (SYS_epoll_create1, 0) => Flags(names::EPOLL),
        (SYS_epoll_ctl, 1) => Choice(names::EPOLL_CTL),
        (SYS_poll | SYS_ppoll, 0) => Polled,
        (SYS_ppoll, 2) | (SYS_pselect6, 4) | (SYS_epoll_pwait2, 3) => TIMESPEC,
        (SYS_ppoll, 3) | (SYS_epoll_pwait | SYS_epoll_pwait2, 4) | (SYS_signalfd4, 1) => Signals(false),

        (SYS_mmap, 0) | (SYS_munmap | SYS_mprotect | SYS_mremap | SYS_brk | SYS_madvise | SYS_msync, 0)
        | (SYS_set_tid_address | SYS_set_robust_list, 0) | (SYS_clone, 1) | (SYS_clone, 4) => Address,
        (SYS_mmap | SYS_mprotect, 2) => Flags(names::PROTECTION),
        (SYS_mmap, 3) => Flags(names::MAP),
        (SYS_mmap, 5) => Hex,
        (SYS_mremap, 3) => Flags(names::REMAP),
        (SYS_mremap, 4) => Address,
        (SYS_madvise, 2) => Choice(names::ADVICE),

        (SYS_clone, 0) => Clone,
        (SYS_execve, 1) | (SYS_execveat, 2) => Strings,
        (SYS_execve, 2) | (SYS_execveat, 3) => Environment,
        (SYS_wait4, 1) => WaitStatus,
        (SYS_wait4, 2) | (SYS_waitid, 3) => Flags(names::WAIT),
        (SYS_waitid, 0) => Choice(names::WAIT_FOR),
        (SYS_arch_prctl, 0) => Choice(names::ARCH),
        (SYS_arch_prctl, 1) | (SYS_prctl, 1) => Address,
        (SYS_prctl, 0) => Choice(names::PRCTL),
        (SYS_prctl, 2..=4) => Hex,
        (SYS_futex, 1) => Both(0x7f, names::FUTEX, names::FUTEX_FLAGS),
        (SYS_futex, 3) => Address,
        (SYS_futex, 5) => Hex,
        (SYS_prlimit64, 1) | (SYS_getrlimit | SYS_setrlimit, 0) => Choice(names::RESOURCE),
        (SYS_prlimit64, 2) | (SYS_setrlimit, 1) => RLIMIT,
        (SYS_prlimit64, 3) | (SYS_getrlimit, 1) => RLIMIT_OUT,
        (SYS_getrusage, 0) => Choice(names::USAGE),
        (SYS_uname, 0) => System,
        (SYS_getrandom, 2) => Flags(names::RANDOM),

        (SYS_rt_sigaction, 0) | (SYS_kill | SYS_tkill, 1) | (SYS_tgkill, 2) => Signal,
        (SYS_rt_sigaction, 1) => Action(false),
        (SYS_rt_sigaction, 2) => Action(true),
        (SYS_rt_sigprocmask, 0) => Choice(names::HOW),
        (SYS_rt_sigprocmask, 1) | (SYS_rt_sigsuspend | SYS_rt_sigtimedwait, 0) => Signals(false),
        (SYS_rt_sigprocmask, 2) | (SYS_rt_sigpending, 0) => Signals(true),
        (SYS_rt_sigtimedwait, 2) => TIMESPEC,

        (SYS_clock_gettime | SYS_clock_getres | SYS_clock_nanosleep | SYS_timer_create, 0) => Choice(names::CLOCK),
        (SYS_timerfd_create, 0) => Choice(names::CLOCK),
        (SYS_clock_gettime | SYS_clock_getres, 1) => TIMESPEC_OUT,
        (SYS_clock_nanosleep | SYS_timer_settime | SYS_timerfd_settime, 1) => Flags(names::TIMER),
        (SYS_clock_nanosleep, 2) | (SYS_nanosleep, 0) => TIMESPEC,
        (SYS_gettimeofday, 0) => TIMEVAL_OUT,
        (SYS_getitimer | SYS_setitimer, 0) => Choice(names::ITIMER),
        (SYS_setitimer, 1) | (SYS_timer_settime | SYS_timerfd_settime, 2) => Timer(false),
        (SYS_getitimer | SYS_timer_gettime | SYS_timerfd_gettime, 1) | (SYS_setitimer, 2)
        | (SYS_timer_settime | SYS_timerfd_settime, 3) => Timer(true),

        (SYS_socket | SYS_socketpair, 0) => Choice(names::FAMILY),
        (SYS_socket | SYS_socketpair, 1) => Both(0xf, names::SOCKET, names::SOCKET_FLAGS),
        (SYS_bind | SYS_connect, 1) | (SYS_sendto, 4) => SocketAddress,
        (SYS_accept4, 3) => Flags(names::SOCKET_FLAGS),
        (SYS_shutdown, 1) => Choice(names::SHUTDOWN),
        (SYS_getsockopt | SYS_setsockopt, 1) => Choice(names::LEVEL),
        (SYS_sendto | SYS_recvfrom, 3) | (SYS_sendmsg | SYS_recvmsg, 2) => Flags(names::MESSAGE),
        _ => return None,
    })
}
