//! Golden images: a machine that is saved and goes on elsewhere does what it would have done.

use crate::support;
use crate::support::{Program, assert_expected, has_kvm, is_match, keys_for, matchstick};
use matchstick::device::{Action, Device, Slot};
use matchstick::guest::{GALLERY, Guest};
use matchstick::kvm::{Exit, Kvm, Vcpu};
use matchstick::machine::{Config, Machine, Outcome};
use matchstick::snapshot::{Cleaned, Limits, Pool, Snapshot};
use matchstick::timeline::Probe;
use matchstick::{Bytes, GuestAddress};
use proptest::prelude::*;
use std::error::Error;
use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

/// What a guest wrote.
#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl Output {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    fn sink(&self) -> Box<dyn Write + Send> {
        Box::new(self.clone())
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Stops a run after so many exits. A signal that calls the vCPU back makes none: where KVM emulates ring 0, it may come
/// between an INT3 and its handler, and KVM does not tell of that (docs/snapshots.md).
struct StopAt {
    exits: u32,
}

impl Probe for StopAt {
    fn enter(&mut self, _vcpu: &mut Vcpu) -> ControlFlow<()> {
        if self.exits == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn exit(&mut self, exit: &Exit<'_>) {
        if !matches!(exit, Exit::Interrupted) {
            self.exits -= 1;
        }
    }
}

fn machine(guest: &Guest, output: &Output) -> Machine {
    let number =
        |word| guest.needs_value(word).and_then(|value| value.trim_end_matches('M').parse::<u64>().ok());
    let config = Config {
        memory: number("memory").unwrap_or(2) << 20,
        cpus: number("cpus").unwrap_or(1) as u32,
        cpuid: guest.needs("cpuid"),
        acpi: false,
        timeout: Some(Duration::from_secs(20)),
        ..Config::default()
    };
    Machine::new(&config, guest, output.sink()).unwrap()
}

/// All memory of a machine, as a digest.
fn memory_digest(machine: &Machine) -> u64 {
    let mut page = [0; 4096];
    let mut hasher = DefaultHasher::new();
    for at in (0..machine.memory_size()).step_by(page.len()) {
        machine.memory().read_slice(&mut page, GuestAddress(at)).unwrap();
        hasher.write(&page);
    }
    hasher.finish()
}

/// Guests whose memory at the end does not depend on how fast they were.
const ALWAYS_THE_SAME: [&str; 9] =
    ["real", "protected", "long", "hello", "noop", "fault", "paging", "rings", "primes"];

/// Runs `guest` to its `exits`th exit, goes on from a snapshot, and compares with what the guest promises and
/// with the memory at the end of another run. False if it ended before.
fn goes_on_from(guest: &Guest, exits: u32, memory: u64) -> bool {
    let output = Output::default();
    let mut original = machine(guest, &output);
    let Outcome::Stopped = original.run_watched(&mut StopAt { exits }).unwrap() else { return false };
    let snapshot = original.snapshot().unwrap();
    drop(original);
    snapshot.verify().unwrap();
    let mut restored = Machine::restore(&snapshot, output.sink()).unwrap();
    restored.cable().send(&keys_for(guest));
    let outcome = restored.run().unwrap();
    let name = guest.name;
    let is_right = matches!(outcome, Outcome::Exited(status) if status == guest.exit);
    assert!(is_right, "{name} from exit {exits}: {outcome:?} after {:?}", output.text());
    assert_expected(guest, &output.text());
    if ALWAYS_THE_SAME.contains(&name) {
        assert_eq!(memory_digest(&restored), memory, "{name} from exit {exits}: its memory");
    }
    true
}

#[test]
fn every_guest_goes_on_from_any_exit_as_if_nothing_had_happened() {
    if !has_kvm() {
        return;
    }
    for guest in GALLERY {
        let mut undisturbed = machine(guest, &Output::default());
        undisturbed.cable().send(&keys_for(guest));
        undisturbed.run().unwrap();
        let memory = memory_digest(&undisturbed);
        // Without keys `echo` waits for ever, once it has said its line and set itself up.
        let last = if guest.needs("input") { 12 } else { 60 };
        let count = (0..last).take_while(|&exits| goes_on_from(guest, exits, memory)).count();
        assert!(count >= 1, "{}: not even from its first instruction", guest.name);
    }
}

/// A machine that has run `primes` to its only line, and the line.
fn golden() -> (Snapshot, &'static str) {
    let mut machine = machine(Guest::find("primes").unwrap(), &Output::default());
    (machine.snapshot().unwrap(), "2262 primes below 20000\n")
}

#[test]
fn a_machine_that_was_saved_goes_on_itself_as_well() {
    if !has_kvm() {
        return;
    }
    let output = Output::default();
    let mut machine = machine(Guest::find("paging").unwrap(), &output);
    for exits in [0, 1, 1] {
        assert!(matches!(machine.run_watched(&mut StopAt { exits }).unwrap(), Outcome::Stopped));
        machine.snapshot().unwrap();
    }
    machine.run().unwrap();
    assert_expected(Guest::find("paging").unwrap(), &output.text());
}

#[test]
fn a_guest_that_has_ended_is_not_saved() {
    if !has_kvm() {
        return;
    }
    let mut machine = machine(Guest::find("hello").unwrap(), &Output::default());
    assert!(matches!(machine.run().unwrap(), Outcome::Exited(0)));
    let error = machine.snapshot().err().unwrap();
    assert_eq!(matchstick::error::in_words(&error), "cannot take a snapshot: the guest has ended");
}

#[test]
fn a_device_that_does_not_tell_its_state_is_named() {
    struct Mute;
    impl Device for Mute {
        fn read(&mut self, _offset: u64, _data: &mut [u8]) {}
        fn write(&mut self, _offset: u64, _data: &[u8]) -> Action {
            Action::Continue
        }
    }
    if !has_kvm() {
        return;
    }
    let mut machine = machine(Guest::find("hello").unwrap(), &Output::default());
    machine.add_device(Slot::ports(0x510, 2, Mute)).unwrap();
    let error = machine.snapshot().err().unwrap();
    assert_eq!(
        matchstick::error::in_words(&error),
        "cannot take a snapshot: the device at 0x510 of the ports does not tell what it remembers"
    );
}

#[test]
fn clones_share_nothing_that_they_write_and_the_file_stays_as_it_is() {
    if !has_kvm() {
        return;
    }
    let (snapshot, line) = golden();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("golden.ms");
    snapshot.save(&path).unwrap();
    let before = fs::read(&path).unwrap();
    drop(snapshot);
    let snapshot = Snapshot::open(&path, &Limits::NONE).unwrap();
    // Gone from the directory, still there for whoever has it open.
    let clones: Vec<Machine> = (0..50u64)
        .map(|n| {
            let clone = Machine::restore(&snapshot, Box::new(io::sink())).unwrap();
            clone.memory().write_obj(n + 1, GuestAddress(0x1f_0000)).unwrap();
            clone
        })
        .collect();
    for (clone, n) in clones.iter().zip(0u64..) {
        assert_eq!(clone.memory().read_obj::<u64>(GuestAddress(0x1f_0000)).unwrap(), n + 1);
    }
    for _ in 0..3 {
        let output = Output::default();
        let mut clone = Machine::restore(&snapshot, output.sink()).unwrap();
        assert!(matches!(clone.run().unwrap(), Outcome::Exited(0)));
        assert_eq!(output.text(), line);
    }
    assert!(fs::read(&path).unwrap() == before, "the file has changed");
    snapshot.verify().unwrap();
}

#[test]
fn a_file_that_cannot_be_finished_leaves_what_was_there() {
    if !has_kvm() {
        return;
    }
    let (snapshot, _) = golden();
    let dir = tempfile::tempdir().unwrap();
    assert!(snapshot.save(&dir.path().join("missing/golden.ms")).is_err());
    let taken = dir.path().join("taken");
    fs::create_dir(&taken).unwrap();
    assert!(snapshot.save(&taken).is_err());
    // Nor is a socket, or a device, which root could do without noticing.
    let socket = dir.path().join("socket");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    assert!(snapshot.save(&socket).is_err());
    drop(listener);
    let mut left: Vec<_> =
        fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["socket", "taken"]);
    assert!(!fs::metadata(&socket).unwrap().is_file());
}

