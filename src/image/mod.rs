//! Container images: found in a layout or an archive, unpacked into a cache, and made the root of a program.
//!
//! ```text
//!   DIR or TAR → Source → layout: index, manifest, configuration → Image
//!     layer: gzip, zstd or plain → digests → Archive → Unpacker → a tree in the Store, once
//!       tree + what is written → overlay → root: the directory that `program` is given
//! ```
//!
//! Nothing here speaks to a registry, and nothing runs a program: `cli` gives the root to `program`. Sources: the OCI image
//! specification 1.1; each file names its part. docs/images.md says what all of it is good for.

pub mod archive;
mod beneath;
mod changes;
mod compression;
mod digest;
mod layer;
mod layout;
mod root;
mod source;
mod store;
#[cfg(test)]
#[path = "../../tests/support/tar.rs"]
#[allow(dead_code, reason = "each who makes archives makes others")]
mod tar_maker;
mod user;

pub use changes::{Change, changes};
pub use digest::Digest;
pub use layer::{LayerError, Unpacker};
pub use layout::Process;
pub use root::{Root, Written};
pub use store::{Entry, Place, Store, Tree, What, is_name};
pub use user::User;

use crate::text::shown;
use archive::{ArchiveError, Stream};
use compression::Decompressed;
use digest::Hashed;
use source::Source;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// What keeps an image from being found, unpacked or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It is not there, or cannot be opened.
    #[error("cannot open {}", shown(path))]
    Open {
        /// As it was given.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// It is something else.
    #[error("{} is no container image: it is {what}", shown(path))]
    NoImage {
        /// As it was given.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// An archive that was compressed as a whole.
    #[error("{} is compressed as a whole", shown(path))]
    Compressed {
        /// As it was given.
        path: PathBuf,
    },
    /// It holds no image that could run here.
    #[error("there is no image for linux/amd64 in it")]
    Empty,
    /// It holds several.
    #[error("there is more than one image in it: {}", few(names))]
    Which {
        /// Their names.
        names: Vec<String>,
    },
    /// It holds none that is called so.
    #[error("no image in it is called {name:?}: there is {}", few(names))]
    NoName {
        /// As it was typed.
        name: String,
        /// Those that there are.
        names: Vec<String>,
    },
    /// It is for other machines.
    #[error("the image is for {platform}")]
    Platform {
        /// Operating system and processor.
        platform: String,
    },
    /// Something of it does not hold together.
    #[error("the image's {what} is damaged: {}", crate::text::one_line(why))]
    Damaged {
        /// Which document.
        what: &'static str,
        /// Why.
        why: String,
    },
    /// Something that it names is not there.
    #[error("the image's {what} is missing")]
    Missing {
        /// Which document.
        what: &'static str,
    },
    /// Something of it is not what its digest says.
    #[error("the image's {what} is damaged: its digest or its size is another one")]
    Digest {
        /// Which document.
        what: &'static str,
    },
    /// A document cannot be read.
    #[error("cannot read the image's {what}")]
    Read {
        /// Which one.
        what: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
    /// The archive that holds it.
    #[error("cannot read the image")]
    Archive(#[source] ArchiveError),
    /// A layer cannot be unpacked.
    #[error("layer {number} of the image")]
    Layer {
        /// Which one, from 1.
        number: usize,
        /// Why.
        source: LayerError,
    },
    /// A layer is missing, or not what its digest says.
    #[error("layer {number} of the image {what}")]
    Blob {
        /// Which one, from 1.
        number: usize,
        /// What is wrong with it.
        what: &'static str,
    },
    /// It unpacks to more than it may.
    #[error("the image unpacks to more than {} MiB", limit >> 20)]
    TooLarge {
        /// Bytes.
        limit: u64,
    },
    /// The cache is not to be had.
    #[error("cannot use the cache {}", shown(path))]
    Store {
        /// Which part of it.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Nothing says where a cache could be.
    #[error("there is no place for a cache: neither HOME nor XDG_CACHE_HOME is set")]
    NoHome,
    /// Others could have written to it.
    #[error("the cache {} is not yours alone", shown(path))]
    NotYours {
        /// The directory.
        path: PathBuf,
    },
    /// Somebody runs from it.
    #[error("{name} is in use")]
    InUse {
        /// What it is called.
        name: String,
    },
    /// It was written where overlays can be mounted.
    #[error("{name} is an overlay, which cannot be mounted here")]
    NeedsOverlay {
        /// What it is called.
        name: String,
    },
    /// There is nothing of that name.
    #[error("nothing is called {name:?}")]
    NotThere {
        /// As it was typed.
        name: String,
    },
    /// What was kept belongs to another image.
    #[error("{name} was written over another image")]
    OtherImage {
        /// What it is called.
        name: String,
    },
    /// The user whom the image or the command line names is not in its /etc/passwd.
    #[error("the image has no user or group {name:?}")]
    NoUser {
        /// The name.
        name: String,
    },
    /// The working directory cannot be entered or made.
    #[error("cannot enter the image's working directory {}", shown(path))]
    WorkingDirectory {
        /// Its path in the image.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The root cannot be put together.
    #[error("cannot {what}")]
    Root {
        /// Which step.
        what: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
}

/// The first of some names.
fn few(names: &[String]) -> String {
    const SHOWN: usize = 8;
    let first: Vec<String> = names.iter().take(SHOWN).map(shown).collect();
    match names.len() {
        0 => "none that has a name".into(),
        1..=SHOWN => first.join(", "),
        more => format!("{} and {} more", first.join(", "), more - SHOWN),
    }
}

/// A layer, and where its archive lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// The name of its file.
    file: String,
    /// The digest and the size of that, where something says them.
    blob: Option<(Digest, u64)>,
    /// The digest of what is in it, when it is not compressed (DiffID).
    contents: Digest,
}

/// What an image may unpack to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of its uncompressed layers, taken together.
    pub bytes: u64,
    /// Files, directories and links.
    pub entries: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { bytes: 16 << 30, entries: 2_000_000 }
    }
}

/// An image that was found: it is not unpacked yet.
pub struct Image {
    source: Source,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// What is to run in it.
    pub process: Process,
    layers: Vec<Layer>,
}

impl Image {
    /// The image at `path`: in a layout, an archive of one, or one of `docker save`. If it holds several, `name` is that
    /// of the one that is meant.
    ///
    /// # Errors
    /// There is none, or more than one, or it does not hold together.
    pub fn open(path: &Path, name: Option<&str>) -> Result<Image, Error> {
        let source = Source::open(path)?;
        let found = layout::find(&source, name)?;
        let no_image = "without an index.json and a manifest.json";
        let found = found.ok_or(Error::NoImage { path: path.into(), what: no_image })?;
        Ok(Image { source, name: found.name, process: found.process, layers: found.layers })
    }

    /// What stands for its layers, in their order: two images with the same have the same files.
    pub fn chain(&self) -> Digest {
        Digest::of_chain(&self.layers.iter().map(|layer| layer.contents).collect::<Vec<_>>())
    }

    /// How many layers it has.
    pub fn layers(&self) -> usize {
        self.layers.len()
    }

    /// Unpacks all layers into `directory`, which is empty.
    ///
    /// # Errors
    /// Of a layer that is missing, damaged or hostile, and of an image that is too large. What was unpacked until then
    /// stays, and is to be thrown away.
    pub fn unpack(&self, directory: OwnedFd, limits: Limits) -> Result<(), Error> {
        let mut unpacker = Unpacker::new(directory, limits.entries);
        let mut left = limits.bytes;
        for (number, layer) in (1..).zip(&self.layers) {
            let wrong = |what| Error::Blob { number, what };
            let read = |source| Error::Layer { number, source: LayerError::Read(source) };
            let (blob, size) = self.source.file(&layer.file).map_err(read)?.ok_or(wrong("is missing"))?;
            if layer.blob.is_some_and(|(_, expected)| expected != size) {
                return Err(wrong("is damaged: its size is another one"));
            }
            let mut blob = Hashed::new(blob);
            let mut contents = Hashed::new(Decompressed::new(&mut blob).map_err(read)?);
            let mut metered = Metered { source: &mut contents, left: &mut left, is_over: false };
            let applied = unpacker.apply(Stream(&mut metered));
            // What follows the archive's end belongs to what its digest is of, and counts.
            let rest = applied
                .map_err(|source| Error::Layer { number, source })
                .and_then(|()| io::copy(&mut metered, &mut io::sink()).map(drop).map_err(read));
            if metered.is_over {
                return Err(Error::TooLarge { limit: limits.bytes });
            }
            rest?;
            let found = contents.finish().map_err(read)?;
            let is_whole = match layer.blob {
                Some((expected, _)) => blob.finish().map_err(read)? == expected,
                None => true,
            };
            if found != layer.contents || !is_whole {
                return Err(wrong("is damaged: its digest is another one"));
            }
        }
        unpacker.finish().map_err(|source| Error::Root { what: "finish the image's directories", source })
    }
}

/// A reader that gives no more than there may still be.
struct Metered<'a, R> {
    source: R,
    left: &'a mut u64,
    is_over: bool,
}

impl<R: Read> Read for Metered<'_, R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let len = self.source.read(bytes)?;
        match self.left.checked_sub(len as u64) {
            Some(left) => *self.left = left,
            None => {
                self.is_over = true;
                return Err(io::ErrorKind::FileTooLarge.into());
            }
        }
        Ok(len)
    }
}
