//! An archive holds what was put into it: judged by a reader of the format, and by cpio(1).

use crate::support::skip;
use crate::support::terminal::{is_root, make_fifo};
use matchstick::linux::initramfs::Initramfs;
use matchstick::linux::{LinuxError, PackError};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Metadata, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};

/// An entry as buffer-format.rst describes it.
#[derive(Debug, Clone, PartialEq)]
struct Entry {
    name: String,
    inode: u32,
    mode: u32,
    links: u32,
    time: u32,
    device: (u32, u32),
    data: Vec<u8>,
}

/// All entries of an archive, without its end.
fn read(archive: &[u8]) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut rest = archive;
    loop {
        let header = std::str::from_utf8(&rest[..110]).unwrap();
        assert_eq!(&header[..6], "070701");
        let field = |i: usize| u32::from_str_radix(&header[6 + 8 * i..][..8], 16).unwrap();
        let (size, name_size) = (field(6) as usize, field(11) as usize);
        let data = (110 + name_size).next_multiple_of(4);
        let end = (data + size).next_multiple_of(4);
        assert_eq!(rest[110 + name_size - 1], 0);
        assert!(rest[110 + name_size..data].iter().chain(&rest[data + size..end]).all(|byte| *byte == 0));
        let name = String::from_utf8(rest[110..110 + name_size - 1].to_vec()).unwrap();
        if name == "TRAILER!!!" {
            assert_eq!((size, end), (0, rest.len()), "something follows the end");
            return entries;
        }
        entries.push(Entry {
            name,
            inode: field(0),
            mode: field(1),
            links: field(4),
            time: field(5),
            device: (field(9), field(10)),
            data: rest[data..data + size].to_vec(),
        });
        rest = &rest[end..];
    }
}

fn pack(root: &Path) -> Vec<u8> {
    let mut archive = Initramfs::new(1 << 30);
    archive.tree(root).unwrap();
    archive.finish().unwrap()
}

/// What can be in a directory.
#[derive(Debug, Clone)]
enum Node {
    File(Vec<u8>, u32),
    Link(String),
    Directory(BTreeMap<String, Node>, u32),
}

fn node() -> impl Strategy<Value = Node> {
    let file = (prop::collection::vec(any::<u8>(), 0..40), 0..0o10000u32).prop_map(|(d, m)| Node::File(d, m));
    let link = "[a-z./]{1,12}".prop_map(Node::Link);
    prop_oneof![3 => file, 1 => link].prop_recursive(4, 24, 5, |inner| {
        let name = "[a-zA-Z0-9 .!äß-]{1,9}".prop_filter("no name", |name| name != "." && name != "..");
        // Its owner may always enter it and look.
        (prop::collection::btree_map(name, inner, 0..5), 0..0o10000u32)
            .prop_map(|(children, mode)| Node::Directory(children, mode | 0o700))
    })
}

impl Node {
    fn make(&self, path: &Path) {
        match self {
            Node::File(data, mode) => {
                fs::write(path, data).unwrap();
                // Read as root or as its owner.
                fs::set_permissions(path, Permissions::from_mode(mode | 0o400)).unwrap();
            }
            Node::Link(target) => symlink(target, path).unwrap(),
            Node::Directory(children, mode) => {
                fs::create_dir(path).unwrap();
                children.iter().for_each(|(name, child)| child.make(&path.join(name)));
                fs::set_permissions(path, Permissions::from_mode(*mode)).unwrap();
            }
        }
    }
}

