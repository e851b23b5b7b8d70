//! Golden images against fresh starts: what a clone costs, what a machine from the pool costs, and what it may.
//!
//! `cargo bench --bench golden` prints medians in µs of contestants that take turns in one process, in a shuffled order.
//! The clock of a clone stops at the first byte that its guest writes. `-- --rounds N` changes the length.
//!
//! As long as any VM of a host is open, all others are cheaper (docs/performance.md, "The first VM of a host"). Whoever
//! clones has one: so clones are measured beside an empty VM, fresh starts alone, and each the other way round as well.
//! What a contestant keeps open is made before its clock and given back after it, and helps nobody else.
//!
//! The floor is the bare system calls of benches/floor: what every new VM costs, wherever its memory comes from.
//!
//! A bar that is missed is printed; only what misses it by half or more, even in the fastest round, fails, and memory.

#![allow(unsafe_code)]

#[path = "floor/floor.rs"]
mod floor;

use matchstick::guest::Guest;
use matchstick::kvm::{Exit, Kvm, Vcpu, Vm};
use matchstick::machine::{Config, Machine, Outcome};
use matchstick::snapshot::{Cleaned, Pool, Snapshot};
use matchstick::x86::Entry;
use std::cell::RefCell;
use std::fs;
use std::io::{self, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A clone beside an empty VM to its first byte, against a fresh start without one, in the same process.
const BAR_CLONE: f64 = 0.85;
/// A run from the pool, against `KVM_RUN` and the guest's exits alone.
const BAR_POOL: f64 = 1.10;
/// Memory of a clone in KiB, over 200 of them, in one process and as processes.
const BAR_MEMORY: f64 = 300.0;
const BAR_PROCESS: f64 = 1024.0;
const CLONES: usize = 200;
const MATCHSTICK: &str = env!("CARGO_BIN_EXE_matchstick");

/// Notes when the first byte comes.
#[derive(Clone, Default)]
struct FirstByte(Arc<Mutex<Option<Instant>>>);

impl Write for FirstByte {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("nobody panicked").get_or_insert_with(Instant::now);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs `machine` to its end, and returns when its first byte came.
fn run(machine: &mut Machine, seen: &FirstByte) -> Instant {
    let outcome = machine.run().expect("hello runs");
    assert!(matches!(outcome, Outcome::Exited(0)), "hello ended with {outcome:?}");
    seen.0.lock().expect("nobody panicked").expect("hello spoke")
}

/// hello with a vCPU and nothing else: `KVM_RUN`, its line, `KVM_RUN`, its end.
struct Bare {
    vcpu: Vcpu,
    entry: Entry,
    /// Kept open as long as its vCPU. A VM's directory in debugfs is named by its descriptor: were that free again, the next VM of that
    /// number would find its name taken, do without one, and be created in less than half the time.
    _vm: Vm,
}

impl Bare {
    fn new(hello: &Guest) -> Bare {
        let kvm = Kvm::open().expect("this host runs VMs");
        let mut vm = kvm.create_vm().expect("a VM");
        vm.enable_local_apics().expect("local APICs");
        let config = hello.config();
        let memory = vm.add_memory(config.memory).expect("memory").clone();
        let payload = matchstick::boot::Payload { image: hello.image, ..Default::default() };
        let entry = matchstick::boot::load(None, &payload, &memory).expect("hello is an image");
        let vcpu = vm.create_vcpu(0).expect("a vCPU");
        Bare { vcpu, entry, _vm: vm }
    }

    fn run(&mut self) {
        self.vcpu.enter(&self.entry);
        let line = self.vcpu.run().expect("it runs");
        assert!(matches!(line, Exit::Out { port: 0x3f8, .. }), "{line:?}");
        let end = self.vcpu.run().expect("it runs");
        assert!(matches!(end, Exit::Out { port: 0xf4, .. }), "{end:?}");
        // The next round begins anew: this access is not to be completed in it.
        self.vcpu.leave_at_once();
        let left = self.vcpu.run().expect("it runs");
        assert!(matches!(left, Exit::Interrupted), "{left:?}");
    }
}

/// Median and minimum, in µs.
fn median(times: &mut [Duration]) -> (f64, f64) {
    times.sort_unstable();
    let micros = |time: Duration| time.as_nanos() as f64 / 1000.0;
    (micros(times[times.len() / 2]), micros(times[0]))
}

fn main() {
    let mut args = std::env::args().skip_while(|arg| arg != "--rounds").skip(1);
    let rounds: usize = args.next().map_or(300, |n| n.parse().expect("--rounds takes a number"));
    let hello = Guest::find("hello").expect("the gallery has hello");
    let new = || Machine::new(&hello.config(), hello, Box::new(io::sink())).expect("this host runs VMs");
    let golden = new().snapshot().expect("a snapshot");
    let kvm = Kvm::open().expect("this host runs VMs");
    let config = Config::default();
    let (reset, pages) = (RefCell::new(Vec::new()), RefCell::new(0));
    let empty_vm = || kvm.create_vm().expect("a VM");

    // Each returns the time that is held against a bar.
    let fresh = || {
        let (begin, seen) = (Instant::now(), FirstByte::default());
        let mut machine =
            Machine::new(&hello.config(), hello, Box::new(seen.clone())).expect("this host runs VMs");
        run(&mut machine, &seen) - begin
    };
    let clone = || {
        let (begin, seen) = (Instant::now(), FirstByte::default());
        let mut machine = golden.start(&kvm, &config, Box::new(seen.clone())).expect("a clone");
        run(&mut machine, &seen) - begin
    };
    let beside_another = |start: &dyn Fn() -> Duration| {
        let _other = empty_vm();
        start()
    };
    let pooled = || {
        let mut pool = Pool::new(&golden, &config, 1).expect("a pool");
        let mut took = Duration::ZERO;
        // The first run is what it was made with; the second is a run again.
        for again in [false, true] {
            let seen = FirstByte::default();
            let begin = Instant::now();
            let mut machine = pool.take(Box::new(seen.clone())).expect("a machine");
            run(&mut machine, &seen);
            took = begin.elapsed();
            let begin = Instant::now();
            match pool.give_back(machine).expect("it is cleaned") {
                Cleaned::Pages(count) => *pages.borrow_mut() = count,
                Cleaned::Anew => panic!("hello leaves its page tables as they are"),
            }
            if again {
                reset.borrow_mut().push(begin.elapsed());
            }
        }
        took
    };
    let bare_run = || {
        let mut bare = Bare::new(hello);
        bare.run();
        let begin = Instant::now();
        bare.run();
        begin.elapsed()
    };
    let bare_start = || {
        let (begin, mut first) = (Instant::now(), Duration::ZERO);
        // SAFETY: hello is the guest it is made for, and what it leaves is given back at once.
        unsafe { floor::start(hello.image, |_| first = begin.elapsed()).tear_down() };
        first
    };
    let fresh_beside = || beside_another(&fresh);
    let clone_beside = || beside_another(&clone);
    let floor_beside = || beside_another(&bare_start);
    let contestants: [&dyn Fn() -> Duration; 7] =
        [&fresh, &clone_beside, &fresh_beside, &clone, &pooled, &bare_run, &floor_beside];
    let mut samples = [const { Vec::new() }; 7];
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut order = [0, 1, 2, 3, 4, 5, 6];
    for round in 0..rounds + 3 {
        for n in (1..order.len()).rev() {
            // Xorshift: any order will do, the same one each time.
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            order.swap(n, (random % (n as u64 + 1)) as usize);
        }
        for n in order {
            let time = contestants[n]();
            if round >= 3 {
                samples[n].push(time);
            }
        }
    }
    let [fresh, clone, fresh_beside, clone_alone, pooled, bare, floor] =
        samples.map(|mut times| median(&mut times));
    println!("{rounds} rounds of hello, shuffled, in one process; µs, median (minimum)\n");
    let line = |what: &str, (median, least): (f64, f64)| println!("  {what:<52}{median:>8.1} ({least:>7.1})");
    line("fresh machine, to its first byte", fresh);
    line("… beside an empty VM", fresh_beside);
    line("clone, to its first byte", clone_alone);
    line("… beside an empty VM", clone);
    line("floor: bare system calls, beside an empty VM", floor);
    line("KVM_RUN and the guest's exits alone", bare);
    line("machine from the pool, to its end", pooled);
    line("… given back and cleaned, apart", median(&mut reset.borrow_mut()));
    println!("  pages written back: {}\n", pages.borrow());
    let mut good = held("clone beside an empty VM / fresh", clone, fresh, Some(BAR_CLONE));
    held("clone / fresh, both beside an empty VM", clone, fresh_beside, None);
    held("floor / fresh, both beside an empty VM", floor, fresh_beside, None);
    held("clone / fresh, both alone", clone_alone, fresh, None);
    good &= held("pool / bare", pooled, bare, Some(BAR_POOL));

    let each = memory_of_a_clone(&golden, &kvm);
    println!(
        "\n  memory of a clone, over {CLONES}: {each:.1} KiB of this process (PSS; bar {BAR_MEMORY} KiB)"
    );
    let process = memory_of_a_process();
    println!("  as a process of its own, over {CLONES}: {process:.1} KiB (PSS; bar {BAR_PROCESS} KiB)");
    if !good || each > BAR_MEMORY || process > BAR_PROCESS {
        println!("FAILED: far from a bar");
        std::process::exit(1);
    }
}

/// Prints a ratio with its bar, if it has one; false if that is missed by half even in the fastest round.
fn held(what: &str, one: (f64, f64), other: (f64, f64), bar: Option<f64>) -> bool {
    let (median, least) = (one.0 / other.0, one.1 / other.1);
    let verdict = match bar {
        Some(bar) if median > bar => format!("; bar {bar:.2}) MISSED"),
        Some(bar) => format!("; bar {bar:.2})"),
        None => ")".into(),
    };
    println!("  {what}: × {median:.2} (fastest × {least:.2}{verdict}");
    bar.is_none_or(|bar| median.min(least) < bar * 1.5)
}

/// What another clone that has run costs, in KiB.
fn memory_of_a_clone(golden: &Snapshot, kvm: &Kvm) -> f64 {
    let start = || {
        let mut machine = golden.start(kvm, &Config::default(), Box::new(io::sink())).expect("a clone");
        machine.run().expect("hello runs");
        machine
    };
    let mut clones: Vec<Machine> = (0..10).map(|_| start()).collect();
    let before = in_use("self");
    clones.extend((0..CLONES).map(|_| start()));
    (in_use("self") - before) / CLONES as f64
}

/// The same for `matchstick run` of an image of echo, which says a line and waits.
fn memory_of_a_process() -> f64 {
    let echo = Guest::find("echo").expect("the gallery has echo");
    let directory = tempfile::tempdir().expect("a directory for the image");
    let path = directory.path().join("golden.ms");
    let mut machine = Machine::new(&echo.config(), echo, Box::new(io::sink())).expect("a VM");
    machine.snapshot().expect("a snapshot").save(&path).expect("an image");
    let start = || {
        let mut run = Command::new(MATCHSTICK);
        run.arg("run").arg(&path).arg("--quiet").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = run.spawn().expect("it can be started");
        child.stdout.as_mut().expect("it is a pipe").read_exact(&mut [0]).expect("the guest speaks");
        child
    };
    let all = |children: &[Child]| children.iter().map(|child| in_use(&child.id().to_string())).sum::<f64>();
    let mut children: Vec<Child> = (0..10).map(|_| start()).collect();
    let before = all(&children);
    children.extend((0..CLONES).map(|_| start()));
    let each = (all(&children) - before) / CLONES as f64;
    for child in &mut children {
        child.kill().and_then(|()| child.wait()).expect("it is ours");
    }
    each
}

/// A process's memory in KiB, with what is shared divided by those who share it.
fn in_use(process: &str) -> f64 {
    let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).expect("/proc is mounted");
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).expect("there is a sum");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
