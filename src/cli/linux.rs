//! `matchstick run linux`: a kernel of this host, and a root file system made for it on the spot.
//!
//! Without a word more the root has one file, our own [`LINUX_INIT`]. With `--init` it runs a program, which is
//! packed as well; with `--rootfs` the root is a copy of a directory.

use super::options::RunArgs;
use crate::error::{Error, PackError, Result};
use crate::guest::LINUX_INIT;
use crate::initramfs::Initramfs;
use crate::sys::contents::Contents;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The name in place of an image's.
pub const NAME: &str = "linux";
/// What a Linux guest gets unless `--memory` says otherwise.
pub const MEMORY: u64 = 512 << 20;
/// Where Linux distributions put their kernels.
const KERNELS: &str = "/boot";

/// What every kernel is told. Its console is the serial port, with RTS lowered when its buffers are full, so that
/// nothing is lost of what comes faster than any line (`r`). A panic is a warm reboot, by which it can be told
/// from any other. The kernel does not test its cryptography first: that is most of the start of a distribution's.
const CMDLINE: &str = "console=ttyS0,115200n8r panic=-1 reboot=panic_warm cryptomgr.notests";
/// The same for one whose first program is ours, and which is there to be quick: it does not look first at each function
/// that can be traced, whether another one replaces it. That is a fifth of a distribution's start. Without it, such
/// functions are listed all the same, but the kernel warns in its log of the first one that it finds when it lists them.
const HASTY: &str = "initcall_blacklist=ftrace_check_for_weak_functions";
/// The same for one that is there to run programs: what it has to say itself does not mix with what they say, unless
/// it panics.
const QUIET: &str = "loglevel=0";
/// The same for one with less memory than [`LITTLE`]: next to nothing of tracefs, whose directories for events take nine
/// megabytes for good. Without them a distribution's kernel comes up in 64 MiB, and with them it does not.
const FRUGAL: &str = "initcall_blacklist=tracer_init_tracefs";
const LITTLE: u64 = 128 << 20;

/// Whether a kernel with this command line does a warm reset when it panics, and at no other time.
///
/// `reboot=` takes a list, of which a word's first letter counts, after `panic_` for panics; the last word on a thing
/// wins (Linux, kernel/reboot.c).
pub fn tells_panic(cmdline: &[u8]) -> bool {
    let (mut always, mut at_panic) = (false, false);
    let words = cmdline.split(|byte| byte.is_ascii_whitespace());
    for values in words.take_while(|word| *word != b"--").filter_map(|word| word.strip_prefix(b"reboot=")) {
        for value in values.split(|byte| *byte == b',') {
            let (mode, letter) = match value.strip_prefix(b"panic_") {
                Some(rest) => (&mut at_panic, rest.first()),
                None => (&mut always, value.first()),
            };
            match letter {
                Some(b'w') => *mode = true,
                // Cold, hard, soft, by a pin.
                Some(b'c' | b'h' | b's' | b'g') => *mode = false,
                _ => {}
            }
        }
    }
    at_panic && !always
}

/// Where our init looks for the program that it is to run, see `guest-kernels/linux/init.rs`.
const ARGS: &str = ".matchstick/args";
/// Where it looks whether the serial port takes strings, and so what that program writes.
const STRINGS: &str = ".matchstick/strings";
/// Our init in a directory that may have an /init of its own.
const INIT_BESIDE: &str = ".matchstick/init";

/// Whether `args` ask for a Linux guest whose root is made here, in part at least.
pub fn is_meant(args: &RunArgs) -> bool {
    args.target.as_deref() == Some(OsStr::new(NAME)) || args.init.is_some() || args.rootfs.is_some()
}

/// The kernel that `args` name, or the newest one installed.
pub fn kernel(args: &RunArgs) -> Result<PathBuf> {
    let target = args.target.as_ref().filter(|target| *target != NAME).map(PathBuf::from);
    if let Some(path) = args.kernel.clone().or(target) {
        return Ok(path);
    }
    let directory = Path::new(KERNELS);
    newest_kernel(directory).ok_or_else(|| Error::NoKernel { directory: directory.into() })
}

