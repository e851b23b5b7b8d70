//! The command line: what can be asked for, what is refused, and how.

use crate::support;
use crate::support::image::{Segment, boot_sector, code, elf};
use crate::support::terminal::{is_root, make_fifo};
use crate::support::{Program, file, has_kvm, matchstick, runs, skip};
use matchstick::x86::layout::{HIGH_MEMORY, PAGE_TABLES};
use std::fs::{self, File, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::thread;
use std::time::Duration;

const BINARY: &str = env!("CARGO_BIN_EXE_matchstick");

#[test]
fn help_is_on_stdout_and_is_no_failure() {
    for args in [&[][..], &["--help"], &["-h"], &["help"], &["help", "help"]] {
        let ended = matchstick(args).run();
        ended.silent().status(0);
        assert!(ended.text().contains("Usage: matchstick COMMAND"), "{args:?}");
    }
    for args in [["help", "run"], ["run", "--help"], ["run", "-h"]] {
        let ended = matchstick(args).run();
        ended.silent().status(0);
        assert!(ended.text().contains("Exit status:"), "{args:?}");
    }
    for args in [["help", "guests"], ["guests", "--help"], ["guests", "-h"]] {
        let ended = matchstick(args).run();
        ended.silent().status(0);
        assert!(ended.text().contains("Usage: matchstick guests"), "{args:?}");
    }
}

#[test]
fn the_version_is_the_packages() {
    for option in ["--version", "-V"] {
        let version = format!("matchstick {}\n", env!("CARGO_PKG_VERSION"));
        matchstick([option]).run().silent().status(0).printed(version);
    }
}

#[test]
fn what_is_typed_wrongly_is_said_with_a_hint() {
    let general = "`matchstick --help`";
    let of_run = "`matchstick run --help`";
    for (args, error, hint) in [
        (&["frobnicate"][..], "no such command: frobnicate", general),
        (&["--frobnicate"], "invalid option '--frobnicate'", general),
        (&["help", "nonsense"], "no such command: nonsense", general),
        (&["bnch"], "no such command: bnch: is it bench?", general),
        (&["help", "trcae"], "no such command: trcae: is it trace?", general),
        (&["--versoin"], "invalid option '--versoin': is it --version?", general),
        (&["run", "--memroy=64"], "invalid option '--memroy': is it --memory?", of_run),
        (&["bench", "--run", "5"], "invalid option '--run': is it --runs?", "`matchstick bench --help`"),
        (&["bench", "--only", ""], "no subject is named", "`matchstick bench --help`"),
        (&["guests", "all"], "unexpected argument \"all\"", "`matchstick guests`"),
        (&["guests", "-l"], "invalid option '-l'", "`matchstick guests`"),
        (&["run", "--frobnicate"], "invalid option '--frobnicate'", of_run),
        (&["run", "-z"], "invalid option '-z'", of_run),
        (
            &["run", "fault", "triple"],
            "unexpected argument \"triple\"; what the guest is told comes after --",
            of_run,
        ),
        (&["run", "--memory"], "missing argument for option '--memory'", of_run),
        (&["run", "--timings=yes"], "unexpected argument for option '--timings'", of_run),
        (&["run", "-m", "x"], "a size is a number of MiB", of_run),
        (&["run", "-m", ""], "a size is a number of MiB", of_run),
        (&["run", "-m", "-1"], "a size is a number of MiB", of_run),
        (&["run", "-m", "1.5G"], "a size is a number of MiB", of_run),
        (&["run", "-m", "64µ"], "a size is a number of MiB", of_run),
        (&["run", "-m", "18446744073709551615T"], "more than 64 bits", of_run),
        (&["run", "-c", "-1"], "a whole number of CPUs", of_run),
        (&["run", "-c", "many"], "a whole number of CPUs", of_run),
        (&["run", "-c", "99999999999"], "a whole number of CPUs", of_run),
        (&["run", "--timeout", "0"], "more than nothing", of_run),
        (&["run", "--timeout", "-1"], "more than nothing", of_run),
        (&["run", "--timeout", "x"], "a time is a number of seconds", of_run),
        (&["run", "--timeout", "nan"], "a time is a number of seconds", of_run),
        (&["run", "--timeout", "5 s"], "a time is a number of seconds", of_run),
        (&["run", "--timeout", "99999999999999999999"], "less than for ever", of_run),
        (&["run", "--boot", "nonsense"], "auto, flat16, flat64, elf, multiboot, pvh", of_run),
        (&["run", "-k", "image", "hello"], "not both", of_run),
    ] {
        matchstick(args).run().printed("").fails(125, error, hint);
    }
}

#[test]
fn a_machine_that_cannot_be_built_is_refused() {
    if !has_kvm() {
        return;
    }
    for (args, error, hint) in [
        (["-m", "0"], "2M to 1T of memory, in steps of 4K; not 0 bytes", "-m SIZE"),
        (["-m", "1K"], "not 1K", "-m SIZE"),
        (["-m", "2049K"], "not 2049K", "-m SIZE"),
        (["-m", "100T"], "not 100T", "-m SIZE"),
        (["-c", "0"], "at least one CPU", "-c N"),
        (["-c", "5000"], "5000 CPUs are more than this host gives", "-c N"),
    ] {
        matchstick(["run"]).args(args).run().printed("").fails(125, error, hint);
    }
}

#[test]
fn sizes_and_times_are_taken_in_every_unit() {
    if !has_kvm() {
        return;
    }
    for memory in ["2", "3M", "2m", "2048K", "2052k", "1G", "4g"] {
        matchstick(["run", "noop", "-m", memory]).run().silent().status(0);
    }
    // The last is beyond what any clock will show.
    for time in ["20", "20.5", "20000ms", "20s", "2m", "1h", "9223372036854775807"] {
        matchstick(["run", "noop", "--timeout", time]).run().silent().status(0);
    }
}

#[test]
fn an_image_that_is_not_there() {
    for (name, meant) in [("nonsense", ""), ("", ""), ("helo", ": is it hello?"), ("Linux", ": is it linux?")]
    {
        let error = format!("no guest and no file is called {name:?}{meant}");
        matchstick(["run", name]).run().printed("").fails(127, &error, "guests");
    }
    let not_unicode = std::ffi::OsStr::from_bytes(b"\xff\xfe");
    matchstick([std::ffi::OsStr::new("run"), not_unicode]).run().fails(127, "no guest and no file", "guests");
    // The words of -k and -i are paths only.
    for args in [&["no/such/file"][..], &["Cargo.toml/image"], &["-k", "hello"]] {
        let ended = matchstick(["run"]).args(args).run();
        let path = args[args.len() - 1];
        ended.printed("").fails(127, &format!("cannot open {path}: "), "`matchstick guests` lists");
    }
    let ended = matchstick(["run", "hello", "-i", "hello"]).run();
    ended.printed("").fails_without_hint(127, "cannot open hello: ");
}

#[test]
fn with_quiet_an_error_is_one_line() {
    let ended = matchstick(["run", "-q", "nonsense"]).run();
    ended.status(127);
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
}

#[test]
fn a_file_that_is_no_image_says_what_is_wrong_with_it() {
    if !has_kvm() {
        return;
    }
    let which = "is it the file you meant, and whole?";
    let names = "--boot flat16|flat64|elf|multiboot|pvh|linux";
    let hello = matchstick::guest::Guest::find("hello").unwrap().image;
    for (bytes, error, hint) in [
        (&b""[..], "the file is empty", which),
        (b"not a kernel", "(it begins 6e 6f 74 20 61 20 6b 65)", names),
        (b"\x7f", "(it begins 7f)", names),
        (&hello[..20], "cut short: the ELF header", which),
        (&hello[..70], "cut short: the program header table", which),
        (&hello[..0x100], "cut short: a kernel segment", which),
    ] {
        let (_dir, path) = file(bytes);
        matchstick(["run".into(), path]).run().printed("").fails(126, error, hint);
    }
}

#[test]
fn random_bytes_are_refused_under_every_protocol_with_a_header() {
    if !has_kvm() {
        return;
    }
    // Not random from run to run: a multiplicative generator, with no mark of any protocol in it.
    let noise: Vec<u8> = (0..9000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let (_dir, path) = file(&noise);
    for protocol in ["auto", "elf", "multiboot", "pvh"] {
        let ended = matchstick(["run", "--boot", protocol]).args([&path]).run();
        ended.printed("").fails(126, "cannot load", "--boot flat16");
    }
}

#[test]
fn pvh_needs_its_note() {
    if !has_kvm() {
        return;
    }
    let segment = Segment { address: HIGH_MEMORY, bytes: &[0xf4], size: 1 };
    let (_dir, path) = file(&elf(HIGH_MEMORY, &[segment]));
    matchstick(["run", "--boot", "pvh"]).args([path]).run().printed("").fails(
        126,
        "not PVH",
        "--boot flat16",
    );
}

#[test]
fn segments_that_lie_where_they_must_not() {
    if !has_kvm() {
        return;
    }
    let code = || Segment { address: HIGH_MEMORY, bytes: &[0xf4; 16], size: 16 };
    let at = |address, size| elf(HIGH_MEMORY, &[code(), Segment { address, bytes: b"data", size }]);
    let run = |image: &[u8]| {
        let (_dir, path) = file(image);
        let ended = matchstick(["run".into(), path]).run();
        ended.printed("");
        ended
    };
    // Nothing that a user could do: the image says itself where it goes.
    for (image, error) in [
        (at(HIGH_MEMORY + 8, 8), "a kernel segment at 0x100008..0x100010 would overwrite a kernel segment"),
        (at(PAGE_TABLES, 0x1000), "a kernel segment"),
        (at(PAGE_TABLES, 0x1000), "would overwrite the page tables"),
        (at(u64::MAX - 1, 4), "outside the guest's memory"),
        (at(HIGH_MEMORY + 0x1000, u64::MAX), "outside the guest's memory"),
        (at(1 << 40, 4), "a kernel segment needs 0x10000000000..0x10000000004, outside the guest's memory"),
        (at(0xc000_0000, 4), "outside the guest's memory"),
    ] {
        run(&image).fails_without_hint(126, error);
    }
    run(&at(0x0800_0000, 4)).fails(126, "; 129M is the least it needs", "more memory: -m SIZE");
    for (image, error) in [
        (elf(HIGH_MEMORY + 16, &[code()]), "the entry point 0x100010 lies outside every loaded segment"),
        (elf(0, &[code()]), "the entry point 0x0 lies outside"),
        (elf(0, &[]), "no segment to load"),
    ] {
        run(&image).fails(126, error, "is it the file you meant");
    }
}

#[test]
fn a_file_larger_than_memory_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("huge");
    File::create(&path).unwrap().set_len(10 << 30).unwrap();
    let (huge, error) = (path.as_os_str(), "it has 10737418240 bytes, and the guest's memory");
    let ended = matchstick(["run"]).args([huge]).run();
    ended.fails(126, error, "more memory: -m SIZE");
    assert!(ended.took < Duration::from_secs(5), "it took {:?}", ended.took);
    matchstick(["run", "hello", "-i"]).args([huge]).run().fails(126, error, "more memory: -m SIZE");
}

#[test]
fn an_initrd_that_does_not_fit_between_kernel_and_end() {
    if !has_kvm() {
        return;
    }
    let (_dir, path) = file(&vec![0; (2 << 20) - 0x1000]);
    matchstick(["run", "hello", "-i"]).args([&path]).run().printed("").fails(
        126,
        "the initrd of 2093056 bytes finds no room below 0x200000",
        "more memory",
    );
    matchstick(["run", "hello", "-m", "8", "-i"]).args([&path]).run().silent().status(0);
}

#[test]
fn what_is_not_a_file() {
    let dir = tempfile::tempdir().unwrap();
    matchstick(["run".as_ref(), dir.path()]).run().fails(126, "Is a directory", "a regular file");
    matchstick(["run", "/dev/zero"]).run().fails(126, "it is a device", "a regular file");
    // However much memory there is to fill.
    matchstick(["run", "-m", "1T", "/dev/zero"]).run().fails(126, "it is a device", "a regular file");
    let link = dir.path().join("loop");
    std::os::unix::fs::symlink(&link, &link).unwrap();
    matchstick(["run".as_ref(), link.as_path()]).run().fails(126, "cannot read", "a regular file");
}

#[test]
fn a_file_that_may_not_be_read() {
    let (dir, path) = file(b"secret");
    fs::set_permissions(dir.path().join("image"), fs::Permissions::from_mode(0o000)).unwrap();
    let program = match is_root() {
        // Root without any capability is stopped by modes as well.
        true if !runs(&["setpriv", "--bounding-set=-all", "true"]) => {
            return skip("setpriv does not work here");
        }
        true => Program::new("setpriv").args(["--bounding-set=-all", BINARY, "run"]),
        false => matchstick(["run"]),
    };
    program.args([path]).run().printed("").fails(126, "Permission denied", "that you may read");
}

#[test]
fn an_image_may_come_through_a_pipe() {
    if !has_kvm() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pipe");
    make_fifo(&path);
    let running = matchstick(["run".as_ref(), path.as_path()]).start();
    let image = boot_sector(&[code::SERIAL, code::PUT_A, &code::exit(7)]);
    // Waits for the reader, as the program waits for us.
    thread::spawn(move || fs::write(path, image));
    running.end().silent().printed("A").status(7);
}

/// What waits for a writer, and for more from one that came, gives up when the guest's time would be over.
#[test]
fn a_pipe_to_which_nobody_writes_is_not_waited_for_longer_than_the_timeout() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe").display().to_string();
    make_fifo(pipe.as_ref());
    let what = "nothing more came within the time";
    for args in [
        &["run", &pipe][..],
        &["run", "hello", "-i", &pipe],
        &["trace", &pipe],
        &["run", "linux", "-k", &pipe],
    ] {
        matchstick(args).args(["--timeout", "0.2"]).run().printed("").fails(124, what, "--timeout TIME");
    }
    let running = matchstick(["run", &pipe, "--timeout", "0.5"]).start();
    let mut writer = fs::File::options().write(true).open(&pipe).unwrap();
    std::io::Write::write_all(&mut writer, b"only this").unwrap();
    running.end().fails(124, what, "--timeout TIME");
}

