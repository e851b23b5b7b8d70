//! The subject of `--with NAME='COMMAND'`: a command of the user's.

use super::command::Command;
use crate::bench::launcher::{Expect, find_program};
use crate::bench::payload::Payload;
use crate::bench::subject::{Kind, Missing, Subject};
use crate::bench::{Error, Result};
use std::ffi::OsString;
use std::path::PathBuf;

/// The subject called `name` that runs the command `line`.
pub fn with(name: &str, line: &str, payload: &Payload) -> Result<Box<dyn Subject>> {
    let words = words(line).ok_or_else(|| Error::Request(format!("a quote is left open in {line}")))?;
    let about = "a command of yours: it prints something and ends with status 0";
    let find = move || {
        let (program, arguments) = words
            .split_first()
            .ok_or_else(|| Missing::new("its command is empty", "--with NAME='COMMAND'"))?;
        let path = match program.contains('/') {
            true => Some(PathBuf::from(program)).filter(|path| path.exists()),
            false => find_program(program),
        };
        let path = path
            .ok_or_else(|| Missing::new(format!("there is no {program}"), "is it installed, and in PATH?"))?;
        Ok([path.into_os_string()].into_iter().chain(arguments.iter().map(OsString::from)).collect())
    };
    Ok(Box::new(Command::new(Kind::Custom, name, about, payload, find).expecting(Expect::Something)))
}

/// A line as a shell splits it, with quotes and backslashes, and without anything else a shell does: a shell around
/// a command would be part of what is measured. `None` if a quote is left open.
fn words(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match (letter, quote) {
            (c, Some(q)) if c == q => quote = None,
            ('\\', None | Some('"')) => word.get_or_insert_default().push(letters.next()?),
            ('\'' | '"', None) => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_split_as_a_shell_does_it() {
        for (line, expected) in [
            ("a  b c", vec!["a", "b", "c"]),
            ("a 'b c' \"d e\"f", vec!["a", "b c", "d ef"]),
            (r#"a\ b "\"" '\' ''"#, vec!["a b", "\"", "\\", ""]),
            ("", vec![]),
        ] {
            assert_eq!(words(line).unwrap(), expected, "{line}");
        }
        for open in ["a 'b", "a \"b", "a \\"] {
            assert_eq!(words(open), None, "{open}");
        }
    }
}
