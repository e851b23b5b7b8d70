//! `matchstick exec`: a Linux program, as it is, in a VM without a kernel.

use super::error::{Error, Result};
use super::option::{CommandHelp, Given, HELP, OptionHelp, Parsed, option};
use super::suggest;
use super::timings;
#[cfg(feature = "debugger")]
use super::values::address;
use super::values::{sandbox, size, time, variable};
#[cfg(feature = "debugger")]
use crate::debugger::Address;
use crate::program::{Config, DEFAULT_PATH, Failure, Limits, PROCESSES_MAX, Program, Refusal, shown};
use crate::sandbox::Sandbox;
use crate::timeline::{Observer, Phase, Probe};
use lexopt::{Parser, ValueExt};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// The command.
pub const COMMAND: CommandHelp = CommandHelp {
    name: "exec",
    arguments: "[OPTIONS] PROGRAM [ARGS...]",
    about: "run a Linux program in a VM, without Linux in it",
    intro: "Run a Linux program, as it is, in a VM of its own without a kernel: its system calls leave the VM and are\n\
            checked and served here. It sees this host's files and cannot change them, and has no network.",
    options: OPTIONS,
    notes: NOTES,
    hint: "`matchstick exec --help` shows all options",
};

const OPTIONS: &[OptionHelp] = &[
    option(None, "root", Some("DIR"), "DIR is the program's root directory"),
    option(None, "write", Some("PATH"), "it may change what is in PATH; can be given more than once"),
    option(None, "tmp", None, "it has a /tmp of its own, in memory, thrown away at the end"),
    option(None, "net", None, "it may use the network"),
    option(None, "contained", None, "a container is the wall: it may do what the container lets it do"),
    option(
        None,
        "keep-fd",
        Some("FD"),
        "it gets the open file FD as well, 3 or more; can be given more than once",
    ),
    option(None, "env", Some("K=V"), "set a variable of its environment; can be given more than once"),
    option(None, "clear-env", None, "begin with an empty environment"),
    option(
        Some('m'),
        "memory",
        Some("SIZE"),
        "a limit on memory that each of its processes may write to, such as 64M",
    ),
    option(None, "timeout", Some("TIME"), "end it, and all that it started, after TIME: 2s, 500ms, 3m"),
    option(None, "max-output", Some("SIZE"), "end them when stdout and stderr have got more than SIZE"),
    option(None, "max-processes", Some("N"), "a limit on its processes at any one time"),
    option(Some('c'), "cpus", Some("N"), "it may use N of this host's processors"),
    option(None, "sandbox", Some("WHAT"), "strict, or off: have the kernel keep that, too [default: strict]"),
    #[cfg(feature = "debugger")]
    option(None, "gdb", Some("ADDRESS"), "wait for gdb at a PORT of this host, or unix:PATH"),
    option(None, "timings", None, "show each phase from exec to reaped, on standard error"),
    option(Some('v'), "verbose", None, "name each system call that is not served"),
    HELP,
];

/// What a user of `exec` has to know besides the options.
const NOTES: &str = "
PROGRAM is looked for in PATH, unless it has a slash in it. What follows it is for the program.

-m counts what is or was mapped to be written to: heap, data, stacks of threads; not the first stack, nor files in
memory. The other limits are for all of its processes together; 4096 is the most there can be where one of them is given.

Exit status:
  the program's own
  120  --max-output was not enough                 124  --timeout is over
  125  matchstick failed, or was used wrongly      127  there is no such program
  126  it cannot be run, or this host cannot run it
  128+N  ended by signal N
";

/// `exec` as it was typed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ExecArgs {
    /// The program and its arguments.
    pub words: Vec<OsString>,
    /// `--root`
    pub root: Option<PathBuf>,
    /// `--write`
    pub write: Vec<PathBuf>,
    /// `--net`
    pub network: bool,
    /// `--contained`
    pub contained: bool,
    /// `--tmp`
    pub tmp: bool,
    /// `--keep-fd`
    pub kept: Vec<u32>,
    /// `--memory`, `--timeout`, `--max-output`, `--max-processes`, `--cpus`
    pub limits: Limits,
    /// `--sandbox`
    pub sandbox: Option<Sandbox>,
    /// `--env`
    pub environment: Vec<OsString>,
    /// `--clear-env`
    pub is_clear: bool,
    /// `--timings`
    pub timings: bool,
    /// `--gdb`
    #[cfg(feature = "debugger")]
    pub gdb: Option<Address>,
    /// `--verbose`
    pub verbose: bool,
}

