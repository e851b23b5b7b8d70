//! Which calls handlers make of the host, on a program's behalf: beside the table, the other half of what is passed on.

/// Other calls than they serve, or the same with other arguments.
#[rustfmt::skip]
pub const BY_HANDLERS: &[i64] = {
    use libc::*;
    &[
        SYS_readv, SYS_writev, SYS_preadv, SYS_pwritev, SYS_preadv2, SYS_pwritev2, SYS_close_range, SYS_fcntl, SYS_ioctl,
        SYS_getdents, SYS_getdents64, SYS_fchmod, SYS_fchown, SYS_dup, SYS_dup2, SYS_dup3, SYS_pipe2, SYS_poll, SYS_ppoll, SYS_select, SYS_pselect6, SYS_epoll_pwait,
        SYS_epoll_pwait2, SYS_signalfd4, SYS_inotify_add_watch,
        SYS_openat2, SYS_fstat, SYS_statx, SYS_faccessat2, SYS_readlinkat, SYS_fstatfs, SYS_fchdir, SYS_mkdirat,
        SYS_mknodat, SYS_unlinkat, SYS_renameat2, SYS_linkat, SYS_symlinkat, SYS_fchmodat, SYS_fchownat, SYS_truncate,
        SYS_utimensat, SYS_mincore, SYS_msync, SYS_mlock, SYS_mlock2, SYS_munlock,
        SYS_pidfd_open, SYS_sched_setparam, SYS_prctl, SYS_futex, SYS_getcpu, SYS_prlimit64,
        SYS_rt_sigsuspend, SYS_rt_sigtimedwait, SYS_rt_sigqueueinfo, SYS_rt_tgsigqueueinfo, SYS_kill, SYS_tkill,
        SYS_tgkill, SYS_timer_create, SYS_timer_settime, SYS_timer_gettime, SYS_timer_getoverrun, SYS_timer_delete, SYS_sched_setaffinity,
        SYS_sched_setscheduler, SYS_sched_setattr, SYS_setpriority, SYS_ioprio_set, SYS_setuid, SYS_setgid, SYS_setreuid, SYS_setregid, SYS_setresuid, SYS_setresgid,
        SYS_socket, SYS_socketpair, SYS_bind, SYS_connect, SYS_setsockopt, SYS_getsockopt, SYS_sendto, SYS_sendmsg,
        SYS_recvmsg, SYS_accept, SYS_accept4, SYS_getsockname, SYS_getpeername, SYS_recvfrom,
    ]
};
