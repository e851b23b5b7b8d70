//! `run linux`, `--init`, `--rootfs`: what is done for a Linux before it starts, and said when it has ended.
//!
//! The kernels here are guests of a few instructions: what a real Linux makes of it is in `tests/qemu/linux.rs`.

use crate::support::image::{Segment, elf};
use crate::support::{self, has_kvm, matchstick};
use matchstick::guest::Guest;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// A directory with an /init, whose data are a hole of `size` bytes.
fn root(size: u64) -> tempfile::TempDir {
    let scratch = tempfile::tempdir().unwrap();
    File::create(scratch.path().join("init")).unwrap().set_len(size).unwrap();
    scratch
}

#[test]
fn packing_is_a_part_of_the_time() {
    let root = root(400 << 20);
    // Nobody reads so much in a millisecond.
    let ended = matchstick(["run", "linux", "-k", "Cargo.toml", "-m", "1G", "--timeout", "1ms", "--rootfs"])
        .args([root.path()])
        .run();
    ended.printed("").fails(124, "it did not end within its time", "--timeout TIME is the limit");
}

#[test]
fn ctrl_c_ends_it_at_once_whether_it_packs_or_runs() {
    if !has_kvm() {
        return;
    }
    let root = root(64 << 20);
    // jmp to itself
    let code = Segment { address: 0x10_0000, bytes: b"\xeb\xfe", size: 2 };
    let (_dir, spin) = support::file(&elf(code.address, &[code]));
    for _ in 0..3 {
        let running = matchstick(["run", "linux", "-m", "256M", "-k"])
            .args([spin.as_os_str(), "--rootfs".as_ref(), root.path().as_os_str()])
            .start();
        running.signal(libc::SIGINT);
        running.end().killed_by(libc::SIGINT);
    }
}

#[test]
fn files_that_come_and_go_are_no_error() {
    if !has_kvm() {
        return;
    }
    let root = root(0);
    let (_dir, hello) = support::file(Guest::find("hello").unwrap().image);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let at = |name: String| root.path().join(name);
            while !is_over.load(Ordering::Relaxed) {
                for i in 0..50 {
                    fs::write(at(format!("file{i}")), "x").unwrap();
                    symlink("/etc/shadow", at(format!("link{i}"))).unwrap();
                    fs::create_dir(at(format!("dir{i}"))).unwrap();
                    fs::write(at(format!("dir{i}/file")), "x").unwrap();
                }
                for i in 0..50 {
                    fs::rename(at(format!("link{i}")), at(format!("file{i}"))).unwrap();
                    fs::remove_dir_all(at(format!("dir{i}"))).unwrap();
                    fs::remove_file(at(format!("file{i}"))).unwrap();
                }
            }
        });
        for _ in 0..20 {
            let ended = matchstick(["run", "linux", "-k"])
                .args([hello.as_os_str(), "--rootfs".as_ref(), root.path().as_os_str()])
                .run();
            ended.status(0);
            assert_eq!(ended.text(), "Hello from a virtual machine!\n");
            // One remark, if any.
            let remarks = &ended.stderr;
            let is_remark =
                |line: &str| line.starts_with("left out: ") && line.ends_with("while it was read");
            assert!(remarks.lines().count() < 2 && remarks.lines().all(is_remark), "{remarks}");
        }
        is_over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn what_linux_cannot_be_told_is_refused() {
    let with = |words: &[&str]| {
        let root = root(0);
        matchstick(["run", "linux", "-k", "Cargo.toml", "--rootfs"])
            .args([root.path().to_str().unwrap(), "--"])
            .args(words)
            .run()
    };
    let init = "--init PROGRAM gets ARGS as they are";
    with(&["q\"q"]).printed("").fails(
        125,
        "Linux cannot be told \"q\\\"q\": its parser takes quotes away",
        init,
    );
    with(&["a", "--", "b"]).fails(125, "Linux cannot be told \"--\": it ends the list of words", init);
    with(&["word"; 40]).fails(125, "Linux cannot be told 40 words: it hands over 31 at most", init);
    let alone = matchstick(["run", "linux", "--", "ehco"]).run();
    alone.fails(125, "ARGS are echo, or what --init PROGRAM is told", "`matchstick run --help`");
}

#[test]
fn a_silent_linux_that_panics_says_how_to_see_more() {
    if !has_kvm() {
        return;
    }
    let root = root(0);
    // mov word [0x472], 0x1234 · mov al, 0xfe · out 0x64, al · hlt: a warm reset, as Linux does it.
    let code = b"\x66\xc7\x04\x25\x72\x04\x00\x00\x34\x12\xb0\xfe\xe6\x64\xf4";
    let code = Segment { address: 0x10_0000, bytes: code, size: code.len() as u64 };
    let (_dir, kernel) = support::file(&elf(code.address, &[code]));
    let with = |more: &[&str]| {
        let words =
            ["run".as_ref(), "-k".as_ref(), kernel.as_os_str(), "--rootfs".as_ref(), root.path().as_os_str()];
        matchstick(words).args(more).run()
    };
    let name = kernel.display();
    for (more, said) in [
        (&[][..], format!("error: {name} panicked\n hint: --cmdline loglevel=7 shows what it said\n")),
        (&["--cmdline", "loglevel=7"], format!("error: {name} panicked\n")),
        (&["-q"], format!("error: {name} panicked\n")),
    ] {
        let ended = with(more);
        assert_eq!((ended.status, &ended.stderr), (Some(121), &said));
    }
}
