//! Why a time that is measured here may not hold on another host.

use super::engine::Engine;
use super::facts::Facts;
use super::hypervisor::{Hypervisor, Platform, has_flag};

/// The reasons, the heaviest first; none if nothing speaks against it.
pub(super) fn unlike_others(facts: &Facts, hypervisor: Option<&Hypervisor>, engine: Engine) -> Vec<String> {
    let timing = &facts.timing;
    let mut reasons = Vec::new();
    if let Some(hypervisor) = hypervisor {
        reasons.push(match hypervisor.platform {
            Platform::Tcg => "the processor is emulated: count instructions here, not microseconds".into(),
            platform => {
                format!("the kernel is a guest ({}): exits, interrupts and page faults cost more than on hardware", platform.name())
            }
        });
    }
    if engine == Engine::Software {
        reasons.push("kvm_pvm runs guests: its exits are no exits of VMX or SVM, and ring 0 is slow".into());
    }
    if let Some(stolen) = timing.stolen.filter(|stolen| *stolen >= 10) {
        reasons.push(format!(
            "{:.1} % of processor time went to other guests of this machine",
            stolen as f64 / 10.0
        ));
    }
    let processors = facts.processor.count.max(1) as f64;
    if let Some(load) = timing.load.filter(|_| is_loaded(facts)) {
        reasons.push(format!("other work is going on: load {load:.2} on {processors} processor(s)"));
    }
    let cpu_max = facts.cgroups.as_ref().map_or("", |cgroups| &cgroups.cpu_max);
    if let Some(share) = quota(cpu_max).filter(|share| *share < processors) {
        reasons.push(format!("our control group may use {share:.2} of {processors} processor(s)"));
    }
    if !timing.governor.is_empty() && timing.governor != "performance" {
        reasons.push(format!("the processor changes its frequency (governor {})", timing.governor));
    }
    if !["", "tsc"].contains(&timing.clocksource.as_str()) {
        reasons.push(format!("the clock is {}: to read it costs more than with tsc", timing.clocksource));
    }
    if facts.process.debug {
        reasons.push("this matchstick is a debug build: `cargo build --release` makes the other".into());
    }
    reasons
}

/// Whether so much other work is going on that it changes what is measured.
pub fn is_loaded(facts: &Facts) -> bool {
    facts.timing.load.is_some_and(|load| load > facts.processor.count.max(1) as f64 / 2.0)
}

/// What would be a reason if it could be read.
pub(super) fn unknown(facts: &Facts) -> Vec<&'static str> {
    let Facts { timing, processor, cgroups, .. } = facts;
    let unknown = [
        (has_flag(facts).is_none(), "a hypervisor below (/proc/cpuinfo)"),
        (facts.kvm.modules.is_none(), "kvm_pvm (/sys/module)"),
        (timing.stolen.is_none(), "stolen time (/proc/stat)"),
        // The load means something only beside the number of processors.
        (timing.load.is_none() || processor.count == 0, "the load (/proc/loadavg, /proc/cpuinfo)"),
        (cgroups.is_none(), "a limit of our control group (/proc/self/mountinfo)"),
        (timing.clocksource.is_empty(), "the clock (/sys/devices/system/clocksource)"),
    ];
    unknown.into_iter().filter(|(is_unknown, _)| *is_unknown).map(|(_, what)| what).collect()
}

/// How many processors `QUOTA PERIOD` amounts to; `None` for no limit.
fn quota(cpu_max: &str) -> Option<f64> {
    let (quota, period) = cpu_max.split_once(' ')?;
    let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
    (quota > 0.0 && period > 0.0).then(|| quota / period)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Cgroups;

    #[test]
    fn a_quota_is_a_number_of_processors() {
        assert_eq!(quota("150000 100000"), Some(1.5));
        for none in ["max 100000", "-1 100000", "", "5", "1 0"] {
            assert_eq!(quota(none), None, "{none:?}");
        }
    }

    #[test]
    fn nothing_speaks_against_a_quiet_machine() {
        let mut facts = Facts::default();
        facts.processor.count = 8;
        facts.timing.load = Some(0.3);
        facts.timing.clocksource = "tsc".into();
        facts.timing.governor = "performance".into();
        assert_eq!(unlike_others(&facts, None, Engine::Hardware), [""; 0]);
        facts.timing.load = Some(5.0);
        facts.timing.stolen = Some(25);
        facts.cgroups = Some(Cgroups { cpu_max: "200000 100000".into(), ..Cgroups::default() });
        facts.timing.clocksource = "hpet".into();
        facts.timing.governor = "powersave".into();
        facts.process.debug = true;
        assert_eq!(unlike_others(&facts, None, Engine::Hardware).len(), 6);
    }
}
