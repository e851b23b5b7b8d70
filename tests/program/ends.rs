//! Ends from outside at every stage: after each, the process tells the truth about it, and nothing of it stays.

use crate::support::image::{boot_sector, code};
use crate::support::terminal::send_signal;
use crate::support::{Program, file, has_kvm, matchstick};
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

const SIGNALS: [i32; 4] = [libc::SIGHUP, libc::SIGINT, libc::SIGTERM, libc::SIGQUIT];

/// Prints an A and then does nothing for ever.
fn busy() -> (tempfile::TempDir, std::ffi::OsString) {
    file(&boot_sector(&[code::SERIAL, code::PUT_A, code::LOOP]))
}

fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).unwrap().next().is_none()
}

/// Waits for something that takes a moment.
#[track_caller]
fn soon(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// The children of process `parent`, as proc(5) has them.
fn children(parent: i32) -> Vec<i32> {
    let text = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
    text.split_whitespace().map(|id| id.parse().unwrap()).collect()
}

#[test]
fn a_signal_at_any_moment_of_a_snapshot_leaves_the_whole_file_or_none() {
    if !has_kvm() {
        return;
    }
    for step in 0..32 {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("golden.ms");
        let signal = SIGNALS[step % SIGNALS.len()];
        let running = matchstick(["snapshot", "-q", "primes", "-o"]).args([&path]).start();
        thread::sleep(Duration::from_millis(step as u64));
        running.signal(signal);
        let ended = running.end();
        match ended.signal {
            Some(_) => ended.killed_by(signal),
            // It was through with it.
            None => ended.silent().status(0),
        };
        match ended.signal {
            Some(_) if !path.exists() => assert!(is_empty(dir.path()), "step {step}"),
            _ => {
                matchstick(["diff"]).args([&path, &path]).run().silent().status(0);
                assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "step {step}");
            }
        }
    }
}

#[test]
fn a_signal_ends_clones_with_all_their_threads() {
    if !has_kvm() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("golden.ms");
    matchstick(["snapshot", "-q", "primes", "-o"]).args([&path]).run().silent().status(0);
    for (signal, wait) in SIGNALS.into_iter().zip([5, 20, 50, 100]) {
        let running = matchstick(["clone", "-n", "100000", "-j", "4"]).args([&path]).start();
        thread::sleep(Duration::from_millis(wait));
        running.signal(signal);
        running.end().silent().killed_by(signal).printed("");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_stopped_process_goes_on_and_its_time_has_gone_on() {
    if !has_kvm() {
        return;
    }
    let (_dir, path) = busy();
    let running = matchstick(["run", "--timeout", "0.5"]).args([path]).start();
    running.stdout.wait_for("A");
    running.signal(libc::SIGSTOP);
    running.wait_until_stopped();
    thread::sleep(Duration::from_millis(600));
    let begin = Instant::now();
    running.signal(libc::SIGCONT);
    running.end().status(124).printed("A");
    assert!(begin.elapsed() < Duration::from_secs(5), "it had its time twice");
}

#[test]
fn a_machine_that_is_measured_does_not_outlive_who_measures_it() {
    if !has_kvm() {
        return;
    }
    let (_dir, path) = busy();
    let running = matchstick(["run", "--timings"]).args([path]).start();
    running.stdout.wait_for("A");
    let [child] = children(running.id())[..] else { panic!("it has no child, or several") };
    running.signal(libc::SIGKILL);
    // Its standard output is open for as long as the child lives.
    running.end().killed_by(libc::SIGKILL).printed("A");
    soon("the child is still there", || !Path::new(&format!("/proc/{child}")).exists());
}

/// The kernel tells a child of its parent's end only if the child has asked before: one that asks afterwards has to look.
/// Its variable names process 1, which is not its parent.
#[test]
fn a_machine_whose_parent_ended_before_it_could_ask_ends_at_once() {
    let (_dir, path) = busy();
    let shell = "MATCHSTICK_TIMINGS=1,3,0 exec \"$0\" run --timings \"$1\" 3>&1";
    let shell = Program::new("sh").args(["-c", shell, env!("CARGO_BIN_EXE_matchstick")]).args([path]);
    shell.run().killed_by(libc::SIGTERM).printed("");
}

#[test]
fn a_machine_whose_parent_has_gone_ends_when_it_has_nobody_to_write_to() {
    if !has_kvm() {
        return;
    }
    let (_dir, path) = file(&boot_sector(&[code::SERIAL, code::PUT_A, &[0xeb, 0xfd]]));
    // A shell that stays, with a pipe to read from what it starts.
    let script = r#""$0" run "$1" | { read -r -n 1; echo "$REPLY"; sleep 1000; }"#;
    let shell = Program::new("bash").args(["-c", script, env!("CARGO_BIN_EXE_matchstick")]).args([path]);
    let running = shell.start();
    running.stdout.wait_for("A");
    let family = children(running.id());
    assert_eq!(family.len(), 2, "the machine, and who reads");
    // It prints first and sleeps then.
    let parent = || family.iter().copied().find(|&id| !children(id).is_empty());
    soon("nobody sleeps", || parent().is_some());
    let reader = parent().unwrap();
    let machine = *family.iter().find(|&&id| id != reader).unwrap();
    let sleeper = children(reader)[0];
    running.signal(libc::SIGKILL);
    for gone in [reader, sleeper] {
        send_signal(gone, libc::SIGKILL);
    }
    soon("the machine is still there", || !Path::new(&format!("/proc/{machine}")).exists());
}

#[test]
fn every_thread_ends_when_input_and_output_are_gone() {
    if !has_kvm() {
        return;
    }
    // Input that ends while the guest runs, and output that nobody takes any more: the guest still ends by itself.
    let mut running = matchstick(["run", "echo"]).open_input().start();
    running.stdout.wait_for("end with Ctrl-D");
    running.write(b"last words");
    running.end().silent().status(0);
    let (reader, writer) = std::io::pipe().unwrap();
    let running = matchstick(["run", "echo"]).open_input().stdout(writer).start();
    drop(reader);
    // Broken pipe, as a shell counts it.
    running.end().silent().status(141);
}
