//! `matchstick trace --gdb`: a real gdb steers a guest, and clients that misbehave end cleanly.

use crate::support::image::{boot_sector, code};
use crate::support::{Running, file, has_kvm, is_set, matchstick, skip};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Whether there is a gdb. If not, that is printed, and with `REQUIRE_GDB=1` the test fails.
fn has_gdb() -> bool {
    let found =
        Command::new("gdb").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    assert!(found || !is_set("REQUIRE_GDB"), "there is no gdb");
    if !found {
        skip("there is no gdb");
    }
    found
}

/// A guest that waits for a client at `socket`.
fn waiting(image: &[u8], socket: &Path, options: &[&str]) -> (tempfile::TempDir, Running) {
    let (dir, path) = file(image);
    let address = format!("unix:{}", socket.display());
    let running = matchstick(["trace", "--gdb", &address]).args(options).args([path]).start();
    running.stderr.wait_for("waiting for gdb at ");
    (dir, running)
}

/// A client of the protocol, without a gdb.
struct Client(UnixStream);

impl Client {
    fn connect(socket: &Path) -> Client {
        let stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Client(stream)
    }

    fn send(&mut self, packet: &str) {
        let sum = packet.bytes().fold(0_u8, u8::wrapping_add);
        self.0.write_all(format!("${packet}#{sum:02x}").as_bytes()).unwrap();
    }

    /// The next answer, without its frame.
    fn answer(&mut self) -> String {
        let mut text = Vec::new();
        loop {
            let mut byte = [0];
            self.0.read_exact(&mut byte).unwrap();
            text.push(byte[0]);
            // `$`, the answer, `#` and a sum of two digits.
            if text.len() > 3 && text[text.len() - 3] == b'#' {
                // After the last answer nobody is there to read that.
                let _ = self.0.write_all(b"+");
                let text = String::from_utf8(text).unwrap();
                return expand(text.trim_start_matches('+')[1..].split('#').next().unwrap());
            }
        }
    }

    fn ask(&mut self, packet: &str) -> String {
        self.send(packet);
        self.answer()
    }
}

/// Undoes run-length encoding: after a `*`, a character says how often the one before it is repeated.
fn expand(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text.chars();
    while let Some(next) = rest.next() {
        match (next, plain.chars().last()) {
            ('*', Some(last)) => {
                let times = rest.next().unwrap() as usize - 29;
                plain.extend(std::iter::repeat_n(last, times));
            }
            _ => plain.push(next),
        }
    }
    plain
}

fn socket() -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("gdb");
    (dir, socket)
}

/// Has a gdb carry out `commands`. It has to say the texts of `expected`, in their order.
#[track_caller]
fn gdb_says(commands: &[&str], expected: &[&str]) {
    let mut gdb = Command::new("timeout");
    gdb.args(["60", "gdb", "-nx", "-batch"]).stdin(Stdio::null());
    for command in commands {
        gdb.args(["-ex", command]);
    }
    let said = gdb.output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    let mut rest = said.as_str();
    for text in expected {
        let at = rest.find(text).unwrap_or_else(|| panic!("{text:?} is not in its place in\n{said}"));
        rest = &rest[at + text.len()..];
    }
}

