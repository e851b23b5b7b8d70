//! Another process that stands still while it is looked at.
//!
//! Not by SIGSTOP, which its parent and its terminal would notice: by ptrace(2), which ends with us, whatever
//! becomes of us. It takes the right to trace the process.

use super::check;
use std::fs;
use std::io;
use std::ptr::null_mut;

/// A process of which every thread stands still until this is dropped.
pub struct Stopped {
    /// Each thread, and the signal that it was about to take when it was stopped, or 0.
    threads: Vec<(libc::pid_t, libc::c_int)>,
}

impl Stopped {
    /// Stops `process`. A system call in which a thread waits ends with EINTR, or goes on later.
    ///
    /// # Errors
    /// ESRCH if there is no such process, EPERM if it may not be traced, or another one traces it.
    pub fn new(process: i32) -> io::Result<Stopped> {
        let mut stopped = Stopped { threads: Vec::new() };
        // Threads that run start others, so it is looked again until all are known.
        loop {
            let known = stopped.threads.len();
            for entry in fs::read_dir(format!("/proc/{process}/task"))? {
                let name = entry?.file_name();
                let Some(thread) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
                if stopped.threads.iter().all(|&(known, _)| known != thread) {
                    stopped.stop(thread)?;
                }
            }
            if stopped.threads.len() == known {
                return Ok(stopped);
            }
        }
    }

    fn stop(&mut self, thread: libc::pid_t) -> io::Result<()> {
        match trace(libc::PTRACE_SEIZE, thread, 0) {
            // It has ended since it was listed.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(()),
            seized => seized?,
        }
        // From here on it is ours, and given back when `self` is dropped.
        self.threads.push((thread, 0));
        trace(libc::PTRACE_INTERRUPT, thread, 0)?;
        let mut status = 0;
        // SAFETY: waitpid writes the status, and waits for a thread that we trace.
        if unsafe { libc::waitpid(thread, &mut status, libc::__WALL) } != thread {
            return Err(io::Error::last_os_error());
        }
        if !libc::WIFSTOPPED(status) {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        // A stop that we asked for has an event's number above the signal's; any other is a signal, to be passed on.
        if status >> 16 == 0
            && let Some((_, signal)) = self.threads.last_mut()
        {
            *signal = libc::WSTOPSIG(status);
        }
        Ok(())
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        for &(thread, signal) in &self.threads {
            // One that was killed meanwhile needs no more.
            let _ = trace(libc::PTRACE_DETACH, thread, signal);
        }
    }
}

fn trace(request: libc::c_uint, thread: libc::pid_t, number: libc::c_int) -> io::Result<()> {
    let data = number as usize as *mut libc::c_void;
    // SAFETY: of these requests all arguments are plain numbers; the address is not used.
    check(unsafe { libc::ptrace(request, thread, null_mut::<libc::c_void>(), data) } as libc::c_int)
}
