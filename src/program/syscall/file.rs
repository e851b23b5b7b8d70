//! Calls about open files whose arguments hold addresses, descriptors or sets of signals of their own.
//!
//! Sources: readv(2), fcntl(2), ioctl_tty(2), poll(2), select(2), epoll_wait(2), close_range(2), pipe(2).

use super::answer::{Answer, Done, descriptor, errno, host, made, value};
use super::kinds::Checked;
use crate::program::errno::Errno;
use crate::program::thread::Thread;
use crate::sys::program as sys;
use crate::sys::program::{Arena, Argument, Piece};
use Argument::{Bytes, Pieces, Signals, Word};

/// The most pieces of one read or write (IOV_MAX).
const PIECES_MAX: u64 = 1024;
/// Bytes of a set of signals.
const SIGSET: u64 = 8;

/// `count` pieces of memory that the array at `at` names. It is copied once: what the program writes there afterwards
/// changes nothing.
pub(super) fn pieces(arena: &Arena, at: u64, count: u64) -> Result<Vec<Piece<'_>>, Errno> {
    if count > PIECES_MAX {
        return Err(Errno(libc::EINVAL));
    }
    let mut bytes = vec![0; count as usize * 16];
    arena.read(at, &mut bytes)?;
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    let piece = |at: usize| match (word(at), word(at + 8)) {
        // Nothing to read or write: wherever that may be.
        (_, 0) => Ok(Piece::new(arena.place(0, 0)?, 0)),
        (start, len) => Ok(Piece::new(arena.place(start, len)?, len)),
    };
    (0..count as usize).map(|index| piece(index * 16)).collect()
}

pub(super) fn vectors(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    let pieces = pieces(&thread.process.arena, call.words[1], call.words[2])?;
    let mut arguments = call.words.map(Word);
    arguments[1] = if pieces.is_empty() { Word(0) } else { Pieces(&pieces) };
    // The fourth to the sixth are numbers, or not looked at.
    made(sys::call(call.number, arguments))
}

/// Closes what the program has; what is ours is none of its descriptors.
pub(super) fn close_range(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    let (first, last, flags) = (call.words[0] as u32, call.words[1] as u32, call.int(2));
    if first > last || flags & !(libc::CLOSE_RANGE_CLOEXEC as i32 | libc::CLOSE_RANGE_UNSHARE as i32) != 0 {
        return errno(libc::EINVAL);
    }
    let lowest = thread.process.files.lowest() as u32;
    if first >= lowest {
        return value(0);
    }
    let last = last.min(lowest - 1);
    let flags = flags & libc::CLOSE_RANGE_CLOEXEC as i32;
    host(libc::SYS_close_range, [Word(first.into()), Word(last.into()), Word(flags as u64)])
}

/// dup2(2) and dup3(2), to a number that the program may have.
pub(super) fn duplicate(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    if call.int(1) >= thread.process.files.limit() {
        return errno(libc::EBADF);
    }
    made(sys::call(call.number, call.arguments()))
}

/// A directory's entries; of the process's descriptors (/proc/self/fd) those that are the program's.
pub(super) fn list(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    let arguments = [Word(call.words[0]), call.memory(1), Word(call.words[2])];
    // Where `struct linux_dirent` and `struct linux_dirent64` have the name; both have the entry's length at 16.
    let name_at = if call.number == libc::SYS_getdents { 18 } else { 19 };
    loop {
        let answer = host(call.number, arguments);
        let Ok(Done::Value(len @ 1..)) = answer else { return answer };
        if !sys::lists_descriptors(call.int(0)) {
            return answer;
        }
        let mut entries = vec![0; len as usize];
        thread.process.arena.read(call.words[1], &mut entries)?;
        let kept = without_ours(&entries, name_at, thread.process.files.lowest());
        if !kept.is_empty() {
            thread.process.arena.write(call.words[1], &kept)?;
            return value(kept.len() as u64);
        }
    }
}

/// Entries of a directory but those that are numbers from `lowest` on.
fn without_ours(mut entries: &[u8], name_at: usize, lowest: i32) -> Vec<u8> {
    let mut kept = Vec::new();
    while entries.len() > name_at {
        let len = usize::from(u16::from_le_bytes([entries[16], entries[17]]));
        if len <= name_at || len > entries.len() {
            // The program has written over it meanwhile.
            break;
        }
        let (entry, rest) = entries.split_at(len);
        let name =
            entry[name_at..].split(|&byte| byte == 0).next().and_then(|name| str::from_utf8(name).ok());
        if name.and_then(|name| name.parse::<i32>().ok()).is_none_or(|number| number < lowest) {
            kept.extend_from_slice(entry);
        }
        entries = rest;
    }
    kept
}

