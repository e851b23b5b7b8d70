//! What each thread of a running machine may still ask of Linux. Everything else ends the process.
//!
//! These are the rules, as a reader wants them; the build script compiles them to the filters that the kernel
//! takes. So this file belongs to two programs, and names nothing of either.
//!
//! Sources: seccomp(2), system call numbers of x86-64; KVM's requests by the KVM API document.

/// One thread's rules.
pub struct Rules {
    /// The name of its filter.
    pub role: &'static str,
    /// System calls with whatever arguments.
    pub calls: &'static [i64],
    /// System calls by their arguments, beside [`COMMON_CHECKED`].
    pub checked: &'static [Checked],
}

/// A system call that is allowed if each of these arguments is as it must be.
pub struct Checked {
    /// Its number.
    pub call: i64,
    /// The index of an argument, and what that must be. Of no argument looked at here does the kernel take more than
    /// 32 bits.
    pub arguments: &'static [(u32, Must)],
}

/// What an argument must be.
pub enum Must {
    /// The number of this process.
    BeOurselves,
    /// One of these.
    BeOneOf(&'static [u64]),
    /// A number with none of these bits.
    HaveNoneOf(u64),
}
use Must::{BeOneOf, BeOurselves, HaveNoneOf};

/// Signals that a thread may send to one of this process with tgkill(2): the kick to another one, and what ended us to
/// ourselves.
const SIGNALS: &[u64] = &[KICK, SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGABRT];
/// Signals whose action may be changed, to die of them. Not SIGSYS: a forbidden call ends the process, whatever else
/// an attacker can do.
const MORTAL: &[u64] = &[SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGABRT];
/// glibc keeps the first two real-time signals for itself; SIGRTMIN is the third.
const KICK: u64 = 34;
const SIGINT: u64 = libc::SIGINT as u64;
const SIGTERM: u64 = libc::SIGTERM as u64;
const SIGHUP: u64 = libc::SIGHUP as u64;
const SIGQUIT: u64 = libc::SIGQUIT as u64;
const SIGABRT: u64 = libc::SIGABRT as u64;

/// What futex(2) may be asked: to wait and to wake within this process, and to wait for the end of a thread.
const FUTEX: &[u64] = &[
    private(libc::FUTEX_WAIT),
    private(libc::FUTEX_WAKE),
    private(libc::FUTEX_WAIT_BITSET),
    (libc::FUTEX_WAIT_BITSET | libc::FUTEX_CLOCK_REALTIME) as u64,
];

const fn private(operation: i32) -> u64 {
    (operation | libc::FUTEX_PRIVATE_FLAG) as u64
}

/// The flags of memory of our own: neither a file's, nor shared, nor in place of what is mapped already.
const FRESH: u64 = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64;

/// System calls of every thread, by their arguments.
pub const COMMON_CHECKED: &[Checked] = &[
    Checked { call: libc::SYS_tgkill, arguments: &[(0, BeOurselves), (2, BeOneOf(SIGNALS))] },
    // Locks.
    Checked { call: libc::SYS_futex, arguments: &[(1, BeOneOf(FUTEX))] },
    // The allocator.
    Checked {
        call: libc::SYS_mmap,
        arguments: &[(2, HaveNoneOf(libc::PROT_EXEC as u64)), (3, BeOneOf(&[FRESH]))],
    },
    // std checks a descriptor so before it closes it, where it checks itself.
    Checked { call: libc::SYS_fcntl, arguments: &[(1, BeOneOf(&[libc::F_GETFD as u64]))] },
];

/// System calls of every thread, by what needs them.
pub const COMMON: &[i64] = &[
    // Being called back from a system call that is gone on with.
    libc::SYS_rt_sigreturn,
    libc::SYS_restart_syscall,
    libc::SYS_getpid,
    libc::SYS_gettid,
    // The allocator.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    // Where the C library has no vDSO.
    libc::SYS_clock_gettime,
    // What the guest's random number generator gives.
    libc::SYS_getrandom,
    // The guest's output, and an error's last words.
    libc::SYS_write,
    libc::SYS_poll,
    // The end of a thread, and of the process.
    libc::SYS_rt_sigprocmask,
    libc::SYS_sigaltstack,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// The first vCPU's thread: the loop, and what follows it until the process ends.
pub const FIRST: Rules = Rules {
    role: "FIRST",
    calls: &[libc::SYS_timer_settime, libc::SYS_timer_delete, libc::SYS_close],
    checked: &[VCPU_REQUESTS, DIE_OF_A_SIGNAL],
};

/// The first vCPU's thread where a story is told: it may go instruction by instruction, and hears from the process that puts
/// the files in their places.
pub const TRACED: Rules = Rules {
    role: "TRACED",
    calls: &[libc::SYS_timer_settime, libc::SYS_timer_delete, libc::SYS_close, libc::SYS_read],
    checked: &[TRACED_REQUESTS, DIE_OF_A_SIGNAL],
};

/// Each other vCPU's thread.
pub const OTHER: Rules =
    Rules { role: "OTHER", calls: &[libc::SYS_timer_settime], checked: &[VCPU_REQUESTS] };

/// The thread that reads standard input.
pub const INPUT: Rules = Rules {
    role: "INPUT",
    calls: &[],
    checked: &[
        Checked { call: libc::SYS_read, arguments: &[(0, BeOneOf(&[libc::STDIN_FILENO as u64]))] },
        TERMINAL_REQUESTS,
    ],
};

/// The thread of a disk: what is in its file, and the guest's interrupt. What is written is written by pwritev(2), or, where a
/// file system has no holes, by pwrite(2).
pub const DISK: Rules = Rules {
    role: "DISK",
    calls: &[
        libc::SYS_preadv,
        libc::SYS_pwritev,
        libc::SYS_pwrite64,
        libc::SYS_fdatasync,
        libc::SYS_fallocate,
        // Its own file, at the end.
        libc::SYS_close,
    ],
    checked: &[DEVICE_REQUESTS],
};

/// Requests of ioctl(2).
const VCPU_REQUESTS: Checked = Checked {
    call: libc::SYS_ioctl,
    arguments: &[(
        1,
        BeOneOf(&[
            KVM_RUN,
            KVM_SIGNAL_MSI,
            KVM_REGISTER_COALESCED_MMIO,
            KVM_GET_MP_STATE,
            KVM_GET_REGS,
            KVM_GET_SREGS,
            KVM_TRANSLATE,
            TCGETS,
            TCSETS,
        ]),
    )],
};
const TRACED_REQUESTS: Checked = Checked {
    call: libc::SYS_ioctl,
    arguments: &[(
        1,
        BeOneOf(&[
            KVM_RUN,
            KVM_SIGNAL_MSI,
            KVM_REGISTER_COALESCED_MMIO,
            KVM_GET_MP_STATE,
            KVM_GET_REGS,
            KVM_GET_SREGS,
            KVM_TRANSLATE,
            KVM_SET_GUEST_DEBUG,
            TCGETS,
            TCSETS,
        ]),
    )],
};
const TERMINAL_REQUESTS: Checked =
    Checked { call: libc::SYS_ioctl, arguments: &[(1, BeOneOf(&[TCGETS, TCSETS]))] };

const DEVICE_REQUESTS: Checked =
    Checked { call: libc::SYS_ioctl, arguments: &[(1, BeOneOf(&[KVM_SIGNAL_MSI, TCGETS, TCSETS]))] };

/// To die of the signal that ended the run.
const DIE_OF_A_SIGNAL: Checked = Checked { call: libc::SYS_rt_sigaction, arguments: &[(0, BeOneOf(MORTAL))] };

/// All of them.
pub const ALL: [Rules; 5] = [FIRST, TRACED, OTHER, INPUT, DISK];

const TCGETS: u64 = libc::TCGETS;
const TCSETS: u64 = libc::TCSETS;

/// KVM's number among those of ioctl(2).
const KVMIO: u64 = 0xae;
const KVM_RUN: u64 = request(NONE, 0x80, 0);
const KVM_SIGNAL_MSI: u64 = request(WRITE, 0xa5, 32);
const KVM_REGISTER_COALESCED_MMIO: u64 = request(WRITE, 0x67, 16);
const KVM_GET_MP_STATE: u64 = request(READ, 0x98, 4);
const KVM_GET_REGS: u64 = request(READ, 0x81, 144);
const KVM_GET_SREGS: u64 = request(READ, 0x83, 312);
const KVM_TRANSLATE: u64 = request(READ | WRITE, 0x85, 24);
const KVM_SET_GUEST_DEBUG: u64 = request(WRITE, 0x9b, 72);

/// Which way the argument goes, as seen by the caller.
const NONE: u64 = 0;
const WRITE: u64 = 1;
const READ: u64 = 2;

/// The number of a request whose argument has `size` bytes (asm-generic/ioctl.h).
const fn request(direction: u64, number: u64, size: u64) -> u64 {
    direction << 30 | size << 16 | KVMIO << 8 | number
}
