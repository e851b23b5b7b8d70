//! The lessons are whole, in every language. What the command makes of them is tested through the program.

use super::live::names;
use super::markdown::{Block, parse};
use super::*;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The names that a lesson may use.
const NAMES: &[&str] = &[
    "boot_bytes",
    "cgroup_controllers",
    "cgroup_mount",
    "cgroup_path",
    "container_start",
    "container_tools",
    "container",
    "copy",
    "engine",
    "etc_changed",
    "etc_files",
    "exec_calls",
    "exec_host",
    "exec_host_calls",
    "exec_round_trip",
    "exec_wall",
    "exit",
    "exit_count",
    "guest_address",
    "guest_memory",
    "hypervisor",
    "if hardware",
    "if loaded",
    "if software",
    "interrupts",
    "kernel",
    "load",
    "namespaces",
    "own_namespaces",
    "pid",
    "process_start",
    "processors",
    "restore",
    "ring",
    "runc_start",
    "root",
    "rounds",
    "serial_exits",
    "syscall",
    "syscalls",
    "timer_interrupts",
    "uid",
    "virtio_devices",
    "vm_boot",
    "vm_start",
    "vm_to_container",
    "vm_tools",
];

/// What a translation names to say which text it translates: FNV-1a of 64 bits, in hexadecimal.
fn digest(text: &str) -> String {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let hash = text.bytes().fold(OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME));
    format!("{hash:016x}")
}

/// The digest of the English text that `text` translates, from its line `<!-- translates DIGEST -->`.
fn translates(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("<!-- translates ")?.strip_suffix(" -->"))
}

/// The lessons that all others are translated from.
fn english() -> &'static Language {
    &LANGUAGES[0]
}

/// Lessons and labs: the path, the page, and the English page.
fn every_page() -> impl Iterator<Item = (String, &'static Lesson, &'static Lesson)> {
    let original = |all: &'static [Lesson], topic| all.iter().find(|page| page.topic == topic).unwrap();
    let (lessons, labs) = (english().lessons, english().labs);
    LANGUAGES.iter().flat_map(move |language| {
        let lessons =
            language.lessons.iter().map(move |page| ("explain", page, original(lessons, page.topic)));
        let labs = language.labs.iter().map(move |page| ("labs", page, original(labs, page.topic)));
        let name = |kind, page: &Lesson| format!("{}: docs/…/{kind}/{}.md", language.code, page.topic);
        lessons.chain(labs).map(move |(kind, page, original)| (name(kind, page), page, original))
    })
}

fn every_lesson() -> impl Iterator<Item = (&'static str, &'static Lesson)> {
    LANGUAGES.iter().flat_map(|language| language.lessons.iter().map(|lesson| (language.code, lesson)))
}

/// The commands that a lesson shows, without their prompts.
fn commands(lesson: &Lesson) -> Vec<String> {
    let lines = parse(lesson.text).into_iter().flat_map(|block| match block {
        Block::Code(lines) => lines,
        _ => Vec::new(),
    });
    lines.filter_map(|line| line.strip_prefix("$ ").map(str::to_owned)).collect()
}

#[test]
fn every_file_is_a_lesson_and_every_language_has_them_all() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let files = |path: &Path| -> BTreeSet<String> {
        fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    for (language, directory) in LANGUAGES.iter().zip(["", "ko"]) {
        for (kind, pages) in [("explain", language.lessons), ("labs", language.labs)] {
            let topics = pages.iter().map(|page| format!("{}.md", page.topic)).collect();
            assert_eq!(files(&docs.join(directory).join(kind)), topics, "{kind}, {}", language.code);
        }
    }
    assert!(LANGUAGES[1..].iter().all(|language| docs.join(language.code).is_dir()));
}

#[test]
fn no_translation_is_older_than_its_english_text() {
    for (name, page, original) in every_page().filter(|(_, page, original)| page.text != original.text) {
        assert_eq!(
            translates(page.text),
            Some(digest(original.text).as_str()),
            "{name}: compare it with the English text, then begin it with <!-- translates {} -->",
            digest(original.text)
        );
        // What a machine reads is the same.
        assert_eq!(names(page.text), names(original.text), "{name}: figures");
        assert_eq!(commands(page), commands(original), "{name}: commands");
        assert_eq!(lab::script(page, "@"), lab::script(original, "@"), "{name}: what is run");
        assert!(
            lab::needs(page).eq(lab::needs(original)) && lab::within(page).eq(lab::within(original)),
            "{name}"
        );
    }
}

#[test]
fn every_figure_is_one_that_can_be_measured_and_stands_in_a_live_part() {
    let mut used = BTreeSet::new();
    for (code, lesson) in every_lesson() {
        let names = names(lesson.text);
        for name in &names {
            assert!(NAMES.contains(name), "{code}/{}: no figure {name:?}", lesson.topic);
        }
        assert!(!names.is_empty(), "{code}/{} shows nothing of this machine", lesson.topic);
        used.extend(names);
        let book = live::fill(lesson.text, |_| None);
        assert!(!book.contains("{{") && !book.contains("-->"), "{code}/{}:\n{book}", lesson.topic);
    }
    assert_eq!(used, NAMES.iter().copied().collect());
}

#[test]
fn lessons_lead_to_lessons_and_end_with_something_to_try() {
    for (code, lesson) in every_lesson() {
        let links = lesson.text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        // To another page of the book: tests/house/docs.rs looks where that leads.
        for link in links.filter(|link| !link.contains("://") && !link.starts_with("../")) {
            let topic = link.strip_suffix(".md").unwrap_or(link);
            assert!(english().lesson(topic).is_some(), "{code}/{}: there is no {link}", lesson.topic);
        }
        assert!(!commands(lesson).is_empty(), "{code}/{} has nothing to try", lesson.topic);
        assert!(lesson.title() != lesson.topic, "{code}/{} has no title", lesson.topic);
        assert!(!lesson.text.contains('\t'), "{code}/{}", lesson.topic);
    }
}

#[test]
fn a_digest_is_that_of_the_specification() {
    // The FNV specification's own example.
    assert_eq!(digest("foobar"), "85944171f73967e8");
    assert_eq!(digest(""), "cbf29ce484222325");
    let korean = Lesson { topic: "", text: "<!-- translates 85944171f73967e8 -->\n# 제목\n" };
    assert_eq!((translates(korean.text), korean.title()), (Some("85944171f73967e8"), "제목"));
}

#[test]
fn the_nearest_names_are_those_a_hand_slipped_from() {
    assert_eq!(distance("kitten", "sitting"), 3);
    let topics = ["hypervisor", "types", "kvm", "vm-exit", "vm-vs-container", "container"];
    assert_eq!(nearest("hypervizor", topics), ["hypervisor"]);
    assert_eq!(nearest("kmv", topics)[0], "kvm");
    assert_eq!(nearest("Exit", topics), ["vm-exit"]);
    assert_eq!(nearest("containers", topics)[0], "container");
    assert_eq!(nearest("xyzzy", topics), [""; 0]);
    assert_eq!(nearest("", topics), [""; 0]);
}