#[test]
fn a_gdb_sees_every_cpu_stops_them_together_and_breaks_on_each() {
    if !has_kvm() || !has_gdb() {
        return;
    }
    let (_dir, socket) = socket();
    let address = format!("unix:{}", socket.display());
    let running = matchstick(["trace", "--gdb", &address, "smp", "-c", "4"]).start();
    running.stderr.wait_for("waiting for gdb at ");
    // The second instruction of each other CPU, in real mode at CS = 0x800.
    let commands = [
        "set pagination off",
        &format!("target remote {}", socket.display()),
        "info threads",
        "info registers",
        "p/x $cr3",
        "p $cr4",
        "p $efer",
        "p/x $fs_base",
        "p/x $gs_base",
        "break *0x8003",
        "continue",
        "info threads",
        "p $cr0",
        "stepi",
        "continue",
        "continue",
        "thread 1",
        "p $cr0",
        "set $cr3 = 0x1000",
        "p/x $cr3",
        "delete",
        "continue",
    ];
    let expected = [
        "Thread 1.1 (CPU 0, long, 64-bit code)",
        "Thread 1.4 (CPU 3",
        "cr0            0x80000011          [ PE ET PG ]",
        "= 0x9000",
        "= [ PAE ]",
        "= [ LME LMA ]",
        "= 0x0",
        "= 0x0",
        "Thread 2 hit Breakpoint 1, 0x0000000000008003",
        "* 2    Thread 1.2 (CPU 1, real, 16-bit)",
        "= [ ET NW CD ]",
        "0x0000000000008005",
        "Thread 3 hit Breakpoint 1, 0x0000000000008003",
        "Thread 4 hit Breakpoint 1, 0x0000000000008003",
        "= [ PE ET PG ]",
        "= 0x9000",
        "exited normally",
    ];
    gdb_says(&commands, &expected);
    let lines = "cpu 0 is up, and there are 3 more\ncpu 1 is up\ncpu 2 is up\ncpu 3 is up\n";
    running.end().status(0).printed(lines);
}

#[test]
fn what_cannot_be_parsed_is_not_supported_and_the_guest_goes_on() {
    if !has_kvm() {
        return;
    }
    let (_dir, socket) = socket();
    let image = boot_sector(&[&code::exit(7)]);
    let (_image, running) = waiting(&image, &socket, &["--timeout", "20"]);
    let mut client = Client::connect(&socket);
    for packet in
        ["qSupported", "qXfer:features:read:other.xml:0,10", "qXfer:what:read::0,10", "m", "vCont;x", "!"]
    {
        assert_eq!(client.ask(packet), "", "{packet}");
    }
    // As debuggers do that are not gdb: a list of one feature that nobody knows.
    assert!(client.ask("qSupported:what+").contains("qXfer:features:read+"));
    client.0.write_all(b"$?#00").unwrap();
    let mut byte = [0];
    client.0.read_exact(&mut byte).unwrap();
    assert_eq!(byte, *b"-", "a wrong sum is asked for again");
    assert!(client.ask("?").starts_with("T05"));
    client.send("c");
    assert_eq!(client.answer(), "W07");
    running.end().status(7);
}

#[test]
fn ctrl_c_stops_every_cpu() {
    if !has_kvm() {
        return;
    }
    let (_dir, socket) = socket();
    let image = boot_sector(&[code::SERIAL, code::PUT_A, code::LOOP]);
    let (_image, running) = waiting(&image, &socket, &["--timeout", "20", "-c", "3"]);
    let mut client = Client::connect(&socket);
    assert!(client.ask("?").starts_with("T05"));
    client.send("c");
    running.stdout.wait_for("A");
    client.0.write_all(&[3]).unwrap();
    assert_eq!(client.answer(), "T02thread:01;");
    assert_eq!(client.ask("qfThreadInfo"), "m01,02,03");
    // Registers of a CPU that nobody has started: RIP is where a reset leaves it.
    assert_eq!(client.ask("Hg3"), "OK");
    let registers = client.ask("g");
    assert_eq!(&registers[256..272], "f0ffffff00000000", "{registers}");
    client.send("k");
    running.end().status(0);
}

#[test]
fn a_socket_that_a_killed_run_has_left_is_named() {
    let (_dir, socket) = socket();
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let address = format!("unix:{}", socket.display());
    let text = format!("nobody listens at the socket {} any more", socket.display());
    matchstick(["trace", "--gdb", &address, "hello"]).run().fails(125, &text, "remove it with rm");
    assert!(socket.exists(), "it is not ours to remove");
    let _listener = std::os::unix::net::UnixListener::bind(socket.with_extension("used")).unwrap();
    let address = format!("{address}.used");
    matchstick(["trace", "--gdb", &address, "hello"]).run().fails(
        125,
        "cannot listen for a debugger",
        "where there is nothing yet",
    );
}