/// Opens an image that consists of `bytes`.
fn open(bytes: &[u8]) -> Result<Snapshot, String> {
    let (dir, path) = support::file(bytes);
    let opened = Snapshot::open(path.as_ref(), &Limits::NONE)
        .and_then(|snapshot| snapshot.verify().map(|()| snapshot));
    drop(dir);
    opened.map_err(|error| error.source().map_or(error.to_string(), ToString::to_string))
}

/// The bytes of an image.
fn bytes_of(snapshot: &Snapshot) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("golden.ms");
    snapshot.save(&path).unwrap();
    fs::read(path).unwrap()
}

#[test]
fn what_is_newer_cut_short_or_damaged_is_refused_and_says_so() {
    if !has_kvm() {
        return;
    }
    let good = bytes_of(&golden().0);
    assert!(open(&good).is_ok());
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        open(&bytes).err().unwrap()
    };
    assert_eq!(
        with(16, 2),
        "it is a golden image of a newer version; a newer matchstick has written it, and can run it"
    );
    assert!(with(16, 0).contains("no such version"), "{}", with(16, 0));
    assert!(with(0, b'M').contains("does not begin as one"));
    assert!(with(100, !good[100]).contains("its state is not what its digest says"));
    // A page of the guest's memory: its code.
    let code = good.len() - (2 << 20) + 0x10_0000;
    assert!(with(code, !good[code]).contains("its memory is damaged"));
    for (len, part) in [(40, "the header"), (200, "the state"), (good.len() - 1, "the memory")] {
        let error = open(&good[..len]).err().unwrap();
        assert!(error.starts_with("cut short") && error.contains(part), "{len}: {error}");
    }
    assert!(open(b"").is_err());
}

