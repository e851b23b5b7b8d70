//! The root that a program of an image gets: the image's files, which stay as they are, under what it writes.
//!
//! Linux puts the two together: overlayfs, in a mount namespace of our own, for an ordinary user in a user namespace as
//! well (Linux 5.11). What is written is a directory beside the image: in memory (tmpfs), gone with the last process, or
//! kept under a name. Where nothing may be mounted, the files are copied; a file system that can share them (btrfs, XFS)
//! does. Why not otherwise: to look up each path in two trees ourselves would put a second overlayfs into the table of
//! system calls; links to the image's files (link(2)) would let a program write to them.
//! Sources: the kernel's filesystems/overlayfs.rst, "userxattr"; user_namespaces(7); mount_namespaces(7).

use super::Error;
use super::store::{Place, Store, Tree};
use super::user::User;
use crate::sys;
use crate::sys::clone::inside;
use crate::text::shown;
use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// How deep directories are copied.
const DEPTH_MAX: usize = 512;
/// Where we mount: in a namespace of our own, and nothing of ours is below it. Everybody may pass through it.
const MOUNT_POINT: &CStr = c"/tmp";
/// Where a sysctl says that a user namespace gives no rights (Ubuntu). That is found out before one is entered, as there
/// is no way back.
const RESTRICTED: &str = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns";

/// What becomes of what a program writes.
pub enum Written {
    /// It is gone when the last process has ended.
    Discarded,
    /// It stays there.
    Kept(Place),
}

/// A root, ready.
pub struct Root {
    /// Its directory.
    pub path: PathBuf,
    /// What has to stay open while it is used.
    pub held: Vec<OwnedFd>,
    /// Whether users and groups are those of a namespace that has one of each.
    pub has_one_user: bool,
    /// Whether a program can have the user that the image names.
    pub has_users: bool,
}

impl Root {
    /// Puts it together. This process is then in other namespaces, for good; it has to have one thread.
    ///
    /// # Errors
    /// Something can be neither mounted nor copied.
    pub fn enter(
        store: &Store,
        tree: Tree,
        written: Written,
        user: &User,
        copies: bool,
    ) -> Result<Root, Error> {
        let is_root = sys::effective_user() == 0;
        let is_copy = matches!(&written, Written::Kept(place) if place.directory.join("files").exists());
        let is_overlay = matches!(&written, Written::Kept(place) if place.directory.join("upper").exists());
        let mut has_one_user = false;
        if !copies && !is_copy {
            let namespaces = match is_root {
                true => unshare(libc::CLONE_NEWNS),
                false if std::fs::read(RESTRICTED).is_ok_and(|value| value.starts_with(b"1")) => Ok(false),
                false => unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS),
            };
            if namespaces? {
                has_one_user = !is_root;
                if has_one_user {
                    map(user)?;
                }
                match overlay(&tree, &written) {
                    Ok(path) => {
                        let mut held = vec![tree.lock];
                        if let Written::Kept(place) = written {
                            held.push(place.lock);
                        }
                        return Ok(Root { path, held, has_one_user, has_users: true });
                    }
                    Err(error) if is_refusal(&error) => {}
                    Err(source) => return Err(Error::Root { what: "mount an overlay", source }),
                }
            }
        }
        let place = match written {
            Written::Kept(place) if is_overlay => {
                let name = place.directory.file_name().unwrap_or_default();
                return Err(Error::NeedsOverlay { name: shown(name) });
            }
            Written::Kept(place) => place,
            Written::Discarded => store.discarded()?,
        };
        let path = place.directory.join("files");
        if !is_copy {
            let failed = |source| Error::Root { what: "copy the image's files", source };
            let part = place.directory.join("part");
            super::store::remove_tree(&part).map_err(failed)?;
            DirBuilder::new().mode(0o755).create(&part).map_err(failed)?;
            let target = File::open(&part).map_err(failed)?;
            copy(tree.directory.as_fd(), target.as_fd(), &mut HashMap::new(), 0).map_err(failed)?;
            std::fs::rename(&part, &path).map_err(failed)?;
        }
        Ok(Root { path, held: vec![tree.lock, place.lock], has_one_user, has_users: is_root || has_one_user })
    }
}

/// Whether the kernel says that this is not to be had here, rather than that something is wrong.
fn is_refusal(error: &io::Error) -> bool {
    let refusals =
        [libc::EPERM, libc::EACCES, libc::ENOSYS, libc::EINVAL, libc::ENOSPC, libc::ENODEV, libc::EUSERS];
    error.raw_os_error().is_some_and(|number| refusals.contains(&number))
}

/// Enters new namespaces; false if there are none to be had.
fn unshare(namespaces: i32) -> Result<bool, Error> {
    match inside::unshare(namespaces) {
        Ok(()) => Ok(true),
        Err(error) if is_refusal(&error) => Ok(false),
        Err(source) => Err(Error::Root { what: "enter a namespace", source }),
    }
}

/// In a new user namespace: the user outside is the image's user inside, and there is no other (user_namespaces(7),
/// "User and group ID mappings").
fn map(user: &User) -> Result<(), Error> {
    let (uid, gid) = sys::clone::ids();
    let failed = |source| Error::Root { what: "have a user in a namespace", source };
    let write = |path: &CStr, text: String| inside::write_file(path, text.as_bytes(), false).map_err(failed);
    write(c"/proc/self/setgroups", "deny".into())?;
    write(c"/proc/self/uid_map", format!("{} {uid} 1", user.uid))?;
    write(c"/proc/self/gid_map", format!("{} {gid} 1", user.gid))
}

