//! The page "Your own guest": its files are written, its commands are run, and print what it says.

use crate::support::{Program, has_kvm, is_set, runs, skip};
use std::fs;
use std::path::Path;

/// A page's files, each with its name, and its commands, each with what it prints.
struct Page {
    files: Vec<(String, String)>,
    commands: Vec<(String, Vec<String>)>,
}

fn page(path: &str) -> Page {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let mut page = Page { files: Vec::new(), commands: Vec::new() };
    let mut lines = text.lines().peekable();
    let mut name = None;
    while let Some(line) = lines.next() {
        if let Some(file) = line.strip_prefix("<!-- file: ").and_then(|rest| rest.strip_suffix(" -->")) {
            name = Some(file.to_owned());
        } else if let Some(kind) = line.strip_prefix("```") {
            let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            if let Some(name) = name.take() {
                page.files.push((name, block.join("\n") + "\n"));
            } else if kind == "console" {
                for line in block {
                    match line.strip_prefix("$ ") {
                        Some(command) => page.commands.push((command.to_owned(), Vec::new())),
                        None => page.commands.last_mut().unwrap().1.push(line.to_owned()),
                    }
                }
            }
        }
    }
    page
}

#[test]
fn what_the_page_shows_is_what_happens() {
    if !has_kvm() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let tools = ["as", "ld", "gcc"].into_iter().all(|tool| runs(&[tool, "--version"]));
    if !tools {
        assert!(!is_set("REQUIRE_LINUX"), "no gcc and binutils");
        return skip("no gcc and binutils");
    }
    let page = page("docs/own-guest.md");
    assert!(page.files.len() >= 7 && page.commands.len() >= 11);
    for (name, text) in &page.files {
        fs::write(directory.path().join(name), text).unwrap();
    }
    for (command, expected) in &page.commands {
        let script = command.replace("matchstick ", "\"$0\" ");
        let ended = Program::new("sh")
            .args(["-c", &format!("{script} 2>&1"), env!("CARGO_BIN_EXE_matchstick")])
            .directory(directory.path())
            .run();
        ended.status(0);
        assert_eq!(ended.text().lines().collect::<Vec<_>>(), *expected, "{command}");
    }
}

/// The Korean page has the same files and the same commands.
#[test]
fn the_korean_page_shows_the_same() {
    let (english, korean) = (page("docs/own-guest.md"), page("docs/ko/own-guest.md"));
    assert_eq!((english.files, english.commands), (korean.files, korean.commands));
}
