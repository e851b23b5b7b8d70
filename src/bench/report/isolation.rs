//! The isolation table: a row for each subject, with what a program sees of the host.

use super::sheet::Sheet;
use crate::bench::observed::{Observed, Seen, View};

/// The heads of its columns.
pub const HEADS: [&str; 11] = [
    "",
    "kernel",
    "processes",
    "own namespaces",
    "cgroup",
    "uid map",
    "capabilities",
    "seccomp",
    "system calls",
    "network",
    "devices",
];

/// What a reader has to know about the columns.
pub const NOTES: &str = "\
Seen from inside, by a program that looks around. \"host's\" is what it shares with the host; - is what it cannot tell.
own namespaces  of mnt, pid, net, ipc, uts, user and cgroup, those whose number is not the host's
uid map         user inside, user outside, how many
capabilities    effective ones; + those it could still get by exec
system calls    of the host's kernel, those that do something or say what is wrong; tried one by one with arguments
                that are good for nothing. With a filter, what is not permitted counts as out of reach.
A virtual machine has a kernel of its own, or none: from the guest, no system call of the host can be made. What it
can do is leave the virtual machine, for KVM and for its monitor, the process that runs it, which answer. That of
vm-exec passes on what it has checked: so many of the host's system calls answer, and no other can be had through it.
";

/// Those subjects of which nothing is known, and why.
pub fn absent(observed: &[Observed]) -> Vec<(String, String)> {
    let absent = |Observed { name, view }: &Observed| match view {
        View::Missing(missing) => Some((name.clone(), missing.to_string())),
        View::Failed(why) => Some((name.clone(), format!("failed: {}", why.trim()))),
        View::Seen(_) | View::Served(_) | View::Machine(_) => None,
    };
    observed.iter().filter_map(absent).collect()
}

/// Those of which something is known. `host` is what this process sees.
pub fn sheet(observed: &[Observed], host: &Seen) -> Sheet {
    let all_calls = calls_of_kernel(observed);
    let is_known = |one: &&Observed| matches!(one.view, View::Seen(_) | View::Served(_) | View::Machine(_));
    let known = observed.iter().filter(is_known);
    Sheet::words(&HEADS, known.map(|one| cells(&one.name, &one.view, host, all_calls)).collect())
}

/// The same in two parts, so that it fits a terminal.
pub fn parts(observed: &[Observed], host: &Seen) -> [Sheet; 2] {
    let Sheet { heads, rows, is_words } = sheet(observed, host);
    let part = |columns: std::ops::Range<usize>| {
        let of = |cells: &Vec<String>| [&cells[..1], &cells[columns.clone()]].concat();
        Sheet { heads: of(&heads), rows: rows.iter().map(of).collect(), is_words }
    };
    [part(1..6), part(6..heads.len())]
}

/// How many system calls the host's kernel has.
fn calls_of_kernel(observed: &[Observed]) -> Option<u64> {
    let of_one = |one: &Observed| match &one.view {
        View::Seen(seen) => seen.calls_of_kernel(),
        _ => None,
    };
    observed.iter().filter_map(of_one).max()
}

/// The cells of a row. `calls` is how many system calls the host's kernel has.
pub fn cells(name: &str, view: &View, host: &Seen, calls: Option<u64>) -> Vec<String> {
    let cells = match view {
        View::Seen(seen) if seen.release != host.release => of_linux(seen),
        View::Seen(seen) => of_process(seen, host, calls),
        View::Served(seen) => of_served(seen, host, calls),
        View::Machine(monitor) => {
            let [capabilities, filter] = monitor.as_ref().map_or([String::new(), String::new()], |seen| {
                [capabilities(seen), filter(seen).to_owned()].map(|word| format!("monitor: {word}"))
            });
            let [kernel, processes, calls, network, devices] =
                ["own: the guest", "none", "0 of the host's", "none", "own ports"].map(str::to_owned);
            let none = String::new;
            [kernel, processes, none(), none(), none(), capabilities, filter, calls, network, devices]
        }
        View::Missing(_) | View::Failed(_) => [(); 10].map(|()| String::new()),
    };
    [name.to_owned()].into_iter().chain(cells).collect()
}

/// A program under the host's kernel.
fn of_process(seen: &Seen, host: &Seen, calls: Option<u64>) -> [String; 10] {
    let own = seen.own_namespaces(host);
    let reached = match (seen.filtered, seen.calls, calls) {
        (Some(true), Some((answered, _)), Some(all)) => format!("{answered} of {all}"),
        (Some(true), Some((answered, _)), None) => answered.to_string(),
        (Some(false), _, Some(all)) => format!("{all} of {all}"),
        (Some(false), _, None) => "all".into(),
        _ => String::new(),
    };
    let cgroup = if own.contains(&"cgroup") {
        "hidden"
    } else if seen.cgroup == host.cgroup {
        "host's"
    } else {
        "another"
    };
    [
        format!("host's {}", seen.release),
        count(seen.processes),
        match seen.namespaces.len() {
            0 => String::new(),
            all => namespaces(&own, all, seen),
        },
        if seen.cgroup.is_empty() { "" } else { cgroup }.into(),
        first_of(&seen.uid_map),
        capabilities(seen),
        filter(seen).into(),
        reached,
        seen.interfaces.join(" "),
        count(seen.devices),
    ]
}

