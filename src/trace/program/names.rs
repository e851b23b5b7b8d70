//! The names of flags and choices that system calls take, by the kernel's include/uapi. A bit that is not here is shown
//! as a number.

/// A value and its name.
pub type Name = (u64, &'static str);

macro_rules! names {
    ($(#[$doc:meta])* $list:ident: $($name:ident)*) => {
        $(#[$doc])*
        pub const $list: &[Name] = &[$((libc::$name as u32 as u64, stringify!($name))),*];
    };
}

names!(/// open(2), without the access mode.
    OPEN: O_CREAT O_EXCL O_NOCTTY O_TRUNC O_APPEND O_NONBLOCK O_SYNC O_DSYNC O_DIRECT O_TMPFILE O_DIRECTORY
    O_NOFOLLOW O_NOATIME O_CLOEXEC O_PATH);
names!(/// The access mode of open(2).
    ACCESS_MODE: O_RDONLY O_WRONLY O_RDWR);
names!(/// mmap(2), mprotect(2).
    PROTECTION: PROT_NONE PROT_READ PROT_WRITE PROT_EXEC);
names!(/// mmap(2).
    MAP: MAP_SHARED MAP_PRIVATE MAP_FIXED MAP_ANONYMOUS MAP_GROWSDOWN MAP_DENYWRITE MAP_EXECUTABLE MAP_LOCKED
    MAP_NORESERVE MAP_POPULATE MAP_NONBLOCK MAP_STACK MAP_HUGETLB MAP_FIXED_NOREPLACE MAP_32BIT);
names!(/// mremap(2).
    REMAP: MREMAP_MAYMOVE MREMAP_FIXED);
names!(/// madvise(2).
    ADVICE: MADV_NORMAL MADV_RANDOM MADV_SEQUENTIAL MADV_WILLNEED MADV_DONTNEED MADV_FREE MADV_REMOVE MADV_DONTFORK
    MADV_DOFORK MADV_HUGEPAGE MADV_NOHUGEPAGE MADV_DONTDUMP MADV_WIPEONFORK MADV_KEEPONFORK MADV_COLD MADV_PAGEOUT
    MADV_POPULATE_READ MADV_POPULATE_WRITE);
names!(/// What `*at` calls take.
    AT: AT_SYMLINK_NOFOLLOW AT_REMOVEDIR AT_SYMLINK_FOLLOW AT_NO_AUTOMOUNT AT_EMPTY_PATH AT_STATX_FORCE_SYNC
    AT_STATX_DONT_SYNC);
names!(/// faccessat2(2), whose AT_EACCESS is another call's AT_REMOVEDIR.
    AT_ACCESS: AT_EACCESS AT_SYMLINK_NOFOLLOW AT_EMPTY_PATH);
names!(/// access(2).
    ACCESS: F_OK R_OK W_OK X_OK);
names!(/// lseek(2).
    WHENCE: SEEK_SET SEEK_CUR SEEK_END SEEK_DATA SEEK_HOLE);
names!(/// clone(2), without the signal.
    CLONE: CLONE_VM CLONE_FS CLONE_FILES CLONE_SIGHAND CLONE_PTRACE CLONE_VFORK CLONE_PARENT CLONE_THREAD CLONE_NEWNS
    CLONE_SYSVSEM CLONE_SETTLS CLONE_PARENT_SETTID CLONE_CHILD_CLEARTID CLONE_DETACHED CLONE_UNTRACED
    CLONE_CHILD_SETTID CLONE_NEWCGROUP CLONE_NEWUTS CLONE_NEWIPC CLONE_NEWUSER CLONE_NEWPID CLONE_NEWNET CLONE_IO);
names!(/// wait4(2), waitid(2).
    WAIT: WNOHANG WUNTRACED WEXITED WCONTINUED WNOWAIT);
names!(/// waitid(2).
    WAIT_FOR: P_ALL P_PID P_PGID P_PIDFD);
names!(/// fcntl(2).
    FCNTL: F_DUPFD F_GETFD F_SETFD F_GETFL F_SETFL F_GETLK F_SETLK F_SETLKW F_SETOWN F_GETOWN F_SETLEASE F_GETLEASE
    F_DUPFD_CLOEXEC F_SETPIPE_SZ F_GETPIPE_SZ F_ADD_SEALS F_GET_SEALS F_OFD_GETLK F_OFD_SETLK F_OFD_SETLKW);
names!(/// ioctl(2).
    IOCTL: TCGETS TCSETS TCSETSW TCSETSF TIOCGPGRP TIOCSPGRP TIOCGSID TIOCGWINSZ TIOCSWINSZ TIOCOUTQ FIONREAD FIONBIO
    FIOASYNC TIOCGPTN TIOCSPTLCK TIOCGEXCL TCSBRK TCSBRKP TCXONC TCFLSH TIOCSCTTY TIOCNOTTY TIOCEXCL TIOCNXCL FIOCLEX
    FIONCLEX TIOCGPTPEER);
names!(/// rt_sigprocmask(2).
    HOW: SIG_BLOCK SIG_UNBLOCK SIG_SETMASK);
names!(/// rt_sigaction(2).
    ACTION: SA_NOCLDSTOP SA_NOCLDWAIT SA_SIGINFO SA_ONSTACK SA_RESTART SA_NODEFER SA_RESETHAND);
names!(/// futex(2), without the two flags.
    FUTEX: FUTEX_WAIT FUTEX_WAKE FUTEX_FD FUTEX_REQUEUE FUTEX_CMP_REQUEUE FUTEX_WAKE_OP FUTEX_LOCK_PI FUTEX_UNLOCK_PI
    FUTEX_TRYLOCK_PI FUTEX_WAIT_BITSET FUTEX_WAKE_BITSET FUTEX_WAIT_REQUEUE_PI FUTEX_CMP_REQUEUE_PI FUTEX_LOCK_PI2);
names!(/// The flags of futex(2).
    FUTEX_FLAGS: FUTEX_PRIVATE_FLAG FUTEX_CLOCK_REALTIME);
names!(/// clock_gettime(2).
    CLOCK: CLOCK_REALTIME CLOCK_MONOTONIC CLOCK_PROCESS_CPUTIME_ID CLOCK_THREAD_CPUTIME_ID CLOCK_MONOTONIC_RAW
    CLOCK_REALTIME_COARSE CLOCK_MONOTONIC_COARSE CLOCK_BOOTTIME CLOCK_REALTIME_ALARM CLOCK_BOOTTIME_ALARM CLOCK_TAI);
names!(/// clock_nanosleep(2), timer_settime(2).
    TIMER: TIMER_ABSTIME);
names!(/// getitimer(2).
    ITIMER: ITIMER_REAL ITIMER_VIRTUAL ITIMER_PROF);
names!(/// poll(2).
    POLL: POLLIN POLLPRI POLLOUT POLLERR POLLHUP POLLNVAL POLLRDNORM POLLRDBAND POLLWRNORM POLLWRBAND POLLRDHUP);
names!(/// epoll_ctl(2).
    EPOLL_CTL: EPOLL_CTL_ADD EPOLL_CTL_DEL EPOLL_CTL_MOD);
names!(/// epoll_create1(2).
    EPOLL: EPOLL_CLOEXEC);
names!(/// eventfd2(2).
    EVENTFD: EFD_SEMAPHORE EFD_NONBLOCK EFD_CLOEXEC);
names!(/// timerfd_create(2).
    TIMERFD: TFD_NONBLOCK TFD_CLOEXEC);
names!(/// memfd_create(2).
    MEMFD: MFD_CLOEXEC MFD_ALLOW_SEALING MFD_HUGETLB);
names!(/// getrandom(2).
    RANDOM: GRND_NONBLOCK GRND_RANDOM);
names!(/// flock(2).
    FLOCK: LOCK_SH LOCK_EX LOCK_NB LOCK_UN);
names!(/// renameat2(2).
    RENAME: RENAME_NOREPLACE RENAME_EXCHANGE RENAME_WHITEOUT);
names!(/// close_range(2).
    CLOSE_RANGE: CLOSE_RANGE_UNSHARE CLOSE_RANGE_CLOEXEC);
names!(/// socket(2).
    FAMILY: AF_UNSPEC AF_UNIX AF_INET AF_INET6 AF_NETLINK AF_PACKET AF_VSOCK);
names!(/// socket(2), without the two flags.
    SOCKET: SOCK_STREAM SOCK_DGRAM SOCK_RAW SOCK_SEQPACKET);
names!(/// The flags of socket(2).
    SOCKET_FLAGS: SOCK_CLOEXEC SOCK_NONBLOCK);
names!(/// sendto(2), recvfrom(2).
    MESSAGE: MSG_OOB MSG_PEEK MSG_DONTROUTE MSG_CTRUNC MSG_TRUNC MSG_DONTWAIT MSG_EOR MSG_WAITALL MSG_NOSIGNAL MSG_MORE
    MSG_CMSG_CLOEXEC);
names!(/// shutdown(2).
    SHUTDOWN: SHUT_RD SHUT_WR SHUT_RDWR);
names!(/// getsockopt(2).
    LEVEL: SOL_IP SOL_SOCKET SOL_TCP SOL_IPV6);
names!(/// getrlimit(2).
    RESOURCE: RLIMIT_CPU RLIMIT_FSIZE RLIMIT_DATA RLIMIT_STACK RLIMIT_CORE RLIMIT_RSS RLIMIT_NPROC RLIMIT_NOFILE
    RLIMIT_MEMLOCK RLIMIT_AS RLIMIT_LOCKS RLIMIT_SIGPENDING RLIMIT_MSGQUEUE RLIMIT_NICE RLIMIT_RTPRIO RLIMIT_RTTIME);
names!(/// getrusage(2).
    USAGE: RUSAGE_SELF RUSAGE_CHILDREN RUSAGE_THREAD);
names!(/// prctl(2).
    PRCTL: PR_SET_PDEATHSIG PR_GET_PDEATHSIG PR_GET_DUMPABLE PR_SET_DUMPABLE PR_SET_NAME PR_GET_NAME
    PR_CAPBSET_READ PR_SET_TIMERSLACK PR_GET_TIMERSLACK PR_SET_NO_NEW_PRIVS PR_GET_NO_NEW_PRIVS PR_SET_CHILD_SUBREAPER
    PR_GET_CHILD_SUBREAPER PR_SET_VMA);
names!(/// The signals that have a name.
    SIGNALS: SIGHUP SIGINT SIGQUIT SIGILL SIGTRAP SIGABRT SIGBUS SIGFPE SIGKILL SIGUSR1 SIGSEGV SIGUSR2 SIGPIPE SIGALRM
    SIGTERM SIGSTKFLT SIGCHLD SIGCONT SIGSTOP SIGTSTP SIGTTIN SIGTTOU SIGURG SIGXCPU SIGXFSZ SIGVTALRM SIGPROF SIGWINCH
    SIGIO SIGPWR SIGSYS);
names!(/// The errors of errno(3) up to 133.
    ERRORS: EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT ENOTBLK EBUSY
    EEXIST EXDEV ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG ENOSPC ESPIPE EROFS EMLINK EPIPE EDOM
    ERANGE EDEADLK ENAMETOOLONG ENOLCK ENOSYS ENOTEMPTY ELOOP ENOMSG EIDRM ENOSTR ENODATA ETIME ENOSR ENONET ENOPKG
    EREMOTE ENOLINK EADV ESRMNT ECOMM EPROTO EMULTIHOP EDOTDOT EBADMSG EOVERFLOW ENOTUNIQ EBADFD EREMCHG ELIBACC
    ELIBBAD ELIBSCN ELIBMAX ELIBEXEC EILSEQ ERESTART ESTRPIPE EUSERS ENOTSOCK EDESTADDRREQ EMSGSIZE EPROTOTYPE
    ENOPROTOOPT EPROTONOSUPPORT ESOCKTNOSUPPORT EOPNOTSUPP EPFNOSUPPORT EAFNOSUPPORT EADDRINUSE EADDRNOTAVAIL ENETDOWN
    ENETUNREACH ENETRESET ECONNABORTED ECONNRESET ENOBUFS EISCONN ENOTCONN ESHUTDOWN ETOOMANYREFS ETIMEDOUT ECONNREFUSED
    EHOSTDOWN EHOSTUNREACH EALREADY EINPROGRESS ESTALE EUCLEAN ENOTNAM ENAVAIL EISNAM EREMOTEIO EDQUOT ENOMEDIUM
    EMEDIUMTYPE ECANCELED ENOKEY EKEYEXPIRED EKEYREVOKED EKEYREJECTED EOWNERDEAD ENOTRECOVERABLE ERFKILL EHWPOISON);

/// arch_prctl(2); libc does not have them.
pub const ARCH: &[Name] =
    &[(0x1001, "ARCH_SET_GS"), (0x1002, "ARCH_SET_FS"), (0x1003, "ARCH_GET_FS"), (0x1004, "ARCH_GET_GS")];
/// The types of files in `st_mode`.
pub const FILES: &[Name] = &[
    (0o10_0000, "S_IFREG"),
    (0o4_0000, "S_IFDIR"),
    (0o12_0000, "S_IFLNK"),
    (0o2_0000, "S_IFCHR"),
    (0o6_0000, "S_IFBLK"),
    (0o1_0000, "S_IFIFO"),
    (0o14_0000, "S_IFSOCK"),
];

/// The name of a value, if it has one.
pub fn name(names: &[Name], value: u64) -> Option<&'static str> {
    names.iter().find(|(known, _)| *known == value).map(|&(_, name)| name)
}

/// A value that is one of several, or the number.
pub fn choice(names: &[Name], value: u64) -> String {
    name(names, value).map_or_else(|| format!("{value:#x}"), str::to_owned)
}

/// Bits by their names, and what is left as a number; `0` for none. A name of several bits comes before those of its
/// bits.
pub fn flags(names: &[Name], value: u64) -> String {
    let mut left = value & 0xffff_ffff;
    let mut by_size: Vec<&Name> = names.iter().collect();
    by_size.sort_by_key(|(bits, _)| std::cmp::Reverse(bits.count_ones()));
    let mut found: Vec<&Name> = Vec::new();
    for one in by_size {
        if one.0 != 0 && left & one.0 == one.0 {
            left &= !one.0;
            found.push(one);
        }
    }
    let in_order = names.iter().filter(|one| found.contains(one)).map(|&(_, name)| name.to_owned());
    let mut words: Vec<String> = in_order.collect();
    if left != 0 || words.is_empty() {
        let none = names.iter().find(|(bits, _)| *bits == 0).filter(|_| left == 0);
        words.push(none.map_or_else(
            || if left == 0 { "0".to_owned() } else { format!("{left:#x}") },
            |&(_, name)| name.to_owned(),
        ));
    }
    words.join("|")
}

/// A signal's name.
pub fn signal(number: u64) -> String {
    match number {
        32..=64 => format!("SIGRT_{}", number - 32),
        number => name(SIGNALS, number).map_or_else(|| number.to_string(), str::to_owned),
    }
}

/// A set of signals as strace(1) has it: `[INT CHLD]`, or with a tilde those that are not in it.
pub fn signals(set: u64) -> String {
    let (mark, shown) = if set.count_ones() > 32 { ("~", !set) } else { ("", set) };
    let members = (1..=64).filter(|number| shown >> (number - 1) & 1 == 1);
    let words: Vec<String> =
        members.map(|number| signal(number).trim_start_matches("SIG").to_owned()).collect();
    format!("{mark}[{}]", words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_have_their_names_and_what_is_unknown_stays_a_number() {
        let open = (libc::O_CREAT | libc::O_CLOEXEC) as u64;
        assert_eq!(flags(OPEN, open), "O_CREAT|O_CLOEXEC");
        assert_eq!(flags(OPEN, libc::O_TMPFILE as u64), "O_TMPFILE", "it has O_DIRECTORY's bit");
        assert_eq!((flags(PROTECTION, 0), flags(OPEN, 0)), ("PROT_NONE".into(), "0".into()));
        assert_eq!(flags(PROTECTION, 3 | 0x100), "PROT_READ|PROT_WRITE|0x100");
        assert_eq!(choice(WHENCE, 2), "SEEK_END");
        assert_eq!(choice(WHENCE, 77), "0x4d");
    }

    #[test]
    fn signals_are_named_as_strace_names_them() {
        assert_eq!(signals(0), "[]");
        assert_eq!(signals(1 << 1 | 1 << 16), "[INT CHLD]");
        assert_eq!(signals(!(1 << 8)), "~[KILL]");
        assert_eq!((signal(11), signal(34), signal(99)), ("SIGSEGV".into(), "SIGRT_2".into(), "99".into()));
    }
}
