//! `vm-exec`: the payload itself, as a program in a virtual machine without a kernel, through `matchstick exec`.

use super::command::Command;
use super::vm::{can_run, own_program};
use crate::bench::payload::Payload;
use crate::bench::subject::Kind;

/// The very file that the process and the containers run, in a virtual machine of its own.
pub fn vm(payload: &Payload) -> Command {
    let about =
        "matchstick exec: the same program in a virtual machine without a kernel, from exec to reaped";
    let own = payload.clone();
    Command::new(Kind::VmExec, "vm-exec", about, payload, move || {
        can_run()?;
        let mut words = vec![own_program()?.into(), "exec".into(), own.program.clone().into()];
        if own.is_probe {
            // Nothing that it tries reaches the host unchecked.
            words.push("calls".into());
        }
        Ok(words)
    })
    .of_version(env!("CARGO_PKG_VERSION"))
}
