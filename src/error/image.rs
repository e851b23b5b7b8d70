//! What can be wrong with an image. Nothing of the host: that is [`Error`](super::Error).

use crate::text::{hex, size};

/// Why an image cannot be booted.
///
/// Addresses are guest-physical; sizes are in bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The file holds nothing.
    #[error("the file is empty")]
    Empty,

    /// No boot protocol recognises the image.
    #[error("not a kernel: no ELF, Multiboot, Linux or boot-sector signature (it begins {})", hex(head))]
    Unknown {
        /// The image's first bytes, at most eight.
        head: Vec<u8>,
    },

    /// A kind of file that is recognised, but not booted.
    #[error("it is {kind}; {advice}")]
    Unsupported {
        /// What it is, with its article.
        kind: &'static str,
        /// What to do instead.
        advice: &'static str,
    },

    /// Something was given that the protocol cannot hand to the guest; it is not dropped silently.
    #[error("{protocol} has no way to pass {what} to the guest")]
    Unpassable {
        /// The protocol's name.
        protocol: &'static str,
        /// What would be lost.
        what: &'static str,
    },

    /// A protocol was asked for whose header the image does not have.
    #[error("not {protocol}: {why}")]
    Not {
        /// The protocol's name.
        protocol: &'static str,
        /// What is missing.
        why: &'static str,
    },

    /// A header is not as its specification has it.
    #[error("{what} is damaged: {why}")]
    Damaged {
        /// The header or table.
        what: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },

    /// The image ends before something its headers promise.
    #[error("cut short: {what} ends at byte {end:#x}, the file at {len:#x}")]
    Truncated {
        /// The part that is cut.
        what: &'static str,
        /// Where in the file that part ends.
        end: u64,
        /// The length of the file.
        len: u64,
    },

    /// A part does not fit the guest's memory.
    #[error("{what} needs {start:#x}..{end:#x}, outside the guest's memory (it ends at {memory:#x}){}", least(*end))]
    Outside {
        /// The part that does not fit.
        what: &'static str,
        /// Its first byte.
        start: u64,
        /// The byte after its last.
        end: u64,
        /// The end of the guest's memory.
        memory: u64,
    },

    /// Two parts want the same bytes of guest memory.
    #[error("{what} at {start:#x}..{end:#x} would overwrite {other}")]
    Overlap {
        /// The part that came second.
        what: &'static str,
        /// Its first byte.
        start: u64,
        /// The byte after its last.
        end: u64,
        /// What is already there.
        other: &'static str,
    },

    /// Something that may lie anywhere finds no place.
    #[error("{what} of {size} bytes finds no room below {limit:#x}")]
    NoRoom {
        /// What it is.
        what: &'static str,
        /// Its size.
        size: u64,
        /// It has to end here or before: the end of memory, or the highest address that the kernel takes.
        limit: u64,
        /// The end of the guest's memory.
        memory: u64,
    },

    /// A file that no memory of that size holds; it is not even read.
    #[error("it has {size} bytes, and the guest's memory {memory}")]
    LargerThanMemory {
        /// The size of the file, or what was read of it.
        size: u64,
        /// The size of the guest's memory.
        memory: u64,
    },

    /// Something is larger than the protocol allows.
    #[error("{what} is {size} bytes, the limit is {limit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size.
        size: u64,
        /// The largest size that works.
        limit: u64,
    },

    /// A golden image of a machine with more memory than it may have.
    #[error("its machine has {} of memory, and {} is the limit", size(*bytes), size(*limit))]
    TooMuchMemory {
        /// The memory of its machine, in bytes.
        bytes: u64,
        /// The largest that is allowed.
        limit: u64,
    },

    /// A golden image of a machine with more processors than it may have.
    #[error("its machine has {cpus} CPUs, and {limit} is the limit")]
    TooManyCpus {
        /// The processors of its machine.
        cpus: u32,
        /// The most that are allowed.
        limit: u32,
    },

    /// The image is of a machine whose processor is not to be had here.
    #[error("its guest knows a processor that this host cannot give it: {what}")]
    Foreign {
        /// What is missing.
        what: String,
    },

    /// The guest would start where nothing was loaded.
    #[error("the entry point {entry:#x} lies outside every loaded segment")]
    Entry {
        /// The entry point.
        entry: u64,
    },
}

/// Images are loaded below 3 GiB: from there to 4 GiB a guest has devices in place of memory.
pub const LOADED_BELOW: u64 = 3 << 30;

/// The memory that reaches to `end`, where there is any.
fn least(end: u64) -> String {
    if end > LOADED_BELOW {
        String::new()
    } else {
        format!("; {}M is the least it needs", end.div_ceil(1 << 20))
    }
}
