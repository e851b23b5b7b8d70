//! The file system that a Linux kernel starts with: a cpio archive that it unpacks into memory.
//!
//! The format is "newc": entry after entry, each a header of hexadecimal digits, the path and the data, with
//! zeroes up to a multiple of four after each of the latter two. An entry named `TRAILER!!!` is the end. The kernel
//! unpacks it when it has started itself, makes it the root, and runs its `/init`. What a guest changes there
//! is gone with the guest.
//!
//! Source: kernel, driver-api/early-userspace/buffer-format.rst; the kernel's reader is init/initramfs.c.

use super::error::{LinuxError, PackError, Result};
use super::tree::{Found, Name, Tree, open_regular};
use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io::Read;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The name of the last entry.
const TRAILER: &[u8] = b"TRAILER!!!";
/// A header: six digits that name the format, then thirteen numbers of eight digits.
const HEADER: usize = 6 + 13 * 8;
/// Where the size of the data is in it.
const SIZE: Range<usize> = 6 + 6 * 8..6 + 7 * 8;
/// A longer name, with its zero, is dropped by the kernel without a word (PATH_MAX).
const NAME_MAX: usize = 4096;

/// So much is read at a time, in bytes: then the deadline is looked at.
const CHUNK: u64 = 1 << 20;

// What kind of file it is, in the upper bits of its mode: inode(7).
const REGULAR: u32 = 0o100000;
const DIRECTORY: u32 = 0o040000;
const CHARACTER_DEVICE: u32 = 0o020000;

/// What happens with one file.
type Packed<T> = std::result::Result<T, PackError>;

/// An archive being packed, in memory.
pub struct Initramfs {
    bytes: Vec<u8>,
    limit: u64,
    deadline: Option<Instant>,
    skipped: Vec<PathBuf>,
    /// The number of the last file; names with the same number are names of one file.
    inode: u32,
}

/// What is said of a file beside its name and its size.
#[derive(Default)]
struct Header {
    inode: u32,
    mode: u32,
    owner: u32,
    group: u32,
    links: u32,
    /// When it was changed last, in seconds since the start of 1970.
    time: u32,
    /// The major and the minor number of a device.
    device: (u32, u32),
}

impl Header {
    fn of(metadata: &Metadata, inode: u32) -> Header {
        let kind = metadata.file_type();
        let is_device = kind.is_char_device() || kind.is_block_device();
        Header {
            inode,
            mode: metadata.mode(),
            owner: metadata.uid(),
            group: metadata.gid(),
            links: metadata.nlink() as u32,
            time: metadata.mtime().clamp(0, u32::MAX.into()) as u32,
            device: if is_device { device_numbers(metadata.rdev()) } else { (0, 0) },
        }
    }
}

/// The major and the minor number that are folded into one: makedev(3).
fn device_numbers(device: u64) -> (u32, u32) {
    let major = (device >> 8 & 0xfff) | (device >> 32 & !0xfff);
    let minor = (device & 0xff) | (device >> 12 & !0xff);
    (major as u32, minor as u32)
}

impl Initramfs {
    /// An archive that must not grow beyond `limit` bytes: there is no use in more than the guest's memory.
    pub fn new(limit: u64) -> Initramfs {
        Initramfs { bytes: Vec::new(), limit, deadline: None, skipped: Vec::new(), inode: 0 }
    }

    /// The same, and nothing is added to it after `deadline`.
    pub fn until(self, deadline: Option<Instant>) -> Initramfs {
        Initramfs { deadline, ..self }
    }

    /// The files of a [`tree`](Self::tree) that were gone, or replaced, when they were to be read.
    pub fn skipped(&self) -> &[PathBuf] {
        &self.skipped
    }

    /// Adds a directory. Its parent comes before it, as with every other entry.
    pub fn directory(&mut self, path: &str, mode: u32) -> Result<()> {
        self.made(path, Header { mode: DIRECTORY | mode, links: 2, ..Header::default() }, &[])
    }

    /// Adds a file.
    pub fn file(&mut self, path: &str, mode: u32, data: &[u8]) -> Result<()> {
        self.made(path, Header { mode: REGULAR | mode, links: 1, ..Header::default() }, data)
    }

    /// Adds a character device with its major and its minor number.
    pub fn character_device(&mut self, path: &str, mode: u32, device: (u32, u32)) -> Result<()> {
        let mode = CHARACTER_DEVICE | mode;
        self.made(path, Header { mode, links: 1, device, ..Header::default() }, &[])
    }

