//! Why a machine that was asked for cannot be built, before the host is asked for anything.

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

/// Bytes, in the largest unit that shows them whole.
fn size(bytes: u64) -> String {
    let units = [(40, 'T'), (30, 'G'), (20, 'M'), (10, 'K')];
    let whole = units.iter().find(|(shift, _)| bytes != 0 && bytes.trailing_zeros() >= *shift);
    whole.map_or(format!("{bytes} bytes"), |(shift, unit)| format!("{}{unit}", bytes >> shift))
}
