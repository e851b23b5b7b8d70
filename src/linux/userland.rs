//! What a Linux kernel finds when it has started: a root file system, and the first program in it.
//!
//! Without options the root has one program, our own [`INIT`]. With `init` that one runs another program, which is packed
//! as well. With `rootfs` the root is a copy of a directory.

use super::error::{LinuxError, PackError, Result};
use super::initramfs::Initramfs;
use super::{INIT, Options};
use crate::elf::{Class, EM_X86_64, ET_DYN, ET_EXEC, Elf, Header};
use crate::sys::contents::Contents;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Where our init looks for the program that it is to run, see `guest-kernels/linux/init.rs`.
const ARGS: &str = ".matchstick/args";
/// A file that tells our init that the serial port takes strings.
const STRINGS: &str = ".matchstick/strings";
/// Where our init finds which modules to load, and the modules.
const MODULES: &str = ".matchstick/modules";
const MODULES_DIRECTORY: &str = ".matchstick/lib";
/// Where it finds which root to go on with.
const ROOT: &str = ".matchstick/root";
/// Our init in a directory that may have an /init of its own.
const INIT_BESIDE: &str = ".matchstick/init";

/// The same as a path of the guest.
const OUR_INIT: &str = "/.matchstick/init";

/// What a kernel finds when it has started.
pub struct Userland {
    /// The root file system, or the initial RAM disk that leads to one.
    pub initramfs: Option<Contents>,
    /// The program in it that the kernel starts, unless that is /init.
    pub init: Option<&'static str>,
    /// What the kernel hands to that program.
    pub args: Vec<OsString>,
    /// Whether that program is [`INIT`], which says when it is ready for input.
    pub is_ours: bool,
    /// The files of a `rootfs` that were gone, or replaced, when they were to be read.
    pub skipped: Vec<PathBuf>,
}

/// Makes the root file system that `options` ask for.
///
/// # Errors
/// [`LinuxError::Pack`] for a file that cannot be part of it.
pub fn userland(options: &Options) -> Result<Userland> {
    let own_init = match (&options.init, &options.rootfs) {
        (None, Some(root)) => init_of(root)?,
        _ => None,
    };
    let mut archive = Initramfs::new(options.memory).until(options.deadline);
    // The kernel opens it for its first program, before anybody could mount /dev.
    archive.directory("dev", 0o755)?;
    archive.character_device("dev/console", 0o600, (5, 1))?;
    if let Some(root) = &options.rootfs {
        archive.tree(root)?;
    }
    archive.directory(".matchstick", 0o755)?;
    add_modules(&mut archive, &options.modules)?;
    let to_kernel = |archive: Initramfs, init, is_ours| {
        let args = options.args.clone();
        let skipped = archive.skipped().to_vec();
        Ok(Userland { initramfs: Some(archive.finish()?.into()), init, args, is_ours, skipped })
    };
    let (program, init) = match (&options.init, &options.rootfs) {
        (None, None) => {
            archive.file("init", 0o755, INIT)?;
            let Some(disk) = &options.disk else { return to_kernel(archive, None, true) };
            archive.file(ROOT, 0o644, &go_on(disk.words(), "/sbin/init", &options.args))?;
            let (initramfs, skipped) = (Some(archive.finish()?.into()), Vec::new());
            return Ok(Userland { initramfs, init: None, args: Vec::new(), is_ours: false, skipped });
        }
        // Modules are our init's affair, which goes on with the directory's own.
        (None, Some(_)) if !options.modules.is_empty() => {
            archive.file(INIT_BESIDE, 0o755, INIT)?;
            let init = own_init.unwrap_or("/init");
            archive.file(ROOT, 0o644, &go_on(["", "", ""], init, &options.args))?;
            let skipped = archive.skipped().to_vec();
            let (initramfs, init) = (Some(archive.finish()?.into()), Some(OUR_INIT));
            return Ok(Userland { initramfs, init, args: Vec::new(), is_ours: false, skipped });
        }
        (None, Some(_)) => return to_kernel(archive, own_init, false),
        (Some(program), None) => {
            let name = program.file_name().unwrap_or(OsStr::new("program"));
            let place = Path::new("bin").join(name);
            archive.directory("bin", 0o755)?;
            let image = archive.copy(&place, 0o755, program)?;
            check_program(image).map_err(|source| LinuxError::Pack { path: program.clone(), source })?;
            archive.file("init", 0o755, INIT)?;
            (Path::new("/").join(place), None)
        }
        (Some(program), Some(_)) => {
            archive.file(INIT_BESIDE, 0o755, INIT)?;
            (Path::new("/").join(program), Some(OUR_INIT))
        }
    };
    let words = [program.as_os_str()].into_iter().chain(options.args.iter().map(OsString::as_os_str));
    archive.file(ARGS, 0o644, &terminated(words.map(OsStr::as_bytes)))?;
    if options.strings {
        archive.file(STRINGS, 0o644, &[])?;
    }
    let skipped = archive.skipped().to_vec();
    let initramfs = Some(archive.finish()?.into());
    Ok(Userland { initramfs, init, args: Vec::new(), is_ours: true, skipped })
}

/// Adds modules, and the list of them.
fn add_modules(archive: &mut Initramfs, modules: &[PathBuf]) -> Result<()> {
    if modules.is_empty() {
        return Ok(());
    }
    archive.directory(MODULES_DIRECTORY, 0o755)?;
    let mut paths = Vec::new();
    for module in modules {
        let place = Path::new(MODULES_DIRECTORY).join(module.file_name().unwrap_or_default());
        archive.copy(&place, 0o644, module)?;
        paths.push(Path::new("/").join(place).into_os_string());
    }
    archive.file(MODULES, 0o644, &terminated(paths.iter().map(|path| path.as_bytes())))
}

