//! `exec`: what a program may take, and what it gets beside its standard descriptors.

use crate::support::{Program, has_kvm, installed, matchstick};
use std::fs;
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

fn exec(options: &[&str], words: &[&str]) -> Program {
    matchstick(["exec"]).args(options).args(words).limit(LIMIT)
}

/// Python itself, where `python3` may be a script that looks for one.
fn python() -> Option<String> {
    installed("python3").filter(|_| has_kvm())?;
    let found = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output().unwrap();
    Some(String::from_utf8(found.stdout).unwrap().trim().to_owned())
}

/// How many processes have `mark` on their command lines.
fn alive(mark: &str) -> usize {
    let lines = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| line.windows(mark.len()).any(|part| part == mark.as_bytes())).count()
}

#[test]
fn values_that_make_no_sense_are_told_so() {
    for (option, value, why) in [
        ("-m", "0", "a program needs 1M of memory at least"),
        ("-m", "some", "a size is a number of MiB"),
        ("--timeout", "0", "more than nothing"),
        ("--max-output", "x", "a size is a number of MiB"),
        ("--max-processes", "0", "a program has 1 to 4096 processes"),
        ("--max-processes", "4097", "a program has 1 to 4096 processes"),
        ("-c", "0", "a whole number of processors, 1 or more"),
        ("--keep-fd", "2", "the number of an open file is 3 to 1023"),
        ("--keep-fd", "1024", "the number of an open file is 3 to 1023"),
    ] {
        matchstick(["exec", option, value, "true"]).run().fails(125, why, "`matchstick exec --help`");
    }
    let names = "--root is a directory, and --write names what is there";
    exec(&["--root", "/nonexistent"], &["true"]).run().fails(
        126,
        "/nonexistent: No such file or directory",
        names,
    );
    exec(&["--root", "/etc/passwd"], &["true"]).run().fails(126, "/etc/passwd: Not a directory", names);
    exec(&["--write", "/nonexistent"], &["true"]).run().fails(
        126,
        "/nonexistent: No such file or directory",
        names,
    );
    exec(&["--keep-fd", "9"], &["true"]).run().fails(125, "descriptor 9 is not open", "--keep-fd FD");
}

/// All of it ends: a program that computes, one that sleeps, one that has stopped, and what has left the session.
#[test]
fn time_is_for_all_processes() {
    if !has_kvm() {
        return;
    }
    let mark = format!("6{:07}", std::process::id());
    let script = format!(
        "sleep {mark} & (setsid sleep {mark} &) ; sh -c 'kill -STOP $$' {mark} & sh -c 'while :; do :; done' {mark} & \
         trap '' TERM INT SYS; sleep {mark}"
    );
    for sandbox in ["strict", "off"] {
        let ended = exec(&["--timeout", "700ms", "--sandbox", sandbox], &["sh", "-c", &script]).run();
        ended.fails(124, "sh did not end within its time", "--timeout TIME is the limit");
        // They have been killed by now, but may not have been reaped.
        let deadline = std::time::Instant::now() + LIMIT;
        while alive(&mark) > 0 {
            assert!(std::time::Instant::now() < deadline, "{} processes are left", alive(&mark));
            std::thread::yield_now();
        }
    }
    exec(&["--timeout", "1m"], &["sh", "-c", "sleep 0.01; exit 3"]).run().silent().status(3);
}

#[test]
fn output_ends_at_its_limit_to_the_byte() {
    if !has_kvm() {
        return;
    }
    for (script, shown) in [
        ("while :; do echo 0123456; done", 1024),
        ("cat /dev/zero", 1024),
        ("cat /dev/zero >&2", 1024),
        ("(cat /dev/zero) & wait; sleep 100", 1024),
        // By another descriptor of the same file.
        ("exec 5>&1; cat /dev/zero >&5", 1024),
    ] {
        let ended = exec(&["--max-output", "1K"], &["sh", "-c", script]).run();
        assert_eq!(ended.status, Some(120), "{script}: {ended:?}");
        let words = "error: sh wrote more than it may\n hint: --max-output SIZE is the limit\n";
        assert_eq!(ended.stdout.len() + ended.stderr.len() - words.len(), shown, "{script}");
        assert!(ended.stderr.ends_with(words), "{script}: {ended:?}");
    }
    // What is not output does not count; and what is just enough is enough.
    for (more, status) in [(1017, 0), (1018, 120)] {
        let script = format!("cat /dev/zero | head -c 100000 | wc -c; head -c {more} /dev/zero");
        let ended = exec(&["--max-output", "1K"], &["sh", "-c", &script]).run();
        assert_eq!((ended.status, ended.stdout.len()), (Some(status), 1024), "{ended:?}");
    }
}

