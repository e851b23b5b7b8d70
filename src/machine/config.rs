//! What is asked for: the size of a machine and what it is to start.

use crate::boot::Protocol;
use crate::error::{ConfigError, Result};
use crate::kvm::{Kvm, MAX_MEMORY};
use crate::sandbox::Sandbox;
pub use crate::sys::contents::Contents;
use std::time::Duration;

/// What kind of machine, and what it is to start.
#[derive(Debug, Clone)]
pub struct Config {
    /// Bytes of memory, a multiple of 4 KiB.
    pub memory: u64,
    /// Number of vCPUs.
    pub cpus: u32,
    /// Whether the CPUID instruction shows what the host supports. Without it every leaf is zero, and a
    /// start is cheaper, for tiny guests that do not use it.
    pub cpuid: bool,
    /// Whether there are ACPI tables, in which a kernel finds processors, interrupts and how to switch off,
    /// and random bytes for it to begin with.
    pub acpi: bool,
    /// Whether the page tables of a guest that is entered in long mode map the IOAPIC and its local APIC. That costs
    /// one page more.
    pub apics: bool,
    /// The boot protocol; `None` finds out from the image.
    pub protocol: Option<Protocol>,
    /// The command line.
    pub cmdline: Vec<u8>,
    /// A module or initial RAM disk.
    pub initrd: Option<Contents>,
    /// How long the guest may run.
    pub timeout: Option<Duration>,
    /// How many bytes the guest may write to its serial port.
    pub max_output: Option<u64>,
    /// The POST code at which the machine stops, to be looked at or saved; it can go on from there.
    pub stop_at: Option<u8>,
    /// What the threads of the machine give up when it runs. What the process as a whole gives up is
    /// [`Sandbox::enter`]'s, to be called once it has opened what it needs.
    pub sandbox: Sandbox,
}

impl Default for Config {
    /// One vCPU, 128 MiB, CPUID of the host, no limit of time.
    fn default() -> Config {
        Config {
            memory: 128 << 20,
            cpus: 1,
            cpuid: true,
            acpi: true,
            apics: true,
            protocol: None,
            cmdline: Vec::new(),
            initrd: None,
            timeout: None,
            max_output: None,
            stop_at: None,
            sandbox: Sandbox::Off,
        }
    }
}

impl Config {
    /// The smallest memory, in bytes: below it there is no room for the boot structures and a kernel at 1 MiB.
    pub const MIN_MEMORY: u64 = 2 << 20;
    /// The most CPUs: APIC ids are 8 bits wide, and the last one means "everyone" (SDM 11.6.2.1).
    pub const MAX_CPUS: u32 = 255;

    /// Whether such a machine can be built here.
    pub(super) fn check(&self, kvm: &Kvm) -> Result<()> {
        if !(Config::MIN_MEMORY..=MAX_MEMORY).contains(&self.memory) || !self.memory.is_multiple_of(0x1000) {
            return Err(ConfigError::Memory { bytes: self.memory }.into());
        }
        match self.cpus {
            1 => Ok(()),
            0 => Err(ConfigError::NoCpu.into()),
            cpus => match kvm.max_vcpus().min(Config::MAX_CPUS) {
                limit if cpus > limit => Err(ConfigError::TooManyCpus { cpus, limit }.into()),
                _ => Ok(()),
            },
        }
    }
}
