//! The modules of a kernel that a guest cannot begin without: found where the kernel was installed, with what they need, in
//! the order in which they are to be loaded.
//!
//! A distribution's kernel has its drivers of virtio as modules, and its first program has to load them before there is a
//! disk. Sources: Linux, boot.rst (kernel_version); modules.dep(5); the `depends` of .modinfo, scripts/mod/modpost.c.

use super::error::{LinuxError, PackError, Result};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What any virtio device needs.
pub const VIRTIO: &str = "virtio_mmio";

/// The release that a kernel calls itself, as `uname -r` would: from the header of a bzImage, or the banner of a vmlinux.
pub fn release(kernel: &[u8]) -> Option<String> {
    const HEADER: &[u8] = b"HdrS";
    const BANNER: &[u8] = b"Linux version ";
    let version = match kernel.get(0x202..0x206) {
        Some(HEADER) => {
            let offset: [u8; 2] = kernel.get(0x20e..0x210)?.try_into().ok()?;
            kernel.get(0x200 + usize::from(u16::from_le_bytes(offset))..)?
        }
        _ => {
            let at = kernel.windows(BANNER.len()).position(|window| window == BANNER)?;
            &kernel[at + BANNER.len()..]
        }
    };
    let end = version.iter().take(100).position(|byte| !byte.is_ascii_graphic())?;
    let release = std::str::from_utf8(&version[..end]).ok()?;
    // It becomes a part of a path.
    (!release.is_empty() && !release.contains('/') && !release.starts_with('.')).then(|| release.into())
}

/// Where the modules of `release` are: beside the directory of the kernel's own file, or where this host has its own.
pub fn directory(kernel: &Path, release: &str) -> Option<PathBuf> {
    let beside = kernel.parent().and_then(Path::parent).map(|root| root.join("lib/modules"));
    let places = beside.into_iter().chain(["/lib/modules", "/usr/lib/modules"].map(PathBuf::from));
    places.map(|place| place.join(release)).find(|place| place.is_dir())
}

/// The files of the modules `names` in `directory`, each after those that it needs. What is built into the kernel has none.
///
/// # Errors
/// [`LinuxError::NoModule`] for one that is not there.
pub fn find(directory: &Path, names: &[&str]) -> Result<Vec<PathBuf>> {
    let modules = Modules::of(directory)?;
    let mut found = Vec::new();
    for name in names {
        modules.add(name, &mut found)?;
    }
    Ok(found)
}

/// All modules of a kernel, by name.
struct Modules {
    directory: PathBuf,
    files: BTreeMap<String, PathBuf>,
    built_in: Vec<String>,
    /// What each needs, if depmod(8) has written it down: a package that was only unpacked has no such list, and then it is
    /// read from the modules themselves.
    needs: Option<BTreeMap<String, Vec<String>>>,
}

impl Modules {
    fn of(directory: &Path) -> Result<Modules> {
        let mut files = BTreeMap::new();
        let list = fs::read_to_string(directory.join("modules.dep")).ok().filter(|list| !list.is_empty());
        let needs = list.map(|list| {
            let mut needs = BTreeMap::new();
            for (path, rest) in list.lines().filter_map(|line| line.split_once(':')) {
                files.insert(name_of(Path::new(path)), directory.join(path));
                let others = rest.split_ascii_whitespace().map(|path| name_of(Path::new(path)));
                needs.insert(name_of(Path::new(path)), others.collect());
            }
            needs
        });
        if needs.is_none() {
            walk(&directory.join("kernel"), &mut files)
                .map_err(|source| LinuxError::Pack { path: directory.into(), source: source.into() })?;
        }
        let built_in = fs::read_to_string(directory.join("modules.builtin")).unwrap_or_default();
        let built_in = built_in.lines().map(|path| name_of(Path::new(path))).collect();
        Ok(Modules { directory: directory.into(), files, built_in, needs })
    }

    /// Adds the file of module `name`, after those that it needs, unless it is there.
    fn add(&self, name: &str, found: &mut Vec<PathBuf>) -> Result<()> {
        let Some(path) = self.files.get(name) else {
            return match self.built_in.iter().any(|other| other == name) {
                true => Ok(()),
                false => Err(LinuxError::NoModule { name: name.into(), directory: self.directory.clone() }),
            };
        };
        if found.contains(path) {
            return Ok(());
        }
        // Nobody needs itself, however a list is made: what is begun twice is left out.
        let mut needs = match &self.needs {
            Some(needs) => needs.get(name).cloned().unwrap_or_default(),
            None => needs_of(path)?,
        };
        // depmod names the nearest first.
        needs.reverse();
        for other in needs.iter().filter(|other| *other != name) {
            self.add(other, found)?;
        }
        if !found.contains(path) {
            found.push(path.clone());
        }
        Ok(())
    }
}

