//! `matchstick trace`: the same as `run`, and then the story of it.

use super::options::{OptionHelp, RUN_OPTIONS, RunArgs, option};
use super::run;
use crate::console;
use crate::error::{Error, Result};
use crate::trace::{Recording, Tracer, html, json, story};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The options of `trace`, beside those of `run`.
const OWN_OPTIONS: &[OptionHelp] = &[
    option(Some('o'), "output", Some("PATH"), "where the story goes, instead of stderr"),
    option(None, "json", None, "the story as JSON, one event a line; times in ns"),
    option(None, "chrome", Some("PATH"), "a file for Perfetto and chrome://tracing as well"),
    option(None, "html", Some("PATH"), "a page with a timeline to zoom as well"),
];

/// Its own options, and those of `run` but for --timings: a trace has the times already.
pub(super) const OPTIONS: [OptionHelp; OWN_OPTIONS.len() + RUN_OPTIONS.len() - 1] = {
    let mut all = [OWN_OPTIONS[0]; OWN_OPTIONS.len() + RUN_OPTIONS.len() - 1];
    let (mut from, mut to) = (0, 0);
    while from < OWN_OPTIONS.len() + RUN_OPTIONS.len() {
        let own = from < OWN_OPTIONS.len();
        let option = if own { OWN_OPTIONS[from] } else { RUN_OPTIONS[from - OWN_OPTIONS.len()] };
        if !matches!(option.long.as_bytes(), b"timings") {
            all[to] = option;
            to += 1;
        }
        from += 1;
    }
    all
};

/// What the help begins with.
pub(super) const INTRO: &str = "Start a guest as `matchstick run` does, and tell how it went: every call to KVM with its cost,\n\
     every exit with what the guest wanted, who answered, which instruction it was, and its time.";

/// What a user of `trace` has to know besides.
pub(super) const NOTES: &str = "
The guest's output goes to stdout, as with `run`; the story follows when the guest has ended.
Runs of alike exits are told once. Of very many events the first and the last are kept, and what
was dropped is said; the sums have everything. With several CPUs, CPU 0 is the one that is told of.
The exit status is that of `run`.
";

/// `trace` as it was typed, beside what it shares with `run`.
#[derive(Debug, Default, PartialEq)]
pub struct TraceArgs {
    /// `--output`
    pub output: Option<PathBuf>,
    /// `--json`
    pub json: bool,
    /// `--chrome`
    pub chrome: Option<PathBuf>,
    /// `--html`
    pub html: Option<PathBuf>,
}

/// A file that is open before the guest starts: what cannot be written is known at once.
struct Target<'a> {
    path: &'a Path,
    file: File,
}

impl Target<'_> {
    fn create(path: &Option<PathBuf>) -> Result<Option<Target<'_>>> {
        let Some(path) = path else { return Ok(None) };
        let file = File::create(path).map_err(|source| Error::Export { path: path.clone(), source })?;
        Ok(Some(Target { path, file }))
    }

    fn write(mut self, text: &str) -> Result<()> {
        let unwritable = |source| Error::Export { path: self.path.into(), source };
        self.file.write_all(text.as_bytes()).map_err(unwritable)
    }
}

/// Runs and traces a guest and returns the exit status.
pub fn run(run: &RunArgs, args: &TraceArgs) -> Result<u8> {
    let output = Target::create(&args.output)?;
    let chrome = Target::create(&args.chrome)?;
    let html = Target::create(&args.html)?;
    let mut tracer = Tracer::new();
    let (image, outcome) = run::start(run, &mut tracer)?;
    let recording = tracer.finish(&image.name);
    if let Some(chrome) = chrome {
        chrome.write(&json::chrome(&recording))?;
    }
    if let Some(html) = html {
        html.write(&html::page(&recording))?;
    }
    match output {
        Some(output) => output.write(&told(&recording, args.json))?,
        // Should nobody read it there, that is no reason to lose the guest's status.
        None if !run.quiet => drop(io::stderr().write_all(told(&recording, args.json).as_bytes())),
        None => {}
    }
    console::die_of_signal();
    Ok(run::conclude(&image, &outcome?, run))
}

fn told(recording: &Recording, as_json: bool) -> String {
    if as_json { json::lines(recording) } else { story::tell(recording) }
}
