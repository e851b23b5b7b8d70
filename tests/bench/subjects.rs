//! The subjects of `matchstick bench`, each for real where this host has it.

use crate::{alone, support};
use matchstick::bench::{Payload, Scratch, Subject, subjects};
use std::fs;
use std::path::Path;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);

/// Those that `.ci/run` provides for; with `REQUIRE_CONTAINERS=1` they have to be there.
const REQUIRED: [&str; 3] = ["namespaces", "bwrap", "runc"];

/// The subject `name`, ready; or else that is printed.
fn ready(name: &str, payload: &Payload) -> Option<Box<dyn Subject>> {
    let mut subject = subjects::all(payload).into_iter().find(|subject| subject.name() == name).unwrap();
    match subject.ready() {
        Ok(()) => Some(subject),
        Err(missing) => {
            let required = REQUIRED.contains(&name) && support::is_set("REQUIRE_CONTAINERS");
            assert!(!required, "{name}: {missing}");
            assert!(!missing.hint.is_empty(), "{name} has no hint");
            support::skip(&format!("{name}: {missing}"));
            None
        }
    }
}

/// Paths below the trees of cgroups and in the temporary directory that have our name.
fn left_behind() -> Vec<String> {
    let ours = format!("matchstick-{}-", std::process::id());
    let mut found = Vec::new();
    let mut places: Vec<_> =
        fs::read_dir("/sys/fs/cgroup").into_iter().flatten().filter_map(Result::ok).collect();
    places.retain(|entry| entry.path().is_dir());
    for place in places {
        for entry in fs::read_dir(place.path()).into_iter().flatten().filter_map(Result::ok) {
            if entry.file_name().to_string_lossy().starts_with(&ours) {
                found.push(entry.path().display().to_string());
            }
        }
    }
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    found.extend(mounts.lines().filter(|line| line.contains(&ours)).map(str::to_owned));
    found
}

/// Lets the subject `name` run the payloads, twice each.
fn runs(name: &str) {
    let _alone = alone();
    let scratch = Scratch::new().unwrap();
    for payload in ["hello", "primes"] {
        let payload = Payload::new(payload, &scratch).unwrap();
        let Some(mut subject) = ready(name, &payload) else { return };
        for _ in 0..2 {
            // Judged by its output, to the byte.
            let sample = subject.run(LIMIT).unwrap_or_else(|failure| panic!("{name}: {failure:?}"));
            assert!(sample.first_byte > Duration::ZERO && sample.first_byte <= sample.reaped, "{sample:?}");
        }
    }
    assert_eq!(left_behind(), Vec::<String>::new());
}

#[test]
fn namespaces_runs_the_payload() {
    runs("namespaces");
}

#[test]
fn bwrap_runs_the_payload() {
    runs("bwrap");
}

#[test]
fn runc_runs_the_payload() {
    runs("runc");
}

#[test]
fn crun_runs_the_payload() {
    runs("crun");
}

#[test]
fn youki_runs_the_payload() {
    runs("youki");
}

#[test]
fn podman_runs_the_payload() {
    runs("podman");
}

#[test]
fn docker_runs_the_payload() {
    runs("docker");
}

#[test]
fn nspawn_runs_the_payload() {
    runs("nspawn");
}

#[test]
fn each_says_what_it_is() {
    let scratch = Scratch::new().unwrap();
    let subjects = subjects::all(&Payload::new("hello", &scratch).unwrap());
    let names: Vec<&str> = subjects.iter().map(|subject| subject.name()).collect();
    for subject in &subjects {
        assert!(!subject.about().is_empty() && !subject.name().contains(' '));
        assert_eq!(names.iter().filter(|name| **name == subject.name()).count(), 1);
    }
    assert!(REQUIRED.iter().all(|name| names.contains(name)));
}