/// A good image as a start for bad ones.
static GOOD: LazyLock<Vec<u8>> = LazyLock::new(|| bytes_of(&golden().0));

/// Where the sections end, which have a digest; the last bytes of the header.
fn sign(image: &mut [u8]) {
    let sections = u64::from_le_bytes(image[24..32].try_into().unwrap()) as usize;
    let Some(end) = sections.checked_add(64).filter(|&end| end <= image.len()) else { return };
    let signed = [&image[..56], &image[64..end]].concat();
    let digest = twox_hash::XxHash64::oneshot(0, &signed);
    image[56..64].copy_from_slice(&digest.to_le_bytes());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Whoever makes an image can sign it. What is wrong with it is found out by looking, or the guest is a
    /// strange one; the host does not notice.
    #[test]
    fn an_image_of_garbage_harms_nobody(
        changes in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        if !has_kvm() {
            return Ok(());
        }
        let mut image = GOOD.clone();
        let head = image.len() - (2 << 20);
        for (is_header, index, byte) in changes {
            image[index.index(if is_header { 56 } else { head })] = byte;
        }
        sign(&mut image);
        let (_dir, path) = support::file(&image);
        let Ok(snapshot) = Snapshot::open(path.as_ref(), &Limits::NONE) else { return Ok(()) };
        let kvm = Kvm::open().unwrap();
        let config = Config { timeout: Some(Duration::from_millis(50)), ..Config::default() };
        if let Ok(mut machine) = snapshot.start(&kvm, &config, Box::new(io::sink())) {
            let _ = machine.run();
        }
    }
}

/// An image like [`GOOD`] with other bytes in its head, signed, in a file with a hole of `memory` bytes at its end.
fn forged(changes: &[(usize, &[u8])], memory: u64) -> (tempfile::TempDir, String) {
    let mut image = GOOD.clone();
    for (at, bytes) in changes {
        image[*at..][..bytes.len()].copy_from_slice(bytes);
    }
    sign(&mut image);
    let (dir, path) = support::file(&image);
    let offset = u64::from_le_bytes(image[32..40].try_into().unwrap());
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_len((offset + memory).max(image.len() as u64)).unwrap();
    (dir, path.into_string().unwrap())
}

