//! Where images are kept when they are unpacked, and what was written over them: two directories of this user.
//!
//! ```text
//! $XDG_CACHE_HOME/matchstick/images/    may be removed at any time that nothing runs
//!   trees/DIGEST/                       the files of a stack of layers (ChainID); never written to again
//!   trees/DIGEST.lock  DIGEST.name      held by all who run from it; what the image is called
//!   copies/N/                           where nothing can be mounted: what one run has, swept by the next one
//! $XDG_DATA_HOME/matchstick/layers/     what the user has asked to keep
//!   NAME/tree  lock  upper/  work/      over which tree; overlayfs's two directories; or files/, a whole copy
//! ```
//!
//! A tree is unpacked beside its place and renamed when it is whole, by one process at a time (flock(2)); who runs from it
//! holds the lock shared, and so it cannot be removed meanwhile. Sources: the XDG base directory specification; flock(2).

use super::digest::Digest;
use super::{Error, Image, Limits};
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The two directories.
pub struct Store {
    images: PathBuf,
    layers: PathBuf,
}

/// An unpacked image, which stays as long as this is there.
pub struct Tree {
    /// The root of its files.
    pub directory: OwnedFd,
    /// Its path.
    pub path: PathBuf,
    /// What stands for its layers.
    pub chain: Digest,
    /// Keeps it from being removed.
    pub lock: OwnedFd,
}

/// A place for what a program writes, which nobody else has meanwhile.
pub struct Place {
    /// The directory.
    pub directory: PathBuf,
    /// Keeps others away.
    pub lock: OwnedFd,
}

/// What an entry of the list is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// An unpacked image.
    Image,
    /// What was written over one, and kept.
    Layer,
}

/// An entry of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub what: What,
    /// The image's digest, or the layer's name.
    pub name: String,
    /// The image's name; the digest of what a layer was written over.
    pub about: String,
    /// Bytes on the disk.
    pub bytes: u64,
    /// Whether a program runs from it.
    pub is_in_use: bool,
}

impl Store {
    /// This user's.
    ///
    /// # Errors
    /// There is no place for it, or others may write there.
    pub fn open() -> Result<Store, Error> {
        let base = |variable: &str, below_home: &str| {
            // A path that is not absolute is to be ignored.
            let absolute =
                |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
            absolute(variable).or_else(|| Some(absolute("HOME")?.join(below_home))).ok_or(Error::NoHome)
        };
        let images = base("XDG_CACHE_HOME", ".cache")?.join("matchstick/images");
        let layers = base("XDG_DATA_HOME", ".local/share")?.join("matchstick/layers");
        let store = Store { images, layers };
        for directory in [store.images.clone(), store.trees(), store.layers.clone()] {
            let failed = |source| Error::Store { path: directory.clone(), source };
            // Files with set-user-ID and files of other users may lie below: nobody else gets there.
            DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(failed)?;
            let metadata = fs::metadata(&directory).map_err(failed)?;
            if metadata.uid() != crate::sys::effective_user() || metadata.mode() & 0o022 != 0 {
                return Err(Error::NotYours { path: directory });
            }
        }
        Ok(store)
    }

    fn trees(&self) -> PathBuf {
        self.images.join("trees")
    }

    fn tree_path(&self, chain: &Digest) -> PathBuf {
        self.trees().join(chain.digits())
    }

    /// An image's files: unpacked now, if they are not there yet.
    ///
    /// # Errors
    /// It cannot be unpacked; what was written until then is removed.
    pub fn tree(&self, image: &Image, limits: Limits) -> Result<Tree, Error> {
        let chain = image.chain();
        let path = self.tree_path(&chain);
        let lock_path = path.with_extension("lock");
        let mut held = lock(&lock_path, FlockOperation::LockShared)?;
        while !path.exists() {
            drop(held);
            let alone = lock(&lock_path, FlockOperation::LockExclusive)?;
            // Whoever had the lock before may have unpacked it.
            if !path.exists() {
                self.unpack(image, &path, limits)?;
            }
            drop(alone);
            held = lock(&lock_path, FlockOperation::LockShared)?;
        }
        let directory = open_directory(&path)?;
        Ok(Tree { directory, path, chain, lock: held.into() })
    }

