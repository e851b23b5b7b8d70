//! The figures of the lessons, measured or read on this machine at the moment somebody reads about them.
//!
//! A few runs are enough here: a lesson shows the order of magnitude. `matchstick bench` is for comparisons. A figure
//! that cannot be had (no /dev/kvm, no /proc) is `None`, and the lesson has another text for that case.

use super::measure::{LIMIT, PAUSE, RUNS, in_words, median};
#[cfg(feature = "trace")]
use super::served;
#[cfg(feature = "race")]
use super::starts;
use crate::container::proc::Membership;
use crate::guest::Guest;
use crate::host::{Engine, Facts, Host, LayerKind, classify, gather, is_loaded};
use crate::kvm::{Exit, Kvm};
use crate::machine::{Machine, Outcome};
use crate::sys;
use crate::timeline::Probe;
use crate::x86::ports::{COM1, COM1_LEN};
use crate::x86::{Entry, Mode};
use std::collections::BTreeMap;
use std::fs;
use std::hint::black_box;
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, SystemTime};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

/// What was measured so far; a figure that is asked for twice is the same.
#[derive(Default)]
pub struct Figures {
    /// All that the lesson has places for: what is compared is measured together.
    #[cfg_attr(not(feature = "race"), expect(dead_code, reason = "only the race compares"))]
    wanted: Vec<String>,
    known: BTreeMap<String, Option<String>>,
    host: Option<(Facts, Host)>,
}

impl Figures {
    /// Those of a lesson that has these names.
    pub fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Figures {
        Figures { wanted: names.into_iter().map(str::to_owned).collect(), ..Figures::default() }
    }

    /// The figure of that name, with its unit.
    pub fn value(&mut self, name: &str) -> Option<String> {
        if let Some(condition) = name.strip_prefix("if ") {
            return self.holds(condition).then(String::new);
        }
        #[cfg(feature = "race")]
        if starts::NAMES.contains(&name) && !self.known.contains_key(name) {
            self.known.extend(starts::measure(&self.wanted));
        }
        #[cfg(feature = "trace")]
        if served::NAMES.contains(&name) && !self.known.contains_key(name) {
            self.known.extend(served::measure());
        }
        if let Some(value) = self.known.get(name) {
            return value.clone();
        }
        let value = self.measure(name).filter(|value| !value.is_empty());
        self.known.insert(name.to_owned(), value.clone());
        value
    }

    fn measure(&mut self, name: &str) -> Option<String> {
        match name {
            "exit" => exit().map(in_words),
            "exit_count" => hello(&mut Counter::default()).map(|counter| counter.all.to_string()),
            "serial_exits" => hello(&mut Counter::default()).map(|counter| counter.serial.to_string()),
            "boot_bytes" => Guest::find("real").map(|guest| guest.image.len().to_string()),
            "copy" => copy().map(in_words),
            "guest_memory" => {
                Guest::find("hello").map(|guest| format!("{} KiB", guest.config().memory >> 10))
            }
            "guest_address" => guest_address(),
            "restore" => restore().map(in_words),
            "syscall" => Some(in_words(syscall())),
            #[cfg(feature = "race")]
            "syscalls" => starts::system_calls().map(|count| count.to_string()),
            "ring" => Some(sys::ring().to_string()),
            "pid" => Some(std::process::id().to_string()),
            "uid" => Some(sys::effective_user().to_string()),
            "interrupts" => first_number("/proc/stat", "intr "),
            "timer_interrupts" => timer_interrupts(),
            "etc_files" => etc().map(|(all, _)| all.to_string()),
            "etc_changed" => etc().map(|(_, changed)| changed.to_string()),
            "virtio_devices" => virtio_devices(),
            "container_tools" => {
                installed(&["docker", "podman", "nerdctl", "runc", "crun", "youki", "lxc-start", "bwrap"])
            }
            "vm_tools" => installed(&[
                "kata-runtime",
                "containerd-shim-kata-v2",
                "firecracker",
                "cloud-hypervisor",
                "qemu-system-x86_64",
            ]),
            _ => self.of_host(name),
        }
    }

    fn host(&mut self) -> &(Facts, Host) {
        self.host.get_or_insert_with(|| {
            let facts = gather();
            let host = classify(&facts);
            (facts, host)
        })
    }

    /// Whether something is so here. What is not known is not so.
    fn holds(&mut self, condition: &str) -> bool {
        let (facts, host) = self.host();
        match condition {
            // The processor runs all of a guest's instructions but those that have to leave.
            "hardware" => matches!(host.engine, Engine::Hardware | Engine::Nested),
            // KVM emulates the kernel mode of its guests.
            "software" => host.engine == Engine::Software,
            "loaded" => is_loaded(facts),
            _ => false,
        }
    }

