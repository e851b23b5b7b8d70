//! `matchstick host`: what it says of hosts that are written down in tests/hosts, and how it draws this one.
//!
//! Each file holds the facts of a host, where they are documented, and what is to be said of it.

use crate::support::terminal::Terminal;
use crate::support::{Program, matchstick, runs, skip};
use matchstick::host::{Device, Facts, Host, LayerKind, Requirement, State, classify, requirements};
use serde_json::{Value, json, to_value};
use std::fs;
use std::path::Path;
use unicode_width::UnicodeWidthStr;

/// A host that was written down.
struct Fixture {
    name: String,
    facts: Facts,
    host: Host,
    requirements: Vec<Requirement>,
    expect: Value,
}

fn fixtures() -> Vec<Fixture> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hosts");
    let mut fixtures = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let mut file: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        for word in ["about", "source"] {
            assert!(file[word].as_str().is_some_and(|text| text.len() > 10), "{name} has no {word}");
        }
        let facts: Facts =
            serde_json::from_value(file["facts"].take()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let host = classify(&facts);
        let requirements = requirements(&facts, &host);
        fixtures.push(Fixture { name, facts, host, requirements, expect: file["expect"].take() });
    }
    assert!(fixtures.len() >= 30, "where are the hosts?");
    fixtures
}

#[test]
fn what_is_below_each_host_and_around_it() {
    for Fixture { name, host, expect, .. } in fixtures() {
        let hypervisor = host.hypervisor.as_ref();
        assert_eq!(
            json!(hypervisor.map(|hypervisor| hypervisor.platform)),
            expect["hypervisor"],
            "{name}: hypervisor"
        );
        assert_eq!(json!(hypervisor.map(|hypervisor| hypervisor.role)), expect["role"], "{name}: role");
        assert_eq!(
            json!(hypervisor.and_then(|hypervisor| hypervisor.monitor.clone())),
            expect["monitor"],
            "{name}: monitor"
        );
        assert_eq!(json!(host.engine), expect["engine"], "{name}: engine");
        let runtime = host.container.as_ref().map(|container| container.runtime.as_str());
        match (runtime, expect["container"].as_str()) {
            (Some(found), Some(expected)) => assert!(found.starts_with(expected), "{name}: {found}"),
            (found, expected) => assert_eq!(found, expected, "{name}: container"),
        }
    }
}

#[test]
fn every_judgement_is_the_right_one_and_has_its_evidence() {
    for Fixture { name, host, expect, .. } in fixtures() {
        for (place, mark) in expect["types"].as_object().unwrap() {
            let typed = host.types.iter().find(|typed| to_value(typed.layer).unwrap() == json!(place));
            let typed = typed.unwrap_or_else(|| panic!("{name}: nothing is said of {place}"));
            assert_eq!(to_value(typed.mark).unwrap(), *mark, "{name}: {place}");
        }
        for typed in &host.types {
            assert!(!typed.evidence.is_empty(), "{name}: {typed:?}");
            assert!(host.layer(typed.layer).is_some(), "{name}: {typed:?} is no layer");
        }
        let places: Vec<_> = host.stack.iter().map(|layer| layer.kind).collect();
        assert!(places.is_sorted(), "{name}: {places:?}");
    }
}

#[test]
fn everything_that_is_missing_is_found_and_has_a_fix() {
    for Fixture { name, requirements, expect, .. } in fixtures() {
        let missing: Vec<&str> =
            requirements.iter().filter(|need| need.state == State::Missing).map(|need| need.what).collect();
        assert_eq!(json!(missing), expect["missing"], "{name}");
        for need in &requirements {
            assert!(need.state != State::Missing || need.fix.is_some(), "{name}: {need:?}");
            assert!(need.state != State::Good || need.fix.is_none(), "{name}: {need:?}");
        }
        let fixes: Vec<&str> = requirements.iter().filter_map(|need| need.fix.as_deref()).collect();
        for expected in strings(&expect["fixes"]) {
            assert!(
                fixes.iter().any(|fix| fix.contains(expected)),
                "{name}: {expected:?} is not in {fixes:#?}"
            );
        }
    }
}

