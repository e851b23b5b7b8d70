//! The sandbox, as the kernel shows it and as the process feels it.

use crate::support::{self, has_kvm, matchstick};
use matchstick::sandbox::{Role, Sandbox};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt;
use std::process::Output;
use std::thread;
use std::time::{Duration, Instant};

/// Runs the ignored test `name` of this file in a process of its own, which may lock itself in.
fn in_a_process(name: &str, variables: &[(&str, &str)]) -> Output {
    support::in_a_process(module_path!(), name, variables)
}

#[test]
fn a_forbidden_call_ends_the_process_and_is_named() {
    let ended = in_a_process("open_a_file_within", &[]);
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

/// A panic is told and ends the process with its status, in every thread, whatever RUST_BACKTRACE asks for.
#[test]
fn a_panic_within_is_told_and_is_no_forbidden_call() {
    for role in ["first", "traced", "other", "input"] {
        for backtrace in ["0", "1", "full"] {
            let ended = in_a_process("panic_within", &[("ROLE", role), ("RUST_BACKTRACE", backtrace)]);
            let text = String::from_utf8_lossy(&ended.stderr);
            assert_eq!(ended.status.code(), Some(93), "{role}: {ended:?}");
            assert!(
                text.contains("panicked at tests/program/sandbox.rs") && text.contains("as it was told"),
                "{text}"
            );
            assert!(!text.contains("the sandbox stopped"), "{text}");
        }
    }
}

#[test]
#[ignore = "ends its process; the test above starts it"]
fn panic_within() {
    matchstick::sandbox::end_on_panic(93);
    in_role(|| panic!("it panics as it was told"));
}

/// Locks this process in, and calls `act` in a thread of the role that the environment names.
fn in_role(act: impl FnOnce() + Send + 'static) {
    let (sandbox, role) = match std::env::var("ROLE").as_deref() {
        Ok("traced") => (Sandbox::Traced, Role::FirstVcpu),
        Ok("other") => (Sandbox::Strict, Role::OtherVcpu),
        Ok("input") => (Sandbox::Strict, Role::Input),
        _ => (Sandbox::Strict, Role::FirstVcpu),
    };
    sandbox.enter().unwrap();
    let act = move || {
        sandbox.limit(role).unwrap();
        act();
    };
    let _ = thread::Builder::new().spawn(act).unwrap().join();
}

/// What a library may do when nobody expects it, and that it gets along without other system calls.
#[test]
fn memory_time_and_threads_need_no_other_calls() {
    for role in ["first", "traced", "other", "input"] {
        let ended = in_a_process("rarely_within", &[("ROLE", role)]);
        assert!(ended.status.success(), "{role}: {ended:?}");
    }
}

#[test]
#[ignore = "locks its process in; the test above starts it"]
fn rarely_within() {
    in_role(|| {
        // The allocator, from small to what it maps by itself, growing and shrinking.
        let mut kept = Vec::new();
        for size in (0..26).map(|shift| 1_usize << shift) {
            kept.push(vec![size as u8; size]);
            let mut grown = vec![1_u8; size];
            grown.resize(3 * size, 2);
            grown.shrink_to_fit();
            grown.truncate(1);
            grown.shrink_to(1);
        }
        drop(kept);
        // More than there is: that is an error, not the end.
        assert!(Vec::<u8>::new().try_reserve_exact(isize::MAX as usize).is_err());
        assert!(Vec::<u8>::new().try_reserve_exact(1 << 46).is_err());
        // Clocks, locks, and those who wait for them.
        let begin = (Instant::now(), std::time::SystemTime::now());
        let pair = (std::sync::Mutex::new(()), std::sync::Condvar::new());
        let _ = pair.1.wait_timeout(pair.0.lock().unwrap(), Duration::from_millis(2)).unwrap();
        assert!(begin.0.elapsed() >= Duration::from_millis(1) && begin.1.elapsed().is_ok());
        // Text of numbers of all kinds, and what goes to standard error and output.
        eprintln!("{:?} {} {:e}", begin, f64::MAX, 1.0e-300);
        println!("{}", "long ".repeat(10_000));
        std::io::Write::flush(&mut std::io::stdout()).unwrap();
        assert!(std::env::var("ROLE").is_ok());
    });
    println!("and the thread has gone");
}

/// Memory that is not to be had ends the process with a word, not with a forbidden call.
#[test]
fn an_allocation_that_fails_within_is_told() {
    for role in ["first", "traced", "other", "input"] {
        let ended = in_a_process("too_much_within", &[("ROLE", role), ("RUST_BACKTRACE", "0")]);
        let text = String::from_utf8_lossy(&ended.stderr);
        assert!(text.contains("memory allocation of 70368744177664 bytes failed"), "{role}: {ended:?}");
        assert!(!text.contains("the sandbox stopped"), "{role}: {text}");
        assert_eq!(ended.status.signal(), Some(libc::SIGABRT), "{role}: {ended:?}");
    }
    // Where std would add a backtrace, for which it opens files, it comes no further than to say so.
    let ended = in_a_process("too_much_within", &[("ROLE", "first"), ("RUST_BACKTRACE", "1")]);
    let text = String::from_utf8_lossy(&ended.stderr);
    assert!(text.contains("memory allocation of 70368744177664 bytes failed"), "{text}");
    assert!(matches!(
        (ended.status.code(), ended.status.signal()),
        (Some(125), _) | (_, Some(libc::SIGABRT))
    ));
}

#[test]
#[ignore = "ends its process; the test above starts it"]
fn too_much_within() {
    in_role(|| drop(std::hint::black_box(Vec::<u8>::with_capacity(1 << 46))));
}

#[test]
fn files_stay_closed_even_to_a_thread_without_a_filter() {
    let ended = in_a_process("files_within", &[]);
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