/// A file that is shortened between the moment at which it was opened and the one at which its bytes are needed.
#[test]
fn a_file_that_becomes_shorter_while_it_is_loaded_is_an_error_in_words() {
    if !has_kvm() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (pipe, initrd) = (dir.path().join("pipe"), dir.path().join("initrd"));
    make_fifo(&pipe);
    fs::write(&initrd, vec![1; 1 << 20]).unwrap();
    let args = ["run".as_ref(), "linux".as_ref(), "-k".as_ref(), pipe.as_path(), "-i".as_ref(), &initrd];
    let running = matchstick(args).start();
    // To open the pipe is to wait for its reader, who has opened the initrd before.
    let mut writer = fs::File::options().write(true).open(&pipe).unwrap();
    fs::File::options().write(true).open(&initrd).unwrap().set_len(4096).unwrap();
    let kernel = matchstick::guest::Guest::find("hello").unwrap().image;
    std::io::Write::write_all(&mut writer, kernel).unwrap();
    drop(writer);
    running.end().fails(126, "a file became shorter while it was in use", "while machines run from it");
}

#[test]
fn an_endless_pipe_is_read_no_further_than_it_fits() {
    let (reader, mut writer) = std::io::pipe().unwrap();
    thread::spawn(move || while std::io::Write::write_all(&mut writer, &[0; 4096]).is_ok() {});
    let ended = matchstick(["run", "-m", "2", "/dev/stdin"]).stdin(reader).run();
    ended.fails(126, "it has 2097153 bytes, and the guest's memory 2097152", "more memory");
}

