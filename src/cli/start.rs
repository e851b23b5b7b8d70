//! A guest from its start to its end: what `run`, `trace` and `snapshot` have in common.

use super::disks;
use super::error::Result;
use super::hint::LINUX_PROGRAM;
use super::image::{Image, Source};
use super::print::{GuestOutput, complain};
use super::run_options::RunArgs;
use super::status;
use crate::console::{self, Console};
use crate::error::{self, Step};
use crate::kvm::{Call, Kvm};
use crate::linux::cmdline;
use crate::machine::{self, Config, Crash, Machine, Missing, Outcome};
use crate::sandbox::Sandbox;
use crate::sys;
use crate::timeline::{Phase, Probe};
use std::io::{self, ErrorKind::UnexpectedEof};

/// A machine that is ready to run, without console and sandbox; `adapt` has the last word on its configuration.
pub fn prepare(args: &RunArgs, adapt: impl FnOnce(&mut Config)) -> Result<(Image, Machine)> {
    let mut image = Image::find(args)?;
    adapt(&mut image.config);
    let mut machine = machine_of(&image, &mut ())?;
    let disks = disks::attach(&mut machine, std::mem::take(&mut image.disks))?;
    disks::start(&machine, disks)?;
    announce(&image, args);
    if image.holds_input {
        machine.cable().hold();
    }
    Ok((image, machine))
}

/// A machine with `image` in it, whose output goes to stdout.
fn machine_of<P: Probe>(image: &Image, probe: &mut P) -> Result<Machine> {
    let output = Box::new(GuestOutput::new()?);
    match &image.source {
        Source::Bytes(bytes) => {
            let kernel = machine::Image { name: &image.name, bytes };
            Ok(Machine::watched(&image.config, kernel, output, probe)?)
        }
        Source::Snapshot(snapshot) => {
            let kvm = probe.call(|| Call::Open, Kvm::open)?;
            probe.mark(Phase::Open);
            Ok(snapshot.start_watched(&kvm, &image.config, output, probe)?)
        }
    }
}

/// `--verbose`: what is started.
fn announce(image: &Image, args: &RunArgs) {
    if args.verbose && !args.quiet {
        let Config { memory, cpus, .. } = image.config;
        complain(&format!("starting {}: {} KiB of memory, {cpus} CPU(s)", image.name, memory >> 10), None);
    }
}

/// A guest that has ended.
pub struct Ended {
    /// What was started.
    pub image: Image,
    /// How it ended, or what kept us from serving it.
    pub outcome: error::Result<Outcome>,
    /// What it seems to have waited for in vain.
    pub missing: Option<Missing>,
}

/// Runs a guest to its end and says how it ended; the exit status of the command.
pub fn run<P: Probe>(args: &RunArgs, probe: &mut P) -> Result<u8> {
    let ended = start(args, probe)?;
    sys::die_if_noted();
    Ok(ended.conclude(args)?)
}

/// Runs a guest to its end. If a signal ended it, the caller says so (`sys::die_if_noted`).
pub fn start<P: Probe>(args: &RunArgs, probe: &mut P) -> Result<Ended> {
    let mut image = Image::find(args)?;
    let sandbox = args.sandbox.unwrap_or(Sandbox::Strict);
    image.config.sandbox = sandbox;
    probe.mark(Phase::Prepare);
    let mut machine = machine_of(&image, probe)?;
    let disks = disks::attach(&mut machine, std::mem::take(&mut image.disks))?;
    announce(&image, args);
    console::catch_signals(machine.remote())?;
    let mut has_reader = false;
    let hand_over_keys = || {
        has_reader = true;
        if !args.quiet {
            complain("the keys go to the guest; Ctrl-a x leaves", None);
        }
    };
    if image.holds_input {
        machine.cable().hold();
    }
    sandbox.enter()?;
    disks::start(&machine, disks)?;
    let console = Console::connect(machine.cable(), machine.remote(), sandbox, hand_over_keys)?;
    if has_reader && !args.quiet {
        explain_silence(&machine, &image);
    }
    let mut outcome = machine.run_watched(probe);
    if matches!(image.source, Source::Snapshot(_)) {
        outcome = outcome.map_err(|error| of_its_file(&image.name, error));
    }
    drop(console);
    let missing = missing(&outcome, &machine);
    probe.call(|| Call::Close, || drop(machine));
    probe.mark(Phase::Teardown);
    Ok(Ended { image, outcome, missing })
}

