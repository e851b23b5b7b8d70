//! What can be typed: all commands. The help is made from this list, in `help`.
//!
//! The man page and the completions in `docs/` are kept by hand; a test holds them against it.

use super::option::CommandHelp;
use super::{bench, clone, diff, explain, guests, host, run, snapshot, trace};

/// All commands.
pub const COMMANDS: &[CommandHelp] = &[
    run::COMMAND,
    trace::COMMAND,
    snapshot::COMMAND,
    clone::COMMAND,
    diff::COMMAND,
    guests::COMMAND,
    host::COMMAND,
    bench::COMMAND,
    explain::COMMAND,
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