/// Where the section `machine` has its memory and its number of CPUs, and the header its number of pages.
const MEMORY: usize = 80;
const CPUS: usize = 88;
const PAGES: usize = 40;

#[test]
fn an_image_does_not_decide_how_large_its_machine_may_be() {
    if !has_kvm() {
        return;
    }
    const TIB: u64 = 1 << 40;
    let (_dir, large) = forged(&[(MEMORY, &TIB.to_le_bytes())], TIB);
    let (_dir, wide) = forged(&[(CPUS, &255_u32.to_le_bytes())], 0);
    for command in ["run", "trace", "clone"] {
        matchstick([command, &large]).run().fails(
            126,
            "its machine has 1T of memory, and 512M is the limit",
            "-m SIZE",
        );
        matchstick([command, &wide]).run().fails(126, "its machine has 255 CPUs, and 4 is the limit", "-c N");
    }
    matchstick(["run", &large, "-m", "1023G"]).run().fails(126, "and 1023G is the limit", "-m SIZE");
    let (_dir, path) = golden_file("ready");
    matchstick(["run", &path, "-m", "1"]).run().fails(
        126,
        "has 2M of memory, and 1M is the limit",
        "-m SIZE",
    );
    matchstick(["run", &path, "-m", "2", "-c", "1"]).run().status(0);
    // More than the defaults is had by who says so.
    let made = _dir.path().join("made.ms").display().to_string();
    matchstick(["snapshot", "hello", "--at", "exit:0", "-m", "600", "-c", "5", "-o", &made]).run().status(0);
    matchstick(["run", &made]).run().fails(126, "600M of memory", "-m SIZE");
    matchstick(["run", &made, "-m", "600"]).run().fails(126, "5 CPUs", "-c N");
    matchstick(["run", &made, "-m", "600", "-c", "5"]).run().status(0);
}

#[test]
fn an_image_with_a_device_twice_is_refused() {
    if !has_kvm() {
        return;
    }
    // Gives the device at the POST port the place of the exit port.
    let device = |base: u64| [b"\0\0\0\0\0\0\0\0".as_slice(), &base.to_le_bytes()].concat();
    let at = GOOD.windows(16).position(|bytes| bytes == device(0x80)).unwrap();
    let (_dir, path) = forged(&[(at, &device(0xf4))], 0);
    for command in [&["run", &path][..], &["diff", &path, &path]] {
        matchstick(command).run().fails(126, "it has a device twice", "whole");
    }
}

#[test]
fn the_pages_of_an_image_are_as_many_as_its_header_counts() {
    if !has_kvm() {
        return;
    }
    for pages in [0, 1] {
        let (_dir, path) = forged(&[(PAGES, &u64::to_le_bytes(pages))], 0);
        matchstick(["run", &path]).run().fails(126, "its memory is damaged: it has other pages", "whole");
    }
    let (_dir, path) = forged(&[(PAGES, &u64::to_le_bytes(513))], 0);
    matchstick(["run", &path]).run().fails(126, "it counts more pages than its machine has", "whole");
}

#[test]
fn memory_that_is_not_to_be_had_for_a_file_is_an_error_in_words() {
    if !has_kvm() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("root")).unwrap();
    fs::write(dir.path().join("root/init"), vec![1; 30 << 20]).unwrap();
    // 16 MiB of sections, as the header says; they are a hole.
    let mut head = GOOD[..64].to_vec();
    head[24..32].copy_from_slice(&(16_u64 << 20).to_le_bytes());
    head[32..40].copy_from_slice(&((16_u64 << 20) + 4096).to_le_bytes());
    let sections = dir.path().join("sections.ms");
    fs::write(&sections, head).unwrap();
    fs::File::options().write(true).open(&sections).unwrap().set_len(32 << 20).unwrap();
    let golden = dir.path().join("golden.ms");
    fs::write(&golden, &*GOOD).unwrap();
    let commands = [
        "run sections.ms",
        "diff sections.ms golden.ms",
        "run golden.ms",
        "clone golden.ms -n 2",
        "run linux --rootfs root -m 64M",
        "run -m 256M -i root/init",
        "run root/init --boot flat64 --timeout 1",
    ];
    let run = |limit: u32, command: &str| {
        let line = format!("ulimit -v {limit}; cd \"$1\" && exec \"$0\" {command}");
        Program::new("sh").args(["-c", &line, env!("CARGO_BIN_EXE_matchstick")]).args([dir.path()]).run()
    };
    // With less it cannot even be loaded.
    let least = (4000..400_000).step_by(1000).find(|&limit| run(limit, "guests").status == Some(0)).unwrap();
    for command in commands {
        for limit in (least..least + 70_000).step_by(3500) {
            let ended = run(limit, command);
            let is_clear = ended.status == Some(0) || ended.stderr.starts_with("error: ");
            assert!(
                is_clear && !ended.stderr.contains("memory allocation of"),
                "{limit}, {command}: {ended:?}"
            );
        }
    }
}

