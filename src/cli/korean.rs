//! What we say to people, in Korean, where the locale is a Korean one.
//!
//! The English text is the key: `korean.txt` has it with its translation below it. `{}` stands for what is filled in, in
//! both; in the translation `{1}` is the second of them. What is not in there stays as it is, as does the output of
//! `--json` and of guests. It is looked at where something is said, and never on the way of a start.

use super::terminal::{charset, locale, locale_language};
use std::borrow::Cow;
use std::error::Error;
use std::sync::OnceLock;

/// Pairs of lines, English and Korean, with empty lines between them; a line that begins with `#` is a remark.
const CATALOGUE: &str = include_str!("korean.txt");

/// All pairs of the catalogue.
fn pairs() -> impl Iterator<Item = (&'static str, &'static str)> {
    let mut lines = CATALOGUE.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    std::iter::from_fn(move || Some((lines.next()?, lines.next()?)))
}

/// Whether people are spoken to in Korean.
pub fn is_wanted() -> bool {
    static WANTED: OnceLock<bool> = OnceLock::new();
    let variable = |name: &'static str| std::env::var(name).ok().filter(|value| !value.is_empty());
    *WANTED.get_or_init(|| locale_language(variable) == "ko" && charset(&locale(variable)) == "UTF-8")
}

/// `text` in the language that is wanted.
pub fn say(text: &str) -> Cow<'_, str> {
    match is_wanted() {
        true => in_korean(text).map_or(Cow::Borrowed(text), Cow::Owned),
        false => Cow::Borrowed(text),
    }
}

/// An error and its causes in one line, in the language that is wanted.
pub fn say_error(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(|cause| say(&cause.to_string()).into_owned()).collect::<Vec<_>>().join(": ")
}

/// The translation of `text`, if there is one. What is filled in is translated, too, where it stands in the catalogue
/// as it is.
fn in_korean(text: &str) -> Option<String> {
    let key = text.replace('\n', "\\n");
    let fitting = pairs().filter_map(|(english, korean)| Some((english, korean, holes(english, &key)?)));
    // Of several that fit, the one with the least to fill in.
    let (_, korean, filled) = fitting.max_by_key(|(english, ..)| english.replace("{}", "").len())?;
    let filled: Vec<String> =
        filled.into_iter().map(|part| exactly(part).unwrap_or(part).to_owned()).collect();
    Some(fill(korean, &filled).replace("\\n", "\n"))
}

/// The translation of a text without places to fill in.
fn exactly(text: &str) -> Option<&'static str> {
    pairs().find(|(english, _)| *english == text).map(|(_, korean)| korean)
}

/// What stands in `text` where `pattern` has `{}`; `None` if the rest differs.
fn holes<'a>(pattern: &str, text: &'a str) -> Option<Vec<&'a str>> {
    let mut parts = pattern.split("{}");
    let mut rest = text.strip_prefix(parts.next()?)?;
    let mut filled = Vec::new();
    let mut parts = parts.peekable();
    while let Some(part) = parts.next() {
        // The last part has to be the end, and so does nothing at all.
        let at = match parts.peek() {
            None => rest
                .len()
                .checked_sub(part.len())
                .filter(|&at| rest.is_char_boundary(at) && rest[at..] == *part)?,
            Some(_) => rest.find(part)?,
        };
        filled.push(&rest[..at]);
        rest = &rest[at + part.len()..];
    }
    rest.is_empty().then_some(filled)
}

/// `pattern` with `{}` replaced by what comes next, and `{N}` by the one of that number, from 0.
fn fill(pattern: &str, filled: &[String]) -> String {
    let mut text = String::new();
    let mut parts = pattern.split('{');
    text += parts.next().unwrap_or("");
    let mut next = 0;
    for part in parts {
        let place = part.split_once('}').and_then(|(number, after)| {
            let number = if number.is_empty() { next } else { number.parse().ok()? };
            Some((filled.get(number)?, after))
        });
        match place {
            Some((value, after)) => {
                next += 1;
                text += value;
                text += after;
            }
            None => {
                text.push('{');
                text += part;
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn places_are_filled_in_by_order_or_by_number() {
        assert_eq!(holes("cannot open {}", "cannot open a b"), Some(vec!["a b"]));
        assert_eq!(holes("{} of {}", "1 of 2"), Some(vec!["1", "2"]));
        assert_eq!(holes("{} of {}.", "1 of 2"), None);
        assert_eq!(holes("same", "same"), Some(vec![]));
        assert_eq!(holes("same", "same, longer"), None);
        let filled = ["a".to_owned(), "b".to_owned()];
        assert_eq!(fill("{} {}", &filled), "a b");
        assert_eq!(fill("{1}, {0}: {x} {", &filled), "b, a: {x} {");
    }

    #[test]
    fn the_catalogue_is_pairs_that_fill_in_the_same_and_none_is_there_twice() {
        let mut seen = BTreeSet::new();
        for (english, korean) in pairs() {
            assert!(seen.insert(english), "twice: {english}");
            let places = |text: &str| text.matches('{').count();
            assert_eq!(places(english), places(korean), "{english}\n{korean}");
            let is_hangul = |c: char| ('가'..='힣').contains(&c);
            assert!(!english.contains(is_hangul), "the pairs are out of step at {english}");
            assert!(korean.contains(is_hangul), "{english}\n{korean}");
            assert_eq!(english.matches("\\n").count(), korean.matches("\\n").count(), "{english}");
        }
        assert!(seen.len() > 300, "{}", seen.len());
    }

    #[test]
    fn all_of_the_help_is_in_it() {
        for command in super::super::table::COMMANDS {
            let options = command.options.iter().map(|option| option.about);
            let own = [command.about, command.intro, command.notes, command.hint];
            for text in own.into_iter().chain(options).filter(|text| !text.is_empty()) {
                assert!(in_korean(text).is_some(), "{}: {}", command.name, text.replace('\n', "\\n"));
            }
        }
    }

    #[test]
    fn what_is_filled_in_may_be_english_as_well() {
        assert_eq!(in_korean("cannot open the door").as_deref(), Some("열 수 없습니다: the door"));
        assert_eq!(in_korean("cannot create a VM").as_deref(), Some("할 수 없습니다: VM 만들기"));
        assert_eq!(in_korean("nobody has translated this"), None);
    }
}