/// What one may say of a host only after having looked.
const CLAIMS: [&str; 8] = [
    "it has the hardware to itself",
    "neither vmx nor svm",
    "neither VMX nor SVM: it has none",
    "no module of this kernel runs guests",
    "none is loaded",
    "none are mounted",
    "this kernel has none",
    "it protects from a fault of this processor",
];

/// Everything that is said of a host, as one text.
fn said(host: &Host, requirements: &[Requirement]) -> String {
    let layers = host.stack.iter().flat_map(|layer| [&layer.name].into_iter().chain(&layer.notes));
    let found = requirements.iter().map(|requirement| &requirement.found);
    layers.chain(found).cloned().collect::<Vec<_>>().join("\n")
}

#[test]
fn what_could_not_be_read_is_unknown_and_not_absent() {
    let mut claims_made = 0;
    for Fixture { name, facts, host, requirements: all, .. } in fixtures() {
        let before = said(&host, &all);
        claims_made += CLAIMS.iter().filter(|claim| before.contains(*claim)).count();
        let mut blind = facts.clone();
        blind.processor.flags = None;
        blind.processor.hypervisor_bit = None;
        blind.kvm.modules = None;
        blind.kvm.itlb_multihit.clear();
        blind.cgroups = None;
        blind.memory = Default::default();
        blind.timing = Default::default();
        blind.marks = Default::default();
        let host = classify(&blind);
        let all = requirements(&blind, &host);
        let text = said(&host, &all);
        for claim in CLAIMS {
            assert!(!text.contains(claim), "{name}: {claim:?} in\n{text}");
        }
        assert!(text.contains("whether a container is around it is not known"), "{name}: {text}");
        assert!(host.timings_unknown.len() >= 5, "{name}: {:?}", host.timings_unknown);
        let unknown = all.iter().filter(|requirement| requirement.state == State::Unknown).count();
        assert!(unknown >= 3, "{name}: {all:#?}");
    }
    assert!(claims_made > 40, "{claims_made}: the claims are no longer made in these words");
}

/// The flag of Linux and the bit of CPUID are the same; where the one cannot be read, the other can.
#[test]
fn the_processor_itself_says_whether_there_is_a_hypervisor() {
    for Fixture { name, mut facts, .. } in fixtures() {
        facts.processor.flags = None;
        for (bit, words) in
            [(Some(false), "it has the hardware to itself"), (None, "whether a hypervisor is below")]
        {
            facts.processor.hypervisor_bit = bit;
            let host = classify(&facts);
            if host.hypervisor.is_none()
                && !host.layer(LayerKind::Kernel).unwrap().name.starts_with("Windows")
            {
                assert!(said(&host, &[]).contains(words), "{name}: {}", said(&host, &[]));
            }
        }
    }
}

#[test]
fn no_more_cpus_are_promised_than_a_machine_may_have() {
    for Fixture { name, mut facts, host, .. } in fixtures() {
        facts.kvm.device = Device::Open;
        facts.kvm.vcpus_max = 1024;
        facts.kvm.missing.clear();
        let text = said(&host, &requirements(&facts, &host));
        assert!(text.contains("up to 255 CPUs") && !text.contains("1024"), "{name}: {text}");
    }
    matchstick(["run", "-c", "256", "hello"]).run().status(125).says("255");
}

