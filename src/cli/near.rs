//! What may have been meant by a word that nobody knows: complaints that say so.

use super::linux;
use super::table::COMMANDS;
use crate::explain::nearest;
use crate::guest::GALLERY;
use std::ffi::OsStr;

/// The complaint about a command that is none.
pub(super) fn no_command(word: &OsStr) -> String {
    let meant = meant(word, COMMANDS.iter().map(|command| command.name), "");
    format!("no such command: {}{meant}", word.display())
}

/// What was wrong with the arguments of `command`; of no command, those of the program itself.
pub(super) fn complaint(error: &lexopt::Error, command: &OsStr) -> String {
    let lexopt::Error::UnexpectedOption(option) = error else { return error.to_string() };
    let Some(word) = option.strip_prefix("--") else { return error.to_string() };
    let options = COMMANDS.iter().find(|known| command == known.name).map_or(&[][..], |known| known.options);
    let known = options.iter().map(|option| option.long);
    let own = if command.is_empty() { &["help", "version"][..] } else { &[] };
    format!("{error}{}", meant(OsStr::new(word), known.chain(own.iter().copied()), "--"))
}

/// The guest of the gallery that may have been meant by `word`, as the end of a complaint.
pub(super) fn guest(word: &OsStr) -> String {
    meant(word, GALLERY.iter().map(|guest| guest.name).chain([linux::NAME]), "")
}

/// `: is it run?`, or nothing. The name begins with `dashes`.
fn meant<'a>(word: &OsStr, known: impl Iterator<Item = &'a str>, dashes: &str) -> String {
    match nearest(&word.to_string_lossy(), known).first() {
        Some(name) => format!(": is it {dashes}{name}?"),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_hand_is_seen_and_a_strange_word_is_left_alone() {
        assert_eq!(no_command(OsStr::new("bnch")), "no such command: bnch: is it bench?");
        assert_eq!(no_command(OsStr::new("frobnicate")), "no such command: frobnicate");
        assert_eq!(
            (guest(OsStr::new("helo")), guest(OsStr::new("kernel.elf"))),
            (": is it hello?".into(), String::new())
        );
        let option = |name: &str, command| {
            complaint(&lexopt::Error::UnexpectedOption(name.into()), OsStr::new(command))
        };
        assert_eq!(option("--memroy", "run"), "invalid option '--memroy': is it --memory?");
        assert_eq!(option("--foo", "run"), "invalid option '--foo'");
        assert_eq!(option("--at", "run"), "invalid option '--at'");
        assert_eq!(option("--timings", "snapshot"), "invalid option '--timings'");
        assert_eq!(
            (option("-z", "run"), option("--versio", "")),
            ("invalid option '-z'".into(), "invalid option '--versio': is it --version?".into())
        );
    }
}
