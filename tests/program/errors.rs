//! Every error that a user can make, from all rooms: its status, its line, and the hint that belongs to it, or none.
//!
//! What a host refuses is in `faults`; what each type of error says where no test can make it, in `src/cli/hint.rs`.

use crate::support::image::{boot_sector, code};
use crate::support::{has_kvm, matchstick};
use std::fs;
use std::path::Path;

/// What was typed, and how it ends. `None` is no hint.
type Case<'a> = (&'a [&'a str], i32, &'a str, Option<&'a str>);

#[track_caller]
fn hold(cases: &[Case], directory: &Path) {
    for &(args, status, error, hint) in cases {
        let program = matchstick(args).directory(directory);
        let ended = program.run();
        match hint {
            Some(hint) => ended.fails(status, error, hint),
            None => ended.fails_without_hint(status, error),
        };
    }
}

/// A directory with files that are not what they are taken for.
fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| fs::write(directory.path().join(name), bytes).unwrap();
    file("empty", b"");
    file("text", b"not a kernel, not a program\n");
    file("sector", &boot_sector(&[code::HALT]));
    file("script", b"#!/bin/sh\n");
    // ELF, 32 bits, little-endian, version 1; an executable of the 80386.
    let mut elf32 = b"\x7fELF\x01\x01\x01".to_vec();
    elf32.resize(16, 0);
    elf32.extend([2, 0, 3, 0, 1, 0, 0, 0]);
    elf32.resize(52, 0);
    file("elf32", &elf32);
    file("large", &vec![0; 3 << 20]);
    file("report.json", b"{}");
    fs::create_dir(directory.path().join("root")).unwrap();
    directory
}

#[test]
fn each_wrong_image_has_its_own_hint() {
    let protocols = Some("--boot flat16|flat64|elf|multiboot|pvh|linux");
    let cases: &[Case] = &[
        (
            &["run", "nonsense"],
            127,
            "no guest and no file is called \"nonsense\"",
            Some("`matchstick guests`"),
        ),
        (
            &["run", "./nonsense"],
            127,
            "cannot open ./nonsense: No such file",
            Some("`matchstick snapshot -o FILE`"),
        ),
        (&["run", "-k", "nonsense"], 127, "cannot open nonsense: No such file", Some("`matchstick guests`")),
        (&["run", "root"], 126, "cannot read root: Is a directory", Some("a regular file that you may read")),
        (&["run", "/dev/zero"], 126, "it is a device", Some("a regular file that you may read")),
        (&["run", "hello", "-i", "nonsense"], 127, "cannot open nonsense: No such file", None),
        (
            &["run", "-m", "2M", "large"],
            126,
            "it has 3145728 bytes, and the guest's memory 2097152",
            Some("-m SIZE"),
        ),
    ];
    hold(cases, directory().path());
    if !has_kvm() {
        return;
    }
    let cases: &[Case] = &[
        (&["run", "empty"], 126, "cannot load empty: the file is empty", Some("is it the file you meant")),
        (&["run", "text"], 126, "cannot load text: not a kernel", protocols),
        (&["run", "--boot", "elf", "text"], 126, "cannot load text: not ELF", protocols),
        (&["run", "elf32"], 126, "cannot load elf32: it is a 32-bit ELF", None),
        (
            &["run", "sector", "-p", "quiet"],
            126,
            "flat16 has no way to pass",
            Some("elf, multiboot and pvh take"),
        ),
        (&["run", "hello", "-i", "large", "-m", "4M"], 126, "finds no room below 0x400000", Some("-m SIZE")),
        (&["run", "-m", "1K"], 125, "2M to 1T of memory", Some("-m SIZE is the guest's memory")),
        (&["run", "-c", "0"], 125, "at least one CPU", Some("-c N is the number of CPUs")),
        (&["run", "-c", "999"], 125, "999 CPUs are more", Some("-c N is the number of CPUs")),
    ];
    hold(cases, directory().path());
}

#[test]
fn each_wrong_file_system_for_linux_has_its_own_hint() {
    let readable = Some("--init takes a program, --rootfs a directory whose files you may read");
    hold(
        &[
            (&["run", "linux", "--init", "nonsense"], 127, "cannot pack nonsense: No such file", readable),
            (
                &["run", "linux", "--init", "root"],
                126,
                "cannot pack root: it is not a regular file",
                readable,
            ),
            (&["run", "linux", "--init", "script"], 126, "it is a script", Some("with its interpreter")),
            (
                &["run", "linux", "--init", "text"],
                126,
                "it is not an ELF program",
                Some("a static Linux program"),
            ),
            (&["run", "linux", "--rootfs", "nonsense"], 127, "cannot pack nonsense: No such file", readable),
            (&["run", "linux", "--rootfs", "root"], 126, "it has neither /init", Some("--init PATH-IN-DIR")),
        ],
        directory().path(),
    );
}

