//! What becomes of a system call.

use super::by_handlers::BY_HANDLERS;
use crate::error::Error;
use crate::program::errno::Errno;
use crate::program::thread::End;
use crate::sys::program::{self as sys, Argument, Fault, NOT_MADE, RESTART};

/// A system call was served.
pub enum Done {
    /// Its result.
    Value(u64),
    /// Not made: a signal came before it.
    Again,
    /// Ended by a signal: its handler decides whether it is made again.
    Interrupted,
    /// The program goes on elsewhere; its registers are set.
    Elsewhere,
    /// The thread, or the process, ends.
    End(End),
}

/// Or it was not.
pub enum Trouble {
    /// What the program is told.
    Errno(Errno),
    /// What ends us.
    Vmm(Error),
}

impl From<Errno> for Trouble {
    fn from(errno: Errno) -> Trouble {
        Trouble::Errno(errno)
    }
}

impl From<Fault> for Errno {
    fn from(_: Fault) -> Errno {
        Errno(libc::EFAULT)
    }
}

impl From<Fault> for Trouble {
    fn from(_: Fault) -> Trouble {
        Trouble::Errno(Errno(libc::EFAULT))
    }
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Trouble {
        Trouble::Errno(error.into())
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Trouble {
        Trouble::Vmm(error)
    }
}

/// What serves a call here.
pub type Answer = Result<Done, Trouble>;

/// A result that is a number.
pub fn value(value: u64) -> Answer {
    Ok(Done::Value(value))
}

/// An error that the program sees.
pub fn errno(errno: i32) -> Answer {
    Err(Trouble::Errno(Errno(errno)))
}

/// The kernel's answer.
pub fn made(answer: i64) -> Answer {
    match answer {
        NOT_MADE => Ok(Done::Again),
        RESTART => Ok(Done::Interrupted),
        -4095..0 => errno(-answer as i32),
        _ => value(answer as u64),
    }
}

/// A new descriptor, if the program can have it.
pub fn descriptor(answer: Answer, lowest: i32) -> Answer {
    match answer {
        Ok(Done::Value(fd)) if fd >= lowest as u64 => {
            sys::close(fd as i32);
            errno(libc::EMFILE)
        }
        answer => answer,
    }
}

/// A call with fewer arguments.
pub fn host<const N: usize>(number: i64, arguments: [Argument<'_>; N]) -> Answer {
    debug_assert!(BY_HANDLERS.contains(&number), "system call {number} is made by no handler");
    let mut all = [Argument::Word(0); 6];
    all[..N].copy_from_slice(&arguments);
    made(sys::call(number, all))
}
