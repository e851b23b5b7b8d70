//! What it costs to run a program by `matchstick exec`, against the same file started otherwise.
//!
//! `cargo bench --bench exec` prints a table for each program. Its contestants take turns, in an order that is shuffled
//! for each round, started and watched as `matchstick bench` does it: from just before the spawn until reaped. All of
//! them run the same file, and matchstick is one copy of itself. `-- --rounds N` changes the length.
//!
//! The bars stand below each table, met or MISSED. A ratio is that of the medians, then come the median of the ratios
//! within each round and the ratio of the least values. A missed bar is no failure of the program that measures, as it
//! depends on the host and on what else that does; with `-- --strict` it ends with status 1.

use matchstick::bench::subjects::{self, command::Command};
use matchstick::bench::{Expect, Kind, Missing, Payload, Sample, Scratch, Subject, find_program, quantile};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const MATCHSTICK: &str = env!("CARGO_BIN_EXE_matchstick");
/// A start that takes longer has failed.
const LIMIT: Duration = Duration::from_secs(30);
/// Rounds of each table, unless there is `--rounds`.
const ROUNDS: usize = 60;
/// Rounds before them, which do not count.
const WARM_UP: usize = 2;
/// What is measured.
#[derive(Clone, Copy)]
enum What {
    /// Wall time until reaped.
    Reaped,
    /// Time on a processor, of the process and of the children it waited for.
    Processor,
}

impl What {
    fn of(self, sample: &Sample) -> f64 {
        match self {
            What::Reaped => sample.reaped.as_secs_f64(),
            What::Processor => (sample.user + sample.system).as_secs_f64(),
        }
    }
}

/// The most of the reference's cost that a contestant may have.
struct Bar {
    what: What,
    contestant: &'static str,
    reference: &'static str,
    most: f64,
}

const fn reaped(contestant: &'static str, reference: &'static str, most: f64) -> Bar {
    Bar { what: What::Reaped, contestant, reference, most }
}

const fn processor(contestant: &'static str, reference: &'static str, most: f64) -> Bar {
    Bar { what: What::Processor, contestant, reference, most }
}

struct Contestant {
    subject: Box<dyn Subject>,
    samples: Vec<Sample>,
}

/// How many bars were met and missed.
#[derive(Default)]
struct Score {
    met: usize,
    missed: usize,
}

fn main() {
    let rounds = rounds();
    let scratch = Scratch::new().expect("a directory for the race");
    let payload = Payload::new("hello", &scratch).expect("the payload can be written");
    let matchstick = scratch.path().join("matchstick");
    fs::copy(MATCHSTICK, &matchstick).expect("matchstick can be copied");
    let model = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = model.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let is_epyc = model.contains("AMD EPYC");
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("{}; load {}", model.trim_matches([' ', '\t', ':']), load.split(' ').next().unwrap_or("?"));
    println!("{rounds} rounds, shuffled\n");

    let made = |name, program: &Path, words: &[&str], expect| {
        let words: Vec<OsString> =
            [program.into()].into_iter().chain(words.iter().map(OsString::from)).collect();
        made(name, &payload, words, expect)
    };
    let hello = payload.program.to_str().expect("a path of ours is ASCII");
    let hello_says = Expect::Exactly(payload.expect.clone().unwrap_or_default());
    let mut contestants = vec![
        made("process", &payload.program, &[], hello_says.clone()),
        made("run hello", &matchstick, &["run", "hello"], hello_says.clone()),
        made("exec", &matchstick, &["exec", hello], hello_says),
    ];
    contestants.extend(
        subjects::all(&payload)
            .into_iter()
            .filter(|subject| ["bwrap", "runc"].contains(&subject.name()))
            .map(Contestant::new),
    );
    // bubblewrap is dearer on an EPYC.
    let bwrap = if is_epyc { 0.45 } else { 0.75 };
    let bars =
        [reaped("exec", "run hello", 1.15), reaped("exec", "bwrap", bwrap), reaped("exec", "runc", 0.12)];
    let mut score = Score::default();
    table("a static program of a few instructions", contestants, rounds, &bars, &mut score);

    // Nothing is said of what is not there but that.
    let mut with = |title, program: Option<PathBuf>, words: &[&str], expect: Expect, bars: &[Bar]| {
        let Some(program) = program else { return println!("{title}: not installed\n") };
        let path = program.to_str().expect("a path of Debian's is ASCII");
        let bwrap = find_program("bwrap").unwrap_or_else(|| "bwrap".into());
        let exec = [&["exec", path], words].concat();
        let bound =
            ["--unshare-all", "--unshare-user", "--die-with-parent", "--as-pid-1", "--cap-drop", "ALL"];
        let bound =
            [&bound[..], &["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", path], words].concat();
        let contestants = vec![
            made("process", &program, words, expect.clone()),
            made("exec", &matchstick, &exec, expect.clone()),
            made("bwrap", &bwrap, &bound, expect),
        ];
        table(title, contestants, rounds, bars, &mut score);
    };
    let debian = |path: &str| Some(PathBuf::from(path)).filter(|path| path.exists());
    with("a dynamic /bin/true", debian("/bin/true"), &[], Expect::Nothing, &[reaped("exec", "bwrap", 1.3)]);
    // The bars are those of a host whose shadow page tables make each first touch dear.
    let is_pvm = Path::new("/sys/module/kvm_pvm").exists();
    let bar = |most| if is_pvm { vec![processor("exec", "process", most)] } else { Vec::new() };
    with("python3 -c pass", debian("/usr/bin/python3"), &["-c", "pass"], Expect::Nothing, &bar(2.4));
    let pipe = ["sh", "-c", "echo a | cat"];
    let said = Expect::Exactly(b"a\n".to_vec());
    with("busybox sh -c 'echo a | cat'", debian("/bin/busybox"), &pipe, said, &bar(8.0));
    println!("bars: {} met, {} MISSED", score.met, score.missed);
    if score.missed > 0 && std::env::args().any(|arg| arg == "--strict") {
        std::process::exit(1);
    }
}

