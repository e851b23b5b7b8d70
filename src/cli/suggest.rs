//! Complaints about a word that is not known, with a known one that is spelled much like it.

use super::option::OptionHelp;
use crate::explain::nearest;
use crate::guest::GALLERY;
use crate::linux;
use crate::text::shown;
use std::ffi::OsStr;

/// The complaint about a command that is not one of `commands`.
pub fn no_command<'a>(word: &OsStr, commands: impl Iterator<Item = &'a str>) -> String {
    format!("no such command: {}{}", shown(word), is_it(word, commands, ""))
}

/// What was wrong with the arguments of a command that has `options`.
pub fn complaint(error: &lexopt::Error, options: &[OptionHelp]) -> String {
    let lexopt::Error::UnexpectedOption(option) = error else { return error.to_string() };
    let Some(word) = option.strip_prefix("--") else { return error.to_string() };
    let known = options.iter().map(|option| option.long);
    format!("{error}{}", is_it(OsStr::new(word), known, "--"))
}

/// The guest of the gallery that may be meant by `word`, as the end of a complaint.
pub fn guest(word: &OsStr) -> String {
    is_it(word, GALLERY.iter().map(|guest| guest.name).chain([linux::NAME]), "")
}

/// `: is it run?`, or nothing. The name begins with `dashes`.
fn is_it<'a>(word: &OsStr, known: impl Iterator<Item = &'a str>, dashes: &str) -> String {
    match nearest(&word.to_string_lossy(), known).first() {
        Some(name) => format!(": is it {dashes}{name}?"),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::option::{HELP, option};
    use super::*;

    #[test]
    fn a_slip_of_the_hand_is_seen_and_a_strange_word_is_left_alone() {
        let command = |word: &str| no_command(OsStr::new(word), ["run", "bench"].into_iter());
        assert_eq!(command("bnch"), "no such command: bnch: is it bench?");
        assert_eq!(command("frobnicate"), "no such command: frobnicate");
        assert_eq!(
            (guest(OsStr::new("helo")), guest(OsStr::new("kernel.elf"))),
            (": is it hello?".into(), String::new())
        );
        let options = [option(Some('m'), "memory", Some("SIZE"), ""), HELP];
        let option = |name: &str| complaint(&lexopt::Error::UnexpectedOption(name.into()), &options);
        assert_eq!(option("--memroy"), "invalid option '--memroy': is it --memory?");
        assert_eq!(option("--foo"), "invalid option '--foo'");
        assert_eq!(option("-z"), "invalid option '-z'");
    }
}