/// A program in a machine without a kernel: the process around it asks the host's for what it lets through.
fn of_served(seen: &Seen, host: &Seen, calls: Option<u64>) -> [String; 10] {
    let [_, processes, namespaces, cgroup, map, capabilities, filter, _, network, devices] =
        of_process(seen, host, calls);
    let passed_on = match (seen.calls, calls) {
        (Some((answered, _)), Some(all)) => format!("{answered} of {all}, checked"),
        (Some((answered, _)), None) => format!("{answered}, checked"),
        (None, _) => String::new(),
    };
    let of_monitor = |word: String| if word.is_empty() { word } else { format!("monitor: {word}") };
    let [capabilities, filter] = [capabilities, filter].map(of_monitor);
    let kernel = "none: asks the host's".to_owned();
    [kernel, processes, namespaces, cgroup, map, capabilities, filter, passed_on, network, devices]
}

fn filter(seen: &Seen) -> &'static str {
    match seen.filtered {
        Some(true) => "filter",
        Some(false) => "none",
        None => "",
    }
}

/// A program under a kernel of its own: its system calls and namespaces are that kernel's.
fn of_linux(seen: &Seen) -> [String; 10] {
    [
        format!("own {}", seen.release),
        count(seen.processes),
        String::new(),
        "its kernel's".into(),
        first_of(&seen.uid_map),
        capabilities(seen),
        filter(seen).into(),
        "0 of the host's".into(),
        seen.interfaces.join(" "),
        count(seen.devices),
    ]
}

fn namespaces(own: &[&str], all: usize, seen: &Seen) -> String {
    let shared = seen.namespaces.iter().map(|(name, _)| name.as_str()).filter(|name| !own.contains(name));
    let shared: Vec<&str> = shared.collect();
    match shared.len() {
        0 => format!("{all} of {all}"),
        n if n == all => format!("0 of {all}"),
        _ => format!("{} of {all}, not {}", own.len(), shared.join(" ")),
    }
}

fn capabilities(seen: &Seen) -> String {
    let Some(effective) = seen.effective else { return String::new() };
    let more = match (seen.bounding, seen.no_new_privileges) {
        (Some(bounding), Some(false)) => (bounding & !effective).count_ones(),
        _ => 0,
    };
    if more > 0 { format!("{} +{more}", effective.count_ones()) } else { effective.count_ones().to_string() }
}

/// The first line; a map of several users may have more.
fn first_of(lines: &[String]) -> String {
    match lines {
        [] => String::new(),
        [line] => line.clone(),
        [line, ..] => format!("{line} …"),
    }
}

fn count(number: Option<u64>) -> String {
    number.map_or(String::new(), |number| number.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::subject::Missing;

    fn seen(own: bool, filtered: bool) -> Seen {
        let id = if own { "2" } else { "1" };
        let names = ["mnt", "pid"];
        Seen {
            release: "6.1".into(),
            namespaces: names.map(|name| (name.to_owned(), id.to_owned())).to_vec(),
            filtered: Some(filtered),
            calls: own.then_some((300, 50)),
            ..Seen::default()
        }
    }

    #[test]
    fn a_filter_makes_what_is_refused_unreachable_and_nothing_else_does() {
        let host = seen(false, false);
        let one = |name: &str, view| Observed { name: name.into(), view };
        let observed = [
            one("process", View::Seen(seen(false, false))),
            one("namespaces", View::Seen(seen(true, false))),
            one("docker", View::Seen(seen(true, true))),
            one("vm-exec", View::Served(seen(true, false))),
            one("vm", View::Machine(Some(Box::new(seen(true, true))))),
            one("crun", View::Missing(Missing::new("not installed", "apt install crun"))),
        ];
        let text = sheet(&observed, &host).text();
        let line = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
        assert!(line("process").contains("350 of 350") && line("process").contains("0 of 2"), "{text}");
        assert!(line("namespaces").contains("350 of 350") && line("namespaces").contains("2 of 2"), "{text}");
        assert!(line("docker").contains("300 of 350"), "{text}");
        assert!(line("vm-exec").contains("monitor: none") && line("vm-exec").contains("300 of 350, checked"));
        assert!(line("vm ").contains("monitor: filter 0 of the host's"), "{text}");
        let crun = ("crun".to_owned(), "not installed: apt install crun".to_owned());
        assert_eq!((absent(&observed), text.contains("crun")), (vec![crun], false));
        let widest = parts(&observed, &host)
            .iter()
            .flat_map(|part| part.text().lines().map(str::len).collect::<Vec<_>>())
            .max();
        assert!(widest <= Some(80), "{widest:?}");
    }

    #[test]
    fn a_bounding_set_is_nothing_to_get_where_exec_gives_nothing() {
        let seen = Seen {
            effective: Some(1),
            bounding: Some(0xff),
            no_new_privileges: Some(false),
            ..seen(true, true)
        };
        assert_eq!(capabilities(&seen), "1 +7");
        assert_eq!(capabilities(&Seen { no_new_privileges: Some(true), ..seen }), "1");
        assert_eq!(capabilities(&Seen::default()), "", "unknown is not none");
    }

    #[test]
    fn a_linux_of_its_own_is_not_the_hosts() {
        let host = Seen { release: "6.2".into(), ..Seen::default() };
        let cells = cells("vm-linux", &View::Seen(seen(true, false)), &host, Some(350));
        assert_eq!((&*cells[1], &*cells[8]), ("own 6.1", "0 of the host's"));
    }
}
