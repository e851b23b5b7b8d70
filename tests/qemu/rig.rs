//! The gallery and the cases of `tests/rig/cases` on a real kvm_amd: Linux's own, on a processor that QEMU
//! emulates. `tests/rig/run` starts it; here is judged what it says.
//!
//! Where the parts are missing the test says so and passes; `REQUIRE_RIG=1` makes it fail.

use crate::support::{is_match, is_set, skip};
use matchstick::guest::{GALLERY, Guest};
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// What `tests/rig/run` ends with when the host lacks something.
const MISSING: i32 = 77;

/// A command, and what must come of it.
struct Case {
    name: String,
    command: String,
    status: i32,
    /// All lines of its stdout, with `*` for any characters.
    output: Vec<String>,
    /// Some lines of its stderr.
    errors: Vec<String>,
}

/// What came of it.
#[derive(Default, Debug)]
struct Record {
    name: String,
    status: Option<i32>,
    milliseconds: u32,
    output: Vec<String>,
    errors: Vec<String>,
}

/// How a case ends that is killed because it takes too long.
const KILLED: i32 = 137;

/// How a console begins to end that did not come to its end.
const BROKEN: &str = "RIG-BROKEN";

#[test]
fn every_case_ends_as_it_should_on_kvm_amd() {
    let mut cases = parse_cases(&fs::read_to_string("tests/rig/cases").unwrap());
    cases.extend(GALLERY.iter().map(|guest| gallery_case(guest, "")));
    let elf = GALLERY.iter().filter(|guest| guest.image.starts_with(b"\x7fELF"));
    cases.extend(elf.map(|guest| gallery_case(guest, "pvh")));

    let there = put_programs(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("rig-files"));
    cases.retain(|case| {
        let mut wanted = case.command.split([' ', ';']).filter_map(|word| word.strip_prefix("/programs/"));
        let missing = wanted.find(|&name| !there.iter().any(|program| program == name));
        missing.is_none_or(|name| {
            println!("{} is left out, as there is no compiler for {name}", case.name);
            false
        })
    });
    let Some(mut console) = run_rig(cases.iter().collect()) else { return };
    let mut records = parse_console(&console);
    // Both machines, the emulated one and a Linux in it, stand still at times: docs/linux.md tells what is known. What
    // was not come to, or was killed at its limit, gets a second boot, and only one.
    let has_ended = |record: &Record| record.status.is_some_and(|status| status != KILLED);
    records.retain(has_ended);
    let is_left = |case: &&Case| records.iter().all(|record| record.name != case.name);
    let left: Vec<&Case> = cases.iter().filter(is_left).collect();
    if let Some(first) = left.first() {
        println!(
            "{} of {} cases, from {} on, get a second boot of the rig",
            left.len(),
            cases.len(),
            first.name
        );
        console = run_rig(left).expect("the rig was there before");
        records.extend(parse_console(&console));
    }
    let mut failures = String::new();
    for case in &cases {
        if let Err(why) = judge(case, &records) {
            let _ = writeln!(failures, "{} FAILED: {}\n{why}", case.name, case.command);
        }
    }
    let remarks = console.lines().filter(|line| line.starts_with(BROKEN) || line.starts_with("RIG-KERNEL"));
    let remarks: Vec<_> = remarks.collect();
    assert!(failures.is_empty(), "on kvm_amd, in the rig:\n\n{failures}{}", remarks.join("\n"));
    let total: u32 = records.iter().map(|record| record.milliseconds).sum();
    println!("{} cases on kvm_amd, {total} ms", cases.len());
}

/// Compiles programs of tests/linux-programs to /programs below `root`, static and, with what they need, dynamic ones;
/// returns which there are.
fn put_programs(root: &Path) -> Vec<String> {
    let _ = fs::remove_dir_all(root);
    fs::create_dir_all(root.join("programs")).unwrap();
    let compiled = |compiler: &str, source: &str, name: &str, options: &[&str]| {
        let target = root.join("programs").join(name);
        let source = format!("tests/linux-programs/{source}.c");
        let command = Command::new(compiler)
            .args(["-O1", "-w", "-pthread", "-o"])
            .arg(&target)
            .arg(source)
            .args(options)
            .output();
        command.is_ok_and(|output| output.status.success()).then(|| name.to_owned())
    };
    let mut there = Vec::new();
    there.extend(compiled("gcc", "bare", "bare", &["-nostdlib", "-static", "-fno-stack-protector"]));
    for source in ["numbers", "memory", "signals", "processes", "ends", "ignored", "lent"] {
        there.extend(compiled("gcc", source, source, &["-static"]));
    }
    there.extend(compiled("musl-gcc", "numbers", "numbers-musl", &["-static"]));
    for source in ["numbers", "processes"] {
        let name = format!("{source}-dynamic");
        if compiled("gcc", source, &name, &[]).is_some_and(|name| put_libraries(root, &name)) {
            there.push(name);
        }
    }
    there
}

