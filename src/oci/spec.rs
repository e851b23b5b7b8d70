//! What is changed in a container's config.json: its process becomes a VM.
//!
//! Our own file is mounted, to be read only, on a name in the container's /dev. That is a tmpfs of its own, so no image
//! can have put a link there that would lead elsewhere; where /dev is something else, the container is refused. Beside
//! that it gets a node for /dev/kvm, and the control group lets it be used.
//!
//! Sources: the OCI runtime specification, config.md and config-linux.md.

use super::document::Document;
use super::error::OciError;
use super::lookup::{self, Files};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

/// Where our own file is in the container.
pub const BINARY: &str = "/dev/matchstick";
/// /dev/kvm, by the kernel's admin-guide/devices.txt.
const KVM: (u32, u32) = (10, 232);

/// Annotations that say a container only holds a pod's namespaces.
const SANDBOX: [(&str, &str); 3] = [
    ("io.kubernetes.cri.container-type", "sandbox"),
    ("io.kubernetes.cri-o.ContainerType", "sandbox"),
    ("io.kubernetes.docker.type", "podsandbox"),
];

const ENGINE: &str = "dev.matchstick.engine";
const MEMORY: &str = "dev.matchstick.memory";
const CPUS: &str = "dev.matchstick.cpus";
const WALL: &str = "dev.matchstick.sandbox";

/// How a container's programs are run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Each in a VM, and these are options of `matchstick exec`.
    options: Vec<String>,
}

impl Settings {
    /// What the annotations of config.json ask for; `None` if its process is to be none in a VM.
    ///
    /// # Errors
    /// An annotation of ours means nothing, or asks for what is not there.
    pub fn of(config: &Value) -> Result<Option<Settings>, OciError> {
        let annotation = |name: &str| config.get("annotations")?.get(name)?.as_str();
        if SANDBOX.iter().any(|(name, value)| annotation(name) == Some(value)) {
            return Ok(None);
        }
        let wrong = |name, what: String| Err(OciError::Annotation { name, what });
        match annotation(ENGINE) {
            None | Some("program") => {}
            Some("linux") => {
                let why = "a container in a Linux guest is not there yet: leave it out, or say program";
                return wrong(ENGINE, why.into());
            }
            Some(other) => return wrong(ENGINE, format!("{other:?} is none: program is one")),
        }
        for (name, other) in [(MEMORY, "memory"), (CPUS, "processors")] {
            if annotation(name).is_some() {
                let why = format!(
                    "it is for a Linux guest; the container's own limit of {other} holds for a program"
                );
                return wrong(name, why);
            }
        }
        let mut options: Vec<String> = ["exec", "--contained"].map(str::to_owned).to_vec();
        match annotation(WALL) {
            None => {}
            Some(wall @ ("strict" | "off")) => options.extend(["--sandbox".into(), wall.into()]),
            Some(other) => return wrong(WALL, format!("{other:?} is none: strict and off are")),
        }
        options.push("--".into());
        Ok(Some(Settings { options }))
    }

    /// What a program's arguments begin with.
    pub fn prefix(&self) -> impl Iterator<Item = &str> {
        [BINARY].into_iter().chain(self.options.iter().map(String::as_str))
    }
}

/// Whether a container's config.json was changed by us.
pub fn is_ours(config: &Value) -> bool {
    mounts(config).iter().any(|(at, _)| at == Path::new(BINARY))
        && argument(&config["process"]).is_some_and(|name| name == BINARY)
}

fn argument(process: &Value) -> Option<&str> {
    process.get("args")?.get(0)?.as_str()
}

/// Where something is mounted, and what.
fn mounts(config: &Value) -> Vec<(PathBuf, &Value)> {
    let all = config.get("mounts").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let point = |mount: &Value| Some(lookup::clean(Path::new(mount.get("destination")?.as_str()?)));
    all.iter().filter_map(|mount| Some((point(mount)?, mount))).collect()
}

/// The member `name` of an object, which is made where there is none.
fn member<'a>(object: &'a mut Value, name: &str, empty: Value) -> Option<&'a mut Value> {
    let member = object.as_object_mut()?.entry(name).or_insert(Value::Null);
    if member.is_null() {
        *member = empty;
    }
    Some(member)
}

