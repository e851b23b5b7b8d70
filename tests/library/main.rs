//! The library, called from this process: devices, loaders, archives, and machines that run in it.
//!
//! What starts the program is in `tests/program/`.

#[path = "../support/mod.rs"]
mod support;

mod advisories;
mod devices;
mod fuzz;
mod initramfs;
mod loader_oracle;
mod program;
mod protocols;
mod start;
mod uart_oracle;
