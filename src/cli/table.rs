//! What can be typed: all commands. The help is made from this list, in `help`.
//!
//! The man page and the completions in `docs/` are kept by hand; a test holds them against it.

#[cfg(feature = "race")]
use super::bench;
use super::option::CommandHelp;
#[cfg(feature = "trace")]
use super::trace;
use super::{clone, diff, exec, explain, guests, host, lab, oci, run, snapshot};
#[cfg(feature = "images")]
use super::{images, run_image};

/// All commands.
pub const COMMANDS: &[CommandHelp] = &[
    run::COMMAND,
    exec::COMMAND,
    oci::COMMAND,
    #[cfg(feature = "images")]
    run_image::COMMAND,
    #[cfg(feature = "images")]
    images::COMMAND,
    #[cfg(feature = "trace")]
    trace::COMMAND,
    snapshot::COMMAND,
    clone::COMMAND,
    diff::COMMAND,
    guests::COMMAND,
    host::COMMAND,
    #[cfg(feature = "race")]
    bench::COMMAND,
    explain::COMMAND,
    lab::COMMAND,
    CommandHelp {
        name: "help",
        arguments: "[COMMAND]",
        about: "explain a command",
        intro: "",
        options: &[],
        notes: "",
        hint: "`matchstick --help` shows what there is",
    },
];

/// The command of that name.
pub fn command(name: &str) -> Option<&'static CommandHelp> {
    COMMANDS.iter().find(|command| command.name == name)
}

/// What this program was built without, for want of cargo features.
pub const LEFT_OUT: &[&str] = &[
    #[cfg(not(feature = "race"))]
    "bench",
    #[cfg(not(feature = "trace"))]
    "trace",
    #[cfg(not(feature = "images"))]
    "run-image",
    #[cfg(not(feature = "images"))]
    "images",
    #[cfg(not(feature = "debugger"))]
    "trace --gdb",
];