#[test]
fn a_gdb_breaks_steps_watches_reads_and_writes() {
    if !has_kvm() || !has_gdb() {
        return;
    }
    let (_dir, socket) = socket();
    let running = matchstick(["trace", "--gdb", &format!("unix:{}", socket.display()), "long"]).start();
    running.stderr.wait_for("waiting for gdb at ");
    let commands = [
        "set pagination off",
        &format!("target remote {}", socket.display()),
        "echo at: \\n",
        "p/x $pc",
        "stepi",
        "stepi",
        "p/x $pc",
        "break *0x7c0f",
        "continue",
        "p/x $rax",
        "watch *(int*)0x3000",
        "continue",
        "p/x *(int*)0x3000",
        "delete",
        "hbreak *0x7c7b",
        "continue",
        "p/x $cs",
        "set {char}0x7cc6 = 'L'",
        "set $rdx = 1",
        "p $rdx",
        "delete",
        "continue",
    ];
    let expected = [
        "= 0x7c00",
        "= 0x7c03",
        "Breakpoint 1, 0x0000000000007c0f",
        "= 0x11",
        "Old value = 0",
        "New value = 131",
        "= 0x83",
        "Breakpoint 3, 0x0000000000007c7b",
        "= 0x18",
        "= 1",
        "exited normally",
    ];
    gdb_says(&commands, &expected);
    // What gdb wrote into the guest's memory is what the guest prints.
    running.end().status(0).printed("Long mode: 64 bits, paging\n");
    assert!(!socket.exists());
}

#[test]
fn a_client_without_gdb_reads_steps_and_is_told_the_end() {
    if !has_kvm() {
        return;
    }
    // mov ax, 7; out 0xf4, al
    let (_dir, socket) = socket();
    let (_image, running) = waiting(&boot_sector(&[&[0xb8, 7, 0, 0xe6, 0xf4]]), &socket, &[]);
    let mut client = Client::connect(&socket);
    assert!(client.ask("?").starts_with("T05"));
    assert_eq!(client.ask("m7c00,5"), "b80700e6f4");
    assert!(client.ask("mffffffffffff,4").starts_with('E'));
    assert_eq!(&client.ask("g")[..16], "0000000000000000");
    let stop = client.ask("s");
    assert!(stop.starts_with("T05") || stop.starts_with("S05"), "{stop}");
    assert_eq!(&client.ask("g")[..16], "0700000000000000");
    client.send("c");
    assert_eq!(client.answer(), "W07");
    running.end().status(7);
}

#[test]
fn ctrl_c_stops_a_guest_and_detach_lets_it_go() {
    if !has_kvm() {
        return;
    }
    let (_dir, socket) = socket();
    let image = boot_sector(&[code::SERIAL, code::PUT_A, code::LOOP]);
    let (_image, running) = waiting(&image, &socket, &["--timeout", "20"]);
    let mut client = Client::connect(&socket);
    assert!(client.ask("?").starts_with("T05"));
    client.send("c");
    running.stdout.wait_for("A");
    client.0.write_all(&[3]).unwrap();
    let stop = client.answer();
    assert!(stop.starts_with("T02") || stop.starts_with("S02"), "{stop}");
    // jmp $ becomes mov al, 9: out 0xf4, al has to follow it.
    assert_eq!(client.ask("M7c06,4:b009e6f4"), "OK");
    assert_eq!(client.ask("D"), "OK");
    running.end().status(9).printed("A");
}

