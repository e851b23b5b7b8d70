//! What is under us, around us, and missing: from facts to layers, and to what has to be fixed.
//!
//! ```text
//!   /proc, /sys, CPUID, /dev/kvm ──gather──▶ Facts ──classify──▶ Host
//!                                              └─requirements─▶ Requirement, Requirement, …
//! ```
//!
//! [`classify`] and [`requirements()`] are pure: what they say of a host can be tested without that host. Nothing here
//! draws; that is the command's part.

mod classify;
mod container;
mod engine;
mod facts;
mod gather;
mod hypervisor;
mod requirements;
mod timing;

pub use classify::{Host, Layer, LayerKind, Mark, Typed, classify};
pub use container::Container;
pub use engine::Engine;
pub use facts::{
    Cgroups, Device, FLAGS, Facts, Firmware, HypervisorLeaf, Kernel, Kvm, Marks, Memory, Process, Processor,
    Timing, Xen,
};
pub use gather::gather;
pub use hypervisor::{Hypervisor, Platform, Role};
pub use requirements::{Requirement, State, requirements};
pub use timing::is_loaded;