/// What follows `--rounds`. Cargo adds arguments of its own.
fn rounds() -> usize {
    let mut args = std::env::args().skip_while(|arg| arg != "--rounds").skip(1);
    args.next().map_or(ROUNDS, |n| n.parse().expect("--rounds takes a number"))
}

/// A command that prints what `expect` says, and ends with status 0.
fn made(name: &'static str, payload: &Payload, words: Vec<OsString>, expect: Expect) -> Contestant {
    let words = move || Ok::<_, Missing>(words.clone());
    let command = Command::new(Kind::Custom, name, "", payload, words).expecting(expect);
    Contestant::new(Box::new(command))
}

impl Contestant {
    fn new(subject: Box<dyn Subject>) -> Contestant {
        Contestant { subject, samples: Vec::new() }
    }

    fn sorted(&self, what: What) -> Vec<f64> {
        let mut values: Vec<f64> = self.samples.iter().map(|sample| what.of(sample)).collect();
        values.sort_by(f64::total_cmp);
        values
    }
}

/// Races them and shows what came of it, bars last.
fn table(title: &str, mut all: Vec<Contestant>, rounds: usize, bars: &[Bar], score: &mut Score) {
    println!("{title}");
    all.retain_mut(|contestant| match contestant.subject.ready() {
        Ok(()) => true,
        Err(missing) => {
            println!("  {:<10} {missing}", contestant.subject.name());
            false
        }
    });
    race(&mut all, rounds);
    println!("  {:<10} {:>18} {:>18}", "ms", "reaped (least)", "processor (least)");
    for contestant in &all {
        let figures = [What::Reaped, What::Processor].map(|what| {
            let values = contestant.sorted(what);
            format!("{:>8.2} ({:>7.2})", 1e3 * quantile(&values, 0.5), 1e3 * values[0])
        });
        println!("  {:<10} {:>18} {:>18}", contestant.subject.name(), figures[0], figures[1]);
    }
    for bar in bars {
        let find = |name| all.iter().find(|contestant| contestant.subject.name() == name);
        let words = format!("{} / {}", bar.contestant, bar.reference);
        let (Some(one), Some(other)) = (find(bar.contestant), find(bar.reference)) else {
            println!("  {words:<18} bar {:.2}: not measured, as one of them is missing", bar.most);
            continue;
        };
        let [sorted, reference] = [one, other].map(|contestant| contestant.sorted(bar.what));
        let ratio = quantile(&sorted, 0.5) / quantile(&reference, 0.5);
        let pairs = one.samples.iter().zip(&other.samples);
        let mut pairs: Vec<f64> = pairs.map(|(one, other)| bar.what.of(one) / bar.what.of(other)).collect();
        pairs.sort_by(f64::total_cmp);
        let is_met = ratio <= bar.most;
        if is_met {
            score.met += 1
        } else {
            score.missed += 1
        }
        println!(
            "  {words:<18} × {ratio:.3}, by rounds {:.3}, least {:.3}; bar {:.2} {}, {}",
            quantile(&pairs, 0.5),
            sorted[0] / reference[0],
            bar.most,
            if is_met { "met" } else { "MISSED" },
            match bar.what {
                What::Reaped => "until reaped",
                What::Processor => "processor time",
            }
        );
    }
    println!();
}

fn race(all: &mut [Contestant], rounds: usize) {
    let mut order: Vec<usize> = (0..all.len()).collect();
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
            let Contestant { subject, samples } = &mut all[n];
            let sample = subject.run(LIMIT);
            let sample = sample.unwrap_or_else(|failure| panic!("{}: {failure:?}", subject.name()));
            if round >= WARM_UP {
                samples.push(sample);
            }
        }
    }
}