impl ExecArgs {
    /// What cannot go together.
    fn check(&self) -> std::result::Result<(), String> {
        #[cfg(feature = "debugger")]
        if self.gdb.is_some() {
            if self.timings {
                return Err("with --gdb there are no times to be told".into());
            }
            if self.sandbox == Some(Sandbox::Strict) {
                return Err("--gdb runs without the sandbox: a client may change memory".into());
            }
        }
        Ok(())
    }

    /// Takes the option `name`, with its value if it has one.
    pub fn take(&mut self, name: &str, parser: &mut Parser) -> std::result::Result<(), lexopt::Error> {
        match name {
            "root" => self.root = Some(parser.value()?.into()),
            "write" => self.write.push(parser.value()?.into()),
            "tmp" => self.tmp = true,
            "net" => self.network = true,
            "contained" => self.contained = true,
            "keep-fd" => self.kept.push(parser.value()?.parse_with(descriptor)?),
            "memory" => self.limits.memory = Some(parser.value()?.parse_with(memory)?),
            "timeout" => self.limits.time = Some(parser.value()?.parse_with(time)?),
            "max-output" => self.limits.output = Some(parser.value()?.parse_with(size)?),
            "max-processes" => self.limits.processes = Some(parser.value()?.parse_with(processes)?),
            "cpus" => self.limits.cpus = Some(parser.value()?.parse_with(count)?),
            "sandbox" => self.sandbox = Some(parser.value()?.parse_with(sandbox)?),
            "env" => self.environment.push(variable(parser.value()?)?),
            "clear-env" => self.is_clear = true,
            "timings" => self.timings = true,
            #[cfg(feature = "debugger")]
            "gdb" => self.gdb = Some(address(parser)?),
            "verbose" => self.verbose = true,
            _ => {}
        }
        Ok(())
    }
}

/// A number of processes.
fn processes(text: &str) -> std::result::Result<u32, String> {
    let number = text.parse().ok().filter(|number| (1..=PROCESSES_MAX).contains(number));
    number.ok_or_else(|| format!("a program has 1 to {PROCESSES_MAX} processes"))
}

/// How much memory a program may have: less than this, and none would start.
fn memory(text: &str) -> std::result::Result<u64, String> {
    let bytes = size(text)?;
    if bytes < 1 << 20 { Err("a program needs 1M of memory at least".into()) } else { Ok(bytes) }
}

/// A number of processors.
fn count(text: &str) -> std::result::Result<u32, &'static str> {
    text.parse()
        .ok()
        .filter(|&count| count > 0)
        .ok_or("a program has a whole number of processors, 1 or more")
}

/// The number of an open file that a program can have.
fn descriptor(text: &str) -> std::result::Result<u32, &'static str> {
    text.parse()
        .ok()
        .filter(|number| (3..1024).contains(number))
        .ok_or("the number of an open file is 3 to 1023")
}

/// Reads what follows `exec`.
///
/// # Errors
/// Of what makes no sense.
pub fn parse(parser: &mut Parser) -> std::result::Result<Parsed<ExecArgs>, lexopt::Error> {
    let mut args = ExecArgs::default();
    while let Some(given) = Given::next(parser, OPTIONS)? {
        match given {
            Given::Option("help") => return Ok(Parsed::Help),
            Given::Option(name) => args.take(name, parser)?,
            // From here on everything is the program's, whatever it looks like.
            Given::Word(program) => {
                args.words.push(program);
                args.words.extend(parser.raw_args()?);
                args.check()?;
                return Ok(Parsed::Arguments(args));
            }
        }
    }
    Err("which program? `matchstick exec PROGRAM` runs one".into())
}

