//! What runs in a container that is there: exec needs to know whether that is a VM, and how it was asked for.
//!
//! The bundle says it, which runc and crun note in their own state, in a file that is quickly read. Where it is not found,
//! the runtime's `state` is asked. Sources: the OCI runtime specification, runtime.md "State"; runc's state.json and crun's
//! status, as they were found.

use super::call::Call;
use super::document::Document;
use super::error::OciError;
use serde_json::Value;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A container.
#[derive(Debug, PartialEq, Eq)]
pub struct State {
    /// Its first process, on this host.
    pub pid: u64,
    /// Its bundle.
    pub bundle: PathBuf,
}

impl State {
    /// Of the container that a call is about; `None` if the runtime knows none.
    pub fn of(call: &Call, args: &[OsString], runtime: &Path) -> Option<State> {
        let id = call.id.as_ref()?;
        State::noted(call, id, runtime).or_else(|| State::asked(&args[..call.globals], id, runtime))
    }

    fn noted(call: &Call, id: &OsStr, runtime: &Path) -> Option<State> {
        if id.as_bytes().contains(&b'/') || id == ".." || id == "." {
            return None;
        }
        let is_crun = runtime.file_name().is_some_and(|name| name == "crun");
        let (usual, file) = if is_crun { ("/run/crun", "status") } else { ("/run/runc", "state.json") };
        let root = call.root.clone().unwrap_or_else(|| usual.into());
        State::read(&Document::read(&root.join(id).join(file)).ok()?.value)
    }

    fn asked(globals: &[OsString], id: &OsStr, runtime: &Path) -> Option<State> {
        let mut command = Command::new(runtime);
        let asked = command.args(globals).arg("state").arg(id).stdin(Stdio::null()).stderr(Stdio::null());
        State::read(&serde_json::from_slice(&asked.output().ok()?.stdout).ok()?)
    }

    /// Of runc's state.json, crun's status or the specification's state.
    fn read(value: &Value) -> Option<State> {
        let label = |label: &Value| label.as_str()?.strip_prefix("bundle=").map(str::to_owned);
        let labels = value.pointer("/config/labels").and_then(Value::as_array);
        let bundle = match labels {
            Some(labels) => labels.iter().find_map(label)?,
            None => value.get("bundle")?.as_str()?.to_owned(),
        };
        let pid = value.get("init_process_pid").or(value.get("pid"))?.as_u64()?;
        Some(State { pid, bundle: bundle.into() })
    }

    /// config.json, as the container was made by it.
    ///
    /// # Errors
    /// It is not there any more.
    pub fn config(&self) -> Result<Value, OciError> {
        Ok(Document::read(&self.bundle.join("config.json"))?.value)
    }

    /// The container's root directory, as it sees it; `None` where it has ended.
    pub fn root(&self) -> Option<PathBuf> {
        (self.pid > 0).then(|| PathBuf::from(format!("/proc/{}/root", self.pid)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_runtime_notes_it_in_its_own_way() {
        let state = Some(State { pid: 7, bundle: "/b".into() });
        let runc = json!({ "init_process_pid": 7, "config": { "labels": ["x=y", "bundle=/b"] } });
        assert_eq!(State::read(&runc), state);
        assert_eq!(State::read(&json!({ "pid": 7, "bundle": "/b" })), state);
        assert_eq!(State::read(&json!({ "pid": 7 })), None);
        assert_eq!(State::read(&json!([])), None);
    }
}
