//! Why a container is not started, in the words that callers look for.
//!
//! podman and docker end with 127 on "executable file not found in $PATH" and "no such file or directory", and with 126
//! on "permission denied": so runc says it, and so do we.

use crate::text::shown;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

/// What keeps us from handing a call on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OciError {
    /// Nothing that makes containers.
    #[error("there is no runc and no crun in PATH")]
    NoRuntime,

    /// It is there, and cannot be started.
    #[error("cannot start {}", shown(path))]
    Runtime {
        /// The runtime.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },

    /// Our own file, which the container is to have.
    #[error("cannot find matchstick's own file")]
    OwnFile(#[source] io::Error),

    /// config.json, or the file of a process.
    #[error("cannot read {}", shown(path))]
    Read {
        /// Its path.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },

    /// The changed one.
    #[error("cannot write {}", shown(path))]
    Write {
        /// Its path.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },

    /// It is no such document.
    #[error("{} {what}", shown(path))]
    Document {
        /// Its path.
        path: PathBuf,
        /// What is wrong with it, as the end of the line.
        what: String,
    },

    /// An annotation of ours that means nothing, or asks for what is not there.
    #[error("annotation {name}: {what}")]
    Annotation {
        /// Its name.
        name: &'static str,
        /// What is wrong.
        what: String,
    },

    /// The program is not in the container: runc's words.
    #[error("unable to start container process: exec: {}: {why}", quoted(name))]
    Program {
        /// As it was given.
        name: String,
        /// `executable file not found in $PATH` and its like.
        why: String,
    },

    /// A command of other runtimes.
    #[error("{command} is not there: what a VM holds is not in its process, and would be lost")]
    NotServed {
        /// The word.
        command: String,
    },

    /// A container was made, to see whether it works.
    #[error("a container whose program is a VM does not run here: {why}")]
    DoesNotWork {
        /// What was said.
        why: String,
    },

    /// An option without its value.
    #[error("{} needs a value", shown(option))]
    NoValue {
        /// As it was given.
        option: OsString,
    },
}

/// As Go writes a string, which callers look for.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
}
