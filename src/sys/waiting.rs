//! A pipe that is read for no longer than it may take.
//!
//! By hand: std waits for ever, and vmm-sys-util's poll is an epoll, which takes a descriptor of its own. Source: poll(2),
//! pipe(7).

use libc::c_int;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// Reads a pipe that was opened with O_NONBLOCK, and waits for what comes, but not for ever.
pub struct WaitingReader {
    file: File,
    deadline: Option<Instant>,
}

impl WaitingReader {
    /// Waits for `timeout` in all.
    pub fn new(file: File, timeout: Option<Duration>) -> WaitingReader {
        WaitingReader { file, deadline: timeout.and_then(|timeout| Instant::now().checked_add(timeout)) }
    }

    /// Waits until there are bytes, or the last writer has gone (poll(2)). Before the first one has come, a pipe is
    /// neither.
    fn wait(&self) -> io::Result<()> {
        let mut poll = libc::pollfd { fd: self.file.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        loop {
            let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "nothing more came within the time"));
            }
            // Rounded up, as 0 would not wait at all. What is longer than poll can wait is waited for in pieces.
            let millis = left.map_or(-1, |left| left.as_micros().div_ceil(1000).min(1 << 30) as c_int);
            // SAFETY: one pollfd, and it is ours.
            match unsafe { libc::poll(&mut poll, 1, millis) } {
                0 => {}
                -1 => return Err(io::Error::last_os_error()),
                _ => return Ok(()),
            }
        }
    }
}

impl Read for WaitingReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            self.wait()?;
            match self.file.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
        }
    }
}
