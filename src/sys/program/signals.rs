//! Signals that are meant for a program in a VM: noted when they come, delivered when the VMM has the word.
//!
//! The handler of the process stores what has come in the thread's [`inbox`](super::inbox) and keeps every other signal
//! blocked until the program's frame for it is made: so one place is enough, and the kernel's queue is the queue. It
//! makes the vCPU leave the guest, and the system call that the thread was about to make on the program's behalf come
//! back unmade (see [`call`](super::call)).
//!
//! The same handler fixes a fault in a [`copy`](super::copy), which is how the VMM finds out that an address of the
//! program has no memory behind it. Sources: signal(7), rt_sigaction(2), `struct sigcontext` in asm/sigcontext.h.

use super::call::way_out;
use super::copy::end_of_copy;
use super::inbox::{INFO, note};
use super::limits;
use std::arch::global_asm;
use std::io;
use std::ptr::null_mut;

global_asm!(".globl matchstick_return", "matchstick_return:", "mov eax, 15", "syscall",);

unsafe extern "C" {
    fn matchstick_return();
}

/// Every signal.
pub const WHOLE_MASK: u64 = u64::MAX;

const fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

/// What is never blocked: a fault in a copy, and a system call that a filter refuses.
const OURS: u64 = bit(libc::SIGSEGV) | bit(libc::SIGBUS) | bit(libc::SIGSYS);

/// `set` without what the VMM itself needs: as the host may block it.
pub fn host_mask(set: u64) -> u64 {
    set & !OURS
}

/// Blocks the signals of `set` (bit 0 is signal 1) for the calling thread, but those that the VMM itself needs.
pub fn mask(set: u64) {
    let set = host_mask(set);
    // SAFETY: eight bytes are read; nothing is written.
    unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &set, null_mut::<u64>(), 8) };
}

/// What a signal does to the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// What the kernel does by itself.
    Default,
    /// Nothing.
    Ignore,
    /// It is noted.
    Note,
}

/// Sets what `signal` (1 to 64) does; `flags` are SA_NOCLDSTOP and SA_NOCLDWAIT. What the VMM needs itself is always
/// noted.
pub fn set_action(signal: i32, action: Action, flags: u64) -> io::Result<()> {
    let is_ours = (1..=64).contains(&signal) && OURS & bit(signal) != 0;
    if is_ours { Ok(()) } else { put_action(signal, action, flags) }
}

fn put_action(signal: i32, action: Action, flags: u64) -> io::Result<()> {
    /// `struct sigaction` as the kernel takes it (asm/signal.h).
    #[repr(C)]
    struct Kernel {
        handler: usize,
        flags: u64,
        restorer: usize,
        mask: u64,
    }
    const SA_RESTORER: u64 = 0x0400_0000;
    let (handler, mask) = match action {
        Action::Default => (libc::SIG_DFL, 0),
        Action::Ignore => (libc::SIG_IGN, 0),
        Action::Note => (arrived as *const () as usize, WHOLE_MASK & !OURS),
    };
    // SA_RESTART: a system call that was under way is gone on with, and then found by its address and not made.
    let flags = flags & (libc::SA_NOCLDSTOP | libc::SA_NOCLDWAIT) as u64
        | SA_RESTORER
        | (libc::SA_SIGINFO | libc::SA_RESTART) as u64;
    let new = Kernel { handler, flags, restorer: matchstick_return as *const () as usize, mask };
    // SAFETY: the struct is the kernel's, and only read; the handler takes what SA_SIGINFO gives and lives for ever.
    match unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, &new, null_mut::<Kernel>(), 8) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// From now on a fault in a copy to or from a program's memory is an error and not the process's end, and a system call
/// that a filter stops is named: the signals for it are handled here for good, and a program's own are noted.
pub fn on_fault_in_copies() -> io::Result<()> {
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGSYS]
        .into_iter()
        .try_for_each(|own| put_action(own, Action::Note, 0))
}

/// Every signal does what the kernel does by itself, but those that are ignored already, and those the VMM needs.
pub fn default_everything() -> io::Result<()> {
    // Ignored by `begin`, for reasons of ours.
    set_action(libc::SIGPIPE, Action::Default, 0)?;
    set_action(libc::SIGXFSZ, Action::Default, 0)
}

