//! How a machine is built, step by step: the same steps for one that starts an image and for one that goes on from a saved
//! state.
//!
//! ```text
//!   VM ─▶ local APICs ─▶ memory ─▶ devices ─▶ what is in both ─▶ vCPUs ─▶ what is in those
//! ```
//!
//! The order is a measured choice: docs/performance.md.

use super::board::Board;
use super::devices::{Hardware, devices};
use super::{Config, Image, Machine, Output, Remote, Shared, firmware};
use crate::boot::{self, Payload};
use crate::device::Cable;
use crate::error::{Error, Result, Step};
use crate::kvm::{Call, Kvm, Memory, Vcpu, Vm, allocate};
use crate::sys;
use crate::timeline::{Phase, Probe};
use crate::x86::{Entry, cpuid, msr};
use std::io::Write;
use std::sync::Mutex;

/// What a machine begins with.
pub(super) trait Origin {
    /// What [`fill`](Origin::fill) tells [`start`](Origin::start).
    type Filled;
    /// Why memory and devices cannot be filled.
    type Error: From<Error>;

    /// The guest's memory. Asked for when there is a VM: to create one costs more where its memory is mapped already.
    fn memory(&self) -> Result<Memory>;

    /// Fills memory and devices.
    fn fill<P: Probe>(
        &self,
        memory: &Memory,
        board: &mut Board,
        probe: &mut P,
    ) -> std::result::Result<Self::Filled, Self::Error>;

    /// Puts each vCPU where it begins.
    fn start<P: Probe>(
        &self,
        kvm: &Kvm,
        vm: &Vm,
        vcpus: &mut [Vcpu],
        filled: Self::Filled,
        probe: &mut P,
    ) -> Result<()>;
}

/// Builds a machine on `kvm`. Of `config` its limits and its sandbox count: the hardware and what is in it are given.
pub(super) fn build<O: Origin, P: Probe>(
    kvm: &Kvm,
    hardware: Hardware,
    origin: &O,
    config: &Config,
    output: Box<dyn Write + Send>,
    probe: &mut P,
) -> std::result::Result<Machine, O::Error> {
    let mut vm = probe.call(|| Call::CreateVm, || kvm.create_vm())?;
    probe.mark(Phase::CreateVm);
    probe.call(|| Call::LocalApics, || vm.enable_local_apics())?;
    probe.mark(Phase::LocalApics);
    let bytes = hardware.memory;
    probe.call(|| Call::AddMemory { bytes }, || vm.use_memory(origin.memory()?).map(drop))?;
    probe.mark(Phase::AddMemory);
    let cable = Cable::default();
    let bus = devices(&hardware, config.stop_at, &cable)
        .map_err(|conflict| Error::Misuse(format!("two devices at one place: {conflict}")))?;
    let mut board = Board::new(bus);
    probe.mark(Phase::Devices);
    let filled = origin.fill(vm.memory(), &mut board, probe)?;
    let mut create = |index| probe.call(|| Call::CreateVcpu { index }, || vm.create_vcpu(index));
    let mut vcpus = (0..hardware.cpus).map(&mut create).collect::<Result<Vec<_>>>()?;
    probe.mark(Phase::CreateVcpus);
    origin.start(kvm, &vm, &mut vcpus, filled, probe)?;
    let shared = Shared {
        vm,
        board: Mutex::new(board),
        output: Mutex::new(Output::new(output, config.max_output)),
        cable,
        remote: Remote::default(),
        hardware,
        timeout: config.timeout,
        sandbox: config.sandbox,
        max_output: config.max_output,
    };
    probe.mark(Phase::Registers);
    Ok(Machine { vcpus, shared, has_ended: false })
}

/// An image that is loaded into fresh memory and entered by its boot protocol.
pub(super) struct Loading<'a> {
    pub image: Image<'a>,
    pub config: &'a Config,
}

impl Origin for Loading<'_> {
    type Filled = Entry;
    type Error = Error;

    fn memory(&self) -> Result<Memory> {
        allocate(self.config.memory)
    }

    fn fill<P: Probe>(&self, memory: &Memory, board: &mut Board, probe: &mut P) -> Result<Entry> {
        let Loading { image, config } = self;
        let rsdp = if config.acpi { firmware::add(memory, board.slots(), config.cpus)? } else { 0 };
        let seed = config.acpi.then(sys::random).transpose();
        let seed = seed.map_err(|source| Error::Host { step: Step::Random, source })?;
        let (cmdline, initrd, apics) = (&config.cmdline, config.initrd.as_deref(), config.apics);
        let payload = Payload { image: image.bytes, cmdline, initrd, rsdp, seed, apics };
        let entry = boot::load(config.protocol, &payload, memory)
            .map_err(|source| Error::Image { name: image.name.into(), source })?;
        probe.mark(Phase::Load);
        Ok(entry)
    }

    fn start<P: Probe>(
        &self,
        kvm: &Kvm,
        _vm: &Vm,
        vcpus: &mut [Vcpu],
        entry: Entry,
        probe: &mut P,
    ) -> Result<()> {
        let config = self.config;
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
            let msrs = &msr::AT_BOOT;
            for (index, vcpu) in vcpus.iter().enumerate() {
                probe.call(|| Call::SetMsrs { index, msrs }, || vcpu.set_msrs(msrs))?;
            }
        }
        if let Some(first) = vcpus.first_mut() {
            first.enter(&entry);
        }
        Ok(())
    }
}
