//! A machine, and the loop around `KVM_RUN` that keeps it going.
//!
//! ```text
//!   Config + Image ─▶ Machine ─run─▶ Outcome
//!                       │
//!        KVM_RUN ─▶ Exit ─▶ Board ─▶ Action ─▶ go on, or end
//! ```
//!
//! The first vCPU runs on the caller's thread, each other one on a thread of its own.

mod acpi;
mod board;
mod build;
mod coalescing;
mod config;
mod crash;
mod devices;
mod diagnosis;
mod firmware;
mod halted;
mod loading;
mod missing;
mod output;
mod pacing;
mod remote;
mod run;
mod silence;
mod state;
mod upkeep;
mod vcpu_loop;

pub use config::{Config, Contents};
pub use crash::{Crash, Note};
pub use missing::Missing;
pub use remote::Remote;
pub use state::{DeviceState, State, StateError};

use crate::device::{Cable, Slot};
use crate::error::{Error, Result};
use crate::kvm::{Call, Kvm, Vcpu, Vm};
use crate::sandbox::Sandbox;
use crate::timeline::{Phase, Probe};
use board::Board;
use build::{Hardware, Parts, build};
use coalescing::Coalescing;
use loading::Loading;
use missing::BiosWatch;
use output::Output;
use silence::SilenceWatch;
use std::io::Write;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

/// How a run ended.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Outcome {
    /// The guest wrote this status to the debug-exit port.
    Exited(u8),
    /// Every processor halted with interrupts off: nothing will ever happen again.
    Halted,
    /// The guest pulled the reset line.
    Reset,
    /// The same, after it left the flag of a warm boot where a PC's BIOS looks for it.
    WarmReset,
    /// The guest switched itself off.
    PoweredOff,
    /// Someone called [`Remote::stop`], or the guest came to where it was to stop.
    Stopped,
    /// The time of [`Config::timeout`] is over.
    TimedOut,
    /// The guest wrote more than [`Config::max_output`].
    TooMuchOutput,
    /// The guest went down in a way nobody asked for.
    Crashed(Box<Crash>),
}

/// Locks a mutex, also after a thread has panicked that held it: what they guard here is whole after each statement.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// What is loaded into a machine: a kernel or another program without one.
#[derive(Debug, Clone, Copy)]
pub struct Image<'a> {
    /// What errors call it.
    pub name: &'a str,
    /// The contents of the file.
    pub bytes: &'a [u8],
}

impl<'a> From<&'a [u8]> for Image<'a> {
    fn from(bytes: &'a [u8]) -> Image<'a> {
        Image { name: "the image", bytes }
    }
}

/// A virtual machine with its image loaded, ready to run.
pub struct Machine {
    // Dropped in this order: vCPUs, then the VM, then its memory.
    vcpus: Vec<Vcpu>,
    shared: Shared,
    /// The guest has ended, and cannot go on.
    has_ended: bool,
}

/// What all vCPUs of a machine share.
struct Shared {
    vm: Vm,
    board: Mutex<Board>,
    coalescing: Mutex<Coalescing>,
    output: Mutex<Output>,
    cable: Cable,
    remote: Remote,
    hardware: Hardware,
    timeout: Option<Duration>,
    sandbox: Sandbox,
    max_output: Option<u64>,
    bios_watch: BiosWatch,
    silence_watch: SilenceWatch,
}

