//! Replays the fuzzer's corpus, and changes it at random: what a fuzzer found once stays found.
//!
//! The fuzzer itself is started by hand, see `tests/fuzz/Cargo.toml` and docs/security.md.

#[path = "../fuzz/drive.rs"]
mod drive;

use proptest::prelude::*;
use proptest::sample::Index;
use std::fs;
use std::path::Path;

/// The inputs kept for `target`, sorted by name.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
    let entries = fs::read_dir(&directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

#[test]
fn what_the_fuzzer_kept_does_no_harm() {
    for (name, drive) in drive::TARGETS {
        let corpus = corpus(name);
        assert!(!corpus.is_empty(), "{name} has no corpus");
        corpus.iter().for_each(|bytes| drive(bytes));
    }
}

#[test]
fn every_target_has_a_fuzzer() {
    let manifest = fs::read_to_string("tests/fuzz/Cargo.toml").unwrap();
    for (name, _) in drive::TARGETS {
        assert!(manifest.contains(&format!("path = \"targets/{name}.rs\"")), "{name}");
    }
    assert_eq!(manifest.matches("[[bin]]").count(), drive::TARGETS.len());
}

proptest! {
    #[test]
    fn a_few_changed_bytes_do_no_harm(
        target in 0..drive::TARGETS.len(),
        which in any::<Index>(),
        changes in prop::collection::vec((any::<Index>(), any::<u8>()), 1..8),
        end in any::<Index>(),
        is_cut in prop::bool::weighted(0.2),
    ) {
        let (name, drive) = drive::TARGETS[target];
        let corpus = corpus(name);
        let mut bytes = which.get(&corpus).clone();
        for (at, value) in changes {
            if !bytes.is_empty() {
                *at.get_mut(&mut bytes) = value;
            }
        }
        if is_cut && !bytes.is_empty() {
            bytes.truncate(end.index(bytes.len()));
        }
        drive(&bytes);
    }
}
