//! `exec --gdb`: a real gdb steers a Linux program.

use crate::support::{Program, Running, has_kvm, is_set, matchstick, runs, skip};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(120);

/// tests/linux-programs/debugged.c with debug information, where all is there that is needed.
fn debugged(directory: &Path, options: &[&str]) -> Option<PathBuf> {
    let has_gdb = runs(&["gdb", "--version"]);
    assert!(has_gdb || !is_set("REQUIRE_GDB"), "there is no gdb");
    if !has_gdb || !runs(&["gcc", "--version"]) {
        skip("there is no gdb, or no gcc");
        return None;
    }
    let target = directory.join("debugged");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/linux-programs/debugged.c");
    let words = ["-g", "-O0", "-pthread", "-o"];
    let gcc = Program::new("gcc").args(words).args([&target, &source]).args(options).limit(LIMIT).run();
    gcc.status(0);
    has_kvm().then_some(target)
}

/// The program waits for a client at the socket.
fn waiting(directory: &Path, words: &[&str]) -> (PathBuf, Running) {
    let socket = directory.join("gdb");
    let address = format!("unix:{}", socket.display());
    let running = matchstick(["exec", "--gdb", &address]).args(words).limit(LIMIT).start();
    running.stderr.wait_for("waiting for gdb at ");
    (socket, running)
}

/// Has a gdb carry out `commands`. It has to say the texts of `expected`, in their order.
#[track_caller]
fn gdb_says(socket: &Path, commands: &[&str], expected: &[&str]) {
    let mut gdb = Command::new("timeout");
    gdb.args(["100", "gdb", "-nx", "-batch", "-ex", "set pagination off"]).stdin(Stdio::null());
    gdb.args(["-ex", &format!("target remote {}", socket.display())]);
    for command in commands {
        gdb.args(["-ex", command]);
    }
    let said = gdb.output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    let mut rest = said.as_str();
    for text in expected {
        let at = rest.find(text).unwrap_or_else(|| panic!("{text:?} is not in its place in\n{said}"));
        rest = &rest[at + text.len()..];
    }
}

#[test]
fn breakpoints_steps_registers_and_the_end_of_a_static_program() {
    let directory = tempfile::tempdir().unwrap();
    let Some(program) = debugged(directory.path(), &["-static"]) else { return };
    let (socket, running) = waiting(directory.path(), &[program.to_str().unwrap()]);
    gdb_says(
        &socket,
        &[
            "break square",
            "continue",
            "backtrace",
            "print n",
            "print $rip == $pc && $fs_base != 0",
            "stepi",
            "set var n = 5",
            "finish",
            "delete",
            "handle SIGUSR1 nostop pass",
            "continue",
        ],
        &[
            "Breakpoint 1, square (n=7)",
            "#1 ",
            "in main (argc=1",
            "$1 = 7",
            "$2 = 1",
            "Value returned is $3 = 25",
            "exited with code 0150",
        ],
    );
    let ended = running.end();
    ended.status(104).printed("square 25\n");
}

#[test]
fn libraries_threads_signals_and_a_fault_of_a_dynamic_program() {
    let directory = tempfile::tempdir().unwrap();
    let Some(program) = debugged(directory.path(), &[]) else { return };
    let (socket, running) = waiting(directory.path(), &[program.to_str().unwrap(), "crash"]);
    gdb_says(
        &socket,
        &[
            "break worker",
            "continue",
            "continue",
            "info sharedlibrary",
            "info threads",
            "print counter",
            "delete",
            "continue",
            "print $rax",
            "continue",
        ],
        &[
            "received signal SIGUSR1",
            "Breakpoint 1, worker",
            "libc.so.6",
            "worker (arg=",
            "$1 = 101",
            "received signal SIGSEGV",
            "main (argc=2",
            "$2 = 16",
            "terminated with signal SIGSEGV",
        ],
    );
    running.end().killed_by(libc::SIGSEGV);
}

#[test]
fn a_program_that_waits_is_interrupted_and_one_that_becomes_another_stops() {
    let directory = tempfile::tempdir().unwrap();
    let Some(program) = debugged(directory.path(), &["-static"]) else { return };
    let program = program.to_str().unwrap();
    let (socket, running) = waiting(directory.path(), &[program, "wait"]);
    // The program itself has gdb interrupted, when it is about to wait.
    let interrupt = "python import threading, time, os, signal; threading.Thread(target=lambda: (time.sleep(2), os.kill(os.getpid(), signal.SIGINT))).start()";
    gdb_says(
        &socket,
        &[
            "handle SIGUSR1 nostop pass",
            "break pause",
            "continue",
            "delete",
            interrupt,
            "continue",
            "print counter",
            "kill",
        ],
        &["Breakpoint 1", "received signal SIGINT", "$1 = 104"],
    );
    running.end().killed_by(libc::SIGKILL);
    let (socket, running) = waiting(directory.path(), &[program, "exec"]);
    gdb_says(
        &socket,
        &["handle SIGUSR1 nostop pass", "continue", "continue"],
        &["received signal SIGTRAP", "exited normally"],
    );
    running.end().status(0).printed("square 49\n");
}

#[test]
fn a_client_may_leave_and_what_makes_no_sense_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let Some(program) = debugged(directory.path(), &["-static"]) else { return };
    let (socket, running) = waiting(directory.path(), &[program.to_str().unwrap()]);
    gdb_says(&socket, &["break square", "continue", "detach"], &["Breakpoint 1", "detached"]);
    running.end().status(104).printed("square 49\n");
    let gdb = |more: &[&str]| matchstick(["exec", "--gdb", "0"]).args(more).run();
    gdb(&["--timings", "true"]).fails(125, "no times", "exec --help");
    gdb(&["--sandbox", "strict", "true"]).fails(125, "without the sandbox", "exec --help");
    gdb(&["/nonexistent"]).fails(127, "no such program", "PATH");
    matchstick(["exec", "--gdb", "nowhere", "true"]).run().fails(
        125,
        "a debugger calls at a port",
        "exec --help",
    );
}
