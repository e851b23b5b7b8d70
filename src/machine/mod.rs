//! A machine, and the loop around `KVM_RUN` that keeps it going.
//!
//! ```text
//!   Config + Image ─▶ Machine ─run─▶ Outcome
//!                       │
//!        KVM_RUN ─▶ Exit ─▶ Board ─▶ Action ─▶ go on, or end
//! ```
//!
//! The first vCPU runs on the caller's thread, each other one on a thread of its own.

mod board;
mod config;
mod crash;
mod diagnosis;
mod firmware;
mod halted;
mod output;
mod pacing;
mod remote;
mod state;

pub use config::{Config, Contents};
pub use crash::{Crash, Note};
pub use remote::Remote;
pub use state::{DeviceState, Space, State};

use crate::boot::{self, Payload};
use crate::device::{Action, Cable, Device, Msi};
use crate::error::{Error, Result, Step};
use crate::kvm::{Call, Coalesced, Exit, Kvm, Vcpu, Vm, kick_this_thread};
use crate::sandbox::{Role, Sandbox};
use crate::sys::{self, Timer};
use crate::timeline::{Phase, Probe};
use crate::x86::{cpuid, msr};
use board::Board;
use crash::Log;
use halted::HaltDetector;
use output::Output;
use pacing::Pacing;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

/// How long a guest runs before we look whether it has halted for good; a tiny one is gone by then.
const FIRST_BEAT: Duration = Duration::from_millis(10);
/// How often we look from then on.
const BEAT: Duration = Duration::from_millis(50);

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

/// A lock whose holder panicked still guards something usable: plain state, checked at each use.
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
    /// The guest has come to an end, from which there is no going on.
    has_ended: bool,
}

/// What all vCPUs of a machine share.
struct Shared {
    vm: Vm,
    board: Mutex<Board>,
    output: Mutex<Output>,
    cable: Cable,
    remote: Remote,
    timeout: Option<Duration>,
    sandbox: Sandbox,
    acpi: bool,
    max_output: Option<u64>,
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
    ///
    /// The order of the steps is a measured choice: docs/performance.md.
    pub fn watched<'a, P: Probe>(
        config: &Config,
        image: impl Into<Image<'a>>,
        output: Box<dyn Write + Send>,
        probe: &mut P,
    ) -> Result<Machine> {
        let Image { name, bytes: image } = image.into();
        let kvm = probe.call(|| Call::Open, Kvm::open)?;
        config.check(&kvm)?;
        probe.mark(Phase::Open);
        let mut vm = probe.call(|| Call::CreateVm, || kvm.create_vm())?;
        probe.mark(Phase::CreateVm);
        probe.call(|| Call::LocalApics, || vm.enable_local_apics())?;
        probe.mark(Phase::LocalApics);
        probe.call(|| Call::AddMemory { bytes: config.memory }, || vm.add_memory(config.memory).map(drop))?;
        probe.mark(Phase::AddMemory);
        let rsdp = if config.acpi { firmware::add(vm.memory(), config.cpus)? } else { 0 };
        let seed = config.acpi.then(sys::random).transpose();
        let seed = seed.map_err(|source| Error::Host { step: Step::Random, source })?;
        let (cmdline, initrd, apics) = (&config.cmdline, config.initrd.as_deref(), config.apics);
        let payload = Payload { image, cmdline, initrd, rsdp, seed, apics };
        let entry = boot::load(config.protocol, &payload, vm.memory())
            .map_err(|source| Error::Image { name: name.into(), source })?;
        probe.mark(Phase::Load);
        let mut create = |index| probe.call(|| Call::CreateVcpu { index }, || vm.create_vcpu(index));
        let mut vcpus = (0..config.cpus).map(&mut create).collect::<Result<Vec<_>>>()?;
        probe.mark(Phase::CreateVcpus);
        if config.cpuid {
            let supported = probe.call(|| Call::SupportedCpuid, || kvm.supported_cpuid())?;
            for (index, vcpu) in vcpus.iter().enumerate() {
                let mut own = supported.clone();
                cpuid::personalise(&mut own, index as u32, config.cpus);
                let entries = own.as_slice().len();
                probe.call(|| Call::SetCpuid { index, entries }, || vcpu.set_cpuid(&own))?;
            }
        }
        if config.acpi {
            for (index, vcpu) in vcpus.iter().enumerate() {
                probe
                    .call(|| Call::SetMsrs { index, msrs: &msr::AT_BOOT }, || vcpu.set_msrs(&msr::AT_BOOT))?;
            }
        }
        vcpus[0].enter(&entry);
        probe.mark(Phase::Registers);
        let cable = Cable::default();
        let board = Board::new(config.memory, config.cpus, config.acpi, config.stop_at, cable.clone())
            .map_err(|overlap| Error::Misuse(format!("two devices at one address: {overlap}")))?;
        let shared = Shared {
            vm,
            board: Mutex::new(board),
            output: Mutex::new(Output::new(output, config.max_output)),
            cable,
            remote: Remote::default(),
            timeout: config.timeout,
            sandbox: config.sandbox,
            acpi: config.acpi,
            max_output: config.max_output,
        };
        probe.mark(Phase::Devices);
        Ok(Machine { vcpus, shared, has_ended: false })
    }

    /// Puts a device of your own at `base..base + len` of the I/O ports.
    pub fn add_port_device(&mut self, base: u16, len: u16, device: Box<dyn Device>) -> Result<()> {
        self.add(false, base.into(), len.into(), device)
    }

    /// Puts a device of your own at the guest-physical addresses `base..base + len`, outside memory.
    pub fn add_mmio_device(&mut self, base: u64, len: u64, device: Box<dyn Device>) -> Result<()> {
        self.add(true, base, len, device)
    }

    fn add(&mut self, mmio: bool, base: u64, len: u64, device: Box<dyn Device>) -> Result<()> {
        lock(&self.shared.board)
            .insert(mmio, base, len, device)
            .map_err(|overlap| Error::Misuse(format!("cannot add the device: {overlap}")))
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
        let os = |source| Error::Host { step: Step::Signals, source };
        sys::on_kick(kick_this_thread).map_err(os)?;
        let (first, others) = self.vcpus.split_at_mut(1);
        let run = Run {
            shared: &self.shared,
            timer: Timer::new().map_err(os)?,
            // A time that no clock will ever show is no limit.
            deadline: self.shared.timeout.and_then(|timeout| Instant::now().checked_add(timeout)),
            halts: HaltDetector::new(others.len()),
            pacing: Mutex::new(Pacing::default()),
            ended: AtomicBool::new(false),
            ending: Mutex::new(None),
        };
        run.timer.set(self.shared.timeout.unwrap_or(FIRST_BEAT).min(FIRST_BEAT), BEAT);
        thread::scope(|scope| {
            let run = &run;
            let spawned = others.iter_mut().zip(1..).try_for_each(|(vcpu, index)| {
                let drive = move || {
                    sys::block_signals();
                    match run.shared.sandbox.limit(Role::OtherVcpu) {
                        Ok(()) => run.run_vcpu(index, vcpu, &mut ()),
                        Err(error) => run.end(Err(error)),
                    }
                };
                thread::Builder::new().spawn_scoped(scope, drive).map(drop)
            });
            let spawned = spawned.map_err(|source| Error::Host { step: Step::StartThread, source });
            match spawned.and_then(|()| run.shared.sandbox.limit(Role::FirstVcpu)) {
                Ok(()) => {
                    probe.mark(Phase::Confine);
                    run.run_vcpu(0, &mut first[0], probe);
                }
                Err(error) => run.end(Err(error)),
            }
        });
        lock(&self.shared.board).deliver();
        run.flush_output()?;
        probe.mark(Phase::Guest);
        let ending = lock(&run.ending).take().unwrap_or(Ok(Outcome::Stopped));
        self.has_ended = !matches!(ending, Ok(Outcome::Stopped | Outcome::TimedOut));
        ending
    }
}

