//! `matchstick lab`: each lab does on this machine what its text says, and nothing of it stays.

use crate::support::terminal::{is_root, send_signal};
use crate::support::{Program, is_set, matchstick, runs, skip};
use std::fs;
use std::path::Path;

/// The labs, each with what it has to show, in this order.
const LABS: &[(&str, &[&str])] = &[
    ("lsns", &["uts:[", "sleep 30", "NPROCS COMMAND"]),
    ("unshare", &["inside\n", "my number is 1", "lo:", "0          0          1", "matchstick 0."]),
    ("limits", &["8388608", "tail: status 137", "oom_kill 1", "with a fifth:", "nr_throttled "]),
    (
        "layers",
        &["colour = red", "0, 0", "colour = blue\nit ran", "colour = blue\n0\n", "colour = red", "0\nkept\n"],
    ),
    (
        "network",
        &["172.17.0.2/16", "Hello from container one", "Hello from container one", "DNAT", "no answer"],
    ),
    (
        "drift",
        &[
            "machine one: as the image",
            "machine two: as the image",
            "machine one has drifted",
            "machine two: as the image",
            "machine one, replaced: as the image",
            "machine1 has drifted",
            "machine2: as the image",
        ],
    ),
];

/// Why labs cannot run here, if they cannot.
fn missing() -> Option<String> {
    if !is_root() {
        return Some("no root".into());
    }
    let tools = ["lsns", "unshare", "nsenter", "ip", "iptables", "hostname"];
    let gone: Vec<&str> = tools.into_iter().filter(|tool| !runs(&[tool, "-V"])).collect();
    let busybox = runs(&["busybox", "true"]);
    if gone.is_empty() && busybox {
        return None;
    }
    Some(format!("not there: {gone:?}, busybox: {busybox}"))
}

fn can_run() -> bool {
    let Some(why) = missing() else { return true };
    assert!(!is_set("REQUIRE_CONTAINERS"), "{why}");
    skip(&why);
    false
}

fn lab(name: &str) -> Program {
    matchstick(["lab", "--lang=en", name]).env("LC_ALL", "C.UTF-8").env("COLUMNS", "100")
}

/// What a lab made that outlives its shell.
fn leftovers(of: u32) -> Vec<String> {
    let groups = ["/sys/fs/cgroup", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/cpu"];
    let groups = groups.map(|tree| format!("{tree}/lab-{of}"));
    groups.into_iter().filter(|path| Path::new(path).exists()).collect()
}

#[test]
fn each_lab_shows_what_its_text_says_and_leaves_nothing() {
    if !can_run() {
        return;
    }
    for (name, shown) in LABS {
        let directory = tempfile::tempdir().unwrap();
        let ended = lab(name).env("TMPDIR", directory.path()).run();
        ended.status(0);
        let text = ended.text();
        let mut rest = text.as_str();
        for expected in *shown {
            // Not in a command, which is shown behind a prompt or below one.
            let is_output = |at: &usize| {
                let line = rest[..*at].rsplit('\n').next().unwrap();
                let is_command =
                    line.starts_with("$ ") || (line.starts_with("  ") && !line.starts_with("   "));
                !is_command || name == &"unshare"
            };
            let found = rest.match_indices(expected).map(|(at, _)| at).find(is_output);
            let at =
                found.unwrap_or_else(|| panic!("{name}: {expected:?} is not in\n{rest}\nwhich ends\n{text}"));
            rest = &rest[at + expected.len()..];
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "{name} left its directory");
    }
}

#[test]
fn a_list_has_them_all_and_a_dry_run_needs_nothing() {
    for language in ["en", "ko"] {
        let ended = matchstick(["lab", "--lang", language]).run();
        ended.silent().status(0);
        let names: Vec<String> =
            ended.text().lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
        assert_eq!(names, LABS.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        for (name, _) in LABS {
            let ended = matchstick(["lab", "--dry-run", "-l", language, name]).env("PATH", "/nowhere").run();
            ended.silent().status(0);
            assert!(ended.text().contains("\n$ "), "{name}: {}", ended.text());
        }
    }
}

#[test]
fn what_is_missing_is_said() {
    if is_root() {
        lab("lsns").env("PATH", "/nowhere").run().fails(
            126,
            "error: the lab lsns needs lsns",
            "its package has to be installed; with --dry-run the lab needs nothing",
        );
    }
    matchstick(["lab", "lays"]).run().fails(
        125,
        "no lab is called \"lays\"",
        "`matchstick lab` lists the labs",
    );
}

#[test]
fn a_signal_ends_a_lab_and_what_it_made_is_removed() {
    if !can_run() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let running = lab("limits").env("TMPDIR", directory.path()).start();
    // The group is there by then: its limit was read back.
    running.stdout.wait_for("33554432");
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", running.id())).unwrap();
    let shell: u32 = children.split_whitespace().next().unwrap().parse().unwrap();
    assert!(!leftovers(shell).is_empty());
    send_signal(running.id(), 2);
    running.end().killed_by(2);
    assert_eq!(leftovers(shell), [""; 0]);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn a_reader_that_goes_ends_a_lab_as_well() {
    if !can_run() {
        return;
    }
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let directory = tempfile::tempdir().unwrap();
    lab("layers").env("TMPDIR", directory.path()).stdout(writer).run().status(141);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}
