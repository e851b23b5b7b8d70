//! The sandbox, as the kernel shows it and as the process feels it.

mod support;

use matchstick::sandbox::{Role, Sandbox};
use std::fs;
use std::io::ErrorKind;
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};
use support::{has_kvm, matchstick};

/// Runs the test `name` of this file in a process of its own, which may lock itself in.
fn in_a_process(name: &str) -> Output {
    let own = std::env::current_exe().expect("a test knows its program");
    let mut test = Command::new(own);
    test.args(["--exact", name, "--ignored", "--nocapture", "--test-threads=1"])
        .output()
        .expect("it runs again")
}

#[test]
fn a_forbidden_call_ends_the_process_and_is_named() {
    let ended = in_a_process("open_a_file_within");
    assert_eq!(ended.status.code(), Some(125), "{ended:?}");
    let text = String::from_utf8_lossy(&ended.stderr);
    assert!(text.contains("error: the sandbox stopped the system call openat (257, "), "{text}");
}

#[test]
#[ignore = "ends its process; the test above starts it"]
fn open_a_file_within() {
    Sandbox::Strict.enter().unwrap();
    Sandbox::Strict.limit(Role::FirstVcpu).unwrap();
    let _ = fs::read("/proc/version");
    panic!("it was opened, or refused");
}

#[test]
fn files_stay_closed_even_to_a_thread_without_a_filter() {
    let ended = in_a_process("files_within");
    assert!(ended.status.success(), "{ended:?}");
}

#[test]
#[ignore = "locks its process in; the test above starts it"]
fn files_within() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("file");
    fs::write(&file, "here").unwrap();
    Sandbox::Strict.enter().unwrap();
    // There is no number left for a descriptor.
    assert_eq!(fs::read(&file).unwrap_err().raw_os_error(), Some(libc::EMFILE));
    // Landlock, where the kernel has it: paths cannot be changed either.
    match fs::remove_file(&file) {
        Err(error) => assert_eq!(error.kind(), ErrorKind::PermissionDenied),
        Ok(()) => assert!(!has_landlock(), "landlock is there, and lets files be removed"),
    }
    std::mem::forget(scratch);
}

fn has_landlock() -> bool {
    // The kernel's list of security modules, where it shows one.
    fs::read_to_string("/sys/kernel/security/lsm").is_ok_and(|list| list.contains("landlock"))
}

/// The value of `key` for each thread of process `pid`.
fn status(pid: i32, key: &str) -> Vec<String> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("the process runs");
    let value = |thread: fs::DirEntry| {
        let text = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.unwrap_or_default().trim().to_owned()
    };
    threads.flatten().map(value).collect()
}

#[test]
fn every_thread_of_a_running_machine_has_given_up_what_it_can() {
    if !has_kvm() {
        return;
    }
    let echo = matchstick(["run", "echo", "-c", "2"]).open_input().start();
    echo.stdout.wait_for("Ctrl-D\n");
    // A thread may be younger than the guest's first line.
    let all = |key: &str, value: &str| {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let found = status(echo.id(), key);
            if found.len() >= 3 && found.iter().all(|found| found == value) {
                break;
            }
            assert!(Instant::now() < deadline, "{key}: {found:?}");
            thread::sleep(Duration::from_millis(1));
        }
    };
    all("Seccomp", "2");
    all("NoNewPrivs", "1");
    all("CapPrm", "0000000000000000");
    all("CapEff", "0000000000000000");
    let limits = fs::read_to_string(format!("/proc/{}/limits", echo.id())).unwrap();
    let limit = |name: &str| {
        let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(limit("Max open files"), ["1", "1"]);
    assert_eq!(limit("Max core file size"), ["0", "0"]);
}

#[test]
fn the_sandbox_can_be_switched_off() {
    if !has_kvm() {
        return;
    }
    let echo = matchstick(["run", "echo", "--sandbox", "off"]).open_input().start();
    echo.stdout.wait_for("Ctrl-D\n");
    assert!(status(echo.id(), "Seccomp").iter().all(|value| value == "0"));
    matchstick(["run", "--sandbox", "some"]).run().fails(
        125,
        "a sandbox is strict or off",
        "matchstick run --help",
    );
}
