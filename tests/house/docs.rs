//! The book and the pages beside it: every link leads somewhere, every chapter keeps what its form promises, and what
//! it says that programs print is what they print.
//!
//! That the book builds is for `.ci/run`, which has mdBook.

use crate::support::is_match;
use matchstick::guest::Guest;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A page, its path as seen from the top of the project.
struct Page {
    path: PathBuf,
    text: String,
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The pages of `dir` and of the directories below.
fn pages(dir: &str) -> Vec<Page> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(pages(path.to_str().unwrap()));
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(Page { text: read(&path), path });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn chapters() -> Vec<Page> {
    let chapters = pages("docs/course");
    assert_eq!(chapters.len(), 10);
    chapters
}

/// `text` without what stands between fences.
fn prose(text: &str) -> String {
    let mut inside = false;
    let is_prose = |line: &&str| {
        let is_fence = line.trim_start().starts_with("```");
        inside ^= is_fence;
        !inside && !is_fence
    };
    text.lines().filter(is_prose).collect::<Vec<_>>().join("\n")
}

/// The fenced blocks of one kind, each as its lines.
fn blocks<'a>(text: &'a str, kind: &str) -> Vec<Vec<&'a str>> {
    let mut blocks: Vec<Vec<&str>> = Vec::new();
    let mut inside = None;
    for line in text.lines() {
        match (line.strip_prefix("```"), inside) {
            (Some(opened), None) => {
                inside = Some(opened == kind);
                blocks.extend((opened == kind).then(Vec::new));
            }
            (Some(_), Some(_)) => inside = None,
            (None, Some(true)) => blocks.last_mut().unwrap().push(line),
            (None, _) => {}
        }
    }
    blocks
}

/// The name under which a heading can be linked to.
fn slug(heading: &str) -> String {
    let kept = |c: char| match c {
        ' ' => Some('-'),
        c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
        _ => None,
    };
    heading.to_lowercase().chars().filter_map(kept).collect()
}

#[test]
fn every_relative_link_leads_to_a_file_and_its_heading() {
    let mut all = pages("docs");
    for name in fs::read_dir(".").unwrap().map(|entry| entry.unwrap().path()) {
        if name.extension().is_some_and(|extension| extension == "md") {
            let path = name.strip_prefix("./").unwrap().to_owned();
            all.push(Page { text: read(&path), path });
        }
    }
    let mut count = 0;
    for Page { path, text } in &all {
        for link in prose(text).split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            count += 1;
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            assert!(target.exists(), "{} links to {link}, which is not there", path.display());
            if !heading.is_empty() {
                let target = prose(&read(&target));
                let mut headings = target
                    .lines()
                    .filter(|line| line.starts_with('#'))
                    .map(|line| line.trim_start_matches(['#', ' ']));
                assert!(
                    headings.any(|line| slug(line) == heading),
                    "{}: no heading for {link}",
                    path.display()
                );
            }
        }
    }
    assert!(count > 10, "where are the links?");
}

#[test]
fn every_include_finds_its_file_and_its_anchor() {
    let mut count = 0;
    for Page { path, text } in pages("docs") {
        for include in text.split("{{#include ").skip(1).filter_map(|rest| rest.split("}}").next()) {
            count += 1;
            let (file, anchor) = include.split_once(':').unwrap_or((include, ""));
            let source = read(&path.parent().unwrap().join(file));
            for mark in ["ANCHOR", "ANCHOR_END"] {
                let line = format!("// {mark}: {anchor}");
                let is_there = anchor.is_empty() || source.lines().any(|other| other.trim() == line);
                assert!(is_there, "{} includes {include}, and there is no {line:?}", path.display());
            }
        }
    }
    assert!(count > 20, "where are the includes?");
}

