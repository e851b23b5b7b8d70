//! One table of options: help, parser, man page and completions all follow it.

use crate::support::{self, matchstick};
use matchstick::cli::{COMMANDS, OptionHelp};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The options of the program itself, beside those of its commands.
const GENERAL: [&str; 2] = ["help", "version"];

/// A value that an option takes.
fn example(option: &OptionHelp) -> Option<&'static str> {
    Some(match option.value? {
        "PATH" | "TEXT" | "PROGRAM" | "DIR" | "USER" => "anything",
        "FILE" | "PAYLOAD" | "NAMES" | "NAME" => "anything",
        "FILE[,ro]" => "disk.img,ro",
        "NAME=COMMAND" => "name=command",
        "K=V" => "K=V",
        "N" | "CPU" => "2",
        "FD" => "7",
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
        let mut words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
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

/// The rows of the table of exit statuses: status and meaning, without markup.
fn statuses(text: &str) -> Vec<(String, String)> {
    let plain = |text: &str| {
        let text = text.replace("\\fB", "").replace("\\fI", "").replace("\\fR", "").replace("\\-", "-");
        text.replace("\\(en", "…").replace(['`', '*'], "").replace('\n', " ").trim().to_owned()
    };
    let rows = text.split_once('|').map(|(a, b)| (plain(a), plain(b)));
    rows.into_iter().collect()
}

/// A paragraph of rows, one for each status.
fn table(rows: impl Iterator<Item = String>) -> Vec<(String, String)> {
    rows.flat_map(|row| statuses(&row)).collect()
}

#[test]
fn tour_and_man_page_agree_on_the_exit_statuses() {
    let readme = |name: &str, heading: &str| {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap();
        let rows = text.lines().skip_while(|line| *line != heading).skip(2);
        let rows = rows.take_while(|line| line.starts_with('|'));
        table(rows.map(|row| row.trim_matches(['|', ' ']).to_owned()))
    };
    let english = readme("docs/tour.md", "| status | meaning |");
    let korean = readme("docs/ko/tour.md", "| 상태 | 뜻 |");
    let man = document("matchstick.1");
    let rows = man.split_once("status|meaning\n").unwrap().1.split_once("\n.TE").unwrap().0;
    // A row of several lines is between T{ and T}.
    let rows = rows.replace("T{\n", "T{").replace("\nT}", "T}");
    let man = table(rows.lines().map(|row| row.replace("T{", "").replace("T}", "")));
    let numbers = |rows: &[(String, String)]| rows.iter().map(|row| row.0.clone()).collect::<Vec<_>>();
    assert!(english.len() > 10, "{english:?}");
    assert_eq!(numbers(&english), numbers(&man));
    assert_eq!(numbers(&english), numbers(&korean));
    for ((status, short), (_, long)) in english.iter().zip(&man) {
        assert!(long.starts_with(short), "{status}: the tour says {short:?}, the man page {long:?}");
    }
    // Those that are ours are the ones that a command ends with, and help tells of them, too.
    let code = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli/status.rs")).unwrap();
    let ours = code.lines().filter_map(|line| line.strip_prefix("pub const ")?.split_once("= "));
    let ours: Vec<&str> = ours.map(|(_, number)| number.trim_end_matches(';')).collect();
    let help = matchstick(["help", "run"]).run().text();
    for number in &ours {
        let is_signal = *number > "128";
        assert!(is_signal || numbers(&english).iter().any(|status| status == number), "{number}");
        assert!(is_signal || help.contains(&format!("{number}  ")), "{number} is not in help run");
    }
    assert!(ours.len() > 8, "{ours:?}");
}

/// Its name, and what it makes of a word.
type Shell<'a> = (&'a str, &'a dyn Fn(&str) -> String);

#[test]
fn a_list_of_subjects_goes_on_after_a_comma_in_bash_and_fish() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/completions");
    let bash = |word: &str| {
        let script = format!(
            "source {}/matchstick.bash; COMP_WORDS=(matchstick bench --only {word}); COMP_CWORD=3
             _matchstick matchstick; echo ${{COMPREPLY[*]}}",
            directory.display()
        );
        support::Program::new("bash").args(["--norc", "-c", &script]).run().silent().text()
    };
    let fish = |word: &str| {
        let file = directory.join("matchstick.fish");
        let script = format!("source {}; complete -C 'matchstick bench --only {word}'", file.display());
        let text = support::Program::new("fish").args(["-N", "-c", &script]).run().text();
        text.lines().map(|line| line.split('\t').next().unwrap().to_owned() + " ").collect::<String>()
    };
    let mut shells: Vec<Shell> = vec![("bash", &bash)];
    match support::runs(&["fish", "-N", "-c", "true"]) {
        true => shells.push(("fish", &fish)),
        false => support::skip("there is no fish"),
    }
    for (shell, complete) in shells {
        for (word, whole) in [("pro", "process"), ("vm,ru", "vm,runc"), ("vm,runc,cr", "vm,runc,crun")] {
            assert_eq!(complete(word).trim(), whole, "{shell}, {word}");
        }
        let more = complete("process,");
        assert!(more.contains("process,vm ") && more.contains("process,runc "), "{shell}: {more}");
    }
}

#[test]
fn zsh_completes_a_payload_without_complaint() {
    if !support::runs(&["zsh", "-f", "-c", "true"]) {
        return support::skip("there is no zsh");
    }
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/completions");
    for (typed, whole) in [
        ("matchstick bench --payload hel", "--payload hello"),
        ("matchstick bench --payload=hel", "--payload=hello"),
        ("matchstick bench --only vm,ru", "--only vm,runc"),
    ] {
        let mut terminal = support::terminal::Terminal::new();
        let running =
            support::Program::new("zsh").args(["-f", "-i"]).env("TERM", "dumb").on(&terminal).start();
        let setup = format!(
            "fpath=({} $fpath); autoload -U compinit; compinit -D -u; PS1='rea''dy> '\n",
            directory.display()
        );
        terminal.press(setup.as_bytes());
        terminal.screen.wait_for("ready>");
        terminal.press(format!("{typed}\t").as_bytes());
        terminal.screen.wait_for(whole);
        let shown = String::from_utf8_lossy(&terminal.screen.so_far()).into_owned();
        assert!(!shown.contains("(eval)") && !shown.contains("not found"), "{shown}");
        running.signal(libc::SIGKILL);
        running.end();
    }
}
