//! What an option is, and what a command is: the words for the help, and the reading of arguments by them.
//!
//! Each command has a table of its options ([`OptionHelp`]). Its help is made from it, and its parser goes by it: an
//! option that is not in the table is not known. The syntax is lexopt's, that of GNU's getopt_long(3).

use lexopt::{Arg, Parser};
use std::ffi::OsString;

/// A command, for the help.
#[derive(Debug, PartialEq)]
pub struct CommandHelp {
    /// The word.
    pub name: &'static str,
    /// What follows it.
    pub arguments: &'static str,
    /// One line about it.
    pub about: &'static str,
    /// The same at length, for its own help.
    pub intro: &'static str,
    /// Its options.
    pub options: &'static [OptionHelp],
    /// What else a user has to know.
    pub notes: &'static str,
    /// Where to look after a mistake in its arguments.
    pub hint: &'static str,
}

/// An option, for the help.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OptionHelp {
    /// The letter, if it has one.
    pub short: Option<char>,
    /// The word.
    pub long: &'static str,
    /// What its value is, if it takes one.
    pub value: Option<&'static str>,
    /// What it does; a second line where one is not enough.
    pub about: &'static str,
}

/// An option in one line.
pub const fn option(
    short: Option<char>,
    long: &'static str,
    value: Option<&'static str>,
    about: &'static str,
) -> OptionHelp {
    OptionHelp { short, long, value, about }
}

/// The option that every command has.
pub const HELP: OptionHelp = option(Some('h'), "help", None, "show this");

/// The arguments of a command.
#[derive(Debug, PartialEq)]
pub enum Parsed<T> {
    /// What was typed.
    Arguments(T),
    /// `--help`: what was typed besides does not count.
    Help,
}

/// One thing that was typed.
#[derive(Debug, PartialEq)]
pub enum Given {
    /// An option, by its word. Its value, if it takes one, is the parser's next.
    Option(&'static str),
    /// A word without dashes.
    Word(OsString),
}

impl Given {
    /// The next thing that was typed, `None` at the end.
    ///
    /// # Errors
    /// It looks like an option, and is none of `options`.
    pub fn next(parser: &mut Parser, options: &'static [OptionHelp]) -> Result<Option<Given>, lexopt::Error> {
        let arg = match parser.next()? {
            None => return Ok(None),
            Some(Arg::Value(word)) => return Ok(Some(Given::Word(word))),
            Some(arg) => arg,
        };
        let is_it = |option: &&OptionHelp| match arg {
            Arg::Short(letter) => option.short == Some(letter),
            Arg::Long(name) => option.long == name,
            Arg::Value(_) => false,
        };
        match options.iter().find(is_it) {
            Some(option) => Ok(Some(Given::Option(option.long))),
            None => Err(arg.unexpected()),
        }
    }

    /// The complaint about it where it has no place.
    pub fn unexpected(self) -> lexopt::Error {
        match self {
            Given::Option(name) => lexopt::Error::UnexpectedOption(format!("--{name}")),
            Given::Word(word) => lexopt::Error::UnexpectedArgument(word),
        }
    }
}