#[test]
fn every_chapter_shows_its_program_and_has_an_exercise() {
    let mut shown = BTreeSet::new();
    for (chapter, number) in chapters().iter().zip(1..) {
        let Page { path, text } = chapter;
        let has = |part: &str| assert!(text.contains(part), "{} lacks {part:?}", path.display());
        has(&format!("\n## Exercise {number}\n\n`examples/exercises/{number:02}.rs`: "));
        has(&format!("\ncargo test --test exercises -- --ignored exercise_{number:02}\n"));
        let programs =
            text.split("{{#include ../../examples/").skip(1).filter_map(|rest| rest.split(':').next());
        let programs: BTreeSet<String> = programs.map(str::to_owned).collect();
        assert_eq!(programs.len(), 1, "{} shows {programs:?}", path.display());
        shown.extend(programs);
    }
    // The one that is no chapter's.
    let page = read(Path::new("docs/programs.md"));
    let programs =
        page.split("{{#include ../examples/").skip(1).filter_map(|rest| rest.split([':', '}']).next());
    shown.extend(programs.map(str::to_owned));
    let programs =
        fs::read_dir("examples").unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(shown, programs.filter(|name| name.ends_with(".rs")).collect(), "shown against what there is");
}

/// FNV-1a of 64 bits, in hexadecimal, as src/explain/tests.rs has it for the lessons.
fn digest(text: &str) -> String {
    let step = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    format!("{:016x}", text.bytes().fold(0xcbf2_9ce4_8422_2325, step))
}

#[test]
fn the_korean_chapters_say_which_text_they_translate_and_show_the_same_code() {
    let chapters = pages("docs/ko/course");
    assert!(chapters.len() >= 4);
    for Page { path, text } in chapters {
        let original = read(&Path::new("docs/course").join(path.file_name().unwrap()));
        let (name, digest) = (path.display(), digest(&original));
        let first = format!("<!-- translates {digest} -->\n");
        assert!(
            text.starts_with(&first),
            "{name}: compare it with the English text, then begin it with {first}"
        );
        let fenced = |text: &str| -> Vec<String> {
            // The path from the one directory to the examples is one longer.
            text.replace("../../../", "../../").split("```").skip(1).step_by(2).map(str::to_owned).collect()
        };
        assert_eq!(fenced(&text), fenced(&original), "{name}");
    }
}

/// A book would leave out, without a word, a page that nobody has put into its list.
#[test]
fn every_page_is_in_its_book() {
    for (book, is_ours) in [
        (
            "docs",
            (|path: &Path| !path.starts_with("docs/ko") || path.ends_with("glossary.md"))
                as fn(&Path) -> bool,
        ),
        ("docs/ko", |_| true),
    ] {
        let summary = read(&Path::new(book).join("SUMMARY.md"));
        for Page { path, .. } in pages(book).iter().filter(|page| is_ours(&page.path)) {
            let name = path.strip_prefix(book).unwrap().display();
            let is_there = path.ends_with("SUMMARY.md") || summary.contains(&format!("]({name})"));
            assert!(is_there, "{book}/SUMMARY.md lacks {name}");
        }
    }
}

#[test]
fn every_concept_of_the_notes_leads_to_a_lesson_and_a_command_there_is() {
    let rows = |path: &str| -> Vec<String> {
        let text = read(Path::new(path));
        let rows = text.lines().filter(|line| line.starts_with("| ") && line.contains(".md) | `"));
        rows.map(|row| row.split_once("| [").unwrap().1.to_owned()).collect()
    };
    let (english, korean) = (rows("docs/concepts.md"), rows("docs/ko/concepts.md"));
    assert_eq!(english, korean);
    assert!(english.len() > 35, "{}", english.len());
    for row in english {
        let command = row.split('`').nth(1).unwrap();
        let words: Vec<std::ffi::OsString> = command.split(' ').map(Into::into).collect();
        if let Err(usage) = matchstick::cli::check(words.into_iter()) {
            panic!("{command}: {usage:?}");
        }
    }
}