#[test]
fn a_file_that_an_image_left_makes_no_container_and_own_namespaces_are_named() {
    let Fixture { host, .. } = fixtures().into_iter().find(|host| host.name == "unshare-net-uts").unwrap();
    assert_eq!((host.container.as_ref(), &host.own_namespaces[..]), (None, &["uts", "net"][..]));
    let text = said(&host, &[]);
    assert!(text.contains("there is a /.dockerenv, but our mounts are the host's"), "{text}");
    // The same of this host, where `unshare` may.
    for (option, namespace) in [("--net", "net"), ("--uts", "uts"), ("--mount", "mnt")] {
        if !runs(&["unshare", option, "true"]) {
            skip("no namespaces of our own");
            continue;
        }
        let report = |program: Program| -> Value { serde_json::from_str(&program.run().text()).unwrap() };
        let outside = report(matchstick(["host", "--json"]));
        let own =
            |report: &Value| report["host"]["own_namespaces"].as_array().unwrap().contains(&json!(namespace));
        if own(&outside) {
            skip("this is a namespace of our own already");
            continue;
        }
        let inside =
            Program::new("unshare").args([option, env!("CARGO_BIN_EXE_matchstick"), "host", "--json"]);
        let inside = report(inside);
        assert!(own(&inside), "{option}: {}", inside["host"]["own_namespaces"]);
        assert_eq!(inside["host"]["container"], outside["host"]["container"], "{option}");
    }
}

#[test]
fn times_are_distrusted_where_there_is_reason_and_only_there() {
    for Fixture { name, host, expect, .. } in fixtures() {
        let expected = strings(&expect["timings"]);
        assert_eq!(host.timings.is_empty(), expected.is_empty(), "{name}: {:?}", host.timings);
        for word in expected {
            assert!(host.timings.iter().any(|reason| reason.contains(word)), "{name}: {:?}", host.timings);
        }
    }
}

fn strings(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|value| value.as_str().unwrap()).collect()
}

#[test]
fn facts_survive_being_written_down() {
    for Fixture { name, facts, .. } in fixtures() {
        let text = serde_json::to_string(&facts).unwrap();
        assert_eq!(serde_json::from_str::<Facts>(&text).unwrap(), facts, "{name}");
    }
}

#[test]
fn facts_of_any_kind_are_classified_without_a_panic() {
    // Each field of each host in turn becomes what nobody expects.
    for Fixture { facts, .. } in fixtures() {
        let value = to_value(&facts).unwrap();
        for strange in [json!(""), json!("\u{fffd}, ,(:"), json!([]), json!(0), json!(u32::MAX), json!(null)]
        {
            for (section, fields) in value.as_object().unwrap() {
                for field in fields.as_object().into_iter().flatten().map(|(field, _)| field) {
                    let mut value = value.clone();
                    value[section][field] = strange.clone();
                    if let Ok(facts) = serde_json::from_value::<Facts>(value) {
                        let host = classify(&facts);
                        requirements(&facts, &host);
                    }
                }
            }
        }
    }
}

/// `matchstick host` in an environment of this locale.
fn host(locale: &str) -> Program {
    matchstick(["host"]).env("LC_ALL", locale)
}

#[test]
fn a_width_of_nothing_is_no_width() {
    let text = |columns: &str| host("C.UTF-8").env("COLUMNS", columns).run().text();
    for unknown in ["0", "00", "", "wide", "-1"] {
        let longest = text(unknown).lines().map(|line| line.width()).max().unwrap();
        assert!((60..=80).contains(&longest), "{unknown:?}: {longest}");
    }
}

#[test]
fn this_host_is_drawn_as_wide_as_it_may_be() {
    for width in [1, 10, 30, 40, 80, 100] {
        let ended = host("C.UTF-8").env("COLUMNS", width.to_string()).run();
        ended.silent().status(0);
        let text = ended.text();
        assert!(text.lines().all(|line| line.width() <= width), "{width}:\n{text}");
        if width >= 40 {
            for word in ["guest: your guest", "VMM: matchstick", "Type 2", "hardware", "/dev/kvm"] {
                assert!(text.contains(word), "{word} is not in\n{text}");
            }
        }
    }
}

#[test]
fn a_pipe_gets_no_colours_and_a_plain_locale_no_lines_but_ascii() {
    let text = host("C.UTF-8").run().text();
    assert!(!text.contains('\x1b'));
    assert!(text.contains('┌'));
    for locale in ["C", "POSIX", "ko_KR.EUC-KR"] {
        let text = host(locale).run().text();
        assert!(text.is_ascii() && text.contains("+- "), "{text}");
    }
}

