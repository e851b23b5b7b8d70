//! `matchstick trace`: the guest notices nothing, and nothing is left out of the story without a word.

use crate::support;
use crate::support::image::{boot_sector, code};
use crate::support::{assert_expected, file, has_kvm, keys_for, matchstick, skip};
use matchstick::guest::Guest;
use serde_json::Value;
use std::fs;

/// The lines of a story in JSON.
fn events(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

/// Those of one kind.
fn of<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["event"] == kind).collect()
}

#[test]
fn every_guest_prints_what_it_prints_without_a_trace() {
    if !has_kvm() {
        return;
    }
    for name in ["real", "protected", "long", "hello", "noop", "echo", "fault", "timer", "rings", "smp"] {
        let guest = Guest::find(name).unwrap();
        let ended = matchstick(["trace", name]).input(keys_for(guest)).run();
        ended.status(guest.exit.into()).says("KVM_CREATE_VM").says("the timer is set, and what locks");
        ended.says("Tracing itself took");
        assert_expected(guest, &ended.text());
    }
}

#[test]
fn each_exit_is_told_with_its_device_and_its_instruction() {
    if !has_kvm() {
        return;
    }
    // in al, 0x80; mov word ptr [..] would be memory; out 0xf4, al
    let image = boot_sector(&[code::SERIAL, code::PUT_A, &[0xe4, 0x80], &code::exit(9)]);
    let (_dir, path) = file(&image);
    let ended = matchstick(["trace", "--json"]).args([&path]).run();
    ended.status(9).printed("A");
    let all = events(&ended.stderr);
    // A timer may call the guest back at any time.
    let exits = of(&all, "exit").into_iter().filter(|exit| exit["reason"] != "interrupted");
    let exits: Vec<&Value> = exits.collect();
    let told: Vec<(&str, u64, &str, &str)> = exits
        .iter()
        .map(|exit| {
            let text = |key: &str| exit[key].as_str().unwrap();
            (text("reason"), exit["port"].as_u64().unwrap(), text("device"), text("instruction"))
        })
        .collect();
    let expected = [
        ("out", 0x3f8, "Serial", "out dx, al"),
        ("in", 0x80, "Post", "in al, 0x80"),
        ("out", 0xf4, "DebugExit", "out 0xf4, al"),
    ];
    // Without the feature there are the bytes at RIP.
    if cfg!(feature = "trace") {
        assert_eq!(told, expected);
        assert_eq!(exits[0]["instruction_at"], 0x7c05);
    }
    assert_eq!(exits[0]["text"], "A");
    let calls: Vec<&str> = of(&all, "call").iter().map(|call| call["call"].as_str().unwrap()).collect();
    for call in ["KVM_CREATE_VM", "KVM_ENABLE_CAP", "KVM_SET_USER_MEMORY_REGION", "KVM_CREATE_VCPU"] {
        assert!(calls.iter().any(|made| made.contains(call)), "{call} is not among {calls:?}");
    }
}

#[test]
fn the_sums_add_up() {
    if !has_kvm() {
        return;
    }
    let ended = matchstick(["trace", "hello", "--json"]).run();
    let all = events(&ended.status(0).stderr);
    let &[summary] = &of(&all, "summary")[..] else { panic!("not one summary: {}", ended.stderr) };
    let number = |key: &str| summary[key].as_u64().unwrap();
    let parts = number("guest_at_most") + number("kvm_at_least") + number("vmm");
    assert_eq!(parts, number("total"));
    assert!(number("overhead") > 0);
    let counted: u64 =
        summary["exits"].as_object().unwrap().values().map(|tally| tally["count"].as_u64().unwrap()).sum();
    assert_eq!(counted, of(&all, "exit").len() as u64);
    // In the order in which they ended; none begins before the first or ends after the last.
    assert!(of(&all, "exit").windows(2).all(|pair| pair[0]["at"].as_u64() < pair[1]["at"].as_u64()));
}

#[test]
fn a_flood_of_exits_is_bounded_and_says_so() {
    if !has_kvm() {
        return;
    }
    // again: mov al, cl; out 0x80, al; loop again: 50,000 times, then once more
    let flood = [&code::count(50_000)[..], &[0x88, 0xc8, 0xe6, 0x80, 0xe2, 0xfa]].concat();
    let image = boot_sector(&[&flood, &flood, &code::exit(0)]);
    let (_dir, path) = file(&image);
    let limit = std::time::Duration::from_secs(120);
    let ended = matchstick(["trace", "--json"]).args([&path]).limit(limit).run();
    let all = events(&ended.status(0).stderr);
    let &[summary] = &of(&all, "summary")[..] else { panic!("not one summary") };
    assert_eq!(summary["exits"]["out"]["count"], 100_001);
    let dropped = of(&all, "dropped")[0]["count"].as_u64().unwrap();
    assert_eq!(summary["dropped"], dropped);
    assert!(dropped > 70_000, "{dropped}");
    assert!(all.len() < 30_000, "{}", all.len());
    // The end of a run is what one looks for: it is there.
    let last = of(&all, "exit").into_iter().next_back().unwrap();
    assert_eq!(last["port"], 0xf4);
    // The same as text: told in a few lines.
    let ended = matchstick(["trace"]).args([&path]).limit(limit).run();
    ended.status(0).says("events were dropped here").says("  × ");
    assert!(ended.stderr.lines().count() < 300, "{}", ended.stderr.lines().count());
}