/// The `vmlinuz-VERSION` in `directory` with the highest version.
pub fn newest_kernel(directory: &Path) -> Option<PathBuf> {
    let names = fs::read_dir(directory).ok()?.filter_map(|entry| Some(entry.ok()?.file_name()));
    let of_kernel = |name: OsString| {
        let version = name.to_str()?.strip_prefix("vmlinuz-")?;
        // What a package manager or a user kept aside.
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

/// What a kernel finds when it has started.
pub struct Userland {
    /// The root file system, or the initial RAM disk that leads to one.
    pub initramfs: Option<Contents>,
    /// The program in it that the kernel starts, unless that is /init.
    pub init: Option<&'static str>,
    /// What the kernel hands to that program.
    pub args: Vec<OsString>,
    /// Whether that program is [`LINUX_INIT`], which says when it is ready for input.
    pub is_ours: bool,
}

/// Makes the root file system that `args` ask for, of at most `limit` bytes. If `strings`, what a program of `--init`
/// writes comes through a pipe, and from there to the serial port in strings: only our port takes them as fast as that.
pub fn userland(args: &RunArgs, limit: u64, strings: bool) -> Result<Userland> {
    let own_init = match (&args.init, &args.rootfs) {
        (None, Some(root)) => init_of(root)?,
        _ => None,
    };
    let mut archive = Initramfs::new(limit);
    // The kernel opens it for its first program, before anybody could mount /dev.
    archive.directory("dev", 0o755)?;
    archive.character_device("dev/console", 0o600, (5, 1))?;
    if let Some(root) = &args.rootfs {
        archive.tree(root)?;
    }
    archive.directory(".matchstick", 0o755)?;
    let to_kernel = |archive: Initramfs, init, is_ours| {
        Ok(Userland { initramfs: Some(archive.finish()?.into()), init, args: args.args.clone(), is_ours })
    };
    let (program, init) = match (&args.init, &args.rootfs) {
        (None, None) => {
            archive.file("init", 0o755, LINUX_INIT)?;
            return to_kernel(archive, None, true);
        }
        (None, Some(_)) => return to_kernel(archive, own_init, false),
        (Some(program), None) => {
            let name = program.file_name().unwrap_or(OsStr::new("program"));
            let place = Path::new("bin").join(name);
            archive.directory("bin", 0o755)?;
            let image = archive.copy(&place, 0o755, program)?;
            check_program(image).map_err(|source| Error::Pack { path: program.clone(), source })?;
            archive.file("init", 0o755, LINUX_INIT)?;
            (Path::new("/").join(place), None)
        }
        (Some(program), Some(_)) => {
            archive.file(INIT_BESIDE, 0o755, LINUX_INIT)?;
            (Path::new("/").join(program), Some("/.matchstick/init"))
        }
    };
    let words = [program.as_os_str()].into_iter().chain(args.args.iter().map(OsString::as_os_str));
    let words: Vec<u8> = words.flat_map(|word| word.as_bytes().iter().chain(&[0])).copied().collect();
    archive.file(ARGS, 0o644, &words)?;
    if strings {
        archive.file(STRINGS, 0o644, &[])?;
    }
    Ok(Userland { initramfs: Some(archive.finish()?.into()), init, args: Vec::new(), is_ours: true })
}

/// The program that starts the system in `root`, unless it is /init, for which the kernel looks by itself.
fn init_of(root: &Path) -> Result<Option<&'static str>> {
    let pack = |source| Error::Pack { path: root.into(), source };
    fs::read_dir(root).map_err(|error| pack(error.into()))?;
    // Links may be good in the guest only: that there is something has to do.
    let has = |path| fs::symlink_metadata(root.join(path)).is_ok();
    match (has("init"), has("sbin/init")) {
        (true, _) => Ok(None),
        (_, true) => Ok(Some("/sbin/init")),
        _ => Err(pack(PackError::NoInit)),
    }
}

impl Userland {
    /// What the user gave, if anything: its first program is its own affair.
    pub fn given(initrd: Option<Contents>, args: &RunArgs) -> Userland {
        Userland { initramfs: initrd, init: None, args: args.args.clone(), is_ours: false }
    }

    /// The command line of a kernel for it: ours, then the user's, whose word counts where they differ; or the user's
    /// alone. `terminal` is what TERM says of the terminal that the guest's serial line ends at; without it, it ends
    /// at a pipe.
    pub fn cmdline(&self, args: &RunArgs, terminal: Option<&str>) -> Vec<u8> {
        // What the kernel does not know and has no dot before its `=` becomes its first program's environment.
        let term = format!("TERM={}", terminal.filter(|name| is_plain(name)).unwrap_or("dumb"));
        let init = self.init.map(|path| format!("rdinit={path}"));
        let mut words: Vec<&[u8]> = Vec::new();
        if args.cmdline_only.is_none() {
            words.push(CMDLINE.as_bytes());
            words.extend(self.is_ours.then_some(HASTY.as_bytes()));
            words.extend(is_meant(args).then_some(QUIET.as_bytes()));
            words.extend((args.memory.unwrap_or(MEMORY) < LITTLE).then_some(FRUGAL.as_bytes()));
            words.push(term.as_bytes());
            words.extend(init.as_ref().map(|word| word.as_bytes()));
        }
        words.extend(args.cmdline_only.iter().chain(&args.cmdline).map(|text| text.as_bytes()));
        if !self.args.is_empty() {
            words.push(b"--");
        }
        words.extend(self.args.iter().map(|word| word.as_bytes()));
        words.join(&b' ')
    }
}

/// Whether it is a word that the kernel takes as one.
fn is_plain(word: &str) -> bool {
    !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "-+._".contains(c))
}

