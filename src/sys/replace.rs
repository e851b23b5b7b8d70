//! A file that takes the place of another one in one step, when it is whole.
//!
//! Until then it has no name (O_TMPFILE), so that nothing is left of it, whatever ends us; where a file system has only
//! files with names, it has one of its own beside the other. A full disk, an error or a signal leaves what was there.
//!
//! Sources: open(2), linkat(2), rename(2), statx(2).

use super::check;
use std::ffi::{CString, OsString};
use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, ErrorKind};
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

/// Who may read the new file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Its owner only.
    Private,
    /// Whoever may read the file that it replaces; if there is none, whoever the umask lets.
    AsBefore,
}

/// A new file that is being written, and the place where it goes.
#[derive(Debug)]
pub struct Replacement {
    file: File,
    path: PathBuf,
    /// Its name until then, if it needs one.
    name: Option<PathBuf>,
}

/// So many links lead to a file at most (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// Whether `path` is the name of an open file, so that this is meant, and not what that file is called (proc(5),
/// /proc/pid/fd).
pub fn is_descriptor(path: &Path) -> bool {
    let in_proc = path.starts_with("/proc") && path.parent().is_some_and(|parent| parent.ends_with("fd"));
    let names = ["/dev/stdin", "/dev/stdout", "/dev/stderr"];
    in_proc || path.starts_with("/dev/fd") || names.iter().any(|name| path == Path::new(name))
}

/// What `path` means when it is opened for writing: links are followed, also one that leads to nothing yet, but not the
/// name of an open file.
pub fn follow_links(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        if is_descriptor(&path) {
            return Ok(path);
        }
        match fs::read_link(&path) {
            Ok(target) => path = directory_of(&path).join(target),
            // No link, or nothing: both are the end of the way.
            Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::NotFound) => {
                return Ok(path);
            }
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::from_raw_os_error(libc::ELOOP))
}

/// The directory that `path` lies in.
pub fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

impl Replacement {
    /// Begins a file that is to be at `path`. That it can be written, and put there, is known when this returns.
    ///
    /// # Errors
    /// What is there is not a regular file, may not be written to, or is a mount point, which nothing can replace; or its
    /// directory takes no new files.
    pub fn of(path: &Path, access: Access) -> io::Result<Replacement> {
        let path = follow_links(path)?;
        let directory = directory_of(&path);
        let old = match fs::metadata(&path) {
            Ok(old) if old.is_file() => Some(old),
            Ok(old) if old.is_dir() => return Err(io::Error::from_raw_os_error(libc::EISDIR)),
            Ok(_) => return Err(io::Error::new(ErrorKind::InvalidInput, "it is not a regular file")),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        if old.is_some() {
            // Whoever may not write to it shall not replace it either.
            File::options().write(true).open(&path)?;
            if mount_of(&path)? != mount_of(directory)? {
                return Err(io::Error::new(ErrorKind::InvalidInput, "it is a mount point"));
            }
        }
        let Some(file_name) = path.file_name() else {
            return Err(io::Error::from_raw_os_error(libc::EISDIR));
        };
        let mode = if access == Access::Private { 0o600 } else { 0o666 };
        let nameless = File::options().write(true).mode(mode).custom_flags(libc::O_TMPFILE).open(directory);
        let new = match nameless {
            Ok(file) if Path::new("/proc/self/fd").exists() => Replacement { file, path, name: None },
            Err(error) if !matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR)) => {
                return Err(error);
            }
            _ => {
                let name = directory.join(own_name(file_name.as_bytes()));
                let file = File::options().write(true).create_new(true).mode(mode).open(&name)?;
                Replacement { file, path, name: Some(name) }
            }
        };
        if let Some(old) = old.filter(|_| access == Access::AsBefore) {
            new.take_after(&old)?;
        }
        Ok(new)
    }

    /// The mode of the old file, and its owner where we may give files away.
    fn take_after(&self, old: &Metadata) -> io::Result<()> {
        let new = self.file.metadata()?;
        if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
            let _ = fchown(&self.file, Some(old.uid()), Some(old.gid()));
        }
        self.file.set_permissions(Permissions::from_mode(old.mode() & 0o7777))
    }

    /// The new file, to be written.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Puts the new file in its place; whatever was there is gone then.
    pub fn publish(mut self) -> io::Result<()> {
        self.put()
    }

    /// The same, for one that is kept until its process ends.
    pub(super) fn put(&mut self) -> io::Result<()> {
        self.file.sync_all()?;
        if let Some(name) = &self.name {
            fs::rename(name, &self.path)?;
            self.name = None;
            return Ok(());
        }
        match self.link(&self.path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            linked => return linked,
        }
        // A link replaces nothing: it takes a name, and a renaming that does. Only SIGKILL between the two leaves one.
        let name =
            directory_of(&self.path).join(own_name(self.path.file_name().unwrap_or_default().as_bytes()));
        self.link(&name)?;
        fs::rename(&name, &self.path).inspect_err(|_| {
            let _ = fs::remove_file(&name);
        })
    }

    /// Gives the nameless file a name (linkat(2), the last example).
    fn link(&self, name: &Path) -> io::Result<()> {
        let from = CString::new(format!("/proc/self/fd/{}", self.file.as_raw_fd()))?;
        let to = CString::new(name.as_os_str().as_bytes())?;
        let (here, follow) = (libc::AT_FDCWD, libc::AT_SYMLINK_FOLLOW);
        // SAFETY: both are strings that end with a zero and outlive the call.
        check(unsafe { libc::linkat(here, from.as_ptr(), here, to.as_ptr(), follow) })
    }
}

