//! A file that a command writes when it is through, and that is known to be writable before it begins.
//!
//! What was there before stays until there is something better: the new file is another one, and takes its place when
//! it is whole (`sys::replace`). In the sandbox, where no name can be given, a process outside does that
//! (`sys::publisher`). A pipe, a terminal, a device and a descriptor of ours (/dev/stdout) are just written to.

#[cfg(feature = "trace")]
use crate::error::Step;
use crate::error::{Error, Result};
#[cfg(feature = "trace")]
use crate::sys::publisher::Publisher;
use crate::sys::replace::{Access, Replacement, directory_of, follow_links, is_descriptor};
use crate::sys::write_all;
#[cfg(feature = "trace")]
use std::cell::RefCell;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
#[cfg(feature = "trace")]
use std::rc::Rc;

/// The file.
pub struct OutputFile {
    path: PathBuf,
    place: Place,
    /// Who puts it in its place, and its number there; `None` if that is us.
    #[cfg(feature = "trace")]
    publisher: Option<(Rc<RefCell<Publisher>>, u8)>,
}

/// Where it goes.
enum Place {
    /// It is written to as it is.
    Stream(File),
    /// A new file is written, and put there.
    Replaced(Replacement),
}

/// What tells two files apart: device and inode of the file or, of one that is not there yet, of its directory, and its
/// name in that.
type Identity = (u64, u64, Option<OsString>);

impl OutputFile {
    /// Looks whether `path` can be written.
    pub fn open(path: PathBuf) -> Result<OutputFile> {
        match Place::of(&path) {
            Ok(place) => Ok(OutputFile {
                path,
                place,
                #[cfg(feature = "trace")]
                publisher: None,
            }),
            Err(source) => Err(Error::Export { path, source }),
        }
    }

    /// Refuses two that are one file, and one that is the guest's `image`.
    pub fn all_differ<'a>(
        files: impl IntoIterator<Item = &'a OutputFile>,
        image: Option<&Path>,
    ) -> Result<()> {
        let mut taken: Vec<Identity> = image.and_then(identity).into_iter().collect();
        for file in files.into_iter().filter(|file| !matches!(file.place, Place::Stream(_))) {
            let Some(own) = identity(&file.path) else { continue };
            if taken.contains(&own) {
                let source = io::Error::other("it is the image, or meant for two things");
                return Err(Error::Export { path: file.path.clone(), source });
            }
            taken.push(own);
        }
        Ok(())
    }

    /// Has another process put them in their places, from which this one is about to shut itself off. This one must have
    /// only one thread.
    #[cfg(feature = "trace")]
    pub fn publish_from_outside<'a>(files: impl IntoIterator<Item = &'a mut OutputFile>) -> Result<()> {
        let (mut publishers, mut replaced) = (Vec::new(), Vec::new());
        for OutputFile { place, publisher, .. } in files {
            if let Place::Replaced(new) = place {
                replaced.push(new);
                publishers.push(publisher);
            }
        }
        if replaced.is_empty() {
            return Ok(());
        }
        let started = Publisher::start(&mut replaced);
        let publisher = started.map_err(|source| Error::Host { step: Step::StartProcess, source })?;
        let publisher = Rc::new(RefCell::new(publisher));
        for (own, number) in publishers.into_iter().zip(0..) {
            *own = Some((Rc::clone(&publisher), number));
        }
        Ok(())
    }

    /// Adds `text`. What was there before stays until [`finish`](OutputFile::finish), unless it is a stream.
    pub fn append(&self, text: &str) -> Result<()> {
        let file = match &self.place {
            Place::Stream(file) => file,
            Place::Replaced(new) => new.file(),
        };
        write_all(file, text.as_bytes()).map_err(|source| Error::Export { path: self.path.clone(), source })
    }

    /// Puts `text` in the place of what was there: all of it, or nothing. To a stream it is written as far as it goes.
    pub fn write(self, text: &str) -> Result<()> {
        self.append(text)?;
        self.finish()
    }

    /// Puts what was added in the place of what was there.
    pub fn finish(self) -> Result<()> {
        let publish = || match self.place {
            Place::Stream(_) => Ok(()),
            Place::Replaced(new) => {
                #[cfg(feature = "trace")]
                if let Some((publisher, number)) = self.publisher {
                    return publisher.borrow_mut().publish(number);
                }
                new.publish()
            }
        };
        publish().map_err(|source| Error::Export { path: self.path, source })
    }

    /// Why the file is not written.
    #[cfg(feature = "race")]
    pub fn failed(self, source: io::Error) -> Error {
        Error::Export { path: self.path, source }
    }
}

impl Place {
    fn of(path: &Path) -> io::Result<Place> {
        let path = follow_links(path)?;
        if is_descriptor(&path) || fs::metadata(&path).is_ok_and(|old| !old.is_file() && !old.is_dir()) {
            return Ok(Place::Stream(File::options().append(true).open(&path)?));
        }
        Replacement::of(&path, Access::AsBefore).map(Place::Replaced)
    }
}

fn identity(path: &Path) -> Option<Identity> {
    let path = follow_links(path).ok()?;
    match fs::metadata(&path) {
        Ok(is) => Some((is.dev(), is.ino(), None)),
        Err(_) => {
            let directory = fs::metadata(directory_of(&path)).ok()?;
            Some((directory.dev(), directory.ino(), path.file_name().map(OsString::from)))
        }
    }
}
