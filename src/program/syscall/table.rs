//! The table of system calls: what their arguments are, and who serves them.
//!
//! Sources: syscalls(2) and the manual page of each call; sizes of structs by the kernel's include/uapi.

use super::answer::Answer;
use super::kinds::{Checked, Kind, Size};
use super::{exec, file, memory, network, own, paths, process, signal};
use crate::program::thread::Thread;

/// Who serves a call.
#[derive(Clone, Copy)]
pub enum Server {
    /// The host, as the arguments are when they have been checked.
    Host,
    /// The host; the result is a new descriptor.
    HostDescriptor,
    /// A function of ours.
    Here(Handler),
    /// Nobody: the program gets this error.
    Refused(i32),
}

/// A function that serves a call here.
pub type Handler = fn(&mut Thread, &Checked<'_>) -> Answer;

/// One system call.
#[derive(Clone, Copy)]
pub struct Call {
    /// Its number.
    pub number: i64,
    /// Its arguments.
    pub kinds: &'static [Kind],
    /// Who serves it.
    pub server: Server,
}

/// The call of that number, if there is one.
pub fn find(number: u64) -> Option<&'static Call> {
    const LIMIT: usize = 512;
    /// For each number, its place in the table and 1 more; 0 for none.
    static INDEX: [u16; LIMIT] = {
        let mut index = [0; LIMIT];
        let mut at = 0;
        while at < CALLS.len() {
            let number = CALLS[at].number as usize;
            assert!(index[number] == 0, "a call stands twice in the table");
            index[number] = at as u16 + 1;
            at += 1;
        }
        index
    };
    let place = *INDEX.get(usize::try_from(number).ok()?)?;
    CALLS.get(usize::from(place).checked_sub(1)?)
}

use Kind::{Descriptor as FD, Directory as DIR, Path as PATH, Special as SPECIAL, Word as INT};
use Server::{Here, Host, HostDescriptor, Refused};

const fn room(bytes: u64) -> Kind {
    Kind::Memory(Size::Bytes(bytes))
}
const fn sized(by: usize) -> Kind {
    Kind::Memory(Size::Of(by))
}
const fn array(count: usize, bytes: u64) -> Kind {
    Kind::Memory(Size::Times(count, bytes))
}
/// What a struct's own fields, or the request, say of its size.
const OPEN: Kind = Kind::Memory(Size::Unknown);

const STAT: Kind = room(144);
const STATFS: Kind = room(120);
const TIMESPEC: Kind = room(16);
const TIMEVAL: Kind = room(16);
const ITIMER: Kind = room(32);
const RUSAGE: Kind = room(144);
const RLIMIT: Kind = room(16);
const SIGINFO: Kind = room(128);
const SIGSET: Kind = room(8);
const IDS: Kind = room(4);
const WORD: Kind = room(4);
const FDSET: Kind = room(128);
const IOVECS: Kind = Kind::Special;
const EPOLL_EVENT: Kind = room(12);

const fn call(number: i64, kinds: &'static [Kind], server: Server) -> Call {
    Call { number, kinds, server }
}

