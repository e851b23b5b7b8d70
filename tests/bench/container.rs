//! Our own container, as its program sees it.

use crate::{alone, support};
use matchstick::bench::PROBE;
use matchstick::container::cgroup::CgroupParent;
use matchstick::container::mark;
use matchstick::container::{Config, Container, Error};
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

const LIMIT: Duration = Duration::from_secs(30);

fn words(words: &[&str]) -> Vec<CString> {
    words.iter().map(|word| CString::new(*word).unwrap()).collect()
}

/// Prints why, if this host lets nobody have a container; with `REQUIRE_CONTAINERS=1` that is a failure.
fn is_refused(error: &Error) -> bool {
    let source = &error.source;
    let refused = matches!(source.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::StorageFull);
    if refused {
        assert!(!support::is_set("REQUIRE_CONTAINERS"), "{error}: {source}");
        support::skip(&format!("no containers here: {error}: {source}"));
    }
    refused
}

/// Runs it to its end: what it printed and the status it ended with.
fn run(config: &Config<'_>) -> Option<(String, i32)> {
    let _alone = alone();
    let null = File::open("/dev/null").unwrap();
    let (mut output, end) = io::pipe().unwrap();
    let container = match Container::start(config, [null.as_fd(), end.as_fd(), end.as_fd()]) {
        Err(error) if is_refused(&error) => return None,
        container => container.unwrap(),
    };
    drop(end);
    let end = container.child.end().unwrap().as_raw_fd();
    let epoll = Epoll::new().unwrap();
    epoll.ctl(ControlOperation::Add, end, EpollEvent::new(EventSet::IN, 0)).unwrap();
    let count = epoll.wait(LIMIT.as_millis() as i32, &mut [EpollEvent::default()]).unwrap();
    assert_eq!(count, 1, "it did not end");
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    let status = container.child.wait().unwrap().status;
    let code = status.code().unwrap_or_else(|| panic!("{status}: {text}"));
    Some((text, code))
}

/// What follows `word` on a line of the probe's.
#[track_caller]
fn found<'a>(text: &'a str, word: &str) -> &'a str {
    let line = text.lines().find_map(|line| line.strip_prefix(word)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {word} in {text}"))
}

#[test]
fn its_program_sees_itself_and_nothing_of_the_host() {
    let parent = CgroupParent::find();
    let config = Config {
        program: PROBE,
        arguments: &words(&["probe"]),
        hostname: "matchbox",
        proc: true,
        cgroup: parent.as_ref(),
    };
    let Some((text, status)) = run(&config) else { return };
    assert_eq!(status, 0, "{text}");
    assert_eq!(found(&text, "pid"), "1");
    assert_eq!(found(&text, "processes"), "1 1");
    assert_eq!(found(&text, "host"), "matchbox");
    let mut files: Vec<&str> = found(&text, "files").split(' ').collect();
    files.sort();
    assert_eq!(files, ["2", "payload", "proc"]);
    // Two lines of headings, then the loopback device.
    let interfaces: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("interface ")).collect();
    assert_eq!(interfaces.len(), 3, "{text}");
    assert!(interfaces[2].starts_with("lo: 0 0 "), "{text}");
    // A map of one user.
    assert!(found(&text, "uid_map").starts_with("0 ") && found(&text, "uid_map").ends_with(" 1"), "{text}");
    for line in text.lines().filter(|line| line.starts_with("cgroup ")) {
        assert!(line.ends_with(":/"), "its cgroup is the root of what it sees: {line}");
    }
}

#[test]
fn its_seven_namespaces_are_not_ours_and_its_capabilities_nobodys() {
    let config = Config {
        program: PROBE,
        arguments: &words(&["probe"]),
        hostname: "matchbox",
        proc: true,
        cgroup: None,
    };
    let Some((text, _)) = run(&config) else { return };
    let namespaces: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("namespace ")).collect();
    assert_eq!(namespaces.len(), 7, "{text}");
    for line in namespaces {
        let (name, id) = line.split_once(' ').unwrap();
        let ours = fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        assert!(id.starts_with(name) && ours.to_str() != Some(id), "{name} is ours: {id}");
    }
    for set in ["CapEff", "CapBnd"] {
        assert_eq!(found(&text, &format!("status {set}:")), "0000000000000000");
    }
    assert_eq!(found(&text, "status NoNewPrivs:"), "1");
}

#[test]
fn without_a_proc_there_is_one_file() {
    let config = Config {
        program: PROBE,
        arguments: &words(&["probe"]),
        hostname: "matchbox",
        proc: false,
        cgroup: None,
    };
    let Some((text, status)) = run(&config) else { return };
    assert_eq!(status, 0, "{text}");
    assert_eq!(found(&text, "files"), "1 payload");
    assert!(!text.contains("namespace "), "{text}");
}

#[test]
fn every_system_call_of_the_host_can_be_reached() {
    let config = Config {
        program: PROBE,
        arguments: &words(&["probe"]),
        hostname: "matchbox",
        proc: false,
        cgroup: None,
    };
    let Some((text, status)) = run(&config) else { return };
    assert_eq!(status, 0, "{text}");
    let counts: Vec<u32> = found(&text, "calls").split(' ').map(|count| count.parse().unwrap()).collect();
    // There is no filter: Linux has had more than 300 for a long time.
    let &[reached, refused] = counts.as_slice() else { panic!("{text}") };
    assert!(reached > 250 && refused < 60, "{text}");
}

#[test]
fn one_that_is_forgotten_is_killed_and_its_cgroup_removed() {
    let _alone = alone();
    let parent = CgroupParent::find();
    // `jmp $`
    let endless = support::image::elf(
        0x40_0078,
        &[support::image::Segment { address: 0x40_0078, bytes: &[0xeb, 0xfe], size: 2 }],
    );
    let config = Config {
        program: &endless,
        arguments: &words(&["endless"]),
        hostname: "matchbox",
        proc: false,
        cgroup: parent.as_ref(),
    };
    let null = File::open("/dev/null").unwrap();
    let container = match Container::start(&config, [null.as_fd(); 3]) {
        Err(error) if is_refused(&error) => return,
        container => container.unwrap(),
    };
    let id = container.child.id();
    let own = fs::read_to_string(format!("/proc/{id}/cgroup")).unwrap();
    let name = mark::own();
    assert_eq!(own.contains(&name), parent.is_some(), "{own}");
    let line = own.lines().find(|line| line.contains(&name)).map(|line| line.split(':').nth(2).unwrap());
    drop(container);
    assert!(!fs::exists(format!("/proc/{id}")).unwrap());
    if let Some(path) = line {
        for tree in fs::read_dir("/sys/fs/cgroup").unwrap() {
            let left = tree.unwrap().path().join(path.trim_start_matches('/'));
            assert!(!left.exists(), "{} is left", left.display());
        }
    }
}

#[test]
fn what_is_no_program_is_said_to_be_none() {
    let _alone = alone();
    let config = Config {
        program: b"no program",
        arguments: &words(&["nothing"]),
        hostname: "matchbox",
        proc: false,
        cgroup: None,
    };
    let null = File::open("/dev/null").unwrap();
    let error = Container::start(&config, [null.as_fd(); 3]).err().expect("it was started");
    if is_refused(&error) {
        return;
    }
    assert_eq!(error.to_string(), "cannot run the container's program");
    assert_eq!(error.source.raw_os_error(), Some(libc::ENOEXEC));
}