#[test]
fn a_terminal_gets_colours_unless_it_must_not() {
    let shown = |name: &str, value: &str| {
        let terminal = Terminal::new();
        let program = host("C.UTF-8").env("TERM", "xterm").env(name, value).stdout(terminal.stdio());
        program.run().status(0);
        // The program has ended, and its last line is the last that comes.
        terminal.screen.wait_for("Whether times measured here hold elsewhere");
        String::from_utf8(terminal.screen.so_far()).unwrap()
    };
    assert!(shown("ANYTHING", "1").contains("\x1b[1m"));
    assert!(shown("NO_COLOR", "").contains("\x1b[1m"));
    assert!(!shown("NO_COLOR", "1").contains('\x1b'));
    assert!(!shown("TERM", "dumb").contains('\x1b'));
}

#[test]
fn a_process_in_namespaces_of_its_own_is_in_a_container() {
    if !runs(&["unshare", "-rpf", "--mount-proc", "true"]) {
        return skip("no pid namespace of our own");
    }
    let report = |program: Program| -> Value { serde_json::from_str(&program.run().text()).unwrap() };
    let inside = Program::new("unshare").args(["-rpf", "--mount-proc", env!("CARGO_BIN_EXE_matchstick")]);
    let inside = report(inside.args(["host", "--json"]));
    let outside = report(matchstick(["host", "--json"]));
    assert_eq!(inside["facts"]["process"]["pid"], json!(1));
    assert!(
        inside["host"]["container"]["evidence"].to_string().contains("pid"),
        "{}",
        inside["host"]["container"]
    );
    assert!(inside["host"]["own_namespaces"].as_array().unwrap().contains(&json!("pid")));
    // The machine below is the same.
    assert_eq!(inside["host"]["hypervisor"], outside["host"]["hypervisor"]);
    assert_eq!(inside["host"]["engine"], outside["host"]["engine"]);
}

#[test]
fn json_has_the_host_its_needs_and_all_facts() {
    let ended = matchstick(["host", "--json"]).run();
    ended.silent().status(0);
    let report: Value = serde_json::from_str(&ended.text()).unwrap();
    let facts: Facts = serde_json::from_value(report["facts"].clone()).unwrap();
    // It is the same whoever draws the conclusion.
    assert_eq!(to_value(classify(&facts)).unwrap(), report["host"]);
    assert!(report["requirements"].as_array().unwrap().len() > 5);
    let count = fs::read_to_string("/proc/cpuinfo").unwrap();
    let count = count.lines().filter(|line| line.starts_with("processor\t")).count();
    assert_eq!(facts.processor.count, count);
}

#[test]
fn a_host_without_anything_to_read_is_still_described() {
    if !runs(&["unshare", "-rm", "true"]) {
        return skip("no user and mount namespace of our own");
    }
    // Neither /dev, /sys nor /proc: what is left is said, and what is missing has a fix.
    let script = r#"mount -t tmpfs none /dev && mount -t tmpfs none /sys && mount -t tmpfs none /proc && exec "$0" host"#;
    let ended =
        Program::new("unshare").args(["-rm", "sh", "-ec", script, env!("CARGO_BIN_EXE_matchstick")]).run();
    ended.silent().status(0);
    let text = ended.text();
    assert!(text.contains("there is no /dev/kvm"), "{text}");
    assert!(text.contains("Guests cannot run on this host yet"), "{text}");
    assert!(!text.contains("container: "), "{text}");
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("whether a container is around it is not known"), "{text}");
    assert!(text.contains("not known, as it cannot be read: "), "{text}");
    let claims = CLAIMS.iter().filter(|claim| text.contains(**claim));
    // Of the hypervisor the processor itself speaks, without a /proc.
    let claims: Vec<_> = claims.filter(|claim| **claim != CLAIMS[0]).collect();
    assert!(claims.is_empty() && !text.contains("Nothing speaks against it"), "{claims:?} in {text}");
    let has_flag = fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| text.contains(" hypervisor"));
    assert_eq!(text.contains(CLAIMS[0]), !has_flag, "{text}");
}