/// The path of a golden image of `primes` that was made by the program, in a directory of its own.
fn golden_file(at: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("golden.ms").display().to_string();
    let ended = matchstick(["snapshot", "primes", "--at", at, "-o", &path]).run();
    ended.status(0).says("pages are not zero").printed("");
    (dir, path)
}

#[test]
fn an_image_is_run_in_another_process_and_as_often_as_one_likes() {
    if !has_kvm() {
        return;
    }
    for at in ["ready", "post:0xa5", "exit:0", "exit:1"] {
        let (_dir, path) = golden_file(at);
        for _ in 0..2 {
            matchstick(["run", &path]).run().silent().status(0).printed("2262 primes below 20000\n");
        }
        matchstick(["run", "-k", &path, "--timings"]).run().status(0).says("\nvCPU registers ");
        let told = matchstick(["trace", &path]).run();
        told.status(0).says("the golden image fits this host").says("as its golden image has it");
        assert!(!told.stderr.contains("copied into the guest's memory"), "{}", told.stderr);
    }
}

#[test]
fn a_guest_may_be_saved_after_a_time_and_saved_again() {
    if !has_kvm() {
        return;
    }
    // jmp $
    let (dir, image) = support::file(&[0xeb, 0xfe]);
    let path = dir.path().join("golden.ms").display().to_string();
    let image = image.to_str().unwrap();
    let snapshot = ["snapshot", "-q", "-k", image, "--boot", "flat16", "--at", "100ms", "-o", &path];
    matchstick(snapshot).run().silent().status(0);
    matchstick(["run", &path, "--timeout", "0.1"]).run().status(124);
    matchstick(["snapshot", "-q", &path, "--at", "0.1", "-o", &path]).run().silent().status(0);
    matchstick(["diff", &path, &path]).run().silent().status(0).printed("");
}

#[test]
fn clones_are_counted_and_measured() {
    if !has_kvm() {
        return;
    }
    let (_dir, path) = golden_file("ready");
    for parallel in ["1", "3"] {
        let ended = matchstick(["clone", "-n", "20", "-j", parallel, &path]).run();
        ended.silent().status(0);
        let text = ended.text();
        let patterns = [
            "20 clones in * ms, * a second; given back in * ms",
            "first byte: * µs at least, *",
            "memory: * KiB each*",
        ];
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), patterns.len(), "{text}");
        assert!(lines.iter().zip(patterns).all(|(line, pattern)| is_match(pattern, line)), "{text}");
    }
}

#[test]
fn a_difference_is_told_by_region_register_and_device() {
    if !has_kvm() {
        return;
    }
    let (_dir, before) = golden_file("exit:0");
    let (_dir_too, after) = golden_file("ready");
    let ended = matchstick(["diff", &before, &after]).run();
    ended.silent().status(1);
    for part in ["memory from 1 MiB on: ", "cpu 0, registers: rip 0x1", "device at 0x80 (ports): "] {
        assert!(ended.text().contains(part), "{part:?} is not in {}", ended.text());
    }
}

