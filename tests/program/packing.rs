//! `run --rootfs DIR`: a directory is packed while others may change it, within the time there is.
//!
//! The kernels here are guests of the gallery: what a real Linux finds in the archive is in `tests/qemu/linux.rs`.

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
