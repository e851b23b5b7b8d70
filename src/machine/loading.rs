//! A machine that begins with an image: it is loaded into fresh memory, and entered by its boot protocol.

use super::board::Board;
use super::build::{Hardware, Origin};
use super::devices::devices;
use super::{Config, Image, firmware};
use crate::boot::{self, Payload};
use crate::device::{Bus, Cable};
use crate::error::{Error, Result, Step};
use crate::kvm::{Call, Kvm, Memory, Vcpu, Vm, allocate};
use crate::sys;
use crate::timeline::{Phase, Probe};
use crate::x86::{Entry, cpuid, msr};

/// An image, and what is to be built around it.
pub(super) struct Loading<'a> {
    pub image: Image<'a>,
    pub config: &'a Config,
    /// The console.
    pub cable: &'a Cable,
}

impl Loading<'_> {
    pub fn hardware(&self) -> Hardware {
        let &Config { memory, cpus, acpi, .. } = self.config;
        Hardware { memory, cpus, acpi }
    }
}

impl Origin for Loading<'_> {
    type Filled = Entry;
    type Error = Error;

    fn memory(&self) -> Result<Memory> {
        allocate(self.config.memory)
    }

    fn devices(&self) -> Result<Bus> {
        devices(&self.hardware(), self.config.stop_at, self.cable)
    }

    fn fill<P: Probe>(&self, memory: &Memory, board: &mut Board, probe: &mut P) -> Result<Entry> {
        let Loading { image, config, .. } = self;
        let rsdp = if config.acpi { firmware::add(memory, board.bus.slots(), config.cpus)? } else { 0 };
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