    fn unpack(&self, image: &Image, path: &Path, limits: Limits) -> Result<(), Error> {
        let failed = |source| Error::Store { path: path.into(), source };
        let part = path.with_extension("part");
        // Of a process that was killed.
        remove_tree(&part).map_err(failed)?;
        DirBuilder::new().mode(0o755).create(&part).map_err(failed)?;
        let unpacked = open_directory(&part).and_then(|directory| image.unpack(directory, limits));
        if let Err(error) = unpacked {
            let _ = remove_tree(&part);
            return Err(error);
        }
        let name = image.name.as_deref().unwrap_or_default();
        fs::write(path.with_extension("name"), name).map_err(failed)?;
        fs::rename(&part, path).map_err(failed)
    }

    /// What is kept under `name`, written over `tree`: a new directory, if there is none.
    ///
    /// # Errors
    /// Somebody writes to it, or it was written over another image.
    pub fn kept(&self, name: &str, tree: &Tree) -> Result<Place, Error> {
        let directory = self.layers.join(name);
        let failed = |source| Error::Store { path: directory.clone(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(failed)?;
        let lock = try_lock(&directory.join("lock"), name)?;
        let over = directory.join("tree");
        match fs::read_to_string(&over) {
            Ok(chain) if chain == tree.chain.to_string() => {}
            Ok(_) => return Err(Error::OtherImage { name: name.into() }),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                fs::write(&over, tree.chain.to_string()).map_err(failed)?;
            }
            Err(error) => return Err(failed(error)),
        }
        Ok(Place { directory, lock })
    }

    /// A place for one run; those of runs that are over are removed.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn discarded(&self) -> Result<Place, Error> {
        let copies = self.images.join("copies");
        let failed = |source| Error::Store { path: copies.clone(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(&copies).map_err(failed)?;
        sweep(&copies).map_err(failed)?;
        let number = crate::sys::random::<8>().map(u64::from_le_bytes).map_err(failed)?;
        let directory = copies.join(format!("{number:016x}"));
        DirBuilder::new().mode(0o700).create(&directory).map_err(failed)?;
        let lock = try_lock(&directory.join("lock"), "")?;
        Ok(Place { directory, lock })
    }

    /// All that there is, images first, each by its name.
    ///
    /// # Errors
    /// The directories cannot be read.
    pub fn list(&self) -> Result<Vec<Entry>, Error> {
        let mut entries = Vec::new();
        for (what, directory) in [(What::Image, self.trees()), (What::Layer, self.layers.clone())] {
            let failed = |source| Error::Store { path: directory.clone(), source };
            let mut names: Vec<String> = fs::read_dir(&directory)
                .map_err(failed)?
                .flatten()
                .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                .filter_map(|entry| entry.file_name().into_string().ok())
                .filter(|name| !name.ends_with(".part") && !name.ends_with(".gone"))
                .collect();
            names.sort();
            for name in names {
                let path = directory.join(&name);
                let (about, lock) = match what {
                    What::Image => (path.with_extension("name"), path.with_extension("lock")),
                    What::Layer => (path.join("tree"), path.join("lock")),
                };
                entries.push(Entry {
                    what,
                    about: fs::read_to_string(about).unwrap_or_default(),
                    bytes: size(&path),
                    is_in_use: matches!(try_lock(&lock, &name), Err(Error::InUse { .. })),
                    name,
                });
            }
        }
        Ok(entries)
    }

    /// The files of a layer that was kept, and of what it was written over, if that is still there.
    ///
    /// # Errors
    /// There is no such layer.
    pub fn layer(&self, name: &str) -> Result<(PathBuf, Option<PathBuf>), Error> {
        let directory = self.layers.join(name);
        let chain = fs::read_to_string(directory.join("tree")).ok().filter(|_| is_name(name));
        let chain = chain.ok_or(Error::NotThere { name: name.into() })?;
        let below = Digest::parse(&chain).map(|chain| self.tree_path(&chain)).filter(|path| path.exists());
        Ok((directory, below))
    }

    /// Removes what is called `name`: a layer, or an image by its name or the beginning of its digest.
    ///
    /// # Errors
    /// There is none, or it is in use.
    pub fn remove(&self, name: &str) -> Result<(), Error> {
        let entries = self.list()?;
        let is_it = |entry: &&Entry| match entry.what {
            What::Layer => entry.name == name,
            What::Image => {
                let digits = name.strip_prefix("sha256:").unwrap_or(name);
                entry.about == name || digits.len() >= 6 && entry.name.starts_with(digits)
            }
        };
        let found: Vec<&Entry> = entries.iter().filter(is_it).collect();
        if found.is_empty() {
            return Err(Error::NotThere { name: name.into() });
        }
        found.into_iter().try_for_each(|entry| self.remove_entry(entry))
    }

    /// Removes every image that nobody runs from, and what runs have left. Says how many images there were.
    ///
    /// # Errors
    /// One cannot be removed.
    pub fn prune(&self) -> Result<usize, Error> {
        let copies = self.images.join("copies");
        match sweep(&copies) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            swept => swept.map_err(|source| Error::Store { path: copies, source })?,
        }
        let images = self.list()?.into_iter().filter(|entry| entry.what == What::Image && !entry.is_in_use);
        images
            .map(|entry| self.remove_entry(&entry))
            .try_fold(0, |count, removed| removed.map(|()| count + 1))
    }

    fn remove_entry(&self, entry: &Entry) -> Result<(), Error> {
        let (path, lock_path) = match entry.what {
            What::Image => {
                let path = self.trees().join(&entry.name);
                (path.clone(), path.with_extension("lock"))
            }
            What::Layer => (self.layers.join(&entry.name), self.layers.join(&entry.name).join("lock")),
        };
        let failed = |source| Error::Store { path: path.clone(), source };
        let _alone = try_lock(&lock_path, &entry.name)?;
        // At once for all others, then bit by bit.
        let gone = path.with_extension("gone");
        remove_tree(&gone).and_then(|()| fs::rename(&path, &gone)).map_err(failed)?;
        if entry.what == What::Image {
            let _ = fs::remove_file(path.with_extension("name"));
            let _ = fs::remove_file(&lock_path);
        }
        remove_tree(&gone).map_err(failed)
    }
}

/// Removes the copies of runs that are over.
fn sweep(copies: &Path) -> io::Result<()> {
    for entry in fs::read_dir(copies)?.flatten() {
        let path = entry.path();
        // A directory without a lock is being made: it is left to the run after this one's.
        if path.join("lock").exists() && try_lock(&path.join("lock"), "").is_ok() {
            let _ = remove_tree(&path);
        }
    }
    Ok(())
}

/// Whether that can be the name of a layer: letters, digits, `.`, `_` and `-`, and no dot first.
pub fn is_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    !name.is_empty()
        && name.len() <= 100
        && name.chars().all(is_plain)
        && !name.starts_with(['.', '-'])
        && !name.ends_with(".gone")
}

