//! `matchstick guests`: the gallery, one line each.

use super::option::{CommandHelp, Given, HELP, OptionHelp, Parsed};
use crate::guest::GALLERY;
use crate::linux;
use lexopt::Parser;

/// The command.
pub const COMMAND: CommandHelp = CommandHelp {
    name: "guests",
    arguments: "",
    about: "list the gallery",
    intro: "List the guests of the gallery, one line each.",
    options: &[],
    notes: "",
    hint: "`matchstick guests` takes no options",
};

/// Its only option, which its help does not list.
const OPTIONS: &[OptionHelp] = &[HELP];

/// A line for each guest: its name, what it does, and what it needs. Linux is last: its kernel is not ours.
pub fn list() -> String {
    let width = GALLERY.iter().map(|guest| guest.name.len()).max().unwrap_or(0);
    let line = |guest: &crate::guest::Guest| {
        let needs = match guest.needs {
            [] => String::new(),
            needs => format!(" (needs {})", needs.join(", ")),
        };
        format!("{:<width$}  {}{needs}\n", guest.name, guest.about)
    };
    let linux =
        format!("{:<width$}  Linux, with a kernel of /boot; --init and --rootfs give it work\n", linux::NAME);
    GALLERY.iter().map(line).chain([linux]).collect()
}

/// Reads what follows `guests`: nothing.
pub fn parse(parser: &mut Parser) -> Result<Parsed<()>, lexopt::Error> {
    match Given::next(parser, OPTIONS)? {
        None => Ok(Parsed::Arguments(())),
        Some(Given::Option(_)) => Ok(Parsed::Help),
        Some(other) => Err(other.unexpected()),
    }
}
