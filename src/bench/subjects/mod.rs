//! The subjects of the race, each in a file with what it needs.

pub mod baseline;
pub mod command;
pub mod containerd;
pub mod engine;
pub mod exec;
pub mod linux;
pub mod namespaces;
pub mod oci;
mod rootfs;
pub mod sandbox;
pub mod snapshot;
pub mod vm;
pub mod with;

use super::payload::Payload;
use super::subject::{Kind, Subject};
use command::Command;

/// All that are raced unless chosen otherwise, in the order of the table.
pub fn all(payload: &Payload) -> Vec<Box<dyn Subject>> {
    let ours: [Box<dyn Subject>; 8] = [
        Box::new(process(payload)),
        Box::new(vm::InProcess::new(payload)),
        Box::new(vm::process(payload)),
        Box::new(snapshot::process(payload)),
        Box::new(exec::vm(payload)),
        Box::new(snapshot::InProcess::clones(payload)),
        Box::new(snapshot::InProcess::pool(payload)),
        Box::new(namespaces::Namespaces::new(payload)),
    ];
    let others = [sandbox::unshare(payload), sandbox::bwrap(payload)]
        .into_iter()
        .chain(oci::all(payload))
        .chain(engine::all(payload))
        .chain(containerd::all(payload))
        .chain([sandbox::nspawn(payload), linux::vm(payload)]);
    ours.into_iter().chain(others.map(|command| Box::new(command) as Box<dyn Subject>)).collect()
}

/// The payload as a plain process: everything else is compared with it.
pub fn process(payload: &Payload) -> Command {
    let program = payload.program.clone();
    let about = "the payload itself, by posix_spawn: nothing is isolated";
    Command::new(Kind::Process, "process", about, payload, move || Ok(vec![program.clone().into()]))
}
