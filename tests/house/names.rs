//! What documents and comments name is there: every file of the project, and what every `cargo` command asks for.

use std::fs;
use std::path::{Path, PathBuf};

/// Where the project keeps its files.
const DIRECTORIES: [&str; 8] =
    ["src", "tests", "docs", "examples", "benches", "guest-kernels", ".ci", ".github"];

/// Files of other projects, which a comment cites as its source, and names that stand for many.
const NOT_OURS: [&str; 5] = [
    "docs/misc/pvh.pandoc",
    "docs/system/i386/hyperv.rst",
    "docs/explain/TOPIC.md",
    "docs/labs/NAME.md",
    "guest-kernels/mine.rs",
];

/// All files of the project that people read.
fn files() -> Vec<(PathBuf, String)> {
    fn add(dir: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                add(&path, found);
            } else if let Ok(text) = fs::read_to_string(&path) {
                found.push((path, text));
            }
        }
    }
    let mut found = Vec::new();
    DIRECTORIES.iter().for_each(|dir| add(Path::new(dir), &mut found));
    for entry in fs::read_dir(".").unwrap() {
        let path = entry.unwrap().path().strip_prefix(".").unwrap().to_owned();
        // What is generated, and what tells of the past.
        let is_left_out = ["Cargo.lock", "CHANGELOG.md"].iter().any(|name| path.ends_with(name));
        if path.is_file() && !is_left_out {
            found.push((path.clone(), fs::read_to_string(&path).unwrap()));
        }
    }
    assert!(found.len() > 100, "where are the files?");
    found
}

/// The paths below one of the project's directories that `text` names.
fn paths(text: &str) -> Vec<&str> {
    let is_of_path = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    // A longer path, such as `target/doc/src`, and an address on the web are one word each.
    let words =
        text.split(|c| !is_of_path(c) && c != ':').map(|word| word.trim_end_matches(['.', '/', ':', '-']));
    let words =
        words.flat_map(|word| if word.contains("//") { Vec::new() } else { word.split(':').collect() });
    let is_ours = |word: &&str| word.split_once('/').is_some_and(|(first, _)| DIRECTORIES.contains(&first));
    words.map(|word| word.trim_start_matches("./")).filter(is_ours).collect()
}

#[test]
fn the_search_for_paths_sees_every_spelling() {
    let text = "`src/a.rs`, (tests/b/), [c](docs/c.md#d): src/e.rs:12, ./examples/f. target/src/g https://h/src/i src";
    assert_eq!(paths(text), ["src/a.rs", "tests/b", "docs/c.md", "src/e.rs", "examples/f"]);
}

#[test]
fn every_file_that_is_named_is_there() {
    let mut missing = Vec::new();
    let mut count = 0;
    for (file, text) in files() {
        // Facts of other hosts, what a fuzzer has made, and the examples in this file.
        if file.starts_with("tests/hosts")
            || file.starts_with("tests/fuzz/corpus")
            || file.ends_with("names.rs")
        {
            continue;
        }
        for path in paths(&text).into_iter().filter(|path| !NOT_OURS.contains(path)) {
            count += 1;
            // In a link, from where the page is; else from the top.
            if !Path::new(path).exists() && !file.parent().unwrap().join(path).exists() {
                missing.push(format!("{}: {path}", file.display()));
            }
        }
    }
    assert!(count > 100, "where are the paths?");
    assert!(missing.is_empty(), "there is no such file:\n{}", missing.join("\n"));
}

/// The words of each command in `text` that begins with `cargo`, as far as they are surely part of it.
fn commands(text: &str) -> Vec<Vec<&str>> {
    let end =
        |command: &str| command.find(['`', '\n', '#', '"', '|', ')', ',', ';', '<']).unwrap_or(command.len());
    let commands = text.split("cargo ").skip(1).map(|command| &command[..end(command)]);
    commands.map(|command| command.split_whitespace().collect()).collect()
}

/// The names of the tests and of their modules in `file`, or in the files beside it if it is `main.rs`.
fn tests(file: &Path) -> Vec<String> {
    let files: Vec<PathBuf> = match file.ends_with("main.rs") {
        true => fs::read_dir(file.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path()).collect(),
        false => vec![file.to_owned()],
    };
    let mut names = Vec::new();
    for file in files {
        let module = file.file_stem().unwrap().to_str().unwrap();
        let text = fs::read_to_string(&file).unwrap();
        let functions = text.split("fn ").skip(1).filter_map(|rest| rest.split('(').next());
        names.extend(functions.map(|function| format!("{module}::{function}")));
        // What macros make: their arguments.
        let lists = text.split("! {").skip(1).filter_map(|rest| rest.split('}').next());
        let words = lists.flat_map(|list| list.split(|c: char| !c.is_alphanumeric() && c != '_'));
        names.extend(words.map(|name| format!("{module}::{name}")));
    }
    names
}

/// What follows `option` in `command`.
fn value<'a>(command: &[&'a str], option: &str) -> Option<&'a str> {
    let at = command.iter().position(|word| *word == option)?;
    command.get(at + 1).copied()
}

#[test]
fn every_cargo_command_asks_for_what_is_there() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for (file, text) in files() {
        for command in commands(&text) {
            // A name in capitals, or one that a test fills in, stands for many.
            let name = |option| {
                value(&command, option).filter(|name| !name.contains(|c: char| c.is_uppercase() || c == '{'))
            };
            let mut check = |what: &str, is_there: bool| {
                count += 1;
                if !is_there {
                    wrong.push(format!("{}: {what} of `cargo {}`", file.display(), command.join(" ")));
                }
            };
            for (option, directory) in
                [("--test", "tests"), ("--bench", "benches"), ("--example", "examples")]
            {
                let Some(name) = name(option) else { continue };
                let found = [format!("{directory}/{name}.rs"), format!("{directory}/{name}/main.rs")];
                let found = found.iter().map(Path::new).find(|path| path.exists());
                check(option, found.is_some());
                let Some(program) = found.filter(|_| option == "--test") else { continue };
                let at = command.iter().position(|word| *word == name).unwrap();
                let filters =
                    command[at + 1..].iter().filter(|word| !word.starts_with('-') && !word.contains('{'));
                for filter in filters {
                    check(filter, tests(program).iter().any(|test| test.contains(*filter)));
                }
            }
            if let Some(filter) = name("--lib").filter(|word| !word.starts_with('-')) {
                let path = PathBuf::from("src").join(filter.replace("::", "/"));
                check(filter, path.is_dir() || path.with_extension("rs").exists());
            }
        }
    }
    assert!(count > 20, "where are the commands?");
    assert!(wrong.is_empty(), "this is not there:\n{}", wrong.join("\n"));
}