/// Puts the interpreter and the libraries of a program below `root`, by the names that it has for them.
fn put_libraries(root: &Path, name: &str) -> bool {
    let Ok(output) = Command::new("ldd").arg(root.join("programs").join(name)).output() else { return false };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().filter(|word| word.starts_with('/')).all(|path| {
        let target = root.join(path.trim_start_matches('/'));
        fs::create_dir_all(target.parent().expect("a directory")).unwrap();
        fs::copy(path, target).is_ok()
    })
}

/// Starts the rig; `None` when it cannot be started here and need not.
fn run_rig(cases: Vec<&Case>) -> Option<String> {
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let list: String = cases.iter().map(|case| format!("{}: {}\n", case.name, case.command)).collect();
    fs::write(scratch.join("rig-cases"), list).unwrap();
    let output = Command::new("tests/rig/run")
        .arg(env!("CARGO_BIN_EXE_matchstick"))
        .args([scratch.join("rig-cases"), scratch.join("rig")])
        .env("RIG_FILES", scratch.join("rig-files"))
        .stdin(Stdio::null())
        .output()
        .expect("tests/rig/run can be started");
    let (console, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    match output.status.code() {
        Some(0) => {}
        Some(MISSING) if !is_set("REQUIRE_RIG") => {
            skip(errors.trim());
            return None;
        }
        // The cases that it came to are worth more than the news that it did not come to all.
        _ if console.contains("RIG-STATUS") => return Some(format!("{console}\n{BROKEN} {errors}")),
        _ => panic!("the rig did not run: {errors}\n{console}"),
    }
    Some(console.into_owned())
}

fn parse_cases(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(expectation) = line.strip_prefix("    ") {
            let case = cases.last_mut().expect("a case before the first expectation");
            match expectation.split_once(' ').unwrap_or((expectation, "")) {
                (">", line) => case.output.push(line.into()),
                ("!", line) => case.errors.push(line.into()),
                ("status", number) => case.status = number.parse().expect("a number after `status`"),
                _ => panic!("tests/rig/cases: what is `{line}`?"),
            }
        } else {
            let (name, command) = line.split_once(": ").expect("`name: command`");
            let (name, command) = (name.into(), command.into());
            cases.push(Case { name, command, status: 0, output: Vec::new(), errors: Vec::new() });
        }
    }
    cases
}

/// A guest's own lines say what must come of it.
fn gallery_case(guest: &Guest, boot: &str) -> Case {
    let typed = guest.input.replace('\n', "\\n");
    let input = if typed.is_empty() { String::new() } else { format!("printf '{typed}' | ") };
    let (prefix, option) = match boot {
        "" => ("gallery".into(), String::new()),
        boot => (boot.to_string(), format!(" --boot {boot}")),
    };
    Case {
        name: format!("{prefix}-{}", guest.name),
        command: format!("{input}matchstick run {}{option}", guest.name),
        status: guest.exit.into(),
        output: guest.expect.iter().map(|line| line.to_string()).collect(),
        errors: Vec::new(),
    }
}

/// Reads what `tests/rig/init` wrote to the serial console.
fn parse_console(console: &str) -> Vec<Record> {
    let mut records: Vec<Record> = Vec::new();
    for line in console.lines() {
        let (tag, rest) = line.split_once(' ').unwrap_or((line, ""));
        if tag == "RIG-CASE" {
            records.push(Record { name: rest.into(), ..Record::default() });
            continue;
        }
        let Some(record) = records.last_mut() else { continue };
        match tag {
            "RIG-OUT" => record.output.push(rest.into()),
            "RIG-ERR" => record.errors.push(rest.into()),
            "RIG-STATUS" => {
                let mut numbers = rest.split(' ').flat_map(str::parse);
                record.status = numbers.next();
                record.milliseconds = numbers.next().unwrap_or(0) as u32;
            }
            _ => {}
        }
    }
    records
}

/// Compares, and tells what differs.
fn judge(case: &Case, records: &[Record]) -> Result<(), String> {
    let Some(record) = records.iter().find(|record| record.name == case.name) else {
        return Err("  the rig did not come to it\n".into());
    };
    let same_output = case.output.len() == record.output.len()
        && case.output.iter().zip(&record.output).all(|(pattern, line)| is_match(pattern, line));
    let missing =
        case.errors.iter().find(|&pattern| !record.errors.iter().any(|line| is_match(pattern, line)));
    if record.status == Some(case.status) && same_output && missing.is_none() {
        return Ok(());
    }
    let mut why = match record.status {
        Some(status) => format!("  status {status}, expected {}\n", case.status),
        None => "  it did not end\n".into(),
    };
    for (title, lines) in [("expected", &case.output), ("output", &record.output), ("stderr", &record.errors)]
    {
        for line in lines {
            let _ = writeln!(why, "  {title:<9}{line}");
        }
    }
    if let Some(pattern) = missing {
        let _ = writeln!(why, "  no line of stderr is: {pattern}");
    }
    Err(why)
}
