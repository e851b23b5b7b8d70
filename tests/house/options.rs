//! One table of options: help, parser, man page and completions all follow it.

use crate::support::matchstick;
use matchstick::cli::{COMMANDS, OptionHelp};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The options of the program itself, beside those of its commands.
const GENERAL: [&str; 2] = ["help", "version"];

/// A value that an option takes.
fn example(option: &OptionHelp) -> Option<&'static str> {
    Some(match option.value? {
        "PATH" | "TEXT" | "PROGRAM" | "DIR" => "anything",
        "FILE" | "PAYLOAD" | "NAMES" | "NAME" => "anything",
        "NAME=COMMAND" => "name=command",
        "K=V" => "K=V",
        "N" | "CPU" => "2",
        "CODE" => "en",
        "ADDRESS" => "1234",
        "SIZE" => "64M",
        "PROTOCOL" => "elf",
        "TIME" => "1.5s",
        "WHAT" => "strict",
        "WHEN" => "ready",
        other => panic!("what is an example of {other}?"),
    })
}

#[test]
fn help_names_every_option_and_every_command() {
    let general = matchstick(["help"]).run().text();
    for command in COMMANDS {
        assert!(general.contains(&format!("\n  {} ", command.name)), "{} is not in\n{general}", command.name);
        let ended = matchstick(["help", command.name]).run();
        ended.silent().status(0);
        let help = ended.text();
        for option in command.options {
            let short = option.short.map_or("    ".into(), |short| format!("-{short}, "));
            let value = option.value.map_or(String::new(), |value| format!(" {value}"));
            let line = format!("  {short}--{}{value} ", option.long);
            assert!(help.lines().any(|help| help.starts_with(&line)), "{line:?} is not in\n{help}");
        }
    }
}

#[test]
fn the_parser_takes_every_option_in_every_spelling() {
    for command in COMMANDS {
        command.options.iter().for_each(|option| takes_every_spelling(command.name, option));
    }
}

#[track_caller]
fn takes_every_spelling(command: &str, option: &OptionHelp) {
    let long = format!("--{}", option.long);
    let mut spellings: Vec<Vec<String>> = Vec::new();
    match (option.short, example(option)) {
        (None, None) => spellings.push(vec![long]),
        (Some(short), None) => spellings.extend([vec![long], vec![format!("-{short}")]]),
        (short, Some(value)) => {
            spellings.push(vec![format!("{long}={value}")]);
            spellings.push(vec![long, value.into()]);
            if let Some(short) = short {
                spellings.push(vec![format!("-{short}"), value.into()]);
                spellings.push(vec![format!("-{short}{value}")]);
            }
        }
    }
    for spelling in spellings {
        // Asking for help at the end keeps it from starting anything.
        let ended = matchstick([command]).args(&spelling).args(["--help"]).run();
        ended.silent().status(0);
        // Without a value it is incomplete.
        if let ([word], Some(_)) = (spelling.as_slice(), option.value)
            && let Some((word, _)) = word.split_once('=')
        {
            matchstick([command, word]).run().fails(125, "missing argument", "");
        }
    }
}

#[test]
fn the_parser_takes_no_other_letter() {
    for command in COMMANDS.iter().filter(|command| !command.options.is_empty()) {
        for letter in ('a'..='z').chain('A'..='Z') {
            let known = command.options.iter().find(|option| option.short == Some(letter));
            // A word without a place could be a program, and what follows the program's.
            let value = known.and_then(example);
            let letter = format!("-{letter}");
            let ended = matchstick([command.name, &letter]).args(value).args(["--help"]).run();
            ended.status(if known.is_some() { 0 } else { 125 });
        }
    }
}

/// Every option of the program, without dashes.
fn all_options() -> BTreeSet<String> {
    let of_commands = COMMANDS.iter().flat_map(|command| command.options).map(|option| option.long);
    of_commands.chain(GENERAL).map(str::to_owned).collect()
}

fn document(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("docs/{name}: {error}"))
}

/// What follows each `mark` in `text`, as far as it is a word of small letters and dashes.
fn words_after(text: &str, mark: &str) -> BTreeSet<String> {
    let word =
        |rest: &str| -> String { rest.chars().take_while(|&c| c.is_ascii_lowercase() || c == '-').collect() };
    text.split(mark).skip(1).map(word).filter(|word| word.starts_with(|c: char| c != '-')).collect()
}

/// Asserts that a document has every command and every option, and no other option.
#[track_caller]
fn is_complete(text: &str, mark: &str) {
    assert_eq!(words_after(text, mark), all_options());
    for command in COMMANDS {
        let is_word = |word: &str| word == command.name;
        let mut words = text.split(|c: char| !c.is_ascii_alphanumeric());
        assert!(words.any(is_word), "the command {} is missing", command.name);
    }
}

#[test]
fn the_man_page_is_complete() {
    // roff writes a dash that is to stay one as \-.
    let text = document("matchstick.1").replace("\\-", "-");
    is_complete(&text, "--");
    let options = COMMANDS.iter().flat_map(|command| command.options);
    for short in options.filter_map(|option| option.short) {
        assert!(text.contains(&format!("-{short}")), "-{short} is missing");
    }
}

#[test]
fn the_completion_for_bash_is_complete() {
    is_complete(&document("completions/matchstick.bash"), "--");
}

#[test]
fn the_completion_for_zsh_is_complete() {
    is_complete(&document("completions/_matchstick"), "--");
}

#[test]
fn the_completion_for_fish_is_complete() {
    // complete -c matchstick -s k -l kernel; but set -l is a local variable
    let text = document("completions/matchstick.fish");
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("complete ")).collect();
    is_complete(&lines.join("\n"), " -l ");
}