impl Replacement {
    /// Another process has the same, and decides what becomes of it.
    #[cfg(feature = "trace")]
    pub(super) fn leave_to_another(&mut self) {
        self.name = None;
    }

    /// What is not published is not left behind.
    pub(super) fn abandon(&mut self) {
        if let Some(name) = self.name.take() {
            let _ = fs::remove_file(name);
        }
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        self.abandon();
    }
}

/// The name of what is to be called `name`, while we write it.
fn own_name(name: &[u8]) -> OsString {
    use std::os::unix::ffi::OsStringExt;
    let end = format!(".matchstick-{}", std::process::id());
    // NAME_MAX is 255 bytes.
    let kept = name.len().min(254 - end.len());
    OsString::from_vec([b".", &name[..kept], end.as_bytes()].concat())
}

/// The mount that `path` lies on; 0 where the kernel does not say (before Linux 5.8).
fn mount_of(path: &Path) -> io::Result<u64> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut found = MaybeUninit::<libc::statx>::zeroed();
    let mask = libc::STATX_MNT_ID;
    // SAFETY: the path ends with a zero; `found` is written, and all zeroes is a valid one.
    let found = unsafe {
        check(libc::statx(libc::AT_FDCWD, path.as_ptr(), 0, mask, found.as_mut_ptr()))?;
        found.assume_init()
    };
    Ok(if found.stx_mask & mask != 0 { found.stx_mnt_id } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::symlink;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn nothing_is_there_until_it_is_whole_and_the_old_stays_until_then() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("report");
        for text in ["first", "second"] {
            let before = fs::read(&path).ok();
            let new = Replacement::of(&path, Access::AsBefore).unwrap();
            new.file().write_all(text.as_bytes()).unwrap();
            assert_eq!(fs::read(&path).ok(), before);
            new.publish().unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            assert_eq!(names(dir.path()), ["report"]);
        }
        drop(Replacement::of(&path, Access::AsBefore).unwrap());
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), names(dir.path()).len()), ("second", 1));
    }

    #[test]
    fn mode_and_owner_are_those_of_the_old_one_unless_it_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("report");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o604)).unwrap();
        // Only root may give files away; to others this is a file of their own.
        let _ = std::os::unix::fs::chown(&path, Some(12), Some(34));
        let was = fs::metadata(&path).unwrap();
        Replacement::of(&path, Access::AsBefore).unwrap().publish().unwrap();
        let is = fs::metadata(&path).unwrap();
        assert_eq!((is.mode(), is.uid(), is.gid()), (was.mode(), was.uid(), was.gid()));
        Replacement::of(&path, Access::Private).unwrap().publish().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn links_are_followed_also_to_what_is_not_there_yet() {
        let dir = tempfile::tempdir().unwrap();
        let [path, link, far] = ["report", "link", "far"].map(|name| dir.path().join(name));
        symlink("report", &link).unwrap();
        symlink(&link, &far).unwrap();
        for text in ["new", "newer"] {
            let new = Replacement::of(&far, Access::AsBefore).unwrap();
            new.file().write_all(text.as_bytes()).unwrap();
            new.publish().unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            assert!(link.is_symlink() && far.is_symlink() && !path.is_symlink());
        }
        let circle = dir.path().join("circle");
        symlink("circle", &circle).unwrap();
        let error = Replacement::of(&circle, Access::AsBefore).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ELOOP));
    }

    #[test]
    fn what_cannot_be_replaced_is_refused_before_anything_is_written() {
        let dir = tempfile::tempdir().unwrap();
        for (path, kind) in [
            (dir.path().join("no/such"), ErrorKind::NotFound),
            (dir.path().into(), ErrorKind::IsADirectory),
            ("/dev/null".into(), ErrorKind::InvalidInput),
            ("/".into(), ErrorKind::IsADirectory),
        ] {
            assert_eq!(
                Replacement::of(&path, Access::AsBefore).unwrap_err().kind(),
                kind,
                "{}",
                path.display()
            );
        }
    }
}
