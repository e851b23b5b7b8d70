//! execve(2): the address space is emptied and loaded anew, in the same VM; other threads end first.
//!
//! Sources: execve(2), execveat(2).

use super::answer::{Answer, Done, errno};
use super::kinds::Checked;
use crate::program::actions::AlternateStack;
use crate::program::errno::Errno;
use crate::program::files::shown;
use crate::program::image::STRINGS_MAX;
use crate::program::process::{Failure, lock};
use crate::program::thread::Thread;
use crate::sys::program as sys;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Strings that an array of addresses leads to, zero at its end; `room` is how many bytes they may have.
fn strings(thread: &Thread, at: u64, room: &mut usize) -> std::result::Result<Vec<Vec<u8>>, Errno> {
    let arena = &thread.process.arena;
    let mut strings = Vec::new();
    // No array is as good as an empty one.
    let mut at = at;
    while at != 0 {
        let string = match arena.read_u64(at)? {
            0 => break,
            string => arena.read_string(string, *room)?.ok_or(Errno(libc::E2BIG))?,
        };
        *room = room.checked_sub(string.len() + 1 + 8).ok_or(Errno(libc::E2BIG))?;
        strings.push(string);
        at += 8;
    }
    Ok(strings)
}

pub(super) fn execve(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    let process = Arc::clone(&thread.process);
    let (path, at) = match call.number {
        libc::SYS_execve => (call.path(0).to_vec(), 1),
        _ => (path_from(call)?, 2),
    };
    let mut room = STRINGS_MAX;
    let mut arguments = strings(thread, call.words[at], &mut room)?;
    let environment = strings(thread, call.words[at + 1], &mut room)?;
    if arguments.is_empty() {
        // As Linux has it since 5.18.
        arguments.push(Vec::new());
    }
    let opened = process.open(&path, arguments, 0).map_err(|failure| match failure {
        Failure::NotFound => Errno(libc::ENOENT),
        Failure::Denied(errno) => Errno(errno),
        Failure::Refused(refusal, _) => refusal.errno(),
        Failure::Vmm(_) | Failure::Place(..) | Failure::Child(_) => Errno(libc::EIO),
    })?;
    if !end_other_threads(thread) {
        return errno(libc::EAGAIN);
    }
    // From here on there is no way back.
    drop(lock(&process.vfork).take());
    sys::close_on_exec(process.files.lowest())?;
    lock(&process.actions).reset();
    thread.alternate = AlternateStack::default();
    thread.clear_at_end = 0;
    lock(&process.space).clear()?;
    let begin = match process.load(&opened, &environment) {
        Ok(begin) => begin,
        Err(refusal) => {
            if process.verbose {
                eprintln!("matchstick: cannot load {}: {refusal:?}", shown(&path));
            }
            thread.die_of(libc::SIGKILL);
        }
    };
    thread.reset_fpu()?;
    thread.vcpu.set_bases([0; 2])?;
    thread.begin_anew(begin)?;
    if let Some(observer) = thread.observer() {
        let (path, arguments) = process.files.what_runs();
        observer.program(path.as_os_str().as_bytes(), &arguments);
    }
    Ok(Done::Elsewhere)
}

/// The path of execveat(2).
fn path_from(call: &Checked<'_>) -> std::result::Result<Vec<u8>, Errno> {
    let (dir, path, flags) = (call.int(0), call.path(0), call.int(4));
    let base = format!("/proc/self/fd/{dir}");
    match path {
        b"" if flags & libc::AT_EMPTY_PATH != 0 => Ok(base.into_bytes()),
        path if path.starts_with(b"/") || dir == libc::AT_FDCWD => Ok(path.to_vec()),
        path => match std::fs::read_link(base) {
            Ok(base) => Ok([base.as_os_str().as_encoded_bytes(), b"/", path].concat()),
            Err(_) => Err(Errno(libc::EBADF)),
        },
    }
}

/// Ends all threads but this one. False if this is not the first, whose number a new program would have.
fn end_other_threads(thread: &Thread) -> bool {
    let process = &thread.process;
    let mut threads = lock(&process.threads);
    if threads.alive.len() == 1 {
        return thread.number == std::process::id() as i32;
    }
    if thread.number != std::process::id() as i32 {
        return false;
    }
    process.is_clearing.store(true, Ordering::Relaxed);
    while threads.alive.len() > 1 {
        for &other in threads.alive.iter().filter(|&&other| other != thread.number) {
            // A signal that no thread blocks, and that is always noted.
            sys::send_to_thread(other, libc::SIGBUS);
        }
        let wait = process.thread_ended.wait_timeout(threads, std::time::Duration::from_millis(10));
        threads = wait.unwrap_or_else(std::sync::PoisonError::into_inner).0;
    }
    process.is_clearing.store(false, Ordering::Relaxed);
    true
}
