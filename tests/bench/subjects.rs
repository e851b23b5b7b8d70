//! The subjects of `matchstick bench`, each for real where this host has it.

use crate::{alone, support};
use matchstick::bench::{Payload, Scratch, Subject, subjects};
use matchstick::container::mark;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(30);

/// Those that `.ci/run` provides for; with `REQUIRE_CONTAINERS=1` they have to be there.
const REQUIRED: [&str; 4] = ["namespaces", "unshare", "bwrap", "runc"];

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

/// Paths below the trees of cgroups, and mounts, that have our mark.
fn left_behind() -> Vec<String> {
    left_behind_by(&mark::own())
}

/// The same with names that begin so.
fn left_behind_by(ours: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut places: Vec<_> =
        fs::read_dir("/sys/fs/cgroup").into_iter().flatten().filter_map(Result::ok).collect();
    places.retain(|entry| entry.path().is_dir());
    for place in places {
        for entry in fs::read_dir(place.path()).into_iter().flatten().filter_map(Result::ok) {
            if entry.file_name().to_string_lossy().starts_with(ours) {
                found.push(entry.path().display().to_string());
            }
        }
    }
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    found.extend(mounts.lines().filter(|line| line.contains(ours)).map(str::to_owned));
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
fn unshare_runs_the_payload() {
    runs("unshare");
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

/// A program in `directory` that never ends and has bytes of its own.
fn endless(directory: &Path) -> PathBuf {
    // `jmp $`, and who we are.
    let bytes = [&[0xeb, 0xfe][..], &std::process::id().to_le_bytes()].concat();
    let segment = support::image::Segment { address: 0x40_0078, bytes: &bytes, size: bytes.len() as u64 };
    let endless = directory.join("endless");
    fs::write(&endless, support::image::elf(0x40_0078, &[segment])).unwrap();
    fs::set_permissions(&endless, fs::Permissions::from_mode(0o755)).unwrap();
    endless
}

#[test]
fn a_container_whose_runtime_is_killed_is_removed() {
    let _alone = alone();
    let scratch = Scratch::new().unwrap();
    let endless = endless(scratch.path());
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

/// Whether a process is there and has not ended.
fn is_running(id: i32) -> bool {
    fs::read_link(format!("/proc/{id}/exe")).is_ok()
}

/// Nobody can remove anything after a SIGKILL, but the next race can.
#[test]
fn what_a_killed_race_left_is_removed_by_the_next_one_and_nothing_else_is() {
    let _alone = alone();
    let temporary = tempfile::tempdir().unwrap();
    let endless = endless(temporary.path());
    let directories = || -> Vec<String> {
        let entries = fs::read_dir(temporary.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let names = entries.map(|name| name.to_str().unwrap().to_owned());
        names.filter(|name| name.starts_with("matchstick-")).collect()
    };
    // Not ours: one that no process of ours has made, and one whose maker, this process, is alive.
    let others = ["matchstick-bench-1".to_owned(), format!("{}0", mark::own())];
    for other in &others {
        fs::create_dir(temporary.path().join(other)).unwrap();
    }
    let is_other = |name: &String| others.contains(name);
    for subject in ["namespaces", "runc"] {
        let args = ["bench", "--limit=300", "--warmup=0", "--runs=1", "--only", subject, "--payload"];
        let killed = support::matchstick(args).args([&endless]).env("TMPDIR", temporary.path()).start();
        // Mounts and cgroups of a runtime come one after the other; the payload is last.
        let begin = Instant::now();
        while !running(&endless) && begin.elapsed() < LIMIT && is_running(killed.id()) {
            thread::sleep(Duration::from_millis(5));
        }
        if !running(&endless) {
            let ended = killed.end();
            assert!(!support::is_set("REQUIRE_CONTAINERS"), "{subject}: {ended:?}");
            support::skip(&format!("{subject} does not start here"));
            continue;
        }
        killed.signal(libc::SIGKILL);
        killed.end().killed_by(libc::SIGKILL);
        let left = directories().into_iter().find(|name| !is_other(name)).expect("a directory of the race");
        // "matchstick-", three numbers, and a count.
        let maker = format!("{}-", left.rsplit_once('-').unwrap().0);
        if subject == "runc" {
            assert!(!left_behind_by(&maker).is_empty(), "{subject} left no cgroup: this test shows nothing");
        }
        let next = ["bench", "--warmup=0", "--runs=1", "--only=process"];
        support::matchstick(next).env("TMPDIR", temporary.path()).run().status(0);
        assert_eq!(left_behind_by(&maker), Vec::<String>::new(), "{subject}");
        assert!(directories().iter().all(is_other), "{subject}: {:?}", directories());
        let begin = Instant::now();
        while running(&endless) {
            assert!(begin.elapsed() < LIMIT, "{subject}: the payload lives on");
            thread::sleep(Duration::from_millis(5));
        }
    }
    assert_eq!(directories().len(), others.len(), "one was removed that is not ours to remove");
}

/// A daemon keeps what it was asked for, whoever is killed. The `docker` of this test writes down what it is asked for.
#[test]
fn containers_and_images_of_a_killed_race_are_removed_from_an_engine() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    // This process, as if it had begun earlier: one that is no more.
    let own = mark::own();
    let mut parts: Vec<&str> = own.trim_end_matches('-').split('-').collect();
    *parts.last_mut().unwrap() = "1";
    let dead = format!("{}-docker-0", parts.join("-"));
    let alive = format!("{own}docker-0");
    let (log, docker) = (dir.path().join("log"), dir.path().join("docker"));
    let script = format!(
        "#!/bin/sh\n\
         echo \"$*\" >> {}\n\
         case \"$1\" in\n\
         ps|images) printf '%s\\n' alpine matchstick {dead} {alive} ;;\n\
         run) echo hi ;;\n\
         esac\n",
        log.display()
    );
    fs::write(&docker, script).unwrap();
    fs::set_permissions(&docker, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", dir.path().display(), std::env::var("PATH").unwrap());
    let endless = endless(dir.path());
    let args = ["bench", "--warmup=0", "--runs=1", "--only=docker", "--payload"];
    let race = support::matchstick(args).args([&endless]).env("PATH", path).env("TMPDIR", dir.path());
    race.run().silent().status(0);
    let log = fs::read_to_string(&log).unwrap();
    let removed: Vec<&str> = log.lines().filter(|line| line.starts_with("rm")).collect();
    let expected = [format!("rm --force {dead}"), format!("rmi --force {dead}")];
    assert_eq!(removed[..2], expected, "{log}");
    // Its own image at the end, and nothing else.
    assert!(removed.len() == 3 && removed[2].starts_with("rmi --force matchstick-"), "{log}");
    assert!(!removed[2].contains(&alive) && !removed[2].contains(&dead), "{log}");
}

/// An idle program is no use to anyone when nobody can read from it.
#[test]
fn an_idle_program_ends_with_the_race_that_was_killed() {
    let _alone = alone();
    let temporary = tempfile::tempdir().unwrap();
    let args = ["bench", "memory", "--only=process", "--runs=4", "--limit=60"];
    let killed = support::matchstick(args).env("TMPDIR", temporary.path()).start();
    let children = || -> Vec<i32> {
        let id = killed.id();
        let text = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        text.split_whitespace().map(|id| id.parse().unwrap()).collect()
    };
    let begin = Instant::now();
    let idle = loop {
        let idle = children();
        if idle.len() >= 2 {
            break idle;
        }
        assert!(begin.elapsed() < LIMIT, "no idle programs are started");
        thread::sleep(Duration::from_millis(1));
    };
    killed.signal(libc::SIGKILL);
    killed.end().killed_by(libc::SIGKILL);
    let is_there = |id: &i32| {
        let exe = fs::read_link(format!("/proc/{id}/exe")).unwrap_or_default();
        exe.starts_with(temporary.path())
    };
    while idle.iter().any(is_there) {
        assert!(begin.elapsed() < 2 * LIMIT, "they live on");
        thread::sleep(Duration::from_millis(5));
    }
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
    let args = ["bench", "isolation", "--only", "process,vm,vm-exec,namespaces,unshare,bwrap,runc"];
    let ended = support::matchstick(args).env("TMPDIR", temporary.path()).run();
    let text = ended.text();
    ended.silent().status(0);
    // The table is in two parts.
    let row = |text: &str, name: &str| -> String {
        let of_it = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        of_it.collect::<Vec<_>>().join(" ")
    };
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert!(row(&text, "process").contains(&format!("host's {}", release.trim())), "{text}");
    assert!(row(&text, "process").contains(" 0 of 7 "), "{text}");
    if support::has_kvm() {
        // Seen from outside: the sandbox is on unless it was switched off.
        assert!(row(&text, "vm").contains("monitor: filter 0 of the host's"), "{text}");
        let served = row(&text, "vm-exec");
        assert!(served.contains("none: asks the host's"), "{text}");
        // As many as it serves, and that is not all that there are.
        let (answered, all) = served.split_once(", checked").unwrap().0.rsplit_once(" of ").unwrap();
        let answered = answered.rsplit(' ').next().unwrap();
        let [answered, all]: [u32; 2] = [answered, all].map(|count| count.parse().unwrap());
        assert!(answered > 150 && all > answered + 50, "{text}");
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
