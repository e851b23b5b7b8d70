//! `matchstick explain`: every lesson is given, in every language, also on a machine that has nothing.

use crate::support::{Program, has_kvm, matchstick, runs, skip};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use unicode_width::UnicodeWidthStr;

/// A file of docs/explain.
struct Lesson {
    topic: String,
    text: String,
}

impl Lesson {
    fn title(&self) -> &str {
        self.text.lines().find_map(|line| line.strip_prefix("# ")).expect("a lesson has a title")
    }

    /// The commands that it shows, without their prompts.
    fn commands(&self) -> impl Iterator<Item = String> {
        let parts = self.text.split("```").skip(1).step_by(2);
        parts.flat_map(str::lines).filter_map(|line| line.strip_prefix("$ ").map(str::to_owned))
    }
}

/// The languages that there are lessons in.
fn languages() -> Vec<String> {
    ["en", "ko"].map(String::from).into()
}

/// The files of the lessons in a language.
fn listed(language: &str) -> Vec<PathBuf> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let directory = if language == "en" { docs } else { docs.join(language) }.join("explain");
    let mut found: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    assert!(!found.is_empty());
    found
}

fn lessons(language: &str) -> Vec<Lesson> {
    let lesson = |path: PathBuf| Lesson {
        topic: path.file_stem().unwrap().to_str().unwrap().to_owned(),
        text: fs::read_to_string(&path).unwrap(),
    };
    listed(language).into_iter().map(lesson).collect()
}

#[test]
fn the_commands_of_ours_that_lessons_show_work() {
    let all: BTreeSet<String> = lessons("en").iter().flat_map(Lesson::commands).collect();
    // Those about images are tried below, as they need one, and their order.
    let is_of_images = |command: &str| command.contains(" run-image ") || command.contains(" images");
    let ours: Vec<&String> =
        all.iter().filter(|command| command.contains("matchstick ") && !is_of_images(command)).collect();
    assert!(ours.len() > 10, "{ours:?}");
    for command in ours {
        let needs_kvm =
            !["matchstick host", "matchstick explain"].iter().any(|start| command.contains(start));
        if needs_kvm && !has_kvm() {
            continue;
        }
        let script = command.replace("matchstick ", "\"$0\" ");
        let ended = Program::new("sh")
            .args(["-c", &script, env!("CARGO_BIN_EXE_matchstick")])
            .limit(std::time::Duration::from_secs(120))
            .run();
        ended.status(0);
    }
    if !has_kvm() {
        return;
    }
    let Some((shelf, places)) = crate::images::shelf() else { return };
    let mut count = 0;
    for command in lessons("en").iter().flat_map(Lesson::commands).filter(|command| is_of_images(command)) {
        let script = command.replace("matchstick ", "\"$0\" ");
        let program = Program::new("sh").args(["-c", &script, env!("CARGO_BIN_EXE_matchstick")]);
        let program = places.iter().fold(program, |program, (name, path)| program.env(name, path));
        program.directory(shelf.path()).run().status(0);
        count += 1;
    }
    assert!(count >= 8, "{count}");
}

#[test]
fn the_list_has_every_lesson_with_its_title() {
    for language in languages() {
        let ended = matchstick(["explain", "--lang", &language]).run();
        ended.says("`matchstick explain TOPIC` gives one of them").says("--lang ").status(0);
        let text = ended.text();
        for lesson in lessons(&language) {
            let is_there = |line: &str| line.starts_with(&lesson.topic) && line.ends_with(lesson.title());
            assert!(text.lines().any(is_there), "{} is not in\n{text}", lesson.topic);
        }
    }
}

