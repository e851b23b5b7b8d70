//! The race: how long a virtual machine takes to start, beside a process and containers that do the same.
//!
//! ```text
//!   Payload ─▶ Subject ─run─▶ Sample ─▶ stats ─▶ report
//! ```
//!
//! It measures; it does not make any of them faster. The rules it keeps, and why, are in docs/benchmarking.md.

pub(crate) mod card;
pub(crate) mod config;
mod error;
pub(crate) mod file;
pub(crate) mod idle;
pub(crate) mod isolation;
pub(crate) mod launcher;
pub(crate) mod memory;
pub(crate) mod observed;
pub(crate) mod parallel;
pub(crate) mod payload;
pub(crate) mod prepared;
pub(crate) mod race;
pub(crate) mod random;
pub(crate) mod report;
pub(crate) mod schedule;
pub(crate) mod stats;
pub(crate) mod stop;
pub(crate) mod subject;
pub mod subjects;

pub use error::{Error, Result};
pub use launcher::{Expect, find_program};
pub use payload::{PROBE, Payload, Scratch};
pub use stats::quantile;
pub use subject::{Class, Failure, Kind, Missing, Sample, Subject};
