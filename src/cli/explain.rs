//! `matchstick explain`: a lesson in the terminal, with the figures of this machine.

use super::error::Result;
use super::korean::say;
use super::lesson;
use super::option::{CommandHelp, Given, HELP, OptionHelp, Parsed, option};
use super::print::{print_drawn, tell_beside};
use super::terminal::{BOLD, PLAIN, Terminal, columns, locale_language};
use crate::explain::figures::Figures;
use crate::explain::{LANGUAGES, Language, Lesson, live, markdown, nearest, words};
use lexopt::{Parser, ValueExt};

/// The command.
pub const COMMAND: CommandHelp = CommandHelp {
    name: "explain",
    arguments: "[OPTIONS] [TOPIC]",
    about: "a lesson, with the figures of this machine",
    intro: INTRO,
    options: OPTIONS,
    notes: "",
    hint: "`matchstick explain` lists the lessons",
};

const OPTIONS: &[OptionHelp] =
    &[option(Some('l'), "lang", Some("CODE"), "the lessons' language [default: by LANG]"), HELP];

/// What its help begins with.
const INTRO: &str = "Explain what a hypervisor is, what a container is, and how they differ, in lessons of a page or two. The\n\
     figures in them are measured while you wait, on this machine. Without a TOPIC, list the lessons.";

/// What is to be explained.
#[derive(Debug, PartialEq)]
pub struct Request {
    /// `--lang`; `None` goes by the locale.
    language: Option<&'static str>,
    /// The word for the lesson; `None` lists all lessons.
    topic: Option<&'static str>,
}

/// Reads what follows `explain`.
pub fn parse(parser: &mut Parser) -> std::result::Result<Parsed<Request>, lexopt::Error> {
    let mut request = Request { language: None, topic: None };
    while let Some(given) = Given::next(parser, OPTIONS)? {
        match given {
            Given::Option("lang") => request.language = Some(language(&parser.value()?.string()?)?),
            Given::Option(_) => return Ok(Parsed::Help),
            Given::Word(word) if request.topic.is_none() => request.topic = Some(topic(&word.string()?)?),
            other => return Err(other.unexpected()),
        }
    }
    Ok(Parsed::Arguments(request))
}

/// The code of a language there is, for an option.
pub(super) fn language(code: &str) -> std::result::Result<&'static str, String> {
    let found = Language::find(code).map(|language| language.code);
    let all: Vec<String> =
        LANGUAGES.iter().map(|language| format!("{} ({})", language.code, language.name)).collect();
    found.ok_or_else(|| format!("no lessons in {code:?}: there are {}", all.join(", ")))
}

fn topic(word: &str) -> std::result::Result<&'static str, String> {
    let topics = || LANGUAGES[0].lessons.iter().map(|lesson| lesson.topic);
    let found = topics().find(|&topic| topic == word).or_else(|| words::topic(word));
    found.ok_or_else(|| match nearest(word, topics()).as_slice() {
        [] => format!("no lesson on {word:?}"),
        names => format!("no lesson on {word:?}: is it {}?", names.join(" or ")),
    })
}

/// The lesson that was asked for, or the list of all.
pub fn run(request: &Request) -> Result<u8> {
    let terminal = Terminal::of_stdout();
    print_drawn(&text(request, &terminal))?;
    if request.topic.is_none() {
        let language = of_code_or_locale(request.language, &terminal);
        let others = LANGUAGES.iter().filter(|other| other.code != language.code);
        let others: Vec<String> =
            others.map(|other| format!("--lang {} ({})", other.code, other.name)).collect();
        let lines = format!(
            "\n`matchstick explain TOPIC` gives one of them, {} in another language;\n`matchstick lab` lists those with commands to run.\n",
            others.join(", ")
        );
        let terminal = for_terminal(&terminal, language);
        let text: String = say(&lines).lines().map(|line| terminal.finish(line) + "\n").collect();
        tell_beside(&text)?;
    }
    Ok(0)
}

/// The lesson that was asked for, or the list of all, on `terminal`.
fn text(request: &Request, terminal: &Terminal) -> String {
    let language = of_code_or_locale(request.language, terminal);
    let terminal = &for_terminal(terminal, language);
    let lines = match request.topic.and_then(|topic| language.lesson(topic)) {
        Some(lesson) => read(lesson, terminal),
        None => list(language.lessons, terminal),
    };
    lines.iter().map(|line| terminal.finish(line).trim_end().to_owned() + "\n").collect()
}

/// The language of that code, else the locale's, else English.
pub(super) fn of_code_or_locale(code: Option<&str>, terminal: &Terminal) -> &'static Language {
    let by_locale = || locale_language(|name| std::env::var(name).ok());
    let language = match code {
        Some(code) => Language::find(code),
        // A terminal that shows ASCII only gets the lessons in English.
        None => Language::find(&by_locale()).filter(|language| terminal.unicode || language.code == "en"),
    };
    language.unwrap_or(&LANGUAGES[0])
}

/// A language that is asked for by name is shown in its letters, whatever the locale says.
pub(super) fn for_terminal(terminal: &Terminal, language: &Language) -> Terminal {
    Terminal { unicode: terminal.unicode || language.code != "en", ..*terminal }
}

fn read(lesson: &Lesson, terminal: &Terminal) -> Vec<String> {
    let mut figures = Figures::of(live::names(lesson.text));
    let text = live::fill(lesson.text, |name| figures.value(name));
    lesson::draw(&markdown::parse(&text), terminal)
}

/// The topics, each with its title.
pub(super) fn list(lessons: &[Lesson], terminal: &Terminal) -> Vec<String> {
    let width = lessons.iter().map(|lesson| columns(lesson.topic)).max().unwrap_or(0);
    let line = |lesson: &Lesson| {
        let space = " ".repeat(width - columns(lesson.topic) + 2);
        terminal.hang(&format!("{BOLD}{}{PLAIN}{space}", lesson.topic), lesson.title())
    };
    lessons.iter().flat_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_locale_names_a_language() {
        let of =
            |value: &'static str| locale_language(move |name| (name == "LANG").then(|| value.to_owned()));
        for (locale, expected) in
            [("ko_KR.UTF-8", "ko"), ("en_GB", "en"), ("C", "C"), ("ko@x", "ko"), ("", "")]
        {
            assert_eq!(of(locale), expected);
        }
        let both = |name| Some(if name == "LC_ALL" { "" } else { "de_DE" }.to_owned());
        assert_eq!(locale_language(both), "de");
    }

    #[test]
    fn a_list_names_every_lesson() {
        let terminal = Terminal { width: 80, unicode: true, colour: false };
        let text = text(&Request { language: Some("en"), topic: None }, &terminal);
        assert_eq!(text.lines().count(), LANGUAGES[0].lessons.len());
    }
}