#[test]
fn long_command_lines_fit_or_are_refused() {
    if !has_kvm() {
        return;
    }
    matchstick(["run", "hello", "-p", &"a".repeat(5_000)]).run().silent().status(0);
    matchstick(["run", "hello", "-p", &"a".repeat(65_535)]).run().silent().status(0);
    matchstick(["run", "hello", "-p", &"a".repeat(70_000)])
        .run()
        .printed("")
        .fails_without_hint(126, "the command line is 70000 bytes, the limit is 65535");
    let (_dir, path) = file(&boot_sector(&[code::HALT]));
    let told = matchstick(["run", "-p", "quiet"]).args([path]).run();
    told.printed("").fails(126, "flat16 has no way to pass a command line", "elf, multiboot and pvh");
}

#[test]
fn a_limit_of_the_user_is_an_error() {
    if !has_kvm() {
        return;
    }
    let script = |script: &str| Program::new("sh").args(["-c", script, BINARY]).run();
    // No room for that many stacks; no descriptor left for the VM.
    script(r#"ulimit -v 60000; exec "$0" run smp -c 40"#).fails(
        126,
        "cannot start a thread",
        "`ulimit -a` shows yours",
    );
    script(r#"ulimit -n 4; exec "$0" run"#).fails(126, "Too many open files", "`ulimit -n`");
    script(r#"ulimit -v 60000; exec "$0" run -m 1G"#).fails(
        126,
        "cannot map the guest's memory",
        "a smaller -m",
    );
}

/// Runs a shell command in a mount namespace of its own, where `$1` is the program and `$0` a directory to
/// work with. `None` where that is not permitted.
pub fn in_namespace(script: &str) -> Option<support::Ended> {
    if !runs(&["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"]) {
        skip("no mount namespace of our own");
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    Some(Program::new("unshare").args(["-m", "sh", "-ec", script]).args([dir.path()]).args([BINARY]).run())
}

#[test]
fn a_host_without_kvm() {
    let Some(ended) = in_namespace(r#"mount -t tmpfs none /dev; exec "$1" run"#) else { return };
    ended.printed("").fails(126, "cannot open /dev/kvm: No such file or directory", "modprobe kvm");
}

#[test]
fn a_user_who_may_not_use_kvm() {
    let script = r#"touch "$0/kvm"; chmod 0 "$0/kvm"; mount -t tmpfs none /dev; touch /dev/kvm
        mount --bind "$0/kvm" /dev/kvm; exec setpriv --bounding-set=-all "$1" run"#;
    let Some(ended) = in_namespace(script) else { return };
    ended.printed("").fails(126, "cannot open /dev/kvm: Permission denied", "usermod -aG kvm");
}

#[test]
fn something_else_in_the_place_of_kvm() {
    let script = r#"touch "$0/kvm"; mount --bind /dev/null "$0/kvm"; mount -t tmpfs none /dev; touch /dev/kvm
        mount --bind "$0/kvm" /dev/kvm; exec "$1" run"#;
    let Some(ended) = in_namespace(script) else { return };
    ended.printed("").fails_without_hint(126, "cannot use this /dev/kvm: its API version is not 12");
}

#[test]
fn a_full_disk_is_an_error() {
    if !has_kvm() {
        return;
    }
    for args in [
        &["run"][..],
        &["guests"],
        &["host"],
        &["host", "--json"],
        &["explain"],
        &["explain", "ring"],
        &["help", "run"],
        &["--version"],
    ] {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        matchstick(args).stdout(full).run().fails(125, "No space left on device", "make room");
    }
}

#[test]
fn a_reader_that_has_gone_is_no_reason_to_complain() {
    if !has_kvm() {
        return;
    }
    let to_stdout = ["trace", "noop", "-o", "/dev/stdout"];
    for args in [&["run"][..], &["guests"], &["help", "run"], &["--version"], &to_stdout] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        matchstick(args).stdout(writer).run().silent().status(141);
    }
    // Nor is one of our messages.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    matchstick(["run", "nonsense"]).stderr(writer).run().status(127);
}

#[test]
fn closed_descriptors_are_not_mistaken_for_files_of_ours() {
    if !has_kvm() {
        return;
    }
    let hello = "Hello from a virtual machine!\n";
    matchstick(["run"]).closed(&[0]).run().silent().status(0).printed(hello);
    matchstick(["run"]).closed(&[2]).run().status(0).printed(hello);
    matchstick(["run"]).closed(&[0, 2]).run().status(0).printed(hello);
    matchstick(["run"]).closed(&[1]).run().fails(125, "Bad file descriptor", "standard output");
    matchstick(["run"]).closed(&[0, 1, 2]).run().status(125);
    matchstick(["guests"]).closed(&[1]).run().fails(125, "Bad file descriptor", "standard output");
    matchstick(["run", "nonsense"]).closed(&[0, 1, 2]).run().status(127);
    // What was asked for cannot be told: that is a failure, though nobody hears of it.
    matchstick(["run", "--timings"]).closed(&[0, 2]).run().status(125).printed(hello);
    matchstick(["trace", "hello"]).closed(&[2]).run().status(125).printed(hello);
    matchstick(["run", "--timings"]).closed(&[0, 1, 2]).run().status(125);
}

/// Whoever's locale knows no more than ASCII gets no more, from any command.
#[test]
fn without_unicode_every_command_speaks_ascii() {
    if !has_kvm() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("golden.ms");
    let image = image.to_str().unwrap();
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let mut all: Vec<Vec<String>> = [
        "help",
        "guests",
        "host",
        "explain",
        "explain kvm",
        "lab",
        "run hello --timings",
        "run fault -- triple",
        "trace hello",
        "trace smp --step",
        "trace exec /bin/true",
        "exec --timings /bin/true",
        "run nope",
        "bench --only process,vm --runs 6",
        "bench isolation --only process,vm",
        "bench memory --only process,vm",
        "bench parallel --only process,vm",
    ]
    .map(words)
    .to_vec();
    for command in
        ["run", "exec", "oci", "run-image", "images", "trace", "snapshot", "clone", "diff", "bench"]
    {
        all.push(words(&format!("help {command}")));
    }
    all.extend(
        [&["snapshot", "primes", "-o", image][..], &["clone", image]]
            .map(|words| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>()),
    );
    for words in all {
        let ended = matchstick(&words).env("LC_ALL", "C").limit(Duration::from_secs(120)).run();
        let said = format!("{}{}", ended.text(), ended.stderr);
        assert!(!said.is_empty(), "{words:?}");
        let line = said.lines().find(|line| !line.is_ascii());
        assert_eq!(line, None, "{words:?}");
    }
}
