//! The sandbox, as the kernel shows it and as the process feels it.

use crate::support::supervisor::supervise;
use crate::support::{self, Program, has_kvm, matchstick};
use matchstick::program;
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
    for role in ["first", "traced", "other", "input", "disk"] {
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
        Ok("disk") => (Sandbox::Strict, Role::Disk),
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
    for role in ["first", "traced", "other", "input", "disk"] {
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
    for role in ["first", "traced", "other", "input", "disk"] {
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
    for command in ["run", "trace"] {
        let echo = matchstick([command, "echo", "-c", "2"]).open_input().start();
        echo.stdout.wait_for("Ctrl-D\n");
        // The guest speaks, so all of them are; a thread of KVM's own may be among them.
        let all = |key: &str, value: &str| {
            let found = status(echo.id(), key);
            assert!(found.len() >= 3 && found.iter().all(|found| found == value), "{key}: {found:?}");
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
}

/// The threads' own filters are held back, and so is the guest: it does not run before the last of them has its own.
#[test]
fn the_guest_waits_until_every_thread_is_confined() {
    const KVM_RUN: u32 = 0xae80;
    if !has_kvm() {
        return;
    }
    // What reads standard input, and the vCPUs beside the first.
    for (cpus, others) in [("1", 1), ("2", 2), ("4", 4)] {
        let program = matchstick(["run", "echo", "-c", cpus]).open_input();
        let (running, calls) =
            supervise(program, &[(libc::SYS_seccomp, None), (libc::SYS_ioctl, Some(KVM_RUN))]);
        let first = running.id();
        let (mut held, mut is_confined) = (Vec::new(), false);
        let waits = |thread: i32| {
            let call = fs::read_to_string(format!("/proc/{first}/task/{thread}/syscall")).unwrap_or_default();
            call.starts_with(&format!("{} ", libc::SYS_futex))
        };
        // The first vCPU's thread is let through. Then it waits, or it runs.
        while held.len() < others || !is_confined || !waits(first) {
            match calls.next_within(Duration::from_millis(10)).unwrap() {
                None => {}
                Some(call) if call.number == libc::SYS_ioctl => {
                    panic!("{held:?} are held, and the guest runs")
                }
                Some(call) if call.thread == first => {
                    is_confined = true;
                    calls.let_go(call);
                }
                Some(call) => held.push(call),
            }
        }
        // Nor does it run when all but one are through.
        let last = held.pop().unwrap();
        let let_through: Vec<i32> = held.iter().map(|call| call.thread).collect();
        held.into_iter().for_each(|call| calls.let_go(call));
        let is_input = |&thread: &i32| {
            fs::read_to_string(format!("/proc/{first}/task/{thread}/comm"))
                .is_ok_and(|name| name == "stdin\n")
        };
        while !let_through.iter().filter(|thread| !is_input(thread)).all(|&thread| waits(thread)) {
            thread::yield_now();
        }
        assert!(waits(first));
        assert!(calls.next_within(Duration::ZERO).unwrap().is_none(), "the guest runs");
        calls.let_go(last);
        calls.let_all_go();
        running.stdout.wait_for("Ctrl-D\n");
        running.end().status(0);
    }
}

/// A secret that our parent has open is not there for a guest that breaks out; what the command line names is.
#[test]
fn inherited_descriptors_are_closed_but_for_those_that_are_named() {
    if !has_kvm() {
        return;
    }
    let (_dir, path) = support::file(b"a secret");
    let script = "exec 3<\"$2\" 7<\"$2\" 9>/dev/null; exec \"$0\" run echo \"$1\"";
    for (option, kept) in [("-q", None), ("-i/dev/fd/7", Some("7"))] {
        let program = Program::new("sh");
        let program = program.args(["-c", script, env!("CARGO_BIN_EXE_matchstick"), option]).args([&path]);
        let echo = program.open_input().start();
        echo.stdout.wait_for("Ctrl-D\n");
        let open = fs::read_dir(format!("/proc/{}/fd", echo.id())).unwrap().flatten();
        let open: Vec<(String, String)> = open
            .map(|entry| (entry.file_name(), fs::read_link(entry.path()).unwrap_or_default()))
            .map(|(number, file)| (number.into_string().unwrap(), file.display().to_string()))
            .filter(|(number, file)| !["0", "1", "2"].contains(&number.as_str()) && !file.contains("kvm"))
            .collect();
        // One more is standard output, under a number of its own.
        let strangers: Vec<_> = open.iter().filter(|(_, file)| !file.starts_with("pipe:")).collect();
        let expected: Vec<&str> = kept.into_iter().collect();
        assert_eq!(
            strangers.iter().map(|(number, _)| number.as_str()).collect::<Vec<_>>(),
            expected,
            "{open:?}"
        );
        echo.end().status(0);
    }
}

/// What an attacker would try ends the process by name, in every thread, and a stranger lives on.
#[test]
fn a_stranger_is_not_signalled_and_no_handler_replaced() {
    let stranger = Program::new("sleep").args(["60"]).start();
    let id = stranger.id() as u64;
    for role in ["first", "traced", "other", "input", "disk"] {
        for (name, call, [a, b, c]) in [
            ("tgkill", libc::SYS_tgkill, [id, id, libc::SIGABRT as u64]),
            ("tkill", libc::SYS_tkill, [id, libc::SIGABRT as u64, 0]),
            ("kill", libc::SYS_kill, [id, libc::SIGABRT as u64, 0]),
            ("rt_sigaction", libc::SYS_rt_sigaction, [libc::SIGSYS as u64, 0, 0]),
            ("futex", libc::SYS_futex, [0, libc::FUTEX_WAKE as u64, 1]),
            ("mprotect", libc::SYS_mprotect, [0, 4096, libc::PROT_EXEC as u64]),
        ] {
            let attempt = format!("{call} {a} {b} {c}");
            let ended = in_a_process("attempt_within", &[("ROLE", role), ("ATTEMPT", &attempt)]);
            let text = String::from_utf8_lossy(&ended.stderr);
            assert_eq!(ended.status.code(), Some(125), "{role}: {name}: {ended:?}");
            assert!(
                text.contains(&format!("the sandbox stopped the system call {name} (")),
                "{role}: {text}"
            );
        }
    }
    stranger.signal(libc::SIGTERM);
    stranger.end().killed_by(libc::SIGTERM);
}

#[test]
#[ignore = "ends its process; the test above starts it"]
fn attempt_within() {
    let attempt = std::env::var("ATTEMPT").unwrap();
    let numbers: Vec<i64> = attempt.split(' ').map(|word| word.parse().unwrap()).collect();
    let arguments = [1, 2, 3].map(|index| numbers[index] as u64);
    in_role(move || {
        let result = support::terminal::call(numbers[0], [arguments[0], arguments[1], arguments[2], 0, 0, 0]);
        panic!("it came back: {result:?}");
    });
}

/// Where landlock has a scope for signals (Linux 6.12), it keeps a thread without a filter from them as well.
#[test]
fn landlock_keeps_strangers_from_signals() {
    // landlock_create_ruleset(2) with this flag tells the version.
    const VERSION: u64 = 1;
    let version = support::terminal::call(libc::SYS_landlock_create_ruleset, [0, 0, VERSION, 0, 0, 0]);
    if version.as_ref().is_ok_and(|&version| version >= 6) {
        let stranger = Program::new("sleep").args(["60"]).start();
        let ended = in_a_process("signal_within", &[("STRANGER", &stranger.id().to_string())]);
        assert!(ended.status.success(), "{ended:?}");
    } else {
        support::skip(&format!("landlock is {version:?}, and signals are of version 6"));
    }
}

#[test]
#[ignore = "locks its process in; the test above starts it"]
fn signal_within() {
    let stranger: u64 = std::env::var("STRANGER").unwrap().parse().unwrap();
    let signal = |process: u64| support::terminal::call(libc::SYS_kill, [process, 0, 0, 0, 0, 0]);
    assert!(signal(stranger).is_ok());
    Sandbox::Strict.enter().unwrap();
    assert_eq!(signal(stranger).unwrap_err().raw_os_error(), Some(libc::EPERM));
    assert!(signal(std::process::id().into()).is_ok());
}

/// Neither a file nor a program of the host's gets the memory of a process that crashes (core(5)); where that is tried,
/// the rig's case `core`.
#[test]
fn the_process_cannot_be_dumped() {
    let ended = in_a_process("dumpable_within", &[]);
    assert!(ended.status.success(), "{ended:?}");
}

#[test]
#[ignore = "locks its process in; the test above starts it"]
fn dumpable_within() {
    let dumpable =
        || support::terminal::call(libc::SYS_prctl, [libc::PR_GET_DUMPABLE as u64, 0, 0, 0, 0, 0]).unwrap();
    assert_eq!(dumpable(), 1);
    Sandbox::Strict.enter().unwrap();
    assert_eq!(dumpable(), 0);
}

/// Two calls that Linux lets pass by every filter (kernel/seccomp.c, since 6.14 and 6.18). Made by anything but the code
/// that the kernel itself puts into a probed program they do nothing.
#[test]
fn the_calls_that_no_filter_sees_do_nothing() {
    for (name, number) in [("uretprobe", 335), ("uprobe", 336)] {
        let ended = in_a_process("attempt_within", &[("ATTEMPT", &format!("{number} 0 0 0"))]);
        let text = String::from_utf8_lossy(&ended.stderr);
        let is_stopped = ended.status.code() == Some(125) && text.contains("the sandbox stopped");
        let is_illegal = ended.status.signal() == Some(libc::SIGILL);
        assert!(is_stopped || is_illegal || text.contains("it came back: Err("), "{name}: {ended:?}");
    }
}

/// Every system call, made by a process that serves a Linux program, as if there were no table before it: what the filter
/// does not allow ends the process and is named. (What it allows, src/program/filter/tests.rs holds against the table.)
#[test]
fn around_a_program_every_call_that_it_does_not_need_ends_the_process() {
    // The two that pass every filter have a test of their own.
    let refused = (0..470_i64).filter(|number| !matches!(number, 335 | 336) && !program::is_allowed(*number));
    let mut attempts: Vec<(i64, String)> =
        refused.map(|number| (number, format!("{number} 0 0 0"))).collect();
    assert!(attempts.len() > 200, "{attempts:?}");
    // And what is allowed, with arguments that are not.
    for (call, [a, b, c]) in [
        (libc::SYS_ioctl, [0, 0xae01, 0]), // KVM_CREATE_VM of a descriptor of the program's
        (libc::SYS_ioctl, [1024, libc::TCGETS, 0]), // a terminal's request of one of ours
        (libc::SYS_ioctl, [0, libc::TIOCSTI, 0]), // types for somebody else
        (libc::SYS_mmap, [0, 4096, 7]),
        (libc::SYS_mprotect, [0, 4096, libc::PROT_EXEC as u64]),
        (libc::SYS_dup2, [0, 1024, 0]),
        (libc::SYS_close_range, [3, u64::from(u32::MAX), 0]),
        (libc::SYS_rt_sigaction, [libc::SIGSYS as u64, 0, 0]),
        (libc::SYS_clone, [libc::CLONE_NEWUSER as u64 | libc::SIGCHLD as u64, 0, 0]),
        (libc::SYS_openat, [libc::AT_FDCWD as u64, 0, libc::O_RDWR as u64]),
        (libc::SYS_prctl, [libc::PR_SET_DUMPABLE as u64, 1, 0]),
        (libc::SYS_prlimit64, [1, 0, 0]),
        (libc::SYS_mknodat, [0, 0, u64::from(libc::S_IFCHR)]),
        (libc::SYS_socket, [libc::AF_INET as u64, libc::SOCK_STREAM as u64, 0]),
        (libc::SYS_setsockopt, [0, libc::SOL_SOCKET as u64, libc::SO_ATTACH_BPF as u64]),
        (libc::SYS_madvise, [0, 0, libc::MADV_DONTFORK as u64]),
    ] {
        attempts.push((call, format!("{call} {a} {b} {c}")));
    }
    let next = std::sync::atomic::AtomicUsize::new(0);
    let work = || {
        while let Some((number, attempt)) =
            attempts.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
        {
            let ended = in_a_process("attempt_beside_the_table", &[("ATTEMPT", attempt)]);
            let text = String::from_utf8_lossy(&ended.stderr);
            assert_eq!(ended.status.code(), Some(125), "{attempt}: {ended:?}");
            assert!(
                text.contains(&format!(" ({number}, ")) && text.contains("the sandbox stopped"),
                "{text}"
            );
        }
    };
    thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(work))));
}

#[test]
#[ignore = "ends its process; the test above starts it"]
fn attempt_beside_the_table() {
    let attempt = std::env::var("ATTEMPT").unwrap();
    let numbers: Vec<u64> = attempt.split(' ').map(|word| word.parse().unwrap()).collect();
    program::confine(1024, false).unwrap();
    let [a, b, c] = [1, 2, 3].map(|index| numbers[index]);
    let result = support::terminal::call(numbers[0] as i64, [a, b, c, 0, 0, 0]);
    panic!("it came back: {result:?}");
}

/// Each process of a program, and each thread, also after fork and execve.
#[test]
fn every_process_and_thread_of_a_program_is_confined() {
    if !has_kvm() || support::installed("python3").is_none() {
        return;
    }
    let program = "
import os, sys, threading, time
def say(): print([open('/proc/thread-self/status').read().split(key)[1].split()[0] for key in ('Seccomp:', 'NoNewPrivs:')])
say()
thread = threading.Thread(target=say); thread.start(); thread.join()
if os.fork() == 0:
    say()
    sys.stdout.flush()
    os.execlp('grep', 'grep', '-h', '-E', 'Seccomp:|NoNewPrivs:', '/proc/self/status')
os.wait()
";
    let ended = matchstick(["exec", "python3", "-u", "-c", program]).limit(Duration::from_secs(60)).run();
    assert_eq!(
        ended.text(),
        "['2', '1']\n['2', '1']\n['2', '1']\nNoNewPrivs:\t1\nSeccomp:\t2\n",
        "{ended:?}"
    );
    let ended = matchstick(["exec", "--sandbox", "off", "grep", "Seccomp:", "/proc/self/status"]).run();
    assert_eq!(ended.text(), "Seccomp:\t0\n", "{ended:?}");
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
