//! The programs of the course, `examples/`: each prints what its first lines promise.

use crate::support::{Program, has_kvm, is_match, is_set, skip};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

/// Where the built examples are. `cargo test` builds them along with this test, `cargo test --test program` does not.
static BUILT: LazyLock<PathBuf> = LazyLock::new(|| {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--examples"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    assert!(cargo.status().unwrap().success(), "the examples do not build");
    // This test is target/…/debug/deps/examples-….
    let own = std::env::current_exe().unwrap();
    own.parent().unwrap().with_file_name("examples")
});

/// A test for each, so that a failure names its program.
macro_rules! examples {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                keeps_its_promise(stringify!($name));
            }
        )*
        const TESTED: &[&str] = &[$(stringify!($name)),*];
    };
}

// In the order of the chapters.
examples! { forty_lines memory modes exits serial boot interrupts processors race device program }

fn source(name: &str) -> String {
    fs::read_to_string(Path::new("examples").join(name).with_extension("rs")).unwrap()
}

#[test]
fn no_example_lacks_its_test() {
    let mut names: Vec<String> = fs::read_dir("examples")
        .unwrap()
        .filter_map(|entry| {
            entry.unwrap().file_name().into_string().unwrap().strip_suffix(".rs").map(str::to_owned)
        })
        .collect();
    names.sort();
    let mut tested = TESTED.to_vec();
    tested.sort_unstable();
    assert_eq!(names, tested);
}

fn keeps_its_promise(name: &str) {
    let source = source(name);
    let promised = |key: &str| -> Vec<&str> {
        source.lines().filter_map(|line| line.strip_prefix("//! ")?.strip_prefix(key)).collect()
    };
    let expected = promised("expect: ");
    assert!(!expected.is_empty(), "{name} promises nothing");
    if !has_kvm() {
        return;
    }
    let ended = Program::new(BUILT.join(name)).run();
    let needs = promised("needs: ");
    if ended.status != Some(0) && !needs.is_empty() && !is_set("REQUIRE_KVM") {
        return skip(&format!("this host's KVM lacks {}", needs.join(", ")));
    }
    ended.silent().status(0);
    let text = ended.text();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), expected.len(), "{name} printed {text}");
    for (line, pattern) in lines.iter().zip(expected) {
        assert!(is_match(pattern, line), "{name} printed {line:?} instead of {pattern:?}");
    }
}
