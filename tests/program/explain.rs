//! `matchstick explain`: the lessons are whole, in every language, and work on a machine that has nothing.

use crate::support::{Program, has_kvm, matchstick, runs, skip};
use matchstick::cli::terminal::columns;
use matchstick::explain::markdown::{Block, parse};
use matchstick::explain::{LANGUAGES, Language, Lesson, figures, live};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The lessons that all others are translated from.
fn english() -> &'static Language {
    &LANGUAGES[0]
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
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/explain");
    let names = |path: &Path| -> BTreeSet<String> {
        fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    assert_eq!(names(&directory), LANGUAGES.iter().map(|language| language.code.to_owned()).collect());
    for language in LANGUAGES {
        let topics = language.lessons.iter().map(|lesson| format!("{}.md", lesson.topic)).collect();
        assert_eq!(names(&directory.join(language.code)), topics, "{}", language.code);
    }
}

#[test]
fn no_translation_is_older_than_its_english_text() {
    for (code, lesson) in every_lesson().filter(|(code, _)| *code != english().code) {
        let original = english().lesson(lesson.topic).unwrap();
        let name = format!("docs/explain/{code}/{}.md", lesson.topic);
        assert_eq!(
            lesson.translates(),
            Some(original.digest().as_str()),
            "{name}: compare it with the English text, then begin it with <!-- translates {} -->",
            original.digest()
        );
        // What a machine reads is the same.
        assert_eq!(live::names(lesson.text), live::names(original.text), "{name}: figures");
        assert_eq!(commands(lesson), commands(original), "{name}: commands");
    }
}

