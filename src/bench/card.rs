//! The machine that figures hold for, and why they may not hold for another.
//!
//! Printed with every table. [`host`] finds it out; this is the part of it that influences measured times, and how our
//! own program is built.

use crate::host::{self, Cgroups, Host};
use crate::sys;
use serde::{Deserialize, Serialize};
use std::fs;

/// A machine, by its own names. What is not known is empty.
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
    pub hypervisor: String,
    /// The frequency of the timer interrupt.
    pub hz: u32,
    /// How control groups are mounted: v1, v2 or hybrid.
    pub cgroups: String,
    /// The frequency governor.
    pub governor: String,
    /// The clock that Linux reads.
    pub clock: String,
    /// The load average of the last minute, before the race.
    pub load: Option<f64>,
    /// How our own program is linked and built.
    pub binary: String,
    /// Seconds since the start of 1970, UTC.
    pub time: u64,
    /// Why times measured here do not hold elsewhere.
    pub caveats: Vec<String>,
}

impl Card {
    /// This machine.
    pub fn gather() -> Card {
        let facts = host::gather();
        let Host { hypervisor, timings, .. } = host::classify(&facts);
        let hypervisor = hypervisor.map(|hypervisor| match hypervisor.monitor {
            Some(monitor) => format!("{}, {monitor}", hypervisor.platform.name()),
            None => hypervisor.platform.name().into(),
        });
        Card {
            processor: facts.processor.model,
            processors: facts.processor.count,
            kernel: facts.kernel.release,
            kvm: facts.kvm.modules.unwrap_or_default().join(" "),
            hypervisor: hypervisor.unwrap_or_default(),
            hz: sys::timer_frequency(),
            cgroups: facts.cgroups.as_ref().map_or("", layout).into(),
            governor: facts.timing.governor,
            clock: facts.timing.clocksource,
            load: facts.timing.load,
            binary: binary(),
            time: sys::unix_time(),
            caveats: timings,
        }
    }

    /// The card in lines, each with a word before it.
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let or = |text: &str, other: &str| if text.is_empty() { other.to_owned() } else { text.to_owned() };
        let hypervisor =
            if self.hypervisor.is_empty() { String::new() } else { format!(", on {}", self.hypervisor) };
        vec![
            ("processor", format!("{} × {}{hypervisor}", self.processors, or(&self.processor, "unknown"))),
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
            ("load", self.load.map_or("unknown".into(), |load| format!("{load:.2} before the race"))),
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

/// The load average of the last minute, now.
pub fn load() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

/// How control groups are mounted.
fn layout(cgroups: &Cgroups) -> &'static str {
    match (cgroups.legacy.is_empty(), cgroups.unified.is_empty()) {
        (false, false) => "hybrid",
        (false, true) => "v1",
        (true, false) => "v2",
        (true, true) => "",
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
    fn the_layout_of_control_groups_has_a_name() {
        let cgroups = |unified: &str, legacy: &[&str]| Cgroups {
            unified: unified.into(),
            legacy: legacy.iter().map(|&name| name.into()).collect(),
            ..Cgroups::default()
        };
        let path = "/sys/fs/cgroup";
        let layouts = [cgroups("", &["cpu"]), cgroups(path, &[]), cgroups(path, &["cpu"]), cgroups("", &[])];
        assert_eq!(layouts.map(|cgroups| layout(&cgroups)), ["v1", "v2", "hybrid", ""]);
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
