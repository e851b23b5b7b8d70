//! The only module that talks to /dev/kvm.
//!
//! ```text
//!   Kvm ──KVM_CREATE_VM──▶ Vm ──KVM_CREATE_VCPU──▶ Vcpu ──KVM_RUN──▶ Exit
//!                           │
//!                           └─KVM_SET_USER_MEMORY_REGION─▶ Memory
//! ```
//!
//! Not a wrapper for all of KVM: what matchstick does not call is not here. The ioctls themselves come
//! from the kvm-ioctls crate. Source: the kernel's Documentation/virt/kvm/api.rst; each ioctl is named
//! there as it is here.
#![allow(unsafe_code)]

mod call;
mod coalesced;
mod debug;
mod memory;
mod offer;
mod registers;
pub(crate) mod ring3;
mod state;
mod string;
mod tcg;
mod transfer;
mod tsc;
mod vcpu;
mod vm;

pub use call::Call;
pub use coalesced::Coalesced;
pub use debug::StopPoint;
pub use memory::{MAX_MEMORY, Memory, allocate, map_file};
pub use state::{StatePart, VcpuState};
pub use transfer::{Buffer, read_file, write_file};
pub use vcpu::{Exit, Vcpu, kick_this_thread};
pub use vm::{Kvm, Messenger, Vm};

use crate::error::{Error, Step};

/// Turns an ioctl's error into ours.
fn host<E: Into<std::io::Error>>(step: Step) -> impl FnOnce(E) -> Error {
    move |source| Error::Host { step, source: source.into() }
}
