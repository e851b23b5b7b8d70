//! Which kernel: the newest one that this host has installed.

use super::error::{LinuxError, Result};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// Where Linux distributions put their kernels.
const DIRECTORY: &str = "/boot";

/// The newest kernel installed on this host.
///
/// # Errors
/// [`LinuxError::NoKernel`].
pub fn installed() -> Result<PathBuf> {
    let directory = Path::new(DIRECTORY);
    newest(directory).ok_or_else(|| LinuxError::NoKernel { directory: directory.into() })
}

/// The `vmlinuz-VERSION` in `directory` with the highest version.
pub fn newest(directory: &Path) -> Option<PathBuf> {
    let names = fs::read_dir(directory).ok()?.filter_map(|entry| Some(entry.ok()?.file_name()));
    let of_kernel = |name: OsString| {
        let version = name.to_str()?.strip_prefix("vmlinuz-")?;
        // A copy that a package manager or a user kept.
        let is_kept = [".old", ".bak", "~"].iter().any(|end| version.ends_with(end));
        (!is_kept).then(|| (version_key(version), directory.join(&name)))
    };
    names.filter_map(of_kernel).max().map(|(_, path)| path)
}

/// A part of a version, such that versions compare part by part: 6.1.0-rc2 < 6.1.0 < 6.1.5 < 6.1.10.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Word(String),
    End,
    Number(u64),
}

fn version_key(version: &str) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for piece in version.split(|c: char| !c.is_ascii_alphanumeric()) {
        let mut rest = piece;
        while let Some(first) = rest.chars().next() {
            let other = |c: char| c.is_ascii_digit() != first.is_ascii_digit();
            let (part, more) = rest.split_at(rest.find(other).unwrap_or(rest.len()));
            parts.push(part.parse().map_or_else(|_| Part::Word(part.into()), Part::Number));
            rest = more;
        }
    }
    parts.push(Part::End);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_is_that_of_the_highest_version() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(newest(directory.path()), None);
        let mut found = Vec::new();
        for name in [
            "vmlinuz-0-rescue-4f1f0f",
            "vmlinuz-5.10.0-28-amd64",
            "vmlinuz-6.1.0-rc2",
            "vmlinuz-6.1.0",
            "vmlinuz-6.1.0-9-cloud-amd64",
            "vmlinuz-6.1.0-10-amd64",
            "vmlinuz-6.1.0-10-cloud-amd64",
            "vmlinuz-6.12.3",
        ] {
            // Others in between change nothing.
            for other in ["config-9.9", "vmlinuz", "vmlinuz-9.9.old", "initrd.img-9.9"] {
                fs::write(directory.path().join(other), "").unwrap();
            }
            let path = directory.path().join(name);
            fs::write(&path, "").unwrap();
            found.push((newest(directory.path()), Some(path)));
        }
        found.iter().for_each(|(found, expected)| assert_eq!(found, expected));
        assert_eq!(newest(Path::new("/there/is/none")), None);
    }
}
