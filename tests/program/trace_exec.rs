//! `trace exec`: a Linux program's system calls, held against what strace(1) says of the same program on the host; and
//! `exec --timings`.

use crate::support::{Ended, Program, has_kvm, matchstick, runs, skip};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(120);

/// A call and its result, as both name them.
type Made = (String, String);

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// Whether there is a KVM and strace; said, if not.
fn has_strace() -> bool {
    if !runs(&["strace", "-V"]) {
        skip("strace is not installed");
        return false;
    }
    has_kvm()
}

/// tests/linux-programs/calls.c as a static program; `None`, and said, without a compiler.
fn calls(directory: &Path) -> Option<PathBuf> {
    if !runs(&["gcc", "--version"]) {
        skip("gcc is not installed");
        return None;
    }
    let target = directory.join("calls");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/linux-programs/calls.c");
    let words = ["-O1", "-w", "-static", "-o"];
    Program::new("gcc").args(words).args([&target, &source]).limit(LIMIT).run().status(0);
    Some(target)
}

/// A call and its result in a form that does not depend on where memory lies and which number a process has.
fn normal(name: &str, result: &str) -> Option<Made> {
    // The C library asks for what is refused here, and then goes on in another way; strace begins with the execve(2) of
    // its own.
    if matches!(name, "rseq" | "clone3") {
        return None;
    }
    let result = match name {
        "brk" | "mmap" | "mremap" if !result.starts_with('-') => "an address",
        // It kills: strace has the result, and we do not live to see it.
        "kill" => "a result",
        "getpid" | "getppid" | "gettid" | "set_tid_address" if !result.starts_with('-') => "a number",
        "fork" | "vfork" | "clone" | "wait4" if !result.starts_with('-') && result != "0" => "a number",
        result => result,
    };
    Some((name.to_owned(), result.to_owned()))
}

/// What strace(1) says, by process.
fn by_strace(text: &str) -> BTreeMap<u64, Vec<Made>> {
    let mut made: BTreeMap<u64, Vec<Made>> = BTreeMap::new();
    let mut unfinished: BTreeMap<u64, String> = BTreeMap::new();
    for line in text.lines() {
        let (pid, rest) = line.split_once(' ').unwrap();
        let (pid, mut rest) = (pid.parse().unwrap(), rest.trim_start().to_owned());
        if let Some(begun) = rest.strip_suffix(" <unfinished ...>") {
            unfinished.insert(pid, begun.to_owned());
            continue;
        }
        if let Some(resumed) = rest.strip_prefix("<... ") {
            let end = resumed.split_once(" resumed>").unwrap().1;
            rest = unfinished.remove(&pid).unwrap() + end;
        }
        if rest.starts_with("---") || rest.starts_with("+++") {
            continue;
        }
        let name = rest.split('(').next().unwrap();
        let result = rest.rsplit(" = ").next().unwrap();
        let result: Vec<&str> = result.split(' ').collect();
        let result = if result[0] == "-1" { format!("-1 {}", result[1]) } else { result[0].to_owned() };
        if !(name == "execve" && made.is_empty()) {
            made.entry(pid).or_default().extend(normal(name, &result));
        } else {
            made.entry(pid).or_default();
        }
    }
    made
}

/// What `trace exec --json` says, by process.
fn by_us(lines: &[serde_json::Value]) -> BTreeMap<u64, Vec<Made>> {
    let mut made: BTreeMap<u64, Vec<Made>> = BTreeMap::new();
    // A signal that kills is sent by a call that does not come back.
    for call in lines.iter().filter(|line| line["event"] == "call" || line["event"] == "unfinished") {
        let error = call["error"].as_str().map_or(String::new(), |error| format!(" {error}"));
        let result = call["result"].as_str().unwrap().to_owned() + &error;
        let of_process = made.entry(call["pid"].as_u64().unwrap()).or_default();
        of_process.extend(normal(call["call"].as_str().unwrap(), &result));
    }
    made
}