#[test]
fn what_makes_no_sense_of_an_image_is_refused() {
    if !has_kvm() {
        return;
    }
    let (dir, path) = golden_file("ready");
    for more in [&["--boot", "elf"][..], &["-p", "quiet"], &["--", "word"]] {
        matchstick(["run", &path]).args(more).run().fails(125, "a golden image has its kernel", "--timeout");
    }
    matchstick(["snapshot", "hello", "-o", &path]).run().status(125).says("the guest ended before");
    matchstick(["snapshot", "hello"]).run().fails(125, "-o FILE", "");
    // How the guest ended is told where it comes too early, with the status of `run`.
    let snapshot = |args: &[&str]| matchstick(["snapshot", "-o", &path]).args(args).run();
    snapshot(&["fault", "--", "triple"]).status(123).says("guest crashed: triple fault");
    snapshot(&["hello", "--max-output", "0"]).status(120).says("wrote more than it may");
    snapshot(&["echo", "--at", "post:1", "--timeout", "100ms"])
        .status(124)
        .says("did not end within its time");
    snapshot(&["echo", "--at", "2", "--timeout", "2"]).fails(125, "--timeout is over before --at", "");
    snapshot(&["hello", "--sandbox", "strict"]).fails(125, "invalid option '--sandbox'", "");
    // What cannot be written is known before the guest starts.
    for nowhere in [dir.path().join("no/such"), dir.path().into()] {
        let ended = matchstick(["snapshot", "primes", "-o"]).args([nowhere]).run();
        ended.printed("").fails(125, "cannot write", "it goes to a file that you may write");
    }
    matchstick(["snapshot", "-o", &path, "--at", "soon"]).run().fails(125, "is no moment", "");
    for wrong in [["-n", "0"], ["-n", "-1"], ["-j", "0"], ["-j", "many"]] {
        matchstick(["clone", &path]).args(wrong).run().fails(
            125,
            "a whole number, 1 or more",
            "clone --help",
        );
    }
    matchstick(["clone"]).run().fails(125, "which golden image", "");
    matchstick(["diff", &path]).run().fails(125, "what to compare it with", "pid:N");
    matchstick(["clone", "nowhere.ms"]).run().fails(127, "cannot open nowhere.ms", "makes a golden image");
    matchstick(["diff", "pid:1", &path]).run().fails(125, "the golden image comes first", "");
    let pipe = dir.path().join("pipe").display().to_string();
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for other in [pipe.as_str(), "/dev/null", "/tmp"] {
        matchstick(["clone", other]).run().fails(
            126,
            "it is not a regular file",
            "an image is a regular file",
        );
        matchstick(["diff", &path, other]).run().fails(
            126,
            "it is not a regular file",
            "an image is a regular file",
        );
    }
    let shell = r#"cat "$1" | "$0" run /dev/stdin"#;
    let shell = Program::new("sh").args(["-c", shell, env!("CARGO_BIN_EXE_matchstick"), &path]);
    shell.run().fails(126, "a golden image is mapped, and so no pipe", "an image is a regular file");
    let short = dir.path().join("short").display().to_string();
    fs::write(&short, &fs::read(&path).unwrap()[..20_000]).unwrap();
    matchstick(["run", &short]).run().fails(126, "cut short: the memory", "");
}

#[test]
fn a_machine_from_the_pool_is_as_good_as_new_however_often_it_was_used() {
    if !has_kvm() {
        return;
    }
    for name in ["hello", "primes", "paging", "fault", "real", "rings", "smp", "timer"] {
        let guest = Guest::find(name).unwrap();
        let snapshot = machine(guest, &Output::default()).snapshot().unwrap();
        let config = Config { timeout: Some(Duration::from_secs(20)), ..Config::default() };
        let mut pool = Pool::new(&snapshot, &config, 2).unwrap();
        let mut memory = None;
        for _ in 0..5 {
            let output = Output::default();
            let mut machine = pool.take(output.sink()).unwrap();
            let outcome = machine.run().unwrap();
            assert!(
                matches!(outcome, Outcome::Exited(status) if status == guest.exit),
                "{name}: {outcome:?}"
            );
            assert_expected(guest, &output.text());
            let digest = memory_digest(&machine);
            if ALWAYS_THE_SAME.contains(&name) {
                assert_eq!(*memory.get_or_insert(digest), digest, "{name}: its memory");
            }
            let cleaned = pool.give_back(machine).unwrap();
            if name == "hello" {
                assert!(matches!(cleaned, Cleaned::Pages(1..10)), "{cleaned:?}");
            }
        }
    }
}

