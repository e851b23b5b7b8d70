//! Why a machine does not become a golden image, or cannot be compared with one.

use crate::error::Error;
use crate::machine::StateError;
use std::io;

/// What can go wrong with golden images, beside their files, which are as other images and files are.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The machine cannot be saved as it is, or not be put back.
    #[error("cannot take a snapshot")]
    State(#[source] StateError),

    /// A process cannot be looked into as the running machine that it should be.
    #[error("cannot compare with process {process}")]
    Process {
        /// Its number.
        process: i32,
        /// Why not.
        source: ProcessError,
    },

    /// One that is not about golden images.
    #[error(transparent)]
    Vmm(#[from] Error),
}

impl From<StateError> for SnapshotError {
    fn from(error: StateError) -> SnapshotError {
        match error {
            StateError::Vmm(error) => SnapshotError::Vmm(error),
            error => SnapshotError::State(error),
        }
    }
}

/// Why a process is not a running machine that a golden image can be compared with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessError {
    /// It never was, or has ended.
    #[error("there is no such process, or it has ended")]
    Missing,

    /// No vCPU of it was found.
    #[error("it does not run a virtual machine of ours")]
    NotAMachine,

    /// Another number of vCPUs, or another size of memory.
    #[error("it does not run one machine with the memory and the vCPUs of this image")]
    OtherMachine,

    /// Its memory is a private mapping of another file.
    #[error("it goes on from another golden image: {0}")]
    OtherImage(String),

    /// The operating system does not let us.
    #[error(transparent)]
    Io(io::Error),
}
