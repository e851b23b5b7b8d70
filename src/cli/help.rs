//! The help, made from the [list of commands](super::table).

use super::korean::say;
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
    let mut text =
        say("matchstick: a minimal hypervisor. It starts a virtual machine in about a millisecond.")
            .into_owned();
    text += &format!("\n\n{}\n\n{}\n", say("Usage: matchstick COMMAND"), say("Commands:"));
    for command in COMMANDS {
        text += &format!("  {:<11}{}\n", command.name, say(command.about));
    }
    text += &format!("\n{}\n  -h, --help     {}\n", say("Options:"), say("show this"));
    text += &format!("  -V, --version  {}\n\n", say("show the version"));
    text + &say("Try `matchstick run hello`, then `matchstick help run`.") + "\n"
}

fn of_command(command: &CommandHelp) -> String {
    let usage = format!("Usage: matchstick {} {}", command.name, command.arguments);
    let mut text = format!("{}\n\n{}\n", say(command.intro), say(usage.trim_end()));
    if !command.options.is_empty() {
        text += &format!("\n{}\n", say("Options:"));
    }
    text.extend(command.options.iter().map(of_option));
    text + &say(command.notes)
}

fn of_option(option: &OptionHelp) -> String {
    let short = option.short.map_or("    ".into(), |short| format!("-{short}, "));
    let value = option.value.map_or(String::new(), |value| format!(" {value}"));
    let head = format!("{short}--{}{value}", option.long);
    format!("  {head:<22}  {}\n", say(option.about).replace('\n', &format!("\n{:26}", "")))
}
