//! Where an image's files are: in a directory, or in an archive that holds such a directory.
//!
//! What they mean is not known here. An archive is not unpacked: where each file lies in it is noted once, and read from
//! there.

use super::Error;
use super::archive::{Archive, Kind};
use rustix::fs::{Mode, OFlags};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Take};
use std::os::fd::OwnedFd;
use std::path::Path;

/// The most files of an archive: an image has a handful for each layer.
const FILES_MAX: u64 = 100_000;
/// The most links that lead from one file of an archive to another.
const LINKS_MAX: usize = 8;

/// The files of an image.
pub enum Source {
    /// A directory.
    Directory(OwnedFd),
    /// An archive, and where in it each file lies.
    Archive(File, HashMap<String, Place>),
}

/// What an archive has at a name.
pub enum Place {
    /// Contents: their first byte, and how many there are.
    At(u64, u64),
    /// The name of another file of it.
    Link(String),
}

impl Source {
    /// A directory or an archive.
    ///
    /// # Errors
    /// It is neither, or cannot be read.
    pub fn open(path: &Path) -> Result<Source, Error> {
        let open = |source| Error::Open { path: path.into(), source };
        // A pipe in its place is not waited for.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| open(errno.into()))?;
        let file = File::from(opened);
        let metadata = file.metadata().map_err(open)?;
        if metadata.is_dir() {
            return Ok(Source::Directory(file.into()));
        }
        if !metadata.is_file() {
            return Err(Error::NoImage { path: path.into(), what: "neither a directory nor a regular file" });
        }
        let no_image = |what| Error::NoImage { path: path.into(), what };
        let mut magic = Vec::new();
        (&file).take(4).read_to_end(&mut magic).map_err(open)?;
        if magic.starts_with(&[0x1f, 0x8b]) || magic == [0x28, 0xb5, 0x2f, 0xfd] {
            return Err(Error::Compressed { path: path.into() });
        }
        (&file).rewind().map_err(open)?;
        let mut files = HashMap::new();
        let mut archive = Archive::new(&file, FILES_MAX);
        loop {
            let entry = match archive.next_entry() {
                Ok(Some(entry)) => entry,
                Ok(None) => break,
                Err(_) if files.is_empty() => return Err(no_image("no tar archive")),
                Err(error) => return Err(Error::Archive(error)),
            };
            let Some(name) = plain(&entry.name) else { continue };
            let place = match entry.kind {
                Kind::File => {
                    let at = archive.source().stream_position().map_err(open)?;
                    Place::At(at, entry.size)
                }
                // One is as good as the other here. A symbolic link begins at its own directory.
                Kind::HardLink | Kind::Link => {
                    let base = match (entry.kind, name.rsplit_once('/')) {
                        (Kind::Link, Some((directory, _))) => directory,
                        _ => "",
                    };
                    let Some(target) = resolved(base, &entry.target) else { continue };
                    Place::Link(target)
                }
                _ => continue,
            };
            files.insert(name, place);
        }
        Ok(Source::Archive(file, files))
    }

    /// The file of that name, and its size in bytes. `None` if there is none.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn file(&self, name: &str) -> io::Result<Option<(Take<File>, u64)>> {
        let Some(name) = plain(name.as_bytes()) else { return Ok(None) };
        match self {
            Source::Directory(directory) => {
                let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let file = match rustix::fs::openat(directory, &*name, flags, Mode::empty()) {
                    Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(None),
                    opened => File::from(opened?),
                };
                let metadata = file.metadata()?;
                if !metadata.is_file() {
                    return Err(io::ErrorKind::InvalidInput.into());
                }
                Ok(Some((file.take(metadata.len()), metadata.len())))
            }
            Source::Archive(archive, files) => {
                let mut place = files.get(&name);
                for _ in 0..LINKS_MAX {
                    match place {
                        None => return Ok(None),
                        Some(Place::Link(target)) => place = files.get(target),
                        Some(&Place::At(at, size)) => {
                            // Only one of its files is read at a time.
                            let mut archive = archive.try_clone()?;
                            archive.seek(SeekFrom::Start(at))?;
                            return Ok(Some((archive.take(size), size)));
                        }
                    }
                }
                Ok(None)
            }
        }
    }
}

/// A name without what says nothing; `None` for one that leads out, and for one that is no text.
fn plain(name: &[u8]) -> Option<String> {
    if name.starts_with(b"/") {
        return None;
    }
    resolved("", name)
}

/// Where `target` leads from the directory `base` on.
fn resolved(base: &str, target: &[u8]) -> Option<String> {
    let target = std::str::from_utf8(target).ok().filter(|target| !target.contains('\0'))?;
    let mut names: Vec<&str> = base.split('/').filter(|name| !name.is_empty()).collect();
    for name in target.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()?),
            name => names.push(name),
        }
    }
    Some(names.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_leads_out_is_none() {
        assert_eq!(plain(b"./blobs//sha256/a").as_deref(), Some("blobs/sha256/a"));
        assert_eq!((plain(b"/etc/passwd"), plain(b"../a"), plain(b"a/../../b")), (None, None, None));
        assert_eq!(resolved("a", b"../b/layer.tar").as_deref(), Some("b/layer.tar"));
    }
}