/// All of them, by what they are about.
#[rustfmt::skip]
pub const CALLS: &[Call] = {
    use libc::*;
    &[
        // Open files.
        call(SYS_read, &[FD, sized(2), INT], Host),
        call(SYS_write, &[FD, sized(2), INT], Host),
        call(SYS_pread64, &[FD, sized(2), INT, INT], Host),
        call(SYS_pwrite64, &[FD, sized(2), INT, INT], Host),
        call(SYS_readv, &[FD, IOVECS, INT], Here(file::vectors)),
        call(SYS_writev, &[FD, IOVECS, INT], Here(file::vectors)),
        call(SYS_preadv, &[FD, IOVECS, INT, INT, INT], Here(file::vectors)),
        call(SYS_pwritev, &[FD, IOVECS, INT, INT, INT], Here(file::vectors)),
        call(SYS_preadv2, &[FD, IOVECS, INT, INT, INT, INT], Here(file::vectors)),
        call(SYS_pwritev2, &[FD, IOVECS, INT, INT, INT, INT], Here(file::vectors)),
        call(SYS_close, &[FD], Host),
        call(SYS_close_range, &[INT, INT, INT], Here(file::close_range)),
        call(SYS_dup, &[FD], HostDescriptor),
        call(SYS_dup2, &[FD, FD], Here(file::duplicate)),
        call(SYS_dup3, &[FD, FD, INT], Here(file::duplicate)),
        call(SYS_fcntl, &[FD, INT, SPECIAL], Here(file::fcntl)),
        call(SYS_ioctl, &[FD, INT, SPECIAL], Here(file::ioctl)),
        call(SYS_lseek, &[FD, INT, INT], Host),
        call(SYS_fstat, &[FD, STAT], Host),
        call(SYS_fstatfs, &[FD, STATFS], Host),
        call(SYS_getdents, &[FD, sized(2), INT], Here(file::list)),
        call(SYS_getdents64, &[FD, sized(2), INT], Here(file::list)),
        call(SYS_fsync, &[FD], Host),
        call(SYS_fdatasync, &[FD], Host),
        call(SYS_syncfs, &[FD], Host),
        call(SYS_sync_file_range, &[FD, INT, INT, INT], Host),
        call(SYS_sync, &[], Host),
        call(SYS_ftruncate, &[FD, INT], Host),
        call(SYS_fallocate, &[FD, INT, INT, INT], Host),
        call(SYS_fadvise64, &[FD, INT, INT, INT], Host),
        call(SYS_readahead, &[FD, INT, INT], Host),
        call(SYS_flock, &[FD, INT], Host),
        call(SYS_fchdir, &[FD], Host),
        call(SYS_fchmod, &[FD, INT], Here(paths::change_descriptor)),
        call(SYS_fchown, &[FD, INT, INT], Here(paths::change_descriptor)),
        call(SYS_sendfile, &[FD, FD, room(8), INT], Host),
        call(SYS_copy_file_range, &[FD, room(8), FD, room(8), INT, INT], Host),
        call(SYS_splice, &[FD, room(8), FD, room(8), INT, INT], Host),
        call(SYS_tee, &[FD, FD, INT, INT], Host),
        call(SYS_pipe, &[room(8)], Here(file::pipe)),
        call(SYS_pipe2, &[room(8), INT], Here(file::pipe)),
        call(SYS_memfd_create, &[OPEN, INT], HostDescriptor),
        call(SYS_poll, &[array(1, 8), INT, INT], Here(file::poll)),
        call(SYS_ppoll, &[array(1, 8), INT, TIMESPEC, SIGSET, INT], Here(file::poll)),
        call(SYS_select, &[INT, FDSET, FDSET, FDSET, TIMEVAL], Here(file::select)),
        call(SYS_pselect6, &[INT, FDSET, FDSET, FDSET, TIMESPEC, room(16)], Here(file::select)),
        call(SYS_epoll_create, &[INT], HostDescriptor),
        call(SYS_epoll_create1, &[INT], HostDescriptor),
        call(SYS_epoll_ctl, &[FD, INT, FD, EPOLL_EVENT], Host),
        call(SYS_epoll_wait, &[FD, array(2, 12), INT, INT], Host),
        call(SYS_epoll_pwait, &[FD, array(2, 12), INT, INT, SIGSET, INT], Here(file::epoll_pwait)),
        call(SYS_epoll_pwait2, &[FD, array(2, 12), INT, TIMESPEC, SIGSET, INT], Here(file::epoll_pwait)),
        call(SYS_eventfd, &[INT], HostDescriptor),
        call(SYS_eventfd2, &[INT, INT], HostDescriptor),
        call(SYS_timerfd_create, &[INT, INT], HostDescriptor),
        call(SYS_timerfd_settime, &[FD, INT, ITIMER, ITIMER], Host),
        call(SYS_timerfd_gettime, &[FD, ITIMER], Host),
        call(SYS_signalfd4, &[FD, SIGSET, INT, INT], Here(signal::signalfd)),
        call(SYS_inotify_init, &[], HostDescriptor),
        call(SYS_inotify_init1, &[INT], HostDescriptor),
        call(SYS_inotify_add_watch, &[FD, PATH, INT], Here(paths::watch)),
        call(SYS_inotify_rm_watch, &[FD, INT], Host),

        // Paths.
        call(SYS_open, &[PATH, INT, INT], Here(paths::open)),
        call(SYS_creat, &[PATH, INT], Here(paths::open)),
        call(SYS_openat, &[DIR, PATH, INT, INT], Here(paths::open)),
        call(SYS_openat2, &[DIR, PATH, sized(3), INT], Here(paths::openat2)),
        call(SYS_stat, &[PATH, STAT], Here(paths::stat)),
        call(SYS_lstat, &[PATH, STAT], Here(paths::stat)),
        call(SYS_newfstatat, &[DIR, PATH, STAT, INT], Here(paths::stat)),
        call(SYS_statx, &[DIR, PATH, INT, INT, room(256)], Here(paths::statx)),
        call(SYS_access, &[PATH, INT], Here(paths::access)),
        call(SYS_faccessat, &[DIR, PATH, INT], Here(paths::access)),
        call(SYS_faccessat2, &[DIR, PATH, INT, INT], Here(paths::access)),
        call(SYS_readlink, &[PATH, sized(2), INT], Here(paths::readlink)),
        call(SYS_readlinkat, &[DIR, PATH, sized(3), INT], Here(paths::readlink)),
        call(SYS_statfs, &[PATH, STATFS], Here(paths::statfs)),
        call(SYS_getcwd, &[sized(1), INT], Here(paths::getcwd)),
        call(SYS_chdir, &[PATH], Here(paths::chdir)),
        call(SYS_mkdir, &[PATH, INT], Here(paths::make)),
        call(SYS_mkdirat, &[DIR, PATH, INT], Here(paths::make)),
        call(SYS_mknod, &[PATH, INT, INT], Here(paths::make)),
        call(SYS_mknodat, &[DIR, PATH, INT, INT], Here(paths::make)),
        call(SYS_rmdir, &[PATH], Here(paths::remove)),
        call(SYS_unlink, &[PATH], Here(paths::remove)),
        call(SYS_unlinkat, &[DIR, PATH, INT], Here(paths::remove)),
        call(SYS_rename, &[PATH, PATH], Here(paths::two_names)),
        call(SYS_renameat, &[DIR, PATH, DIR, PATH], Here(paths::two_names)),
        call(SYS_renameat2, &[DIR, PATH, DIR, PATH, INT], Here(paths::two_names)),
        call(SYS_link, &[PATH, PATH], Here(paths::two_names)),
        call(SYS_linkat, &[DIR, PATH, DIR, PATH, INT], Here(paths::two_names)),
        call(SYS_symlink, &[PATH, PATH], Here(paths::symlink)),
        call(SYS_symlinkat, &[PATH, DIR, PATH], Here(paths::symlink)),
        call(SYS_chmod, &[PATH, INT], Here(paths::change)),
        call(SYS_fchmodat, &[DIR, PATH, INT], Here(paths::change)),
        call(SYS_chown, &[PATH, INT, INT], Here(paths::change)),
        call(SYS_lchown, &[PATH, INT, INT], Here(paths::change)),
        call(SYS_fchownat, &[DIR, PATH, INT, INT, INT], Here(paths::change)),
        call(SYS_truncate, &[PATH, INT], Here(paths::change)),
        call(SYS_utimensat, &[DIR, SPECIAL, room(32), INT], Here(paths::set_times)),
        call(SYS_utime, &[PATH, room(16)], Here(paths::set_times_by_name)),
        call(SYS_utimes, &[PATH, room(32)], Here(paths::set_times_by_name)),
        call(SYS_getxattr, &[PATH, OPEN, sized(3), INT], Refused(EOPNOTSUPP)),
        call(SYS_lgetxattr, &[PATH, OPEN, sized(3), INT], Refused(EOPNOTSUPP)),
        call(SYS_fgetxattr, &[FD, OPEN, sized(3), INT], Refused(EOPNOTSUPP)),
        call(SYS_listxattr, &[PATH, sized(2), INT], Refused(EOPNOTSUPP)),
        call(SYS_llistxattr, &[PATH, sized(2), INT], Refused(EOPNOTSUPP)),
        call(SYS_flistxattr, &[FD, sized(2), INT], Refused(EOPNOTSUPP)),
        call(SYS_setxattr, &[PATH, OPEN, sized(3), INT, INT], Refused(EOPNOTSUPP)),
        call(SYS_lsetxattr, &[PATH, OPEN, sized(3), INT, INT], Refused(EOPNOTSUPP)),
        call(SYS_fsetxattr, &[FD, OPEN, sized(3), INT, INT], Refused(EOPNOTSUPP)),
        call(SYS_umask, &[INT], Host),

        // Memory.
        call(SYS_mmap, &[INT, INT, INT, INT, FD, INT], Here(memory::mmap)),
        call(SYS_munmap, &[INT, INT], Here(memory::munmap)),
        call(SYS_mprotect, &[INT, INT, INT], Here(memory::mprotect)),
        call(SYS_mremap, &[INT, INT, INT, INT, INT], Here(memory::mremap)),
        call(SYS_brk, &[INT], Here(memory::brk)),
        call(SYS_madvise, &[INT, INT, INT], Here(memory::madvise)),
        call(SYS_mincore, &[sized(1), INT, OPEN], Here(memory::of_mappings)),
        call(SYS_msync, &[sized(1), INT, INT], Here(memory::of_mappings)),
        call(SYS_mlock, &[sized(1), INT], Here(memory::of_mappings)),
        call(SYS_mlock2, &[sized(1), INT, INT], Here(memory::of_mappings)),
        call(SYS_munlock, &[sized(1), INT], Here(memory::of_mappings)),
        call(SYS_membarrier, &[INT, INT, INT], Host),

        // Processes and threads.
        call(SYS_fork, &[], Here(process::fork)),
        call(SYS_vfork, &[], Here(process::vfork)),
        call(SYS_clone, &[INT, INT, WORD, WORD, INT], Here(process::clone)),
        call(SYS_clone3, &[sized(1), INT], Refused(ENOSYS)), // the C libraries then use clone
        call(SYS_execve, &[PATH, SPECIAL, SPECIAL], Here(exec::execve)),
        call(SYS_execveat, &[DIR, PATH, SPECIAL, SPECIAL, INT], Here(exec::execve)),
        call(SYS_exit, &[INT], Here(process::exit)),
        call(SYS_exit_group, &[INT], Here(process::exit_group)),
        call(SYS_wait4, &[INT, WORD, INT, RUSAGE], Host),
        call(SYS_waitid, &[INT, INT, SIGINFO, INT, RUSAGE], Host),
        call(SYS_pidfd_open, &[INT, INT], Here(process::pidfd_open)),
        call(SYS_pidfd_send_signal, &[FD, INT, SIGINFO, INT], Host),
        call(SYS_getpid, &[], Host),
        call(SYS_gettid, &[], Host),
        call(SYS_getppid, &[], Host),
        call(SYS_getpgid, &[INT], Host),
        call(SYS_getpgrp, &[], Host),
        call(SYS_getsid, &[INT], Host),
        call(SYS_setpgid, &[INT, INT], Host),
        call(SYS_setsid, &[], Host),
        call(SYS_getuid, &[], Host),
        call(SYS_geteuid, &[], Host),
        call(SYS_getgid, &[], Host),
        call(SYS_getegid, &[], Host),
        call(SYS_getresuid, &[IDS, IDS, IDS], Host),
        call(SYS_getresgid, &[IDS, IDS, IDS], Host),
        call(SYS_getgroups, &[INT, array(0, 4)], Host),
        call(SYS_setgroups, &[INT, array(0, 4)], Host),
        call(SYS_setuid, &[INT], Here(process::set_ids)),
        call(SYS_setgid, &[INT], Here(process::set_ids)),
        call(SYS_setreuid, &[INT, INT], Here(process::set_ids)),
        call(SYS_setregid, &[INT, INT], Here(process::set_ids)),
        call(SYS_setresuid, &[INT, INT, INT], Here(process::set_ids)),
        call(SYS_setresgid, &[INT, INT, INT], Here(process::set_ids)),
        call(SYS_set_tid_address, &[INT], Here(own::set_tid_address)),
        call(SYS_set_robust_list, &[INT, INT], Here(own::set_robust_list)),
        call(SYS_get_robust_list, &[INT, room(8), room(8)], Here(own::get_robust_list)),
        call(SYS_arch_prctl, &[INT, INT], Here(own::arch_prctl)),
        call(SYS_prctl, &[INT, SPECIAL, INT, INT, INT], Here(own::prctl)),
        call(SYS_futex, &[WORD, INT, INT, SPECIAL, WORD, INT], Here(own::futex)),
        call(SYS_sched_yield, &[], Host),
        call(SYS_sched_getaffinity, &[INT, INT, sized(1)], Host),
        call(SYS_sched_setaffinity, &[INT, INT, sized(1)], Here(own::sched_setaffinity)),
        call(SYS_sched_getparam, &[INT, WORD], Host),
        call(SYS_sched_setparam, &[INT, WORD], Here(own::sched_setscheduler)),
        call(SYS_sched_getscheduler, &[INT], Host),
        call(SYS_sched_setscheduler, &[INT, INT, WORD], Here(own::sched_setscheduler)),
        call(SYS_sched_get_priority_max, &[INT], Host),
        call(SYS_sched_get_priority_min, &[INT], Host),
        call(SYS_sched_rr_get_interval, &[INT, TIMESPEC], Host),
        call(SYS_sched_getattr, &[INT, sized(2), INT, INT], Host),
        call(SYS_sched_setattr, &[INT, OPEN, INT], Here(own::sched_setscheduler)),
        call(SYS_ioprio_get, &[INT, INT], Host),
        call(SYS_ioprio_set, &[INT, INT, INT], Here(own::ioprio_set)),
        call(SYS_getpriority, &[INT, INT], Host),
        call(SYS_setpriority, &[INT, INT, INT], Here(own::setpriority)),
        call(SYS_getcpu, &[WORD, WORD, INT], Here(own::getcpu)),
        call(SYS_getrlimit, &[INT, RLIMIT], Here(own::getrlimit)),
        call(SYS_setrlimit, &[INT, RLIMIT], Here(own::setrlimit)),
        call(SYS_prlimit64, &[INT, INT, RLIMIT, RLIMIT], Here(own::prlimit)),
        call(SYS_getrusage, &[INT, RUSAGE], Host),
        call(SYS_uname, &[room(390)], Host),
        call(SYS_sysinfo, &[room(112)], Host),
        call(SYS_times, &[room(32)], Host),
        call(SYS_getrandom, &[sized(1), INT, INT], Host),
        call(SYS_capget, &[room(8), room(24)], Host),
        call(SYS_capset, &[room(8), room(24)], Host),

        // Signals.
        call(SYS_rt_sigaction, &[INT, room(32), room(32), INT], Here(signal::sigaction)),
        call(SYS_rt_sigprocmask, &[INT, SIGSET, SIGSET, INT], Here(signal::sigprocmask)),
        call(SYS_rt_sigreturn, &[], Here(signal::sigreturn)),
        call(SYS_rt_sigpending, &[sized(1), INT], Host),
        call(SYS_rt_sigsuspend, &[SIGSET, INT], Here(signal::sigsuspend)),
        call(SYS_rt_sigtimedwait, &[SIGSET, SIGINFO, TIMESPEC, INT], Here(signal::sigtimedwait)),
        call(SYS_rt_sigqueueinfo, &[INT, INT, SIGINFO], Here(signal::send)),
        call(SYS_rt_tgsigqueueinfo, &[INT, INT, INT, SIGINFO], Here(signal::send)),
        call(SYS_sigaltstack, &[room(24), room(24)], Here(signal::sigaltstack)),
        call(SYS_kill, &[INT, INT], Here(signal::send)),
        call(SYS_tkill, &[INT, INT], Here(signal::send)),
        call(SYS_tgkill, &[INT, INT, INT], Here(signal::send)),
        call(SYS_pause, &[], Host),

        // Time.
        call(SYS_clock_gettime, &[INT, TIMESPEC], Host),
        call(SYS_clock_getres, &[INT, TIMESPEC], Host),
        call(SYS_clock_nanosleep, &[INT, INT, TIMESPEC, TIMESPEC], Host),
        call(SYS_nanosleep, &[TIMESPEC, TIMESPEC], Host),
        call(SYS_gettimeofday, &[TIMEVAL, room(8)], Host),
        call(SYS_time, &[room(8)], Host),
        call(SYS_alarm, &[INT], Host),
        call(SYS_getitimer, &[INT, ITIMER], Host),
        call(SYS_setitimer, &[INT, ITIMER, ITIMER], Host),
        call(SYS_timer_settime, &[INT, INT, ITIMER, ITIMER], Here(signal::timer)),
        call(SYS_timer_gettime, &[INT, ITIMER], Here(signal::timer)),
        call(SYS_timer_getoverrun, &[INT], Here(signal::timer)),
        call(SYS_timer_delete, &[INT], Here(signal::timer)),
        call(SYS_timer_create, &[INT, room(64), WORD], Here(signal::timer_create)),

        // Sockets.
        call(SYS_socket, &[INT, INT, INT], Here(network::socket)),
        call(SYS_socketpair, &[INT, INT, INT, room(8)], Here(network::socketpair)),
        call(SYS_bind, &[FD, sized(2), INT], Here(network::bind)),
        call(SYS_connect, &[FD, sized(2), INT], Here(network::connect)),
        call(SYS_listen, &[FD, INT], Host),
        call(SYS_accept, &[FD, OPEN, WORD], Here(network::told)),
        call(SYS_accept4, &[FD, OPEN, WORD, INT], Here(network::told)),
        call(SYS_getsockname, &[FD, OPEN, WORD], Here(network::told)),
        call(SYS_getpeername, &[FD, OPEN, WORD], Here(network::told)),
        call(SYS_shutdown, &[FD, INT], Host),
        call(SYS_getsockopt, &[FD, INT, INT, OPEN, WORD], Here(network::getsockopt)),
        call(SYS_setsockopt, &[FD, INT, INT, sized(4), INT], Here(network::setsockopt)),
        call(SYS_sendto, &[FD, sized(2), INT, INT, sized(5), INT], Here(network::sendto)),
        call(SYS_recvfrom, &[FD, sized(2), INT, INT, OPEN, WORD], Here(network::told)),
        call(SYS_sendmsg, &[FD, room(56), INT], Here(network::message)),
        call(SYS_recvmsg, &[FD, room(56), INT], Here(network::message)),

        // Left out on purpose; what is not here gets ENOSYS as well.
        call(SYS_ptrace, &[INT, INT, INT, INT], Refused(EPERM)),
        call(SYS_chroot, &[PATH], Refused(EPERM)),
        call(SYS_mount, &[], Refused(EPERM)),
        call(SYS_umount2, &[], Refused(EPERM)),
        call(SYS_pivot_root, &[], Refused(EPERM)),
        call(SYS_reboot, &[], Refused(EPERM)),
        call(SYS_swapon, &[], Refused(EPERM)),
        call(SYS_swapoff, &[], Refused(EPERM)),
        call(SYS_sethostname, &[], Refused(EPERM)),
        call(SYS_setdomainname, &[], Refused(EPERM)),
        call(SYS_init_module, &[], Refused(EPERM)),
        call(SYS_finit_module, &[], Refused(EPERM)),
        call(SYS_delete_module, &[], Refused(EPERM)),
        call(SYS_settimeofday, &[], Refused(EPERM)),
        call(SYS_clock_settime, &[], Refused(EPERM)),
        call(SYS_unshare, &[INT], Refused(EPERM)),
        call(SYS_setns, &[INT, INT], Refused(EPERM)),
        call(SYS_personality, &[INT], Here(own::personality)),
    ]
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::syscall::by_handlers::BY_HANDLERS;
    use crate::sys::program::addresses;

    #[test]
    fn each_call_is_found_by_its_number_and_no_other_is() {
        for call in CALLS {
            assert_eq!(find(call.number as u64).map(|found| found.number), Some(call.number));
        }
        let io_uring_setup = 425;
        for number in
            [io_uring_setup, libc::SYS_userfaultfd as u64, libc::SYS_bpf as u64, 511, 512, u64::MAX, 1 << 32]
        {
            assert!(find(number).is_none(), "{number}");
        }
    }

    /// What the table passes on as it is, the lower floor knows, with the same arguments as addresses: it refuses a
    /// number in the place of an address, and memory in that of a number.
    #[test]
    fn the_table_and_the_floor_below_agree_on_what_is_an_address() {
        for call in CALLS.iter().filter(|call| matches!(call.server, Server::Host | Server::HostDescriptor)) {
            let addresses =
                addresses(call.number, [0; 3]).unwrap_or_else(|| panic!("{} is not passed on", call.number));
            for at in 0..6 {
                let is_memory = matches!(call.kinds.get(at), Some(Kind::Memory(_)));
                assert_eq!(
                    is_memory,
                    addresses >> at & 1 == 1,
                    "argument {at} of system call {}",
                    call.number
                );
            }
            assert!(
                !call.kinds.contains(&Kind::Path) && !call.kinds.contains(&Kind::Special),
                "{}",
                call.number
            );
        }
    }

    /// Whether the host ever gets the call `number` for a program.
    fn is_passed_on(number: i64) -> bool {
        let by_table = find(number as u64).is_some_and(|call| matches!(call.server, Host | HostDescriptor));
        by_table || BY_HANDLERS.contains(&number)
    }

    /// Nothing more can be passed on than the table or a handler passes on.
    #[test]
    fn the_floor_below_knows_no_call_that_nobody_makes() {
        for number in 0..512 {
            let (may, does) = (crate::sys::program::is_passed_on(number), is_passed_on(number));
            assert_eq!(may, does, "system call {number}");
        }
    }

    /// The words in backticks below a heading of docs/programs.md.
    fn documented(heading: &str) -> Vec<String> {
        let text = include_str!("../../../docs/programs.md");
        let (_, rest) = text.split_once(&format!("\n## {heading}\n")).expect(heading);
        let section = rest.split("\n## ").next().unwrap_or(rest);
        let mut words: Vec<String> = section.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        words.sort();
        words
    }

    fn names(is_served: bool) -> Vec<String> {
        let is_meant = |call: &&Call| matches!(call.server, Refused(_)) != is_served;
        let name = |call: &Call| {
            syscalls::Sysno::new(call.number as usize).expect("a system call").name().to_owned()
        };
        let mut names: Vec<String> = CALLS.iter().filter(is_meant).map(name).collect();
        names.sort();
        names
    }

    #[test]
    fn the_book_lists_what_is_served_and_what_is_refused() {
        assert_eq!(documented("Served"), names(true), "docs/programs.md, Served");
        assert_eq!(
            documented("Refused with another error than ENOSYS"),
            names(false),
            "docs/programs.md, Refused"
        );
    }
}
