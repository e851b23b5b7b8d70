//! A disk that becomes the root of a Linux guest: which device it is there, and what is on it.
//!
//! Sources: Linux, ext4/super.rst; fs/erofs/erofs_fs.h; fs/squashfs/squashfs_fs.h; fs/xfs/libxfs/xfs_format.h;
//! fs/btrfs, uapi/linux/btrfs_tree.h.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;

/// The kinds of file systems that are known by a mark: where it is, and what. The kernel calls them so, and their modules.
const MARKS: [(&str, u64, &[u8]); 5] = [
    ("ext4", 0x438, &[0x53, 0xef]),
    ("erofs", 0x400, &[0xe2, 0xe1, 0xf5, 0xe0]),
    ("squashfs", 0, b"hsqs"),
    ("xfs", 0, b"XFSB"),
    ("btrfs", 0x1_0040, b"_BHRfS_M"),
];

/// A root on a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// What the guest calls its device.
    pub device: String,
    /// The kind of its file system.
    pub kind: String,
    /// Whether nothing can be written to it.
    pub is_read_only: bool,
}

impl Disk {
    /// The first disk of a guest that is told `cmdline`, where `root=` names another device or a partition, `rootfstype=` the
    /// kind of its file system, and `ro` that it is only read. `None` if neither says what is there: the disk has no file
    /// system that is known, or partitions.
    pub fn first(file: &File, is_read_only: bool, cmdline: Option<&OsStr>) -> io::Result<Option<Disk>> {
        let words: Vec<&[u8]> =
            cmdline.map_or_else(Vec::new, |text| text.as_bytes().split(u8::is_ascii_whitespace).collect());
        let told = |key: &[u8]| {
            let value = words.iter().rev().find_map(|word| word.strip_prefix(key))?;
            String::from_utf8(value.to_vec()).ok()
        };
        let (root, kind) = (told(b"root="), told(b"rootfstype="));
        let kind = match (kind, &root) {
            (Some(kind), _) => Some(kind),
            // Of a partition it is not looked at.
            (None, Some(_)) => Some(MARKS[0].0.into()),
            (None, None) => kind_of(file)?.map(Into::into),
        };
        let device = root.unwrap_or_else(|| "/dev/vda".into());
        let is_read_only = is_read_only || words.contains(&&b"ro"[..]);
        Ok(kind.map(|kind| Disk { device, kind, is_read_only }))
    }

    /// What our init is told of it.
    pub(super) fn words(&self) -> [&str; 3] {
        let access = match self.is_read_only {
            _ if self.needs_overlay() => "over",
            true => "ro",
            false => "rw",
        };
        [&self.device, &self.kind, access]
    }

    /// Whether its file system is of a kind that is never written to: then what the guest writes lies in memory, above it.
    fn needs_overlay(&self) -> bool {
        ["erofs", "squashfs"].contains(&self.kind.as_str())
    }

    /// The modules of the kernel that it needs.
    pub fn modules(&self) -> impl Iterator<Item = &str> {
        [self.kind.as_str()].into_iter().chain(self.needs_overlay().then_some("overlay"))
    }
}

/// The kind of file system that is on it.
fn kind_of(file: &File) -> io::Result<Option<&'static str>> {
    for (kind, at, mark) in MARKS {
        let mut bytes = [0; 8];
        let bytes = &mut bytes[..mark.len()];
        match file.read_exact_at(bytes, at) {
            Ok(()) if *bytes == *mark => return Ok(Some(kind)),
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(at: u64, mark: &[u8]) -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 20).unwrap();
        file.write_all_at(mark, at).unwrap();
        file
    }

    #[test]
    fn a_file_system_is_known_by_its_mark() {
        for (kind, at, mark) in MARKS {
            let disk = Disk::first(&file(at, mark), false, None).unwrap().unwrap();
            let overlay = ["erofs", "squashfs"].contains(&kind);
            assert_eq!(disk.words(), ["/dev/vda", kind, if overlay { "over" } else { "rw" }]);
            assert_eq!(disk.modules().count(), if overlay { 2 } else { 1 });
        }
        assert_eq!(Disk::first(&file(0, b""), false, None).unwrap(), None);
        let short = tempfile::tempfile().unwrap();
        short.write_all_at(b"hsqs", 0).unwrap();
        assert_eq!(
            Disk::first(&short, true, None).unwrap().unwrap().words(),
            ["/dev/vda", "squashfs", "over"]
        );
    }

    #[test]
    fn the_command_line_knows_better() {
        let empty = file(0, b"");
        let words = |text: &str| {
            let disk = Disk::first(&empty, false, Some(OsStr::new(text))).unwrap()?;
            Some(disk.words().map(String::from))
        };
        assert_eq!(words("quiet"), None);
        assert_eq!(words("root=/dev/vda1"), Some(["/dev/vda1", "ext4", "rw"].map(Into::into)));
        let all = "root=/dev/vda1 ro rootfstype=erofs root=/dev/vdb";
        assert_eq!(words(all), Some(["/dev/vdb", "erofs", "over"].map(Into::into)));
        assert_eq!(words("root=/dev/vda1 ro"), Some(["/dev/vda1", "ext4", "ro"].map(Into::into)));
    }
}
