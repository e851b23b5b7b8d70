//! `matchstick bench`, and the containers that it starts. A program of its own: it looks for what is left of its
//! process and of what that started, so nothing else may run in it.

#[path = "../support/mod.rs"]
mod support;

mod container;
mod race;
mod subjects;

use std::sync::{Mutex, MutexGuard};

/// One test at a time: what another one runs would look like something left behind.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
