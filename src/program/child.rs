//! A program in a child of this process, for whoever wants to go on: what it writes goes to a writer, and how it ends is a
//! value. `matchstick exec` needs no child, and becomes the program.
//!
//! Sources: fork(2), pipe(7).

use super::process::Failure;
use super::{Config, Program};
use crate::error::{Error, Step};
use crate::sys;
use crate::sys::program::{Forked, end_process, fork, lowest_of_ours, wait_for};
use crate::timeline::Ended;
use std::fs::File;
use std::io::{self, PipeReader, Read, Write, pipe};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::ExitStatusExt;

/// What a child says that could not become the program, in its first byte; a number or words follow.
const NOT_FOUND: u8 = b'n';
const DENIED: u8 = b'd';
const OTHER: u8 = b'o';

fn os(source: io::Error) -> Failure {
    Failure::Vmm(Error::Host { step: Step::StartProcess, source })
}

impl Program {
    /// Runs `arguments[0]` as a program in a child of this process, in a VM of its own; writes to `output` what it and
    /// its children write to standard output, and returns how it has ended. Standard input and errors are this
    /// process's own.
    ///
    /// The child is a copy of this process with the calling thread alone (fork(2)). Until the program runs it opens
    /// files and allocates memory, so no other thread should be within a lock that these need; the C library takes
    /// care of its own. What this process has open, but for the first three descriptors, the program does not get.
    ///
    /// ```no_run
    /// use matchstick::program::{Config, Ended, Program};
    ///
    /// let mut output = Vec::new();
    /// let words = ["echo", "Hello from ring 3"].map(|word| word.as_bytes().to_vec());
    /// let ended = Program::capture(Config::default(), words.to_vec(), &mut output)?;
    /// assert_eq!(ended, Ended::Status(0));
    /// assert_eq!(output, b"Hello from ring 3\n");
    /// # Ok::<(), matchstick::program::Failure>(())
    /// ```
    ///
    /// # Errors
    /// [`Failure`], as [`Program::new`] has them. [`Failure::Vmm`] with [`Error::Output`] if `output` took no more: the
    /// program is waited for all the same, and finds its output closed.
    pub fn capture(
        config: Config,
        arguments: Vec<Vec<u8>>,
        output: &mut dyn Write,
    ) -> Result<Ended, Failure> {
        let (says, told) = pipe().map_err(os)?;
        let (mut from, to) = pipe().map_err(os)?;
        match fork().map_err(os)? {
            Forked::Child => {
                drop((says, from));
                let failed =
                    become_program(config, arguments, File::from(std::os::fd::OwnedFd::from(told)), &to);
                let (mut told, failure) = failed;
                let _ = told.write_all(&in_bytes(&failure));
                end_process(125)
            }
            Forked::Parent(child) => {
                drop((told, to));
                let failure = failure(says);
                let copied = io::copy(&mut from, output);
                drop(from);
                let status = wait_for(child).map_err(os)?;
                if let Some(failure) = failure.map_err(os)? {
                    return Err(failure);
                }
                copied.map_err(|source| Failure::Vmm(Error::Output(source)))?;
                Ok(match status.signal() {
                    Some(signal) => Ended::Signal(signal),
                    None => Ended::Status(status.code().unwrap_or_default()),
                })
            }
        }
    }
}

/// The child's part: comes back only with a failure, and where to tell it.
fn become_program(config: Config, arguments: Vec<Vec<u8>>, told: File, to: &impl AsFd) -> (File, Failure) {
    let prepared = sys::program::become_output(to.as_fd()).and_then(|()| {
        let lowest = lowest_of_ours()?;
        Ok(File::from(sys::program::duplicate_above(told.as_fd(), lowest)?))
    });
    let mut out_of_reach = match prepared {
        Ok(moved) => moved,
        Err(error) => return (told, os(error)),
    };
    // They are closed by this, once.
    std::mem::forget(told);
    sys::close_inherited(&mut [out_of_reach.as_raw_fd() as u32]);
    let program = match Program::new(config, arguments) {
        Ok(program) => program,
        Err(failure) => return (out_of_reach, failure),
    };
    let _ = out_of_reach.flush();
    drop(out_of_reach);
    match program.run() {
        Ok(never) => match never {},
        // The parent has been told that all is well; a status is what is left.
        Err(_) => end_process(125),
    }
}

fn in_bytes(failure: &Failure) -> Vec<u8> {
    match failure {
        Failure::NotFound => vec![NOT_FOUND],
        Failure::Denied(errno) => [&[DENIED][..], &errno.to_le_bytes()].concat(),
        failure => [&[OTHER][..], crate::error::in_words(failure).as_bytes()].concat(),
    }
}

/// What the child has said until it runs the program, or ends.
fn failure(mut says: PipeReader) -> io::Result<Option<Failure>> {
    let mut bytes = Vec::new();
    says.read_to_end(&mut bytes)?;
    Ok(Some(match bytes.as_slice() {
        [] => return Ok(None),
        [NOT_FOUND] => Failure::NotFound,
        [DENIED, errno @ ..] => Failure::Denied(errno.try_into().map_or(libc::EIO, i32::from_le_bytes)),
        [_, words @ ..] => Failure::Child(String::from_utf8_lossy(words).into_owned()),
    }))
}