/// A machine from this image file that runs until it is forgotten.
fn running(path: &str) -> support::Running {
    matchstick(["run", "-q", path]).open_input().start()
}

/// Compares the image with a process until its text has `part`, which takes as long as the guest needs.
#[track_caller]
fn drift(path: &str, process: &support::Running, part: &str) -> String {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let ended = matchstick(["diff", path, &format!("pid:{}", process.id())]).run();
        let is_there = ended.text().contains(part) && !ended.stderr.contains("no such process");
        assert!(is_there || Instant::now() < end, "{part:?} is not in {ended:?}");
        // Until it has set up its machine it is no machine.
        if is_there {
            ended.silent().status(1);
            return ended.text();
        }
    }
}

#[test]
fn the_drift_of_a_machine_that_runs_is_seen_and_it_goes_on() {
    if !has_kvm() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("golden.ms").display().to_string();
    matchstick(["snapshot", "-q", "echo", "--at", "exit:0", "-o", &path]).run().status(0);
    let mut machine = running(&path);
    machine.stdout.wait_for("Ctrl-D");
    let text = drift(&path, &machine, "low memory: ");
    assert!(text.contains("cpu 0, registers: rip 0x"), "{text}");
    machine.write(b"still there\n\x04");
    let ended = machine.end();
    ended.status(0);
    assert!(ended.text().ends_with("still there\n"), "{ended:?}");
}

#[test]
fn of_a_mapped_image_only_the_pages_that_were_written_to_are_named() {
    if !has_kvm() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name).display().to_string();
    // mov byte [0x180000], 1 · jmp $, and more pages than are copied.
    let code = [&[0xc6, 0x04, 0x25, 0, 0, 0x18, 0, 1, 0xeb, 0xfe][..], &[b'.'; 50 * 4096]].concat();
    fs::write(file("image"), code).unwrap();
    let (path, other) = (file("golden.ms"), file("other.ms"));
    for path in [&path, &other] {
        let image = file("image");
        let args = ["snapshot", "-q", "-k", &image, "--boot", "flat64", "--at", "exit:0", "-o", path];
        matchstick(args).run().status(0);
    }
    let machine = running(&path);
    let text = drift(&path, &machine, "memory from 1 MiB on: 1 page: 0x180000..0x181000\n");
    // Its VMGENID, which is new each time; and nothing else.
    assert!(text.contains("firmware: 1 page: 0xff000..0x100000\n"), "{text}");
    assert!(text.contains("cpu 0, registers: rip 0x100000 → 0x100008"), "{text}");
    let pid = format!("pid:{}", machine.id());
    matchstick(["diff", &other, &pid]).run().fails(126, "another golden image: ", "matchstick run");
    let (_dir, small) = golden_file("ready");
    matchstick(["diff", &small, &pid]).run().fails(126, "it does not run one machine with the memory", "");
}

#[test]
fn what_is_no_machine_of_ours_is_not_looked_into() {
    if !has_kvm() {
        return;
    }
    let (_dir, path) = golden_file("ready");
    let sleeper = support::Program::new("sleep").args(["60"]).start();
    let pid = format!("pid:{}", sleeper.id());
    let diff = |pid: &str| matchstick(["diff", &path, pid]).run();
    diff(&pid).fails(126, "it does not run a virtual machine of ours", "pgrep");
    // Somebody else has it already.
    let held = support::terminal::trace(sleeper.id());
    diff(&pid).fails(126, "Operation not permitted", "one tracer");
    drop(held);
    // It has ended, and nobody has asked for its status.
    sleeper.signal(libc::SIGKILL);
    let end = Instant::now() + Duration::from_secs(20);
    while !diff(&pid).stderr.contains("has ended") {
        assert!(Instant::now() < end, "{:?}", diff(&pid));
    }
    diff(&pid).fails(127, "cannot compare with process", "");
    drop(sleeper);
    diff(&pid).fails(127, "there is no such process", "");
    diff("pid:x").fails(125, "pid:N takes a number", "");
}