/// Has a process run in a VM.
///
/// # Errors
/// What it is to run is not said.
pub fn wrap(document: &mut Document, pointer: &str, settings: &Settings) -> Result<(), OciError> {
    let process = document.value.pointer_mut(pointer);
    let args = process.and_then(|process| process.get_mut("args")).and_then(Value::as_array_mut);
    match args {
        Some(args) if args.first().is_some_and(Value::is_string) => {
            args.splice(0..0, settings.prefix().map(Value::from));
            Ok(())
        }
        _ => Err(document.wrong("names no program: process.args is empty")),
    }
}

/// Why the program of a process is not found in a container.
pub fn missing(files: &Files<'_>, process: &Value) -> Option<OciError> {
    let name = argument(process)?;
    let directory = lookup::clean(Path::new(process.get("cwd").and_then(Value::as_str).unwrap_or("/")));
    let environment = process.get("env").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let path = environment.iter().rev().find_map(|entry| entry.as_str()?.strip_prefix("PATH="));
    let why = lookup::why_not(files, &directory, path.map(str::as_bytes), name.as_bytes())?;
    Some(OciError::Program { name: name.to_owned(), why })
}

/// Makes a container's process a VM. `own` is our own file, on this host.
///
/// # Errors
/// The configuration is wrong, or of a container that we cannot run.
pub fn change(
    document: &mut Document,
    settings: &Settings,
    bundle: &Path,
    own: &str,
) -> Result<(), OciError> {
    let root = document.value.get("root").and_then(|root| root.get("path")).and_then(Value::as_str);
    let Some(root) = root.map(|root| bundle.join(root)) else {
        return Err(document.wrong("has no root.path"));
    };
    if is_ours(&document.value) {
        // A bundle that is used again. We may lie elsewhere by now.
        let mounts = document.value["mounts"].as_array_mut().expect("is_ours has seen it");
        let ours = mounts.iter_mut().filter(|mount| mount["destination"] == BINARY);
        ours.for_each(|mount| mount["source"] = own.into());
        return Ok(());
    }
    check_dev(document, &root)?;
    let mounts = mounts(&document.value).into_iter().map(|(at, _)| at).collect();
    if let Some(error) = missing(&Files { root: &root, mounts }, &document.value["process"]) {
        return Err(error);
    }
    wrap(document, "/process", settings)?;
    let mount = json!({
        "destination": BINARY, "type": "bind", "source": own, "options": ["bind", "ro", "nosuid", "nodev"],
    });
    let (major, minor) = KVM;
    let node = json!({
        "path": "/dev/kvm", "type": "c", "major": major, "minor": minor, "fileMode": 0o666, "uid": 0, "gid": 0,
    });
    let rule = json!({ "allow": true, "type": "c", "major": major, "minor": minor, "access": "rw" });
    let added = add(&mut document.value, mount, node, rule);
    added.ok_or_else(|| {
        document.wrong("has no list where one belongs: mounts, linux.devices, linux.resources.devices")
    })
}

fn add(config: &mut Value, mount: Value, node: Value, rule: Value) -> Option<()> {
    member(config, "mounts", json!([]))?.as_array_mut()?.push(mount);
    let linux = member(config, "linux", Value::Object(Map::new()))?;
    let nodes = member(linux, "devices", json!([]))?.as_array_mut()?;
    // One that is there has the host's rights, and the user may be another one.
    nodes.retain(|other| other.get("path") != node.get("path"));
    nodes.push(node);
    let resources = member(linux, "resources", Value::Object(Map::new()))?;
    member(resources, "devices", json!([]))?.as_array_mut()?.push(rule);
    Some(())
}

/// That /dev is the container's own, and that nobody wants our place in it.
fn check_dev(document: &Document, root: &Path) -> Result<(), OciError> {
    let dev = Path::new("/dev");
    let mounts = mounts(&document.value);
    let last = mounts.iter().rev().find(|(at, _)| dev.starts_with(at));
    if !last.is_some_and(|(at, mount)| at == dev && mount.get("type").is_some_and(|kind| kind == "tmpfs")) {
        return Err(document.wrong("has no tmpfs on /dev, where the VM's program and /dev/kvm belong"));
    }
    if mounts.iter().any(|(at, _)| at.starts_with(BINARY)) {
        return Err(document.wrong(format!("has something on {BINARY}, which is our place")));
    }
    if root.join("dev").symlink_metadata().is_ok_and(|dev| !dev.is_dir()) {
        return Err(document.wrong("is of an image whose /dev is no directory"));
    }
    Ok(())
}
