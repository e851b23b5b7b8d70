//! The x86-64 architecture, as far as a VMM must know it: where things lie in guest-physical memory,
//! and which register values put a processor into a mode.
//!
//! Nothing here talks to KVM's file descriptors; the values are data that [`crate::kvm`] hands over.
//! Sources: Intel SDM volume 3A and AMD64 APM volume 2, by section at each constant.

pub mod cpuid;
pub mod disassembly;
pub mod identity_map;
pub mod layout;
pub mod mode;
pub mod msr;
pub mod page_table;
pub mod ports;
pub mod registers;
pub mod segment;

pub use mode::{Entry, Mode};
pub use registers::Registers;
