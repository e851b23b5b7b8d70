//! The race as a user runs it: what it prints, writes, refuses, and leaves behind, which is nothing.

use crate::support::image::{Segment, elf};
use crate::support::{Program, has_kvm, is_set, matchstick, skip};
use matchstick::bench::{Payload, Scratch, quantile, subjects};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

/// A race whose own directory is made in `dir`.
fn bench(dir: &TempDir, args: &[&str]) -> Program {
    let temporary = dir.path().join("tmp");
    fs::create_dir_all(&temporary).unwrap();
    matchstick(["bench"]).args(args).env("TMPDIR", temporary)
}

/// Asserts that the race left nothing in its directory.
#[track_caller]
fn left_nothing(dir: &TempDir) {
    let left: Vec<_> = fs::read_dir(dir.path().join("tmp")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn names(results: &Value) -> Vec<&str> {
    results.as_array().unwrap().iter().map(|entry| entry["command"].as_str().unwrap()).collect()
}

#[test]
fn a_race_prints_a_table_and_writes_its_files() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name).display().to_string();
    let (data, list, page) = (file("a.json"), file("a.csv"), file("a.md"));
    fs::write(&data, "what was here before and is longer than nothing").unwrap();
    let args = ["-r", "12", "--warmup=1", "--seed=7", "--only", "process", "--with", "echo=/bin/echo hi"];
    let exports = ["--export-json", &data, "--export-csv", &list, "--export-markdown", &page];
    let ended = bench(&dir, &[&args[..], &exports].concat()).run();
    ended.silent().status(0);
    let text = ended.text();
    for part in [
        "processor ",
        "shuffled by seed 7",
        "\nprocess ",
        "\necho ",
        "\nlauncher ",
        "This says how long a start and an end around one line of output take, once",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    left_nothing(&dir);

    let report = json(Path::new(&data));
    assert_eq!(names(&report["results"]), ["process", "echo"]);
    assert_eq!((&report["rounds"], &report["seed"]), (&12.into(), &7.into()));
    for entry in report["results"].as_array().unwrap() {
        // What hyperfine's scripts read.
        for field in ["mean", "stddev", "median", "user", "system", "min", "max"] {
            assert!(entry[field].is_f64(), "{field}: {entry}");
        }
        for field in ["times", "exit_codes", "samples"] {
            assert_eq!(entry[field].as_array().unwrap().len(), 12, "{field}");
        }
        for sample in entry["samples"].as_array().unwrap() {
            assert!(sample["first_byte"].as_f64().unwrap() <= sample["reaped"].as_f64().unwrap());
        }
    }
    let places = |entry: usize| {
        let samples = report["results"][entry]["samples"].as_array().unwrap();
        samples.iter().map(|sample| sample["place"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    // The third is the baseline.
    let is_round = |(one, other): (&u64, u64)| *one != other && one.max(&other) < &3;
    assert!(places(0).iter().zip(places(1)).all(is_round), "not interleaved");
    assert!(!report["machine"]["kernel"].as_str().unwrap().is_empty());

    let list = fs::read_to_string(list).unwrap();
    assert!(list.starts_with("command,mean,stddev,median,user,system,min,max,"));
    assert_eq!(list.lines().count(), 3);
    let page = fs::read_to_string(page).unwrap();
    assert!(page.contains("\n| process | ") && page.contains("\n- kernel: Linux "), "{page}");
}

/// Chromium, with a home of its own in `dir`; `None` is said.
fn chromium(dir: &TempDir) -> Option<Program> {
    let path = std::env::var_os("PATH")?;
    let mut places = ["chromium", "chromium-browser", "google-chrome"]
        .into_iter()
        .flat_map(|name| std::env::split_paths(&path).map(|dir| dir.join(name)).collect::<Vec<_>>());
    let Some(program) = places.find(|path| path.exists()) else {
        assert!(!is_set("REQUIRE_CHROMIUM"), "there is no chromium");
        skip("no chromium: apt install chromium");
        return None;
    };
    let home = dir.path().join("home").display().to_string();
    let profile = format!("--user-data-dir={home}/profile");
    let args = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", &profile];
    Some(Program::new(program).args(args).env("HOME", home).limit(Duration::from_secs(90)))
}

#[test]
fn the_page_opens_in_a_browser_with_its_plots_and_without_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let page = dir.path().join("report.html");
    let with = "--with=<b>&\"=/bin/echo hi";
    let export = ["--export-html", page.to_str().unwrap()];
    let mut args = vec!["-r20", "-w1", "--with=broken=false", with];
    // Bars, and of what is started alike curves, boxes and dots; phases are one more. Each is drawn twice, for a phone as well.
    let plots = if has_kvm() { 2 * (1 + 2 * 3 + 1) } else { 2 * (1 + 3) };
    args.push(if has_kvm() { "--only=process,vm-inproc" } else { "--only=process" });
    bench(&dir, &[&args[..], &export].concat()).run().silent().status(1);

    let text = fs::read_to_string(&page).unwrap();
    assert_eq!(text.matches("<svg role=\"img\" aria-label=").count(), plots, "{text}");
    assert!(
        !text.split("</style>").nth(1).unwrap().contains('`'),
        "what is to be typed looks otherwise on a page"
    );
    for mark in ["<script", "http://", "src=", "url(", "@import"] {
        let found = text.split(mark).skip(1).filter(|rest| !rest.starts_with("www.w3.org/2000/svg")).count();
        assert_eq!(found, 0, "the page has {mark}");
    }
    let Some(browser) = chromium(&dir) else { return };
    let address = format!("file://{}", page.display());
    let ended = browser.args(["--dump-dom", &address]).run();
    ended.status(0);
    assert!(!ended.stderr.contains("CONSOLE"), "{}", ended.stderr);
    let seen = ended.text();
    assert_eq!(seen.matches("<svg ").count(), plots);
    // Curves, boxes and dots are there, as is everything to the end of the page.
    for (part, least) in [("<polyline ", 6), ("<circle ", 40), ("<rect ", 4), ("</html>", 1)] {
        assert!(seen.matches(part).count() >= least, "too few {part}");
    }
    for part in ["&lt;b&gt;&amp;", "broken", "it ended with status 1", "processor", "own namespaces"] {
        assert!(seen.contains(part), "{part:?} is not on the page");
    }
}

#[test]
fn virtual_machines_race_and_their_phases_are_known() {
    if !has_kvm() {
        return;
    }
    for payload in ["hello", "primes"] {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("a.json");
        let subjects = ["process", "vm-inproc", "vm", "vm-restore", "vm-exec", "vm-clone", "vm-pool"];
        let only = format!("--only={}", subjects.join(","));
        let args = ["-r5", "-w1", &only, "--payload", payload, "--export-json"];
        let ended = bench(&dir, &[&args[..], &[data.to_str().unwrap()]].concat()).run();
        ended.silent().status(0);
        let report = json(&data);
        assert_eq!(names(&report["results"]), subjects);
        for process in [2, 3, 4] {
            assert!(report["results"][process]["peak_kib"].as_u64().is_some_and(|peak| peak > 500));
        }
        let phases = report["phases"].as_array().unwrap();
        assert!(phases.iter().any(|phase| phase["name"] == "KVM_CREATE_VM"), "{phases:?}");
        left_nothing(&dir);
    }
}

/// A static program that prints a line and ends well.
const SPEAKS: &[u8] =
    b"\xb8\x01\x00\x00\x00\xbf\x01\x00\x00\x00\x48\x8d\x35\x10\x00\x00\x00\xba\x03\x00\x00\x00\x0f\x05\
    \xb8\x3c\x00\x00\x00\x31\xff\x0f\x05hi\n";

#[test]
fn a_program_of_the_users_is_the_payload_of_whatever_runs_programs_and_the_others_say_why_not() {
    let dir = tempfile::tempdir().unwrap();
    let (program, data) = (dir.path().join("speaks"), dir.path().join("a.json"));
    let segment = Segment { address: 0x40_0078, bytes: SPEAKS, size: SPEAKS.len() as u64 };
    fs::write(&program, elf(0x40_0078, &[segment])).unwrap();
    let mut args = vec!["-r2", "-w0", "--payload", program.to_str().unwrap(), "--export-json"];
    args.extend([
        data.to_str().unwrap(),
        "--only=process,vm,vm-exec,vm-inproc,namespaces,unshare,bwrap,runc",
    ]);
    let ended = bench(&dir, &args).run();
    let text = ended.text();
    ended.silent().status(0);
    let report = json(&data);
    let named = |list: &str| -> Vec<String> {
        let list = report[list].as_array().unwrap().iter();
        list.map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(named("dropped"), [""; 0], "{text}");
    let (raced, missing) = (names(&report["results"]), named("missing"));
    for name in ["vm", "vm-inproc"] {
        assert!(missing.contains(&name.to_owned()), "{text}");
    }
    assert!(text.contains("it boots kernels, and no guest does what this program does: vm-exec"), "{text}");
    let mut all = vec!["process"];
    all.extend(has_kvm().then_some("vm-exec"));
    all.extend(
        is_set("REQUIRE_CONTAINERS").then_some(["namespaces", "unshare", "bwrap", "runc"]).iter().flatten(),
    );
    assert!(all.iter().all(|name| raced.contains(name)), "{text}");

    // A script and a dynamic program want more than one file.
    fs::write(&program, "#! /bin/sh -e\necho hi\n").unwrap();
    let ended = bench(
        &dir,
        &["-r1", "-w0", "--payload", program.to_str().unwrap(), "--only=process,namespaces,unshare"],
    )
    .run();
    ended.silent().status(0);
    for name in ["namespaces ", "unshare    "] {
        let why = format!("{name} its root has the payload alone, and that wants /bin/sh: a static program");
        assert!(ended.text().contains(&why), "{}", ended.text());
    }
    left_nothing(&dir);
}

#[test]
fn what_cannot_be_raced_is_refused_before_anything_is_started() {
    let dir = tempfile::tempdir().unwrap();
    let help = "`matchstick bench --help`";
    for (args, error, hint) in [
        (&["--runs", "0"][..], "1 or more", help),
        (&["--runs", "many"], "1 or more", help),
        (&["--time", "0"], "more than nothing", help),
        (&["--warmup", "-1"], "a whole number, 0 or more", help),
        (&["--only", "docket"], "no such subject: docket; there are process, ", help),
        (&["--skip", "docket"], "no such subject: docket", help),
        (&["--only", "vm", "--skip", "vm"], "no subject is left to race", help),
        (&["--reference", "vm", "--only", "process"], "the reference vm does not take part", help),
        (&["--with", "qemu"], "it is NAME=COMMAND", help),
        (&["--with", "vm=true"], "two subjects are called vm", help),
        (&["--with", "a='b"], "a quote is left open", help),
        (&["--compare=a.json", "isolation"], "`bench isolation` takes no --compare", help),
        (&["isolation", "--export-svg=a.svg"], "`bench isolation` takes no --export-svg", help),
        (
            &["memory", "--export-json", "/nonexistent/a.json"],
            "cannot write /nonexistent/a.json: No such file",
            "directory",
        ),
        (&["memory", "--pin", "999"], "`bench memory` takes no --pin", help),
        (&["memory", "--time=1", "-r4"], "`bench memory` takes no --time", help),
        (&["memory", "-r3"], "`bench memory` takes --runs 4 or more", help),
        (&["--payload", "nope", "isolation"], "`bench isolation` takes no --payload", help),
        (&["isolation", "--reference=vm", "--only=process"], "`bench isolation` takes no --reference", help),
        (&["isolation", "--cold", "-t1", "--seed=3"], "`bench isolation` takes no --cold", help),
        (&["isolation", "-w1"], "`bench isolation` takes no --warmup", help),
        (&["parallel", "-r5"], "`bench parallel` takes no --runs", help),
        (&["parallel", "--with", "a=b"], "`bench parallel` takes no --with", help),
        (&["vm"], "it is isolation, memory or parallel, or nothing", help),
        (
            &["--export-json", "/nonexistent/a.json"],
            "cannot write /nonexistent/a.json: No such file",
            "directory",
        ),
        (&["--compare", "/nonexistent"], "cannot compare with /nonexistent: No such file", "--export-json"),
        (&["--export-csv", "/"], "cannot write /: Is a directory", "directory"),
        (
            &["--compare", "/dev/zero"],
            "cannot compare with /dev/zero: it is not a regular file",
            "--export-json",
        ),
        (&["--payload", "/dev/zero"], "/dev/zero is no payload: it is not a regular file", "--payload takes"),
        (
            &["--payload", "/etc/passwd"],
            "/etc/passwd is no payload: it does not begin with 7f 45 4c 46",
            "--payload takes",
        ),
        (&["--payload", "/"], "/ is no payload: it is not a regular file", "--payload takes"),
    ] {
        let ended = bench(&dir, args).run();
        ended.fails(125, error, hint);
        assert!(ended.took < Duration::from_secs(5), "{args:?} raced first");
        left_nothing(&dir);
    }
    bench(&dir, &["--pin", "100000"]).run().fails(126, "bind", "");
    // Nothing stays of files that come to be for nothing; and one is not for two things.
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    let [one, two] = [&one, &two].map(|path| path.to_str().unwrap());
    let ended = bench(&dir, &["--export-csv", one, "--export-json", one]).run();
    ended.fails_without_hint(125, "meant for two things");
    let ended = bench(&dir, &["--payload", "/", "--export-csv", one, "--export-json", two]).run();
    ended.fails(125, "is no payload", "--payload takes");
    assert!(!fs::exists(one).unwrap() && !fs::exists(two).unwrap());
    bench(&dir, &["--payload", "/nonexistent"]).run().status(127).says("error: cannot open /nonexistent");
    let other = dir.path().join("other.json");
    for (text, why) in
        [("{}", "missing field"), ("{\"format\": 1}", "it has form 1, and this matchstick reads form 3")]
    {
        fs::write(&other, text).unwrap();
        bench(&dir, &["--compare", other.to_str().unwrap()]).run().fails(125, why, "--export-json");
    }
    fs::File::create(&other).unwrap().set_len(8 << 30).unwrap();
    let ended = bench(&dir, &["--compare", other.to_str().unwrap()]).run();
    ended.fails(125, "it is larger than 64 MiB", "--export-json");
    let ended = bench(&dir, &["--payload", other.to_str().unwrap()]).run();
    ended.fails(125, "is no payload: it is larger than 256 MiB", "--payload takes");
    left_nothing(&dir);
    let ended = matchstick(["bench", "-r1", "--only=process"]).env("TMPDIR", "/nonexistent").run();
    ended.fails(126, "cannot make a directory for the race: No such file", "TMPDIR");
}

#[test]
fn a_subject_that_hangs_or_fails_is_dropped_and_the_rest_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("a.json");
    let with = [
        "--with=hangs=sleep 1000",
        "--with=fails=/bin/sh -c 'echo alas >&2; exit 3'",
        "--with=mute=true",
        "--with=absent=nonsense-that-is-not",
    ];
    let args = ["-r", "6", "-w", "0", "--limit", "200ms", "--only", "process", "--export-json"];
    let ended = bench(&dir, &[&args[..], &[data.to_str().unwrap()], &with].concat()).run();
    ended.silent().status(1);
    let text = ended.text();
    for line in [
        "hangs       dropped after 3 failures: it did not end within 200ms\n",
        "fails       dropped after 3 failures: it ended with status 3\n            | alas\n",
        "mute        dropped after 3 failures: it printed nothing\n",
        "absent      there is no nonsense-that-is-not: ",
    ] {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }
    let report = json(&data);
    assert_eq!(names(&report["results"]), ["process"]);
    assert_eq!(report["results"][0]["times"].as_array().unwrap().len(), 6);
    left_nothing(&dir);
}

#[test]
fn a_race_too_short_to_drop_anyone_still_names_who_failed_each_time() {
    let dir = tempfile::tempdir().unwrap();
    let ended = bench(&dir, &["-r1", "-w0", "--only=process", "--with=fails=false"]).run();
    ended.silent().status(1);
    assert!(
        ended.text().contains("fails       dropped after a failure: it ended with status 1\n"),
        "{ended:?}"
    );
    // Its third start fails; the first is for its peak memory.
    let mark = dir.path().join("mark");
    let once =
        "echo x >> MARK; test $(wc -l < MARK) -ne 3 && echo hi".replace("MARK", mark.to_str().unwrap());
    let once = format!("--with=once=/bin/sh -c '{once}'");
    let ended = bench(&dir, &["-r2", "-w0", "--only=process", &once]).run();
    ended.silent().status(0);
    for line in ["once        1 more start failed\n", "once        1 run says little"] {
        assert!(ended.text().contains(line), "{ended:?}");
    }
    // Nobody has figures: then there is no table of them.
    let ended = bench(&dir, &["-r2", "-w0", "--only=fails", "--with=fails=false"]).run();
    ended.silent().status(1);
    assert!(ended.text().contains("fails       dropped after 2 failures"), "{ended:?}");
    assert!(!ended.text().contains("first byte reaped"), "{ended:?}");
    left_nothing(&dir);
}

#[test]
fn nobody_with_figures_is_a_failure_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    bench(&dir, &["--only=process", "--skip=process", "--with=absent=nonsense-that-is-not"])
        .run()
        .silent()
        .status(1);
}

#[test]
fn a_full_disk_is_told_and_the_table_is_still_printed() {
    let dir = tempfile::tempdir().unwrap();
    let ended = bench(&dir, &["-r3", "--only=process", "--export-json=/dev/full"]).run();
    ended.fails(125, "cannot write /dev/full: No space left", "make room");
    assert!(ended.text().contains("\nprocess "));
    left_nothing(&dir);
}

#[test]
fn an_interrupted_race_writes_what_it_has_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("a.json");
    let mark = dir.path().join("mark");
    // It leaves a mark when it is started for the fifth time.
    let script = format!(
        "--with=sh=/bin/sh -c 'echo x >> {0}; test $(wc -l < {0}) -lt 5 || sleep 1000; echo hi'",
        mark.display()
    );
    let args = [
        "-r",
        "1000",
        "-w0",
        "--only=process",
        "--limit=1000s",
        &script,
        "--export-json",
        data.to_str().unwrap(),
    ];
    let race = bench(&dir, &args).start();
    let begin = std::time::Instant::now();
    while fs::read_to_string(&mark).unwrap_or_default().lines().count() < 5 {
        assert!(begin.elapsed() < Duration::from_secs(25), "it does not start");
        std::thread::yield_now();
    }
    race.signal(2);
    let ended = race.end();
    ended.killed_by(2);
    assert!(ended.text().contains("it was interrupted"), "{}", ended.text());
    let report = json(&data);
    assert_eq!(report["interrupted"], true);
    let lengths: Vec<usize> = report["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["times"].as_array().unwrap().len())
        .collect();
    assert!(lengths.iter().all(|length| (2..=5).contains(length)), "{lengths:?}");
    left_nothing(&dir);
}

#[test]
fn no_signal_that_ends_a_race_finds_it_unprepared() {
    for signal in [1, 2, 3, 15] {
        let dir = tempfile::tempdir().unwrap();
        let race = bench(&dir, &["-r1000", "-w0", "--only=process", "--limit=1000s", "--with=a=sleep 1000"]);
        let race = race.start();
        let begin = std::time::Instant::now();
        // As early as there is something to be removed.
        while fs::read_dir(dir.path().join("tmp")).unwrap().next().is_none() {
            assert!(begin.elapsed() < Duration::from_secs(25), "it does not start");
            std::thread::yield_now();
        }
        race.signal(signal);
        race.end().killed_by(signal);
        left_nothing(&dir);
    }
}

#[test]
fn then_and_now_are_compared() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("a.json").display().to_string();
    let race = ["-r", "20", "--only", "process", "--with", "other=/bin/echo hi"];
    bench(&dir, &[&race[..], &["--export-json", &data]].concat()).run().silent().status(0);
    // Then, everything took a thousandth of the time: no load on this machine can make up for that.
    let mut then = json(Path::new(&data));
    for time in then["results"][1]["times"].as_array_mut().unwrap() {
        *time = Value::from(time.as_f64().unwrap() / 1000.0);
    }
    then["machine"]["kernel"] = "4.17".into();
    fs::write(&data, then.to_string()).unwrap();
    let ended = bench(&dir, &[&race[..], &["--compare", &data]].concat()).run();
    ended.silent().status(0);
    let text = ended.text();
    let after = text.split_once("Then and now").unwrap_or_else(|| panic!("{text}")).1;
    let other = after.lines().find(|line| line.starts_with("other ")).unwrap();
    assert!(other.contains("slower: over 99.9 % likely") && other.ends_with(" < 0.0001"), "{after}");
    assert!(after.contains("another machine: kernel: \"4.17\" then, "), "{after}");

    // The page and the Markdown have it as well.
    let files = ["a.html", "a.md"].map(|name| dir.path().join(name).display().to_string());
    let exports = ["--compare", &data, "--export-html", &files[0], "--export-markdown", &files[1]];
    bench(&dir, &[&race[..], &exports].concat()).run().silent().status(0);
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for part in ["Then and now", "slower: over 99.9 % likely", "another machine: kernel: ", "4.17"] {
            assert!(text.contains(part), "{part:?} is not in {file}");
        }
    }

    // More starts than anybody waits for.
    let times = vec![0.001; 1_000_001];
    then["results"][1]["times"] = times.into();
    fs::write(&data, then.to_string()).unwrap();
    let ended = bench(&dir, &[&race[..], &["--compare", &data]].concat()).run();
    ended.fails(125, "it has 1000021 starts, and 1000000 are the most", "--export-json");
}

