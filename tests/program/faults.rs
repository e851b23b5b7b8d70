//! A host that fails: every request we make of it fails in turn, and each time the error is clear and nothing is
//! left behind.
//!
//! A seccomp filter around the whole process lets one system call, or one request of ioctl(2), end with an errno.

use crate::cli::in_namespace;
use crate::support;
use crate::support::{Ended, has_kvm, matchstick};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};
use std::fs;
use std::path::Path;

/// The number of an argument and its value, if only a call with that is to fail.
type Argument = Option<(u8, u64)>;

/// A filter by which `call` ends with `errno`.
fn failing(call: i64, argument: Argument, errno: i32) -> BpfProgram {
    let rule = |(index, value)| {
        let equal = SeccompCondition::new(index, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value).unwrap();
        SeccompRule::new(vec![equal]).unwrap()
    };
    let rules = [(call, argument.into_iter().map(rule).collect())].into();
    let fail = SeccompAction::Errno(errno as u32);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, fail, TargetArch::x86_64).unwrap();
    filter.try_into().unwrap()
}

fn run(args: &[&str], filter: BpfProgram) -> Ended {
    matchstick(["run"]).args(args).filtered(filter).run()
}

/// One line, the hint that belongs to it or none, a status of ours, nothing else.
#[track_caller]
fn is_a_clear_error(ended: &Ended, what: &str, hint: Option<&str>) {
    let lines: Vec<&str> = ended.stderr.lines().collect();
    let is_clear = match (&lines[..], hint) {
        (&[error, told], Some(hint)) => {
            error.starts_with("error: cannot ") && told.starts_with(" hint: ") && told.contains(hint)
        }
        (&[error], None) => error.starts_with("error: cannot "),
        _ => false,
    };
    assert!(is_clear && matches!(ended.status, Some(125 | 126)), "{what}, {hint:?}: {ended:?}");
}

#[test]
fn each_request_that_kvm_refuses_is_named() {
    if !has_kvm() {
        return;
    }
    const EINVAL: i32 = libc::EINVAL;
    const ENOMEM: i32 = libc::ENOMEM;
    // KVM API document: the request, its number, and what we say cannot be done.
    let requests: [(&str, u64, i32, Option<&str>); 14] = [
        ("KVM_GET_API_VERSION", 0xae00, EINVAL, None),
        ("KVM_CREATE_VM", 0xae01, ENOMEM, None),
        ("KVM_CREATE_VM", 0xae01, libc::EBUSY, Some("another hypervisor has the processor")),
        ("KVM_CREATE_VM", 0xae01, libc::EMFILE, Some("`ulimit -n`")),
        ("KVM_CREATE_VM", 0xae01, libc::ENFILE, Some("`sysctl fs.file-nr`")),
        ("KVM_GET_VCPU_MMAP_SIZE", 0xae04, EINVAL, None),
        ("KVM_ENABLE_CAP", 0x4068_aea3, EINVAL, Some("`matchstick host`")),
        ("KVM_SET_USER_MEMORY_REGION", 0x4020_ae46, ENOMEM, Some("a smaller -m")),
        ("KVM_CREATE_VCPU", 0xae41, ENOMEM, Some("a smaller -c")),
        ("KVM_GET_SUPPORTED_CPUID", 0xc008_ae05, ENOMEM, None),
        ("KVM_SET_CPUID2", 0x4008_ae90, EINVAL, None),
        ("KVM_RUN", 0xae80, libc::EFAULT, None),
        ("KVM_RUN", 0xae80, libc::EBADF, None),
        ("KVM_SIGNAL_MSI", 0x4020_aea5, EINVAL, None),
    ];
    for (name, number, errno, hint) in requests {
        // This guest asks for most of them; the other one needs an interrupt.
        let guest = if name == "KVM_SIGNAL_MSI" { "echo" } else { "smp" };
        let program = matchstick(["run", guest]).filtered(failing(libc::SYS_ioctl, Some((1, number)), errno));
        let ended = program.input("hello\n").run();
        is_a_clear_error(&ended, name, hint);
    }
}