/// What is in `archive`, told from what is below `root`.
fn same_as_directory(archive: &[u8], root: &Path) {
    let entries = read(archive);
    let names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    let mut there = BTreeSet::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if fs::symlink_metadata(&path).unwrap().is_dir() {
                directories.push(path.clone());
            }
            there.insert(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
        }
    }
    assert_eq!(names.iter().map(|name| name.to_string()).collect::<BTreeSet<_>>(), there);
    assert_eq!(names.len(), there.len(), "a name comes twice");
    for (i, entry) in entries.iter().enumerate() {
        let path = root.join(&entry.name);
        let metadata = fs::symlink_metadata(&path).unwrap();
        assert_eq!(entry.mode, metadata.mode(), "{}", entry.name);
        assert_eq!(i64::from(entry.time), metadata.mtime());
        let data = match metadata {
            _ if metadata.is_symlink() => fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec(),
            _ if metadata.is_file() => fs::read(&path).unwrap(),
            _ => Vec::new(),
        };
        assert_eq!(entry.data, data, "{}", entry.name);
        if let Some((parent, _)) = entry.name.rsplit_once('/') {
            assert!(names[..i].contains(&parent), "{} comes before its directory", entry.name);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_packed_is_what_was_there(children in prop::collection::btree_map("[a-z]{1,5}", node(), 0..6)) {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().join("root");
        Node::Directory(children, 0o755).make(&root);
        let archive = pack(&root);
        same_as_directory(&archive, &root);
        prop_assert_eq!(archive, pack(&root), "not the same again");
    }

    #[test]
    fn bytes_come_back_whatever_they_are(
        files in prop::collection::vec(("[a-z]{1,20}", 0..0o10000u32, prop::collection::vec(any::<u8>(), 0..99)), 0..9),
    ) {
        let mut archive = Initramfs::new(1 << 20);
        for (name, mode, data) in &files {
            archive.file(name, *mode, data).unwrap();
        }
        let entries = read(&archive.finish().unwrap());
        prop_assert_eq!(entries.len(), files.len());
        for (entry, (name, mode, data)) in entries.iter().zip(&files) {
            prop_assert_eq!((&entry.name, entry.mode, &entry.data), (name, 0o100000 | mode, data));
        }
    }
}

/// A directory with one of everything; devices only where one may make them.
fn one_of_everything() -> tempfile::TempDir {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path();
    fs::create_dir_all(root.join("a/b")).unwrap();
    fs::set_permissions(root.join("a/b"), Permissions::from_mode(0o1777)).unwrap();
    fs::write(root.join("a/one"), "data with two names\n").unwrap();
    fs::hard_link(root.join("a/one"), root.join("a/b/two")).unwrap();
    fs::hard_link(root.join("a/one"), root.join("three")).unwrap();
    fs::write(root.join("nothing"), "").unwrap();
    fs::hard_link(root.join("nothing"), root.join("nothing too")).unwrap();
    fs::set_permissions(root.join("nothing"), Permissions::from_mode(0o4711)).unwrap();
    symlink("../a/one", root.join("a/link")).unwrap();
    symlink("nowhere", root.join("dangling")).unwrap();
    make_fifo(&root.join("fifo"));
    drop(UnixListener::bind(root.join("socket")).unwrap());
    if is_root() {
        for (name, kind, minor) in [("character", "c", "1"), ("block", "b", "300")] {
            let made = Command::new("mknod").arg(root.join(name)).args([kind, "5", minor]).status();
            assert!(made.unwrap().success());
        }
    } else {
        skip("making device nodes takes root");
    }
    scratch
}

#[test]
fn special_files_are_kept() {
    let scratch = one_of_everything();
    let entries: BTreeMap<String, Entry> =
        read(&pack(scratch.path())).into_iter().map(|entry| (entry.name.clone(), entry)).collect();
    let kind = |name: &str| entries[name].mode & 0o170000;
    assert_eq!((kind("fifo"), kind("socket")), (0o010000, 0o140000));
    if is_root() {
        assert_eq!((kind("character"), entries["character"].device), (0o020000, (5, 1)));
        assert_eq!((kind("block"), entries["block"].device), (0o060000, (5, 300)));
    }
    // One file, three names, its data once.
    let names = ["a/b/two", "a/one", "three"].map(|name| &entries[name]);
    assert!(names.iter().all(|entry| (entry.inode, entry.links) == (names[0].inode, 3)));
    assert_eq!(names.iter().map(|entry| entry.data.len()).sum::<usize>(), 20);
    let inodes: BTreeSet<u32> = entries.values().map(|entry| entry.inode).collect();
    assert_eq!(inodes.len(), entries.len() - 3, "other files have numbers of their own");
}

#[test]
fn cpio_unpacks_the_same() {
    if Command::new("cpio").arg("--version").stdout(Stdio::null()).status().is_err() {
        return skip("cpio is not installed");
    }
    let scratch = one_of_everything();
    let unpacked = tempfile::tempdir().unwrap();
    let archive = unpacked.path().join("archive");
    let root = unpacked.path().join("root");
    fs::create_dir(&root).unwrap();
    fs::write(&archive, pack(scratch.path())).unwrap();
    let cpio = Command::new("cpio")
        .args(["-i", "-d", "-m", "--quiet"])
        .stdin(File::open(&archive).unwrap())
        .current_dir(&root)
        .output()
        .unwrap();
    assert!(cpio.status.success() && cpio.stderr.is_empty(), "{}", String::from_utf8_lossy(&cpio.stderr));

    for Entry { name, .. } in read(&pack(scratch.path())) {
        let (was, is) = (scratch.path().join(&name), root.join(&name));
        let [was_like, is_like] = [&was, &is].map(|path| fs::symlink_metadata(path).unwrap());
        let like = |metadata: &Metadata| {
            let kind = metadata.file_type();
            let is_device = kind.is_char_device() || kind.is_block_device();
            let device = if is_device { metadata.rdev() } else { 0 };
            let owner = (metadata.uid(), metadata.gid());
            let links = if metadata.is_dir() { 0 } else { metadata.nlink() };
            (metadata.mode(), owner, links, device)
        };
        assert_eq!(like(&was_like), like(&is_like), "{name}");
        if was_like.is_symlink() {
            assert_eq!(fs::read_link(was).unwrap(), fs::read_link(is).unwrap());
        } else if was_like.is_file() {
            assert_eq!(fs::read(was).unwrap(), fs::read(is).unwrap(), "{name}");
        }
    }
}

#[test]
fn what_cannot_be_packed_is_named() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path();
    let error_of = |path: &Path, limit| match Initramfs::new(limit).tree(path).unwrap_err() {
        LinuxError::Pack { path, source } => (path, source),
        other => panic!("{other:?}"),
    };
    let (path, error) = error_of(&root.join("missing"), 1 << 20);
    assert_eq!(path, root.join("missing"));
    assert!(matches!(error, PackError::Io(_)));

    // A file with a hole as large as its name is short.
    let large = root.join("large");
    File::create(&large).unwrap().set_len(5 << 30).unwrap();
    let (path, error) = error_of(root, 1 << 40);
    assert_eq!(path, large);
    assert!(matches!(error, PackError::TooLarge { size } if size == 5 << 30));
    let (_, error) = error_of(root, 1 << 30);
    assert!(matches!(error, PackError::Full { limit } if limit == 1 << 30));
    fs::remove_file(large).unwrap();

    // Root may read everything.
    if !is_root() {
        let secret = root.join("secret");
        fs::write(&secret, "").unwrap();
        fs::set_permissions(&secret, Permissions::from_mode(0o000)).unwrap();
        assert_eq!(error_of(root, 1 << 20).0, secret);
    }
}

#[test]
fn an_entry_that_does_not_fit_leaves_the_others_as_they_are() {
    let mut archive = Initramfs::new(600);
    archive.file("small", 0o644, b"fits").unwrap();
    // Its header and its name still fit, and so does the end.
    archive.file("large", 0o644, &[b'x'; 400]).unwrap_err();
    let entries = read(&archive.finish().unwrap());
    let names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names, ["small"]);
}

#[test]
fn a_file_that_is_larger_than_it_says_is_packed_whole() {
    // The kernel makes these as they are read; their size is said to be 0.
    let version = Path::new("/proc/version");
    let mut archive = Initramfs::new(1 << 20);
    let data = archive.copy(Path::new("version"), 0o444, version).unwrap().to_vec();
    assert_eq!(data, fs::read(version).unwrap());
    let entries = read(&archive.finish().unwrap());
    assert_eq!((entries[0].mode, &entries[0].data), (0o100444, &data));
}
