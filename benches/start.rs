//! How long a start takes, against the floor: the same guest started by bare system calls.
//!
//! `cargo bench` prints two tables, in process and as whole processes, each with its contestants taking
//! turns in a shuffled order, so that a drift of the machine cannot become a result. Times are medians; the
//! ratio is that of the medians. Teardown counts. `cargo bench -- --rounds N` changes the length.
//!
//! Not a comparison with containers. A bar that is missed is printed, as on a noisy machine it may be by chance;
//! what misses it by half or more even in its fastest rounds, or takes too much memory, fails.
#![allow(unsafe_code)]

#[path = "floor/floor.rs"]
mod floor;

use matchstick::guest::Guest;
use matchstick::machine::{Machine, Outcome};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const MATCHSTICK: &str = env!("CARGO_BIN_EXE_matchstick");
/// In process, then as processes: the largest ratios to the floor, to the first byte and to the end.
const BARS_INSIDE: [f64; 2] = [1.10, 1.15];
const BARS_PROCESS: [f64; 2] = [1.15, 1.15];
/// The most resident memory, in kB (1024 bytes), of a process with a guest of 2 MiB.
const BAR_MEMORY: u64 = 2048;

/// From the start of a run to its first byte, and to its end with everything given back.
#[derive(Clone, Copy)]
struct Sample {
    first: Duration,
    done: Duration,
}

type Start<'a> = Box<dyn Fn() -> Sample + 'a>;

struct Contestant<'a> {
    name: &'static str,
    start: Start<'a>,
    samples: Vec<Sample>,
}

impl<'a> Contestant<'a> {
    fn new(name: &'static str, start: impl Fn() -> Sample + 'a) -> Contestant<'a> {
        Contestant { name, start: Box::new(start), samples: Vec::new() }
    }

    fn median(&self, of: impl Fn(&Sample) -> Duration) -> f64 {
        let mut times: Vec<f64> = self.samples.iter().map(|s| of(s).as_nanos() as f64 / 1000.0).collect();
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    }

    fn least(&self, of: impl Fn(&Sample) -> Duration) -> f64 {
        self.samples.iter().map(|s| of(s).as_nanos() as f64 / 1000.0).fold(f64::INFINITY, f64::min)
    }
}

fn main() {
    let rounds = rounds();
    let hello = Guest::find("hello").expect("the gallery has hello");
    println!("{rounds} rounds, shuffled; µs, median (minimum)\n");

    let mut inside = [
        Contestant::new("floor", || {
            let begin = Instant::now();
            let mut first = Duration::ZERO;
            // SAFETY: hello is the guest it is made for.
            let started = unsafe {
                floor::start(hello.image, |line| {
                    io::sink().write_all(line).expect("a sink takes all");
                    first = begin.elapsed();
                })
            };
            // SAFETY: it is moved away.
            unsafe { started.tear_down() };
            Sample { first, done: begin.elapsed() }
        }),
        Contestant::new("Machine", || in_process(hello)),
    ];
    race(&mut inside, rounds);
    let mut good = show(
        "In process: from nothing to the guest's first byte, and until the VM is torn down",
        &inside,
        BARS_INSIDE,
    );

    let programs = tempfile::tempdir().expect("a directory for the floor's programs");
    let with_libc = build_floor(programs.path(), hello, true);
    let without = build_floor(programs.path(), hello, false);
    let mut processes = [
        Contestant::new("floor, static with libc", || spawn(Command::new(&with_libc))),
        Contestant::new("matchstick run hello", || spawn(command(&["run", "hello"]))),
        Contestant::new("floor, without libc", || spawn(Command::new(&without))),
        Contestant::new("matchstick --version", || spawn(command(&["--version"]))),
    ];
    race(&mut processes, rounds);
    good &= show("Whole processes: exec to the first byte, and to reaped", &processes, BARS_PROCESS);
    let peak = peak_memory();
    let missed = if peak > BAR_MEMORY { ", MISSED" } else { "" };
    println!(
        "Peak memory of `matchstick run timer`, a guest of 2 MiB: {peak} kB (bar: {BAR_MEMORY} kB{missed})\n"
    );
    println!(
        "`--version` is what linking, libc and reading arguments cost before any VM; the floor without libc\n\
         is what is left when a program does without them."
    );
    if !good || peak > BAR_MEMORY {
        println!("FAILED: far from a bar");
        std::process::exit(1);
    }
}

/// 300, or what follows `--rounds`. Cargo adds arguments of its own.
fn rounds() -> usize {
    let mut args = std::env::args().skip_while(|arg| arg != "--rounds").skip(1);
    args.next().map_or(300, |n| n.parse().expect("--rounds takes a number"))
}