fn open_directory(path: &Path) -> Result<OwnedFd, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, Mode::empty());
    opened.map_err(|errno| Error::Store { path: path.into(), source: errno.into() })
}

/// Takes the lock of a file, which is made for it. Who has it now may have removed it meanwhile: then the next one counts.
fn lock(path: &Path, how: FlockOperation) -> Result<File, Error> {
    let failed = |source| Error::Store { path: path.into(), source };
    loop {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)
            .map_err(failed)?;
        match flock(&file, how) {
            Err(rustix::io::Errno::INTR) => continue,
            locked => locked.map_err(|errno| failed(errno.into()))?,
        }
        let inode = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        let held = file.metadata().map(inode).map_err(failed)?;
        if fs::metadata(path).is_ok_and(|metadata| inode(metadata) == held) {
            return Ok(file);
        }
    }
}

/// The same for one alone, without waiting.
fn try_lock(path: &Path, name: &str) -> Result<OwnedFd, Error> {
    match lock(path, FlockOperation::NonBlockingLockExclusive) {
        Err(Error::Store { source, .. }) if source.kind() == ErrorKind::WouldBlock => {
            Err(Error::InUse { name: name.into() })
        }
        locked => Ok(locked?.into()),
    }
}

/// Removes a directory with all that is in it, also where its permissions are in the way. It may be missing.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            open_up(path)?;
            fs::remove_dir_all(path)
        }
        removed => removed,
    }
}

/// Lets their owner into all directories.
fn open_up(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}

/// Bytes that the files below a directory take on the disk; what cannot be read counts nothing.
fn size(path: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(path) else { return 0 };
    let of = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size(&entry.path()),
        Ok(metadata) => metadata.blocks() * 512 / metadata.nlink().max(1),
        Err(_) => 0,
    };
    entries.flatten().map(of).sum()
}
