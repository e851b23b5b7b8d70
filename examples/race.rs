//! A virtual machine, a process and a process in namespaces, side by side: the program of chapter 9.
//!
//! Not the project's bench: few rounds, no container runtime, and no figure to quote from. It shows what a fair
//! comparison takes, in as few lines as possible.
//!
//! expect: from start to reaped, medians of 20 rounds, in µs
//! expect: a process             *
//! expect: the same, with a VM   *
//! expect: *
use matchstick::guest::Guest;
use matchstick::{Config, Image, Machine, Outcome};
use std::error::Error;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: usize = 20;

fn main() -> Result<(), Box<dyn Error>> {
    // It starts itself, so that what is compared differs in one thing only.
    match std::env::args().nth(1).as_deref() {
        None => race(),
        Some("process") => Ok(()),
        Some("vm") => vm(),
        Some(other) => Err(format!("there is no contestant called {other}").into()),
    }
}

// ANCHOR: contestants
/// A whole virtual machine: memory, a processor, a guest that starts and ends, everything given back.
fn vm() -> Result<(), Box<dyn Error>> {
    let image = Guest::find("noop").ok_or("it is not in the gallery")?.image;
    let config = Config { memory: 2 << 20, cpuid: false, acpi: false, ..Config::default() };
    let outcome =
        Machine::new(&config, Image { name: "noop", bytes: image }, Box::new(std::io::sink()))?.run()?;
    match outcome {
        Outcome::Exited(0) => Ok(()),
        other => Err(format!("the guest ended otherwise: {other:?}").into()),
    }
}

/// What a container is made of, without a runtime around it: unshare(1) asks for new namespaces, then starts us.
const UNSHARE: [&str; 8] =
    ["--user", "--map-root-user", "--mount", "--uts", "--ipc", "--net", "--pid", "--fork"];
// ANCHOR_END: contestants

// ANCHOR: race
fn race() -> Result<(), Box<dyn Error>> {
    let own = std::env::current_exe()?;
    let mut unshare = Command::new("unshare");
    unshare.args(UNSHARE).arg(&own).arg("process");
    let (mut process, mut vm) = (Command::new(&own), Command::new(&own));
    process.arg("process");
    vm.arg("vm");
    let mut contestants = [
        ("a process", process, Some(Vec::new())),
        ("the same, with a VM", vm, Some(Vec::new())),
        ("in new namespaces", unshare, Some(Vec::new())),
    ];
    // In turns: what slows this host down for a while slows them all.
    for _ in 0..ROUNDS {
        for (_, command, times) in &mut contestants {
            match (times.as_mut(), time(command)) {
                (Some(times), Some(took)) => times.push(took),
                // One that fails is out of the race, and said to be.
                _ => *times = None,
            }
        }
    }
    println!("from start to reaped, medians of {ROUNDS} rounds, in µs");
    for (name, _, times) in &mut contestants {
        match times {
            Some(times) => println!("{name:21} {:9.0}", median(times).as_secs_f64() * 1e6),
            None => println!("{name:21}  not here"),
        }
    }
    Ok(())
}
// ANCHOR_END: race

/// From before the start to after its end; `None` unless it ended well.
fn time(command: &mut Command) -> Option<Duration> {
    let before = Instant::now();
    let status = command.stdin(Stdio::null()).stderr(Stdio::null()).status().ok()?;
    status.success().then(|| before.elapsed())
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
