//! What is under us, around us, and missing: from facts to layers, and from lacks to mends.
//!
//! ```text
//!   /proc, /sys, CPUID, /dev/kvm ──gather──▶ Facts ──classify──▶ Host
//!                                              └───────needs───▶ Need, Need, …
//! ```
//!
//! [`classify`] and [`needs()`] are pure: what they say of a host can be tested without that host. Nothing here
//! draws; that is the command's part.

mod below;
mod classify;
mod container;
mod facts;
mod gather;
mod needs;
mod pace;

pub use below::{Hypervisor, Platform, Role};
pub use classify::{Engine, Host, Layer, Mark, Place, Typed, classify};
pub use container::Container;
pub use facts::{
    Cgroups, Device, FLAGS, Facts, Firmware, HypervisorLeaf, Kernel, Kvm, Marks, Memory, Pace, Process,
    Processor, Xen,
};
pub use gather::gather;
pub use needs::{Need, State, needs};
