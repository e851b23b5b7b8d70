//! `matchstick lab`: a lesson whose commands are run while one reads, on this machine.
//!
//! What is run stands in the lab's page, and is shown before it is run; here is only how.

use super::error::{Error, Result};
use super::explain::{for_terminal, list, of_code_or_locale};
use super::lesson;
use super::option::{CommandHelp, Given, HELP, OptionHelp, Parsed, option};
use super::print::print_drawn;
use super::terminal::{CODE, PLAIN, Terminal};
use crate::explain::lab::{Part, needs, parts, script, within};
use crate::explain::{LANGUAGES, Lesson, live, markdown, nearest};
use crate::sys;
use crate::text::plain;
use lexopt::{Parser, ValueExt};
use std::io::{self, BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicI32, Ordering};

/// The command.
pub const COMMAND: CommandHelp = CommandHelp {
    name: "lab",
    arguments: "[OPTIONS] [NAME]",
    about: "a lesson whose commands are run as you read",
    intro: INTRO,
    options: OPTIONS,
    notes: "",
    hint: "`matchstick lab` lists the labs",
};

const OPTIONS: &[OptionHelp] = &[
    option(Some('n'), "dry-run", None, "show the text and the commands, run nothing"),
    option(Some('l'), "lang", Some("CODE"), "the labs' language [default: by LANG]"),
    HELP,
];

/// What its help begins with.
const INTRO: &str = "Show how containers and images are made, by making them: a lab is a page of text with commands, which\n\
     are run while you read, in a directory of its own, and most of them as root. What they make is\n\
     removed at the end, and after Ctrl-C. Without a NAME, list the labs.";

/// `lab` as it was typed.
#[derive(Debug, PartialEq)]
pub struct LabArgs {
    /// `--lang`; `None` goes by the locale.
    language: Option<&'static str>,
    /// `--dry-run`
    dry: bool,
    /// Which lab; `None` lists all.
    name: Option<&'static str>,
}

/// Reads what follows `lab`.
pub fn parse(parser: &mut Parser) -> std::result::Result<Parsed<LabArgs>, lexopt::Error> {
    let mut args = LabArgs { language: None, dry: false, name: None };
    while let Some(given) = Given::next(parser, OPTIONS)? {
        match given {
            Given::Option("lang") => {
                args.language = Some(super::explain::language(&parser.value()?.string()?)?);
            }
            Given::Option("dry-run") => args.dry = true,
            Given::Option(_) => return Ok(Parsed::Help),
            Given::Word(word) if args.name.is_none() => args.name = Some(lab(&word.string()?)?),
            other => return Err(other.unexpected()),
        }
    }
    Ok(Parsed::Arguments(args))
}

fn lab(word: &str) -> std::result::Result<&'static str, String> {
    let names = || LANGUAGES[0].labs.iter().map(|lab| lab.topic);
    names().find(|&name| name == word).ok_or_else(|| match nearest(word, names()).as_slice() {
        [] => format!("no lab is called {word:?}"),
        found => format!("no lab is called {word:?}: is it {}?", found.join(" or ")),
    })
}

/// Carries it out.
pub fn run(args: &LabArgs) -> Result<u8> {
    let terminal = Terminal::of_stdout();
    let language = of_code_or_locale(args.language, &terminal);
    let terminal = for_terminal(&terminal, language);
    match args.name.and_then(|name| language.labs.iter().find(|lab| lab.topic == name)) {
        None => show(&list(language.labs, &terminal), &terminal),
        Some(lab) if args.dry => dry(lab, &terminal),
        Some(lab) => live(lab, &terminal),
    }
}

fn show(lines: &[String], terminal: &Terminal) -> Result<u8> {
    let text: String = lines.iter().map(|line| terminal.finish(line).trim_end().to_owned() + "\n").collect();
    print_drawn(&text)
}

