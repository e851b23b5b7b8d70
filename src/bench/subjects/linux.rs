//! `vm-linux`: the payload as a program of a Linux of its own, through `matchstick run linux --init`.

use super::command::Command;
use super::vm::can_run;
use crate::bench::payload::Payload;
use crate::bench::subject::{Kind, Missing};
use crate::host::{self, Engine};
use std::ffi::OsString;
use std::fs;
use std::path::Path;

/// A guest that boots the newest kernel of this host.
pub fn vm(payload: &Payload) -> Command {
    let about = "matchstick run linux: a Linux kernel boots and runs the payload";
    let own = payload.clone();
    Command::new(Kind::VmLinux, "vm-linux", about, payload, move || {
        if !has_kernel(Path::new("/boot")) {
            return Err(Missing::new("no kernel in /boot", "apt install linux-image-cloud-amd64"));
        }
        own.stands_alone()?;
        can_run()?;
        if host::classify(&host::gather()).engine == Engine::Software {
            return Err(Missing::new(
                "this host emulates the kernel mode of its guests: a Linux would take minutes",
                "a host whose /proc/cpuinfo says vmx or svm",
            ));
        }
        let program = std::env::current_exe()
            .map_err(|error| Missing::new(format!("our own program: {error}"), "is /proc mounted?"))?;
        let mut words: Vec<OsString> = vec![program.into()];
        words.extend(["run", "linux", "--quiet", "--init"].map(OsString::from));
        words.push(own.program.clone().into());
        Ok(words)
    })
    .of_version(env!("CARGO_PKG_VERSION"))
}

fn has_kernel(directory: &Path) -> bool {
    let names = fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
    names.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with("vmlinuz-"))
}