#[test]
fn files_for_viewers_are_written() {
    if !has_kvm() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let [story, chrome, html] = ["story", "chrome.json", "page.html"].map(|name| dir.path().join(name));
    let ended = matchstick(["trace", "hello", "-o"])
        .args([&story])
        .args(["--chrome"])
        .args([&chrome])
        .args(["--html"])
        .args([&html])
        .run();
    ended.status(0).silent().printed("Hello from a virtual machine!\n");
    assert!(fs::read_to_string(&story).unwrap().contains("KVM_RUN ▶ out to port 0x3f8 → Serial"));
    let chrome: Value = serde_json::from_slice(&fs::read(&chrome).unwrap()).unwrap();
    let events = chrome["traceEvents"].as_array().unwrap();
    let bars: Vec<&Value> = events.iter().filter(|event| event["ph"] == "X").collect();
    assert!(bars.len() > 10);
    // What a viewer needs of each (Trace Event Format, "Complete Events").
    for bar in bars {
        assert!(bar["name"].is_string() && bar["ts"].is_number() && bar["dur"].is_number(), "{bar}");
        assert!(bar["pid"].is_number() && bar["tid"].is_number(), "{bar}");
    }
    let html = fs::read_to_string(&html).unwrap();
    assert!(html.starts_with("<!DOCTYPE html>") && html.contains("Hello from a virtual machine!"));
}

#[test]
fn a_crash_comes_with_its_story_and_its_status() {
    if !has_kvm() {
        return;
    }
    let ended = matchstick(["trace", "fault", "--", "triple"]).run();
    ended.status(123).says("error: guest crashed").says("KVM_RUN ▶ triple fault");
    matchstick(["trace", "-q", "hello"]).run().status(0).silent();
}

#[test]
fn a_golden_image_is_told_as_well() {
    if !has_kvm() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let golden = dir.path().join("golden.ms");
    matchstick(["snapshot", "primes", "-o"]).args([&golden]).run().status(0);
    let ended = matchstick(["trace"]).args([&golden]).run();
    ended.status(0).printed("2262 primes below 20000\n").says("as its golden image has it").says("→ Serial");
}

#[test]
fn what_cannot_be_written_is_known_before_the_guest_starts() {
    let directory = tempfile::tempdir().unwrap();
    for option in ["--output", "--chrome", "--html"] {
        let ended = matchstick(["trace", "hello", option]).args([directory.path()]).run();
        ended.printed("").fails(125, "cannot write", "it goes to a file that you may write");
        let nowhere = directory.path().join("no/such");
        let ended = matchstick(["trace", "hello", option]).args([nowhere]).run();
        ended.printed("").fails(125, "cannot write", "it goes to a file that you may write");
        // Nor is an older one lost to a guest that is not there.
        let kept = directory.path().join("kept");
        std::fs::write(&kept, "an older story").unwrap();
        matchstick(["trace", "no-such-guest", option]).args([&kept]).run().printed("").status(127);
        assert_eq!(std::fs::read_to_string(&kept).unwrap(), "an older story");
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "what was not written to is gone");
    if !has_kvm() {
        return;
    }
    matchstick(["trace", "hello", "-o", "/dev/full"]).run().status(125).says("No space left");
    // One that fails keeps neither the others back nor how the guest ended.
    let story = directory.path().join("story");
    let full = ["trace", "fault", "--chrome", "/dev/full", "-o"];
    let ended = matchstick(full).args([&story]).args(["--", "triple"]).run();
    ended.status(125).says("No space left").says("guest crashed: triple fault");
    assert!(std::fs::read_to_string(&story).unwrap().contains("KVM_CREATE_VM"));
}

#[test]
fn a_file_is_written_for_one_thing_only() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("one");
    let ended = matchstick(["trace", "hello", "-o"]).args([&path]).args(["--html"]).args([&path]).run();
    ended.printed("").fails_without_hint(125, "meant for two things");
    std::fs::write(&path, boot_sector(&[code::SERIAL])).unwrap();
    matchstick(["trace", "-o"])
        .args([&path, &path])
        .run()
        .printed("")
        .fails_without_hint(125, "it is the image");
    assert_eq!(std::fs::read(&path).unwrap().len(), 512);
    // A device is for as many as like; and a file that has a guest's name is not the guest.
    std::fs::write(directory.path().join("hello"), "an older story").unwrap();
    for outputs in ["-o /dev/null --html /dev/null", "-o hello"] {
        let line = format!("cd \"$1\" && exec \"$0\" trace hello {outputs}");
        let shell = support::Program::new("sh").args(["-c", &line, env!("CARGO_BIN_EXE_matchstick")]);
        shell.args([directory.path()]).run().status(if has_kvm() { 0 } else { 126 });
    }
    let strict = matchstick(["trace", "--gdb", "0", "--sandbox", "strict"]).run();
    strict.fails(125, "--gdb runs without the sandbox", "");
}

