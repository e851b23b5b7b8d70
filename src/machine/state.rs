//! Everything of a machine that is not its memory, as data: what a snapshot saves, and a restored machine begins with.

use super::board::Board;
use super::build::{Hardware, Origin, build};
use super::devices::devices;
use super::{Config, Machine, Output, Remote, Shared, firmware, lock};
use crate::device::{Action, Bus, Cable, Device, Msi, Space};
use crate::error::{self, Error};
use crate::kvm::{Call, Exit, Kvm, Memory, Vcpu, VcpuState, Vm};
use crate::sys;
use crate::timeline::Probe;
use crate::x86::{layout, ports};
use std::io::Write;
use std::time::Duration;

/// What one device remembers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceState {
    /// Where it answers,
    pub space: Space,
    /// and at which address there.
    pub base: u64,
    /// Its own [`state`](crate::device::Device::state).
    pub bytes: Vec<u8>,
}

/// A machine without its memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Bytes of memory.
    pub memory: u64,
    /// Whether it has what ACPI tables describe.
    pub acpi: bool,
    /// Each vCPU, without what a new one has anyway.
    pub vcpus: Vec<VcpuState>,
    /// The guest's kvm-clock in ns, if it was given a CPUID table, where it is found.
    pub clock: Option<u64>,
    /// When this was read, in ns since the start of 1970.
    pub time: u64,
    /// All devices.
    pub devices: Vec<DeviceState>,
}

/// Why a machine cannot be saved, or not be put into a state.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// There is nothing left to save.
    #[error("the guest has ended")]
    Ended,

    /// A device that does not tell its state, or does not take this one.
    #[error("{0}")]
    Devices(String),

    /// One that is not about states.
    #[error(transparent)]
    Vmm(#[from] Error),
}

impl State {
    /// Whether the devices are those of such a machine, and take what they are to remember; if not, why.
    pub fn check_devices(&self) -> Result<(), String> {
        self.board(None, &Cable::default()).map(drop)
    }

    /// A board with its devices as they were.
    fn board(&self, stop_at: Option<u8>, cable: &Cable) -> Result<Board, String> {
        let bus = devices(&self.hardware(), stop_at, cable).map_err(|error| error.to_string())?;
        let mut board = Board::new(bus);
        board.set_states(&self.devices)?;
        Ok(board)
    }

    fn hardware(&self) -> Hardware {
        Hardware { memory: self.memory, cpus: self.vcpus.len() as u32, acpi: self.acpi }
    }
}

impl Machine {
    /// The state of a machine that does not run. What a vCPU has asked for and was given, but not yet taken, is
    /// completed first: the state is that between two instructions, or between two rounds of a string.
    ///
    /// # Errors
    /// [`StateError`] if that ends the machine, or a device does not tell its state.
    pub fn state(&mut self) -> Result<State, StateError> {
        self.complete()?;
        let kvm = Kvm::open()?;
        let msrs = kvm.msr_indices()?;
        // What a new machine has is not worth a call when this one goes on elsewhere.
        let vm = kvm.create_vm()?;
        vm.enable_local_apics()?;
        let mut vcpus = Vec::with_capacity(self.vcpus.len());
        for (vcpu, index) in self.vcpus.iter().zip(0..) {
            let state = vcpu.state(&msrs)?;
            let new = vm.create_vcpu(index)?;
            if let Some(cpuid) = state.cpuid() {
                new.set_cpuid(&cpuid)?;
            }
            vcpus.push(state.without(&new.state(&msrs)?));
        }
        let has_clock = vcpus.iter().any(|vcpu| vcpu.tsc().is_some());
        Ok(State {
            memory: self.memory_size(),
            acpi: self.shared.hardware.acpi,
            vcpus,
            clock: if has_clock { Some(self.shared.vm.clock()?) } else { None },
            time: sys::unix_nanos(),
            devices: lock(&self.shared.board).states().map_err(StateError::Devices)?,
        })
    }