/// The handler of every signal that is noted.
extern "C" fn arrived(signal: i32, info: *const u8, context: *mut libc::c_void) {
    /// Where siginfo_t has si_code, which is above 0 if the kernel itself is the sender.
    const CODE: usize = 8;
    /// A filter stopped a system call.
    const SYS_SECCOMP: i32 = 1;
    let context = context.cast::<libc::ucontext_t>();
    // SAFETY: the kernel passes a siginfo_t of 128 bytes and the context that it will restore, of which the mask has
    // eight bytes. Both are ours until we return.
    unsafe {
        if signal == libc::SIGSYS {
            if info.add(CODE).cast::<i32>().read() == SYS_SECCOMP {
                super::super::confine::name_forbidden_call(info, context);
            }
            limits::look(std::slice::from_raw_parts(info, INFO));
        }
        let rcx = (*context).uc_mcontext.gregs[libc::REG_RCX as usize] as u64;
        let rip = &mut (*context).uc_mcontext.gregs[libc::REG_RIP as usize];
        if matches!(signal, libc::SIGSEGV | libc::SIGBUS) && info.add(CODE).cast::<i32>().read() > 0 {
            if let Some(end) = end_of_copy(*rip as usize) {
                *rip = end as i64;
            } else {
                // A fault of ours: it happens again, and is then the end.
                libc::signal(signal, libc::SIG_DFL);
            }
            return;
        }
        note(signal, std::slice::from_raw_parts(info, INFO));
        if let Some(out) = way_out(*rip as usize, rcx) {
            *rip = out as i64;
        }
        (&raw mut (*context).uc_sigmask).cast::<u64>().write_unaligned(WHOLE_MASK & !OURS);
    }
}

/// Sends `signal` to one thread of this process. One that has ended is none of our concern.
pub fn send_to_thread(thread: i32, signal: i32) {
    // SAFETY: tgkill takes plain numbers.
    unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, signal) };
}

/// What a kick has for its value: no sender of signals means anything by it.
const KICK: u64 = 0x6d61_7463_6873_7469;

/// Calls one thread of this process back from its VM, by a signal that no program blocks and that is not for it: see
/// [`is_kick`].
pub fn kick(thread: i32) {
    /// SI_QUEUE (sigaction(2)).
    const QUEUED: i32 = -1;
    let mut info = [0_u8; INFO];
    info[..4].copy_from_slice(&libc::SIGBUS.to_le_bytes());
    info[8..12].copy_from_slice(&QUEUED.to_le_bytes());
    info[24..32].copy_from_slice(&KICK.to_le_bytes());
    // SAFETY: the siginfo_t is only read.
    unsafe {
        libc::syscall(libc::SYS_rt_tgsigqueueinfo, libc::getpid(), thread, libc::SIGBUS, info.as_ptr())
    };
}

/// Whether a signal that was noted is a [`kick`].
pub fn is_kick(signal: i32, info: &[u8; INFO]) -> bool {
    signal == libc::SIGBUS && info[24..32] == KICK.to_le_bytes()
}

/// Ends this process by `signal`, whatever it did so far. No core is dumped: it would be ours.
pub fn die_of(signal: i32) -> ! {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: plain numbers and structs that are only read; the default action needs no handler.
    unsafe {
        libc::setrlimit(libc::RLIMIT_CORE, &none);
        let all = u64::MAX;
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &all, null_mut::<u64>(), 8);
        let action = [0_u64; 4];
        // Of SIGSYS a filter does not allow that, and stops it by just that signal: blocked, it ends the process.
        libc::syscall(libc::SYS_rt_sigaction, signal, action.as_ptr(), null_mut::<u64>(), 8);
        let set = !bit(signal);
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &set, null_mut::<u64>(), 8);
        libc::syscall(libc::SYS_tgkill, libc::getpid(), libc::gettid(), signal);
        // Only of a signal whose default is to do nothing.
        libc::_exit(128 + signal)
    }
}

/// Whether `signal` is ignored, as whoever started this process may have set it. Those of the VMM's own never are, and the
/// filter lets nobody ask for all of them.
pub fn is_ignored(signal: i32) -> bool {
    if OURS & bit(signal) != 0 {
        return false;
    }
    let mut action = [0_usize; 4];
    // SAFETY: the call writes a struct of 32 bytes, and reads none.
    let done =
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, null_mut::<u64>(), action.as_mut_ptr(), 8) };
    done == 0 && action[0] == libc::SIG_IGN
}

/// The signals that the calling thread blocks.
pub fn current_mask() -> u64 {
    let mut set = 0_u64;
    // SAFETY: eight bytes are written, and none are read.
    unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_BLOCK, null_mut::<u64>(), &mut set, 8) };
    set
}