fn race(contestants: &mut [Contestant<'_>], rounds: usize) {
    const WARM_UP: usize = 3;
    let mut order: Vec<usize> = (0..contestants.len()).collect();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for round in 0..rounds + WARM_UP {
        for n in (1..order.len()).rev() {
            // Xorshift: any order will do, the same one each time.
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            order.swap(n, (random % (n as u64 + 1)) as usize);
        }
        for &n in &order {
            let sample = (contestants[n].start)();
            if round >= WARM_UP {
                contestants[n].samples.push(sample);
            }
        }
    }
}

/// The first contestant is the floor, the second the one with the bars.
fn show(title: &str, contestants: &[Contestant<'_>], bars: [f64; 2]) -> bool {
    println!("{title}");
    let mut good = true;
    let floor = [contestants[0].median(|s| s.first), contestants[0].median(|s| s.done)];
    let fastest = [contestants[0].least(|s| s.first), contestants[0].least(|s| s.done)];
    for (n, contestant) in contestants.iter().enumerate() {
        let median = [contestant.median(|s| s.first), contestant.median(|s| s.done)];
        let least = [contestant.least(|s| s.first), contestant.least(|s| s.done)];
        print!("  {:<24}", contestant.name);
        for k in 0..2 {
            print!("{:>7.0} ({:>5.0})  ×{:.3}   ", median[k], least[k], median[k] / floor[k]);
        }
        if n == 1 {
            for k in 0..2 {
                let ratio = median[k] / floor[k];
                let met = if ratio <= bars[k] { "met" } else { "MISSED" };
                // Noise only ever adds: the fastest rounds tell whether the code has become slower.
                good &= least[k] / fastest[k] <= 1.5 * bars[k];
                print!(" bar {:.2} {met}", bars[k]);
            }
        }
        println!();
    }
    println!();
    good
}

/// Notes when the first byte arrives.
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

fn in_process(guest: &Guest) -> Sample {
    let begin = Instant::now();
    let seen = FirstByte::default();
    let mut machine =
        Machine::new(&guest.config(), guest, Box::new(seen.clone())).expect("this host runs VMs");
    let outcome = machine.run().expect("hello runs");
    assert!(matches!(outcome, Outcome::Exited(0)), "hello ended with {outcome:?}");
    drop(machine);
    let done = begin.elapsed();
    let first = seen.0.lock().expect("nobody panicked").expect("hello spoke") - begin;
    Sample { first, done }
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(MATCHSTICK);
    command.args(args);
    command
}

/// Starts a process, reads its output to the end and reaps it.
fn spawn(mut command: Command) -> Sample {
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let begin = Instant::now();
    let mut child = command.spawn().expect("it can be started");
    let mut output = child.stdout.take().expect("its output is a pipe");
    let mut buffer = [0; 4096];
    let mut first = None;
    while output.read(&mut buffer).expect("a pipe can be read") > 0 {
        first.get_or_insert_with(|| begin.elapsed());
    }
    let status = child.wait().expect("it can be reaped");
    let done = begin.elapsed();
    assert!(status.success(), "{command:?} ended with {status}");
    Sample { first: first.expect("it wrote something"), done }
}

/// The most memory that a process with a guest has had resident, read while the guest still runs. (What
/// wait4 reports of a child includes what its parent had before exec.)
fn peak_memory() -> u64 {
    let mut child = command(&["run", "timer"]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let child = child.as_mut().expect("it can be started");
    let mut output = child.stdout.take().expect("its output is a pipe");
    output.read_exact(&mut [0]).expect("the guest speaks");
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).expect("it still runs");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux counts it");
    io::copy(&mut output, &mut io::sink()).expect("a pipe can be read");
    child.wait().expect("it can be reaped");
    peak.trim().trim_end_matches(" kB").parse().expect("it is a number of kB")
}

/// Compiles the floor as a program, with rustc alone.
fn build_floor(into: &Path, hello: &Guest, libc: bool) -> PathBuf {
    let image = into.join("hello");
    std::fs::write(&image, hello.image).expect("the image can be written");
    let program = into.join(if libc { "floor-libc" } else { "floor" });
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or("rustc".into()));
    rustc.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/floor/program.rs"));
    rustc.args(["--edition=2024", "-Copt-level=3", "-Cpanic=abort", "-Crelocation-model=static", "-o"]);
    rustc.arg(&program).env("HELLO", &image);
    match libc {
        true => rustc.args(["--cfg", "libc", "-Ctarget-feature=+crt-static"]),
        false => rustc.arg("-Clink-args=-nostartfiles -nostdlib -static"),
    };
    assert!(rustc.status().expect("rustc runs").success(), "the floor does not compile");
    program
}
