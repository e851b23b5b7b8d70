//! The order of the program's functions (src/start.ld): each pattern in it still means something.
//!
//! A pattern that matches nothing breaks nothing and says nothing, but a start then touches more pages. Names change
//! with modules and functions, and with the C library.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The patterns of the script, `(file, section)`: `*libc.a:close.o(.text)` is `("*libc.a:close.o", ".text")`.
fn patterns() -> Vec<(String, String)> {
    let script = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/start.ld")).unwrap();
    let mut code = String::new();
    for part in script.split("/*") {
        code += part.split_once("*/").map_or(part, |(_, rest)| rest);
    }
    let (_, list) = code.split_once(".text.start : {").unwrap();
    let (list, _) = list.split_once('}').unwrap();
    let mut patterns = Vec::new();
    for piece in list.split(')').filter(|piece| !piece.trim().is_empty()) {
        let (file, sections) = piece.split_once('(').unwrap();
        let of_file = |section: &str| (file.trim().to_owned(), section.to_owned());
        patterns.extend(sections.split_whitespace().map(of_file));
    }
    assert!(patterns.len() > 100, "where are the patterns?");
    patterns
}

/// Whether `name` is what `pattern` describes, with `*`, `?` and `[…]` as in a shell.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern, name) {
        ([], _) => name.is_empty(),
        ([b'*', rest @ ..], _) => (0..=name.len()).any(|at| matches(rest, &name[at..])),
        ([b'?', rest @ ..], [_, name @ ..]) => matches(rest, name),
        ([b'[', rest @ ..], [first, name @ ..]) => {
            let end = rest.iter().position(|&byte| byte == b']').unwrap();
            rest[..end].contains(first) && matches(&rest[end + 1..], name)
        }
        ([byte, rest @ ..], [first, name @ ..]) => byte == first && matches(rest, name),
        _ => false,
    }
}

#[test]
fn patterns_are_those_of_a_shell() {
    for (pattern, name, is_one) in [
        ("a*c", "abbc", true),
        ("a*c", "abcd", false),
        ("a?c", "abc", true),
        ("a?c", "ac", false),
        ("x[ab]*", "xb1", true),
        ("x[ab]*", "xc1", false),
        ("*", "", true),
    ] {
        assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), is_one, "{pattern} {name}");
    }
}

/// What a command of the tools that linked this test prints.
fn said_by(command: &str, args: &[&str]) -> String {
    let output =
        Command::new(command).args(args).output().unwrap_or_else(|error| panic!("{command}: {error}"));
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_function_of_ours_and_of_rust_is_in_the_program() {
    let symbols = said_by("nm", &[env!("CARGO_BIN_EXE_matchstick")]);
    // Each function is in a section of its own name.
    let sections: Vec<String> = symbols
        .lines()
        .filter_map(|line| line.split_once(" t ").or(line.split_once(" T ")))
        .map(|(_, name)| format!(".text.{name}"))
        .collect();
    let is_there = |pattern: &str| sections.iter().any(|name| matches(pattern.as_bytes(), name.as_bytes()));
    let own = patterns().into_iter().filter(|(file, _)| file == "*").map(|(_, section)| section);
    let missing: Vec<String> = own.filter(|section| !is_there(section)).collect();
    assert!(missing.is_empty(), "src/start.ld: no function is called {missing:#?}");
}

#[test]
fn every_file_of_the_c_library_is_in_it() {
    let archive = |name: &str| PathBuf::from(said_by("cc", &[&format!("-print-file-name={name}")]).trim());
    let mut files = Vec::new();
    // libm.a is a script that names the archive proper, such as libm-2.36.a.
    let libm = fs::read(archive("libm.a")).unwrap();
    let libm = String::from_utf8_lossy(&libm);
    let libm =
        libm.split_whitespace().find(|word| word.contains("libm-")).map_or(archive("libm.a"), PathBuf::from);
    for path in [archive("libc.a"), archive("libgcc_eh.a"), libm] {
        let members = said_by("ar", &["t", path.to_str().unwrap()]);
        files.extend(members.lines().map(|member| format!("{}:{member}", path.display())));
    }
    files.extend(["crt1.o", "crti.o"].map(|name| archive(name).display().to_string()));
    let is_there = |pattern: &str| files.iter().any(|name| matches(pattern.as_bytes(), name.as_bytes()));
    let missing: Vec<String> =
        patterns().into_iter().map(|(file, _)| file).filter(|file| file != "*" && !is_there(file)).collect();
    assert!(missing.is_empty(), "src/start.ld: the C library has no {missing:#?}");
}