    /// Adds an entry that comes from no file.
    fn made(&mut self, path: &str, header: Header, data: &[u8]) -> Result<()> {
        let inode = self.next_inode();
        let added = self.add(Header { inode, ..header }, path.as_bytes(), data.len() as u64, data);
        added.map(drop).map_err(|source| LinuxError::Pack { path: path.into(), source })
    }

    /// Adds the file `source` as `path` and returns its contents. It is read once, straight into the archive.
    pub fn copy(&mut self, path: &Path, mode: u32, source: &Path) -> Result<&[u8]> {
        let pack = |error| LinuxError::Pack { path: source.into(), source: error };
        let opened = open_regular(source).map_err(|error| pack(error.into()))?;
        let (file, metadata) = opened.ok_or_else(|| pack(PackError::NotAFile))?;
        let header = Header { mode: REGULAR | mode, links: 1, ..Header::of(&metadata, self.next_inode()) };
        let data = self.add(header, path.as_os_str().as_bytes(), metadata.len(), file).map_err(pack)?;
        Ok(&self.bytes[data])
    }

    /// Adds everything below `root`, sorted by name: modes, owners, times, symbolic and hard links, devices,
    /// pipes and sockets as they are. Where another file system is mounted, there is an empty directory. What vanishes
    /// meanwhile is left out, see [`Initramfs::skipped`].
    pub fn tree(&mut self, root: &Path) -> Result<()> {
        let pack = |path: &Path, source| LinuxError::Pack { path: root.join(path), source };
        let mut tree = Tree::open(root).map_err(|error| pack(Path::new(""), error.into()))?;
        let names = tree.names(|| self.in_time());
        let (names, gone) = names.map_err(|(path, source)| LinuxError::Pack { path, source })?;
        self.skipped.extend(gone.iter().map(|path| root.join(path)));
        // One allocation for everything, and no reading of what cannot fit.
        let size = |name: &Name| name.size.saturating_add((HEADER + name.path.as_os_str().len() + 8) as u64);
        let total = names.iter().map(size).fold(0, u64::saturating_add);
        if total > self.limit {
            return Err(pack(Path::new(""), PackError::Full { limit: self.limit }));
        }
        let memory = self.bytes.try_reserve(total as usize).map_err(std::io::Error::from);
        memory.map_err(|error| pack(Path::new(""), error.into()))?;

        let mut links = BTreeMap::new();
        for Name { path, .. } in names {
            match tree.find(&path).map_err(|error| pack(&path, error.into()))? {
                None => self.skipped.push(root.join(path)),
                Some(found) => {
                    let name = path.as_os_str().as_bytes();
                    self.found(name, found, &mut links).map_err(|source| pack(&path, source))?;
                }
            }
        }
        Ok(())
    }

    /// Adds one file of a tree. `links` has those with several names that are in the archive already.
    fn found(&mut self, name: &[u8], found: Found, links: &mut BTreeMap<(u64, u64), u32>) -> Packed<()> {
        // A file with the name of the last entry gets another name, or the archive would end here.
        let name = if name == TRAILER { b"./TRAILER!!!" } else { name };
        let inode = self.next_inode();
        match found {
            Found::Link(target, metadata) => {
                let size = target.len() as u64;
                self.add(Header::of(&metadata, inode), name, size, &target[..])?;
            }
            Found::File(file, metadata) => {
                let first = *links.entry((metadata.dev(), metadata.ino())).or_insert(inode);
                let header = Header::of(&metadata, first);
                if first == inode {
                    self.add(header, name, metadata.len(), file)?;
                } else {
                    // The data came with the first of its names.
                    self.add(header, name, 0, &[][..])?;
                }
            }
            Found::Other(metadata) => {
                self.add(Header::of(&metadata, inode), name, 0, &[][..])?;
            }
        }
        Ok(())
    }

    /// Adds an entry, and returns where its data is. `expected` bytes of it are checked before they are read. Of one
    /// that fails, nothing stays.
    fn add(&mut self, header: Header, name: &[u8], expected: u64, data: impl Read) -> Packed<Range<usize>> {
        let start = self.bytes.len();
        let added = self.append(header, name, expected, data);
        if added.is_err() {
            self.bytes.truncate(start);
        }
        added
    }

