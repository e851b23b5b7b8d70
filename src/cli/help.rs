//! The help, made from the [list of commands](super::table).

use super::option::{CommandHelp, OptionHelp};
use super::table::{COMMANDS, LEFT_OUT};

/// The help on one command, or on all of them.
pub fn text(command: Option<&CommandHelp>) -> String {
    match command {
        Some(command) => of_command(command),
        None => general(),
    }
}

/// The name, the version, and what it was built without.
pub fn version() -> String {
    let without = match LEFT_OUT {
        [] => String::new(),
        left_out => format!(", built without {}", left_out.join(", ")),
    };
    format!("matchstick {}{without}\n", env!("CARGO_PKG_VERSION"))
}

fn general() -> String {
    let mut text = String::from(
        "matchstick: a minimal hypervisor. It starts a virtual machine in about a millisecond.\n\n\
         Usage: matchstick COMMAND\n\nCommands:\n",
    );
    for command in COMMANDS {
        text += &format!("  {:<9}{}\n", command.name, command.about);
    }
    text + "\nOptions:\n  -h, --help     show this\n  -V, --version  show the version\n\n\
            Try `matchstick run hello`, then `matchstick help run`.\n"
}

fn of_command(command: &CommandHelp) -> String {
    let usage = format!("matchstick {} {}", command.name, command.arguments);
    let mut text = format!("{}\n\nUsage: {}\n", command.intro, usage.trim_end());
    if !command.options.is_empty() {
        text += "\nOptions:\n";
    }
    text.extend(command.options.iter().map(of_option));
    text + command.notes
}

fn of_option(option: &OptionHelp) -> String {
    let short = option.short.map_or("    ".into(), |short| format!("-{short}, "));
    let value = option.value.map_or(String::new(), |value| format!(" {value}"));
    let head = format!("{short}--{}{value}", option.long);
    format!("  {head:<22}  {}\n", option.about.replace('\n', &format!("\n{:26}", "")))
}