    /// Lets every vCPU complete the access that it left for.
    fn complete(&mut self) -> Result<(), StateError> {
        if self.has_ended {
            return Err(StateError::Ended);
        }
        for vcpu in &mut self.vcpus {
            loop {
                vcpu.leave_at_once();
                let mut exit = match vcpu.run()? {
                    Exit::Interrupted => break,
                    Exit::Halt | Exit::Shutdown | Exit::Failed { .. } => return Err(StateError::Ended),
                    access => access,
                };
                // The next round of a string, or the other half of an access.
                let mut board = lock(&self.shared.board);
                self.shared.deliver(&mut board);
                let action = board.serve(&mut exit);
                if !matches!(action, Action::Continue | Action::Stop) {
                    self.has_ended = true;
                    return Err(StateError::Ended);
                }
            }
        }
        Ok(())
    }

    /// The same as [`Machine::state`], and with it what a new vCPU has anyway: for a machine that is to come back to
    /// where it is now, by [`Machine::rewind`].
    pub fn whole_state(&mut self) -> Result<State, StateError> {
        let msrs = Kvm::open()?.msr_indices()?;
        let state = self.state()?;
        let vcpus = self.vcpus.iter().map(|vcpu| vcpu.state(&msrs)).collect::<error::Result<Vec<_>>>()?;
        Ok(State { vcpus, ..state })
    }

    /// Puts everything but the memory back to a [whole state](Machine::whole_state) of this machine, whatever has
    /// become of it since.
    pub fn rewind(&mut self, state: &State) -> Result<(), StateError> {
        let elapsed = Duration::from_nanos(sys::unix_nanos().saturating_sub(state.time));
        for (index, (vcpu, state)) in self.vcpus.iter_mut().zip(&state.vcpus).enumerate() {
            // What it left for is completed first, or it would be completed with the new registers.
            loop {
                vcpu.leave_at_once();
                if !matches!(
                    vcpu.run()?,
                    Exit::Out { .. } | Exit::In { .. } | Exit::MmioRead { .. } | Exit::MmioWrite { .. }
                ) {
                    break;
                }
            }
            vcpu.set_state_again(state, elapsed, index == 0)?;
        }
        lock(&self.shared.board).set_states(&state.devices).map_err(StateError::Devices)?;
        self.shared.tell_vmgenid()?;
        self.shared.cable.clear();
        self.shared.remote = Remote::default();
        self.has_ended = false;
        Ok(())
    }

    /// Whether every vCPU pages as it did in `state`: the same control registers, and so the same tables.
    pub fn has_page_tables_of(&mut self, state: &State) -> error::Result<bool> {
        for (vcpu, state) in self.vcpus.iter().zip(&state.vcpus) {
            let (is, was) = (vcpu.registers()?.system, state.sregs().unwrap_or_default());
            if (is.cr0, is.cr3, is.cr4, is.efer) != (was.cr0, was.cr3, was.cr4, was.efer) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// From now on what the guest writes to its serial port goes to `output`.
    pub fn set_output(&mut self, output: Box<dyn Write + Send>) {
        *lock(&self.shared.output) = Output::new(output, self.shared.max_output);
    }

    /// Bytes of memory.
    pub fn memory_size(&self) -> u64 {
        self.shared.hardware.memory
    }

    /// The guest's memory.
    pub fn memory(&self) -> &Memory {
        self.shared.vm.memory()
    }

    /// A machine that goes on from `state` with `memory`, on `kvm`. Its clocks have run on meanwhile. Of `config` its
    /// limits and its sandbox count.
    ///
    /// `memory` is called when there is a VM.
    ///
    /// # Errors
    /// [`StateError::Devices`] if a device does not take what it is to remember.
    pub fn from_state<P: Probe>(
        kvm: &Kvm,
        state: &State,
        memory: impl Fn() -> error::Result<Memory>,
        config: &Config,
        output: Box<dyn Write + Send>,
        probe: &mut P,
    ) -> Result<Machine, StateError> {
        let elapsed = Duration::from_nanos(sys::unix_nanos().saturating_sub(state.time));
        let (hardware, cable) = (state.hardware(), Cable::default());
        let saved = Saved { state, memory, elapsed, stop_at: config.stop_at, cable: &cable };
        let parts = build(kvm, hardware, &saved, probe)?;
        let machine = Machine::assemble(parts, hardware, cable, config, output);
        machine.shared.tell_vmgenid()?;
        Ok(machine)
    }
}

/// A state that a machine goes on from.
struct Saved<'a, M> {
    state: &'a State,
    memory: M,
    /// The time since it was saved.
    elapsed: Duration,
    stop_at: Option<u8>,
    /// The console.
    cable: &'a Cable,
}

impl<M: Fn() -> error::Result<Memory>> Origin for Saved<'_, M> {
    type Filled = ();
    type Error = StateError;

