//! A VM where podman, docker, containerd and Kubernetes start a container: an OCI runtime that changes what is started.
//!
//! ```text
//!   caller ── create --bundle B ID ──▶ call ──▶ spec: the process of B/config.json becomes
//!             exec --process F ID                     /dev/matchstick exec … -- PROGRAM ARGS
//!                                               └──▶ runc or crun, with the same arguments
//! ```
//!
//! Namespaces, mounts, control groups, capabilities, seccomp and hooks are those of runc or crun, which this process
//! becomes. The VMM is in the container; the system calls that it serves act there by themselves. What is not here:
//! containers of our own (that is [`crate::container`]), and images.
//!
//! Sources: the OCI runtime specification 1.0.2 (config.md, runtime.md); runc(8), crun(1).

mod call;
mod document;
mod error;
mod install;
mod log;
mod lookup;
mod shim;
mod spec;
mod state;

pub use call::is_call;
pub use error::OciError;
pub use install::{Caller, check, planned_link};
pub use shim::become_runtime;