    /// What `matchstick host` knows as well.
    fn of_host(&mut self, name: &str) -> Option<String> {
        let (facts, host) = self.host();
        let layer = |place| host.layer(place).map(|layer| layer.name.clone());
        match name {
            "hypervisor" => layer(LayerKind::Hypervisor),
            "engine" => {
                layer(LayerKind::Kvm).filter(|_| ![Engine::None, Engine::Unknown].contains(&host.engine))
            }
            "kernel" => layer(LayerKind::Kernel),
            "container" => layer(LayerKind::Container),
            "processors" => {
                Some(facts.processor.count).filter(|&count| count > 0).map(|count| count.to_string())
            }
            "load" => facts.timing.load.map(|load| format!("{load:.2}")),
            "root" => Some(facts.marks.root.clone()),
            "namespaces" => {
                let all = facts.marks.namespaces.iter();
                Some(all.map(|(name, number)| format!("{name} {number}")).collect::<Vec<_>>().join(", "))
            }
            "own_namespaces" => Some(host.own_namespaces.join(", ")),
            "cgroup_mount" => Some(facts.cgroups.as_ref()?.unified.clone()),
            "cgroup_path" => memory_group(&fs::read_to_string("/proc/self/cgroup").ok()?),
            "cgroup_controllers" => {
                let cgroups = facts.cgroups.as_ref()?;
                let of_unified = fs::read_to_string(Path::new(&cgroups.unified).join("cgroup.controllers"));
                let mut all = cgroups.legacy.clone();
                all.extend(of_unified.unwrap_or_default().split_whitespace().map(str::to_owned));
                Some(all.join(", "))
            }
            _ => None,
        }
    }
}

/// The group whose limit of memory holds: that of the controller `memory`, or of the one tree of version 2. `cgroup` is
/// /proc/self/cgroup.
fn memory_group(cgroup: &str) -> Option<String> {
    let of = |controller| Membership::all(cgroup).find(|group| group.has(controller));
    of("memory").or_else(|| of("")).map(|group| group.path.to_owned())
}

/// How long it takes to leave a guest for this process and to come back.
fn exit() -> Option<Duration> {
    /// out 0xe0, al · jmp back
    const GUEST: &[u8] = b"\xe6\xe0\xeb\xfc";
    const ROUNDS: usize = 201;
    let mut vm = Kvm::open().and_then(|kvm| kvm.create_vm()).ok()?;
    vm.enable_local_apics().ok()?;
    vm.add_memory(2 << 20).ok()?.write_slice(GUEST, GuestAddress(0x7c00)).ok()?;
    let mut vcpu = vm.create_vcpu(0).ok()?;
    vcpu.enter(&Entry::at(Mode::Real, 0x7c00));
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let start = sys::monotonic();
        if !matches!(vcpu.run(), Ok(Exit::Out { .. })) {
            return None;
        }
        times.push(sys::monotonic() - start);
    }
    median(times)
}

/// Counts a guest's exits.
#[derive(Default)]
struct Counter {
    all: usize,
    serial: usize,
}

impl Probe for Counter {
    fn exit(&mut self, exit: &Exit<'_>) {
        self.all += 1;
        let is_serial = matches!(exit, Exit::Out { port, .. } | Exit::In { port, .. }
            if (COM1..COM1 + COM1_LEN).contains(port));
        self.serial += usize::from(is_serial);
    }
}

/// Runs `hello` under `probe`, its output thrown away.
fn hello<P: Probe>(probe: &mut P) -> Option<&mut P> {
    let guest = Guest::find("hello")?;
    let mut config = guest.config();
    config.timeout = Some(LIMIT);
    let mut machine = Machine::watched(&config, guest, Box::new(io::sink()), probe).ok()?;
    matches!(machine.run_watched(probe), Ok(Outcome::Exited(0))).then_some(probe)
}

/// How long a restored machine takes, from the snapshot of a guest that has just been loaded until it has ended and is
/// given back.
fn restore() -> Option<Duration> {
    let guest = Guest::find("hello")?;
    let mut original = Machine::new(&guest.config(), guest, Box::new(io::sink())).ok()?;
    let snapshot = original.snapshot().ok()?;
    drop(original);
    let once = |_| {
        thread::sleep(PAUSE);
        let start = sys::monotonic();
        let mut clone = Machine::restore(&snapshot, Box::new(io::sink())).ok()?;
        let outcome = clone.run().ok()?;
        drop(clone);
        matches!(outcome, Outcome::Exited(0)).then(|| sys::monotonic() - start)
    };
    median((0..RUNS).map(once).collect::<Option<_>>()?)
}

/// Where in this process's memory the first byte of a guest's memory lies.
fn guest_address() -> Option<String> {
    let mut vm = Kvm::open().and_then(|kvm| kvm.create_vm()).ok()?;
    let memory = vm.add_memory(2 << 20).ok()?;
    memory.get_host_address(GuestAddress(0)).ok().map(|address| format!("{address:p}"))
}

