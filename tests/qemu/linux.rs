//! What a Linux guest is given to run, on a Linux: our init as a program of this host, and with a real kernel
//! under QEMU's own processor.
//!
//! The kernel is the one in the variable `TEST_KERNEL`, the newest in /boot, or the one that the nested rig has
//! fetched. Without one, or without QEMU, the tests say so and pass; `REQUIRE_LINUX=1` makes them fail.

use crate::support;
use crate::support::image::{Segment, elf};
use crate::support::terminal::make_fifo;
use crate::support::{CTRL_D, Ended, Program, Running, is_match, is_set, matchstick, skip};
use matchstick::linux::cmdline::cmdline;
use matchstick::linux::kernel::newest;
use matchstick::linux::userland::userland;
use matchstick::linux::{INIT, Options};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

const QEMU: &str = "qemu-system-x86_64";
/// A boot takes three seconds on a machine that has nothing else to do.
const LIMIT: Duration = Duration::from_secs(120);
const BINARY: &str = env!("CARGO_BIN_EXE_matchstick");

/// As many at a time as a small machine has processors for.
static TURNS: [Mutex<()>; 2] = [Mutex::new(()), Mutex::new(())];

/// The kernel to test with, where there is everything to run it.
fn kernel() -> Option<PathBuf> {
    let qemu = Command::new(QEMU).arg("--version").stdout(Stdio::null()).status();
    let why = match (qemu.is_ok_and(|status| status.success()), find_kernel()) {
        (true, Some(kernel)) => return Some(kernel),
        (false, _) => format!("{QEMU} is not installed"),
        (_, None) => {
            "no Linux kernel: apt-get install linux-image-cloud-amd64, or run tests/rig/run first".into()
        }
    };
    assert!(!is_set("REQUIRE_LINUX"), "{why}");
    skip(&why);
    None
}

fn find_kernel() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("TEST_KERNEL") {
        return Some(path.into());
    }
    let rig = Path::new(env!("CARGO_TARGET_TMPDIR")).join("rig");
    let fetched = fs::read_dir(rig).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let directories = [PathBuf::from("/boot")].into_iter().chain(fetched.map(|path| path.join("boot")));
    directories.filter_map(|directory| newest(&directory)).next()
}

/// A static busybox: the one beside the kernel, or the host's own.
fn busybox(kernel: &Path) -> Option<PathBuf> {
    let beside = kernel.parent()?.parent()?.join("bin/busybox");
    let is_static = |path: &PathBuf| {
        let options = Options { init: Some(path.clone()), ..Options::default() };
        userland(&options).is_ok()
    };
    let found = [beside, "/bin/busybox".into()].into_iter().find(is_static);
    if found.is_none() {
        skip("no static busybox: apt-get install busybox-static");
    }
    found
}

fn options(init: Option<&Path>, words: &[&str]) -> Options {
    Options {
        quiet: true,
        memory: 256 << 20,
        init: init.map(Path::to_owned),
        args: words.iter().map(Into::into).collect(),
        ..Options::default()
    }
}

/// Boots `kernel` with what `options` ask for; `talk` types and listens.
fn boot(kernel: &Path, options: &Options, terminal: Option<&str>, talk: impl FnOnce(&mut Running)) -> Ended {
    boot_on(1, kernel, options, terminal, talk)
}

