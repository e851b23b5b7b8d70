//! What a traced program's calls add up to: by name, as `strace -c` has it, and by whose time it was.

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Calls of one name, or exits of one kind. Times are in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many.
    pub count: u64,
    /// How many of them with an error.
    pub errors: u64,
    /// In the VM before them: the program, and the way out and back.
    pub vm: u64,
    /// In this process: checking, translating, looking up.
    pub wall: u64,
    /// In the host's kernel, for the program.
    pub host: u64,
    /// How many calls of the host's that took.
    pub host_calls: u64,
}

impl Tally {
    fn add(&mut self, record: &Value) {
        let number = |key: &str| record[key].as_u64().unwrap_or(0);
        self.count += 1;
        self.errors += u64::from(record["error"].is_string());
        self.vm = self.vm.saturating_add(number("vm"));
        self.wall = self.wall.saturating_add(number("wall"));
        self.host = self.host.saturating_add(number("host"));
        self.host_calls = self.host_calls.saturating_add(number("host_calls"));
    }

    fn plus(self, other: &Tally) -> Tally {
        Tally {
            count: self.count + other.count,
            errors: self.errors + other.errors,
            vm: self.vm.saturating_add(other.vm),
            wall: self.wall.saturating_add(other.wall),
            host: self.host.saturating_add(other.host),
            host_calls: self.host_calls.saturating_add(other.host_calls),
        }
    }
}

/// All of it.
#[derive(Debug, Clone, Default)]
pub struct Sums {
    /// Calls by name.
    pub calls: BTreeMap<String, Tally>,
    /// Other exits by kind.
    pub exits: BTreeMap<String, Tally>,
    /// Processes: the first, and those that were forked.
    pub processes: u64,
    /// What it takes to leave the VM and to come back: the shortest that was measured.
    pub round_trip: Option<u64>,
}

impl Sums {
    /// Counts a record.
    pub fn add(&mut self, record: &Value) {
        let text = |key: &str| record[key].as_str().unwrap_or("?").to_owned();
        match record["event"].as_str() {
            Some("call") => self.calls.entry(text("call")).or_default().add(record),
            Some("exit") => self.exits.entry(text("why")).or_default().add(record),
            Some("fork") => self.processes += 1,
            Some("round trip") => {
                let took = record["took"].as_u64().unwrap_or(u64::MAX);
                self.round_trip = Some(self.round_trip.map_or(took, |least| least.min(took)));
            }
            _ => {}
        }
    }

    /// All exits, calls and others.
    pub fn all(&self) -> Tally {
        self.calls.values().chain(self.exits.values()).fold(Tally::default(), Tally::plus)
    }

    /// The time in the VM, divided: the program's, at most, and what KVM took at least.
    pub fn in_vm(&self) -> (u64, u64) {
        let all = self.all();
        let kvm = self.round_trip.unwrap_or(0).saturating_mul(all.count).min(all.vm);
        (all.vm - kvm, kvm)
    }

    /// The tables at the end.
    pub fn tell(&self) -> String {
        let all = self.all();
        let mut text = String::from(
            "\ncall                    count  errors      wall µs      host µs  host calls   µs a call\n",
        );
        let mut calls: Vec<_> = self.calls.iter().collect();
        calls.sort_by_key(|(name, tally)| (std::cmp::Reverse(tally.wall + tally.host), *name));
        let line = |name: &str, tally: &Tally| {
            let each = micros(tally.wall + tally.host) / tally.count.max(1) as f64;
            let errors = if tally.errors == 0 { String::new() } else { tally.errors.to_string() };
            format!(
                "{name:<22}{:>7}{errors:>8}{:>13.1}{:>13.1}{:>12}{each:>12.1}\n",
                tally.count,
                micros(tally.wall),
                micros(tally.host),
                tally.host_calls
            )
        };
        for (name, tally) in &calls {
            text += &line(name, tally);
        }
        let sum = self.calls.values().fold(Tally::default(), Tally::plus);
        text += &line("all", &sum);
        let others: Vec<String> =
            self.exits.iter().map(|(why, tally)| format!("{} by {why}", tally.count)).collect();
        let others = if others.is_empty() { String::new() } else { format!(", {}", others.join(", ")) };
        let processes =
            if self.processes == 0 { String::new() } else { format!("; {} forked", self.processes) };
        text += &format!("\nexits: {}: {} by system calls{others}{processes}\n", all.count, sum.count);
        let (program, kvm) = self.in_vm();
        let total = program + kvm + all.wall + all.host;
        text += "\ntime                µs    share\n";
        let each = self.round_trip.map_or("?".into(), |took| format!("{:.1}", micros(took)));
        let parts = [
            ("program", program, "at most: in the VM, with what KVM did there for it".to_owned()),
            (
                "KVM",
                kvm,
                format!(
                    "at least: {each} µs to leave the VM and to come back, as measured, {} times",
                    all.count
                ),
            ),
            ("wall", all.wall, "this process: arguments checked, paths looked up, tables kept".to_owned()),
            ("host", all.host, format!("{} system calls of the host, on its behalf", all.host_calls)),
        ];
        for (who, time, note) in parts {
            let share = time as f64 * 100.0 / (total.max(1)) as f64;
            text += &format!("{who:<9}{:>13.1} {share:>6.1} %  {note}\n", micros(time));
        }
        text + &format!("{:<9}{:>13.1}\n", "all", micros(total))
    }

    /// The same for programs.
    pub fn json(&self) -> Value {
        let tallies = |all: &BTreeMap<String, Tally>| -> Map<String, Value> {
            let one = |(name, tally): (&String, &Tally)| {
                let value = json!({
                    "count": tally.count, "errors": tally.errors, "vm": tally.vm, "wall": tally.wall,
                    "host": tally.host, "host_calls": tally.host_calls,
                });
                (name.clone(), value)
            };
            all.iter().map(one).collect()
        };
        let (all, (program, kvm)) = (self.all(), self.in_vm());
        json!({
            "event": "summary", "calls": tallies(&self.calls), "exits": tallies(&self.exits),
            "forked": self.processes, "round_trip": self.round_trip, "program_at_most": program,
            "kvm_at_least": kvm, "wall": all.wall, "host": all.host, "host_calls": all.host_calls,
        })
    }
}

/// Nanoseconds in µs.
pub fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(name: &str, error: Option<&str>) -> Value {
        json!({ "event": "call", "call": name, "error": error, "vm": 30_000, "wall": 2_000, "host": 5_000, "host_calls": 2 })
    }

    #[test]
    fn calls_add_up_by_name_and_by_whose_time_it_was() {
        let mut sums = Sums::default();
        for record in [
            call("read", None),
            call("read", Some("EBADF")),
            call("open", None),
            json!({ "event": "round trip", "took": 25_000 }),
            json!({ "event": "round trip", "took": 24_000 }),
            json!({ "event": "exit", "why": "page fault", "vm": 1_000, "wall": 3_000 }),
            json!({ "event": "fork" }),
            json!({ "nonsense": [] }),
        ] {
            sums.add(&record);
        }
        let read = sums.calls["read"];
        assert_eq!((read.count, read.errors, read.host_calls), (2, 1, 4));
        assert_eq!(sums.in_vm(), (91_000 - 91_000, 91_000), "no more than there was");
        let text = sums.tell();
        for part in [
            "read                        2       1",
            "4: 3 by system calls, 1 by page fault; 1 forked",
            "6 system calls of the host",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
