//! A call of an OCI runtime: global options, a command, its options, words.
//!
//! Callers write `--opt value` and `--opt=value`, runc's parser takes `-opt` as well. Only what we need is read; the rest
//! is handed on as it is. Sources: runc(8), crun(1), and what podman, conmon and containerd's shim were seen to write.

use super::error::OciError;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Global options that take a value.
const GLOBAL: &[&str] = &["root", "log", "log-format", "log-level", "criu", "rootless", "cgroup-manager"];
/// Options of create and run that take a value.
const CREATE: &[&str] =
    &["bundle", "b", "config", "f", "console-socket", "pidfd-socket", "pid-file", "preserve-fds"];
/// Options of exec that take a value.
#[rustfmt::skip]
const EXEC: &[&str] = &[
    "process", "p", "pid-file", "console-socket", "pidfd-socket", "cwd", "env", "e", "user", "u", "additional-gids",
    "g", "process-label", "apparmor", "cap", "c", "preserve-fds", "cgroup",
];
/// What an OCI runtime can be told to do.
#[rustfmt::skip]
const COMMANDS: &[&str] = &[
    "create", "start", "run", "exec", "state", "kill", "delete", "pause", "resume", "ps", "update", "events", "list",
    "spec", "features", "checkpoint", "restore", "init",
];

/// One call.
#[derive(Debug, Default, PartialEq)]
pub struct Call {
    /// `--root`: where the runtime keeps what it knows about its containers.
    pub root: Option<PathBuf>,
    /// `--log`: where errors go besides standard error.
    pub log: Option<PathBuf>,
    /// `--log-format`: `text` or `json`.
    pub is_json: bool,
    /// The command; none in `--version`.
    pub command: Option<String>,
    /// `--bundle`
    pub bundle: Option<PathBuf>,
    /// crun's `--config`
    pub config: Option<PathBuf>,
    /// exec's `--process`
    pub process: Option<PathBuf>,
    /// exec's `--cwd`
    pub directory: Option<String>,
    /// exec's `--env`, the last one that names PATH.
    pub path: Option<String>,
    /// The container.
    pub id: Option<OsString>,
    /// How many of the arguments are global options.
    pub globals: usize,
    /// Where the words after the container's name begin: exec's program.
    pub words: usize,
}

/// Whether these arguments, without a program's name, are a call, and not about the shim itself.
pub fn is_call(args: &[OsString]) -> bool {
    if let [only] = args
        && (only == "--version" || only == "-v")
    {
        return true;
    }
    Call::read(args).ok().and_then(|call| call.command).is_some_and(|name| COMMANDS.contains(&&*name))
}

impl Call {
    /// Reads the arguments, without a program's name.
    ///
    /// # Errors
    /// An option has no value.
    pub fn read(args: &[OsString]) -> Result<Call, OciError> {
        let mut call = Call::default();
        let mut at = 0;
        while let Some((name, value, next)) = option(args, at, GLOBAL)? {
            at = next;
            match name.as_str() {
                "root" => call.root = value.map(PathBuf::from),
                "log" => call.log = value.map(PathBuf::from),
                "log-format" => call.is_json = value.is_some_and(|format| format == "json"),
                _ => {}
            }
        }
        call.globals = at;
        let Some(command) = args.get(at) else { return Ok(call) };
        at += 1;
        let command = command.to_string_lossy().into_owned();
        let with_value = match command.as_str() {
            "exec" => EXEC,
            "create" | "run" => CREATE,
            _ => &[],
        };
        while let Some((name, value, next)) = option(args, at, with_value)? {
            at = next;
            let path = value.as_ref().map(PathBuf::from);
            match name.as_str() {
                "bundle" | "b" => call.bundle = path,
                "config" | "f" => call.config = path,
                "process" | "p" => call.process = path,
                "cwd" => call.directory = value.map(|value| value.to_string_lossy().into_owned()),
                "env" | "e" => {
                    let value = value.unwrap_or_default().to_string_lossy().into_owned();
                    call.path = value.strip_prefix("PATH=").map(str::to_owned).or(call.path);
                }
                _ => {}
            }
        }
        call.command = Some(command);
        call.id = args.get(at).cloned();
        call.words = at + 1;
        Ok(call)
    }
}

/// The option at `at`, without its dashes, its value if it is one of `with_value`, and where the next argument is; `None`
/// where options end.
fn option(
    args: &[OsString],
    at: usize,
    with_value: &[&str],
) -> Result<Option<(String, Option<OsString>, usize)>, OciError> {
    let Some(arg) = args.get(at) else { return Ok(None) };
    let bytes = arg.as_bytes();
    let Some(name) = bytes.strip_prefix(b"--").or(bytes.strip_prefix(b"-")) else { return Ok(None) };
    if name.is_empty() {
        return Ok(None);
    }
    let (name, value) = match name.iter().position(|&byte| byte == b'=') {
        Some(end) => (&name[..end], Some(OsStr::from_bytes(&name[end + 1..]).to_owned())),
        None => (name, None),
    };
    let name = String::from_utf8_lossy(name).into_owned();
    if value.is_some() || !with_value.contains(&&*name) {
        return Ok(Some((name, value, at + 1)));
    }
    match args.get(at + 1) {
        Some(value) => Ok(Some((name, Some(value.clone()), at + 2))),
        None => Err(OciError::NoValue { option: arg.clone() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Call {
        let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        Call::read(&args).unwrap()
    }

    #[test]
    fn what_podman_writes() {
        let call = read(
            "--root=/run/runc --log=/b/oci-log --log-format=json create --bundle /b --pid-file /b/pid --console-socket \
             /s abc",
        );
        assert_eq!((call.root.unwrap(), call.log.unwrap()), ("/run/runc".into(), "/b/oci-log".into()));
        assert!(call.is_json);
        assert_eq!((call.command.as_deref(), call.bundle), (Some("create"), Some("/b".into())));
        assert_eq!(call.id.unwrap(), "abc");
    }

    #[test]
    fn what_containerd_writes() {
        let call = read(
            "--root /r --log /b/log.json --log-format json --systemd-cgroup exec --process /tmp/p --detach --pid-file \
             /b/x.pid id",
        );
        assert_eq!((call.command.as_deref(), call.process), (Some("exec"), Some("/tmp/p".into())));
        assert_eq!(call.id.unwrap(), "id");
        assert_eq!(call.globals, 7);
    }

    #[test]
    fn what_people_write() {
        let call = read("exec -t -e A=b -e PATH=/x -u 1:2 id ls --bundle");
        assert_eq!((call.words, call.id.unwrap()), (9, "id".into()));
        assert_eq!(call.path.unwrap(), "/x");
        assert_eq!(call.bundle, None);
        assert_eq!(read("run -b=/x -d id").bundle.unwrap(), PathBuf::from("/x"));
        assert_eq!(read("run -bundle /x id").bundle.unwrap(), PathBuf::from("/x"));
        let args = ["create", "--bundle"].map(OsString::from);
        assert!(matches!(Call::read(&args), Err(OciError::NoValue { .. })));
    }

    #[test]
    fn a_call_has_a_command_of_a_runtime() {
        let is = |line: &str| is_call(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        assert!(
            is("--version") && is("-v") && is("--root /r state x") && is("create") && is("--debug kill x 15")
        );
        assert!(
            !is("install --podman") && !is("-v --help") && !is("--podman --help") && !is("") && !is("--root")
        );
    }
}