#[test]
fn each_file_that_cannot_be_a_disk_has_its_own_hint() {
    let directory = directory();
    let file = |name: &str| fs::File::create(directory.path().join(name)).unwrap();
    file("odd").set_len(1000).unwrap();
    file("blank").set_len(4096).unwrap();
    file("held").set_len(4096).unwrap();
    let _reader = matchstick::virtio::blk::Store::open(&directory.path().join("held"), true).unwrap();
    let raw = Some("a raw image or a block device");
    let alone = Some("machines can share a disk that each has by FILE,ro");
    hold(
        &[
            (
                &["run", "linux", "--disk", "no"],
                127,
                "cannot open the disk no: No such file",
                Some("truncate -s 1G"),
            ),
            (&["run", "linux", "--disk", "root"], 126, "root is neither a file nor a block device", raw),
            (&["run", "linux", "--disk", "/dev/null"], 126, "/dev/null is neither a file nor", raw),
            (
                &["run", "linux", "--disk", "odd"],
                126,
                "odd has 1000 bytes, and a disk",
                Some("truncate -s %512 FILE"),
            ),
            (&["run", "linux", "--disk", "held"], 126, "held is the disk of another machine", alone),
            (
                &["run", "linux", "--disk", "blank,ro", "--disk", "held"],
                126,
                "held is the disk of another",
                alone,
            ),
            (
                &["run", "linux", "-k", "text", "--disk", "held,ro"],
                126,
                "there is no file system on held",
                Some("root=/dev/vda1"),
            ),
            (
                &["run", "hello", "--disk", "blank"],
                125,
                "no guest of the gallery knows disks",
                Some("matchstick run --help"),
            ),
        ],
        directory.path(),
    );
}

#[test]
fn each_file_that_cannot_be_written_has_its_own_hint() {
    let writable = Some("it goes to a file that you may write, in a directory that is there");
    hold(
        &[
            (&["trace", "hello", "-o", "no/such"], 125, "cannot write no/such: No such file", writable),
            (&["trace", "hello", "--html", "root"], 125, "cannot write root: ", writable),
            (&["trace", "hello", "-o", "a", "--chrome", "a"], 125, "meant for two things", None),
            (&["trace", "sector", "-o", "sector"], 125, "it is the image", None),
            (&["snapshot", "primes", "-o", "no/such"], 125, "cannot write no/such: No such file", writable),
            (&["snapshot", "primes", "-o", "root"], 125, "cannot write root: Is a directory", writable),
            (&["bench", "--export-json", "no/such"], 125, "cannot write no/such: No such file", writable),
            (
                &["trace", "--gdb", "unix:text", "hello"],
                125,
                "cannot listen for a debugger",
                Some("a port that is free"),
            ),
        ],
        directory().path(),
    );
}

#[test]
fn each_wrong_golden_image_has_its_own_hint() {
    let regular = Some("an image is a regular file that you may read");
    let program = Some("as `pgrep -a matchstick` shows it");
    let directory = directory();
    hold(
        &[
            (
                &["clone", "nonsense"],
                127,
                "cannot open nonsense: No such file",
                Some("`matchstick snapshot -o FILE`"),
            ),
            (&["clone", "root"], 126, "it is not a regular file", regular),
            (&["clone", "/dev/zero"], 126, "it is not a regular file", regular),
            (&["clone", "text"], 126, "it does not begin as one", Some("is it the file you meant")),
        ],
        directory.path(),
    );
    if !has_kvm() {
        return;
    }
    matchstick(["snapshot", "-q", "primes", "-o", "golden.ms"]).directory(directory.path()).run().status(0);
    let own = format!("pid:{}", std::process::id());
    hold(
        &[
            (
                &["run", "golden.ms", "-p", "quiet"],
                125,
                "a golden image has its kernel and what that was told",
                Some("`matchstick snapshot` decides"),
            ),
            (
                &["snapshot", "hello", "-o", "x"],
                125,
                "the guest ended before it came to that point",
                Some("--at ready"),
            ),
            (&["diff", "golden.ms", "pid:999999999"], 127, "there is no such process", program),
            (&["diff", "golden.ms", &own], 126, "it does not run a virtual machine of ours", program),
        ],
        directory.path(),
    );
}