/// What our init reads in [`ROOT`].
fn go_on(root: [&str; 3], init: &str, args: &[OsString]) -> Vec<u8> {
    let words = root.into_iter().chain([init]).map(str::as_bytes);
    terminated(words.chain(args.iter().map(|word| word.as_bytes())))
}

/// Words with a zero byte at the end of each.
fn terminated<'a>(words: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    words.flat_map(|word| word.iter().chain(&[0])).copied().collect()
}

/// The program that starts the system in `root`, unless it is /init, for which the kernel looks by itself.
fn init_of(root: &Path) -> Result<Option<&'static str>> {
    let pack = |source| LinuxError::Pack { path: root.into(), source };
    fs::read_dir(root).map_err(|error| pack(error.into()))?;
    // A link may lead somewhere in the guest only, so it is not followed here.
    let has = |path| fs::symlink_metadata(root.join(path)).is_ok();
    match (has("init"), has("sbin/init")) {
        (true, _) => Ok(None),
        (_, true) => Ok(Some("/sbin/init")),
        _ => Err(pack(PackError::NoInit)),
    }
}

impl Userland {
    /// What the user gave, if anything: its first program is its own affair.
    pub fn given(initrd: Option<Contents>, options: &Options) -> Userland {
        let args = options.args.clone();
        Userland { initramfs: initrd, init: None, args, is_ours: false, skipped: Vec::new() }
    }
}

/// Whether Linux can run the file `program` when there is no other: a static ELF file for this processor.
fn check_program(program: &[u8]) -> std::result::Result<(), PackError> {
    if program.starts_with(b"#!") {
        return Err(PackError::Script);
    }
    let elf = Elf::parse(program).map_err(|_| PackError::NotElf)?;
    let Header { class, e_type, e_machine, .. } = elf.header;
    if class != Class::Elf64 || e_machine != EM_X86_64 || ![ET_EXEC, ET_DYN].contains(&e_type) {
        return Err(PackError::NotElf);
    }
    match elf.interpreter() {
        Ok(None) => Ok(()),
        Ok(Some(path)) => {
            let interpreter = String::from_utf8_lossy(&path[..path.len().min(100)]).into_owned();
            Err(PackError::Interpreter { interpreter })
        }
        Err(_) => Err(PackError::NotElf),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::images::Image;

    #[test]
    fn a_directory_without_a_program_to_start_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let options = Options { rootfs: Some(directory.path().into()), ..Options::default() };
        let error = userland(&options).err().unwrap();
        assert!(matches!(error, LinuxError::Pack { source: PackError::NoInit, .. }));
    }

    #[test]
    fn what_our_init_is_to_do_first_is_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let module = directory.path().join("virtio_blk.ko");
        fs::write(&module, "a module").unwrap();
        let disk = super::super::Disk { device: "/dev/vda".into(), kind: "ext4".into(), is_read_only: true };
        let options = Options {
            modules: vec![module],
            disk: Some(disk),
            args: vec!["two words".into(), "".into()],
            ..Options::default()
        };
        let has = |userland: &Userland, bytes: &[u8]| {
            userland.initramfs.as_ref().unwrap().windows(bytes.len()).any(|window| window == bytes)
        };
        let of_disk = userland(&options).unwrap();
        assert!(!of_disk.is_ours && of_disk.args.is_empty() && of_disk.init.is_none());
        assert!(has(&of_disk, b".matchstick/lib/virtio_blk.ko\0"));
        assert!(
            has(&of_disk, b".matchstick/modules\0") && has(&of_disk, b"\0/.matchstick/lib/virtio_blk.ko\0")
        );
        assert!(has(&of_disk, b"/dev/vda\0ext4\0ro\0/sbin/init\0two words\0\0"));
        // The directory's own program comes after ours, on the root that is there.
        fs::write(directory.path().join("init"), INIT).unwrap();
        let options = Options { rootfs: Some(directory.path().into()), disk: None, ..options };
        let of_directory = userland(&options).unwrap();
        assert_eq!(of_directory.init, Some(OUR_INIT));
        assert!(has(&of_directory, b"\0\0\0/init\0two words\0\0"));
        let without = userland(&Options { modules: Vec::new(), ..options }).unwrap();
        assert_eq!((without.init, without.args.len()), (None, 2));
    }

    #[test]
    fn only_a_static_program_can_be_all_there_is() {
        assert!(check_program(INIT).is_ok());
        assert!(matches!(check_program(b""), Err(PackError::NotElf)));
        assert!(matches!(check_program(b"hello"), Err(PackError::NotElf)));
        assert!(matches!(check_program(b"#!/bin/sh\n"), Err(PackError::Script)));
        let with = |at: usize, value: u8| {
            let mut image = INIT.to_vec();
            image[at] = value;
            check_program(&image)
        };
        // 32 bits; an object file; another processor.
        for (at, value) in [(4, 1), (16, 1), (18, 183)] {
            assert!(matches!(with(at, value), Err(PackError::NotElf)));
        }
        let dynamic = Image::elf64().interpreter(b"/lib/ld.so\0").bytes();
        let Err(PackError::Interpreter { interpreter }) = check_program(&dynamic) else { panic!() };
        assert_eq!(interpreter, "/lib/ld.so");
        // However it is cut, it is no panic.
        for len in 0..200 {
            let _ = check_program(&INIT[..len]);
        }
    }
}
