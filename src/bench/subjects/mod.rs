//! The contestants, each in a file with what it needs.

pub mod command;
pub mod vm;

use super::payload::Payload;
use super::subject::Subject;
use command::Command;

/// All that are raced unless chosen otherwise, in the order of the table.
pub fn all(payload: &Payload) -> Vec<Box<dyn Subject>> {
    vec![Box::new(process(payload)), Box::new(vm::InProcess::new(payload)), Box::new(vm::process(payload))]
}

/// The payload, without a world around it: what everything else is compared with.
pub fn process(payload: &Payload) -> Command {
    let program = payload.program.clone();
    let about = "the payload itself, by posix_spawn: nothing is isolated";
    Command::new("process", about, payload, move || Ok(vec![program.clone().into()]))
}