#[test]
fn each_system_call_that_fails_is_reported() {
    if !has_kvm() {
        return;
    }
    let calls: [(&str, i64, Argument, i32, Option<&str>); 9] = [
        (
            "mmap, shared",
            libc::SYS_mmap,
            Some((3, libc::MAP_SHARED as u64)),
            libc::ENOMEM,
            Some("a smaller -c"),
        ),
        ("mmap, of guest memory", libc::SYS_mmap, Some((1, 2 << 20)), libc::ENOMEM, Some("a smaller -m")),
        ("timer_create", libc::SYS_timer_create, None, libc::EAGAIN, Some("`ulimit -i`")),
        ("openat", libc::SYS_openat, None, libc::EMFILE, Some("`ulimit -n`")),
        ("openat", libc::SYS_openat, None, libc::EPERM, Some("--device /dev/kvm")),
        ("clone3", libc::SYS_clone3, None, libc::EAGAIN, Some("`ulimit -a`")),
        ("capset", libc::SYS_capset, None, libc::EPERM, Some("--sandbox off")),
        (
            "prlimit64",
            libc::SYS_prlimit64,
            Some((1, libc::RLIMIT_CORE as u64)),
            libc::EPERM,
            Some("--sandbox off"),
        ),
        ("rt_sigaction", libc::SYS_rt_sigaction, Some((0, libc::SIGTERM as u64)), libc::EINVAL, None),
    ];
    for (name, call, argument, errno, hint) in calls {
        is_a_clear_error(&run(&["smp"], failing(call, argument, errno)), name, hint);
    }
}

#[test]
fn threads_that_cannot_be_had_are_reported_by_clone_as_well() {
    if !has_kvm() {
        return;
    }
    let (_dir, path) = golden_image();
    for (name, call, argument, errno, hint) in [
        ("clone3", libc::SYS_clone3, None, libc::EAGAIN, "`ulimit -a`"),
        ("KVM_CREATE_VM", libc::SYS_ioctl, Some((1, 0xae01)), libc::EMFILE, "`ulimit -n`"),
    ] {
        let filter = failing(call, argument, errno);
        let ended = matchstick(["clone", "-n", "20", "-j", "4000000000", &path]).filtered(filter).run();
        is_a_clear_error(&ended, name, Some(hint));
        ended.printed("");
    }
    // As many threads as there are clones to start are enough.
    matchstick(["clone", "-n", "8", "-j", "4000000000", &path]).run().silent().status(0);
}

/// A golden image, in a directory of its own.
fn golden_image() -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("golden.ms").display().to_string();
    matchstick(["snapshot", "-q", "primes", "-o", &path]).run().silent().status(0);
    (dir, path)
}

/// The names in a directory.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

/// What some KVMs say when the file below a machine's memory becomes shorter; of no other machine.
#[test]
fn memory_that_is_gone_under_a_golden_image_is_told_of_its_file() {
    if !has_kvm() {
        return;
    }
    let (_dir, path) = golden_image();
    let ended = run(&[&path], failing(libc::SYS_ioctl, Some((1, 0xae80)), libc::EFAULT));
    ended.fails(126, "it is shorter than it was", "must stay as it is");
}

#[test]
fn a_golden_image_that_cannot_be_written_leaves_what_was_there() {
    if !has_kvm() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("golden.ms");
    let snapshot = || matchstick(["snapshot", "primes", "-o"]).args([&path]);
    let limited = format!("ulimit -f 64; exec \"$0\" snapshot primes -m 64 -o {}", path.display());
    let no_space = |call| snapshot().filtered(failing(call, None, libc::ENOSPC)).run();
    for old in [None, Some("an older image")] {
        if let Some(old) = old {
            fs::write(&path, old).unwrap();
        }
        let is_as_before = || {
            assert_eq!(fs::read_to_string(&path).ok().as_deref(), old);
            assert_eq!(names(dir.path()).len(), old.map_or(0, |_| 1), "{:?}", names(dir.path()));
        };
        for call in [libc::SYS_linkat, libc::SYS_fsync] {
            no_space(call).fails(125, "cannot write", "make room where the file goes");
            is_as_before();
        }
        if old.is_some() {
            no_space(libc::SYS_rename).fails(125, "cannot write", "make room where the file goes");
            is_as_before();
        }
        let broken = snapshot().filtered(failing(libc::SYS_fsync, None, libc::EIO)).run();
        broken.fails_without_hint(125, "cannot write");
        is_as_before();
        let shell = support::Program::new("bash").args(["-c", &limited, env!("CARGO_BIN_EXE_matchstick")]);
        is_a_clear_error(&shell.run(), "file size", Some("`ulimit -f`"));
        is_as_before();
    }
    snapshot().run().status(0);
    matchstick(["run"]).args([&path]).run().status(0);
    // A file system that has only files with names.
    let nameless = Some((2, (libc::O_WRONLY | libc::O_CLOEXEC | libc::O_TMPFILE) as u64));
    let named = |call, argument, errno| {
        let also = failing(libc::SYS_openat, nameless, libc::EOPNOTSUPP);
        snapshot().filtered(also).filtered(failing(call, argument, errno)).run()
    };
    named(libc::SYS_fsync, None, libc::ENOSPC).fails(125, "cannot write", "make room");
    assert_eq!(names(dir.path()), ["golden.ms"]);
    named(libc::SYS_linkat, None, libc::ENOSPC).status(0);
    assert_eq!(names(dir.path()), ["golden.ms"]);
    matchstick(["run"]).args([&path]).run().status(0);
}