/// One run of a machine: what its threads share while it lasts.
struct Run<'a> {
    shared: &'a Shared,
    /// Calls vCPU 0 back from time to time.
    timer: Timer,
    deadline: Option<Instant>,
    halts: HaltDetector,
    pacing: Mutex<Pacing>,
    /// Set once `ending` is decided, for the vCPUs that still run.
    ended: AtomicBool,
    ending: Mutex<Option<Result<Outcome>>>,
}

impl Run<'_> {
    /// Runs one vCPU. The first one to end decides how the machine ends, and stops the others.
    fn run_vcpu<P: Probe>(&self, index: usize, vcpu: &mut Vcpu, probe: &mut P) {
        let remote = &self.shared.remote;
        let result = vcpu.accept_kicks(|vcpu| {
            remote.enter();
            let result = self.vcpu_loop(index, vcpu, probe);
            probe.left(vcpu);
            remote.leave();
            result
        });
        self.end(result);
    }

    /// Decides how the machine ends, unless that is decided.
    fn end(&self, result: Result<Outcome>) {
        let mut ending = lock(&self.ending);
        // What a vCPU has come to while another one was stopped is not to be lost.
        let is_worth_more =
            matches!(&*ending, Some(Ok(Outcome::Stopped))) && !matches!(&result, Ok(Outcome::Stopped));
        if ending.is_none() || is_worth_more {
            *ending = Some(result);
            self.ended.store(true, Ordering::SeqCst);
            self.shared.remote.kick();
        }
    }

    /// The loop around `KVM_RUN`.
    fn vcpu_loop<P: Probe>(&self, index: usize, vcpu: &mut Vcpu, probe: &mut P) -> Result<Outcome> {
        let mut log = Log::default();
        if self.is_over() {
            return Ok(Outcome::Stopped);
        }
        loop {
            if probe.enter(vcpu).is_break() {
                return Ok(Outcome::Stopped);
            }
            log.entered_at = vcpu.rip();
            let mut exit = vcpu.run()?;
            probe.exit(&exit);
            log.push(&exit);
            let what = match exit {
                Exit::Interrupted => match self.look_around(index, vcpu, probe)? {
                    Some(outcome) => return Ok(outcome),
                    None => continue,
                },
                // Whoever has set it, looks at it before the guest goes on.
                Exit::Debug => continue,
                Exit::Halt => return Ok(Outcome::Halted),
                Exit::Shutdown => "triple fault".into(),
                Exit::Failed { why, code } => format!("{why} ({code:#x})"),
                ref mut access => {
                    let mut board = lock(&self.shared.board);
                    let action = board.serve(access);
                    probe.served(access, || board.device_of(access));
                    board.collect(|port| self.coalesce_writes(port, vcpu, probe));
                    drop(board);
                    self.settle(probe)?;
                    let is_too_much = self.offer_output(index)?;
                    match action {
                        Action::Continue if is_too_much => return Ok(Outcome::TooMuchOutput),
                        Action::Continue => continue,
                        Action::Exit(status) => return Ok(Outcome::Exited(status)),
                        Action::Reset => return Ok(firmware::kind_of_reset(self.shared.vm.memory())),
                        Action::Stop => return Ok(Outcome::Stopped),
                        Action::PowerOff => return Ok(Outcome::PoweredOff),
                    }
                }
            };
            return Ok(Outcome::Crashed(Box::new(Crash::examine(what, index, vcpu, &log))));
        }
    }

    /// After a signal: is there input, output that waited long enough, or a reason to end?
    fn look_around<P: Probe>(&self, index: usize, vcpu: &mut Vcpu, probe: &mut P) -> Result<Option<Outcome>> {
        if self.is_over() {
            return Ok(Some(Outcome::Stopped));
        }
        // The timer calls the first vCPU alone.
        if index == 0 && lock(&self.pacing).end(Instant::now()) {
            self.shared.cable.resume();
        }
        self.settle(probe)?;
        let halted = probe.call(|| Call::MpState { index }, || vcpu.halted_for_good())?;
        if index > 0 {
            self.halts.answer(index, halted);
            return Ok(None);
        }
        self.flush_output()?;
        if let Some(deadline) = self.deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Some(Outcome::TimedOut));
            }
            self.timer.set(left.min(BEAT), BEAT);
        }
        if let Some(left) = lock(&self.pacing).left(Instant::now()) {
            self.timer.set(left, BEAT);
        }
        if halted.is_some() {
            if self.halts.ask() {
                return Ok(Some(Outcome::Halted));
            }
            self.shared.remote.kick_others();
        }
        Ok(None)
    }

    /// Has KVM collect what goes to `port`, if it can.
    fn coalesce_writes<P: Probe>(&self, port: u16, vcpu: &Vcpu, probe: &mut P) -> Option<Coalesced> {
        probe.call(|| Call::CoalesceWrites { port }, || self.shared.vm.coalesce_writes(port, vcpu))
    }

    /// Lets the devices take input, and carries their interrupts to the local APICs. A guest that has read what it gets
    /// in one go has a [`Pacing`], at whose end the timer calls.
    fn settle<P: Probe>(&self, probe: &mut P) -> Result<()> {
        lock(&self.shared.board).settle(|Msi { address, data }| {
            probe.call(|| Call::SignalMsi { address, data }, || self.shared.vm.signal_msi(address, data))
        })?;
        if self.shared.cable.is_spent()
            && let Some(rest) = lock(&self.pacing).begin(Instant::now())
        {
            self.timer.set(rest, BEAT);
        }
        Ok(())
    }

    /// Passes on what vCPU `index` has just written. Only the first vCPU's thread writes it to the sink: when
    /// nobody reads there, it is the one that the timer and signals call back.
    /// True when that is more than the guest may write.
    fn offer_output(&self, index: usize) -> Result<bool> {
        let mut bytes = self.shared.cable.written();
        let mut output = lock(&self.shared.output);
        let is_too_much = output.is_over(bytes.len());
        let soon = match index {
            0 => output.offer(&mut bytes, || self.gives_up()).map_err(Error::Output)?,
            _ => output.promise(&bytes),
        };
        if let Some(soon) = soon {
            self.timer.set(soon, BEAT);
        }
        Ok(is_too_much)
    }

    fn flush_output(&self) -> Result<()> {
        let mut bytes = self.shared.cable.written();
        lock(&self.shared.output).flush(&mut bytes, || self.gives_up()).map_err(Error::Output)
    }

    /// Someone stopped the machine, or another vCPU has ended it.
    fn is_over(&self) -> bool {
        self.shared.remote.is_asked() || self.ended.load(Ordering::SeqCst)
    }

    /// Whether to stop waiting for a reader that does not read.
    fn gives_up(&self) -> bool {
        self.shared.remote.is_asked() || self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }
}