impl Machine {
    /// Builds the machine and loads `image` into it. What the guest writes to its serial port goes to `output`.
    ///
    /// # Errors
    /// [`Error::Host`] if this host cannot run it, [`Error::Image`] if the image cannot be started, [`Error::Config`] for
    /// a machine that cannot be built.
    pub fn new<'a>(
        config: &Config,
        image: impl Into<Image<'a>>,
        output: Box<dyn Write + Send>,
    ) -> Result<Machine> {
        Machine::watched(config, image, output, &mut ())
    }

    /// The same, watched by `probe`.
    pub fn watched<'a, P: Probe>(
        config: &Config,
        image: impl Into<Image<'a>>,
        output: Box<dyn Write + Send>,
        probe: &mut P,
    ) -> Result<Machine> {
        let kvm = probe.call(|| Call::Open, Kvm::open)?;
        config.check(&kvm)?;
        probe.mark(Phase::Open);
        let cable = Cable::default();
        let image = Loading { image: image.into(), config, cable: &cable };
        let hardware = image.hardware();
        let parts = build(&kvm, hardware, &image, probe)?;
        Ok(Machine::assemble(parts, hardware, cable, config, output))
    }

    /// Puts the parts of a machine together. Of `config` its limits and its sandbox count.
    fn assemble(
        parts: Parts,
        hardware: Hardware,
        cable: Cable,
        config: &Config,
        output: Box<dyn Write + Send>,
    ) -> Machine {
        let Parts { vm, vcpus, board } = parts;
        let shared = Shared {
            vm,
            board: Mutex::new(board),
            coalescing: Mutex::default(),
            output: Mutex::new(Output::new(output, config.max_output)),
            cable,
            remote: Remote::default(),
            hardware,
            timeout: config.timeout,
            sandbox: config.sandbox,
            max_output: config.max_output,
            bios_watch: BiosWatch::default(),
            silence_watch: SilenceWatch::default(),
        };
        Machine { vcpus, shared, has_ended: false }
    }

    /// Adds a device of your own: with an interrupt and an entry in the ACPI tables, if its [`Slot`] says so. Before the
    /// machine runs, as a guest looks for its devices when it starts.
    ///
    /// # Errors
    /// [`Error::Misuse`] if its place, its pin or its name is taken, or cannot be had.
    pub fn add_device(&mut self, slot: Slot) -> Result<()> {
        let Shared { vm, hardware, .. } = &self.shared;
        let mut board = lock(&self.shared.board);
        let is_announced = slot.acpi.is_some() && hardware.acpi;
        board
            .bus
            .insert(slot)
            .map_err(|conflict| Error::Misuse(format!("cannot add the device: {conflict}")))?;
        if is_announced {
            firmware::write_tables(vm.memory(), board.bus.slots(), hardware.cpus)?;
        }
        Ok(())
    }

    /// What the guest seems to expect that is not here, if it has stopped or does nothing any more.
    pub fn missing(&self) -> Option<Missing> {
        let registers = self.vcpus.first()?.registers().ok()?;
        let found = || Missing::find(&registers, registers.linear_rip(), self.shared.vm.memory());
        self.shared.bios_watch.found().or_else(found)
    }

    /// Has `notice` called if the guest has written nothing a second after it has begun to run: by the thread that runs its
    /// first vCPU, with what it seems to miss.
    pub fn when_silent(&self, notice: impl FnOnce(Option<Missing>) + Send + 'static) {
        self.shared.silence_watch.ask(notice);
    }

    /// The other end of the guest's serial cable, for input. After sending, [`Remote::kick`].
    pub fn cable(&self) -> Cable {
        self.shared.cable.clone()
    }

    /// A handle to stop the run or to call its vCPUs back.
    pub fn remote(&self) -> Remote {
        self.shared.remote.clone()
    }

    /// Runs the guest to its end. One that was stopped, by a [`Remote`], its time or its probe, goes on where it
    /// was when it is run again.
    ///
    /// Uses the first real-time signal of the process (SIGRTMIN).
    pub fn run(&mut self) -> Result<Outcome> {
        self.run_watched(&mut ())
    }

    /// The same, watched by `probe`, which can stop the guest.
    pub fn run_watched<P: Probe>(&mut self, probe: &mut P) -> Result<Outcome> {
        let ending = run::run(&self.shared, &mut self.vcpus, probe);
        self.has_ended = !matches!(ending, Ok(Outcome::Stopped | Outcome::TimedOut));
        ending
    }
}
