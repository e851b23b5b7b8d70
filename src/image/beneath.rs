//! Steps below a directory, by the kernel's own look-up: what layers are unpacked with.
//!
//! A name of an archive becomes names, none of which leads up or begins at the root; a directory is opened so that no link
//! leads out of it. Source: openat2(2), RESOLVE_BENEATH.

use crate::sys::not_raced;
use rustix::fs::{self, AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Timespec, Timestamps};
use rustix::io::Errno;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

/// How deep directories may lie in each other.
pub const DEPTH_MAX: usize = 256;
/// What went wrong with one entry.
pub enum Trouble {
    /// It asks for what it must not get.
    Refused(&'static str),
    /// It cannot be made.
    Make(io::Error),
    /// Its contents cannot be read.
    Read(io::Error),
}

impl From<Errno> for Trouble {
    fn from(errno: Errno) -> Trouble {
        match errno {
            // A link that leads out, or one of procfs, or too many.
            Errno::XDEV | Errno::LOOP => {
                Trouble::Refused("it passes through a link that leads out of the image")
            }
            errno => Trouble::Make(errno.into()),
        }
    }
}

/// How a name is looked up: nothing leads out.
pub const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS);

/// Whether owners can be given to files at all.
pub fn may_give_owners() -> bool {
    crate::sys::effective_user() == 0
}

/// An owner that this process may not give, or that its user namespace does not have, is left away.
pub fn as_far_as_may_be(errno: Errno) -> Result<(), Errno> {
    match errno {
        Errno::PERM | Errno::INVAL => Ok(()),
        errno => Err(errno),
    }
}

pub fn open_directory(root: &OwnedFd, path: &[u8]) -> Result<OwnedFd, Errno> {
    let path = if path.is_empty() { &b"."[..] } else { path };
    open(root, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC)
}

/// What is there below `root`, whatever is renamed meanwhile.
pub fn open(root: &OwnedFd, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    not_raced(|| fs::openat2(root, path, flags, Mode::empty(), BENEATH), |errno| *errno == Errno::AGAIN)
}

/// A directory of a directory, to be listed.
pub fn below(parent: BorrowedFd<'_>, name: &[u8], depth: usize) -> Result<OwnedFd, Trouble> {
    if depth > DEPTH_MAX {
        return Err(Trouble::Refused("it lies too deep"));
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(fs::openat(parent, name, flags, Mode::empty())?)
}

pub fn is_directory(parent: BorrowedFd<'_>, name: &[u8]) -> Result<bool, Errno> {
    let found = fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(FileType::from_raw_mode(found.st_mode) == FileType::Directory)
}

/// Whether two names are of one file already.
pub fn is_same(one: BorrowedFd<'_>, name: &[u8], other: BorrowedFd<'_>, its_name: &[u8]) -> bool {
    let found = |parent, name| fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).map(|it| it.st_ino);
    matches!((found(one, name), found(other, its_name)), (Ok(one), Ok(other)) if one == other)
}

/// The names in a directory, `.` and `..` left out.
pub fn list(directory: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>, Errno> {
    // A handle without the right to read is none that can be listed.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = fs::openat(directory, ".", flags, Mode::empty())?;
    let names = Dir::new(directory)?.map(|entry| Ok(entry?.file_name().to_bytes().to_vec()));
    names.filter(|name| !matches!(name.as_deref(), Ok(b"." | b".."))).collect()
}

pub fn times(time: i64) -> Timestamps {
    let time = Timespec { tv_sec: time, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

pub fn joined(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() }
}

/// The names of a path, each in the directory before; none for the directory itself.
pub fn names(path: &[u8]) -> Result<Vec<&[u8]>, Trouble> {
    if path.starts_with(b"/") {
        return Err(Trouble::Refused("its name is absolute"));
    }
    if path.contains(&0) || path.is_empty() {
        return Err(Trouble::Refused("it has no name"));
    }
    let names: Vec<&[u8]> =
        path.split(|&byte| byte == b'/').filter(|name| !matches!(*name, b"" | b".")).collect();
    match names.iter().any(|name| *name == b"..") {
        true => Err(Trouble::Refused("its name leads out of the image")),
        false if names.len() > DEPTH_MAX => Err(Trouble::Refused("it lies too deep")),
        false => Ok(names),
    }
}

/// The same of a hard link's target.
pub fn names_of_target(path: &[u8]) -> Result<Vec<&[u8]>, Trouble> {
    names(path).map_err(|_| Trouble::Refused("it is another name of something outside of the image"))
}
