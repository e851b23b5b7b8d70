//! A layer becomes files below a directory: what it adds, what it changes, and what it takes away.
//!
//! An archive says names, and each is looked up below the directory, by the kernel (openat2(2), RESOLVE_BENEATH): no name
//! and no link leads out of it. Absolute names, `..`, and what passes through a link that leads out are refused rather
//! than bent. A device is never made. Which archives an image has, and whether they are what it says, is not decided
//! here. Source: the OCI image specification, layer.md, "Applying Changesets", "Whiteouts".

use super::archive::{Archive, ArchiveError, Entry, Kind, Skip};
use super::beneath::{
    DEPTH_MAX, Trouble, as_far_as_may_be, below, is_directory, is_same, joined, list, may_give_owners, names,
    names_of_target, open, open_directory, times,
};
use rustix::fs::{self, AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// What begins the name of an entry that takes something away.
const WHITEOUT: &[u8] = b".wh.";
/// The whiteout of all that a directory had.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Directories on which a container's runtime mounts something, with their permissions.
const MOUNTED_ON: [(&str, u32); 4] = [("proc", 0o555), ("dev", 0o755), ("dev/shm", 0o1777), ("sys", 0o555)];

/// Why a layer is not unpacked.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// Its archive is damaged, or holds what is not served.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// An entry asks for what it must not get.
    #[error("{}: {what}", short(.name))]
    Refused {
        /// Its name.
        name: Vec<u8>,
        /// Why not.
        what: &'static str,
    },
    /// An entry cannot be made.
    #[error("cannot make {}", short(.name))]
    Make {
        /// Its name.
        name: Vec<u8>,
        /// What the operating system said.
        source: io::Error,
    },
    /// Its contents cannot be read.
    #[error("cannot read it")]
    Read(#[source] io::Error),
}

/// A name for a message: a long one by its beginning.
fn short(name: &[u8]) -> String {
    const LEN: usize = 60;
    let shown = crate::text::shown(OsStr::from_bytes(&name[..name.len().min(LEN)]));
    if name.len() > LEN { format!("{shown}...") } else { shown }
}

/// What a directory is to be like when all is done: until then it has to be writable.
#[derive(Clone, Copy)]
struct Attributes {
    mode: u32,
    owner: Option<(u32, u32)>,
    time: Option<i64>,
}

/// Unpacks layers, the lowest first, into one directory.
pub struct Unpacker {
    root: OwnedFd,
    /// Whether files get the owners that an archive says.
    keeps_owners: bool,
    /// Entries that there may still be.
    entries: u64,
    directories: BTreeMap<Vec<u8>, Attributes>,
    /// What the layer at hand has made or named, by inode: its whiteouts are about the layers below.
    made: HashSet<u64>,
    /// The directory of the entry before, which is most often that of the next.
    parent: Option<(Vec<u8>, OwnedFd)>,
}

type Made = Result<(), Trouble>;

impl Unpacker {
    /// Into `root`, a directory that nobody else changes; at most `entries` of them.
    pub fn new(root: OwnedFd, entries: u64) -> Unpacker {
        Unpacker {
            root,
            keeps_owners: may_give_owners(),
            entries,
            directories: BTreeMap::new(),
            made: HashSet::new(),
            parent: None,
        }
    }

    /// Applies one layer.
    ///
    /// # Errors
    /// Of what is damaged or hostile; what was unpacked is then to be thrown away.
    pub fn apply(&mut self, layer: impl Skip) -> Result<(), LayerError> {
        let mut archive = Archive::new(layer, self.entries.saturating_mul(3));
        self.made.clear();
        self.parent = None;
        while let Some(entry) = archive.next_entry()? {
            let fail = |trouble| {
                let name = entry.name.clone();
                match trouble {
                    Trouble::Refused(what) => LayerError::Refused { name, what },
                    Trouble::Make(source) => LayerError::Make { name, source },
                    Trouble::Read(source) => LayerError::Read(source),
                }
            };
            self.entries = match self.entries.checked_sub(1) {
                Some(left) => left,
                None => return Err(ArchiveError::Damaged("it has too many entries").into()),
            };
            self.take(&entry, &mut archive.contents()).map_err(fail)?;
        }
        Ok(())
    }

    /// Gives the directories their permissions, owners and times, and adds those that a runtime mounts on.
    ///
    /// # Errors
    /// Of a file system that refuses it.
    pub fn finish(mut self) -> io::Result<()> {
        for (name, mode) in MOUNTED_ON {
            let attributes = Attributes { mode, owner: None, time: None };
            match fs::mkdirat(&self.root, name, Mode::RWXU) {
                Ok(()) => drop(self.directories.insert(name.into(), attributes)),
                // There is something of that name, or what leads there is no directory.
                Err(_) => continue,
            }
        }
        // What is in a directory comes behind it.
        for (name, attributes) in self.directories.iter().rev() {
            let name = if name.is_empty() { &b"."[..] } else { name };
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match open(&self.root, name, flags) {
                Ok(directory) => self.set(directory.as_fd(), attributes)?,
                // A later layer has taken it away.
                Err(_) => continue,
            }
        }
        Ok(())
    }

    /// Makes what an entry says.
    fn take(&mut self, entry: &Entry, contents: &mut impl Read) -> Made {
        let names = names(&entry.name)?;
        let attributes =
            Attributes { mode: entry.mode, owner: Some((entry.user, entry.group)), time: Some(entry.time) };
        let Some((&name, parents)) = names.split_last() else {
            // The directory itself.
            if entry.kind != Kind::Directory {
                return Err(Trouble::Refused("it has no name"));
            }
            self.directories.insert(Vec::new(), attributes);
            return Ok(());
        };
        let (path, parent) = self.enter(parents)?;
        let done = self.place(entry, name, &path, parent.as_fd(), attributes, contents);
        self.parent = Some((path, parent));
        done
    }

    /// Makes an entry in its directory, whose path is `path`.
    fn place(
        &mut self,
        entry: &Entry,
        name: &[u8],
        path: &[u8],
        parent: BorrowedFd<'_>,
        attributes: Attributes,
        contents: &mut impl Read,
    ) -> Made {
        if name == OPAQUE {
            return self.empty(parent, 0);
        }
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            return match hidden {
                b"" | b"." | b".." => Err(Trouble::Refused("it takes away nothing that there could be")),
                // Names that file systems of layers use among themselves (aufs).
                _ if hidden.starts_with(WHITEOUT) => Ok(()),
                _ => self.hide(parent, hidden, 0),
            };
        }
        match entry.kind {
            Kind::Directory => {
                match fs::mkdirat(parent, name, Mode::RWXU) {
                    Err(Errno::EXIST) if is_directory(parent, name)? => {}
                    Err(Errno::EXIST) => {
                        self.remove(parent, name, 0)?;
                        fs::mkdirat(parent, name, Mode::RWXU)?;
                    }
                    made => made?,
                }
                self.directories.insert(joined(path, name), attributes);
            }
            Kind::File => {
                let flags =
                    OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file =
                    self.replace(parent, name, |parent| fs::openat(parent, name, flags, Mode::RWXU))?;
                let mut file = std::fs::File::from(file);
                copy(contents, &mut file)?;
                self.set(file.as_fd(), &attributes).map_err(Trouble::Make)?;
            }
            Kind::HardLink => {
                let target = names_of_target(&entry.target)?;
                let (last, above) = target.split_last().ok_or(Trouble::Refused("it leads to no file"))?;
                let above = self.find(above)?;
                if is_same(above.as_fd(), last, parent, name) {
                    return Ok(());
                }
                let link = |parent: BorrowedFd<'_>| fs::linkat(&above, *last, parent, name, AtFlags::empty());
                match self.replace(parent, name, link) {
                    Err(Trouble::Make(error)) if error.kind() == io::ErrorKind::NotFound => {
                        return Err(Trouble::Refused("it is another name of what is not there"));
                    }
                    made => made?,
                }
            }
            Kind::Link => {
                if entry.target.is_empty() || entry.target.contains(&0) {
                    return Err(Trouble::Refused("it leads nowhere"));
                }
                self.replace(parent, name, |parent| fs::symlinkat(&entry.target[..], parent, name))?;
                self.set_link(parent, name, &attributes)?;
            }
            Kind::Pipe => {
                let make = |parent: BorrowedFd<'_>| fs::mknodat(parent, name, FileType::Fifo, Mode::RWXU, 0);
                self.replace(parent, name, make)?;
                fs::chmodat(parent, name, Mode::from_raw_mode(entry.mode), AtFlags::empty())?;
                self.set_link(parent, name, &attributes)?;
            }
            // A program finds the devices that it may have in /dev, whatever is there.
            Kind::Device if path == b"dev" || path.starts_with(b"dev/") => return Ok(()),
            Kind::Device => return Err(Trouble::Refused("it is a device outside of /dev")),
        }
        self.note(parent, name)
    }

    /// Makes something whose name may be taken: then it takes the place of what is there.
    fn replace<T>(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        make: impl Fn(BorrowedFd<'_>) -> rustix::io::Result<T>,
    ) -> Result<T, Trouble> {
        match make(parent) {
            Err(Errno::EXIST) => {
                self.remove(parent, name, 0)?;
                Ok(make(parent)?)
            }
            made => Ok(made?),
        }
    }

    /// The directory that these names lead to. What is missing of it is made; what is there is this layer's as well.
    fn enter(&mut self, names: &[&[u8]]) -> Result<(Vec<u8>, OwnedFd), Trouble> {
        let path = names.join(&b'/');
        if let Some(same) = self.parent.take_if(|(open, _)| *open == path) {
            return Ok(same);
        }
        let mut directory = self.root.try_clone().map_err(Trouble::Make)?;
        for depth in 1..=names.len() {
            let below = names[..depth].join(&b'/');
            let next = match open_directory(&self.root, &below) {
                Err(Errno::NOENT) => {
                    fs::mkdirat(&directory, names[depth - 1], Mode::RWXU)?;
                    let plain = Attributes { mode: 0o755, owner: Some((0, 0)), time: None };
                    self.directories.insert(below.clone(), plain);
                    open_directory(&self.root, &below)?
                }
                next => next?,
            };
            self.made.insert(fs::fstat(&next)?.st_ino);
            directory = next;
        }
        // Where it really lies: links between directories can make a way shorter than the place is deep.
        let real = std::fs::read_link(format!("/proc/self/fd/{}", directory.as_raw_fd()));
        let root = std::fs::read_link(format!("/proc/self/fd/{}", self.root.as_raw_fd()));
        let (real, root) = real.and_then(|real| Ok((real, root?))).map_err(Trouble::Make)?;
        match real.strip_prefix(&root) {
            Ok(below) if below.iter().count() <= DEPTH_MAX => Ok((path, directory)),
            _ => Err(Trouble::Refused("it lies too deep")),
        }
    }

    /// The same of what has to be there.
    fn find(&self, names: &[&[u8]]) -> Result<OwnedFd, Trouble> {
        match open_directory(&self.root, &names.join(&b'/')) {
            Err(Errno::NOENT) => Err(Trouble::Refused("it is another name of what is not there")),
            found => Ok(found?),
        }
    }

    /// Notes what this layer has made.
    fn note(&mut self, parent: BorrowedFd<'_>, name: &[u8]) -> Made {
        self.made.insert(fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?.st_ino);
        Ok(())
    }

    /// Takes away what layers below have put into a directory.
    fn empty(&mut self, directory: BorrowedFd<'_>, depth: usize) -> Made {
        for name in list(directory)? {
            self.hide(directory, &name, depth)?;
        }
        Ok(())
    }

    /// Takes away what layers below have put at a name.
    fn hide(&mut self, parent: BorrowedFd<'_>, name: &[u8], depth: usize) -> Made {
        let found = match fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(()),
            found => found?,
        };
        if !self.made.contains(&found.st_ino) {
            return self.remove(parent, name, depth);
        }
        match FileType::from_raw_mode(found.st_mode) {
            FileType::Directory => self.empty(below(parent, name, depth)?.as_fd(), depth + 1),
            _ => Ok(()),
        }
    }

    /// Removes what is at a name, with all that is in it.
    fn remove(&mut self, parent: BorrowedFd<'_>, name: &[u8], depth: usize) -> Made {
        if !is_directory(parent, name)? {
            return Ok(fs::unlinkat(parent, name, AtFlags::empty())?);
        }
        let directory = below(parent, name, depth)?;
        for name in list(directory.as_fd())? {
            self.remove(directory.as_fd(), &name, depth + 1)?;
        }
        Ok(fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?)
    }

    /// Owner first: a new owner takes set-user-ID away.
    fn set(&self, file: BorrowedFd<'_>, attributes: &Attributes) -> io::Result<()> {
        if let Some((user, group)) = attributes.owner.filter(|_| self.keeps_owners) {
            fs::fchown(file, Some(Uid::from_raw(user)), Some(Gid::from_raw(group)))
                .or_else(as_far_as_may_be)?;
        }
        fs::fchmod(file, Mode::from_raw_mode(attributes.mode))?;
        if let Some(time) = attributes.time {
            fs::futimens(file, &times(time))?;
        }
        Ok(())
    }

    /// The same of what has no permissions of its own, or cannot be opened.
    fn set_link(&self, parent: BorrowedFd<'_>, name: &[u8], attributes: &Attributes) -> Made {
        if let Some((user, group)) = attributes.owner.filter(|_| self.keeps_owners) {
            let (user, group) = (Some(Uid::from_raw(user)), Some(Gid::from_raw(group)));
            fs::chownat(parent, name, user, group, AtFlags::SYMLINK_NOFOLLOW).or_else(as_far_as_may_be)?;
        }
        if let Some(time) = attributes.time {
            fs::utimensat(parent, name, &times(time), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(())
    }
}

fn copy(contents: &mut impl Read, file: &mut std::fs::File) -> Made {
    let mut buffer = [0; 64 << 10];
    loop {
        match contents.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(len) => io::Write::write_all(file, &buffer[..len]).map_err(Trouble::Make)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Trouble::Read(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::archive::Stream;
    use super::super::tar_maker::Tar;
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::path::Path;

    /// Unpacks layers into a directory beside one that nobody may change, and tells the error.
    fn unpack(layers: &[Tar]) -> (tempfile::TempDir, Result<(), String>) {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().join("root");
        fs::create_dir(&root).unwrap();
        fs::create_dir(scratch.path().join("outside")).unwrap();
        let directory = fs::File::open(&root).unwrap().into();
        let mut unpacker = Unpacker::new(directory, 1000);
        let mut unpack =
            || layers.iter().try_for_each(|layer| unpacker.apply(Stream(&layer.clone().end()[..])));
        let done = unpack().map_err(|error| error.to_string());
        let done = done.and_then(|()| unpacker.finish().map_err(|error| error.to_string()));
        assert_eq!(fs::read_dir(scratch.path().join("outside")).unwrap().count(), 0, "something is outside");
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 2, "something is beside");
        (scratch, done)
    }

    /// All paths below `root`, with the first letter of what they are.
    fn list(root: &Path) -> Vec<String> {
        let mut found = Vec::new();
        let mut directories = vec![root.to_owned()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let entry = entry.unwrap();
                let path = entry.path();
                let kind = entry.file_type().unwrap();
                let name = path.strip_prefix(root).unwrap().display().to_string();
                if ["dev", "dev/shm", "proc", "sys"].contains(&name.as_str()) {
                    continue;
                }
                found.push(match (kind.is_dir(), kind.is_symlink()) {
                    (true, _) => format!("{name}/"),
                    (_, true) => format!("{name} -> {}", fs::read_link(&path).unwrap().display()),
                    _ => name,
                });
                if kind.is_dir() {
                    directories.push(path);
                }
            }
        }
        found.sort();
        found
    }

    #[track_caller]
    fn becomes(layers: &[Tar], expected: &[&str]) -> tempfile::TempDir {
        let (scratch, done) = unpack(layers);
        assert_eq!(done, Ok(()));
        assert_eq!(list(&scratch.path().join("root")), expected);
        scratch
    }

    #[test]
    fn a_later_layer_adds_changes_and_takes_away() {
        let base = Tar::default()
            .directory("d")
            .file("d/a", b"old")
            .file("d/b", b"")
            .file("gone", b"")
            .link("l", "d");
        let next =
            Tar::default().file("d/a", b"new").file("d/.wh.b", b"").file(".wh.gone", b"").file("l/c", b"");
        let scratch = becomes(&[base, next], &["d/", "d/a", "d/c", "l -> d"]);
        assert_eq!(fs::read(scratch.path().join("root/d/a")).unwrap(), b"new");
    }

    #[test]
    fn an_opaque_directory_keeps_what_its_own_layer_has_put_there_wherever_it_stands() {
        let base = Tar::default().file("d/old/x", b"").file("d/both/old", b"");
        let before = Tar::default().file("d/new", b"").file("d/both/new", b"").file("d/.wh..wh..opq", b"");
        becomes(&[base.clone(), before], &["d/", "d/both/", "d/both/new", "d/new"]);
        let after = Tar::default().file("d/.wh..wh..opq", b"").file("d/new", b"").file("d/both/new", b"");
        becomes(&[base, after], &["d/", "d/both/", "d/both/new", "d/new"]);
        // A whiteout is about the layers below as well.
        let own = Tar::default().file("a", b"").file(".wh.a", b"");
        becomes(&[own], &["a"]);
    }

    #[test]
    fn what_is_there_gives_way_and_directories_stay() {
        let base = Tar::default().file("d/a", b"").link("l", "d").file("f", b"");
        let next = Tar::default().directory("d").directory("l").directory("f").file("d/a/..", b"");
        assert!(unpack(&[base.clone(), next]).1.is_err());
        let next = Tar::default().directory("d").directory("l").directory("f").file("l/x", b"");
        becomes(&[base.clone(), next], &["d/", "d/a", "f/", "l/", "l/x"]);
        becomes(&[base, Tar::default().file("d", b"")], &["d", "f", "l -> d"]);
    }

    #[test]
    fn permissions_times_and_links_are_those_of_the_archive() {
        let tar = Tar::default()
            .entry(b'5', "d/", "", 0o555, b"")
            .entry(b'0', "d/f", "", 0o4750, b"x")
            .hard_link("d/same", "d/f")
            .entry(b'6', "pipe", "", 0o600, b"")
            .link("dangling", "/nowhere/../at/all");
        let scratch = becomes(&[tar], &["d/", "d/f", "d/same", "dangling -> /nowhere/../at/all", "pipe"]);
        let metadata = |name: &str| fs::metadata(scratch.path().join("root").join(name)).unwrap();
        assert_eq!(metadata("d").permissions().mode() & 0o7777, 0o555);
        let file = metadata("d/f");
        assert_eq!((file.mode() & 0o7777, file.nlink(), file.mtime()), (0o4750, 2, 7));
        assert_eq!((metadata("d").mtime(), metadata("d/same").ino()), (7, file.ino()));
        fs::set_permissions(scratch.path().join("root/d"), fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn hostile_entries_are_refused() {
        let out = "leads out of the image";
        let base = || Tar::default().link("up", "../outside").link("abs", "/etc").link("loop", "loop");
        for (tar, expected) in [
            (Tar::default().file("../outside/x", b""), out),
            (Tar::default().file("a/../../outside/x", b""), out),
            (Tar::default().file("/tmp/x", b""), "its name is absolute"),
            (base().file("up/x", b""), out),
            (base().file("abs/x", b""), out),
            (base().file("loop/x", b""), out),
            (base().file("up/.wh.x", b""), out),
            (base().file("up/.wh..wh..opq", b""), out),
            (base().hard_link("x", "../outside/x"), "of something outside"),
            (base().hard_link("x", "/etc/passwd"), "of something outside"),
            (base().hard_link("x", "abs/passwd"), out),
            (base().hard_link("x", "nothing"), "of what is not there"),
            (Tar::default().file(".wh.", b""), "takes away nothing"),
            (Tar::default().file(".wh...", b""), "takes away nothing"),
            (Tar::default().entry(b'3', "null", "", 0o666, b""), "a device outside of /dev"),
            (Tar::default().entry(b'4', "d/sda", "", 0o666, b""), "a device outside of /dev"),
            (Tar::default().file("", b""), "has no name"),
            (Tar::default().file("./", b""), "its name"),
            (Tar::default().file(&"d/".repeat(300), b""), "too deep"),
            (Tar::default().file(&"x".repeat(300), b""), "cannot make"),
            (Tar::default().file("f", b"").file("f/x", b""), "cannot make"),
            (Tar::default().entry(b'S', "s", "", 0o644, b""), "a sparse file is not served"),
            (Tar::default().entry(b'?', "s", "", 0o644, b""), "unknown type"),
            (Tar::default().link("l", ""), "leads nowhere"),
            ((0..1001).fold(Tar::default(), |tar, n| tar.file(&n.to_string(), b"")), "too many entries"),
        ] {
            match unpack(&[tar]).1 {
                Err(error) => assert!(error.contains(expected), "{error:?} instead of {expected:?}"),
                // A directory by its name: it makes nothing.
                Ok(()) => assert_eq!(expected, "its name"),
            }
        }
    }

    /// By links, directories can be reached on a short way that lie deep.
    #[test]
    fn depth_is_that_of_the_place_and_not_of_the_name() {
        let deep = "d/".repeat(200);
        let tar = Tar::default()
            .directory(deep.trim_end_matches('/'))
            .link("l", &deep)
            .file(&format!("l/{deep}x"), b"");
        assert!(unpack(&[tar]).1.unwrap_err().contains("too deep"));
    }

    #[test]
    fn a_device_of_dev_is_left_out() {
        becomes(&[Tar::default().entry(b'3', "dev/null", "", 0o666, b"").file("a", b"")], &["a"]);
    }
}
