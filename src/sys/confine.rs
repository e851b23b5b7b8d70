//! What a process can give up for good, each behind a safe function.
//!
//! Not the sandbox: which of these, when and why is [`crate::sandbox`]'s matter. Sources: capabilities(7),
//! landlock(7), mallopt(3), setrlimit(2), sigaction(2).

use super::check;
use super::signal::on_signal;
use std::io;
use std::sync::OnceLock;

/// Gives up every capability of the calling thread, and of those it will start (capset(2)).
pub fn drop_capabilities() -> io::Result<()> {
    /// `struct __user_cap_header_struct` with `_LINUX_CAPABILITY_VERSION_3`, which has 64 capabilities.
    #[repr(C)]
    struct Header {
        version: u32,
        thread: i32,
    }
    let header = Header { version: 0x2008_0522, thread: 0 };
    // Two times effective, permitted and inheritable: 32 bits each.
    let none = [0_u32; 6];
    // SAFETY: version 3 reads two such structs, and both live until the call returns.
    check(unsafe { libc::syscall(libc::SYS_capset, &header, none.as_ptr()) } as libc::c_int)
}

/// No path can be opened, made, changed or removed any more, no TCP port bound or connected to, and no process
/// signalled but those that have given up the same, by the calling thread and those it will start (landlock(7)).
///
/// How much of it depends on the kernel: paths since Linux 5.13, ports since 6.7, ioctls of devices that are opened
/// later since 6.10, signals and abstract sockets since 6.12. Nothing happens where Linux has no landlock.
///
/// Two system calls; the crate for it makes four, and the code that they lead through is memory of every start.
pub fn close_file_system() -> io::Result<()> {
    /// `struct landlock_ruleset_attr`: what is denied unless a rule allows it, and we have no rules.
    #[repr(C)]
    struct Ruleset {
        files: u64,
        ports: u64,
        scoped: u64,
    }
    /// Everything that the sixth version knows of, the fourth and fifth, and the first.
    const VERSIONS: [(Ruleset, usize); 3] = [
        (Ruleset { files: (1 << 16) - 1, ports: 0b11, scoped: 0b11 }, 24),
        (Ruleset { files: (1 << 16) - 1, ports: 0b11, scoped: 0 }, 16),
        (Ruleset { files: (1 << 13) - 1, ports: 0, scoped: 0 }, 8),
    ];
    for (ruleset, size) in VERSIONS {
        // SAFETY: the struct is only read, as far as `size` says.
        let fd = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, &ruleset, size, 0) };
        let Ok(fd) = u32::try_from(fd) else {
            match io::Error::last_os_error().raw_os_error() {
                // Not there, or switched off.
                Some(libc::ENOSYS | libc::EOPNOTSUPP) => return Ok(()),
                // An older version, which does not know all of it.
                _ => continue,
            }
        };
        // SAFETY: the descriptor is ours and is closed once; the other arguments are plain numbers.
        return unsafe {
            let done = check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
                .and_then(|()| check(libc::syscall(libc::SYS_landlock_restrict_self, fd, 0) as libc::c_int));
            libc::close(fd as libc::c_int);
            done
        };
    }
    Err(io::Error::last_os_error())
}

/// No file descriptor can be opened any more, except below `first` (setrlimit(2)).
///
/// And a crash of this process leaves no core dump, which would hold the guest's memory: neither a file nor one that is
/// handed to a program, for which the limit of core files does not count (core(5)); nor can another process of this user
/// read its memory, but by root's rights (prctl(2), PR_SET_DUMPABLE).
pub fn limit_resources(first: u64) -> io::Result<()> {
    for (resource, limit) in [(libc::RLIMIT_NOFILE, first), (libc::RLIMIT_CORE, 0)] {
        let limit = libc::rlimit { rlim_cur: limit, rlim_max: limit };
        // SAFETY: the struct is only read.
        check(unsafe { libc::setrlimit(resource, &limit) })?;
    }
    // SAFETY: plain numbers.
    check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) })
}

/// From now on all threads take memory from one heap (mallopt(3)). A thread with a heap of its own would give that
/// back in glibc's way, which reads a file of /proc first.
pub fn share_one_heap() -> io::Result<()> {
    // SAFETY: plain numbers.
    match unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) } {
        1 => Ok(()),
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// Who is told of a system call that a seccomp filter stopped.
static FORBIDDEN: OnceLock<fn(i32, u64) -> !> = OnceLock::new();

/// Has `handler` called with the number and the second argument of a system call that a seccomp filter stopped
/// (`SECCOMP_RET_TRAP`), by whoever handles SIGSYS.
///
/// It may only do what is async-signal-safe.
pub fn name_forbidden_calls(handler: fn(i32, u64) -> !) {
    FORBIDDEN.get_or_init(|| handler);
}

/// The same, and handles SIGSYS.
pub fn on_forbidden_call(handler: fn(i32, u64) -> !) -> io::Result<()> {
    extern "C" fn forbidden(_signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
        // SAFETY: the kernel hands over a whole siginfo_t, and the registers as they were.
        unsafe { name_forbidden_call(info.cast(), context.cast()) };
    }
    name_forbidden_calls(handler);
    on_signal(libc::SIGSYS, forbidden)
}

/// Tells of the system call that a filter stopped.
///
/// # Safety
/// `info` and `context` are what a handler of SIGSYS gets.
pub(super) unsafe fn name_forbidden_call(info: *const u8, context: *const libc::ucontext_t) {
    // The number lies behind signo, errno, code, padding and the address of the call; libc has no name for it.
    const NUMBER: usize = 24;
    // SAFETY: a siginfo_t has 128 bytes; the registers are the context's.
    let (number, argument) = unsafe {
        let registers = &(*context).uc_mcontext.gregs;
        (info.add(NUMBER).cast::<i32>().read(), registers[libc::REG_RSI as usize])
    };
    if let Some(handler) = FORBIDDEN.get() {
        handler(number, argument as u64);
    }
}

/// Writes to standard error and ends the process: what is left to a signal handler.
pub fn die_saying(text: &[u8], status: u8) -> ! {
    // SAFETY: write takes a slice that we have; _exit does not return.
    unsafe {
        libc::write(2, text.as_ptr().cast(), text.len());
        libc::_exit(status.into())
    }
}