#[test]
fn every_lesson_is_given_in_every_width() {
    let all =
        languages().into_iter().flat_map(|code| lessons(&code).into_iter().map(move |it| (code.clone(), it)));
    for (number, (code, lesson)) in all.enumerate() {
        for width in [20 + number % 18, 80] {
            let ended = matchstick(["explain", "-l", &code, &lesson.topic])
                .env("COLUMNS", width.to_string())
                .env("LC_ALL", "C.UTF-8")
                .run();
            ended.silent().status(0);
            let text = ended.text();
            // One column is less than a letter of Korean.
            assert!(text.lines().all(|line| line.width() <= width), "{width}:\n{text}");
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

/// A lesson as it is read here, in one line.
fn explained(topic: &str) -> String {
    let text = matchstick(["explain", "--lang=en", topic]).env("LC_ALL", "C.UTF-8").run().text();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Where KVM emulates the kernel mode of guests, not everything runs on the processor.
#[test]
fn lessons_say_of_kvm_what_host_says() {
    let report = matchstick(["host", "--json"]).run().text();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let engine = report["host"]["engine"].as_str().unwrap();
    let (hypervisor, vm_exit) = (explained("hypervisor"), explained("vm-exit"));
    let says =
        |text: &str, words: &str, is_so: bool| assert_eq!(text.contains(words), is_so, "{engine}: {text}");
    let by_hardware = ["hardware", "nested"].contains(&engine);
    says(&hypervisor, "Everything else ran on the processor itself.", by_hardware);
    says(
        &hypervisor,
        "It emulates the guest's kernel mode, instruction by instruction",
        engine == "software",
    );
    says(&vm_exit, "So it is here, with", by_hardware);
    says(&vm_exit, "its kernel mode is emulated by KVM", engine == "software");
}

#[test]
fn the_lesson_on_containers_counts_system_calls_as_the_isolation_table_does() {
    let table = matchstick(["bench", "isolation", "--only=namespaces"]).env("COLUMNS", "400").run().text();
    let rows = || table.lines().filter(|line| line.starts_with("namespaces") && line.contains(" of "));
    if rows().next().is_none() {
        return skip(&format!("no container of ours: {table}"));
    }
    // Of three digits; namespaces are fewer.
    let count = |row: &str| {
        let words: Vec<&str> = row.split_whitespace().collect();
        let of = words.windows(3).find(|of| of[1] == "of" && of[0] == of[2] && of[0].len() == 3)?;
        Some(of[0].to_owned())
    };
    let count = rows().find_map(count).unwrap_or_else(|| panic!("{table}"));
    let text = explained("container");
    assert!(text.contains(&format!("It answers {count} system calls")), "{count}: {text}");
}

#[test]
fn the_lesson_on_cgroups_names_the_group_that_counts_memory_and_controllers_only() {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let lines = || groups.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    let of = |name: &str| lines().find(|(controllers, _)| controllers.split(',').any(|one| one == name));
    let Some((_, group)) = of("memory").or_else(|| of("")) else { return skip("no control groups") };
    let text = explained("cgroups");
    assert!(text.contains(&format!("is counted in the group {group}.")), "{group}: {text}");
    assert!(!text.contains("systemd"), "a named tree is no controller: {text}");
}

/// In turns, with intervals, like beside like; and a loaded machine is said.
#[test]
fn a_lesson_that_compares_keeps_the_rules_of_the_race() {
    if !has_kvm() {
        return;
    }
    let text = explained("vm-vs-container");
    assert!(text.contains("21 times each, in turns, in an order that was shuffled"), "{text}");
    for line in ["as a process: ", "with a tiny guest: ", "without a process of its own: "] {
        let figure = text.split_once(line).unwrap_or_else(|| panic!("{line} is not in {text}")).1;
        let (figure, _) = figure.split_once(']').unwrap_or_else(|| panic!("no interval: {figure}"));
        assert!(figure.contains(" [") && figure.contains('–') && figure.len() < 40, "{figure}");
    }
    if text.contains("every runtime has to do: ") {
        assert!(text.contains("that took × ") && text.contains("Where 1 lies in the interval"), "{text}");
    }
}

/// The calls that are counted are those that a trace of the same program counts.
#[test]
fn the_lesson_on_kernels_counts_the_calls_that_reach_the_host() {
    if !has_kvm() {
        return;
    }
    let text = explained("whose-kernel").split_whitespace().collect::<Vec<_>>().join(" ");
    let number = |before: &str, after: &str| -> u64 {
        let (_, rest) = text.split_once(before).unwrap_or_else(|| panic!("{before} is not in {text}"));
        rest.split_once(after).unwrap().0.parse().unwrap_or_else(|_| panic!("{before}: {text}"))
    };
    let calls = number("makes ", " system calls until it ends");
    let host_calls = number("that process made ", " calls to the host's kernel");
    let traced = matchstick(["trace", "exec", "--json", "true"]).limit(Duration::from_secs(60)).run();
    let summary: serde_json::Value =
        serde_json::from_str(traced.status(0).stderr.lines().last().unwrap()).unwrap();
    let all = summary["calls"].as_object().unwrap().values();
    assert_eq!(calls, all.map(|call| call["count"].as_u64().unwrap()).sum::<u64>());
    assert_eq!(host_calls, summary["host_calls"].as_u64().unwrap());
    assert!(calls > 5 && host_calls > 5, "{calls} {host_calls}");
}

#[test]
fn a_locale_without_utf_8_gets_english_in_ascii() {
    for (number, lesson) in lessons("en").iter().enumerate() {
        let locale = ["C", "ko_KR.EUC-KR"][number % 2];
        let text = matchstick(["explain", &lesson.topic]).env("LC_ALL", locale).run().text();
        assert!(text.is_ascii() && !text.contains('?') | lesson.text.contains('?'), "{text}");
    }
}

#[test]
fn the_language_is_that_of_the_locale_if_there_are_lessons_in_it() {
    for language in languages() {
        let locale = format!("{language}_XX.UTF-8");
        let by_locale = matchstick(["explain"]).env("LC_ALL", &locale).run().text();
        let by_name = matchstick(["explain", "--lang", &language]).env("LC_ALL", "C.UTF-8").run().text();
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
        (&["explain", "cgruop"], "is it cgroups?"),
        (&["explain", "exts"], "is it vm-exit?"),
        (&["explain", "xyzzy"], "no lesson on \"xyzzy\""),
        (&["explain", "--lang", "xx", "kvm"], "no lessons in \"xx\": there are en (English), ko (한국어)"),
        (&["explain", "kvm", "ring"], "unexpected argument \"ring\""),
        (&["explain", "--all"], "invalid option '--all'"),
    ] {
        matchstick(args).run().printed("").fails(125, error, hint);
    }
}

#[test]
fn words_that_people_type_lead_to_the_lesson() {
    for (word, title) in [
        ("lsns", "Namespaces: what a process can see"),
        ("k8s", "Kubernetes: where a VM would plug in"),
        ("pod", "Kubernetes' objects, and what lies below them"),
        ("drift", "Images: layers, golden images, drift"),
        ("네임스페이스", "Namespaces: what a process can see"),
    ] {
        let ended = matchstick(["explain", "--lang=en", word]).env("LC_ALL", "C.UTF-8").run();
        assert_eq!(ended.silent().status(0).text().lines().next(), Some(title), "{word}");
    }
}

#[test]
fn every_lesson_is_given_where_there_is_nothing_to_measure() {
    if !runs(&["unshare", "-rm", "true"]) {
        return skip("no user and mount namespace of our own");
    }
    let topics: Vec<String> = lessons("en").into_iter().map(|lesson| lesson.topic).collect();
    let script = format!(
        "mount -t tmpfs none /dev; mount -t tmpfs none /sys; mount -t tmpfs none /proc
         for topic in {}; do \"$0\" explain --lang en $topic; done",
        topics.join(" ")
    );
    let ended =
        Program::new("unshare").args(["-rm", "sh", "-ec", &script, env!("CARGO_BIN_EXE_matchstick")]).run();
    ended.silent().status(0);
    let text = ended.text();
    for lesson in lessons("en") {
        assert!(text.contains(lesson.title()), "{} is missing", lesson.topic);
    }
    assert!(text.contains("Where there is a KVM, matchstick explain vm-exit measures one exit"), "{text}");
}
