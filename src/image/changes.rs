//! What a program has written over an image: the difference between a layer that was kept and what lies below it.
//!
//! Two forms are read: overlayfs's upper directory, and a whole copy (see `root`). Nothing is mounted for it. Source: the
//! kernel's filesystems/overlayfs.rst, "whiteouts and opaque directories".

use super::Error;
use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// What became of a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// There was none of that name.
    Added(PathBuf),
    /// It is another one, or has other contents, permissions, owners or times.
    Changed(PathBuf),
    /// It is gone.
    Deleted(PathBuf),
}

/// What the layer in `directory` has changed of the image in `below`, in the order of their names. Without the image, all
/// that is there counts as added.
///
/// # Errors
/// Something cannot be read.
pub fn changes(directory: &Path, below: Option<&Path>) -> Result<Vec<Change>, Error> {
    let (upper, files) = (directory.join("upper"), directory.join("files"));
    let is_copy = files.exists();
    let mut found = Vec::new();
    let compared = match (is_copy, upper.exists()) {
        (true, _) => compare(&files, below, Path::new("/"), true, &mut found),
        (false, true) => compare(&upper, below, Path::new("/"), false, &mut found),
        // Nothing has been written to it yet.
        (false, false) => Ok(()),
    };
    compared.map_err(|source| Error::Store { path: directory.into(), source })?;
    Ok(found)
}

/// The names in a directory, and what they are.
fn list(directory: &Path) -> io::Result<BTreeMap<PathBuf, Metadata>> {
    let entry = |entry: io::Result<fs::DirEntry>| {
        let entry = entry?;
        Ok((PathBuf::from(entry.file_name()), entry.metadata()?))
    };
    fs::read_dir(directory)?.map(entry).collect()
}

/// Compares `above` with `below`. A whole copy has all that is left; an upper directory has what is new, and says what is
/// gone.
fn compare(
    above: &Path,
    below: Option<&Path>,
    path: &Path,
    is_whole: bool,
    found: &mut Vec<Change>,
) -> io::Result<()> {
    let upper = list(above)?;
    let mut lower = below.map(list).transpose()?.unwrap_or_default();
    let is_opaque = !is_whole && is_opaque(above);
    let mut names: Vec<&PathBuf> = upper.keys().chain(lower.keys()).collect();
    names.sort();
    names.dedup();
    let names: Vec<PathBuf> = names.into_iter().cloned().collect();
    for name in names {
        let at = path.join(&name);
        match (upper.get(&name), lower.remove(&name)) {
            (None, None) => {}
            (None, Some(_)) if is_whole || is_opaque => found.push(Change::Deleted(at)),
            (None, Some(_)) => {}
            // A character device 0/0 stands for what is gone.
            (Some(file), old) if !is_whole && file.file_type().is_char_device() && file.rdev() == 0 => {
                found.extend(old.map(|_| Change::Deleted(at)));
            }
            (Some(new), None) => {
                found.push(Change::Added(at.clone()));
                if new.is_dir() {
                    compare(&above.join(&name), None, &at, is_whole, found)?;
                }
            }
            (Some(new), Some(old)) => {
                if !is_whole || !is_alike(new, &old) {
                    found.push(Change::Changed(at.clone()));
                }
                if new.is_dir() {
                    let below = below.filter(|_| old.is_dir()).map(|below| below.join(&name));
                    compare(&above.join(&name), below.as_deref(), &at, is_whole, found)?;
                }
            }
        }
    }
    Ok(())
}

/// Whether nothing of the directory below is seen through this one.
fn is_opaque(directory: &Path) -> bool {
    let mut value = [0; 2];
    let name = directory.as_os_str().as_bytes();
    rustix::fs::getxattr(name, "user.overlay.opaque", &mut value).is_ok_and(|len| value[..len] == *b"y")
}

/// Whether a copy is as it was. A file that was written to has another time.
fn is_alike(new: &Metadata, old: &Metadata) -> bool {
    let facts = |of: &Metadata| (of.mode(), of.mtime(), of.mtime_nsec(), of.uid(), of.gid());
    // A directory's size is the file system's own business.
    facts(new) == facts(old) && (new.is_dir() || new.size() == old.size())
}
