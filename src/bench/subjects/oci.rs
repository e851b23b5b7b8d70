//! `runc`, `crun` and `youki`: what starts the containers of Docker, Kubernetes and Podman, called as they call it.
//!
//! Each is given a bundle of ours: a root file system with the payload in it and nothing else, and the configuration
//! that such a runtime's own `spec` command would write, as far as a program without terminal, network and
//! capabilities needs it. (OCI runtime specification 1.0.2, config.md and config-linux.md.)

use super::command::Command;
use super::rootfs::{self, Rootfs};
use crate::bench::launcher::find_program;
use crate::bench::payload::{Payload, WITHOUT};
use crate::bench::subject::{Kind, Missing};
use crate::container::cgroup::remove_everywhere;
use crate::sys::clone::ids;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io::PipeWriter;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// A runtime, by its name.
struct Runtime {
    name: &'static str,
    about: &'static str,
    hint: &'static str,
}

const RUNTIMES: [Runtime; 3] = [
    Runtime {
        name: "runc",
        about: "runc run: the OCI runtime of Docker and Kubernetes, in Go",
        hint: "apt install runc",
    },
    Runtime { name: "crun", about: "crun run: the OCI runtime of Podman, in C", hint: "apt install crun" },
    Runtime {
        name: "youki",
        about: "youki run: an OCI runtime in Rust",
        hint: "its releases are at github.com/youki-dev/youki",
    },
];

/// One command for each runtime.
pub fn all(payload: &Payload) -> Vec<Command> {
    RUNTIMES.iter().map(|runtime| command(runtime, payload)).collect()
}

fn command(runtime: &'static Runtime, payload: &Payload) -> Command {
    let own = payload.clone();
    let begun: Rc<RefCell<Option<Bundle>>> = Rc::default();
    let tidied = Rc::clone(&begun);
    let words = move || {
        let bundle = Bundle::of(runtime.name, &own)?;
        let words = bundle.run();
        *begun.borrow_mut() = Some(bundle);
        Ok(words)
    };
    let tidy = move || {
        if let Some(bundle) = tidied.borrow().as_ref() {
            bundle.delete();
        }
    };
    Command::new(Kind::Runtime, runtime.name, runtime.about, payload, words)
        .tidied_by(tidy)
        .of_version_of(runtime.name)
}

/// Where version 2 of cgroups is mounted in the hybrid layout. crun does not start while it sees both versions.
const UNIFIED: &str = "/sys/fs/cgroup/unified";

/// A bundle, and how it is run.
pub(in crate::bench) struct Bundle {
    /// Words before the program.
    before: Vec<OsString>,
    program: PathBuf,
    rootfs: Rootfs,
    id: String,
}

impl Bundle {
    /// One for the runtime `name`, if it is there.
    pub fn of(name: &str, payload: &Payload) -> Result<Bundle, Missing> {
        let hint = RUNTIMES.iter().find(|runtime| runtime.name == name).map_or("", |runtime| runtime.hint);
        let program = find_program(name).ok_or_else(|| Missing::new("not installed", hint))?;
        payload.stands_alone()?;
        Bundle::new(name, program, payload)
            .map_err(|error| Missing::new(format!("cannot make its bundle: {error}"), "is $TMPDIR full?"))
    }

    fn new(name: &str, program: PathBuf, payload: &Payload) -> std::io::Result<Bundle> {
        // The root is read-only, so the directories that the runtime mounts on have to be there.
        let rootfs = Rootfs::new(name, payload, &["proc", "dev"])?;
        let config = config(ids(), Path::new("/proc/self/ns/cgroup").exists());
        fs::write(rootfs.directory().join("config.json"), config.to_string())?;
        let id = rootfs.unique_name();
        let mut bundle = Bundle { before: Vec::new(), program, rootfs, id };
        if name == "crun" && Path::new(UNIFIED).exists() {
            let hide = bundle.rootfs.directory().join("without");
            fs::write(&hide, WITHOUT)?;
            fs::set_permissions(&hide, Permissions::from_mode(0o755))?;
            bundle.before = vec![hide.into(), UNIFIED.into()];
        }
        Ok(bundle)
    }