/// How long it takes to copy the memory of a small guest.
fn copy() -> Option<Duration> {
    let memory = vec![0x5a_u8; usize::try_from(Guest::find("hello")?.config().memory).ok()?];
    let once = |_| {
        let start = sys::monotonic();
        black_box(black_box(&memory).clone());
        sys::monotonic() - start
    };
    median((0..RUNS).map(once).collect())
}

/// One system call of the smallest kind.
fn syscall() -> Duration {
    const CALLS: u32 = 10_000;
    let start = sys::monotonic();
    (0..CALLS).for_each(|_| sys::smallest_system_call());
    (sys::monotonic() - start) / CALLS
}

/// The first number of the line of `path` that begins with `start`.
fn first_number(path: &str, start: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let rest = text.lines().find_map(|line| line.strip_prefix(start))?;
    rest.split_whitespace().next().map(str::to_owned)
}

/// Interrupts of the local APICs' timers since the start, of all processors.
fn timer_interrupts() -> Option<String> {
    let text = fs::read_to_string("/proc/interrupts").ok()?;
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix("LOC:"))?;
    let sum: u64 = line.split_whitespace().map_while(|word| word.parse::<u64>().ok()).sum();
    Some(sum.to_string())
}

/// Files directly in /etc, and how many of them were changed in the last 30 days.
fn etc() -> Option<(usize, usize)> {
    const DAYS: Duration = Duration::from_secs(30 * 24 * 60 * 60);
    let now = SystemTime::now();
    let entries = fs::read_dir("/etc").ok()?.flatten().filter_map(|entry| entry.metadata().ok());
    let files: Vec<_> = entries.filter(|metadata| metadata.is_file()).collect();
    let is_new = |time: SystemTime| now.duration_since(time).is_ok_and(|age| age < DAYS);
    let changed = files.iter().filter(|file| file.modified().is_ok_and(is_new)).count();
    Some((files.len(), changed))
}

/// The virtio devices of this machine, each kind with its number (virtio 1.2, section 5).
fn virtio_devices() -> Option<String> {
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for entry in fs::read_dir("/sys/bus/virtio/devices").ok()?.flatten() {
        let id = fs::read_to_string(entry.path().join("device")).unwrap_or_default();
        let id = u32::from_str_radix(id.trim().trim_start_matches("0x"), 16).unwrap_or(0);
        let kind = match id {
            1 => "net",
            2 => "block",
            3 => "console",
            4 => "rng",
            5 => "balloon",
            8 => "scsi",
            16 => "gpu",
            18 => "input",
            19 => "vsock",
            24 => "mem",
            26 => "fs",
            27 => "pmem",
            _ => "other",
        };
        *kinds.entry(kind).or_default() += 1;
    }
    let list: Vec<String> = kinds.iter().map(|(kind, count)| format!("{kind} × {count}")).collect();
    Some(list.join(", "))
}

/// Those of `programs` that are in PATH.
fn installed(programs: &[&str]) -> Option<String> {
    let path = std::env::var_os("PATH")?;
    let is_there =
        |name: &&&str| std::env::split_paths(&path).any(|directory| directory.join(name).is_file());
    let found: Vec<&str> = programs.iter().filter(is_there).copied().collect();
    Some(found.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_is_the_one_that_limits_memory() {
        let hybrid = "12:pids:/a\n5:cpu,memory:/b\n1:name=systemd:/c\n0::/d\n";
        assert_eq!(memory_group(hybrid).as_deref(), Some("/b"));
        assert_eq!(memory_group("12:pids:/a\n0::/d\n").as_deref(), Some("/d"));
        assert_eq!(memory_group("12:pids:/a\n"), None);
    }

    #[test]
    fn only_what_is_known_holds() {
        let mut figures = Figures::default();
        let (mut facts, mut host) = (Facts::default(), classify(&Facts::default()));
        facts.processor.count = 2;
        for (engine, load, holds) in [
            (Engine::Hardware, Some(0.1), [true, false, false]),
            (Engine::Nested, Some(2.0), [true, false, true]),
            (Engine::Software, None, [false, true, false]),
            (Engine::None, Some(2.0), [false, false, true]),
            (Engine::Unknown, None, [false, false, false]),
        ] {
            facts.timing.load = load;
            host.engine = engine;
            figures.host = Some((facts.clone(), host.clone()));
            let found = ["if hardware", "if software", "if loaded"].map(|name| figures.value(name).is_some());
            assert_eq!(found, holds, "{engine:?}");
        }
    }

    #[test]
    fn what_nobody_knows_is_nothing_and_what_is_known_stays() {
        let mut figures = Figures::default();
        assert_eq!(figures.value("no such figure"), None);
        let first = figures.value("syscall");
        assert!(first.is_some());
        assert_eq!(figures.value("syscall"), first);
        assert_eq!(figures.value("ring").as_deref(), Some("3"));
    }
}
