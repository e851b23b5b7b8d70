//! The machine that figures hold for, and why they may not hold for another.
//!
//! Printed with every table. What `matchstick host` finds out is found out there; this is the part of it that moves
//! a clock's figures.

use crate::sys;
use serde::{Deserialize, Serialize};
use std::fs;

/// A machine, in the words in which it calls itself. What is not known is empty.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Card {
    /// The processor's model.
    pub processor: String,
    /// How many of them Linux uses.
    pub processors: usize,
    /// `uname -r`.
    pub kernel: String,
    /// The modules that make KVM.
    pub kvm: String,
    /// What the machine itself runs on.
    pub below: String,
    /// The frequency of the timer interrupt.
    pub hz: u32,
    /// How control groups are mounted: v1, v2 or hybrid.
    pub cgroups: String,
    /// The frequency governor.
    pub governor: String,
    /// The clock that Linux reads.
    pub clock: String,
    /// The load average of the last minute, before the race.
    pub load: f64,
    /// How our own program is linked and built.
    pub binary: String,
    /// Seconds since the start of 1970, UTC.
    pub time: u64,
    /// Why times measured here do not hold elsewhere.
    pub caveats: Vec<String>,
}

/// The contents of a small file, without the end of its line; empty if it cannot be read.
fn read(path: &str) -> String {
    fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}

impl Card {
    /// This machine.
    pub fn gather() -> Card {
        let information = read("/proc/cpuinfo");
        let field = |name: &str| {
            let line = information.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_once(':'))
                .map_or(String::new(), |(_, value)| value.trim().to_owned())
        };
        let is_guest = field("flags").split(' ').any(|flag| flag == "hypervisor");
        let mut card = Card {
            processor: field("model name"),
            processors: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: read("/proc/sys/kernel/osrelease"),
            kvm: modules(),
            below: if is_guest { "a hypervisor".into() } else { String::new() },
            hz: sys::timer_frequency(),
            cgroups: cgroups(&read("/proc/self/mounts")).into(),
            governor: read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            clock: read("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
            load: read("/proc/loadavg").split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0),
            binary: binary(),
            time: sys::unix_time(),
            caveats: Vec::new(),
        };
        card.caveats = card.caveats();
        card
    }

    fn caveats(&self) -> Vec<String> {
        let mut caveats = Vec::new();
        if !self.below.is_empty() {
            caveats.push(
                "the host is a virtual machine itself: exits and page faults cost more than on hardware",
            );
        }
        if self.kvm.contains("kvm_pvm") {
            caveats.push("kvm_pvm runs guests without the processor's help: a guest's ring 0 is slow");
        }
        if self.load > self.processors as f64 / 2.0 {
            caveats.push("other work is going on");
        }
        if !["", "performance"].contains(&self.governor.as_str()) {
            caveats.push("the processor changes its frequency");
        }
        if cfg!(debug_assertions) {
            caveats.push("this matchstick is a debug build");
        }
        caveats.into_iter().map(Into::into).collect()
    }

    /// The card in lines, each with a word before it.
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let or = |text: &str, other: &str| if text.is_empty() { other.to_owned() } else { text.to_owned() };
        let below = if self.below.is_empty() { String::new() } else { format!(", on {}", self.below) };
        vec![
            ("processor", format!("{} × {}{below}", self.processors, or(&self.processor, "unknown"))),
            (
                "kernel",
                format!(
                    "Linux {}, {} Hz, cgroups {}, clock {}, governor {}",
                    self.kernel,
                    self.hz,
                    or(&self.cgroups, "none"),
                    or(&self.clock, "unknown"),
                    or(&self.governor, "none")
                ),
            ),
            ("KVM", or(&self.kvm, "none")),
            ("load", format!("{:.2} before the race", self.load)),
            ("matchstick", self.binary.clone()),
        ]
    }

    /// What differs between two machines, or between two states of one.
    pub fn differences(&self, other: &Card) -> Vec<String> {
        let pairs = [
            ("processor", &self.processor, &other.processor),
            ("kernel", &self.kernel, &other.kernel),
            ("KVM", &self.kvm, &other.kvm),
            ("cgroups", &self.cgroups, &other.cgroups),
            ("governor", &self.governor, &other.governor),
            ("matchstick", &self.binary, &other.binary),
        ];
        let differs = pairs.iter().filter(|(_, one, other)| one != other);
        differs.map(|(what, one, other)| format!("{what}: {one:?} then, {other:?} now")).collect()
    }
}

/// The modules of KVM, or that it is built in.
fn modules() -> String {
    let entries = fs::read_dir("/sys/module").into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| name.starts_with("kvm")).collect();
    names.sort();
    names.join(" ")
}

/// The layout of control groups, from /proc/self/mounts.
fn cgroups(mounts: &str) -> &'static str {
    let has = |kind| mounts.lines().any(|line| line.split(' ').nth(2) == Some(kind));
    match (has("cgroup"), has("cgroup2")) {
        (true, true) => "hybrid",
        (true, false) => "v1",
        (false, true) => "v2",
        (false, false) => "",
    }
}

/// Our own linking: what happens before main depends on it.
fn binary() -> String {
    let linked = if cfg!(target_feature = "crt-static") { "static" } else { "dynamic" };
    // e_type of the ELF header: 2 is ET_EXEC, at a fixed address.
    let is_fixed = fs::read("/proc/self/exe").is_ok_and(|image| image.get(16) == Some(&2));
    let place = if is_fixed { "at a fixed address" } else { "position-independent" };
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    format!("{}, {linked}, {place}, {build} build", env!("CARGO_PKG_VERSION"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_of_control_groups_is_read_from_the_mounts() {
        let (one, two) =
            ("cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\n", "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n");
        assert_eq!(cgroups(one), "v1");
        assert_eq!(cgroups(two), "v2");
        assert_eq!(cgroups(&[one, two].concat()), "hybrid");
        assert_eq!(cgroups("proc /proc proc rw 0 0\n"), "");
    }

    #[test]
    fn this_machine_has_a_card_and_does_not_differ_from_itself() {
        let card = Card::gather();
        assert!(
            card.processors > 0 && !card.kernel.is_empty() && (100..=1000).contains(&card.hz),
            "{card:?}"
        );
        assert_eq!(card.differences(&card), [""; 0]);
        let other = Card { kernel: "5.0".into(), ..card.clone() };
        assert_eq!(card.differences(&other).len(), 1);
        assert!(card.lines().iter().all(|(_, text)| !text.is_empty()), "{card:?}");
    }
}
