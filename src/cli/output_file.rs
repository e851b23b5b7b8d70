//! A file that a command writes when it is through, and that is known to be writable before it begins.
//!
//! Not a golden image, which has another name until it is whole (`Snapshot::save`).

use crate::error::{Error, Result};
use crate::sandbox;
use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The file, open. What is in it stays there until there is something better.
pub(super) struct OutputFile {
    path: PathBuf,
    file: File,
    /// Read at once: in the sandbox of `trace` no file may be asked about.
    metadata: Metadata,
    /// We made it, and nothing has been written to it.
    is_empty: bool,
}

impl OutputFile {
    /// Opens `path`, and makes it if need be.
    pub(super) fn open(path: PathBuf) -> Result<OutputFile> {
        let open = || {
            let (file, is_empty) = match File::options().write(true).create_new(true).open(&path) {
                Ok(file) => (file, true),
                Err(_) => (File::options().write(true).create(true).truncate(false).open(&path)?, false),
            };
            Ok((file.metadata()?, file, is_empty))
        };
        match open() {
            Ok((metadata, file, is_empty)) => Ok(OutputFile { path, file, metadata, is_empty }),
            Err(source) => Err(Error::Export { path, source }),
        }
    }

    /// Refuses two that are one file, and one that is the guest's `image`.
    pub(super) fn all_differ<'a>(
        files: impl IntoIterator<Item = &'a OutputFile>,
        image: Option<&Path>,
    ) -> Result<()> {
        let mut taken: Vec<Metadata> = image.and_then(|image| fs::metadata(image).ok()).into_iter().collect();
        for file in files {
            let is = &file.metadata;
            if is.is_file() && taken.iter().any(|other| (other.dev(), other.ino()) == (is.dev(), is.ino())) {
                let source = io::Error::other("it is the image, or meant for two things");
                return Err(Error::Export { path: file.path.clone(), source });
            }
            taken.push(is.clone());
        }
        Ok(())
    }

    /// Puts `text` in the place of what was there: all of it, or nothing where that can be had. A pipe or a
    /// terminal has no length.
    pub(super) fn write(mut self, text: &str) -> Result<()> {
        let has_length = self.metadata.is_file();
        let mut write = || -> io::Result<()> {
            if has_length {
                self.file.set_len(0)?;
            }
            self.file.write_all(text.as_bytes()).inspect_err(|_| {
                // A part of the text could be taken for the whole.
                let _ = if has_length { self.file.set_len(0) } else { Ok(()) };
            })
        };
        match write() {
            Ok(()) => {
                self.is_empty = false;
                Ok(())
            }
            Err(source) => Err(self.failed(source)),
        }
    }

    /// Why the file is not written.
    pub(super) fn failed(self, source: io::Error) -> Error {
        Error::Export { path: self.path.clone(), source }
    }
}

impl Drop for OutputFile {
    /// What holds nothing is not left behind. In the sandbox it is: there no name can be taken away.
    fn drop(&mut self) {
        if self.is_empty && !sandbox::is_in_force() {
            let _ = fs::remove_file(&self.path);
        }
    }
}
