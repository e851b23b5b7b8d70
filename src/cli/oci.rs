//! `matchstick oci`: an OCI runtime, and what it takes to make it known to those who call one.
//!
//! A call of a runtime is recognised before this program changes anything in its process ([`call`]).

use super::error::Result;
use super::option::{CommandHelp, Given, HELP, OptionHelp, Parsed, option};
use super::print::print_data;
use crate::oci::{self, Caller, is_call};
use crate::text::shown;
use lexopt::Parser;
use std::ffi::OsString;
use std::path::Path;

/// The command.
pub const COMMAND: CommandHelp = CommandHelp {
    name: "oci",
    arguments: "COMMAND [ARGS...]",
    about: "an OCI runtime: containers whose programs run in VMs",
    intro: "Be an OCI runtime, for podman, docker and containerd: each program of a container runs in a VM, by\n\
            `matchstick exec`, and the container around it is made by runc or crun. The same without the word oci, if\n\
            this program is called matchstick-runtime, by a link.",
    options: OPTIONS,
    notes: NOTES,
    hint: "`matchstick oci --help` shows what it takes",
};

const OPTIONS: &[OptionHelp] = &[
    option(None, "podman", None, "install: podman is to know this runtime"),
    option(None, "docker", None, "install: docker is to know it"),
    option(None, "containerd", None, "install: containerd, and so a node of Kubernetes"),
    option(None, "kubernetes", None, "install: print a RuntimeClass, and a pod of it"),
    option(None, "dry-run", None, "install: write nothing, print what would be written"),
    HELP,
];

const NOTES: &str = "
COMMAND is one of runc's, with its options: create, start, run, exec, state, kill, delete and so on. Another one is
install: it has podman, docker or containerd know this runtime, and checks that it works, by making a container.

Environment:
  MATCHSTICK_RUNTIME   the runtime that makes the containers [default: runc, or crun]

Annotations of a container:
  dev.matchstick.engine=program        how its programs run
  dev.matchstick.sandbox=strict|off    as --sandbox of `matchstick exec`

Exit status: that of the runtime; 1 if matchstick failed before.
";

/// The name of a link that makes this program an OCI runtime.
const LINK: &str = "matchstick-runtime";

/// `oci install` as it was typed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OciArgs {
    /// `--podman` and so on, in their order.
    pub callers: Vec<Caller>,
    /// `--dry-run`
    pub dry: bool,
}

/// The call of an OCI runtime in `args`, if they are one; else only the program's name is taken from them.
pub fn call(args: &mut Vec<OsString>) -> Option<Vec<OsString>> {
    if args.is_empty() {
        return None;
    }
    let name = args.remove(0);
    if args.first().is_some_and(|word| word == "oci") {
        return is_call(&args[1..]).then(|| args.split_off(1));
    }
    if Path::new(&name).file_name().is_some_and(|name| name == LINK) {
        // Whatever the runtime knows, also what we do not know.
        let is_help = args.iter().all(|arg| arg == "--help" || arg == "-h");
        if !is_help && args.first().is_some_and(|word| word != "install") {
            return Some(std::mem::take(args));
        }
        args.insert(0, "oci".into());
    }
    None
}

/// Reads what follows `oci`.
///
/// # Errors
/// Of what makes no sense.
pub fn parse(parser: &mut Parser) -> std::result::Result<Parsed<OciArgs>, lexopt::Error> {
    let mut args = OciArgs::default();
    let mut is_install = false;
    while let Some(given) = Given::next(parser, OPTIONS)? {
        match given {
            Given::Option("podman") => args.callers.push(Caller::Podman),
            Given::Option("docker") => args.callers.push(Caller::Docker),
            Given::Option("containerd") => args.callers.push(Caller::Containerd),
            Given::Option("kubernetes") => args.callers.push(Caller::Kubernetes),
            Given::Option("dry-run") => args.dry = true,
            Given::Option(_) => return Ok(Parsed::Help),
            Given::Word(word) if word == "install" && !is_install => is_install = true,
            other => return Err(other.unexpected()),
        }
    }
    match (is_install, args.callers.is_empty()) {
        (false, _) => Err("which command? `matchstick oci run ID` runs a bundle".into()),
        (true, true) => Err("for whom? --podman, --docker, --containerd or --kubernetes".into()),
        (true, false) => Ok(Parsed::Arguments(args)),
    }
}

/// Installs the runtime, or shows what that would be, and checks that it works.
///
/// # Errors
/// Something cannot be written, or a container does not run.
pub fn run(args: &OciArgs) -> Result<u8> {
    for caller in &args.callers {
        let (file, text) = caller.plan()?;
        if let Some(file) = file {
            let (link, own) = oci::planned_link()?;
            print_data(&format!("# {link}: a link to {}\n# {}\n", shown(own), shown(file)))?;
        }
        if args.dry || file.is_none() {
            print_data(&text)?;
        } else {
            caller.install()?;
        }
        print_data(&format!("# {}\n", caller.then()))?;
    }
    let runtime = oci::check()?;
    print_data(&format!("# a container whose program is a VM was made with {}, and runs\n", shown(runtime)))
}