#[test]
fn each_wrong_race_has_its_own_hint() {
    let options = Some("`matchstick bench --help` shows all options");
    let payload = Some("--payload takes hello, primes or the path of a static program");
    hold(
        &[
            (&["bench", "--only", "nonsense"], 125, "no such subject: nonsense", options),
            (&["bench", "--only", "process", "--skip", "process"], 125, "no subject is left", options),
            (&["bench", "--with", "a='b"], 125, "a quote is left open", options),
            (&["bench", "--payload", "nonsense"], 127, "cannot open nonsense: No such file", payload),
            (&["bench", "--payload", "root"], 125, "root is no payload: it is not a regular file", payload),
            (&["bench", "--pin", "100000"], 126, "cannot bind the race to CPU 100000", Some("/proc/cpuinfo")),
            (
                &["bench", "--compare", "nonsense"],
                125,
                "cannot compare with nonsense",
                Some("--export-json FILE"),
            ),
            (
                &["bench", "--compare", "report.json"],
                125,
                "cannot compare with report.json",
                Some("--export-json FILE"),
            ),
        ],
        directory().path(),
    );
    let nowhere = matchstick(["bench"]).env("TMPDIR", "/no/such").run();
    nowhere.fails(126, "cannot make a directory for the race", "the directory that TMPDIR names");
}

/// Names that would clear the screen, set a title, forge a line of ours, or be read backwards.
const HOSTILE: &str = "a\x1b[2J\x1b]0;b\x07\nerror: c\u{9b}3m\u{202e}d\r";

/// Nothing in `text` but lines that a terminal shows as they are.
#[track_caller]
fn holds_nothing_to_obey(text: &str, what: &dyn std::fmt::Debug) {
    let is_obeyed = |c: char| c != '\n' && c != '\t' && (c.is_control() || c == '\u{202e}');
    assert!(!text.contains(is_obeyed) && !text.contains("\nerror: c"), "{what:?}: {text:?}");
}

#[test]
fn names_in_messages_are_shown_and_not_obeyed() {
    let directory = directory();
    let path = directory.path();
    let image = format!("image{HOSTILE}");
    fs::write(path.join(&image), boot_sector(&[code::SERIAL, code::PUT_A, &code::exit(3)])).unwrap();
    let garbage = format!("garbage{HOSTILE}");
    fs::write(path.join(&garbage), "nothing").unwrap();
    fs::create_dir(path.join(HOSTILE)).unwrap();
    std::os::unix::net::UnixListener::bind(path.join("socket")).unwrap();
    let beside = format!("./{HOSTILE}x");
    let golden = format!("golden{HOSTILE}");
    let option = format!("--{HOSTILE}");
    let with = format!("{HOSTILE}=true");
    let with_command = format!("mine=./{HOSTILE}");
    let socket = format!("unix:{garbage}");
    let nowhere = format!("{HOSTILE}/no/such");
    let process = format!("pid:{HOSTILE}");
    let mut cases: Vec<Vec<&str>> = vec![
        vec![HOSTILE],
        vec![&option],
        vec!["help", HOSTILE],
        vec!["run", &beside],
        vec!["run", "no-such-\u{1b}[2J"],
        vec!["run", HOSTILE],
        vec!["run", &option],
        vec!["run", "-m", HOSTILE],
        vec!["run", "hello", HOSTILE],
        vec!["run", "hello", "-i", &beside],
        vec!["run", "linux", "--init", &beside],
        vec!["run", "linux", "--init", &garbage],
        vec!["run", "linux", "--rootfs", HOSTILE],
        vec!["trace", "hello", "-o", &nowhere],
        vec!["trace", "hello", "-o", HOSTILE],
        vec!["trace", "hello", "--gdb", &socket],
        vec!["trace", "hello", "--gdb", HOSTILE],
        vec!["snapshot", "primes", "-o", &nowhere],
        vec!["clone", &beside],
        vec!["clone", &garbage],
        vec!["diff", "text", &process],
        vec!["explain", HOSTILE],
        vec!["bench", "--only", HOSTILE],
        vec!["bench", "--payload", &beside],
        vec!["bench", "--payload", HOSTILE],
        vec!["bench", "--compare", &garbage],
        vec!["bench", "--with", &with],
        vec!["bench", "--runs", "1", "--warmup", "0", "--only", "process", "--with", &with_command],
        vec!["bench", "--export-json", &nowhere],
    ];
    if has_kvm() {
        cases.extend([
            vec!["run", &garbage],
            vec!["run", "-v", &image],
            vec!["trace", &image],
            vec!["trace", "--step", &image],
            vec!["snapshot", "primes", "-o", &golden],
            vec!["run", "-v", &golden],
            vec!["trace", &golden],
            vec!["clone", "-n", "1", &golden],
            vec!["diff", &golden, &garbage],
        ]);
    }
    let mut named = 0;
    for args in &cases {
        let ended = matchstick(args).directory(path).run();
        named += usize::from((ended.stderr.clone() + &ended.text()).contains("\\u{1b}"));
        holds_nothing_to_obey(&ended.stderr, args);
        holds_nothing_to_obey(&ended.text(), args);
    }
    assert!(named > cases.len() / 2, "only {named} of {} named it at all", cases.len());
}