pub(super) fn pipe(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    let flags = if call.number == libc::SYS_pipe2 { call.words[1] } else { 0 };
    let answer = host(libc::SYS_pipe2, [call.memory(0), Word(flags)]);
    two_descriptors(thread, answer, call.words[0])
}

/// A call that has written two new descriptors to `at`: the program gets both or none.
pub(super) fn two_descriptors(thread: &Thread, answer: Answer, at: u64) -> Answer {
    let limit = thread.process.files.limit();
    if let Ok(Done::Value(_)) = answer {
        let pair = thread.process.arena.read_u64(at)?;
        let pair = [pair as u32 as i32, (pair >> 32) as i32];
        if pair.iter().any(|&fd| fd >= limit) {
            pair.into_iter().for_each(sys::close);
            return errno(libc::EMFILE);
        }
    }
    answer
}

pub(super) fn fcntl(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    let [fd, command, argument, ..] = call.words;
    let limit = thread.process.files.limit();
    let Some(addresses) = sys::addresses(call.number, [fd, command, argument]) else {
        return errno(libc::EINVAL);
    };
    // Whoever owns a descriptor gets its signals.
    if command as i32 == libc::F_SETOWN && !thread.process.is_near(argument as i32) {
        return errno(libc::EPERM);
    }
    let is_new = matches!(command as i32, libc::F_DUPFD | libc::F_DUPFD_CLOEXEC);
    if is_new && argument as i32 >= limit {
        return errno(libc::EINVAL);
    }
    let argument = match addresses {
        0 => Word(argument),
        // struct flock
        _ => Argument::Memory(thread.process.arena.place(argument, 32)?),
    };
    let answer = host(call.number, [Word(fd), Word(command), argument]);
    if is_new { descriptor(answer, limit) } else { answer }
}

/// Requests about terminals, pipes and sockets. Others there are not: ENOTTY.
pub(super) fn ioctl(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    let [fd, request, argument, ..] = call.words;
    let request = u64::from(request as u32);
    let Some(addresses) = sys::addresses(call.number, [fd, request, argument]) else {
        return errno(libc::ENOTTY);
    };
    // About the host's network interfaces (netdevice(7)).
    if (libc::SIOCGIFNAME..=libc::SIOCGIFINDEX).contains(&request) && !thread.process.network {
        return errno(libc::EACCES);
    }
    let argument = match addresses {
        0 => Word(argument),
        // struct termios2 is the largest; struct ifreq has 40 bytes.
        _ => Argument::Memory(thread.process.arena.place(argument, 44)?),
    };
    let answer = host(call.number, [Word(fd), Word(request), argument]);
    if request == libc::TIOCGPTPEER { descriptor(answer, thread.process.files.limit()) } else { answer }
}

/// A set of signals of the program's, as the host may block it; `None` if there is none.
pub(super) fn signals(thread: &Thread, at: u64, size: u64) -> Result<Option<u64>, Errno> {
    match at {
        0 => Ok(None),
        _ if size != SIGSET => Err(Errno(libc::EINVAL)),
        at => Ok(Some(sys::host_mask(thread.process.arena.read_u64(at)?))),
    }
}

pub(super) fn poll(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    if call.words[1] > thread.process.files.limit() as u64 {
        return errno(libc::EINVAL);
    }
    let [_, count, timeout, set, size, _] = call.words;
    if call.number == libc::SYS_poll {
        return host(call.number, [call.memory(0), Word(count), Word(timeout)]);
    }
    let set = signals(thread, set, size)?.map(u64::to_ne_bytes);
    let set = set.as_ref().map_or(Word(0), |set| Bytes(set));
    host(call.number, [call.memory(0), Word(count), call.memory(2), set, Word(SIGSET)])
}

pub(super) fn select(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    // The sets have room for no more.
    if call.int(0) > thread.process.files.lowest().min(1024) {
        return errno(libc::EINVAL);
    }
    let count = Word(call.words[0]);
    let [read, write, except, time] = [1, 2, 3, 4].map(|at| call.memory(at));
    if call.number == libc::SYS_select {
        return host(call.number, [count, read, write, except, time]);
    }
    let set = match call.words[5] {
        0 => None,
        at => {
            let arena = &thread.process.arena;
            signals(thread, arena.read_u64(at)?, arena.read_u64(at + 8)?)?
        }
    };
    let set = set.as_ref().map_or(Word(0), Signals);
    host(call.number, [count, read, write, except, time, set])
}

pub(super) fn epoll_pwait(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    let set = signals(thread, call.words[4], call.words[5])?.map(u64::to_ne_bytes);
    let set = set.as_ref().map_or(Word(0), |set| Bytes(set));
    let time = if call.number == libc::SYS_epoll_pwait2 { call.memory(3) } else { Word(call.words[3]) };
    host(call.number, [Word(call.words[0]), call.memory(1), Word(call.words[2]), time, set, Word(SIGSET)])
}
