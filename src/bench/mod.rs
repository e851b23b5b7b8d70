//! The race: how long a virtual machine takes to start, beside a process and containers that do the same.
//!
//! ```text
//!   Payload ─▶ Subject ─run─▶ Sample ─▶ stats ─▶ report
//! ```
//!
//! It measures; it does not make any of them faster. The rules it keeps, and why, are in docs/benchmarking.md.

pub mod card;
pub mod config;
mod error;
pub mod file;
pub mod idle;
pub mod isolation;
pub mod launcher;
pub mod memory;
pub mod observed;
pub mod parallel;
pub mod payload;
pub mod prepared;
pub mod race;
pub mod random;
pub mod report;
pub mod schedule;
pub mod stats;
pub mod stop;
pub mod subject;
pub mod subjects;

pub use error::{Error, Result};