/// Whether Linux can run `image` when there is no other file: a static ELF file, as elf(5) describes it.
fn check_program(image: &[u8]) -> std::result::Result<(), PackError> {
    const X86_64: u16 = 62;
    const PT_INTERP: u32 = 3;
    fn bytes<const N: usize>(image: &[u8], at: usize) -> Option<[u8; N]> {
        image.get(at..)?.first_chunk().copied()
    }
    let number = |at| bytes(image, at).map(u64::from_le_bytes).and_then(|n| usize::try_from(n).ok());
    if image.starts_with(b"#!") {
        return Err(PackError::Script);
    }
    // 64 bits, least byte first; an executable, which may be position-independent.
    let is_program = image.starts_with(b"\x7fELF\x02\x01")
        && matches!(bytes(image, 16), Some([2 | 3, 0]))
        && bytes(image, 18) == Some(X86_64.to_le_bytes());
    let (true, Some(table), Some(size), Some(count)) =
        (is_program, number(32), bytes(image, 54), bytes(image, 56))
    else {
        return Err(PackError::NotElf);
    };
    let (size, count) = (u16::from_le_bytes(size) as usize, u16::from_le_bytes(count) as usize);
    for i in 0..count {
        let header = table.saturating_add(i * size);
        if bytes(image, header) == Some(PT_INTERP.to_le_bytes()) {
            let text = number(header.saturating_add(8)).and_then(|at| image.get(at..)).unwrap_or_default();
            let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
            let interpreter = String::from_utf8_lossy(&text[..text.len().min(100)]).into_owned();
            return Err(PackError::Interpreter { interpreter });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_kernel_is_that_of_the_highest_version() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(newest_kernel(directory.path()), None);
        let mut newest = Vec::new();
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
            newest.push((newest_kernel(directory.path()), Some(path)));
        }
        newest.iter().for_each(|(found, expected)| assert_eq!(found, expected));
        assert_eq!(newest_kernel(Path::new("/there/is/none")), None);
    }

    fn line(args: RunArgs, terminal: Option<&str>) -> String {
        let userland = userland(&args, 1 << 30, false).unwrap();
        String::from_utf8(userland.cmdline(&args, terminal)).unwrap()
    }

    /// The same for a kernel that is given, and no initramfs of ours.
    fn line_of_given(args: RunArgs, terminal: Option<&str>) -> String {
        String::from_utf8(Userland::given(None, &args).cmdline(&args, terminal)).unwrap()
    }

    #[test]
    fn the_users_words_come_after_ours_and_those_for_init_last() {
        assert_eq!(line_of_given(RunArgs::default(), None), format!("{CMDLINE} TERM=dumb"));
        let linux = || RunArgs { target: Some(NAME.into()), ..RunArgs::default() };
        assert_eq!(line(linux(), None), format!("{CMDLINE} {HASTY} {QUIET} TERM=dumb"));
        let args =
            RunArgs { cmdline: Some("maxcpus=1".into()), args: vec!["echo".into(), "now".into()], ..linux() };
        assert_eq!(
            line(args, Some("xterm-256color")),
            format!("{CMDLINE} {HASTY} {QUIET} TERM=xterm-256color maxcpus=1 -- echo now")
        );
        assert_eq!(line_of_given(RunArgs::default(), Some("x panic=0")), format!("{CMDLINE} TERM=dumb"));
        let with = |memory| RunArgs { memory: Some(memory), ..RunArgs::default() };
        assert_eq!(line_of_given(with(LITTLE), None), format!("{CMDLINE} TERM=dumb"));
        assert_eq!(line_of_given(with(LITTLE - 1), None), format!("{CMDLINE} {FRUGAL} TERM=dumb"));
    }

    #[test]
    fn nothing_is_added_to_a_command_line_that_is_the_only_one() {
        let only = |text: &str| RunArgs { cmdline_only: Some(text.into()), ..RunArgs::default() };
        assert_eq!(line(only("console=ttyS0"), Some("vt100")), "console=ttyS0");
        assert_eq!(line(RunArgs { args: vec!["echo".into()], ..only("quiet") }, None), "quiet -- echo");
        assert_eq!(line(only(""), None), "");
    }

    #[test]
    fn a_panic_is_told_where_only_a_panic_resets_warm() {
        for told in
            [CMDLINE, "reboot=panic_warm", "a reboot=panic_w,triple b", "reboot=warm reboot=cold,panic_warm"]
        {
            assert!(tells_panic(told.as_bytes()), "{told}");
        }
        for not in [
            "",
            "reboot=warm",
            "noreboot=panic_warm",
            "panic_warm",
            "reboot=panic_cold",
            "-- reboot=panic_warm",
            "reboot=panic_warm,warm",
            "reboot=panic_warm reboot=w",
            "reboot=panic_warm reboot=panic_cold",
        ] {
            assert!(!tells_panic(not.as_bytes()), "{not}");
        }
    }

    #[test]
    fn a_directory_brings_its_own_init_or_gets_ours_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let with = |init: Option<&str>| RunArgs {
            rootfs: Some(root.into()),
            init: init.map(PathBuf::from),
            ..RunArgs::default()
        };
        let error = userland(&with(None), 1 << 30, false).err().unwrap();
        assert!(matches!(error, Error::Pack { source: PackError::NoInit, .. }));
        assert!(line(with(Some("bin/sh")), None).ends_with(" rdinit=/.matchstick/init"));
        fs::create_dir(root.join("sbin")).unwrap();
        fs::write(root.join("sbin/init"), "").unwrap();
        assert!(line(with(None), None).ends_with(" rdinit=/sbin/init"));
        fs::write(root.join("init"), "").unwrap();
        assert!(!line(with(None), None).contains("rdinit"));
        assert!(line(with(Some("bin/sh")), None).ends_with(" rdinit=/.matchstick/init"));
    }

    #[test]
    fn only_a_static_program_can_be_all_there_is() {
        assert!(check_program(LINUX_INIT).is_ok());
        assert!(matches!(check_program(b""), Err(PackError::NotElf)));
        assert!(matches!(check_program(b"hello"), Err(PackError::NotElf)));
        assert!(matches!(check_program(b"#!/bin/sh\n"), Err(PackError::Script)));
        let with = |at: usize, value: u8| {
            let mut image = LINUX_INIT.to_vec();
            image[at] = value;
            check_program(&image)
        };
        // 32 bits; an object file; another processor.
        for (at, value) in [(4, 1), (16, 1), (18, 183)] {
            assert!(matches!(with(at, value), Err(PackError::NotElf)));
        }
        // The first program header, right behind the ELF header, asks for a loader.
        assert!(matches!(with(64, 3), Err(PackError::Interpreter { .. })));
        // However it is cut, it is no panic.
        for len in 0..200 {
            let _ = check_program(&LINUX_INIT[..len]);
        }
    }
}
