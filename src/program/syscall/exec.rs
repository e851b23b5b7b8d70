//! execve(2): the address space is emptied and loaded anew, in the same VM; other threads end first, and the first one
//! goes on.
//!
//! Sources: execve(2), execveat(2).

use super::answer::{Answer, Done};
use super::kinds::Checked;
use super::signal::delete_timer;
use crate::error::{Error, Result, Step};
use crate::program::actions::AlternateStack;
use crate::program::errno::Errno;
use crate::program::files::shown;
use crate::program::image::STRINGS_MAX;
use crate::program::process::{Clearing, Failure, Opened, Replacement, lock};
use crate::program::thread::{End, Thread};
use crate::sys::program as sys;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

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
    let is_first = thread.number == std::process::id() as i32;
    if !is_first {
        let replacement = Replacement { opened, environment, mask: thread.mask };
        process.begin_clearing(Clearing::Replaced(Box::new(replacement)));
        return Ok(Done::End(End::Alone(0)));
    }
    if !process.end_others(thread.number) {
        return Ok(Done::End(End::Alone(0)));
    }
    thread.become_program(&opened, &environment)?;
    Ok(Done::Elsewhere)
}

impl Thread {
    /// Begins another program, on the only thread that is left. There is no way back.
    pub fn become_program(&mut self, opened: &Opened, environment: &[Vec<u8>]) -> Result<()> {
        let process = Arc::clone(&self.process);
        self.give_up_locks();
        drop(lock(&process.vfork).take());
        let failed = |source| Error::Host { step: Step::StartProcess, source };
        sys::close_on_exec(process.files.lowest()).map_err(failed)?;
        let timers = {
            let mut actions = lock(&process.actions);
            actions.reset();
            std::mem::take(&mut actions.timers)
        };
        timers.into_iter().for_each(delete_timer);
        self.alternate = AlternateStack::default();
        self.clear_at_end = 0;
        lock(&process.space).clear()?;
        let begin = match process.load(opened, environment) {
            Ok(begin) => begin,
            Err(refusal) => {
                if process.verbose {
                    eprintln!("matchstick: cannot load {}: {refusal:?}", shown(opened.path()));
                }
                self.die_of(libc::SIGSEGV);
            }
        };
        self.reset_fpu()?;
        self.vcpu.set_bases([0; 2])?;
        self.begin_anew(begin)?;
        if let Some(observer) = self.observer() {
            let (path, arguments) = process.files.what_runs();
            observer.program(path.as_os_str().as_bytes(), &arguments);
        }
        Ok(())
    }
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