#[test]
fn few_rounds_have_no_intervals_and_rank_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("a.json");
    let race = |rounds: &str| {
        let with = [
            "--with=slow=/bin/sh -c 'echo a; sleep 0.02'",
            "--only=process,namespaces",
            "--with=quick=/bin/echo hi",
        ];
        let export = ["-w1", rounds, "--export-json", data.to_str().unwrap()];
        let ended = bench(&dir, &[&with[..], &export].concat()).run();
        ended.silent().status(0);
        (ended.text().to_owned(), json(&data))
    };
    let (text, report) = race("-r1");
    assert!(text.contains("payload hello, 1 round after 1 of warm-up"), "{text}");
    assert!(text.contains("Of 2 commands none is ranked: that takes 6 rounds or more."), "{text}");
    for entry in report["results"].as_array().unwrap() {
        assert!(entry["figures"]["reaped"]["interval"].is_null() && entry["stddev"].is_null(), "{entry}");
    }
    let (text, report) = race("-r9");
    assert!(text.contains("Of 2 commands, quick was reaped first: "), "{text}");
    let entries = report["results"].as_array().unwrap();
    let ratios = |name: &str| &entries.iter().find(|entry| entry["command"] == name).unwrap()["ratios"];
    // What a process starts itself is not compared with what is executed, and the reference not with itself.
    assert!(ratios("process").is_null());
    assert_eq!((&ratios("quick")["to"], &ratios("slow")["to"]), (&"process".into(), &"process".into()));
    assert!(ratios("slow")["paired"]["interval"]["low"].as_f64().unwrap() > 1.0);
    if names(&report["results"]).contains(&"namespaces") {
        assert!(ratios("namespaces").is_null());
        assert_eq!(report["references"], serde_json::json!(["process", "namespaces"]));
        assert!(text.contains("\nWhat a process that runs already can start"), "{text}");
    }
    assert!(report["command"].as_str().unwrap().starts_with("matchstick bench '--with=slow="), "{report}");
}

