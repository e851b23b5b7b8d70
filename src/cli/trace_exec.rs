//! `matchstick trace exec`: runs a Linux program as `exec` does, and tells its system calls while it makes them.
//!
//! This process is cut in two: the child becomes the program, and the parent stays outside of all walls, reads what the
//! child and the child's children say of themselves, and ends as the child has ended.

use super::error::Result;
use super::exec::{self, ExecArgs};
use super::option::{CommandHelp, Given, OptionHelp, Parsed};
use super::output_file::OutputFile;
use super::print::{print_beside, tell_beside};
use super::trace::TraceArgs;
use crate::error::{self, Error, Step};
use crate::sys;
use crate::sys::program::{Forked, duplicate_above, fork, lowest_of_ours, wait_for};
use crate::text::{plain, plain_json, shown};
use crate::trace::program::{Story, Watcher};
use lexopt::Parser;
use std::fs::File;
use std::io::{PipeReader, Read, pipe};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::{AtomicI32, Ordering};

/// Its help; the word `exec` follows `trace`.
pub const COMMAND: CommandHelp = CommandHelp {
    name: "trace exec",
    arguments: "[OPTIONS] PROGRAM [ARGS...]",
    about: "run a Linux program, and tell its system calls",
    intro: "Run a Linux program as `matchstick exec` does, and tell every system call: its arguments in words, its\n\
            result, and what it took: in the VM before, in this process's checks, in the host's kernel.",
    options: OPTIONS,
    notes: NOTES,
    hint: "`matchstick trace exec --help` shows all options",
};

/// Those of `trace` that make sense here.
const OF_TRACE: [&str; 4] = ["output", "json", "chrome", "html"];

/// Options of `exec` that tell of something else: --timings and --gdb.
const NOT_HERE: usize = if cfg!(feature = "debugger") { 2 } else { 1 };

const OPTIONS: &[OptionHelp] = &{
    let (trace, exec) = (super::trace::COMMAND.options, exec::COMMAND.options);
    let mut all = [exec[0]; OF_TRACE.len() + exec::COMMAND.options.len() - NOT_HERE];
    let (mut at, mut from) = (0, 0);
    while at < OF_TRACE.len() {
        all[at] = trace[at];
        at += 1;
    }
    while from < exec.len() {
        if !is(exec[from].long, "timings") && !is(exec[from].long, "gdb") {
            all[at] = exec[from];
            at += 1;
        }
        from += 1;
    }
    all
};

/// Whether two words are the same, for a constant.
const fn is(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let mut at = 0;
    while at < one.len() && at < other.len() {
        if one[at] != other[at] {
            return false;
        }
        at += 1;
    }
    one.len() == other.len()
}

const NOTES: &str = "
The lines go to stderr, or to the file of -o, while the program runs; sums follow at its end.
All processes and threads of the program are told of. Times are in µs. The exit status is that of
`exec`.
";

/// Reads what follows `trace exec`.
pub fn parse(parser: &mut Parser) -> std::result::Result<Parsed<(ExecArgs, TraceArgs)>, lexopt::Error> {
    let (mut exec_args, mut args) = (ExecArgs::default(), TraceArgs::default());
    while let Some(given) = Given::next(parser, OPTIONS)? {
        match given {
            Given::Option(name) if OF_TRACE.contains(&name) => args.take(name, parser)?,
            Given::Option("help") => return Ok(Parsed::Help),
            Given::Option(name) => exec_args.take(name, parser)?,
            Given::Word(program) => {
                exec_args.words.push(program);
                exec_args.words.extend(parser.raw_args()?);
                return Ok(Parsed::Arguments((exec_args, args)));
            }
        }
    }
    Err("which program? `matchstick trace exec PROGRAM` traces one".into())
}

