//! The files below a directory, read while others may change it.
//!
//! First their names are listed, then each is opened. What lies at a name may be another file by then. So nothing is
//! trusted that was seen before: each file is opened in its own directory, a link is never followed (O_NOFOLLOW), and
//! nothing is opened for reading that could wait or act (a pipe, a device). Source: openat(2), open(2) on O_PATH.

use crate::sys;
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The files below a directory.
pub struct Tree {
    root: PathBuf,
    /// The root, and those directories below it that lead to the file that was opened last.
    open: Vec<(PathBuf, File)>,
}

/// A name in a tree.
pub struct Name {
    /// Where it is, from the root on.
    pub path: PathBuf,
    /// How much data it had when it was listed, in bytes. A file with several names counts with a part at each.
    pub size: u64,
}

/// What lies at a name.
pub enum Found {
    /// A regular file, open for reading.
    File(File, Metadata),
    /// A symbolic link, and where it leads.
    Link(Vec<u8>, Metadata),
    /// A directory, a pipe, a socket, a device.
    Other(Metadata),
}

impl Tree {
    /// The files below `root`, which may be a link to a directory.
    ///
    /// # Errors
    /// It cannot be opened, or is no directory.
    pub fn open(root: &Path) -> io::Result<Tree> {
        let directory = File::open(root)?;
        if !directory.metadata()?.is_dir() {
            return Err(ErrorKind::NotADirectory.into());
        }
        Ok(Tree { root: root.into(), open: vec![(PathBuf::new(), directory)] })
    }

    /// All names, in an order in which each directory comes before what is in it, and those that were gone when they
    /// were looked at. `goes_on` is asked again and again whether there is time for it. Other file systems are not
    /// entered.
    ///
    /// # Errors
    /// The path that could not be read, and why.
    pub fn names<E: From<io::Error>>(
        &self,
        goes_on: impl Fn() -> Result<(), E>,
    ) -> Result<(Vec<Name>, Vec<PathBuf>), (PathBuf, E)> {
        let (mut names, mut gone) = (Vec::new(), Vec::new());
        let at = |path: &Path| {
            let path = self.root.join(path);
            move |error: io::Error| (path, error.into())
        };
        let device = self.root_metadata().map_err(at(Path::new("")))?.dev();
        let mut directories = vec![PathBuf::new()];
        while let Some(directory) = directories.pop() {
            goes_on().map_err(|error| (self.root.join(&directory), error))?;
            let entries = match fs::read_dir(self.root.join(&directory)) {
                Ok(entries) => entries,
                // A directory that is gone has no names. The root is there: it is open.
                Err(error) if is_gone(&error) && directory != Path::new("") => continue,
                Err(error) => return Err(at(&directory)(error)),
            };
            for entry in entries {
                let path = directory.join(entry.map_err(at(&directory))?.file_name());
                let metadata = match fs::symlink_metadata(self.root.join(&path)) {
                    Ok(metadata) => metadata,
                    Err(error) if is_gone(&error) => {
                        gone.push(path);
                        continue;
                    }
                    Err(error) => return Err(at(&path)(error)),
                };
                if metadata.is_dir() && metadata.dev() == device {
                    directories.push(path.clone());
                }
                let size = if metadata.is_dir() { 0 } else { metadata.len() / metadata.nlink().max(1) };
                names.push(Name { path, size });
            }
        }
        // Path by path, a directory is less than what is in it.
        names.sort_by(|one, other| one.path.cmp(&other.path));
        Ok((names, gone))
    }

    /// What lies at `path` now; `None` if it is gone, or was replaced while it was opened. Paths are best asked for in
    /// the order of [`Tree::names`]: each directory is then opened once.
    ///
    /// # Errors
    /// It is there, and cannot be opened.
    pub fn find(&mut self, path: &Path) -> io::Result<Option<Found>> {
        match self.find_or_fail(path) {
            Err(error) if is_gone(&error) => Ok(None),
            found => found,
        }
    }

    fn find_or_fail(&mut self, path: &Path) -> io::Result<Option<Found>> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(None) };
        let directory = self.directory(parent)?;
        // It is looked at before it is opened for reading: to open a device may do something.
        let place = sys::open_at(directory.as_fd(), name, libc::O_PATH)?;
        let metadata = place.metadata()?;
        let kind = metadata.file_type();
        if kind.is_symlink() {
            return Ok(Some(Found::Link(sys::link_target(place.as_fd())?, metadata)));
        }
        if !kind.is_file() {
            return Ok(Some(Found::Other(metadata)));
        }
        let file = sys::open_at(directory.as_fd(), name, libc::O_RDONLY | libc::O_NONBLOCK)?;
        let opened = file.metadata()?;
        let is_same = opened.is_file() && (opened.dev(), opened.ino()) == (metadata.dev(), metadata.ino());
        Ok(is_same.then_some(Found::File(file, opened)))
    }

    /// The directory at `path`, open.
    fn directory(&mut self, path: &Path) -> io::Result<&File> {
        while self.open.len() > 1 && self.open.last().is_some_and(|(open, _)| !path.starts_with(open)) {
            self.open.pop();
        }
        let so_far = self.open.last().map_or(PathBuf::new(), |(open, _)| open.clone());
        for name in path.strip_prefix(&so_far).unwrap_or(path) {
            let Some((above, directory)) = self.open.last() else { break };
            let inner = sys::open_at(directory.as_fd(), name, libc::O_PATH | libc::O_DIRECTORY)?;
            let path = above.join(name);
            self.open.push((path, inner));
        }
        self.open.last().map(|(_, directory)| directory).ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn root_metadata(&self) -> io::Result<Metadata> {
        self.open.first().map_or(Err(ErrorKind::NotFound.into()), |(_, root)| root.metadata())
    }
}