#[test]
fn every_figure_is_one_that_can_be_measured_and_stands_in_a_live_part() {
    let mut used = BTreeSet::new();
    for (code, lesson) in every_lesson() {
        let names = live::names(lesson.text);
        for name in &names {
            assert!(figures::NAMES.contains(&name.as_str()), "{code}/{}: no figure {name:?}", lesson.topic);
        }
        assert!(!names.is_empty(), "{code}/{} shows nothing of this machine", lesson.topic);
        used.extend(names);
        let book = live::fill(lesson.text, |_| None);
        assert!(!book.contains("{{") && !book.contains("-->"), "{code}/{}:\n{book}", lesson.topic);
    }
    assert_eq!(used, figures::NAMES.iter().map(|name| (*name).to_owned()).collect());
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
fn the_commands_of_ours_that_lessons_show_work() {
    let all: BTreeSet<String> = english().lessons.iter().flat_map(commands).collect();
    let ours: Vec<&String> = all.iter().filter(|command| command.contains("matchstick ")).collect();
    assert!(ours.len() > 10, "{ours:?}");
    for command in ours {
        let needs_kvm =
            !["matchstick host", "matchstick explain"].iter().any(|start| command.contains(start));
        if needs_kvm && !has_kvm() {
            continue;
        }
        let script = command.replace("matchstick ", "\"$0\" ");
        let ended = Program::new("sh").args(["-c", &script, env!("CARGO_BIN_EXE_matchstick")]).run();
        ended.status(0);
    }
}

#[test]
fn the_list_has_every_lesson_with_its_title() {
    for language in LANGUAGES {
        let ended = matchstick(["explain", "--lang", language.code]).run();
        ended.silent().status(0);
        let text = ended.text();
        for lesson in language.lessons {
            let is_there = |line: &str| line.starts_with(lesson.topic) && line.ends_with(lesson.title());
            assert!(text.lines().any(is_there), "{} is not in\n{text}", lesson.topic);
        }
    }
}

#[test]
fn every_lesson_is_given_in_every_width() {
    for (number, (code, lesson)) in every_lesson().enumerate() {
        for width in [20 + number % 18, 80] {
            let ended = matchstick(["explain", "-l", code, lesson.topic])
                .env("COLUMNS", width.to_string())
                .env("LC_ALL", "C.UTF-8")
                .run();
            ended.silent().status(0);
            let text = ended.text();
            // One column is less than a letter of Korean.
            assert!(text.lines().all(|line| columns(line) <= width), "{width}:\n{text}");
            assert!(!text.contains("{{") && !text.contains("<!--") && !text.contains('\x1b'), "{text}");
        }
    }
}

#[test]
fn figures_of_this_machine_are_in_the_text() {
    let explain =
        |topic: &str| matchstick(["explain", "--lang=en", topic]).env("LC_ALL", "C.UTF-8").run().text();
    assert!(explain("ring").contains("ring 3."), "{}", explain("ring"));
    let pid_max = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert!(explain("types").contains(pid_max.trim()));
    if has_kvm() {
        let text = explain("vm-exit").replace('\n', " ");
        assert!(text.contains("there and back, takes"), "{text}");
        assert!(text.contains(" ns") || text.contains(" µs"), "{text}");
        assert!(explain("hypervisor").contains("just now"));
    }
}

#[test]
fn a_locale_without_utf_8_gets_english_in_ascii() {
    for (number, lesson) in english().lessons.iter().enumerate() {
        let locale = ["C", "ko_KR.EUC-KR"][number % 2];
        let text = matchstick(["explain", lesson.topic]).env("LC_ALL", locale).run().text();
        assert!(text.is_ascii() && !text.contains('?') | lesson.text.contains('?'), "{text}");
    }
}

#[test]
fn the_language_is_that_of_the_locale_if_there_are_lessons_in_it() {
    for language in LANGUAGES {
        let locale = format!("{}_XX.UTF-8", language.code);
        let by_locale = matchstick(["explain"]).env("LC_ALL", &locale).run().text();
        let by_name = matchstick(["explain", "--lang", language.code]).env("LC_ALL", "C.UTF-8").run().text();
        assert_eq!(by_locale, by_name);
    }
    let other = matchstick(["explain"]).env("LC_ALL", "xx_XX.UTF-8").run().text();
    assert_eq!(other, matchstick(["explain", "-l", "en"]).env("LC_ALL", "C.UTF-8").run().text());
}

#[test]
fn what_nobody_knows_is_refused_with_the_nearest_names() {
    let hint = "`matchstick explain` lists the lessons";
    for (args, error) in [
        (&["explain", "hypervizor"][..], "no lesson on \"hypervizor\": is it hypervisor?"),
        (&["explain", "cgroup"], "is it cgroups?"),
        (&["explain", "exits"], "is it vm-exit?"),
        (&["explain", "xyzzy"], "no lesson on \"xyzzy\""),
        (&["explain", "--lang", "xx", "kvm"], "no lessons in \"xx\": there are en (English), ko (한국어)"),
        (&["explain", "kvm", "ring"], "unexpected argument \"ring\""),
        (&["explain", "--all"], "invalid option '--all'"),
    ] {
        matchstick(args).run().printed("").fails(125, error, hint);
    }
}

#[test]
fn every_lesson_is_given_where_there_is_nothing_to_measure() {
    if !runs(&["unshare", "-rm", "true"]) {
        return skip("no user and mount namespace of our own");
    }
    let topics: Vec<&str> = english().lessons.iter().map(|lesson| lesson.topic).collect();
    let script = format!(
        "mount -t tmpfs none /dev; mount -t tmpfs none /sys; mount -t tmpfs none /proc
         for topic in {}; do \"$0\" explain --lang en $topic; done",
        topics.join(" ")
    );
    let ended =
        Program::new("unshare").args(["-rm", "sh", "-ec", &script, env!("CARGO_BIN_EXE_matchstick")]).run();
    ended.silent().status(0);
    let text = ended.text();
    for lesson in english().lessons {
        assert!(text.contains(lesson.title()), "{} is missing", lesson.topic);
    }
    assert!(text.contains("Where there is a KVM, matchstick explain vm-exit measures one exit"), "{text}");
}