    fn run(&self) -> Vec<OsString> {
        let mut words = self.begin();
        words.extend([
            "run".into(),
            "--bundle".into(),
            self.rootfs.directory().into(),
            self.id.clone().into(),
        ]);
        words
    }

    fn begin(&self) -> Vec<OsString> {
        let mut words = self.before.clone();
        let state = self.rootfs.directory().join("state");
        words.extend([self.program.clone().into(), "--root".into(), state.into()]);
        words
    }

    /// Ends what is left of a container whose runtime was killed.
    fn delete(&self) {
        self.delete_id(&self.id);
    }

    fn delete_id(&self, id: &str) {
        let mut words = self.begin();
        words.extend(["delete".into(), "--force".into(), id.into()]);
        rootfs::quietly(&words);
        // A runtime that was killed early has no record of its container, and `delete` does not find it.
        remove_everywhere(id);
    }

    /// Starts a container that goes on without its runtime, and writes to `stdout`. `number` is its own.
    pub fn start_detached(self: &Rc<Bundle>, number: u32, stdout: &PipeWriter) -> Result<Detached, String> {
        let id = format!("{}-{number}", self.id);
        let file = self.rootfs.directory().join(&id);
        let mut words = self.begin();
        words.extend(["run", "--detach", "--pid-file"].map(OsString::from));
        words.extend([
            file.clone().into(),
            "--bundle".into(),
            self.rootfs.directory().into(),
            id.clone().into(),
        ]);
        // Dropping this deletes the container, whether it has started or not.
        let mut detached = Detached { bundle: Rc::clone(self), id, pid: 0 };
        rootfs::call_into(&words, stdout)?;
        let pid = fs::read_to_string(&file).map_err(|error| error.to_string())?;
        detached.pid = pid.trim().parse().map_err(|_| "it wrote no process number")?;
        Ok(detached)
    }
}

/// A container that runs without its runtime, until it is dropped.
pub(in crate::bench) struct Detached {
    bundle: Rc<Bundle>,
    id: String,
    /// Its first process.
    pub pid: i32,
}

impl Drop for Detached {
    fn drop(&mut self) {
        self.bundle.delete_id(&self.id);
    }
}

/// config.json for a user and a group. Without root, a user namespace is needed.
fn config((uid, gid): (u32, u32), cgroup_namespace: bool) -> Value {
    let mut namespaces = vec!["pid", "network", "ipc", "uts", "mount"];
    if cgroup_namespace {
        namespaces.push("cgroup");
    }
    if uid != 0 {
        namespaces.push("user");
    }
    let namespaces: Vec<Value> = namespaces.into_iter().map(|kind| json!({ "type": kind })).collect();
    let mut linux = json!({ "namespaces": namespaces });
    if uid != 0 {
        linux["uidMappings"] = json!([{ "containerID": 0, "hostID": uid, "size": 1 }]);
        linux["gidMappings"] = json!([{ "containerID": 0, "hostID": gid, "size": 1 }]);
    }
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            "args": ["/payload"],
            "env": ["PATH=/"],
            "cwd": "/",
            "capabilities": {
                "bounding": [], "effective": [], "inheritable": [], "permitted": [], "ambient": []
            },
            "noNewPrivileges": true
        },
        "root": { "path": "rootfs", "readonly": true },
        "hostname": "matchstick",
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            {
                "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]
            }
        ],
        "linux": linux
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_not_root_becomes_root_in_a_user_namespace() {
        let text = config((1000, 100), false).to_string();
        assert!(text.contains(r#"{"type":"user"}"#) && !text.contains(r#"{"type":"cgroup"}"#), "{text}");
        assert!(text.contains(r#""uidMappings":[{"containerID":0,"hostID":1000,"size":1}]"#), "{text}");
        assert!(text.contains(r#""gidMappings":[{"containerID":0,"hostID":100,"size":1}]"#), "{text}");
        let text = config((0, 0), true).to_string();
        assert!(!text.contains("user\"}") && !text.contains("Mappings") && text.contains("cgroup"), "{text}");
    }
}
