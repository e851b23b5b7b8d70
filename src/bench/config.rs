//! A race as it is asked for, and which subjects take part in it.

use super::error::{Error, Result};
use super::schedule::Schedule;
use super::subject::Subject;

/// What is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct RaceConfig {
    /// The command line, as it stands in the report.
    pub command: String,
    /// Rounds, order and limits.
    pub schedule: Schedule,
    /// `hello`, `primes` or the path of a program.
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

impl RaceConfig {
    /// Those of `all` that take part.
    pub(super) fn choose(&self, all: Vec<Box<dyn Subject>>) -> Result<Vec<Box<dyn Subject>>> {
        self.choose_by(all, |subject| subject.name())
    }

    /// The same with anything that has a name.
    pub(super) fn choose_by<T>(&self, all: Vec<T>, name: impl Fn(&T) -> &str) -> Result<Vec<T>> {
        self.check_names(&all.iter().map(&name).collect::<Vec<_>>())?;
        let chosen: Vec<T> = all.into_iter().filter(|one| self.takes_part(name(one))).collect();
        if chosen.is_empty() { Err(Error::Request("no subject is left to race".into())) } else { Ok(chosen) }
    }

    fn takes_part(&self, name: &str) -> bool {
        let is_in = |list: &[String]| list.iter().any(|word| word == name);
        // Whoever gives a command wants it to take part.
        let is_with = self.with.iter().any(|(with, _)| with == name);
        (self.only.is_empty() || is_with || is_in(&self.only)) && !is_in(&self.skip)
    }

    /// Checks that every name is known, and that no two subjects have the same.
    fn check_names(&self, names: &[&str]) -> Result<()> {
        for word in self.only.iter().chain(&self.skip).chain(&self.reference) {
            if !names.contains(&word.as_str()) {
                return Err(Error::Request(format!(
                    "no such subject: {word}; there are {}",
                    names.join(", ")
                )));
            }
        }
        for (at, name) in names.iter().enumerate() {
            if names[..at].contains(name) {
                return Err(Error::Request(format!("two subjects are called {name}")));
            }
        }
        Ok(())
    }
}
