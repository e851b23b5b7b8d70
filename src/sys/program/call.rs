//! System calls that the process makes on a program's behalf.
//!
//! Which arguments of a call are addresses is known here, and only there can memory stand: a piece of the program's
//! [`Arena`](super::Arena), or bytes of ours to be read. So no number that a program gives is taken for an address of
//! ours, whatever the table of [`crate::program`] says. A call that changes this process's memory or threads is not
//! in the list, and cannot be passed on.
//!
//! A signal may come between the last look at the [`Inbox`] and the call, which would then wait although there is
//! something to deliver. So the look and the call are a few instructions that the signal's handler knows by their
//! addresses, and leads out of. The same happens to a call that the kernel would begin again after the signal.
//!
//! Sources: syscalls(2), signal(7) "Interruption of system calls"; the numbers of x86-64.

use super::arena::Place;
use super::inbox::Inbox;
use super::stopwatch::timed;
use std::arch::{asm, global_asm};
use std::ffi::CStr;
use std::marker::PhantomData;

/// The result of a call that was not made, as a signal was there before: a number that no program sees.
pub const NOT_MADE: i64 = -513;
/// The result of a call that a signal has ended in the kernel, and that is to be made again or to fail: the kernel's own
/// ERESTARTSYS, which no program sees.
pub const RESTART: i64 = -512;

