//! What a thread asks about itself and its process, and what it sets: where its own data begin, names, limits, futexes.
//!
//! Sources: set_tid_address(2), arch_prctl(2), prctl(2), futex(2), getrlimit(2), personality(2).

use super::answer::{Answer, errno, host, value};
use super::kinds::Checked;
use crate::program::thread::Thread;
use crate::sys::program::{self as sys, Argument};
use Argument::Word;

pub(super) fn set_tid_address(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    thread.clear_at_end = call.words[0];
    value(thread.number as u64)
}

/// struct robust_list_head
const ROBUST_LIST: u64 = 24;

pub(super) fn set_robust_list(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    if call.words[1] != ROBUST_LIST {
        return errno(libc::EINVAL);
    }
    thread.robust_list = call.words[0];
    value(0)
}

/// Of the calling thread alone.
pub(super) fn get_robust_list(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    if ![0, thread.number].contains(&call.int(0)) {
        return errno(libc::EPERM);
    }
    thread.process.arena.write(call.words[2], &ROBUST_LIST.to_le_bytes())?;
    thread.process.arena.write(call.words[1], &thread.robust_list.to_le_bytes())?;
    value(0)
}

pub(super) fn arch_prctl(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    const SET_GS: u64 = 0x1001;
    const SET_FS: u64 = 0x1002;
    const GET_FS: u64 = 0x1003;
    const GET_GS: u64 = 0x1004;
    /// Where user space ends with four levels of paging.
    const LIMIT: u64 = 1 << 47;
    let [code, address, ..] = call.words;
    match code {
        SET_FS | SET_GS if address >= LIMIT => return errno(libc::EPERM),
        SET_FS => thread.vcpu.set_fs_base(address)?,
        SET_GS => thread.vcpu.set_gs_base(address)?,
        GET_FS => thread.process.arena.write(address, &thread.vcpu.bases()?[0].to_le_bytes())?,
        GET_GS => thread.process.arena.write(address, &thread.vcpu.bases()?[1].to_le_bytes())?,
        _ => return errno(libc::EINVAL),
    }
    value(0)
}

pub(super) fn prctl(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    let [option, argument, ..] = call.words;
    match option as i32 {
        // This process is not to be looked into, whatever the program wants of itself.
        libc::PR_SET_DUMPABLE if argument <= 1 => return value(0),
        libc::PR_GET_DUMPABLE => return value(1),
        _ => {}
    }
    let Some(addresses) = sys::addresses(call.number, [option, argument, 0]) else {
        return errno(libc::EINVAL);
    };
    let first = match addresses {
        0 => Word(argument),
        // A name has 16 bytes.
        _ => Argument::Memory(thread.process.arena.place(argument, 16)?),
    };
    host(call.number, [Word(option), first, Word(call.words[2]), Word(call.words[3]), Word(call.words[4])])
}

pub(super) fn futex(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    let [_, operation, wanted, time, _, bits] = call.words;
    let Some(addresses) = sys::addresses(call.number, [0, operation, 0]) else { return errno(libc::ENOSYS) };
    let time = match addresses >> 3 & 1 {
        1 if time != 0 => Argument::Memory(thread.process.arena.place(time, 16)?),
        _ => Word(time),
    };
    host(call.number, [call.memory(0), Word(operation), Word(wanted), time, call.memory(4), Word(bits)])
}

pub(super) fn getcpu(_: &mut Thread, call: &Checked<'_>) -> Answer {
    host(call.number, [call.memory(0), call.memory(1)])
}

/// The processors of a thread: of those that the program may use at all.
pub(super) fn sched_setaffinity(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    if !thread.process.is_near(call.int(0)) {
        return errno(libc::EPERM);
    }
    let Some(all) = sys::processors() else { return host(call.number, call.arguments()) };
    let mut set = [0; 128];
    let len = (call.words[1] as usize).min(set.len());
    thread.process.arena.read(call.words[2], &mut set[..len])?;
    let all = all.iter().flat_map(|word| word.to_le_bytes());
    set.iter_mut().zip(all).for_each(|(byte, all)| *byte &= all);
    host(call.number, [Word(call.words[0]), Word(len as u64), Argument::Bytes(&set[..len])])
}

/// How a thread is scheduled: not one of another process that is no child.
pub(super) fn sched_setscheduler(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    if !thread.process.is_near(call.int(0)) {
        return errno(libc::EPERM);
    }
    host(call.number, call.arguments())
}

/// The same by its niceness; a group is one's own, and a user has other processes as well.
pub(super) fn setpriority(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    let (which, who) = (call.words[0] as u32, call.int(1));
    let is_allowed = match which {
        libc::PRIO_PROCESS => thread.process.is_near(who),
        libc::PRIO_PGRP => who == 0 || thread.process.is_near(-who),
        libc::PRIO_USER => false,
        _ => return errno(libc::EINVAL),
    };
    if is_allowed { host(call.number, call.arguments()) } else { errno(libc::EPERM) }
}

/// The same for input and output (ioprio_set(2)).
pub(super) fn ioprio_set(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    const PROCESS: i32 = 1;
    const GROUP: i32 = 2;
    let who = call.int(1);
    let is_allowed = match call.int(0) {
        PROCESS => thread.process.is_near(who),
        GROUP => who == 0 || thread.process.is_near(who.wrapping_neg()),
        _ => false,
    };
    if is_allowed { host(call.number, call.arguments()) } else { errno(libc::EPERM) }
}

pub(super) fn getrlimit(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    limit(thread, call.words[0], 0, call.words[1])
}

pub(super) fn setrlimit(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    limit(thread, call.words[0], call.words[1], 0)
}

pub(super) fn prlimit(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    let [process, resource, new, old, ..] = call.words;
    if process != 0 && process != u64::from(std::process::id()) {
        return errno(libc::EPERM);
    }
    limit(thread, resource, new, old)
}

/// Limits are the host's, but for two that are ours to keep: the number of open files, of which we have some, and the
/// size of the address space, of which we have a lot.
fn limit(thread: &Thread, resource: u64, new: u64, old: u64) -> Answer {
    let arena = &thread.process.arena;
    let wanted = match new {
        0 => None,
        at => Some((arena.read_u64(at)?, arena.read_u64(at.wrapping_add(8))?)),
    };
    let files = &thread.process.files;
    let own = match resource as u32 {
        libc::RLIMIT_NOFILE => files.limits(),
        libc::RLIMIT_AS => [libc::RLIM_INFINITY; 2],
        _ => {
            let place = |at: u64| match at {
                0 => Ok(Word(0)),
                at => arena.place(at, 16).map(Argument::Memory),
            };
            return host(libc::SYS_prlimit64, [Word(0), Word(resource), place(new)?, place(old)?]);
        }
    };
    if let Some((soft, hard)) = wanted {
        if soft > hard {
            return errno(libc::EINVAL);
        } else if resource as u32 == libc::RLIMIT_NOFILE {
            files.set_limits([soft, hard])?;
        } else if [soft, hard] != own {
            return errno(libc::EPERM);
        }
    }
    if old != 0 {
        arena.write(old, own.map(u64::to_le_bytes).as_flattened())?;
    }
    value(0)
}

/// Asked for by debuggers, which want addresses that stay; here they do not.
pub(super) fn personality(_: &mut Thread, call: &Checked<'_>) -> Answer {
    match call.words[0] as u32 {
        0 | u32::MAX => value(0),
        _ => errno(libc::EINVAL),
    }
}
