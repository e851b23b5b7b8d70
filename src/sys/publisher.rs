//! A process beside this one that puts finished files in their places, for a process that has given up the right to do so
//! itself.
//!
//! It is made by fork(2) before that, and knows the files and their places from then: all that it can be asked is to put
//! the file of a number in its place. It ends when this process does. Sources: fork(2), pipe(2).

use super::close_inherited;
use super::replace::Replacement;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsRawFd;

/// The way to it: a number goes there, an errno or 0 comes back.
#[derive(Debug)]
pub struct Publisher {
    questions: PipeWriter,
    answers: PipeReader,
}

impl Publisher {
    /// Starts it, with the files that it is to publish. They can still be written here, but not published.
    ///
    /// The process must have one thread only: of others, a forked process has the locks and not the threads.
    pub fn start(files: &mut [&mut Replacement]) -> io::Result<Publisher> {
        let (question, questions) = io::pipe()?;
        let (answers, answer) = io::pipe()?;
        // SAFETY: the child has this thread, the only one, and so every lock is free. It leaves by _exit, so that
        // nothing of the parent's is done twice.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                drop((questions, answers));
                serve(files, question, answer);
                files.iter_mut().for_each(|file| file.abandon());
                // SAFETY: it does not come back.
                unsafe { libc::_exit(0) }
            }
            _ => {
                files.iter_mut().for_each(|file| file.leave_to_another());
                Ok(Publisher { questions, answers })
            }
        }
    }

    /// Puts the file of that number in its place.
    pub fn publish(&mut self, number: u8) -> io::Result<()> {
        self.questions.write_all(&[number])?;
        let mut errno = [0; 4];
        self.answers.read_exact(&mut errno)?;
        match i32::from_ne_bytes(errno) {
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

/// What the child does.
fn serve(files: &mut [&mut Replacement], mut question: PipeReader, mut answer: PipeWriter) {
    // Whoever reads our output waits until it is closed; what else the parent has open is not for us.
    let own = [question.as_raw_fd(), answer.as_raw_fd()];
    let mut kept: Vec<u32> =
        files.iter().map(|new| new.file().as_raw_fd()).chain(own).map(|fd| fd as u32).collect();
    close_inherited(&mut kept);
    // What ends the parent ends us after it, not before.
    // SAFETY: plain numbers.
    unsafe {
        for fd in 0..3 {
            libc::close(fd);
        }
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT] {
            libc::signal(signal, libc::SIG_IGN);
        }
    }
    let mut number = [0];
    while question.read_exact(&mut number).is_ok() {
        let put = files.get_mut(usize::from(number[0])).ok_or(io::ErrorKind::NotFound.into());
        let errno = match put.and_then(|file| file.put()) {
            Ok(()) => 0,
            Err(error) => error.raw_os_error().unwrap_or(libc::EIO),
        };
        if answer.write_all(&errno.to_ne_bytes()).is_err() {
            return;
        }
    }
}
