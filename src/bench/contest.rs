//! A whole race, from what was asked for to a [`Report`].
//!
//! It does not print: the progress goes to whoever asks for it, the report to the caller.

use super::card::Card;
use super::launcher::{Expect, find_program};
use super::payload::{Payload, Scratch};
use super::plan::{self, Plan, World};
use super::report::{Circumstances, Phase, Report};
use super::stop;
use super::subject::{Failure, Missing, Sample, Subject};
use super::subjects::command::Command;
use super::subjects::{self, vm};
use crate::error::{Error, Result};
use crate::sys;
use crate::timeline::Timeline;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// What is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Contest {
    /// Rounds, order and limits.
    pub plan: Plan,
    /// `hello`, `primes` or the path of a static program.
    pub payload: String,
    /// Only these take part; all if there are none.
    pub only: Vec<String>,
    /// These do not.
    pub skip: Vec<String>,
    /// Commands that take part as well, with their names.
    pub with: Vec<(String, String)>,
    /// The subject that ratios refer to.
    pub reference: Option<String>,
    /// The processor to bind everything to.
    pub pin: Option<u32>,
}

/// Hears how far a race is: the part that is over (0 to 1), and who is next.
pub type Progress<'a> = &'a mut dyn FnMut(f64, &str);

/// A race that only has to be run: everything that could be wrong with what was asked for is not.
pub struct Prepared {
    contest: Contest,
    payload: Payload,
    subjects: Vec<Box<dyn Subject>>,
    // Dropped last: the others use what is in it.
    _scratch: Scratch,
}

impl Contest {
    /// Checks what was asked for against what there is.
    pub fn prepare(self) -> Result<Prepared> {
        let host = |what| move |source| Error::Host { what, source };
        stop::catch()?;
        let scratch = Scratch::new().map_err(host("make a directory for the race"))?;
        let payload = Payload::new(&self.payload, &scratch)?;
        let with = self.with.iter().map(|(name, line)| with(name, line, &payload));
        let with = with.collect::<Result<Vec<Box<dyn Subject>>>>()?;
        let all: Vec<Box<dyn Subject>> = subjects::all(&payload).into_iter().chain(with).collect();
        let subjects = self.choose(all)?;
        if let Some(reference) = &self.reference
            && !subjects.iter().any(|subject| subject.name() == reference)
        {
            return Err(Error::Race(format!("the reference {reference} does not take part")));
        }
        if let Some(processor) = self.pin {
            sys::bind_to(processor).map_err(host("bind the race to that CPU"))?;
        }
        Ok(Prepared { contest: self, payload, subjects, _scratch: scratch })
    }

    /// Those of `all` that take part.
    pub(super) fn choose(&self, all: Vec<Box<dyn Subject>>) -> Result<Vec<Box<dyn Subject>>> {
        self.choose_by(all, |subject| subject.name())
    }

    /// The same with anything that has a name.
    pub(super) fn choose_by<T>(&self, all: Vec<T>, name: impl Fn(&T) -> &str) -> Result<Vec<T>> {
        self.check_names(&all.iter().map(&name).collect::<Vec<_>>())?;
        let chosen: Vec<T> = all.into_iter().filter(|one| self.takes_part(name(one))).collect();
        if chosen.is_empty() { Err(Error::Race("no subject is left to race".into())) } else { Ok(chosen) }
    }

    fn takes_part(&self, name: &str) -> bool {
        let is_in = |list: &[String]| list.iter().any(|word| word == name);
        // Who is named with a command is meant to take part.
        let is_with = self.with.iter().any(|(with, _)| with == name);
        (self.only.is_empty() || is_with || is_in(&self.only)) && !is_in(&self.skip)
    }

    /// Whether all names are known, and each is one subject's.
    fn check_names(&self, names: &[&str]) -> Result<()> {
        for word in self.only.iter().chain(&self.skip).chain(&self.reference) {
            if !names.contains(&word.as_str()) {
                return Err(Error::Race(format!("no such subject: {word}; there are {}", names.join(", "))));
            }
        }
        for (at, name) in names.iter().enumerate() {
            if names[..at].contains(name) {
                return Err(Error::Race(format!("two subjects are called {name}")));
            }
        }
        Ok(())
    }
}

/// The subject of `--with NAME='COMMAND'`.
fn with(name: &str, line: &str, payload: &Payload) -> Result<Box<dyn Subject>> {
    let words = words(line).ok_or_else(|| Error::Race(format!("a quote is left open in {line}")))?;
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
    Ok(Box::new(Command::new(name, about, payload, find).expecting(Expect::Something)))
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

/// A program that ends at once, started in each round as the others are: what it takes is the launcher's part.
struct Yardstick(Command);

impl Yardstick {
    fn new(payload: &Payload) -> Yardstick {
        let program = payload.empty.clone();
        let words = move || Ok(vec![program.clone().into()]);
        Yardstick(Command::new("launcher", "an empty program", payload, words).expecting(Expect::Nothing))
    }
}

impl Subject for Yardstick {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn about(&self) -> &str {
        self.0.about()
    }

    fn is_yardstick(&self) -> bool {
        true
    }

    fn ready(&mut self) -> std::result::Result<(), Missing> {
        self.0.ready()
    }

    fn run(&mut self, limit: Duration) -> std::result::Result<Sample, Failure> {
        self.0.run(limit)
    }
}

/// This machine, with its clock.
struct Machine<'a> {
    progress: Progress<'a>,
}