/// The same on a machine of so many `cpus`.
fn boot_on(
    cpus: u32,
    kernel: &Path,
    options: &Options,
    terminal: Option<&str>,
    talk: impl FnOnce(&mut Running),
) -> Ended {
    let _turn = TURNS.iter().find_map(|turn| turn.try_lock().ok());
    let _turn = _turn.unwrap_or_else(|| TURNS[0].lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
    let options = Options { terminal: terminal.map(Into::into), ..options.clone() };
    let userland = userland(&options).unwrap();
    let (_dir, initramfs) = support::file(userland.initramfs.as_ref().unwrap());
    let cmdline = String::from_utf8(cmdline(&options, &userland).unwrap()).unwrap();
    let mut running = Program::new(QEMU)
        .args("-M q35 -accel tcg -cpu max -m 512 -display none -nodefaults -no-reboot".split(' '))
        .args("-serial stdio -device isa-debug-exit,iobase=0xf4,iosize=4".split(' '))
        .args(["-smp", &cpus.to_string(), "-append", &cmdline, "-kernel"])
        .args([kernel.as_os_str(), "-initrd".as_ref(), &initramfs])
        .open_input()
        .limit(LIMIT)
        .start();
    talk(&mut running);
    running.end()
}

/// QEMU makes an odd number of the status, of which 8 bits are left.
fn status(status: u8) -> i32 {
    i32::from(status << 1 | 1)
}

/// A program that executes `code`, and nothing else.
fn program(code: &[u8]) -> (tempfile::TempDir, PathBuf) {
    // Linux wants the address and the place in the file to agree within a page.
    let address = 0x40_0000 + 64 + 56;
    let image = elf(address, &[Segment { address, bytes: code, size: code.len() as u64 }]);
    let (dir, path) = support::file(&image);
    (dir, path.into())
}

#[track_caller]
fn lines_match(output: &str, patterns: &[&str]) {
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines.len(), patterns.len(), "{output:?}");
    for (line, pattern) in lines.iter().zip(patterns) {
        assert!(is_match(pattern, line), "{line:?} instead of {pattern:?}");
    }
}

#[test]
fn our_init_is_a_program_like_any_other() {
    let (_dir, path) = support::file(INIT);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let first = format!("Linux {}", release.trim());
    let report = [first.as_str(), "* CPU*, * MiB of memory", "up for *.* s"];

    let ended = Program::new(&path).run();
    ended.silent().status(0);
    lines_match(&ended.text(), &report);

    let ended = Program::new(&path).args(["echo"]).input("one\ntwo\n").run();
    ended.silent().status(0);
    let echoed = ["echo: type, and end with Ctrl-D", "one", "two"];
    lines_match(&ended.text(), &[&report[..], &echoed].concat());
}

#[test]
fn our_init_is_small() {
    assert!(INIT.len() < 8 << 10, "{} bytes", INIT.len());
}

#[test]
fn what_cannot_be_the_first_program_is_refused_with_a_hint() {
    // The kernel comes first: any file will do as one that is there.
    let run = |words: &[&str]| matchstick(["run", "linux", "-k", "Cargo.toml"]).args(words).run();
    run(&["--init", "no/such"]).printed("").fails(
        127,
        "cannot pack no/such: No such file",
        "--init takes a program",
    );
    run(&["--init", "src"]).fails(126, "cannot pack src: it is not a regular file", "--init takes a program");
    run(&["--init", "README.md"]).fails(126, "it is not an ELF program for x86-64", "static Linux program");
    run(&["--init", "tests/rig/run"]).fails(126, "it is a script", "--rootfs DIR --init");
    run(&["--rootfs", "no/such"]).fails(127, "cannot pack no/such: No such file", "--rootfs a directory");
    run(&["--rootfs", "README.md"]).fails(
        126,
        "cannot pack README.md: Not a directory",
        "--rootfs a directory",
    );
    run(&["--rootfs", "src"]).fails(126, "it has neither /init nor /sbin/init", "--init PATH-IN-DIR");
    run(&["--init", BINARY, "-m", "2M"]).fails(
        126,
        "would not fit the guest's memory of 2097152 bytes",
        "more memory",
    );
    // Nearly every host has a shell that is not static.
    match fs::read("/bin/sh") {
        Ok(shell) if shell.windows(9).any(|window| window == b"/ld-linux") => {
            let shell = run(&["--init", "/bin/sh"]);
            shell.fails(126, "cannot pack /bin/sh: it needs a dynamic loader, /", "link it statically");
        }
        _ => skip("/bin/sh is not a dynamic program"),
    }
    let of_run = "`matchstick run --help`";
    run(&["--init", BINARY, "-i", "x"]).fails(125, "no place for --initrd", of_run);
    matchstick(["run", "hello", "--init", BINARY]).run().fails(125, "hello is not Linux", of_run);
    matchstick(["run", "x", "-k", "y", "--init", BINARY]).run().fails(125, "not both", of_run);
    matchstick(["linux"]).run().fails(125, "linux is a guest, not a command", "`matchstick run GUEST`");
}

#[test]
fn linux_says_where_it_is_and_leaves() {
    let Some(kernel) = kernel() else { return };
    let ended = boot_on(2, &kernel, &options(None, &[]), None, |_| ());
    ended.status(0);
    lines_match(&ended.text(), &["Linux *.*", "2 CPUs, 4* MiB of memory", "up for *.* s"]);
}