fn json(path: &Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Runs `words` under strace and in a VM, and asserts that both have seen the same calls with the same results.
#[track_caller]
fn is_as_strace_has_it(words: &[&str]) {
    let directory = directory();
    let (theirs, ours) = (directory.path().join("strace"), directory.path().join("ours"));
    let host = Program::new("strace").args(["-f", "-o"]).args([&theirs]).args(words).limit(LIMIT).run();
    let vm = matchstick(["trace", "exec", "--json", "-o"]).args([&ours]).args(words).limit(LIMIT).run();
    assert_eq!((vm.text(), &vm.stderr), (host.text(), &host.stderr), "{words:?}");
    let host_status = host.status.unwrap_or_else(|| 128 + host.signal.unwrap());
    assert_eq!(vm.status.unwrap_or_else(|| 128 + vm.signal.unwrap()), host_status, "{words:?}: {vm:?}");
    let theirs: Vec<Vec<Made>> = by_strace(&fs::read_to_string(&theirs).unwrap()).into_values().collect();
    let ours: Vec<Vec<Made>> = by_us(&json(&ours)).into_values().collect();
    assert_eq!(ours.len(), theirs.len(), "{words:?}: not as many processes");
    for (ours, theirs) in ours.iter().zip(&theirs) {
        for (at, (one, other)) in ours.iter().zip(theirs).enumerate() {
            assert_eq!(one, other, "{words:?}: call {at} of {ours:?}");
        }
        assert_eq!(ours.len(), theirs.len(), "{words:?}");
    }
}

#[test]
fn calls_and_results_are_those_that_strace_sees() {
    if !has_strace() {
        return;
    }
    let directory = directory();
    if let Some(calls) = calls(directory.path()) {
        is_as_strace_has_it(&[calls.to_str().unwrap()]);
        is_as_strace_has_it(&[calls.to_str().unwrap(), "and dies of a signal"]);
    }
    if runs(&["busybox", "true"]) {
        is_as_strace_has_it(&["/bin/busybox", "echo", "a"]);
        is_as_strace_has_it(&["/bin/busybox", "cat", "/etc/hostname", "/nothing"]);
        is_as_strace_has_it(&["/bin/busybox", "sh", "-c", "(exit 3); exit 4"]);
    }
}

fn trace(options: &[&str], words: &[&str]) -> Ended {
    matchstick(["trace", "exec"]).args(options).args(words).limit(LIMIT).run()
}

#[test]
fn arguments_are_in_words_and_the_times_add_up() {
    let directory = directory();
    let Some(calls) = calls(directory.path()).filter(|_| has_kvm()) else { return };
    let file = directory.path().join("trace");
    let (file, calls) = (file.to_str().unwrap(), calls.to_str().unwrap());
    let ended = trace(&["-o", file], &[calls]);
    // Nothing of the trace is in the program's streams.
    assert_eq!((ended.text().as_str(), ended.stderr.as_str(), ended.status), ("out\n", "err\n", Some(3)));
    let text = fs::read_to_string(file).unwrap();
    for words in [
        "O_RDONLY|O_CLOEXEC) = 3\n",
        "read(3, \"\\x7fELF\", 4) = 4\n",
        "{st_mode=S_IFREG|0755, st_size=",
        "lseek(3, 10, SEEK_SET) = 10\n",
        "lseek(3, -1, SEEK_SET) = -1 EINVAL\n",
        "mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 3, 0) = 0x",
        ", 4096, PROT_NONE) = 0\n",
        "fcntl(4, F_GETFD) = 0\n",
        "close(4) = -1 EBADF\n",
        "access(\"/\", R_OK|X_OK) = 0\n",
        "access(\"/nothing\", F_OK) = -1 ENOENT\n",
        "\"/\\x1b[31m\"",
        "writev(5, [{iov_base=\"two \", iov_len=4}, {iov_base=\"pieces\", iov_len=6}], 2) = 10\n",
        "poll([{fd=4, events=POLLIN}], 1, 1000) = 1\n",
        "read(4, \"two pieces\", 64) = 10\n",
        "socketpair(AF_UNIX, SOCK_STREAM|SOCK_CLOEXEC, 0, [6, 7]) = 0\n",
        "rt_sigaction(SIGUSR1, {sa_handler=0x",
        "--- SIGUSR1 from ",
        "rt_sigprocmask(SIG_BLOCK, [USR2], NULL, 8) = 0\n",
        "nanosleep({tv_sec=0, tv_nsec=1000}, NULL) = 0\n",
        "uname({sysname=\"Linux\", nodename=",
        "umask(022) = 0",
        "write(-1, \"nowhere\", 7) = -1 EBADF\n",
        "write(1, \"out\\n\", 4) = 4\n",
        "with a VM of its own)\n",
        "[exited with 3], 0, NULL) = ",
        "+++ exited with 3 +++\n",
        "exit_group(3) = ?\n",
        "; 1 forked\n",
        "KVM ",
        "system calls of the host, on its behalf\n",
    ] {
        assert!(text.contains(words), "{words:?} is not in {text}");
    }
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "something is not escaped");

    let ended = trace(&["--json", "-o", file], &[calls]);
    ended.status(3);
    let lines = json(Path::new(file));
    let summary = lines.last().unwrap();
    assert_eq!(summary["event"], "summary");
    let sum = |key: &str| {
        let is_exit = |line: &&serde_json::Value| line["event"] == "call" || line["event"] == "exit";
        lines.iter().filter(is_exit).map(|line| line[key].as_u64().unwrap()).sum::<u64>()
    };
    for key in ["wall", "host", "host_calls"] {
        assert_eq!(summary[key].as_u64().unwrap(), sum(key), "{key}");
    }
    let in_vm = summary["program_at_most"].as_u64().unwrap() + summary["kvm_at_least"].as_u64().unwrap();
    assert_eq!(in_vm, sum("vm"));
    assert!(summary["round_trip"].as_u64().unwrap() > 100, "{summary}");
    // A call that is passed on is one of the host's.
    assert_eq!(summary["calls"]["getrusage"]["host_calls"], 1, "{summary}");
    assert_eq!(summary["calls"]["rt_sigprocmask"]["host_calls"], 0, "{summary}");
}