#[test]
fn a_story_that_cannot_be_written_leaves_what_was_there() {
    if !has_kvm() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("story");
    // A disk that is full after one block.
    let limited = format!("ulimit -f 1; exec \"$0\" trace \"$@\" {}", path.display());
    for old in [None, Some("an older story")] {
        if let Some(old) = old {
            fs::write(&path, old).unwrap();
        }
        for args in [
            &["smp", "--json", "-o"][..],
            &["smp", "-o", "/dev/null", "--html"],
            &["smp", "-o", "/dev/null", "--chrome"],
            &["smp", "--step", "-o"],
            &["smp", "--sandbox", "off", "--json", "-o"],
        ] {
            let shell =
                support::Program::new("bash").args(["-c", &limited, env!("CARGO_BIN_EXE_matchstick")]);
            is_a_clear_error(&shell.args(args).run(), "file size", Some("`ulimit -f`"));
            // It is written by this process, and put in its place by another one.
            for call in [libc::SYS_fsync, libc::SYS_linkat] {
                let filter = failing(call, None, libc::ENOSPC);
                let ended = matchstick(["trace"]).args(args).args([&path]).filtered(filter).run();
                ended.status(125).says("cannot write").says("make room where the file goes");
            }
            assert_eq!(fs::read_to_string(&path).ok().as_deref(), old, "{args:?}");
            assert_eq!(names(dir.path()).len(), old.map_or(0, |_| 1), "{args:?}: {:?}", names(dir.path()));
        }
    }
}

#[test]
fn a_report_on_a_full_disk_leaves_the_older_one() {
    if !has_kvm() {
        return;
    }
    for command in [
        "trace hello -q -o",
        "trace hello -q --step -o",
        "trace hello -q --html",
        "trace hello -q --chrome",
        "snapshot primes -o",
        "bench --runs 1 --warmup 0 --only process --export-json",
        "bench --runs 1 --warmup 0 --only process --export-html",
        "bench --runs 1 --warmup 0 --only process --export-csv",
    ] {
        let script = format!(
            r#"mount -t tmpfs -o size=8k none /mnt; echo older >/mnt/report; head -c 1M </dev/zero >/mnt/rest || true
            "$1" {command} /mnt/report >/dev/null || echo failed $?; cat /mnt/report; ls /mnt"#
        );
        let Some(ended) = in_namespace(&script) else { return };
        ended.says("No space left").printed("failed 125\nolder\nreport\nrest\n");
    }
}

#[test]
fn a_kill_leaves_nothing_unfinished() {
    if !has_kvm() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    for (round, args) in [&["snapshot", "primes", "-m", "256"][..], &["trace", "echo"]]
        .into_iter()
        .cycle()
        .take(12)
        .enumerate()
    {
        let old = (round % 4 < 2).then_some("older");
        let _ = fs::remove_file(&path);
        if let Some(old) = old {
            fs::write(&path, old).unwrap();
        }
        let running = matchstick(args).args(["-o"]).args([&path]).open_input().start();
        // The nameless file is there, or everything is over.
        let descriptors = format!("/proc/{}/fd", running.id());
        let is_writing = || {
            let Ok(entries) = fs::read_dir(&descriptors) else { return true };
            let links = entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
            let links: Vec<_> = links.collect();
            links.is_empty() || links.iter().any(|link| link.starts_with(dir.path()))
        };
        while !is_writing() {
            std::thread::yield_now();
        }
        running.signal(libc::SIGKILL);
        running.end();
        let is = fs::read(&path).ok();
        let is_whole = is.as_ref().is_some_and(|bytes| bytes.len() > 4096);
        assert!(is_whole || is.as_deref() == old.map(str::as_bytes), "{args:?}");
        assert!(names(dir.path()).iter().all(|name| name == "file"), "{:?}", names(dir.path()));
    }
}

#[test]
fn interrupted_calls_go_on() {
    if !has_kvm() {
        return;
    }
    // A wait for the terminal or a lock that is always interrupted must neither spin for ever nor lose a byte.
    let filter = failing(libc::SYS_poll, None, libc::EINTR);
    run(&[], filter).silent().status(0).printed("Hello from a virtual machine!\n");
}

#[test]
fn output_that_cannot_be_written_is_an_error() {
    if !has_kvm() {
        return;
    }
    // Standard error is written as well, so only the copy of standard output fails.
    let ended = |errno| run(&[], failing(libc::SYS_write, Some((0, 3)), errno));
    ended(libc::EIO).fails_without_hint(125, "cannot write the output");
    ended(libc::ENOSPC).fails(125, "cannot write the output", "make room where standard output goes");
    ended(libc::EFBIG).fails(125, "cannot write the output", "`ulimit -f`");
}
