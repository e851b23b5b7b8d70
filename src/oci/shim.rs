//! A call, carried out: what is to be started is changed, and this process becomes runc or crun.

use super::call::Call;
use super::document::Document;
use super::error::OciError;
use super::log;
use super::lookup::Files;
use super::spec::{self, Settings};
use super::state::State;
use serde_json::{Value, json};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Names another runtime than the first of [`RUNTIMES`] that is found.
const VARIABLE: &str = "MATCHSTICK_RUNTIME";
const RUNTIMES: [&str; 2] = ["runc", "crun"];
/// Where they are looked for after PATH: daemons often have a short one.
const USUAL: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What cannot be done to a VM of ours: its memory is KVM's as well.
const NOT_SERVED: [&str; 2] = ["checkpoint", "restore"];

/// Carries out a call; `args` come without a program's name. Comes back only with an exit status, after a failure that
/// was reported.
pub fn become_runtime(args: Vec<OsString>) -> u8 {
    /// As every OCI runtime fails.
    const FAILED: u8 = 1;
    let (call, error) = match Call::read(&args) {
        Err(error) => (Call::default(), error),
        Ok(call) => {
            let error = hand_on(&call, args);
            (call, error)
        }
    };
    log::report(&call, &error);
    FAILED
}

/// Comes back only with an error.
fn hand_on(call: &Call, args: Vec<OsString>) -> OciError {
    let changed = find_runtime().and_then(|path| Ok((change(call, args, &path)?, path)));
    let (args, path) = match changed {
        Ok(changed) => changed,
        Err(error) => return error,
    };
    // It also sets SIGPIPE to its default, which comes ignored from conmon.
    let source = Command::new(&path).args(args).exec();
    OciError::Runtime { path, source }
}

/// The runtime that makes containers here.
///
/// # Errors
/// There is none.
pub fn find_runtime() -> Result<PathBuf, OciError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let find = |name: &OsStr| {
        if name.as_encoded_bytes().contains(&b'/') {
            return Some(PathBuf::from(name));
        }
        let places = std::env::split_paths(&path).chain(std::env::split_paths(USUAL));
        places.map(|place| place.join(name)).find(|path| path.is_file())
    };
    match std::env::var_os(VARIABLE).filter(|name| !name.is_empty()) {
        Some(name) => {
            let none = || io::Error::from(io::ErrorKind::NotFound);
            find(&name).ok_or_else(|| OciError::Runtime { path: name.into(), source: none() })
        }
        None => RUNTIMES.iter().find_map(|name| find(OsStr::new(name))).ok_or(OciError::NoRuntime),
    }
}

/// Changes what the call is about. Returns the arguments for the runtime.
fn change(call: &Call, args: Vec<OsString>, runtime: &Path) -> Result<Vec<OsString>, OciError> {
    match call.command.as_deref() {
        Some("create" | "run") => {
            let bundle = call.bundle.as_deref().unwrap_or(Path::new("."));
            let config = bundle.join(call.config.as_deref().unwrap_or(Path::new("config.json")));
            let mut document = Document::read(&config)?;
            if let Some(settings) = Settings::of(&document.value)? {
                spec::change(&mut document, &settings, bundle, &own_file()?)?;
                document.replace()?;
            }
            Ok(args)
        }
        Some("exec") => change_exec(call, args, runtime),
        Some(command) if NOT_SERVED.contains(&command) => {
            Err(OciError::NotServed { command: command.to_owned() })
        }
        _ => Ok(args),
    }
}

/// Another process for a container: a VM, if that is what the first one is.
fn change_exec(call: &Call, mut args: Vec<OsString>, runtime: &Path) -> Result<Vec<OsString>, OciError> {
    // The runtime has words of its own for a container that is not there.
    let Some(state) = State::of(call, &args, runtime) else { return Ok(args) };
    let config = state.config()?;
    if !spec::is_ours(&config) {
        return Ok(args);
    }
    let Some(settings) = Settings::of(&config)? else { return Ok(args) };
    let root = state.root();
    // All of its mounts are there by now.
    let files = root.as_deref().map(|root| Files { root, mounts: Vec::new() });
    match &call.process {
        Some(path) => {
            let mut document = Document::read(path)?;
            if let Some(error) = files.and_then(|files| spec::missing(&files, &document.value)) {
                return Err(error);
            }
            spec::wrap(&mut document, "", &settings)?;
            document.replace()?;
        }
        None => {
            let words = args.split_off(call.words.min(args.len()));
            let Some(name) = words.first() else { return Ok(args) };
            let process = process_of(call, name, &config);
            if let Some(error) = files.and_then(|files| spec::missing(&files, &process)) {
                return Err(error);
            }
            args.extend(settings.prefix().map(OsString::from).chain(words));
        }
    }
    Ok(args)
}

/// The process of an exec without a file: the container's own, as far as the options do not say otherwise.
fn process_of(call: &Call, name: &OsStr, config: &Value) -> Value {
    let own = &config["process"];
    let mut environment = own["env"].as_array().cloned().unwrap_or_default();
    environment.extend(call.path.as_ref().map(|path| format!("PATH={path}").into()));
    let directory = call.directory.clone().or(own["cwd"].as_str().map(str::to_owned));
    json!({ "args": [name.to_string_lossy()], "cwd": directory, "env": environment })
}

/// Our own file, on this host.
///
/// # Errors
/// It is not found, or its path is no text.
pub fn own_file() -> Result<String, OciError> {
    let path = std::env::current_exe().map_err(OciError::OwnFile)?;
    let path = path.into_os_string().into_string();
    path.map_err(|_| OciError::OwnFile(io::Error::other("its path is no text")))
}
