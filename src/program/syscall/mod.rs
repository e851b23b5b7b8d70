//! System calls: each argument is checked by its kind, and then the call is served: by the host, or here.
//!
//! [`table`] says of each call what its arguments are and who serves it. So a pointer, a path or a descriptor is
//! checked in one place, whatever the call; a call that the table does not have gets ENOSYS.

pub mod answer;
mod by_handlers;
mod exec;
mod file;
mod ignored;
mod kinds;
pub mod memory;
pub mod network;
mod own;
mod paths;
mod process;
mod signal;
pub mod table;

use super::process::Process;
use super::thread::Thread;
use crate::sys::program as sys;
use crate::timeline::Shape;
use answer::{Answer, Done, descriptor, errno, made};
use table::{Call, Server};

/// Serves the call `number` of `thread`.
pub fn serve(thread: &mut Thread, number: u64, words: [u64; 6]) -> Answer {
    let Some(call) = table::find(number) else {
        return unknown(thread, number);
    };
    let words = ignored::without_ignored(call.number, words);
    let process = std::sync::Arc::clone(&thread.process);
    let Some(output) = &process.output else { return serve_checked(thread, &process, call, words) };
    let mut words = words;
    let Some(granted) = output.before(call.number, &mut words) else {
        return serve_checked(thread, &process, call, words);
    };
    let answer = serve_checked(thread, &process, call, words);
    output.after(granted, if let Ok(Done::Value(written)) = answer { written } else { 0 });
    answer
}

fn serve_checked(thread: &mut Thread, process: &Process, call: &'static Call, words: [u64; 6]) -> Answer {
    let checked = kinds::check(call.number, call.kinds, words, process)?;
    match call.server {
        Server::Host => made(sys::call(call.number, checked.arguments())),
        Server::HostDescriptor => {
            descriptor(made(sys::call(call.number, checked.arguments())), process.files.limit())
        }
        Server::Here(handler) => handler(thread, &checked),
        Server::Refused(refused) => errno(refused),
    }
}

/// What the arguments of a call are, for who watches; `None` for one that the table does not have.
pub fn shapes(number: u64, words: &[u64; 6]) -> Option<Vec<Shape>> {
    Some(table::find(number)?.kinds.iter().map(|kind| kind.shape(words)).collect())
}

fn unknown(thread: &Thread, number: u64) -> Answer {
    if thread.process.verbose {
        let name =
            usize::try_from(number).ok().and_then(syscalls::Sysno::new).map_or("?", |call| call.name());
        eprintln!("matchstick: the system call {name} ({number}) is not served");
    }
    errno(libc::ENOSYS)
}
