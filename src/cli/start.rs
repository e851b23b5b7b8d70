//! A guest from its start to its end: what `run`, `trace` and `snapshot` have in common.

use super::error::Result;
use super::image::{Image, Source};
use super::print::{complain, stdout};
use super::run_options::RunArgs;
use super::status;
use crate::console::{self, Console};
use crate::error;
use crate::kvm::{Call, Kvm};
use crate::linux::cmdline;
use crate::machine::{self, Config, Crash, Machine, Outcome};
use crate::sandbox::Sandbox;
use crate::sys;
use crate::timeline::{Phase, Probe};

/// A machine that is ready to run, without console and sandbox; `adapt` has the last word on its configuration.
pub fn prepare(args: &RunArgs, adapt: impl FnOnce(&mut Config)) -> Result<(Image, Machine)> {
    let mut image = Image::find(args)?;
    adapt(&mut image.config);
    let machine = machine_of(&image, &mut ())?;
    announce(&image, args);
    if image.holds_input {
        machine.cable().hold();
    }
    Ok((image, machine))
}

/// A machine with `image` in it, whose output goes to stdout.
fn machine_of<P: Probe>(image: &Image, probe: &mut P) -> Result<Machine> {
    let output = Box::new(stdout()?);
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

/// Runs a guest to its end and says how it ended; the exit status of the command.
pub fn run<P: Probe>(args: &RunArgs, probe: &mut P) -> Result<u8> {
    let (image, outcome) = start(args, probe)?;
    sys::die_if_noted();
    Ok(conclude(&image, &outcome?, args))
}

/// Runs a guest to its end. If a signal ended it, the caller says so (`sys::die_if_noted`).
pub fn start<P: Probe>(args: &RunArgs, probe: &mut P) -> Result<(Image, error::Result<Outcome>)> {
    let mut image = Image::find(args)?;
    let sandbox = args.sandbox.unwrap_or(Sandbox::Strict);
    image.config.sandbox = sandbox;
    probe.mark(Phase::Prepare);
    let mut machine = machine_of(&image, probe)?;
    announce(&image, args);
    console::catch_signals(machine.remote())?;
    let hand_over_keys = || {
        if !args.quiet {
            complain("the keys go to the guest; Ctrl-a x leaves", None);
        }
    };
    if image.holds_input {
        machine.cable().hold();
    }
    sandbox.enter()?;
    let console = Console::connect(machine.cable(), machine.remote(), sandbox, hand_over_keys)?;
    let outcome = machine.run_watched(probe);
    drop(console);
    probe.call(|| Call::Close, || drop(machine));
    probe.mark(Phase::Teardown);
    Ok((image, outcome))
}

/// Says how it ended, where that is worth a word, and gives the exit status.
pub fn conclude(image: &Image, outcome: &Outcome, args: &RunArgs) -> u8 {
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
                Some("a write to port 0xf4 ends it with a status"),
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
        Outcome::PoweredOff | Outcome::Stopped => 0,
        Outcome::TimedOut => {
            complain(
                &format!("error: {name} did not end within its time"),
                Some("--timeout TIME is the limit"),
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

fn post_mortem(crash: &Crash, quiet: bool) {
    if quiet {
        complain(&format!("error: guest crashed: {crash}"), None);
        return;
    }
    complain(&format!("error: guest crashed: {crash}"), Some(crash.hint()));
    for line in crash.report().lines() {
        complain(&format!("  {line}"), None);
    }
}
