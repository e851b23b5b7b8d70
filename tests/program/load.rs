//! Many machines: at once, and one after the other. Nothing of them stays.

use crate::support::{has_kvm, in_a_process, matchstick};
use matchstick::guest::Guest;
use matchstick::{Machine, Outcome};
use std::fs;
use std::time::{Duration, Instant};

/// How many are started at once, and how many in a row; AT_ONCE and IN_A_ROW in the environment say otherwise.
const AT_ONCE: usize = 50;
const IN_A_ROW: usize = 500;

fn number(variable: &str, otherwise: usize) -> usize {
    std::env::var(variable).map_or(otherwise, |number| number.parse().unwrap())
}

/// What a night's run writes down.
fn report(what: &str, took: Duration, mut each: Vec<Duration>) {
    each.sort_unstable();
    let at = |share: f64| each[((each.len() - 1) as f64 * share) as usize].as_micros();
    let rate = each.len() as f64 / took.as_secs_f64();
    println!(
        "{what}: {} machines, {rate:.0} a second; median {} µs, p99 {} µs",
        each.len(),
        at(0.5),
        at(0.99)
    );
}

/// What this process has: open descriptors, threads, mappings and, in KiB, resident memory that is no file's: of this
/// program's own text more comes in while it runs.
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
        let resident = |key: &str| -> usize {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
            line.trim().trim_end_matches(" kB").parse().unwrap()
        };
        Possessions {
            descriptors: count("/proc/self/fd"),
            threads: count("/proc/self/task"),
            mappings: fs::read_to_string("/proc/self/maps").unwrap().lines().count(),
            resident: resident("RssAnon:") + resident("RssShmem:"),
        }
    }
}

/// Starts `guest` in this process, and lets it run to its end.
fn start(guest: &Guest) {
    let mut machine = Machine::new(&guest.config(), guest, Box::new(std::io::sink())).unwrap();
    let outcome = machine.run().unwrap();
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
    let (begin, mut each) = (Instant::now(), Vec::with_capacity(1 << 20));
    for round in 0..number("IN_A_ROW", IN_A_ROW) {
        let start_of_one = Instant::now();
        start(if round % 10 == 0 { smp } else { hello });
        each.push(start_of_one.elapsed());
    }
    report("in a row", begin.elapsed(), each);
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
    let ended = in_a_process(module_path!(), "machines_in_a_row", &[]);
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success(), "{said}");
    // Behind the test harness's own words.
    let at = said.find("in a row: ").expect("it reports");
    println!("{}", said[at..].lines().next().unwrap_or_default());
}

#[test]
fn machines_at_once_do_not_disturb_each_other() {
    if !has_kvm() {
        return;
    }
    let begin = Instant::now();
    let start = |_| matchstick(["run", "hello"]).limit(Duration::from_secs(120)).start();
    let all: Vec<_> = (0..number("AT_ONCE", AT_ONCE)).map(start).collect();
    let each = all.into_iter().map(|running| {
        let ended = running.end();
        ended.silent().status(0).printed("Hello from a virtual machine!\n");
        ended.took
    });
    let each = each.collect();
    report("at once", begin.elapsed(), each);
}