#[test]
fn what_is_not_a_race_has_files_as_well_and_what_is_not_known_is_empty_in_them() {
    let dir = tempfile::tempdir().unwrap();
    for (what, more, unit) in [
        ("isolation", &["--limit=60"][..], "kernel"),
        ("memory", &["-r4"], "PSS"),
        ("parallel", &["-t1"], "a second"),
    ] {
        let file = |ending: &str| dir.path().join(format!("{what}.{ending}")).display().to_string();
        let forms = ["json", "csv", "markdown", "html", "svg"]
            .into_iter()
            .filter(|form| what != "isolation" || *form != "svg");
        let exports: Vec<String> = forms.map(|form| format!("--export-{form}={}", file(form))).collect();
        let mut args = vec![what, "--only=process,youki,namespaces,runc"];
        if what == "memory" {
            args[1] = "--only=process,namespaces";
        }
        args.extend(more);
        args.extend(exports.iter().map(String::as_str));
        bench(&dir, &args).run().silent().status(0);
        let read = |form: &str| fs::read_to_string(file(form)).unwrap();
        let report = json(Path::new(&file("json")));
        assert_eq!(report["format"], 3);
        assert!(!report[what].is_null() && !report["machine"]["kernel"].is_null(), "{report}");
        let table = read("csv");
        let width = table.lines().next().unwrap().split(',').count();
        assert!(
            table.contains("\nprocess,") && table.lines().next().unwrap().starts_with("subject,"),
            "{table}"
        );
        if what == "parallel" {
            let absent = table.lines().find(|line| line.starts_with("youki,")).unwrap();
            let nothing = format!("youki{}", ",".repeat(width - 1));
            assert!(absent.starts_with(&nothing) || find_in_path("youki"), "{table}");
        }
        for (form, mark) in [("markdown", "| process |"), ("html", "<!DOCTYPE html>")] {
            let text = read(form);
            assert!(
                text.contains(mark) && text.contains(unit) && text.contains(&format!("bench {what}")),
                "{text}"
            );
        }
        assert!(what == "isolation" || read("svg").starts_with("<svg "));
    }
    left_nothing(&dir);
}