#[test]
fn each_machine_from_an_image_has_a_vmgenid_of_its_own() {
    if !has_kvm() {
        return;
    }
    let guest = Guest::find("hello").unwrap();
    let config = Config { acpi: true, timeout: Some(Duration::from_secs(20)), ..guest.config() };
    let mut original = Machine::new(&config, guest, Box::new(io::sink())).unwrap();
    let id = |machine: &Machine| machine.memory().read_obj::<u128>(GuestAddress(0xf_ffe0)).unwrap();
    let snapshot = original.snapshot().unwrap();
    let mut ids = vec![0, id(&original)];
    for _ in 0..3 {
        ids.push(id(&Machine::restore(&snapshot, Box::new(io::sink())).unwrap()));
    }
    // One from the pool is a copy, too, each time.
    let mut pool = Pool::new(&snapshot, &config, 1).unwrap();
    for _ in 0..3 {
        let mut machine = pool.take(Box::new(io::sink())).unwrap();
        ids.push(id(&machine));
        machine.run().unwrap();
        pool.give_back(machine).unwrap();
    }
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count);
}

#[test]
fn every_guest_goes_on_in_another_process_when_the_first_is_gone() {
    if !has_kvm() {
        return;
    }
    for guest in GALLERY {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("golden.ms").display().to_string();
        let mut kept = 0;
        for exits in [0, 1, 3, 7] {
            let at = format!("exit:{exits}");
            let before = matchstick(["snapshot", "-q", guest.name, "--at", &at, "-o", &path]).run();
            if before.status == Some(125) {
                before.says("the guest ended before");
                break;
            }
            before.silent().status(0);
            let after = matchstick(["run", "-q", &path]).input(keys_for(guest)).run();
            after.silent().status(guest.exit.into());
            assert_expected(guest, &(before.text() + &after.text()));
            kept += 1;
        }
        assert!(kept > 0, "{}", guest.name);
    }
}

#[test]
fn who_is_killed_while_writing_leaves_nothing_under_the_name_or_all_of_it() {
    if !has_kvm() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("golden.ms");
    for step in 0..24 {
        let running = matchstick(["snapshot", "-q", "hello", "--at", "exit:0", "-o"]).args([&path]).start();
        std::thread::sleep(Duration::from_millis(step));
        running.signal(libc::SIGKILL);
        running.end();
        if path.exists() {
            Snapshot::open(&path, &Limits::NONE).unwrap().verify().unwrap();
            fs::remove_file(&path).unwrap();
        }
    }
}

/// A kick may bring a waiting vCPU back before its SIPI, and what it was given to go on from must not come after that.
#[test]
fn what_a_vcpu_is_put_back_to_does_not_replace_what_its_sipi_set() {
    if !has_kvm() {
        return;
    }
    let mut vm = Kvm::open().unwrap().create_vm().unwrap();
    vm.enable_local_apics().unwrap();
    // mov al, status · out 0xf4, al: at SIPI's vector 8, and where it would go with the IP of a reset.
    let memory = vm.add_memory(2 << 20).unwrap();
    for (address, status) in [(0x8000, 7), (0x8000 + 0xfff0, 9)] {
        memory.write_slice(&[0xb0, status, 0xe6, 0xf4], GuestAddress(address)).unwrap();
    }
    let _first = vm.create_vcpu(0).unwrap();
    let mut second = vm.create_vcpu(1).unwrap();
    let waiting = second.state(&[]).unwrap();
    second.set_state_again(&waiting, Duration::ZERO, false).unwrap();
    second.leave_at_once();
    assert!(matches!(second.run().unwrap(), Exit::Interrupted));
    // INIT, then SIPI, to the APIC with ID 1.
    for message in [0x4500, 0x4608] {
        vm.signal_msi(0xfee0_1000, message).unwrap();
    }
    assert!(second.halted_for_good().unwrap().is_none());
    let exit = second.run().unwrap();
    assert!(matches!(exit, Exit::Out { port: 0xf4, data: [7], .. }), "{exit:?}");
}