/// What some KVMs say of memory that is mapped beyond the end of its file is told of that file: a golden image.
fn of_its_file(name: &str, error: error::Error) -> error::Error {
    match error {
        error::Error::Host { step: Step::RunVcpu, source } if source.raw_os_error() == Some(libc::EFAULT) => {
            let source = io::Error::new(UnexpectedEof, "it is shorter than it was");
            error::Error::Unreadable { path: name.into(), source }
        }
        error => error,
    }
}

/// Has it said why, if nothing is to be seen for a second and the reason is known.
fn explain_silence(machine: &Machine, image: &Image) {
    let (name, why_slow) = (image.name.clone(), image.why_slow);
    machine.when_silent(move |missing| {
        let missing = missing.map(|missing| format!("{missing}; {}", instead(&missing)));
        if let Some(why) = missing.as_deref().or(why_slow) {
            complain(&format!("{name} has written nothing yet: {why}"), None);
        }
    });
}

/// What a guest that ended so seems to have waited for in vain. One that has ended by itself had all that it needs.
pub fn missing(outcome: &error::Result<Outcome>, machine: &Machine) -> Option<Missing> {
    match outcome {
        Ok(Outcome::Halted | Outcome::TimedOut | Outcome::Stopped) => machine.missing(),
        _ => None,
    }
}

impl Ended {
    /// Says how it ended, where that is worth a word, and gives the exit status.
    pub fn conclude(self, args: &RunArgs) -> error::Result<u8> {
        Ok(conclude(&self.image, &self.outcome?, self.missing.as_ref(), args))
    }
}

/// Says how a guest ended, where that is worth a word, and gives the exit status.
fn conclude(image: &Image, outcome: &Outcome, missing: Option<&Missing>, args: &RunArgs) -> u8 {
    // What it waited for says more than what it could have done.
    let missing = missing.map(|missing| format!("{missing}; {}", instead(missing)));
    let missing = missing.as_deref();
    let name = &image.name;
    let remark = |text: &str, hint| {
        if !args.quiet {
            complain(text, hint);
        }
    };
    match outcome {
        Outcome::Exited(status) => {
            if args.verbose {
                remark(&format!("{name} ended with status {status}"), None);
            }
            *status
        }
        Outcome::Halted => {
            remark(
                &format!("{name} halted with interrupts off"),
                missing.or(Some("a write to port 0xf4 ends it with a status")),
            );
            0
        }
        Outcome::WarmReset if cmdline::tells_panic(&image.config.cmdline) => {
            let is_silent = cmdline::is_silent(&image.config.cmdline);
            let hint = is_silent.then_some("--cmdline loglevel=7 shows what it said");
            complain(&format!("error: {name} panicked"), hint.filter(|_| !args.quiet));
            status::PANIC
        }
        Outcome::Reset | Outcome::WarmReset => {
            remark(&format!("{name} asked for a reset"), None);
            status::RESET
        }
        Outcome::Stopped => {
            if missing.is_some() {
                remark(&format!("{name} was stopped"), missing);
            }
            0
        }
        Outcome::PoweredOff => 0,
        Outcome::TimedOut => {
            complain(
                &format!("error: {name} did not end within its time"),
                missing.or(image.why_slow).or(Some("--timeout TIME is the limit")),
            );
            status::TIMEOUT
        }
        Outcome::TooMuchOutput => {
            complain(
                &format!("error: {name} wrote more than it may"),
                Some("--max-output SIZE is the limit"),
            );
            status::OUTPUT
        }
        Outcome::Crashed(crash) => {
            post_mortem(crash, args.quiet);
            status::CRASH
        }
    }
}

/// What to do where something is missing.
fn instead(missing: &Missing) -> &'static str {
    match missing {
        Missing::Linux => LINUX_PROGRAM,
        _ => "a byte that is written to port 0x3f8 is shown",
    }
}

fn post_mortem(crash: &Crash, quiet: bool) {
    if quiet {
        complain(&format!("error: guest crashed: {crash}"), None);
        return;
    }
    let hint = crash.missing.as_ref().map_or(crash.hint(), instead);
    complain(&format!("error: guest crashed: {crash}"), Some(hint));
    for line in crash.report().lines() {
        complain(&format!("  {line}"), None);
    }
}
