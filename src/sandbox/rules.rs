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
    /// Requests of ioctl(2).
    pub requests: &'static [u64],
}

/// Signals that a thread may send with tgkill(2): the kick to another one, and what ended us to ourselves.
pub const SIGNALS: &[u64] = &[KICK, SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGABRT];
/// glibc keeps the first two real-time signals for itself; SIGRTMIN is the third.
const KICK: u64 = 34;
const SIGINT: u64 = libc::SIGINT as u64;
const SIGTERM: u64 = libc::SIGTERM as u64;
const SIGHUP: u64 = libc::SIGHUP as u64;
const SIGQUIT: u64 = libc::SIGQUIT as u64;
const SIGABRT: u64 = libc::SIGABRT as u64;

/// What fcntl(2) may be asked: std checks a descriptor so before it closes it, where it checks itself.
pub const FCNTL: &[u64] = &[libc::F_GETFD as u64];

/// Memory that is asked for with mmap(2) or made from other memory with mprotect(2) must not have this bit.
pub const FORBIDDEN_PROTECTION: u32 = libc::PROT_EXEC as u32;

/// System calls of every thread, by what needs them.
pub const COMMON: &[i64] = &[
    // Locks, and being called back from a system call that is gone on with.
    libc::SYS_futex,
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
    calls: &[
        libc::SYS_timer_settime,
        libc::SYS_timer_delete,
        libc::SYS_close,
        // To die of the signal that ended the run.
        libc::SYS_rt_sigaction,
    ],
    requests: &[
        KVM_RUN,
        KVM_SIGNAL_MSI,
        KVM_REGISTER_COALESCED_MMIO,
        KVM_GET_MP_STATE,
        KVM_GET_REGS,
        KVM_GET_SREGS,
        KVM_TRANSLATE,
        TCGETS,
        TCSETS,
    ],
};

/// The first vCPU's thread where a story is told: it may go instruction by instruction, and hears from the process that puts
/// the files in their places.
pub const TRACED: Rules = Rules {
    role: "TRACED",
    calls: &[
        libc::SYS_timer_settime,
        libc::SYS_timer_delete,
        libc::SYS_close,
        libc::SYS_rt_sigaction,
        libc::SYS_read,
    ],
    requests: &[
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
    ],
};

/// Each other vCPU's thread.
pub const OTHER: Rules = Rules { role: "OTHER", calls: &[libc::SYS_timer_settime], requests: FIRST.requests };

/// The thread that reads standard input.
pub const INPUT: Rules = Rules { role: "INPUT", calls: &[libc::SYS_read], requests: &[TCGETS, TCSETS] };

/// All of them.
pub const ALL: [Rules; 4] = [FIRST, TRACED, OTHER, INPUT];

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
