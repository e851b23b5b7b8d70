//! The same images under QEMU's own processor: what the gallery shows is a PC, not a custom of ours.

use crate::support;
use crate::support::{Program, assert_expected, file, keys_for};
use matchstick::guest::{GALLERY, Guest};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

const QEMU: &str = "qemu-system-x86_64";

#[test]
fn every_guest_does_the_same_under_qemu() {
    if !is_installed() {
        assert!(!support::is_set("REQUIRE_QEMU"), "{QEMU} is not installed");
        return support::skip(&format!("{QEMU} is not installed"));
    }
    // Two at a time: each takes half a second before its guest begins.
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(guest) = GALLERY.get(next.fetch_add(1, Ordering::Relaxed)) {
                    does_the_same(guest);
                }
            });
        }
    });
}

fn is_installed() -> bool {
    Command::new(QEMU).arg("--version").stdout(Stdio::null()).status().is_ok_and(|status| status.success())
}

fn does_the_same(guest: &Guest) {
    let (_dir, path) = file(guest.image);
    let image = Path::new(&path).display();
    // A disk of one sector is enough for the old PC's IDE; SeaBIOS cannot read it from q35's AHCI.
    let start = match guest.image.starts_with(b"\x7fELF") {
        true => format!("-M q35 -kernel {image}"),
        false => format!("-M pc -drive format=raw,file={image}"),
    };
    let cpus = guest.needs_value("cpus").unwrap_or("1");
    let ended = Program::new(QEMU)
        .args("-accel tcg -cpu max -m 128 -display none -nodefaults -no-reboot".split(' '))
        .args("-serial stdio -device isa-debug-exit,iobase=0xf4,iosize=4".split(' '))
        .args(["-smp", cpus])
        .args(start.split(' '))
        .input(keys_for(guest))
        .run();
    // QEMU makes an odd number of it, so that a guest can never end with its 0.
    ended.status(i32::from(guest.exit) << 1 | 1);
    assert_expected(guest, &ended.text());
}
