//! Every guest of the gallery does what its first lines promise, on this host's KVM and through the program.

use crate::support;
use crate::support::{assert_expected, has_kvm, is_match, keys_for, matchstick};
use matchstick::guest::{GALLERY, Guest};

/// A test for each, so that a failure names its guest.
macro_rules! guests {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                keeps_its_promise(stringify!($name));
            }
        )*
        const TESTED: &[&str] = &[$(stringify!($name)),*];
    };
}

guests! { real protected long hello noop echo fault paging timer exits smp rings primes }

#[test]
fn no_guest_lacks_its_test() {
    let names: Vec<&str> = GALLERY.iter().map(|guest| guest.name).collect();
    assert_eq!(names, TESTED);
}

/// Words of `needs` that the program itself provides for; any other names an ability of the host.
const OF_THE_MACHINE: &[&str] = &["cpuid", "apic", "cpus", "memory", "input"];

fn keeps_its_promise(name: &str) {
    if !has_kvm() {
        return;
    }
    let guest = Guest::find(name).unwrap();
    let ended = matchstick(["run", name]).input(keys_for(guest)).run();
    let of_the_host =
        |need: &&&str| !need.split(' ').next().is_some_and(|word| OF_THE_MACHINE.contains(&word));
    if let Some(need) = guest.needs.iter().find(of_the_host)
        && ended.status == Some(123)
        && !support::is_set("REQUIRE_KVM")
    {
        return support::skip(&format!("this host's KVM lacks {need}"));
    }
    ended.silent().status(guest.exit.into());
    assert_expected(guest, &ended.text());
}

#[test]
fn the_list_names_every_guest_and_what_it_is_about() {
    let list = matchstick(["guests"]).run();
    list.silent().status(0);
    let list = list.text();
    assert!(is_match("linux *--init*", list.lines().last().unwrap()), "{list}");
    assert_eq!(list.lines().count(), GALLERY.len() + 1);
    for (line, guest) in list.lines().zip(GALLERY) {
        assert!(is_match(&format!("{} *{}*", guest.name, guest.about), line), "{line}");
    }
}

#[test]
fn a_triple_fault_is_a_crash_with_a_post_mortem() {
    if !has_kvm() {
        return;
    }
    let ended = matchstick(["run", "fault", "--", "triple"]).run();
    ended.status(123).says("error: guest crashed: triple fault").says(" hint: ").says("last exits");
    // What it said before is not lost.
    let guest = Guest::find("fault").unwrap();
    let lines = ended.text().lines().count();
    assert_eq!(lines, guest.expect.len() + 1, "{}", ended.text());
    // Processors that keep the registers in a shutdown let us show where it was.
    if !ended.stderr.contains("registers   lost") {
        ended.says("(ud2)").says("idt         none").says("mode        long, 64-bit code");
    }
}

#[test]
fn a_quiet_crash_is_one_line() {
    if !has_kvm() {
        return;
    }
    let ended = matchstick(["run", "-q", "fault", "--", "triple"]).run();
    ended.status(123);
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
}

#[test]
fn primes_takes_its_limit_from_the_command_line() {
    if !has_kvm() {
        return;
    }
    for args in [["run", "primes", "--", "1000"], ["run", "primes", "-p", "1000"]] {
        matchstick(args).run().status(0).printed("168 primes below 1000\n");
    }
}

#[test]
fn what_a_guest_makes_nothing_of_is_refused_before_it_starts() {
    let of_run = "`matchstick run --help`";
    for words in [&["abc"][..], &["1e6"], &["-5"], &["+5"], &["1000", "extra"], &["4294967296"], &["10 20"]] {
        let ended = matchstick(["run", "primes", "--"]).args(words).run();
        ended.printed("").fails(125, "primes takes one whole number as ARGS, 0 to 4294967295", of_run);
    }
    matchstick(["run", "primes", "-p", "1e6"]).run().fails(125, "primes takes one whole number", of_run);
    matchstick(["run", "fault", "--", "tripel"]).run().fails(125, "fault takes triple as ARGS", of_run);
    matchstick(["run", "--", "x"]).run().fails(125, "hello takes no ARGS", of_run);
    for guest in GALLERY {
        assert!(guest.takes([].into_iter()), "{}", guest.name);
    }
}

#[test]
fn smp_finds_as_many_processors_as_there_are() {
    if !has_kvm() {
        return;
    }
    matchstick(["run", "smp", "-c", "1"]).run().status(0).printed("cpu 0 is up, and there are 0 more\n");
    matchstick(["run", "smp", "-c", "2"])
        .run()
        .status(0)
        .printed("cpu 0 is up, and there is 1 more\ncpu 1 is up\n");
    let of_many = |cpus| matchstick(["run", "smp", "-c", cpus]).run().status(0).text();
    assert!(of_many("16").ends_with("\ncpu 15 is up\n"));
    assert!(of_many("17").ends_with("\ncpu 15 is up\nthe rest stays asleep: there are stacks for 16\n"));
}

#[test]
fn patterns_match_whole_lines() {
    assert!(is_match("tick 1", "tick 1") && !is_match("tick 1", "tick 10") && !is_match("tick", "a tick"));
    assert!(is_match("frame A at 0x*: apples", "frame A at 0x1000: apples"));
    assert!(!is_match("frame A at 0x*: apples", "frame A at 0x1000: pears"));
    assert!(is_match("*", "") && is_match("a*b*", "a-b-b") && !is_match("a*b", "a-b-"));
}