/// Becomes the program: comes back only with an error.
///
/// # Errors
/// Of a program that cannot be run, and of a host that cannot run it.
pub fn run(args: ExecArgs) -> Result<u8> {
    if args.timings {
        match timings::program_if_inside() {
            Some((mut timeline, to_observer)) => {
                timeline.mark(Phase::Prepare);
                let mut program = load(args, &mut timeline, None)?;
                program.observe(to_observer(timeline));
                match program.run()? {}
            }
            None if !timings::is_measured() => return timings::measure(),
            None => {}
        }
    }
    match load(args, &mut (), None)?.run()? {}
}

/// Loads the program, so that this process may become it.
///
/// # Errors
/// Of a program that cannot be run, and of a host that cannot run it.
pub fn load(args: ExecArgs, probe: &mut impl Probe, observer: Option<Box<dyn Observer>>) -> Result<Program> {
    let word = args.words.first().cloned().unwrap_or_default();
    let name = shown(word.as_bytes());
    if let Some(&closed) = args.kept.iter().find(|&&kept| crate::sys::program::identity(kept as i32).is_err())
    {
        return Err(Error::NotOpen(closed));
    }
    let environment = environment(&args);
    let root = args.root.clone();
    let path = environment.iter().find_map(|entry| entry.strip_prefix(b"PATH=")).map(<[u8]>::to_vec);
    let config = Config {
        root: args.root,
        writable: if args.contained { vec!["/".into()] } else { args.write },
        private_tmp: args.tmp,
        network: args.network || args.contained,
        contained: args.contained,
        limits: args.limits,
        sandbox: args.sandbox.unwrap_or(Sandbox::Strict),
        environment,
        verbose: args.verbose,
        ..Config::default()
    };
    let words = args.words.into_iter().map(OsStringExt::into_vec).collect();
    Program::watched(config, words, probe, observer).map_err(|source| match source {
        Failure::NotFound => {
            let path = OsString::from_vec(path.unwrap_or_else(|| DEFAULT_PATH.to_vec()));
            let root = root.as_deref().unwrap_or(Path::new("/"));
            Error::NoProgram { name, meant: suggest::program(word.as_bytes(), &path, root) }
        }
        source => Error::Program { name, source },
    })
}

/// Ours, without the names that `--env` sets, and those.
fn environment(args: &ExecArgs) -> Vec<Vec<u8>> {
    let name_of = |variable: &OsString| {
        variable.as_bytes().split(|&byte| byte == b'=').next().unwrap_or_default().to_vec()
    };
    let own: Vec<Vec<u8>> = args.environment.iter().map(name_of).collect();
    let inherited =
        std::env::vars_os().filter(|(name, _)| !args.is_clear && !own.contains(&name.as_bytes().to_vec()));
    let inherited = inherited.filter(|(name, _)| !timings::is_ours(name));
    let inherited = inherited.map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat());
    inherited.chain(args.environment.iter().map(|variable| variable.as_bytes().to_vec())).collect()
}

/// What to do about a program that cannot be run, where that is known.
pub fn hint(failure: &crate::program::Failure) -> Option<&'static str> {
    Some(match failure {
        Failure::NotFound => "PATH is where it is looked for, unless it has a slash in it",
        Failure::Place(..) => "--root is a directory, and --write names what is there",
        Failure::Denied(libc::EACCES) => "a program is a regular file that may be executed",
        Failure::Refused(Refusal::System(libc::ENOENT), Some(_)) => {
            "with --root, the interpreter has to be below it, too"
        }
        Failure::Refused(Refusal::Machine(_) | Refusal::Narrow, _) => "it takes a program for x86-64",
        Failure::Refused(Refusal::Short { .. }, _) => "a copy that was broken off leaves such a file",
        Failure::Refused(Refusal::NotElf, None) => {
            "a script names its interpreter in its first line: #!/bin/sh"
        }
        Failure::Refused(Refusal::System(libc::ENOMEM), _) => {
            "-m SIZE is a limit, and this host's memory is one"
        }
        _ => return None,
    })
}
