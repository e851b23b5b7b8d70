//! matchstick: a minimal Type-2 hypervisor on KVM.
//!
//! **A VMM is a loop around one ioctl.** Everything before it prepares a machine; inside it an exit
//! becomes an action; after it there is an outcome.
//!
//! Not an emulator of a PC: it has the devices that a small kernel needs to speak and to leave.

pub mod boot;
pub mod cli;
pub mod console;
pub mod device;
pub mod error;
pub mod guest;
pub mod kvm;
pub mod machine;
pub mod sys;
pub mod timeline;
pub mod x86;

pub use error::{Error, Result};
