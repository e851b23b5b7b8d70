//! Programs that we did not write, and some of Python's own tests, by `exec` as on the host: the quick part of
//! tests/suites/run, which has more, and says what it compares.

use crate::support::{Program, has_kvm, skip};
use std::path::Path;
use std::time::Duration;

/// What is missing is said by the script; with REQUIRE_SUITES=1 it fails.
fn suite(words: &[&str]) {
    if !has_kvm() {
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suites/run");
    if !Path::new("/usr/bin/python3").exists() {
        assert!(std::env::var_os("REQUIRE_SUITES").is_none(), "no /usr/bin/python3");
        return skip("no /usr/bin/python3");
    }
    let ended = Program::new("/usr/bin/python3")
        .args([script])
        .args(["--quick", env!("CARGO_BIN_EXE_matchstick")])
        .args(words)
        .env("SUITE_LIMIT", "150")
        .limit(Duration::from_secs(600))
        .run();
    println!("{}", ended.text());
    assert_eq!(ended.status, Some(0), "{ended:?}");
}

#[test]
fn shells_and_their_tools_are_as_on_the_host() {
    suite(&["busybox", "bash", "dash", "coreutils"]);
}

#[test]
fn languages_and_databases_are_as_on_the_host() {
    suite(&["perl", "git", "sqlite3", "gcc", "go", "runc", "node"]);
}

#[test]
fn compilers_of_many_threads_are_as_on_the_host() {
    suite(&["gobuild", "rust"]);
}

#[test]
fn python_s_own_tests_pass_as_on_the_host() {
    suite(&["test_thread", "test_fileio", "test_epoll", "test_fcntl", "test_select"]);
}
