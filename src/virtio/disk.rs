//! What may be a disk: a file or a block device, whose sectors nobody else writes.
//!
//! Whoever writes to it locks it for itself, and whoever only reads locks out those who write (flock(2)). That holds between
//! machines, not against others who write to the file all the same.

use super::blk::{ID, SECTOR, Store};
use crate::sys;
use crate::text::shown;
use std::fs::OpenOptions;
use std::io::{self, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Why something cannot be a guest's disk.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiskError {
    /// It cannot be opened.
    #[error("cannot open the disk {}", shown(path))]
    Open {
        /// Its path.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A directory, a pipe or another device.
    #[error("{} is neither a file nor a block device", shown(path))]
    Kind {
        /// Its path.
        path: PathBuf,
    },
    /// It is empty, or ends in the middle of a sector.
    #[error("{} has {size} bytes, and a disk a whole number of 512, at least one", shown(path))]
    Size {
        /// Its path.
        path: PathBuf,
        /// Its size.
        size: u64,
    },
    /// Another machine has it.
    #[error("{} is the disk of another machine", shown(path))]
    InUse {
        /// Its path.
        path: PathBuf,
    },
}

impl Store {
    /// Opens and locks a disk, to be written to unless it `is_read_only`. Its name is the end of its path.
    ///
    /// # Errors
    /// [`DiskError`]
    pub fn open(path: &Path, is_read_only: bool) -> Result<Store, DiskError> {
        let refused = |source| DiskError::Open { path: path.into(), source };
        // Not waiting, should it be a pipe.
        let mut file = OpenOptions::new()
            .read(true)
            .write(!is_read_only)
            .custom_flags(libc::O_NONBLOCK)
            .open(path)
            .map_err(|error| match error.kind() {
                io::ErrorKind::IsADirectory => DiskError::Kind { path: path.into() },
                _ => refused(error),
            })?;
        let kind = file.metadata().map_err(refused)?.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            return Err(DiskError::Kind { path: path.into() });
        }
        if !sys::try_lock(file.as_fd(), !is_read_only).map_err(refused)? {
            return Err(DiskError::InUse { path: path.into() });
        }
        // Of a device the metadata has no size.
        let size = file.seek(SeekFrom::End(0)).map_err(refused)?;
        if size == 0 || !size.is_multiple_of(SECTOR) {
            return Err(DiskError::Size { path: path.into(), size });
        }
        let name = path.file_name().unwrap_or_default().as_bytes();
        let name = name.get(name.len().saturating_sub(ID)..).unwrap_or_default();
        Ok(Store::new(file, size >> SECTOR.trailing_zeros(), is_read_only, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn only_what_has_whole_sectors_is_a_disk() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk");
        let open = |path: &Path| Store::open(path, false).err();
        assert!(matches!(open(&path), Some(DiskError::Open { .. })));
        for size in [0, 1, 511, 513] {
            fs::write(&path, vec![0; size]).unwrap();
            assert!(matches!(open(&path), Some(DiskError::Size { size: said, .. }) if said == size as u64));
        }
        fs::write(&path, [0; 1024]).unwrap();
        assert!(open(&path).is_none());
        for other in [directory.path(), Path::new("/dev/null")] {
            assert!(matches!(open(other), Some(DiskError::Kind { .. })), "{other:?}");
        }
        let pipe = directory.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success() && matches!(open(&pipe), Some(DiskError::Kind { .. })));
    }

    #[test]
    fn one_machine_writes_or_several_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk");
        fs::write(&path, [0; 512]).unwrap();
        let in_use = |is_read_only| matches!(Store::open(&path, is_read_only), Err(DiskError::InUse { .. }));
        let writer = Store::open(&path, false).unwrap();
        assert!(in_use(false) && in_use(true));
        drop(writer);
        let readers = [Store::open(&path, true).unwrap(), Store::open(&path, true).unwrap()];
        assert!(in_use(false) && !in_use(true));
        drop(readers);
        assert!(!in_use(false));
    }
}
