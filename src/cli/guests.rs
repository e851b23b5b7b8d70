//! `matchstick guests`: the gallery, one line each.

use super::linux;
use super::options::{Command, help_on};
use crate::guest::GALLERY;
use lexopt::{Arg, Parser};

/// Name, line, and what the guest needs beyond the ordinary; then Linux, whose kernel is not ours.
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

/// It takes no arguments.
pub(super) fn parse(parser: &mut Parser) -> Result<Command, lexopt::Error> {
    match parser.next()? {
        None => Ok(Command::Guests),
        Some(Arg::Short('h') | Arg::Long("help")) => Ok(help_on("guests")),
        Some(other) => Err(other.unexpected()),
    }
}