impl World for Machine<'_> {
    fn now(&self) -> Duration {
        sys::monotonic()
    }

    fn stopped(&self) -> bool {
        stop::asked()
    }

    fn progress(&mut self, part: f64, subject: &str) {
        (self.progress)(part, subject);
    }

    fn drop_caches(&mut self) -> std::result::Result<(), String> {
        // 1 is the page cache alone (Linux: Documentation/admin-guide/sysctl/vm.rst).
        let file = "/proc/sys/vm/drop_caches";
        std::fs::write(file, "1").map_err(|error| format!("{file}: {error} (it takes root)"))
    }
}

impl Prepared {
    /// Runs it.
    pub fn run(mut self, progress: Progress<'_>) -> Result<Report> {
        let machine = Card::gather();
        let plan = &self.contest.plan;
        self.subjects.push(Box::new(Yardstick::new(&self.payload)));
        let mut race = plan::race(&mut self.subjects, plan, &mut Machine { progress });
        self.subjects.pop();
        let launcher = race.records.pop().map_or(Vec::new(), |record| record.runs);
        let circumstances = Circumstances {
            machine,
            launcher,
            phases: self.phases(race.rounds),
            payload: self.contest.payload.clone(),
            pinned: self.contest.pin,
            reference: self.contest.reference.clone(),
        };
        Ok(Report::new(&self.subjects, &race, plan, circumstances))
    }

    /// The medians of a VM's phases, from some more starts in this process.
    fn phases(&self, rounds: u32) -> Vec<Phase> {
        if !self.subjects.iter().any(|subject| subject.name() == "vm-inproc") {
            return Vec::new();
        }
        let mut subject = vm::InProcess::new(&self.payload);
        if subject.ready().is_err() {
            return Vec::new();
        }
        let start = |_| {
            let begin = sys::monotonic();
            let mut timeline = Timeline::since(begin);
            subject.start(self.contest.plan.limit, &mut timeline).ok().filter(|_| !stop::asked())?;
            Some((timeline, sys::monotonic() - begin))
        };
        vm::medians((0..=rounds.min(50)).map_while(start).skip(1).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::plan::Length;

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

    fn contest() -> Contest {
        let plan = Plan {
            length: Length::Rounds(3),
            warmup: 1,
            seed: 1,
            limit: Duration::from_secs(20),
            cold: false,
        };
        Contest {
            plan,
            payload: "hello".into(),
            only: vec!["process".into()],
            skip: Vec::new(),
            with: Vec::new(),
            reference: None,
            pin: None,
        }
    }

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.into()).collect()
    }

    #[test]
    fn what_makes_no_sense_is_refused_before_anything_is_run() {
        for (contest, error) in [
            (
                Contest { only: strings(&["nonsense"]), ..contest() },
                "no such subject: nonsense; there are process,",
            ),
            (Contest { skip: strings(&["process"]), ..contest() }, "no subject is left"),
            (Contest { reference: Some("vm".into()), ..contest() }, "the reference vm does not take part"),
            (Contest { with: vec![("vm".into(), "true".into())], ..contest() }, "two subjects are called vm"),
            (Contest { with: vec![("a".into(), "'".into())], ..contest() }, "a quote is left open in '"),
        ] {
            let refused = contest.prepare().err().unwrap().to_string();
            assert!(refused.starts_with(error), "{refused}");
        }
    }

    #[test]
    fn a_race_has_figures_and_says_who_is_missing_and_who_failed() {
        let with =
            [("speaks", "/bin/echo hi"), ("is-mute", "/bin/true"), ("is-not", "nonsense-that-is-not 1")];
        let with = with.map(|(name, line)| (name.to_owned(), line.to_owned())).to_vec();
        let report = Contest { with, ..contest() }.prepare().unwrap().run(&mut |_, _| {}).unwrap();
        let names: Vec<&str> = report.results.iter().map(|entry| entry.command.as_str()).collect();
        assert_eq!(names, ["process", "speaks"]);
        assert!(report.results.iter().all(|entry| entry.times.len() == 3 && entry.exit_codes == [0; 3]));
        assert_eq!(report.entry("process").unwrap().ratios.unwrap().reaped.value, 1.0);
        assert_eq!(report.missing[0].missing.why, "there is no nonsense-that-is-not");
        assert_eq!((&*report.dropped[0].name, report.dropped[0].failures), ("is-mute", 3));
        assert_eq!(report.dropped[0].failure.why, "it printed nothing");
        assert!(report.launcher.is_some());
    }
}
