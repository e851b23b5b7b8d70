//! What a start must not do: leave the guest more often than it has to.

use crate::support;
use crate::support::image::{RING_3_CODE, ring_3};
use matchstick::boot::Protocol;
use matchstick::guest::Guest;
use matchstick::kvm::Exit;
use matchstick::machine::{Config, Machine, Outcome};
use matchstick::timeline::{Phase, Probe};
use matchstick::{Bytes, GuestAddress};
use std::io;
use std::time::Duration;

/// Writes down every exit, and every phase.
#[derive(Default)]
struct Notes {
    exits: Vec<String>,
    phases: Vec<Phase>,
}

impl Probe for Notes {
    fn mark(&mut self, phase: Phase) {
        self.phases.push(phase);
    }

    fn exit(&mut self, exit: &Exit<'_>) {
        self.exits.push(match exit {
            // The timer's, on a machine so slow or busy that the guest is still there when it comes.
            Exit::Interrupted => return,
            Exit::Out { port, data, .. } => format!("out {port:#x}: {}", String::from_utf8_lossy(data)),
            other => format!("{other:?}"),
        });
    }
}

fn notes(guest: &str) -> Option<Notes> {
    if !support::has_kvm() {
        return None;
    }
    let guest = Guest::find(guest).expect("it is in the gallery");
    let config = Config { cpuid: false, timeout: Some(Duration::from_secs(10)), ..Config::default() };
    let mut notes = Notes::default();
    let mut machine = Machine::watched(&config, guest, Box::new(io::sink()), &mut notes).unwrap();
    machine.run_watched(&mut notes).unwrap();
    Some(notes)
}

#[test]
fn hello_prints_its_line_in_one_exit_and_leaves_in_another() {
    let Some(notes) = notes("hello") else { return };
    assert_eq!(notes.exits, ["out 0x3f8: Hello from a virtual machine!\n", "out 0xf4: \0"]);
}

#[test]
fn noop_leaves_the_guest_once() {
    let Some(notes) = notes("noop") else { return };
    assert_eq!(notes.exits, ["out 0xf4: \0"]);
}

/// How `user` ends in ring 3, and its exits until then. Ring 0 has the letters `secret` at 0x20_0000.
fn in_ring_3(user: &[&[u8]]) -> Option<(Outcome, Vec<String>)> {
    if !support::has_kvm() {
        return None;
    }
    let image = ring_3(&user.concat());
    let config = Config {
        memory: 8 << 20,
        protocol: Some(Protocol::Flat64),
        timeout: Some(Duration::from_secs(10)),
        ..Config::default()
    };
    let mut notes = Notes::default();
    let mut machine = Machine::watched(&config, image.as_slice(), Box::new(io::sink()), &mut notes).unwrap();
    machine.memory().write_slice(b"secret", GuestAddress(0x20_0000)).unwrap();
    let outcome = machine.run_watched(&mut notes).unwrap();
    Some((outcome, notes.exits))
}

/// `mov edx, 0x3f8; mov esi, address; mov ecx, count`
fn string_at(address: u32, count: u8) -> Vec<u8> {
    let [a, b, c, d] = address.to_le_bytes();
    vec![0xba, 0xf8, 0x03, 0, 0, 0xbe, a, b, c, d, 0xb9, count, 0, 0, 0]
}

/// `rep outsb; mov al, 7; out 0xf4, al`
const PRINT_AND_EXIT: &[u8] = &[0xf3, 0x6e, 0xb0, 7, 0xe6, 0xf4];

#[test]
fn a_string_of_ring_3_takes_one_exit_as_well() {
    // The text lies behind the 21 bytes of code.
    let code = [&string_at(RING_3_CODE + 21, 11)[..], PRINT_AND_EXIT, b"from ring 3"];
    let Some((outcome, exits)) = in_ring_3(&code) else { return };
    assert!(matches!(outcome, Outcome::Exited(7)), "{outcome:?}");
    assert_eq!(exits, ["out 0x3f8: from ring 3", "out 0xf4: \u{7}"]);
}

/// Behind `out dx, al`, KVM shows RIP at the string: so it looks like one that has begun with the byte in AL. When
/// that byte was guessed right, the rest of ring 0's page was printed.
#[test]
fn ring_3_reads_nothing_of_ring_0_by_a_string_that_we_finish() {
    for (guess, address) in [(b's', 0x20_0001), (b'e', 0x20_0002), (b'x', 0x20_0001)] {
        // mov al, guess; out dx, al
        let code = [&string_at(address, 5)[..], &[0xb0, guess, 0xee], PRINT_AND_EXIT];
        let Some((outcome, exits)) = in_ring_3(&code) else { return };
        assert!(matches!(outcome, Outcome::Crashed(_)), "{outcome:?}");
        assert_eq!(exits, [format!("out 0x3f8: {}", char::from(guess)), "Shutdown".into()]);
    }
}

#[test]
fn the_phases_of_a_start_are_marked_in_their_order() {
    let Some(notes) = notes("hello") else { return };
    let expected = [
        Phase::Open,
        Phase::CreateVm,
        Phase::LocalApics,
        Phase::AddMemory,
        Phase::Devices,
        Phase::Load,
        Phase::CreateVcpus,
        Phase::Registers,
        Phase::Confine,
        Phase::Guest,
    ];
    assert_eq!(notes.phases, expected);
}