/// What a module is called: its file's name, with `_` for `-`, without what says how it is compressed.
fn name_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.split('.').next().unwrap_or_default().replace('-', "_")
}

fn walk(directory: &Path, files: &mut BTreeMap<String, PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let (kind, path) = (entry.file_type()?, entry.path());
        if kind.is_dir() {
            walk(&path, files)?;
        } else if path.to_string_lossy().contains(".ko") {
            files.insert(name_of(&path), path);
        }
    }
    Ok(())
}

/// What a module that is not compressed says that it needs.
fn needs_of(path: &Path) -> Result<Vec<String>> {
    const KEY: &[u8] = b"\0depends=";
    let pack = |source| LinuxError::Pack { path: path.into(), source };
    let bytes = fs::read(path).map_err(|error| pack(error.into()))?;
    if !bytes.starts_with(b"\x7fELF") {
        return Err(pack(PackError::Compressed));
    }
    let Some(at) = bytes.windows(KEY.len()).position(|window| window == KEY) else { return Ok(Vec::new()) };
    let list = bytes[at + KEY.len()..].split(|byte| *byte == 0).next().unwrap_or_default();
    let names = list.split(|byte| *byte == b',').filter(|name| !name.is_empty());
    Ok(names.map(|name| String::from_utf8_lossy(name).replace('-', "_")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(found: &[PathBuf]) -> Vec<String> {
        found.iter().map(|path| name_of(path)).collect()
    }

    /// A directory as a package has it: three drivers, of which two need the third, and that needs a fourth.
    fn unpacked() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let drivers = directory.path().join("kernel/drivers/virtio");
        fs::create_dir_all(&drivers).unwrap();
        for (name, needs) in [
            ("virtio.ko", ""),
            ("virtio-ring.ko", "virtio"),
            ("virtio_mmio.ko", "virtio-ring"),
            ("virtio_blk.ko", "virtio,virtio_ring"),
        ] {
            let module = format!("\x7fELF...\0license=GPL\0depends={needs}\0name=x\0");
            fs::write(drivers.join(name), module).unwrap();
        }
        fs::write(directory.path().join("modules.builtin"), "kernel/fs/ext4/ext4.ko\n").unwrap();
        directory
    }

    #[test]
    fn each_comes_after_what_it_needs_and_once() {
        let directory = unpacked();
        let found = find(directory.path(), &["virtio_mmio", "virtio_blk", "ext4"]).unwrap();
        assert_eq!(names(&found), ["virtio", "virtio_ring", "virtio_mmio", "virtio_blk"]);
        let error = find(directory.path(), &["virtio_net"]).unwrap_err();
        assert!(matches!(error, LinuxError::NoModule { name, .. } if name == "virtio_net"));
    }

    #[test]
    fn the_list_of_depmod_is_believed_where_there_is_one() {
        let directory = unpacked();
        let list = "kernel/a/virtio_blk.ko.xz: kernel/a/virtio_ring.ko.xz kernel/a/virtio.ko.xz\n\
                    kernel/a/virtio_ring.ko.xz: kernel/a/virtio.ko.xz\nkernel/a/virtio.ko.xz:\n\
                    kernel/a/round.ko: kernel/a/round.ko\n";
        fs::write(directory.path().join("modules.dep"), list).unwrap();
        let found = find(directory.path(), &["virtio_blk", "round"]).unwrap();
        assert_eq!(names(&found), ["virtio", "virtio_ring", "virtio_blk", "round"]);
        assert!(found[0].ends_with("kernel/a/virtio.ko.xz"));
    }

    #[test]
    fn a_kernel_says_which_release_it_is() {
        let mut image = vec![0; 0x1000];
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x20e..0x210].copy_from_slice(&0x300_u16.to_le_bytes());
        image[0x500..0x520].copy_from_slice(b"6.1.0-9-cloud-amd64 (debian) #1 ");
        assert_eq!(release(&image).unwrap(), "6.1.0-9-cloud-amd64");
        assert_eq!(release(b"..\0Linux version 6.12.3 (root@x)\n").unwrap(), "6.12.3");
        for strange in
            [&b"Linux version ../../etc x"[..], b"Linux version 6.1", b"Linux version ", b"", &[0; 0x300]]
        {
            assert_eq!(release(strange), None);
        }
    }

    #[test]
    fn modules_are_looked_for_beside_the_kernel_first() {
        let root = tempfile::tempdir().unwrap();
        let modules = root.path().join("lib/modules/1.2");
        fs::create_dir_all(&modules).unwrap();
        assert_eq!(directory(&root.path().join("boot/vmlinuz-1.2"), "1.2"), Some(modules));
        assert_eq!(directory(&root.path().join("boot/vmlinuz-1.2"), "no-such-release"), None);
    }
}