#[test]
fn time_and_signals_end_a_trace_and_the_story_is_told() {
    if !has_kvm() {
        return;
    }
    let (_dir, path) = file(&boot_sector(&[code::SERIAL, code::PUT_A, code::LOOP]));
    let ended = matchstick(["trace", "--timeout", "0.2"]).args([&path]).run();
    ended.status(124).printed("A").says("did not end within its time").says("called back by a signal");
    let running = matchstick(["trace"]).args([&path]).start();
    running.stdout.wait_for("A");
    running.signal(libc::SIGTERM);
    running.end().killed_by(libc::SIGTERM).says("Tracing itself took");
}

/// The notes on the way of a guest, in their order; empty where this KVM does not stop for steps.
fn notes(guest: &str) -> Vec<String> {
    let ended = matchstick(["trace", "--step", "--json", guest]).run();
    if ended.stderr.contains("error: cannot step through the guest") {
        skip("this KVM does not single-step");
        return Vec::new();
    }
    assert_expected(Guest::find(guest).unwrap(), &ended.status(0).text());
    let all = events(&ended.stderr);
    let notes = |step: &&Value| step["notes"].as_array().unwrap().clone();
    of(&all, "step").iter().flat_map(notes).map(|note| note.as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_way_to_long_mode_is_told_in_its_order() {
    if !has_kvm() {
        return;
    }
    let notes = notes("long");
    let expected = [
        "CR0.PE 0 → 1",
        "CS.D 0 → 1",
        "CR4.PAE 0 → 1",
        "the page tables begin at 0x1000",
        "EFER.LME 0 → 1",
        "CR0.PG 0 → 1",
        "EFER.LMA 0 → 1",
        "CS.L 0 → 1",
        "the mode is long, 64-bit code now",
    ];
    let mut rest = notes.iter();
    for start in expected.iter().filter(|_| !notes.is_empty()) {
        assert!(rest.any(|note| note.starts_with(start)), "{start} is not in its place in {notes:#?}");
    }
}

#[test]
fn a_guest_in_real_mode_stays_there() {
    if has_kvm() {
        assert_eq!(notes("real"), [""; 0]);
    }
}

#[test]
fn each_step_is_told_with_what_it_changed() {
    if !has_kvm() {
        return;
    }
    // mov ax, 7; inc ax; out 0x80, al; in al, 0x80; out 0xf4, al
    let image = boot_sector(&[&[0xb8, 7, 0, 0x40, 0xe6, 0x80, 0xe4, 0x80, 0xe6, 0xf4]]);
    let (_dir, path) = file(&image);
    let ended = matchstick(["trace", "--step", "--json"]).args([path]).run();
    if ended.stderr.contains("error: cannot step through the guest") {
        return skip("this KVM does not single-step");
    }
    let all = events(&ended.status(8).stderr);
    let steps = of(&all, "step");
    let at: Vec<u64> = steps.iter().map(|step| step["rip"].as_u64().unwrap()).collect();
    assert_eq!(at, [0x7c00, 0x7c03, 0x7c04, 0x7c06, 0x7c08]);
    let change = |step: usize| steps[step]["changes"][0].clone();
    assert_eq!(change(0), serde_json::json!({ "register": "rax", "before": 0, "after": 7 }));
    assert_eq!(change(1), serde_json::json!({ "register": "rax", "before": 7, "after": 8 }));
    assert_eq!(of(&all, "summary")[0]["steps"], 5);
    matchstick(["trace", "--step", "--html", "x"]).run().fails(
        125,
        "--step has no times",
        "`matchstick trace --help`",
    );
}

#[test]
fn what_puts_a_story_in_its_place_has_nothing_else() {
    if !has_kvm() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("story");
    let running = matchstick(["trace", "echo", "-o"]).args([&path]).open_input().start();
    running.stdout.wait_for("end with Ctrl-D");
    let tasks = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", running.id())).unwrap();
    let children: Vec<&str> = tasks.split_whitespace().collect();
    let &[child] = children.as_slice() else { panic!("{children:?}") };
    let links = std::fs::read_dir(format!("/proc/{child}/fd")).unwrap();
    let links: Vec<_> = links.map(|entry| std::fs::read_link(entry.unwrap().path()).unwrap()).collect();
    let pipes = links.iter().filter(|link| link.to_string_lossy().starts_with("pipe:")).count();
    let files = links.iter().filter(|link| link.starts_with(dir.path())).count();
    assert_eq!((pipes, files, links.len()), (2, 1, 3), "{links:?}");
    // It ends with the one it is for, whatever ends that.
    running.signal(libc::SIGKILL);
    running.end();
    while std::fs::read_to_string(format!("/proc/{child}/stat")).is_ok_and(|stat| !stat.contains(") Z")) {
        std::thread::yield_now();
    }
    assert!(!path.exists());
}
