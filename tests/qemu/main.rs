//! Under QEMU: our guests and Linux on its own processor, and Linux's KVM on a processor that it emulates, the rig.
//!
//! Where QEMU, a kernel or parts of the rig are missing, the tests say so and pass; `REQUIRE_QEMU=1`,
//! `REQUIRE_LINUX=1` and `REQUIRE_RIG=1` make them fail.

#[path = "../support/mod.rs"]
mod support;

mod gallery;
mod linux;
mod rig;