/// Shows a part: text as a lesson has it, commands behind a prompt.
fn show_part(part: &Part, terminal: &Terminal) -> Result<u8> {
    let mut lines = match part {
        Part::Text(text) => lesson::draw(&markdown::parse(&live::fill(text, |_| None)), terminal),
        Part::Commands(commands) => {
            let line =
                |(number, line)| format!("{CODE}{} {line}{PLAIN}", if number == 0 { "$" } else { " " });
            commands.lines().enumerate().map(line).collect()
        }
    };
    if matches!(part, Part::Text(_)) && !lines.is_empty() {
        lines.insert(0, String::new());
        lines.push(String::new());
    }
    show(&lines, terminal)
}

fn dry(lab: &Lesson, terminal: &Terminal) -> Result<u8> {
    for part in parts(lab) {
        show_part(&part, terminal)?;
    }
    Ok(0)
}

/// Shows the text, runs the commands, shows what they say.
fn live(lab: &Lesson, terminal: &Terminal) -> Result<u8> {
    check(lab)?;
    // A signal ends the shell, which puts everything back; then it ends us.
    sys::note_ending_signals(pass_on).map_err(Error::Shell)?;
    let mark = format!("matchstick-lab-{}-part", std::process::id());
    let words: Vec<&str> = within(lab).chain(["sh", "-c"]).collect();
    let (output, into) = io::pipe().map_err(Error::Shell)?;
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).arg(script(lab, &mark)).stdin(Stdio::null());
    command.env("MATCHSTICK", std::env::current_exe().map_err(Error::Shell)?).env("LC_ALL", "C.UTF-8");
    command.stdout(into.try_clone().map_err(Error::Shell)?).stderr(into);
    let mut shell = command.spawn().map_err(Error::Shell)?;
    SHELL.store(shell.id().cast_signed(), Ordering::SeqCst);
    // It holds the pipe's other end.
    drop(command);

    let mut shown = 0;
    let all = parts(lab);
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    let told = loop {
        line.clear();
        match output.read_until(b'\n', &mut line) {
            Ok(0) => break Ok(0),
            Ok(_) => {}
            Err(error) => break Err(Error::Shell(error)),
        }
        let text = String::from_utf8_lossy(&line);
        let said = match text.strip_prefix(&mark) {
            // The text before the block, and the block.
            Some(number) if !number.trim().is_empty() => {
                let upto = number.trim().parse::<usize>().map_or(all.len(), |number| 2 * number + 2);
                let new = all.iter().take(upto).skip(shown);
                shown = upto;
                new.map(|part| show_part(part, terminal)).collect::<Result<Vec<u8>>>().map(|_| 0)
            }
            Some(_) => all.iter().skip(shown).try_fold(0, |_, part| show_part(part, terminal)),
            None => print_drawn(&plain(&text)),
        };
        if said.is_err() {
            break said;
        }
    };
    // Without a reader the shell gets SIGPIPE, and ends as after a signal.
    drop(output);
    let status = shell.wait().map_err(Error::Shell)?;
    sys::die_if_noted();
    told?;
    if !status.success() {
        return Err(Error::Lab { step: shown / 2, status: status.code().unwrap_or(128) });
    }
    Ok(0)
}

/// The shell, or 0.
static SHELL: AtomicI32 = AtomicI32::new(0);

/// Sends a signal that asks us to end on to the shell.
fn pass_on(signal: i32) {
    match SHELL.load(Ordering::SeqCst) {
        0 => {}
        shell => sys::send_signal(shell, signal),
    }
}

/// What the lab needs is there.
fn check(lab: &Lesson) -> Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    for need in needs(lab) {
        let is_there = match need {
            "root" => sys::effective_user() == 0,
            program => std::env::split_paths(&path).any(|directory| directory.join(program).is_file()),
        };
        if !is_there {
            return Err(Error::LabNeeds { lab: lab.topic, what: need });
        }
    }
    Ok(())
}