/// Runs and traces a program, and returns its exit status.
pub fn run(exec_args: ExecArgs, args: &TraceArgs) -> Result<u8> {
    let os = |source| Error::Host { step: Step::StartProcess, source };
    let name = shown(exec_args.words.first().cloned().unwrap_or_default());
    let (reader, writer) = pipe().map_err(os)?;
    let (mut may_go, go) = pipe().map_err(os)?;
    let start = sys::monotonic();
    match fork().map_err(os)? {
        Forked::Child => {
            drop((reader, go));
            // The parent opens its files first: then what cannot be written is known before anything runs.
            if may_go.read(&mut [0]).map_err(os)? == 0 {
                sys::program::end_process(super::status::FAILURE.into());
            }
            drop(may_go);
            let lowest = lowest_of_ours().map_err(os)?;
            let own = File::from(duplicate_above(writer.as_fd(), lowest).map_err(os)?);
            drop(writer);
            let watcher = Box::new(Watcher::new(own, start));
            match exec::load(exec_args, &mut (), Some(watcher))?.run()? {}
        }
        Forked::Parent(child) => {
            drop((writer, may_go));
            let told = Teller::open(&name, args).and_then(|mut teller| {
                sys::write_all(&go, b"!").map_err(os)?;
                tell(&mut teller, reader, child)?;
                Ok(teller)
            });
            // Where nothing came of it, it is told by this that it is not to go.
            drop(go);
            let status = wait_for(child).map_err(os)?;
            CHILD.store(0, Ordering::SeqCst);
            told?.finish(child, status.signal())?;
            match status.signal() {
                Some(signal) => sys::die_of(signal),
                None => Ok(status.code().unwrap_or_default() as u8),
            }
        }
    }
}

/// The child's process number, or 0.
static CHILD: AtomicI32 = AtomicI32::new(0);

/// What is meant for the program, and comes to us.
fn pass_on(signal: i32) {
    match (signal, CHILD.load(Ordering::SeqCst)) {
        // A terminal sends these to both.
        (libc::SIGINT | libc::SIGQUIT, _) | (_, 0) => {}
        (signal, child) => sys::send_signal(child, signal),
    }
}

/// Tells what comes until nobody is left who could say anything.
fn tell(teller: &mut Teller, mut reader: PipeReader, child: i32) -> error::Result<()> {
    let os = |source| Error::Host { step: Step::StartProcess, source };
    CHILD.store(child, Ordering::SeqCst);
    sys::note_ending_signals(pass_on).map_err(os)?;
    let mut bytes = vec![0; 64 << 10];
    loop {
        match reader.read(&mut bytes) {
            Ok(0) => return Ok(()),
            Ok(count) => teller.hear(&bytes[..count])?,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(os(error)),
        }
    }
}

/// Where the trace goes.
struct Teller {
    story: Story,
    is_json: bool,
    has_begun: bool,
    output: Option<OutputFile>,
    chrome: Option<OutputFile>,
    html: Option<OutputFile>,
}

impl Teller {
    fn open(name: &str, args: &TraceArgs) -> error::Result<Teller> {
        let open = |path: &Option<std::path::PathBuf>| path.clone().map(OutputFile::open).transpose();
        let (output, chrome, html) = (open(&args.output)?, open(&args.chrome)?, open(&args.html)?);
        OutputFile::all_differ([&output, &chrome, &html].into_iter().flatten(), None)?;
        let story = Story::new(name, args.json, chrome.is_some() || html.is_some());
        Ok(Teller { story, is_json: args.json, has_begun: false, output, chrome, html })
    }

    /// Writes text of the trace, in which nothing is left that a terminal would obey.
    fn say(&self, text: &str) -> error::Result<()> {
        let text = if self.is_json { plain_json(text) } else { plain(text) };
        match &self.output {
            Some(output) => output.append(&text),
            None if self.is_json => print_beside(&text),
            None => tell_beside(&text),
        }
    }

    fn hear(&mut self, bytes: &[u8]) -> error::Result<()> {
        let text = self.story.hear(bytes);
        if !text.is_empty() && !std::mem::replace(&mut self.has_begun, true) {
            self.say(&self.story.head())?;
        }
        self.say(&text)
    }

    /// The end: of the process `first`, which a signal may have `killed`.
    fn finish(mut self, first: i32, killed: Option<i32>) -> error::Result<()> {
        // A program that was not started has nothing to be told of.
        if !self.story.is_empty() {
            let rest = self.story.rest(first as u64, killed);
            self.say(&rest)?;
            self.say(&self.story.sums())?;
        }
        let written = [
            self.chrome.map_or(Ok(()), |file| file.write(&plain_json(&self.story.chrome()))),
            self.html.map_or(Ok(()), |file| file.write(&self.story.html())),
            self.output.map_or(Ok(()), OutputFile::finish),
        ];
        written.into_iter().collect()
    }
}
