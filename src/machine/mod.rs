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
mod doorbell;
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
pub use doorbell::Doorbell;
pub use missing::Missing;
pub use remote::Remote;
pub use state::{DeviceState, State, StateError};

use crate::device::{Cable, Slot};
use crate::error::{Error, Result, Step};
use crate::kvm::{Call, Kvm, Vcpu, Vm};
use crate::sandbox::{Role, Sandbox};
use crate::sys;
use crate::timeline::{Phase, Probe};
use crate::virtio::{Transport, VirtioDevice};
use crate::x86::{layout, ports};
use board::Board;
use build::{Hardware, Parts, build};
use coalescing::Coalescing;
use loading::Loading;
use missing::BiosWatch;
use output::Output;
use silence::SilenceWatch;
use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
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

/// What ACPI calls a virtio device at an address of its own (QEMU and Linux agree upon it; no registry has it).
const VIRTIO_MMIO: &str = "LNRO0005";
/// The names of virtio devices in the ACPI namespace.
const VIRTIO_NAMES: [&str; ports::VIRTIO_PINS.len()] = [
    "VR00", "VR01", "VR02", "VR03", "VR04", "VR05", "VR06", "VR07", "VR08", "VR09", "VR10", "VR11", "VR12",
    "VR13", "VR14",
];

fn is_virtio(slot: &Slot) -> bool {
    slot.acpi.is_some_and(|acpi| acpi.hid == VIRTIO_MMIO)
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
    board: Arc<Mutex<Board>>,
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
    /// Those of devices, which end when their devices are gone.
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Drop for Shared {
    /// Devices end here, and their threads with them: not with the devices locked, which a thread of theirs may wait for,
    /// and not on such a thread.
    fn drop(&mut self) {
        let bus = std::mem::take(&mut lock(&self.board).bus);
        drop(bus);
        for thread in lock(&self.threads).drain(..) {
            // Of one that panicked the process has ended.
            let _ = thread.join();
        }
    }
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
            board: Arc::new(Mutex::new(board)),
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
            threads: Mutex::default(),
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

    /// Adds a virtio device, at the next place and pin that virtio devices have, announced as `LNRO0005` in the ACPI tables.
    ///
    /// # Errors
    /// [`Error::Misuse`] if there are as many of them as there can be: 15.
    pub fn add_virtio(&mut self, device: impl VirtioDevice + 'static) -> Result<()> {
        let number = lock(&self.shared.board).bus.slots().iter().filter(|slot| is_virtio(slot)).count();
        let (Some(&pin), Some(&name)) = (ports::VIRTIO_PINS.get(number), VIRTIO_NAMES.get(number)) else {
            return Err(Error::Misuse(format!("there can be no more than {number} virtio devices")));
        };
        let transport = Transport::new(device, self.shared.vm.memory().clone());
        let base = layout::VIRTIO + number as u64 * layout::VIRTIO_SIZE;
        let slot = Slot::mmio(base, layout::VIRTIO_SIZE, transport);
        self.add_device(slot.with_pin(pin).with_acpi(name, VIRTIO_MMIO))
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

    /// What a thread of a device rings when it has got something from the host.
    ///
    /// # Errors
    /// When this process has too many open files.
    pub fn doorbell(&self) -> Result<Doorbell> {
        Ok(Doorbell::new(&self.shared.board, self.shared.vm.messenger()?))
    }

    /// Starts a thread of a device, which is confined as `role` before the guest runs. `body` has to come back when its
    /// device has been dropped: the end of the machine waits for it.
    ///
    /// # Errors
    /// [`Error::Host`] if there cannot be another thread.
    pub fn spawn(&self, role: Role, body: impl FnOnce() + Send + 'static) -> Result<()> {
        let awaited = self.shared.remote.gate().expect(self.shared.sandbox);
        let thread = thread::Builder::new().spawn(move || {
            sys::block_signals();
            if awaited.confine(role) {
                body();
            }
        });
        let thread = thread.map_err(|source| Error::Host { step: Step::StartThread, source })?;
        lock(&self.shared.threads).push(thread);
        Ok(())
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
