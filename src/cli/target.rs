//! A file that a command writes when it is through, and that is known to be writable before it begins.
//!
//! Not a golden image, which has another name until it is whole (`Snapshot::save`).

use crate::error::{Error, Result};
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

/// The file, open. What is in it stays there until there is something better.
pub(super) struct Target {
    path: PathBuf,
    file: File,
    /// A pipe or a terminal has no length. Asked at once, as the sandbox of a story asks nothing.
    has_length: bool,
}

impl Target {
    /// Opens `path`, and makes it if need be.
    pub(super) fn open(path: PathBuf) -> Result<Target> {
        let open = || {
            let file = File::options().write(true).create(true).truncate(false).open(&path)?;
            let has_length = file.metadata()?.is_file();
            Ok((file, has_length))
        };
        match open() {
            Ok((file, has_length)) => Ok(Target { path, file, has_length }),
            Err(source) => Err(Error::Export { path, source }),
        }
    }

    /// Puts `text` in the place of what was there: all of it, or nothing where that can be had.
    pub(super) fn write(mut self, text: &str) -> Result<()> {
        let mut write = || -> io::Result<()> {
            if self.has_length {
                self.file.set_len(0)?;
            }
            self.file.write_all(text.as_bytes()).inspect_err(|_| {
                // Half of it would be taken for all of it.
                let _ = if self.has_length { self.file.set_len(0) } else { Ok(()) };
            })
        };
        write().map_err(|source| self.failed(source))
    }

    /// Why the file is not written.
    pub(super) fn failed(self, source: io::Error) -> Error {
        Error::Export { path: self.path, source }
    }
}