/// A fork bomb gets EAGAIN; who has ended no longer counts, however that happened.
#[test]
fn processes_are_counted() {
    let Some(python) = python() else { return };
    let program = "
import errno, os, signal, sys
children = []
try:
    while True:
        child = os.fork()
        if child == 0:
            signal.pause()
        children.append(child)
except OSError as error:
    print(errno.errorcode[error.errno], len(children))
for child in children:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
for round in range(20):
    child = os.fork()
    if child == 0:
        # Its own child would be the fourth with these.
        a = os.fork()
        if a == 0: os._exit(0)
        os.waitpid(a, 0)
        os.kill(os.getpid(), signal.SIGKILL)
    print(os.waitpid(child, 0)[1], end=' ')
";
    let ended = exec(&["--max-processes", "4"], &[&python, "-u", "-c", program]).run();
    assert_eq!(ended.text(), format!("EAGAIN 3\n{}", "9 ".repeat(20)), "{ended:?}");
    // Everybody forks at once.
    let bomb = "
import os, time
count = 0
while True:
    try:
        if os.fork() == 0: continue
    except BlockingIOError:
        time.sleep(0.01)
    count += 1
    if count > 20: os._exit(0)
";
    let ended = exec(&["--max-processes", "8", "--timeout", "3"], &[&python, "-c", bomb]).run();
    assert!(matches!(ended.status, Some(0 | 124)), "{ended:?}");
}

#[test]
fn memory_is_counted_when_it_is_mapped_to_be_written_to() {
    let Some(python) = python() else { return };
    let program = "
import ctypes, mmap
try:
    bytearray(100 << 20)
except MemoryError:
    print('no')
# What was written to counts, whatever may be done with it now; what is only reserved does not.
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
libc.mprotect.argtypes = libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int][:3]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
reserved = libc.mmap(None, 1 << 30, 0, private, -1, 0)
pieces = 0
for at in range(0, 1 << 30, 1 << 20):
    if libc.mprotect(reserved + at, 1 << 20, 3) != 0:
        print(ctypes.get_errno())
        break
    libc.mprotect(reserved + at, 1 << 20, 0)
    pieces += 1
print(20 < pieces < 64, libc.munmap(reserved, 1 << 30))
print(len(bytearray(20 << 20)) >> 20)
";
    let ended = exec(&["-m", "64M"], &[&python, "-c", program]).run();
    assert_eq!(ended.text(), "no\n12\nTrue 0\n20\n", "{ended:?}");
    let ended = exec(&["-m", "1M"], &[&python, "-c", "pass"]).run();
    assert_ne!(ended.status, Some(0), "{ended:?}");
}

#[test]
fn processors_are_those_that_it_may_use() {
    if !has_kvm() {
        return;
    }
    exec(&["-c", "1"], &["nproc"]).run().silent().printed("1\n");
    let all = Command::new("nproc").output().unwrap().stdout;
    exec(&["-c", "4096"], &["nproc"]).run().silent().printed(String::from_utf8(all).unwrap());
    // It cannot take more.
    exec(&["-c", "1"], &["sh", "-c", "taskset -p ffff $$ >&2; nproc"]).run().printed("1\n");
}

#[test]
fn a_private_directory_for_temporary_files_is_empty_and_goes() {
    if !has_kvm() {
        return;
    }
    let name = format!("matchstick-private-{}", std::process::id());
    fs::write(format!("/tmp/{name}"), "the host's").unwrap();
    let script = format!(
        "ls -A /tmp; echo mine >/tmp/{name}; cat /tmp/{name}; cd /tmp; pwd; (echo x >/etc/{name}) 2>/dev/null || echo no"
    );
    let ended = exec(&["--tmp"], &["sh", "-c", &script]).run();
    let text = fs::read_to_string(format!("/tmp/{name}")).unwrap();
    fs::remove_file(format!("/tmp/{name}")).unwrap();
    assert_eq!(text, "the host's");
    if ended.stderr.contains("cannot give the program a /tmp of its own") {
        return crate::support::skip("no mount namespaces here");
    }
    ended.silent().status(0).printed("mine\n/tmp\nno\n");
    let ended = exec(&["--tmp", "-m", "16M"], &["sh", "-c", "head -c 20M /dev/zero >/tmp/big"]).run();
    assert!(ended.stderr.contains("No space left on device"), "{ended:?}");
}

#[test]
fn it_has_the_descriptors_that_are_named_and_no_others() {
    if !has_kvm() {
        return;
    }
    let script = "exec 7</etc/hostname 8</etc/passwd; exec \"$0\" exec \"$@\"";
    let with = |options: &[&str], program: &str| {
        let program = ["sh", "-c", program];
        Program::new("sh")
            .args(["-c", script, env!("CARGO_BIN_EXE_matchstick")])
            .args(options)
            .args(program)
            .limit(LIMIT)
            .run()
    };
    let name = fs::read_to_string("/etc/hostname").unwrap();
    with(&["--keep-fd", "7"], "cat <&7; : <&8").printed(&name).says("8: Bad file descriptor");
    with(&["--keep-fd=7", "--keep-fd=8"], "cat <&7; : <&8").silent().printed(&name);
    with(&["--net"], ": <&7").says("7: Bad file descriptor");
}