#[test]
fn a_crash_can_be_looked_at() {
    if !has_kvm() {
        return;
    }
    let (_dir, socket) = socket();
    // ud2, without an IDT
    let (_image, running) = waiting(&[0x90, 0x0f, 0x0b], &socket, &["--boot", "flat64"]);
    let mut client = Client::connect(&socket);
    assert!(client.ask("?").starts_with("T05"));
    let stop = client.ask("c");
    assert!(stop.starts_with("T0b") || stop.starts_with("S0b"), "{stop}");
    assert_eq!(client.ask("m100000,3"), "900f0b");
    client.send("c");
    assert_eq!(client.answer(), "X0b");
    running.end().status(123).says("triple fault");
}

#[test]
fn a_client_that_leaves_or_talks_nonsense_ends_the_run() {
    if !has_kvm() {
        return;
    }
    let image = boot_sector(&[code::LOOP]);
    let end = |talk: &dyn Fn(&mut Client)| {
        let (_dir, socket) = socket();
        let (_image, running) = waiting(&image, &socket, &["--timeout", "20"]);
        let mut client = Client::connect(&socket);
        talk(&mut client);
        drop(client);
        running.end()
    };
    // It goes at once; while the guest runs; in the middle of a packet.
    end(&|_| {}).status(125).says("error: cannot talk to the debugger: it has gone");
    end(&|client| client.send("c")).status(125).says("error: cannot talk to the debugger");
    end(&|client| client.0.write_all(b"$m7c00").unwrap())
        .status(125)
        .says("error: cannot talk to the debugger");
    // Nonsense, also more than any packet has.
    let noise: Vec<u8> = (0..100_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    end(&|client| drop(client.0.write_all(&noise))).status(125).says("error: cannot talk to the debugger");
    let long = [&b"$"[..], &[b'a'; 100_000]].concat();
    end(&|client| drop(client.0.write_all(&long))).status(125).says("error: cannot talk to the debugger");
    // To kill it is a way to end it.
    end(&|client| client.send("k")).status(0);
}

#[test]
fn nobody_has_to_come() {
    if !has_kvm() {
        return;
    }
    let image = boot_sector(&[&code::exit(0)]);
    let (_dir, socket) = socket();
    let (_image, running) = waiting(&image, &socket, &["--timeout", "0.3"]);
    running.end().status(124).says("did not end within its time");
    let (_image, running) = waiting(&image, &socket, &[]);
    running.signal(libc::SIGTERM);
    running.end().killed_by(libc::SIGTERM);
    assert!(!socket.exists());
}

#[test]
fn a_port_is_for_this_host_only() {
    if !has_kvm() {
        return;
    }
    let running = matchstick(["trace", "--gdb", "0", "hello", "--timeout", "20"]).start();
    running.stderr.wait_for("waiting for gdb at 127.0.0.1:");
    running.stderr.wait_for("\n");
    let said = String::from_utf8(running.stderr.so_far()).unwrap();
    let address = said.lines().next().unwrap().rsplit(' ').next().unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    // Detach; the guest goes on by itself.
    stream.write_all(b"$D#44").unwrap();
    running.end().status(0).printed("Hello from a virtual machine!\n");
}

#[test]
fn an_address_that_cannot_be_used_is_said() {
    let hint = "`matchstick trace --help`";
    matchstick(["trace", "--gdb", "host:1", "hello"]).run().fails(125, "a debugger calls at a port", hint);
    matchstick(["trace", "--gdb", "1", "--json", "hello"]).run().fails(
        125,
        "with --gdb there is no story",
        hint,
    );
    let (dir, socket) = socket();
    std::fs::write(&socket, "taken").unwrap();
    for (path, hint) in [
        (socket, "--gdb takes a port that is free"),
        (dir.path().join("no/such"), "unix:PATH in a directory that you may write to"),
    ] {
        let address = format!("unix:{}", path.display());
        matchstick(["trace", "--gdb", &address]).run().fails(125, "cannot listen for a debugger", hint);
    }
}
