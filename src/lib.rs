//! matchstick: a minimal Type-2 hypervisor on KVM.
//!
//! **A VMM is a loop around one ioctl.** Everything before it prepares a [`Machine`]; inside it an
//! [`Exit`](kvm::Exit) becomes an [`Action`](device::Action); after it there is an [`Outcome`].
//!
//! ```text
//!   argv → cli → Config + image → Machine ──run──→ Outcome → exit status
//!           image bytes → boot → Entry ↑
//!                 KVM_RUN → Exit → Board → Bus → Device → Action
//!                           Exit → Probe (timeline)
//! ```
//!
//! It is not an emulator of a PC: it has the devices that a small kernel needs to speak and to leave.
//!
//! | read in this order | to learn |
//! |---|---|
//! | [`error`] | what can go wrong, and whose fault it is |
//! | [`kvm`] | how to ask Linux for a virtual machine; what an exit is |
//! | [`x86`] | where things lie in memory, and which bits put a processor into a mode |
//! | [`elf`] | what a kernel's or a program's file says about itself |
//! | [`boot`] | what a kernel expects to find when it starts |
//! | [`linux`] | what Linux is told, and what it finds when it has started |
//! | [`device`] | what answers when the guest touches a port |
//! | [`virtio`] | devices that a guest knows to be in a VM |
//! | [`machine`] | the loop |
//! | [`program`] | a Linux program in a VM, without Linux |
//! | [`timeline`] | who watches it |
//! | [`sandbox`] | what the process gives up before it lets a guest run |
//! | [`snapshot`] | how a machine becomes a file, and many machines again |
//! | [`guest`] | guests to try it with |
//! | [`debugger`] | a guest that stops and goes on as gdb says |
//! | [`mod@trace`] | what happened, call by call and exit by exit |
//! | [`host`] | what is under us: hypervisor, kernel, container; and what is missing |
//! | [`mod@image`] | container images: unpacked, and made a program's root |
//! | [`container`] | what Linux can do without a virtual machine |
//! | [`oci`] | how a container's process becomes a VM |
//! | [`mod@bench`] | how long that takes, beside a process and containers |
//! | [`cli`] | the command |
//!
//! The cargo features `cli`, `race`, `trace`, `debugger` and `images` are on by default. Without them the library is the VMM alone,
//! with a third of the packages.
//!
//! Lower layers never import upper ones; a test sees to it. `unsafe` is allowed in [`kvm`] and `sys` only.

// A library with fewer features has private functions that only the others call; with all of them none is unused.
#![cfg_attr(
    not(all(
        feature = "cli",
        feature = "race",
        feature = "trace",
        feature = "debugger",
        feature = "images"
    )),
    allow(dead_code, unused_imports)
)]

#[cfg(feature = "race")]
pub mod bench;
pub mod boot;
#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "cli")]
mod console;
#[cfg(feature = "cli")]
pub mod container;
#[cfg(feature = "debugger")]
pub mod debugger;
pub mod device;
pub mod elf;
pub mod error;
#[cfg(feature = "cli")]
mod explain;
mod fields;
pub mod guest;
#[cfg(feature = "cli")]
pub mod host;
#[cfg(feature = "images")]
pub mod image;
pub mod kvm;
pub mod linux;
pub mod machine;
#[cfg(feature = "cli")]
pub mod oci;
pub mod program;
pub mod sandbox;
pub mod snapshot;
mod sys;
mod text;
pub mod timeline;
#[cfg(feature = "trace")]
pub mod trace;
pub mod virtio;
pub mod x86;

pub use error::{Error, Result};
pub use machine::{Config, Image, Machine, Outcome};
pub use program::Program;
/// Guest memory is read and written through this trait, at guest-physical addresses.
pub use vm_memory::{Bytes, GuestAddress};

/// The README, whose program is compiled and run as a test where there is a /dev/kvm.
#[cfg(all(doctest, has_kvm))]
#[doc = include_str!("../README.md")]
pub struct Readme;