#[test]
fn threads_and_a_program_that_becomes_another_one_are_followed() {
    let Some(_) = runs(&["python3", "-V"]).then_some(()).filter(|()| has_kvm()) else { return };
    let directory = directory();
    let file = directory.path().join("trace");
    let program = "import os, threading
thread = threading.Thread(target=lambda: os.write(1, b'thread\\n')); thread.start(); thread.join()
os.execv('/bin/echo', ['echo', 'another'])";
    let python = if Path::new("/usr/bin/python3").exists() { "/usr/bin/python3" } else { "python3" };
    let words = ["--json", "-o", file.to_str().unwrap(), python, "-c", program];
    let ended = matchstick(["trace", "exec"]).args(words).limit(LIMIT).run();
    ended.status(0).printed("thread\nanother\n").silent();
    let lines = json(&file);
    let wrote = |text: &str| {
        lines.iter().find(|line| line["call"] == "write" && line["arguments"][1] == text).expect(text)
    };
    let (thread, after) = (wrote("\"thread\\n\""), wrote("\"another\\n\""));
    assert_eq!(thread["pid"], after["pid"], "one process");
    assert_ne!(thread["tid"], thread["pid"], "a thread of its own");
    assert_eq!(after["tid"], after["pid"]);
    let programs: Vec<_> = lines.iter().filter(|line| line["event"] == "program").collect();
    assert!(programs.last().unwrap()["path"].as_str().unwrap().ends_with("/bin/echo\""));
    assert_eq!(programs.last().unwrap()["arguments"], serde_json::json!(["\"echo\"", "\"another\""]));
}

#[test]
fn pages_are_written_for_viewers() {
    if !has_kvm() || !runs(&["busybox", "true"]) {
        return;
    }
    let directory = directory();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let (html, chrome) = (path("page.html"), path("chrome.json"));
    let ended = trace(&["--html", &html, "--chrome", &chrome], &["busybox", "echo", "</script>"]);
    ended.status(0).printed("</script>\n").says("write(1, \"</script>\\n\", 10) = 10\n");
    let page = fs::read_to_string(&html).unwrap();
    assert_eq!(page.matches("</script>").count(), 1);
    assert!(page.contains("exit_group"));
    let events: serde_json::Value = serde_json::from_str(&fs::read_to_string(&chrome).unwrap()).unwrap();
    let events = events["traceEvents"].as_array().unwrap();
    assert!(
        events
            .iter()
            .any(|event| event["ph"] == "X" && event["name"] == "write(1, \"</script>\\n\", 10) = 10")
    );
}

#[test]
fn a_program_that_dies_is_told_of_to_its_end() {
    if !has_kvm() {
        return;
    }
    let ended = trace(&[], &["sh", "-c", "kill -9 $$"]);
    assert_eq!(ended.signal, Some(9), "{ended:?}");
    ended.says("kill(").says("system calls of the host");
    let ended = trace(&[], &["sh", "-c", "kill -SEGV $$"]);
    assert_eq!(ended.signal, Some(11), "{ended:?}");
    ended.says("+++ killed by SIGSEGV +++");
}

#[test]
fn what_cannot_be_done_is_said_before_anything_runs() {
    trace(&["-o", "/nonexistent/file"], &["sh", "-c", "echo ran"]).printed("").fails(
        125,
        "/nonexistent/file",
        "a file that you may write",
    );
    trace(&[], &[]).fails(125, "which program?", "trace exec --help");
    trace(&["--step"], &["true"]).fails(125, "--step", "trace exec --help");
    trace(&["--help"], &[]).status(0).silent();
    if has_kvm() {
        trace(&[], &["/nonexistent"]).printed("").fails(127, "cannot run /nonexistent", "PATH");
        trace(&["--json"], &["/etc/passwd"]).printed("").fails(126, "cannot run", "may be executed");
    }
}

#[test]
fn timings_show_each_phase_and_the_program_does_not_see_it() {
    if !has_kvm() {
        return;
    }
    let ended =
        matchstick(["exec", "--timings", "sh", "-c", "env; ls /proc/self/fd; exit 5"]).limit(LIMIT).run();
    ended.status(5);
    assert!(!ended.text().contains("MATCHSTICK"), "{}", ended.text());
    let phases: Vec<&str> = ended.stderr.lines().filter_map(|line| line.split("  ").next()).collect();
    let expected = [
        "exec to main",
        "arguments, image",
        "open /dev/kvm",
        "KVM_CREATE_VM",
        "load image",
        "first system call",
        "program: to end",
        "exit to reaped",
        "total",
    ];
    let mut at = 0;
    for phase in expected {
        let found = phases[at..].iter().position(|known| known.trim() == phase);
        at += found.unwrap_or_else(|| panic!("{phase} is missing, or not in its place: {phases:?}"));
    }
    matchstick(["exec", "--timings", "/nonexistent"]).run().fails(127, "no such program", "PATH");
    let ended = matchstick(["exec", "--timings", "sh", "-c", "kill -TERM $$"]).limit(LIMIT).run();
    ended.killed_by(15);
}
