//! How a machine is built, step by step: the same steps for one that starts an image and for one that goes on from a saved
//! state.
//!
//! ```text
//!   VM ─▶ local APICs ─▶ memory ─▶ devices ─▶ what is in both ─▶ vCPUs ─▶ what is in those
//! ```
//!
//! The order is a measured choice: docs/performance.md.

use super::board::Board;
use crate::device::Bus;
use crate::error::{Error, Result};
use crate::kvm::{Call, Kvm, Memory, Vcpu, Vm};
use crate::timeline::{Phase, Probe};

/// What decides which machine it is, and which devices it has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hardware {
    /// Bytes of memory.
    pub memory: u64,
    /// Number of vCPUs.
    pub cpus: u32,
    /// Whether it has what ACPI tables describe.
    pub acpi: bool,
}

/// What a machine begins with: an image, or a saved state.
pub(super) trait Origin {
    /// What [`fill`](Origin::fill) tells [`start`](Origin::start).
    type Filled;
    /// Why memory and devices cannot be filled.
    type Error: From<Error>;

    /// The guest's memory. Asked for when there is a VM: to create one costs more where its memory is mapped already.
    fn memory(&self) -> Result<Memory>;

    /// The devices.
    fn devices(&self) -> Result<Bus>;

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

/// The parts of a machine, ready to run.
pub(super) struct Parts {
    pub vm: Vm,
    pub vcpus: Vec<Vcpu>,
    pub board: Board,
}

/// Builds a machine on `kvm`.
pub(super) fn build<O: Origin, P: Probe>(
    kvm: &Kvm,
    hardware: Hardware,
    origin: &O,
    probe: &mut P,
) -> std::result::Result<Parts, O::Error> {
    let mut vm = probe.call(|| Call::CreateVm, || kvm.create_vm())?;
    probe.mark(Phase::CreateVm);
    probe.call(|| Call::LocalApics, || vm.enable_local_apics())?;
    probe.mark(Phase::LocalApics);
    let bytes = hardware.memory;
    probe.call(|| Call::AddMemory { bytes }, || vm.use_memory(origin.memory()?).map(drop))?;
    probe.mark(Phase::AddMemory);
    let mut board = Board::new(origin.devices()?);
    probe.mark(Phase::Devices);
    let filled = origin.fill(vm.memory(), &mut board, probe)?;
    let mut create = |index| probe.call(|| Call::CreateVcpu { index }, || vm.create_vcpu(index));
    let mut vcpus = (0..hardware.cpus).map(&mut create).collect::<Result<Vec<_>>>()?;
    probe.mark(Phase::CreateVcpus);
    origin.start(kvm, &vm, &mut vcpus, filled, probe)?;
    probe.mark(Phase::Registers);
    Ok(Parts { vm, vcpus, board })
}
