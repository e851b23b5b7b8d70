//! This process: how it begins, whom it ends with, where it runs.
//!
//! Sources: prctl(2), sched_setaffinity(2), setrlimit(2).

use super::check;
use std::io;
use std::mem::MaybeUninit;

/// What std does before `main`, for a program that is started without it: writing to a closed pipe is an
/// error instead of a signal, and descriptors 0 to 2 are not free for the next file that is opened. Beside that, writing
/// more than a file may hold (`ulimit -f`) is an error, too.
///
/// A closed one becomes /dev/null, but opened for reading: what is written to it fails instead of vanishing.
pub fn begin() {
    let mut standard = [0, 1, 2].map(|fd| libc::pollfd { fd, events: 0, revents: 0 });
    // SAFETY: poll is given as many entries as it is told; signal and open take constants. open returns the
    // lowest free number, and we ask in ascending order.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        libc::poll(standard.as_mut_ptr(), standard.len() as libc::nfds_t, 0);
        for closed in standard.iter().filter(|poll| poll.revents & libc::POLLNVAL != 0) {
            libc::open(c"/dev/null".as_ptr(), if closed.fd == 0 { libc::O_RDWR } else { libc::O_RDONLY });
        }
    }
}

/// Closes the descriptors that were inherited, but for the first three and those of `keep` (close_range(2), or one by
/// one before Linux 5.9). Only for the beginning: whoever has opened one since then would lose it.
pub fn close_inherited(keep: &mut [u32]) {
    keep.sort_unstable();
    let mut first = 3;
    for &mut kept in keep {
        if kept > first {
            close_range(first, kept - 1);
        }
        first = first.max(kept.saturating_add(1));
    }
    close_range(first, u32::MAX);
}

fn close_range(first: u32, last: u32) {
    // SAFETY: plain numbers. The descriptors are nobody's: our caller has opened none.
    if unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } == 0 {
        return;
    }
    let open = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let numbers = open.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    // The directory that is read here is one of them, and closed when the list is whole.
    let numbers: Vec<u32> = numbers.filter(|number| (first..=last).contains(number)).collect();
    for number in numbers {
        // SAFETY: as above.
        unsafe { libc::close(number as libc::c_int) };
    }
}

/// Has this process asked to end, by SIGTERM, when its parent ends (prctl(2)). `parent` is the parent's number: if it has
/// ended already, nobody would send the signal, and this process ends at once.
pub fn end_with_parent(parent: u32) {
    // SAFETY: plain numbers. It cannot fail for a signal that exists.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) };
    // After the call above: whenever the parent ends, either this sees it or the kernel sends the signal.
    if std::os::unix::process::parent_id() != parent {
        super::die_of(libc::SIGTERM);
    }
}

/// Whether there is a process of that number, in our pid namespace (kill(2)).
pub fn process_exists(pid: i32) -> bool {
    // SAFETY: plain numbers; signal 0 is not sent.
    let sent = check(unsafe { libc::kill(pid, 0) });
    sent.err().is_none_or(|error| error.raw_os_error() != Some(libc::ESRCH))
}

/// Binds this thread, and what it starts, to one processor (sched_setaffinity(2)).
pub fn bind_to(processor: u32) -> io::Result<()> {
    // SAFETY: all zeroes is an empty set; CPU_SET checks its bounds; the set is only read by the call.
    unsafe {
        let mut set: libc::cpu_set_t = MaybeUninit::zeroed().assume_init();
        if processor as usize >= 8 * size_of::<libc::cpu_set_t>() {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        libc::CPU_SET(processor as usize, &mut set);
        check(libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set))
    }
}

/// Allows this process as many open files as it may have at all (setrlimit(2)).
pub fn raise_open_files() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls read or write one rlimit, which is ours. Should they fail, the limit is as it was.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}