    fn memory(&self) -> error::Result<Memory> {
        (self.memory)()
    }

    fn devices(&self) -> error::Result<Bus> {
        devices(&self.state.hardware(), self.stop_at, self.cable)
    }

    fn fill<P: Probe>(&self, _memory: &Memory, board: &mut Board, _probe: &mut P) -> Result<(), StateError> {
        board.set_states(&self.state.devices).map_err(StateError::Devices)
    }

    fn start<P: Probe>(
        &self,
        _kvm: &Kvm,
        vm: &Vm,
        vcpus: &mut [Vcpu],
        (): (),
        probe: &mut P,
    ) -> error::Result<()> {
        let restore = || -> error::Result<()> {
            if let Some(clock) = self.state.clock {
                vm.set_clock(clock.saturating_add(self.elapsed.as_nanos() as u64))?;
            }
            for (index, (vcpu, state)) in vcpus.iter_mut().zip(&self.state.vcpus).enumerate() {
                vcpu.set_state(state, self.elapsed, index == 0)?;
                if state.tsc().is_some() {
                    vcpu.tell_pause();
                }
            }
            Ok(())
        };
        probe.call(|| Call::Restore, restore)
    }
}

impl Board {
    /// Tells the guest that its VMGENID is a new one: a pulse at its pin. A guest that has not unmasked the pin
    /// does not want to know.
    pub fn tell_vmgenid(&mut self) -> Option<Msi> {
        let message = self.ioapic.set_line(ports::VMGENID_PIN, true);
        self.ioapic.set_line(ports::VMGENID_PIN, false);
        message
    }

    /// What every device remembers; the place of one that cannot say is the error.
    pub fn states(&self) -> Result<Vec<DeviceState>, String> {
        let slots = self.bus.slots().iter().map(|slot| (slot.space, slot.base, slot.device.state()));
        let ioapic = (Space::Ioapic, layout::IOAPIC, self.ioapic.state());
        let state = |(space, base, bytes): (Space, u64, Option<Vec<u8>>)| match bytes {
            Some(bytes) => Ok(DeviceState { space, base, bytes }),
            None => Err(format!("the device at {base:#x} of the {space} does not tell what it remembers")),
        };
        slots.chain([ioapic]).map(state).collect()
    }

    /// Gives every device what it remembered: as many as there are, each once. The place of one that is not here,
    /// or does not take it, is the error.
    pub fn set_states(&mut self, devices: &[DeviceState]) -> Result<(), String> {
        let slots = self.bus.slots().iter().map(|slot| (slot.space, slot.base));
        let mut left: Vec<(Space, u64)> = slots.chain([(Space::Ioapic, layout::IOAPIC)]).collect();
        for DeviceState { space, base, bytes } in devices {
            let at = left.iter().position(|place| *place == (*space, *base));
            let is_taken = at.map(|at| left.swap_remove(at)).is_some()
                && match space {
                    Space::Ioapic => self.ioapic.set_state(bytes),
                    space => self.bus.set_state(*space, *base, bytes),
                };
            if !is_taken {
                return Err(format!("no device at {base:#x} of the {space} takes its state"));
            }
        }
        match left.first() {
            None => Ok(()),
            Some((space, base)) => {
                Err(format!("the state of the device at {base:#x} of the {space} is missing"))
            }
        }
    }
}

impl Shared {
    /// Lets a guest with ACPI tables know that it is a copy, which others may be, too: a new VMGENID, and the
    /// interrupt that says so.
    fn tell_vmgenid(&self) -> error::Result<()> {
        if !self.hardware.acpi {
            return Ok(());
        }
        firmware::new_vmgenid(self.vm.memory())?;
        let message = lock(&self.board).tell_vmgenid();
        message.map_or(Ok(()), |Msi { address, data }| self.vm.signal_msi(address, data))
    }
}
