//! Many machines: at once, and one after the other. Nothing of them stays.

mod support;

use matchstick::guest::Guest;
use matchstick::{Machine, Outcome};
use std::fs;
use support::{has_kvm, matchstick};

/// How many are started at once, and how many in a row.
const AT_ONCE: usize = 50;
const IN_A_ROW: usize = 500;

/// What this process has: open descriptors, threads, mappings and resident memory in KiB.
#[derive(Debug)]
struct Possessions {
    descriptors: usize,
    threads: usize,
    mappings: usize,
    resident: usize,
}

impl Possessions {
    fn now() -> Possessions {
        let count = |directory: &str| fs::read_dir(directory).unwrap().count();
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        Possessions {
            descriptors: count("/proc/self/fd"),
            threads: count("/proc/self/task"),
            mappings: fs::read_to_string("/proc/self/maps").unwrap().lines().count(),
            resident: resident.trim().trim_end_matches(" kB").parse().unwrap(),
        }
    }
}

/// Starts `guest` in this process, and lets it run to its end.
fn start(guest: &Guest) {
    let mut machine =
        Machine::new(&guest.config(), guest.name, guest.image, Box::new(std::io::sink()), &mut ()).unwrap();
    let outcome = machine.run(&mut ()).unwrap();
    assert!(matches!(outcome, Outcome::Exited(0)), "{outcome:?}");
}

/// Alone in its process: what other tests open and map at the same time would count as well.
#[test]
#[ignore = "counts what its process has; the test below starts it"]
fn machines_in_a_row() {
    let (hello, smp) = (Guest::find("hello").unwrap(), Guest::find("smp").unwrap());
    // The first ones leave what is kept for all that follow.
    for _ in 0..20 {
        start(hello);
        start(smp);
    }
    let before = Possessions::now();
    for round in 0..IN_A_ROW {
        start(if round % 10 == 0 { smp } else { hello });
    }
    let after = Possessions::now();
    assert_eq!((before.descriptors, before.threads), (after.descriptors, after.threads));
    // A page for each machine would be 2000 KiB.
    assert!(after.resident < before.resident + 512, "{before:?}, then {after:?}");
    assert!(after.mappings < before.mappings + 8, "{before:?}, then {after:?}");
}

#[test]
fn machines_in_a_row_leave_nothing_behind() {
    if !has_kvm() {
        return;
    }
    let own = std::env::current_exe().unwrap();
    let mut test = std::process::Command::new(own);
    let ended =
        test.args(["--exact", "machines_in_a_row", "--ignored", "--test-threads=1"]).output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stdout));
}

#[test]
fn machines_at_once_do_not_disturb_each_other() {
    if !has_kvm() {
        return;
    }
    let all: Vec<_> = (0..AT_ONCE).map(|_| matchstick(["run", "hello"]).start()).collect();
    for running in all {
        running.end().silent().status(0).printed("Hello from a virtual machine!\n");
    }
}
