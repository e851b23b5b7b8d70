//! `matchstick oci`: an OCI runtime, and what it takes to make it known to those who call one.
//!
//! A call of a runtime is recognised before this program changes anything in its process ([`call`]).

use super::error::Result;
use super::option::{CommandHelp, Given, HELP, OptionHelp, Parsed};
use crate::oci::is_call;
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

const OPTIONS: &[OptionHelp] = &[HELP];

const NOTES: &str = "
COMMAND is one of runc's, with its options: create, start, run, exec, state, kill, delete and so on.

Environment:
  MATCHSTICK_RUNTIME   the runtime that makes the containers [default: runc, or crun]

Annotations of a container:
  dev.matchstick.engine=program        how its programs run
  dev.matchstick.sandbox=strict|off    as --sandbox of `matchstick exec`

Exit status: that of the runtime; 1 if matchstick failed before.
";

/// The name of a link that makes this program an OCI runtime.
const LINK: &str = "matchstick-runtime";

/// `oci` as it was typed, where it is no call of a runtime.
#[derive(Debug, Clone, PartialEq)]
pub struct OciArgs {}

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
    match Given::next(parser, OPTIONS)? {
        None => Err("which command? `matchstick oci run ID` runs a bundle".into()),
        Some(Given::Option(_)) => Ok(Parsed::Help),
        Some(other) => Err(other.unexpected()),
    }
}

/// Does it.
pub fn run(_: &OciArgs) -> Result<u8> {
    Ok(0)
}