#[test]
fn what_comes_through_a_pipe_comes_back_once() {
    let Some(kernel) = kernel() else { return };
    // All bytes but the line's end and Ctrl-D, in lines that a terminal takes whole.
    let mut text: Vec<u8> = Vec::new();
    for i in 0..100 {
        text.extend(format!("line {i} ").bytes());
        text.extend((1..=255u8).filter(|byte| ![CTRL_D, b'\n'].contains(byte)));
        text.push(b'\n');
    }
    let ended = boot(&kernel, &options(None, &["echo"]), None, |running| {
        running.stdout.wait_for("Ctrl-D\n");
        running.write(&text);
        running.write(&[CTRL_D]);
    });
    ended.status(0);
    let start = ended.stdout.windows(7).position(|window| window == b"Ctrl-D\n").unwrap();
    assert!(ended.stdout[start + 7..] == text, "{} bytes of {}", ended.stdout.len() - start - 7, text.len());
}

#[test]
fn what_is_typed_on_a_terminal_shows_at_once_and_comes_back() {
    let Some(kernel) = kernel() else { return };
    let ended = boot(&kernel, &options(None, &["echo"]), Some("vt100"), |running| {
        running.stdout.wait_for("Ctrl-D\n");
        // A key that erases the one before; Return.
        running.write(b"hallp\x7f");
        running.stdout.wait_for("hallp");
        running.write(b"o\r");
        running.stdout.wait_for("hallo\n");
        running.write(&[CTRL_D]);
    });
    ended.status(0);
    assert!(ended.text().ends_with("Ctrl-D\nhallp\x08 \x08o\nhallo\n"), "{:?}", ended.text());
}