    fn append(
        &mut self,
        header: Header,
        name: &[u8],
        expected: u64,
        mut data: impl Read,
    ) -> Packed<Range<usize>> {
        self.in_time()?;
        if name.len() >= NAME_MAX {
            return Err(PackError::NameTooLong);
        }
        let start = self.bytes.len();
        // The header, and what fills name and data up to multiples of 4.
        self.bytes.try_reserve(HEADER + name.len() + 8).map_err(std::io::Error::from)?;
        let Header { inode, mode, owner, group, links, time, device: (major, minor) } = header;
        self.bytes.extend(b"070701");
        let name_size = name.len() as u32 + 1;
        // The zeroes: the size, known when the data has been read; the device the file was on, the same for all;
        // and a checksum, which only another format has.
        for number in [inode, mode, owner, group, links, time, 0, 0, 0, major, minor, name_size, 0] {
            self.bytes.extend(digits(number));
        }
        self.bytes.extend(name);
        self.bytes.push(0);
        self.align();

        let begin = self.bytes.len();
        self.check(expected)?;
        // The file may have grown: one byte more than fits is read, which shows that it does not fit.
        let room = (self.limit - begin as u64).min(u32::MAX.into());
        let mut left = room + 1;
        loop {
            let read = data.by_ref().take(left.min(CHUNK)).read_to_end(&mut self.bytes)?;
            left -= read as u64;
            if read == 0 {
                break;
            }
            self.in_time()?;
        }
        let end = self.bytes.len();
        self.bytes.try_reserve(4).map_err(std::io::Error::from)?;
        self.check(0)?;
        let size =
            u32::try_from(end - begin).map_err(|_| PackError::TooLarge { size: (end - begin) as u64 })?;
        self.bytes[start..][SIZE].copy_from_slice(&digits(size));
        self.align();
        Ok(begin..end)
    }

    /// Whether `more` bytes have a place in a header and in the archive.
    fn check(&self, more: u64) -> Packed<()> {
        if more > u32::MAX.into() {
            return Err(PackError::TooLarge { size: more });
        }
        if self.bytes.len() as u64 + more > self.limit {
            return Err(PackError::Full { limit: self.limit });
        }
        Ok(())
    }

    /// Whether there is time left.
    fn in_time(&self) -> Packed<()> {
        match self.deadline {
            Some(deadline) if Instant::now() >= deadline => Err(PackError::TimedOut),
            _ => Ok(()),
        }
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn next_inode(&mut self) -> u32 {
        self.inode += 1;
        self.inode
    }

    /// The archive, with its end.
    pub fn finish(mut self) -> Result<Vec<u8>> {
        let header = Header { links: 1, ..Header::default() };
        let added = self.add(header, TRAILER, 0, &[][..]);
        added.map_err(|source| LinuxError::Pack { path: "the end of the archive".into(), source })?;
        Ok(self.bytes)
    }
}

/// Eight hexadecimal digits.
fn digits(number: u32) -> [u8; 8] {
    std::array::from_fn(|i| b"0123456789abcdef"[(number >> (28 - 4 * i) & 0xf) as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_as_the_kernel_describes_it() {
        let mut archive = Initramfs::new(1 << 20);
        archive.file("init", 0o755, b"hello").unwrap();
        let bytes = archive.finish().unwrap();
        let expected = concat!(
            "070701",
            "00000001",         // inode
            "000081ed",         // mode
            "0000000000000000", // owner, group
            "00000001",         // links
            "00000000",         // time
            "00000005",         // size
            "0000000000000000", // device
            "0000000000000000", // device it is
            "00000005",         // size of the name
            "00000000",         // checksum
            "init\0\0hello\0\0\0",
            "070701",
        );
        assert_eq!(String::from_utf8_lossy(&bytes[..expected.len()]), expected);
        assert!(bytes.len().is_multiple_of(4));
        assert!(bytes.ends_with(b"TRAILER!!!\0\0\0\0"));
    }

    #[test]
    fn device_numbers_are_those_of_the_c_library() {
        for (major, minor) in [(5, 1), (4, 64), (8, 300), (0xfff, 0xfffff), (0x12345678, 0x9abcdef0)] {
            assert_eq!(device_numbers(libc::makedev(major, minor)), (major, minor));
        }
    }

    #[test]
    fn what_is_too_large_is_refused_before_it_is_read() {
        struct Never;
        impl Read for Never {
            fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
                panic!("it was read")
            }
        }
        let mut archive = Initramfs::new(1 << 40);
        let error = archive.add(Header::default(), b"large", 1 << 32, Never).unwrap_err();
        assert!(matches!(error, PackError::TooLarge { size: 0x1_0000_0000 }));
        let mut archive = Initramfs::new(1000);
        let error = archive.add(Header::default(), b"large", 900, Never).unwrap_err();
        assert!(matches!(error, PackError::Full { limit: 1000 }));
    }

    #[test]
    fn a_file_that_grows_without_end_is_refused() {
        let mut archive = Initramfs::new(1000);
        let error = archive.add(Header::default(), b"endless", 10, std::io::repeat(1)).unwrap_err();
        assert!(matches!(error, PackError::Full { limit: 1000 }));
    }
}
