//! The program, started as a user would, and what it does with input, output, signals and its host.
//!
//! These tests share a process. One that changes it for good, or counts what it has, runs in another one that it
//! starts for itself: `support::in_a_process`.

#[path = "../support/mod.rs"]
mod support;

mod cli;
mod debugger;
mod debugger_exec;
mod ends;
mod errors;
mod examples;
mod exec;
mod exec_files;
mod explain;
mod faults;
mod gallery;
mod host;
mod hostile;
mod images;
mod korean;
mod lab;
mod limits;
mod linux;
mod load;

mod own_guest;
mod postmortem;
mod run;
mod sandbox;
mod snapshot;
mod streams;
mod suites;
mod terminal;
mod trace;
mod trace_exec;
