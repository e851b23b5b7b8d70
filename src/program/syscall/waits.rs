//! Calls that a signal's handler may end with EINTR. All others are over in no time: a signal that is there before one of
//! them begins comes before it, and it is made afterwards.
//!
//! Source: signal(7), "Interruption of system calls and library functions by signal handlers", and the manual page of each.

/// Whether the call `number` may fail with EINTR.
#[rustfmt::skip]
#[allow(non_upper_case_globals, reason = "as libc spells them")]
#[deny(unreachable_patterns, reason = "a name that libc does not have would match everything")]
pub const fn may_be_interrupted(number: i64) -> bool {
    use libc::*;
    matches!(
        number,
        SYS_read | SYS_readv | SYS_pread64 | SYS_preadv | SYS_preadv2 | SYS_write | SYS_writev | SYS_pwrite64
        | SYS_pwritev | SYS_pwritev2 | SYS_sendfile | SYS_splice | SYS_tee | SYS_copy_file_range | SYS_fallocate
        | SYS_ioctl | SYS_fcntl | SYS_flock | SYS_open | SYS_creat | SYS_openat | SYS_openat2 | SYS_getrandom
        | SYS_accept | SYS_accept4 | SYS_connect | SYS_recvfrom | SYS_recvmsg | SYS_sendto | SYS_sendmsg
        | SYS_poll | SYS_ppoll | SYS_select | SYS_pselect6 | SYS_epoll_wait | SYS_epoll_pwait | SYS_epoll_pwait2
        | SYS_wait4 | SYS_waitid | SYS_futex | SYS_nanosleep | SYS_clock_nanosleep
        | SYS_pause | SYS_rt_sigsuspend | SYS_rt_sigtimedwait
    )
}