/// Opens the file `path` for reading, which may be a link, without waiting for anybody.
///
/// # Errors
/// It cannot be opened. `Ok(None)` if it is no regular file.
pub fn open_regular(path: &Path) -> io::Result<Option<(File, Metadata)>> {
    let there = fs::metadata(path)?;
    if !there.is_file() {
        return Ok(None);
    }
    let file = sys::open_without_waiting(path)?;
    let metadata = file.metadata()?;
    Ok(metadata.is_file().then_some((file, metadata)))
}

/// Whether a file that was there a moment ago is gone, or another one is in its place.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::fs::symlink;

    /// A directory with `d/file`, and a secret outside of it.
    fn tree() -> (tempfile::TempDir, PathBuf, Tree) {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().join("root");
        fs::create_dir_all(root.join("d")).unwrap();
        fs::write(root.join("d/file"), "public").unwrap();
        fs::create_dir(scratch.path().join("outside")).unwrap();
        fs::write(scratch.path().join("outside/file"), "secret").unwrap();
        let tree = Tree::open(&root).unwrap();
        (scratch, root, tree)
    }

    fn text(found: Option<Found>) -> Option<String> {
        match found? {
            Found::File(mut file, _) => {
                let mut text = String::new();
                file.read_to_string(&mut text).unwrap();
                Some(text)
            }
            Found::Link(target, _) => Some(format!("-> {}", String::from_utf8(target).unwrap())),
            Found::Other(_) => Some("other".into()),
        }
    }

    #[test]
    fn a_file_that_becomes_a_link_is_a_link_and_no_other_file() {
        let (scratch, root, mut tree) = tree();
        let file = Path::new("d/file");
        assert_eq!(text(tree.find(file).unwrap()), Some("public".into()));
        fs::remove_file(root.join(file)).unwrap();
        assert!(tree.find(file).unwrap().is_none());
        let outside = scratch.path().join("outside/file");
        symlink(&outside, root.join(file)).unwrap();
        assert_eq!(text(tree.find(file).unwrap()), Some(format!("-> {}", outside.display())));
    }

    #[test]
    fn a_directory_that_becomes_a_link_leads_nowhere() {
        let (scratch, root, mut tree) = tree();
        fs::rename(root.join("d"), root.join("e")).unwrap();
        symlink(scratch.path().join("outside"), root.join("d")).unwrap();
        assert!(tree.find(Path::new("d/file")).unwrap().is_none());
        assert_eq!(text(tree.find(Path::new("e/file")).unwrap()), Some("public".into()));
    }

    #[test]
    fn a_pipe_in_a_file_s_place_is_not_waited_for() {
        let (_scratch, root, mut tree) = tree();
        let pipe = root.join("d/file");
        fs::remove_file(&pipe).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        assert_eq!(text(tree.find(Path::new("d/file")).unwrap()), Some("other".into()));
        assert!(open_regular(&pipe).unwrap().is_none());
    }

    /// What an attack did: the file is replaced again and again while it is read.
    #[test]
    fn whatever_is_put_in_its_place_meanwhile_nothing_from_outside_is_read() {
        use std::sync::atomic::{AtomicBool, Ordering};
        let (scratch, root, mut tree) = tree();
        let (file, outside) = (root.join("d/file"), scratch.path().join("outside"));
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let link = root.join("link");
                    symlink(outside.join("file"), &link).unwrap();
                    fs::rename(&link, &file).unwrap();
                    fs::write(root.join("new"), "public").unwrap();
                    fs::rename(root.join("new"), &file).unwrap();
                    fs::rename(root.join("d"), root.join("aside")).unwrap();
                    symlink(&outside, root.join("d")).unwrap();
                    fs::remove_file(root.join("d")).unwrap();
                    fs::rename(root.join("aside"), root.join("d")).unwrap();
                }
            });
            for _ in 0..20_000 {
                if let Some(Found::File(mut file, _)) = tree.find(Path::new("d/file")).unwrap() {
                    let mut text = String::new();
                    file.read_to_string(&mut text).unwrap();
                    assert_eq!(text, "public");
                }
                tree.open.truncate(1);
            }
            is_over.store(true, Ordering::Relaxed);
        });
    }
}