fn find_in_path(name: &str) -> bool {
    std::env::split_paths(&std::env::var_os("PATH").unwrap()).any(|dir| dir.join(name).exists())
}

#[test]
fn cold_starts_are_apart() {
    if fs::OpenOptions::new().write(true).open("/proc/sys/vm/drop_caches").is_err() {
        return skip("no permission to empty the page cache");
    }
    let dir = tempfile::tempdir().unwrap();
    let ended = bench(&dir, &["-r2", "-w0", "--only=process", "--cold"]).run();
    ended.silent().status(0);
    assert!(ended.text().contains("\nprocess     cold: first byte "), "{}", ended.text());
}

/// Medians of times until reaped, ours and hyperfine's, in ten blocks of `starts` that take turns.
fn medians(name: &str, starts: usize) -> Option<[f64; 2]> {
    const LIMIT: Duration = Duration::from_secs(10);
    const WARMUP: usize = 3;
    let dir = tempfile::tempdir().unwrap();
    let scratch = Scratch::new().unwrap();
    let payload = Payload::new("hello", &scratch).unwrap();
    let mut subject = subjects::all(&payload).into_iter().find(|subject| subject.name() == name).unwrap();
    if let Err(missing) = subject.ready() {
        skip(&format!("{name}: {missing}"));
        return None;
    }
    let data = dir.path().join("a.json").display().to_string();
    let options = [format!("--warmup={WARMUP}"), format!("--runs={starts}"), format!("--export-json={data}")];
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..10 {
        let times = (0..WARMUP + starts).map(|_| subject.run(LIMIT).unwrap().reaped.as_secs_f64());
        ours.extend(times.skip(WARMUP));
        Program::new("hyperfine").args(["-N"]).args(&options).args([subject.command()]).run().status(0);
        let times = json(Path::new(&data))["results"][0]["times"].clone();
        theirs.extend(times.as_array().unwrap().iter().map(|time| time.as_f64().unwrap()));
    }
    Some([ours, theirs].map(|mut times| {
        times.sort_by(f64::total_cmp);
        quantile(&times, 0.5)
    }))
}

/// docs/benchmarking.md has what it printed.
#[test]
#[ignore = "it takes a quiet machine, and hyperfine"]
fn our_times_are_those_of_hyperfine() {
    for (name, starts) in [("process", 200), ("runc", 15)] {
        let Some([ours, theirs]) = medians(name, starts) else { continue };
        let ratio = ours / theirs;
        println!("{name}: {:.3} ms, hyperfine {:.3} ms, ratio {ratio:.3}", 1e3 * ours, 1e3 * theirs);
        assert!((0.95..=1.05).contains(&ratio), "{name}: {ours} s, and hyperfine says {theirs} s");
    }
}