#[test]
fn a_programs_output_and_status_are_the_machines() {
    let Some(kernel) = kernel() else { return };
    // Our own program is a static one, with a runtime library and some megabytes.
    let here = matchstick(["help", "run"]).run();
    let there = boot(&kernel, &options(Some(Path::new(BINARY)), &["help", "run"]), None, |_| ());
    there.status(status(0)).printed(here.stdout);

    let there = boot(&kernel, &options(Some(Path::new(BINARY)), &["run", "not  \"here"]), None, |_| ());
    there.status(status(127));
    lines_match(&there.text(), &[r#"error: no guest and no file is called "not  \"here""#, " hint: *"]);
}

#[test]
fn every_end_of_a_program_is_told() {
    let Some(kernel) = kernel() else { return };
    // mov edi, 3 · mov eax, 60 (exit) · syscall
    let (_dir, three) = program(&[0xbf, 3, 0, 0, 0, 0xb8, 60, 0, 0, 0, 0x0f, 0x05]);
    boot(&kernel, &options(Some(&three), &[]), None, |_| ()).status(status(3)).printed("");
    // ud2: SIGILL
    let (_dir, crash) = program(&[0x0f, 0x0b]);
    boot(&kernel, &options(Some(&crash), &[]), None, |_| ()).status(status(128 + 4)).printed("");
}

#[test]
fn a_directory_is_the_root_file_system() {
    let Some(kernel) = kernel() else { return };
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    fs::create_dir_all(root.join("usr/sbin")).unwrap();
    symlink("usr/sbin", root.join("sbin")).unwrap();
    fs::write(root.join("usr/sbin/init"), INIT).unwrap();
    fs::set_permissions(root.join("usr/sbin/init"), fs::Permissions::from_mode(0o755)).unwrap();

    // Its own init is process 1.
    let own = Options { rootfs: Some(root.into()), ..options(None, &[]) };
    let ended = boot(&kernel, &own, None, |_| ());
    ended.status(0);
    lines_match(&ended.text(), &["Linux *.*", "1 CPU, 4* MiB of memory", "up for *.* s"]);

    // Nothing is there to run.
    let missing = Options { rootfs: Some(root.into()), ..options(Some(Path::new("bin/none")), &[]) };
    let ended = boot(&kernel, &missing, None, |_| ());
    ended.status(status(127));
    lines_match(&ended.text(), &["init: cannot run /bin/none: no such file*"]);
}

#[test]
fn a_shell_finds_everything_as_it_was_packed() {
    let Some(kernel) = kernel() else { return };
    let Some(busybox) = busybox(&kernel) else { return };
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    fs::create_dir(root.join("bin")).unwrap();
    fs::copy(busybox, root.join("bin/busybox")).unwrap();
    for name in ["sh", "stat", "cat", "readlink", "sleep"] {
        fs::hard_link(root.join("bin/busybox"), root.join("bin").join(name)).unwrap();
    }
    fs::create_dir(root.join("empty")).unwrap();
    fs::set_permissions(root.join("empty"), fs::Permissions::from_mode(0o1777)).unwrap();
    fs::write(root.join("TRAILER!!!"), "not the end\n").unwrap();
    fs::write(root.join("secret"), "text\n").unwrap();
    fs::set_permissions(root.join("secret"), fs::Permissions::from_mode(0o600)).unwrap();
    symlink("../secret", root.join("empty/link")).unwrap();
    make_fifo(&root.join("fifo"));
    let script = "cat TRAILER!!! empty/link; stat -c '%n %F %a %h' empty secret fifo bin/sh; readlink empty/link; \
                  [ -c /dev/ttyS0 ] && [ -d /proc/self ] && [ -d /sys/class ] && echo mounted; echo $0 $1 $TERM; \
                  echo more >>secret; exit 42";
    let shell = options(Some(Path::new("/bin/sh")), &["-c", script, "one two", "three"]);
    let ended = boot(&kernel, &Options { rootfs: Some(root.into()), ..shell }, None, |_| ());
    ended.status(status(42)).printed(
        "not the end\ntext\nempty directory 1777 2\nsecret regular file 600 1\nfifo fifo 600 1\n\
         bin/sh regular file 755 6\n../secret\nmounted\none two three dumb\n",
    );
    assert_eq!(fs::read_to_string(root.join("secret")).unwrap(), "text\n");

    // The console is its terminal: Ctrl-C interrupts it.
    let shell = options(Some(Path::new("/bin/sh")), &["-c", "echo ready; sleep 1000; echo never"]);
    let ended = boot(&kernel, &Options { rootfs: Some(root.into()), ..shell }, Some("vt100"), |running| {
        running.stdout.wait_for("ready\n");
        running.write(&[3]);
    });
    ended.status(status(130)).printed("ready\n^C");
}

#[test]
fn a_system_of_its_own_is_told_each_word_as_it_was_typed() {
    let Some(kernel) = kernel() else { return };
    let Some(busybox) = busybox(&kernel) else { return };
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    fs::create_dir(root.join("bin")).unwrap();
    fs::copy(busybox, root.join("bin/busybox")).unwrap();
    fs::hard_link(root.join("bin/busybox"), root.join("bin/sh")).unwrap();
    let script = "#!/bin/sh\nexec >/dev/console\nfor word; do echo \"<$word>\"; done\n\
                  /bin/busybox mkdir /proc; /bin/busybox mount -t proc proc /proc; /bin/busybox poweroff -f\n";
    fs::write(root.join("init"), script).unwrap();
    fs::set_permissions(root.join("init"), fs::Permissions::from_mode(0o755)).unwrap();
    let words = ["two  words", "", "a=b c", "a=b", "'single'", "한국 어", "쒠", "last"];
    let ended = boot(&kernel, &Options { rootfs: Some(root.into()), ..options(None, &words) }, None, |_| ());
    let told: String = words.iter().map(|word| format!("<{word}>\n")).collect();
    assert_eq!(ended.text().replace('\r', ""), told);
}

#[test]
fn a_kernel_that_panics_is_silent_until_it_is_asked_to_speak() {
    let Some(kernel) = kernel() else { return };
    // ud2: the first program of all ends, and Linux cannot go on.
    let directory = tempfile::tempdir().unwrap();
    let (_dir, crash) = program(&[0x0f, 0x0b]);
    fs::copy(crash, directory.path().join("init")).unwrap();
    fs::set_permissions(directory.path().join("init"), fs::Permissions::from_mode(0o755)).unwrap();
    let own = Options { rootfs: Some(directory.path().into()), ..options(None, &[]) };
    boot(&kernel, &own, None, |_| ()).printed("");
    let loud = Options { cmdline: Some("loglevel=7".into()), ..own };
    let text = boot(&kernel, &loud, None, |_| ()).text();
    assert!(text.contains("Kernel panic - not syncing: Attempted to kill init!"), "{text}");
}