/// Mounts the tree with what is written above it.
fn overlay(tree: &Tree, written: &Written) -> io::Result<PathBuf> {
    inside::make_mounts_private()?;
    let flags = libc::MS_NOSUID | libc::MS_NODEV;
    // By descriptors, as what lies below the mount point is hidden from now on, and no name has to be escaped. They are
    // opened here: an overlay takes nothing of another mount namespace.
    let below = File::open(&tree.path)?;
    let kept = match written {
        Written::Kept(place) => {
            for name in ["upper", "work"] {
                DirBuilder::new().recursive(true).mode(0o755).create(place.directory.join(name))?;
            }
            Some(File::open(&place.directory)?)
        }
        Written::Discarded => None,
    };
    inside::mount(c"tmpfs", MOUNT_POINT, flags, c"mode=0755")?;
    let mounted = overlay_here(&below, kept.as_ref(), flags);
    if mounted.is_err() {
        sys::unmount(Path::new("/tmp"))?;
    }
    mounted.map(|()| "/tmp/root".into())
}

/// The same, where the mount point is.
fn overlay_here(tree: &File, kept: Option<&File>, flags: u64) -> io::Result<()> {
    inside::make_directory(c"/tmp/root")?;
    let above = match kept {
        Some(directory) => format!("/proc/self/fd/{}", directory.as_raw_fd()),
        None => {
            inside::make_directory(c"/tmp/upper")?;
            inside::make_directory(c"/tmp/work")?;
            "/tmp".into()
        }
    };
    // The upper directory is what the root looks like.
    let upper = File::open(format!("{above}/upper"))?;
    let like = rustix::fs::fstat(tree)?;
    if kept.is_none() || upper.metadata()?.mode() & 0o7777 != like.st_mode & 0o7777 && is_empty(&upper)? {
        set(upper.as_fd(), &like)?;
    }
    let below = tree.as_raw_fd();
    let options =
        format!("lowerdir=/proc/self/fd/{below},upperdir={above}/upper,workdir={above}/work,userxattr");
    inside::mount(c"overlay", c"/tmp/root", flags, &CString::new(options)?)
}

fn is_empty(directory: &File) -> io::Result<bool> {
    Ok(Dir::read_from(directory)?.filter(|entry| !is_dots(entry)).count() == 0)
}

fn is_dots(entry: &rustix::io::Result<rustix::fs::DirEntry>) -> bool {
    entry.as_ref().is_ok_and(|entry| matches!(entry.file_name().to_bytes(), b"." | b".."))
}

/// Copies what is in `from` to `to`, with permissions, times and, as far as may be, owners; `names` has the files with
/// several names, by inode.
fn copy(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    names: &mut HashMap<u64, (OwnedFd, Vec<u8>)>,
    depth: usize,
) -> io::Result<()> {
    use rustix::fs;
    if depth > DEPTH_MAX {
        return Err(Errno::NAMETOOLONG.into());
    }
    let directory = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    for entry in Dir::read_from(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let found = fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let owner = (Some(Uid::from_raw(found.st_uid)), Some(Gid::from_raw(found.st_gid)));
        match FileType::from_raw_mode(found.st_mode) {
            FileType::Directory => {
                fs::mkdirat(to, name, Mode::RWXU)?;
                let inner = fs::openat(from, name, directory, Mode::empty())?;
                let target = fs::openat(to, name, directory, Mode::empty())?;
                copy(inner.as_fd(), target.as_fd(), names, depth + 1)?;
                set(target.as_fd(), &found)?;
            }
            FileType::RegularFile => {
                if let Some((parent, other)) = names.get(&found.st_ino) {
                    fs::linkat(parent, &other[..], to, name, AtFlags::empty())?;
                    continue;
                }
                let source = fs::openat(from, name, OFlags::RDONLY | OFlags::NOFOLLOW, Mode::empty())?;
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let target = fs::openat(to, name, flags, Mode::RWXU)?;
                // Shares the blocks where the file system can (copy_file_range(2)).
                let (mut source, mut target) = (File::from(source), File::from(target));
                io::copy(&mut source, &mut target)?;
                set(target.as_fd(), &found)?;
                if found.st_nlink > 1 {
                    names.insert(found.st_ino, (to.try_clone_to_owned()?, name.to_bytes().to_vec()));
                }
            }
            FileType::Symlink => {
                fs::symlinkat(fs::readlinkat(from, name, Vec::new())?, to, name)?;
                let _ = fs::chownat(to, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW);
                fs::utimensat(to, name, &times(&found), AtFlags::SYMLINK_NOFOLLOW)?;
            }
            kind => fs::mknodat(to, name, kind, Mode::from_raw_mode(found.st_mode), 0)?,
        }
    }
    if depth == 0 {
        set(to, &fs::fstat(from)?)?;
    }
    Ok(())
}

fn set(file: BorrowedFd<'_>, like: &rustix::fs::Stat) -> io::Result<()> {
    let _ = rustix::fs::fchown(file, Some(Uid::from_raw(like.st_uid)), Some(Gid::from_raw(like.st_gid)));
    rustix::fs::fchmod(file, Mode::from_raw_mode(like.st_mode))?;
    Ok(rustix::fs::futimens(file, &times(like))?)
}

fn times(like: &rustix::fs::Stat) -> Timestamps {
    let time = Timespec { tv_sec: like.st_mtime, tv_nsec: like.st_mtime_nsec as _ };
    Timestamps { last_access: time, last_modification: time }
}