/// Whether `source` defines `item`, which may be `Type::method`.
fn defines(source: &str, item: &str) -> bool {
    let kinds = ["fn", "struct", "enum", "trait", "type", "mod", "const", "static"];
    let defines = |name: &str, kinds: &[&str]| {
        source.lines().any(|line| {
            kinds.iter().any(|kind| {
                let rest =
                    line.split_once(&format!("{kind} {name}")).filter(|(before, _)| !before.contains("//"));
                rest.is_some_and(|(_, rest)| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
            })
        })
    };
    match item.split_once("::") {
        Some((own, method)) => {
            let implements = source.lines().any(|line| {
                line.starts_with("impl") && line.split(|c: char| !c.is_alphanumeric()).any(|word| word == own)
            });
            implements && defines(method, &["fn"])
        }
        None => defines(item, &kinds),
    }
}

#[test]
fn every_chapter_ends_where_the_real_thing_stands() {
    for Page { path, text } in chapters() {
        let name = path.display();
        let (_, end) =
            text.split_once("\n## Where the real thing stands\n").unwrap_or_else(|| panic!("{name}"));
        assert!(!end.contains("\n#"), "{name} goes on behind it");
        let lines: Vec<&str> = end.lines().filter(|line| !line.is_empty()).collect();
        assert!(lines.iter().any(|line| line.contains("`src/")), "{name} names nothing of src/");
        for line in lines {
            let mut file = None;
            // What is in backquotes: a file, then items in it. Every second piece is.
            for word in line.split('`').skip(1).step_by(2) {
                if word.ends_with(".rs") {
                    file = Some(read(Path::new(word)));
                } else if let Some(source) = &file
                    && word.chars().all(|c| c.is_alphanumeric() || "_:".contains(c))
                {
                    assert!(defines(source, word), "{name}: {word} is not where it says: {line}");
                }
            }
        }
    }
}

/// What the first lines of an example or of a guest promise.
fn promise(source: &str) -> Vec<&str> {
    source.lines().filter_map(|line| line.strip_prefix("//! expect: ")).collect()
}

#[test]
fn what_the_book_says_that_programs_print_is_what_they_print() {
    let mut count = 0;
    for Page { path, text } in chapters() {
        for block in blocks(&text, "console") {
            let command =
                block[0].strip_prefix("$ ").unwrap_or_else(|| panic!("{}: {block:?}", path.display()));
            let name = command.split(' ').next_back().unwrap();
            let source;
            let expected = if command.starts_with("cargo run ") {
                source = read(&Path::new("examples").join(name).with_extension("rs"));
                promise(&source)
            } else if command == format!("matchstick run {name}") {
                Guest::find(name).unwrap().expect.to_vec()
            } else {
                panic!("{}: who checks what {command:?} prints?", path.display());
            };
            let shown = &block[1..];
            let alike = shown.len() == expected.len()
                && shown.iter().zip(&expected).all(|(line, pattern)| is_match(pattern, line));
            assert!(alike, "{}: {command} prints {expected:#?}", path.display());
            count += 1;
        }
    }
    assert!(count >= 10);
}

#[test]
fn the_search_for_items_sees_what_is_there_and_nothing_else() {
    let source = "pub struct A;\nimpl Trait for A {\n    fn go() {}\n}\nconst fn free() {}\n// fn gone()\n";
    for item in ["A", "A::go", "free"] {
        assert!(defines(source, item), "{item}");
    }
    for item in ["B", "A::gon", "A::gone", "fre", "B::go", "gone"] {
        assert!(!defines(source, item), "{item}");
    }
}

/// Statements that were found to be wrong. What is right stands where they stood.
#[test]
fn what_was_wrong_is_not_said_again() {
    for (page, wrong) in [
        ("docs/explain/hypervisor.md", "everything else ran on the processor."),
        ("docs/explain/vm-exit.md", "as fast as anyone's"),
        ("docs/explain/vm-exit.md", "executes CPUID, or HLT"),
        ("docs/ko/explain/vm-exit.md", "CPUID나 HLT"),
        ("docs/explain/image.md", "thrown away"),
        ("docs/ko/explain/image.md", "끝나면 그 레이어는 버립니다"),
        ("docs/explain/image.md", "no longer than starting a process"),
        ("docs/explain/namespaces.md", "nobody outside"),
        ("docs/ko/explain/namespaces.md", "밖에서는 nobody"),
        ("docs/explain/namespaces.md", "queues | 2.6.19"),
        ("docs/explain/namespaces.md", "lives as long as somebody is in it."),
        ("docs/tracing.md", "left out of all other times"),
        // Where the glossary says why it does not use this word, it stands in quotation marks.
        ("docs/ko/glossary.md", " VM 종료"),
    ] {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).unwrap();
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(!text.contains(wrong), "{page}: {wrong:?}");
    }
}
