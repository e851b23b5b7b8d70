//! Why a machine that was asked for cannot be built, before the host is asked for anything.

use crate::text::size;

/// What is wrong with the description of a machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A size of memory that no machine has.
    #[error("a guest has 2M to 1T of memory, in steps of 4K; not {}", size(*bytes))]
    Memory {
        /// The size, in bytes.
        bytes: u64,
    },

    /// A machine without a processor.
    #[error("a machine needs at least one CPU")]
    NoCpu,

    /// More processors than KVM or their APIC ids allow.
    #[error("{cpus} CPUs are more than this host gives a VM ({limit})")]
    TooManyCpus {
        /// How many were asked for.
        cpus: u32,
        /// How many there can be.
        limit: u32,
    },
}