#[test]
fn a_container_whose_runtime_is_killed_is_removed() {
    let _alone = alone();
    let scratch = Scratch::new().unwrap();
    // `jmp $`
    let segment = support::image::Segment { address: 0x40_0078, bytes: &[0xeb, 0xfe], size: 2 };
    let endless = scratch.path().join("endless");
    fs::write(&endless, support::image::elf(0x40_0078, &[segment])).unwrap();
    let payload = Payload::new(endless.to_str().unwrap(), &scratch).unwrap();
    for name in REQUIRED {
        let Some(mut subject) = ready(name, &payload) else { continue };
        let failure = subject.run(Duration::from_secs(1)).unwrap_err();
        assert_eq!(failure.why, "it did not end within 1s");
        assert_eq!(left_behind(), Vec::<String>::new(), "{name}");
        let state = |entry: &fs::DirEntry| entry.path().join("state");
        let states = fs::read_dir(scratch.path()).unwrap().filter_map(Result::ok).map(|entry| state(&entry));
        for state in states.filter(|state| state.exists()) {
            assert_eq!(fs::read_dir(&state).unwrap().count(), 0, "{name} remembers it");
        }
    }
    assert!(!running(&payload.program), "the payload lives on");
}

/// Whether some process of this host runs our endless payload: one with a name of its own.
fn running(program: &Path) -> bool {
    let bytes = fs::read(program).unwrap();
    let processes = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let mut programs = processes.map(|entry| entry.path().join("exe"));
    programs.any(|exe| {
        fs::metadata(&exe).is_ok_and(|file| file.len() == bytes.len() as u64)
            && fs::read(exe).is_ok_and(|other| other == bytes)
    })
}

/// The row of `name` in a table, after that name.
#[track_caller]
fn row<'a>(text: &'a str, name: &str) -> &'a str {
    let row = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    row.unwrap_or_else(|| panic!("no {name} in {text}"))
}

#[test]
fn the_isolation_table_tells_the_subjects_apart() {
    let _alone = alone();
    let temporary = tempfile::tempdir().unwrap();
    let args = ["bench", "isolation", "--only", "process,vm,namespaces,bwrap,runc"];
    let ended = support::matchstick(args).env("TMPDIR", temporary.path()).run();
    let text = ended.text();
    ended.silent().status(0);
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert!(row(&text, "process").contains(&format!("host's {}", release.trim())), "{text}");
    assert!(row(&text, "process").contains(" 0 of 7 "), "{text}");
    if support::has_kvm() {
        // Seen from outside: the sandbox is on unless it was switched off.
        assert!(row(&text, "vm").contains("monitor: filter 0 of the host's"), "{text}");
    }
    // These may be missing, and then the row says so.
    for name in REQUIRED {
        let row = row(&text, name);
        let own = if name == "runc" { "6 of 7, not user" } else { "7 of 7" };
        let is_root =
            fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
        if row.contains("host's") && is_root {
            assert!(row.contains(own) && row.contains(" lo "), "{text}");
        } else {
            assert!(!support::is_set("REQUIRE_CONTAINERS"), "{text}");
        }
    }
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0, "something is left");
}

#[test]
fn an_idle_instance_costs_something_and_is_gone_afterwards() {
    let _alone = alone();
    let temporary = tempfile::tempdir().unwrap();
    let args = ["bench", "memory", "--only", "process,namespaces,runc", "-r", "4"];
    let ended = support::matchstick(args).env("TMPDIR", temporary.path()).limit(2 * LIMIT).run();
    let text = ended.text();
    ended.silent().status(0);
    // KiB available, from … to, PSS.
    let pss: f64 = row(&text, "process").split_whitespace().nth(4).unwrap().parse().unwrap();
    assert!((1.0..1000.0).contains(&pss), "{text}");
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0, "something is left");
    let ours = |entry: fs::DirEntry| {
        let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        words.starts_with(temporary.path().as_os_str().as_encoded_bytes())
    };
    assert!(!fs::read_dir("/proc").unwrap().filter_map(Result::ok).any(ours), "an instance lives on");
}

#[test]
fn more_at_once_are_more_rows() {
    let _alone = alone();
    let args = ["bench", "parallel", "--only", "process,namespaces", "-t", "1"];
    let ended = support::matchstick(args).limit(2 * LIMIT).run();
    let text = ended.text();
    ended.silent().status(0);
    let at_once: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("process ")?.split_whitespace().next()).collect();
    assert!(at_once.starts_with(&["1", "2", "4"]), "{text}");
}

#[test]
fn nonsense_is_refused_with_what_there_is() {
    let ended = support::matchstick(["bench", "nonsense"]).run();
    ended.fails(125, "isolation, memory or parallel", "bench --help");
    for what in ["isolation", "memory", "parallel"] {
        let ended = support::matchstick(["bench", what, "--only", "nobody"]).run();
        ended.status(125).says("no such subject: nobody");
    }
}