/// An argument.
#[derive(Debug, Clone, Copy)]
pub enum Argument<'a> {
    /// A number; in the place of an address only 0.
    Word(u64),
    /// Memory of the program.
    Memory(Place<'a>),
    /// A string of ours.
    Text(&'a CStr),
    /// A struct of ours, whole, that is only read.
    Bytes(&'a [u8]),
    /// Pieces of the program's memory: `struct iovec`s.
    Pieces(&'a [Piece<'a>]),
    /// A `struct msghdr`, into which the kernel writes lengths and flags.
    Message(&'a Message<'a>),
    /// A set of signals, as pselect6(2) wants it in its last place: by address and size.
    Signals(&'a u64),
}

/// A piece of the program's memory, as scattered reads and writes take it.
#[derive(Debug, Clone, Copy)]
#[repr(transparent)]
pub struct Piece<'a>(libc::iovec, PhantomData<Place<'a>>);

impl<'a> Piece<'a> {
    /// `len` bytes at `place`, which was checked to have so many.
    pub fn new(place: Place<'a>, len: u64) -> Piece<'a> {
        let iov_base = std::ptr::with_exposed_provenance_mut(place.address);
        Piece(libc::iovec { iov_base, iov_len: len as usize }, PhantomData)
    }
}

/// A message to send, or room for one.
#[derive(Debug)]
pub struct Message<'a>(std::cell::UnsafeCell<libc::msghdr>, PhantomData<Place<'a>>);

/// Part of a message.
#[derive(Debug, Clone, Copy)]
pub enum Part<'a> {
    /// Bytes of ours, to be sent; room for none, if it is to be received.
    Bytes(&'a [u8]),
    /// Memory of the program, and its length.
    Memory(Place<'a>, u64),
}

impl Part<'_> {
    /// As the kernel takes it; no address for no bytes.
    fn pointer(self) -> (*mut libc::c_void, usize) {
        match self {
            Part::Bytes([]) => (std::ptr::null_mut(), 0),
            Part::Bytes(bytes) => (bytes.as_ptr().cast_mut().cast(), bytes.len()),
            Part::Memory(place, len) => (std::ptr::with_exposed_provenance_mut(place.address), len as usize),
        }
    }
}

impl<'a> Message<'a> {
    /// An address, pieces of data, and control data. For recvmsg(2), what is written to has to be the program's.
    pub fn new(name: Part<'a>, pieces: &'a [Piece<'a>], control: Part<'a>) -> Message<'a> {
        // SAFETY: all zeroes is a valid msghdr: nothing at all.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        let (name, name_len) = name.pointer();
        (header.msg_name, header.msg_namelen) = (name, name_len as u32);
        (header.msg_iov, header.msg_iovlen) = (pieces.as_ptr().cast_mut().cast(), pieces.len());
        (header.msg_control, header.msg_controllen) = control.pointer();
        Message(std::cell::UnsafeCell::new(header), PhantomData)
    }

    /// What the kernel has written: the lengths of address and control data, and flags.
    pub fn received(&self) -> (u32, u64, i32) {
        // SAFETY: the kernel writes it only during the call.
        let header = unsafe { &*self.0.get() };
        (header.msg_namelen, header.msg_controllen as u64, header.msg_flags)
    }
}

/// Which arguments of a call are addresses: bit 0 is the first. `None` for calls that cannot be passed on. `words` are
/// its first three arguments, as the second or first of some decides what another one is.
pub fn addresses(number: i64, words: [u64; 3]) -> Option<u8> {
    fn asked<T: PartialEq>([plain, of_memory]: [&[T]; 2], what: T, memory: u8) -> Option<u8> {
        match what {
            what if plain.contains(&what) => Some(0),
            what if of_memory.contains(&what) => Some(memory),
            _ => None,
        }
    }
    match number {
        libc::SYS_fcntl => asked(FCNTLS, words[1] as i32, 0b100),
        libc::SYS_ioctl => asked(IOCTLS, words[1], 0b100),
        libc::SYS_prctl => asked(PRCTLS, words[0] as i32, 0b10),
        libc::SYS_futex => futex_addresses(words[1] as i32),
        number => same_addresses(number),
    }
}

/// Whether a call can be passed on at all.
pub const fn is_passed_on(number: i64) -> bool {
    matches!(number, libc::SYS_fcntl | libc::SYS_ioctl | libc::SYS_prctl | libc::SYS_futex)
        || same_addresses(number).is_some()
}

/// Of asm-generic/fcntl.h, and not in libc.
const F_SETSIG: i32 = 10;
const F_GETSIG: i32 = 11;

/// What fcntl(2) can be asked: with a number, or with a `struct flock`.
#[rustfmt::skip]
pub const FCNTLS: [&[i32]; 2] = {
    use libc::*;
    [
        &[
            F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_GETOWN, F_SETOWN, F_SETSIG, F_GETSIG,
            F_GETPIPE_SZ, F_SETPIPE_SZ, F_ADD_SEALS, F_GET_SEALS, F_SETLEASE, F_GETLEASE, F_NOTIFY,
        ],
        &[F_GETLK, F_SETLK, F_SETLKW, F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW],
    ]
};

/// What prctl(2) can be asked: with a number, or with memory.
#[rustfmt::skip]
pub const PRCTLS: [&[i32]; 2] = {
    use libc::*;
    [
        &[
            PR_SET_PDEATHSIG, PR_GET_DUMPABLE, PR_SET_NO_NEW_PRIVS, PR_GET_NO_NEW_PRIVS, PR_SET_CHILD_SUBREAPER,
            PR_CAPBSET_READ, PR_SET_TIMERSLACK, PR_GET_TIMERSLACK, PR_GET_KEEPCAPS,
        ],
        &[PR_SET_NAME, PR_GET_NAME, PR_GET_PDEATHSIG, PR_GET_CHILD_SUBREAPER],
    ]
};

/// What ioctl(2) can be asked, with a number or with memory: about terminals, pipes and sockets, as shells, editors and
/// event loops do.
#[rustfmt::skip]
pub const IOCTLS: [&[u64]; 2] = {
    use libc::*;
    // TCGETS2, TCSETS2, TCSETSW2, TCSETSF2
    const TERMIOS2: [u64; 4] = [0x802c_542a, 0x402c_542b, 0x402c_542c, 0x402c_542d];
    [
        &[
            TCSBRK, TCSBRKP, TCXONC, TCFLSH, TIOCSCTTY, TIOCNOTTY, TIOCEXCL, TIOCNXCL, FIOCLEX, FIONCLEX, TIOCGPTPEER,
        ],
        &[
            TCGETS, TCSETS, TCSETSW, TCSETSF, TIOCGPGRP, TIOCSPGRP, TIOCGSID, TIOCGWINSZ, TIOCSWINSZ, TIOCOUTQ,
            FIONREAD, FIONBIO, FIOASYNC, TIOCGPTN, TIOCSPTLCK, TIOCGEXCL, TCGETA, TCSETA, TCSETAW, TCSETAF,
            TERMIOS2[0], TERMIOS2[1], TERMIOS2[2], TERMIOS2[3],
            SIOCGIFNAME, SIOCGIFFLAGS, SIOCGIFADDR, SIOCGIFINDEX,
        ],
    ]
};

/// Of a call whose addresses are in the same places whatever it is asked.
#[rustfmt::skip]
#[allow(non_upper_case_globals, reason = "as libc spells them")]
#[deny(unreachable_patterns, reason = "a name that libc does not have would match everything")]
const fn same_addresses(number: i64) -> Option<u8> {
    use libc::*;
    Some(match number {
        SYS_close | SYS_close_range | SYS_dup | SYS_dup2 | SYS_dup3 | SYS_lseek | SYS_fsync | SYS_fdatasync | SYS_syncfs
        | SYS_sync | SYS_ftruncate | SYS_fallocate | SYS_fadvise64 | SYS_readahead | SYS_sync_file_range | SYS_flock
        | SYS_fchdir | SYS_fchmod | SYS_fchown | SYS_umask | SYS_tee
        | SYS_eventfd | SYS_eventfd2 | SYS_timerfd_create | SYS_epoll_create | SYS_epoll_create1 | SYS_inotify_init
        | SYS_inotify_init1 | SYS_inotify_rm_watch | SYS_socket | SYS_listen | SYS_shutdown
        | SYS_getpid | SYS_gettid | SYS_getppid | SYS_getpgid | SYS_getpgrp | SYS_getsid | SYS_setpgid | SYS_setsid
        | SYS_getuid | SYS_geteuid | SYS_getgid | SYS_getegid | SYS_kill | SYS_tkill | SYS_tgkill | SYS_pause
        | SYS_alarm | SYS_sched_yield | SYS_sched_getscheduler | SYS_sched_get_priority_max
        | SYS_sched_get_priority_min | SYS_getpriority | SYS_setpriority | SYS_ioprio_get | SYS_ioprio_set | SYS_timer_getoverrun | SYS_timer_delete
        | SYS_pidfd_open | SYS_membarrier | SYS_setuid | SYS_setgid | SYS_setreuid | SYS_setregid | SYS_setresuid
        | SYS_setresgid => 0,

        SYS_uname | SYS_sysinfo | SYS_times | SYS_time | SYS_pipe2 | SYS_poll | SYS_getrandom
        | SYS_memfd_create | SYS_rt_sigpending | SYS_rt_sigsuspend | SYS_truncate | SYS_msync
        | SYS_mlock | SYS_mlock2 | SYS_munlock => 0b1,

        SYS_read | SYS_write | SYS_pread64 | SYS_pwrite64 | SYS_readv | SYS_writev | SYS_preadv | SYS_pwritev
        | SYS_preadv2 | SYS_pwritev2 | SYS_getdents | SYS_getdents64 | SYS_fstat | SYS_fstatfs
        | SYS_getrusage | SYS_getgroups | SYS_setgroups | SYS_sched_setparam | SYS_bind | SYS_connect | SYS_sendmsg
        | SYS_recvmsg | SYS_epoll_wait | SYS_getitimer | SYS_clock_gettime | SYS_clock_getres
        | SYS_timer_gettime | SYS_timerfd_gettime | SYS_signalfd4 | SYS_sched_getparam
        | SYS_sched_rr_get_interval | SYS_sched_getattr | SYS_sched_setattr | SYS_faccessat2 | SYS_mkdirat | SYS_mknodat | SYS_unlinkat
        | SYS_fchmodat | SYS_fchownat | SYS_inotify_add_watch => 0b10,

        SYS_nanosleep | SYS_gettimeofday | SYS_getcpu | SYS_capget | SYS_capset => 0b11,
        SYS_sendfile | SYS_sched_getaffinity | SYS_sched_setaffinity | SYS_rt_sigqueueinfo | SYS_pidfd_send_signal | SYS_sched_setscheduler => 0b100,
        SYS_mincore | SYS_symlinkat => 0b101,
        SYS_accept | SYS_accept4 | SYS_getsockname | SYS_getpeername | SYS_readlinkat | SYS_openat2
        | SYS_setitimer | SYS_timer_create | SYS_utimensat => 0b110,
        SYS_getresuid | SYS_getresgid | SYS_rt_sigtimedwait => 0b111,
        SYS_socketpair | SYS_setsockopt | SYS_epoll_ctl | SYS_rt_tgsigqueueinfo => 0b1000,
        SYS_wait4 | SYS_renameat2 | SYS_linkat | SYS_splice | SYS_copy_file_range => 0b1010,
        SYS_prlimit64 | SYS_clock_nanosleep | SYS_timer_settime | SYS_timerfd_settime => 0b1100,
        SYS_ppoll => 0b1101,
        SYS_sendto | SYS_statx | SYS_epoll_pwait => 0b1_0010,
        SYS_waitid => 0b1_0100,
        SYS_getsockopt => 0b1_1000,
        SYS_select => 0b1_1110,
        SYS_epoll_pwait2 => 0b1_1010,
        SYS_recvfrom => 0b11_0010,
        SYS_pselect6 => 0b11_1110,
        _ => return None,
    })
}

/// Of futex(2): the word; of some operations a time or another word as well. What an operation does not look at is
/// whatever its caller has left in the register.
fn futex_addresses(operation: i32) -> Option<u8> {
    use libc::*;
    Some(match operation & 0x7f {
        FUTEX_WAIT | FUTEX_WAIT_BITSET | FUTEX_LOCK_PI | FUTEX_LOCK_PI2 => 0b1001,
        FUTEX_WAIT_REQUEUE_PI => 0b1_1001,
        FUTEX_WAKE | FUTEX_WAKE_BITSET | FUTEX_UNLOCK_PI | FUTEX_TRYLOCK_PI => 0b1,
        FUTEX_REQUEUE | FUTEX_CMP_REQUEUE | FUTEX_WAKE_OP | FUTEX_CMP_REQUEUE_PI => 0b1_0001,
        _ => return None,
    })
}

// RDI: the word that says whether a signal waits. RSI: the number and six arguments. RAX: the kernel's answer.
global_asm!(
    ".globl matchstick_call, matchstick_call_begin, matchstick_call_at, matchstick_call_end",
    ".globl matchstick_call_not_made, matchstick_call_interrupted",
    "matchstick_call:",
    "push rbx",
    "mov rbx, rdi",
    "mov rax, [rsi]",
    "mov rdi, [rsi + 8]",
    "mov rdx, [rsi + 24]",
    "mov r10, [rsi + 32]",
    "mov r8, [rsi + 40]",
    "mov r9, [rsi + 48]",
    "mov rsi, [rsi + 16]",
    // From here to the call's end, `arrived` moves RIP to where `way_out` says.
    "matchstick_call_begin:",
    "xor ecx, ecx",
    "cmp dword ptr [rbx], 0",
    "jne matchstick_call_not_made",
    "matchstick_call_at:",
    "syscall",
    "matchstick_call_end:",
    "pop rbx",
    "ret",
    "matchstick_call_not_made:",
    "mov rax, -513",
    "pop rbx",
    "ret",
    "matchstick_call_interrupted:",
    "mov rax, -512",
    "pop rbx",
    "ret",
);

unsafe extern "C" {
    fn matchstick_call(waits: *const u32, words: *const u64) -> i64;
    fn matchstick_call_begin();
    fn matchstick_call_at();
    fn matchstick_call_end();
    fn matchstick_call_not_made();
    fn matchstick_call_interrupted();
}

/// Where a thread at `rip` is led that a signal has come for, if it is about to make a call. The kernel puts one whose call
/// it has ended back to its instruction, as the signal's handler is one with SA_RESTART; then RCX has what SYSCALL has put
/// there, and not the 0 from before.
pub(super) fn way_out(rip: usize, rcx: u64) -> Option<usize> {
    let [begin, at, end] = [
        matchstick_call_begin as *const (),
        matchstick_call_at as *const (),
        matchstick_call_end as *const (),
    ]
    .map(|label| label as usize);
    if !(begin..end).contains(&rip) {
        return None;
    }
    let was_made = rip == at && (rcx != 0 || !changes_rcx());
    let way = if was_made { matchstick_call_interrupted } else { matchstick_call_not_made };
    Some(way as *const () as usize)
}

/// Whether SYSCALL puts the address behind it into RCX, as it does (SDM volume 2B, "SYSCALL") but with FRED.
fn changes_rcx() -> bool {
    let rcx: u64;
    // SAFETY: getpid(2) takes nothing and changes nothing but what is said here.
    unsafe {
        asm!("syscall", inlateout("rax") libc::SYS_getpid => _, inlateout("rcx") 0_u64 => rcx, out("r11") _);
    }
    rcx != 0
}

/// Makes a call and returns the kernel's answer: below 0 an error, [`NOT_MADE`] or [`RESTART`] if a signal came first.
///
/// # Panics
/// For a call that cannot be passed on, or one with a number in the place of an address: a fault of ours.
pub fn call(number: i64, arguments: [Argument<'_>; 6]) -> i64 {
    let mut pair = [0, size_of::<u64>() as u64];
    let word = |argument: Argument<'_>| match argument {
        Argument::Word(word) => word,
        Argument::Memory(place) => place.address as u64,
        Argument::Text(text) => text.as_ptr().expose_provenance() as u64,
        Argument::Bytes(bytes) => bytes.as_ptr().expose_provenance() as u64,
        Argument::Pieces(pieces) => pieces.as_ptr().expose_provenance() as u64,
        Argument::Message(message) => message.0.get().expose_provenance() as u64,
        Argument::Signals(set) => {
            pair[0] = std::ptr::from_ref(set).expose_provenance() as u64;
            pair.as_ptr().expose_provenance() as u64
        }
    };
    let words = arguments.map(word);
    let addresses = addresses(number, [words[0], words[1], words[2]])
        .unwrap_or_else(|| panic!("system call {number} is not passed on"));
    for (at, argument) in arguments.iter().enumerate() {
        let is_fit = match argument {
            Argument::Word(word) => addresses >> at & 1 == 0 || *word == 0,
            _ => addresses >> at & 1 == 1,
        };
        assert!(is_fit, "argument {at} of system call {number}");
    }
    let [a, b, c, d, e, f] = words;
    let all = [number as u64, a, b, c, d, e, f];
    // SAFETY: no listed call touches memory but by its addresses, and those are the arena's or, for what is only read,
    // ours (checked above). The routine saves what the ABI wants saved.
    timed(|| unsafe { matchstick_call(Inbox::address(), all.as_ptr()) })
}
