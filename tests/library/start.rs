//! What a start must not do: leave the guest more often than it has to.

use crate::support;
use matchstick::guest::Guest;
use matchstick::kvm::Exit;
use matchstick::machine::{Config, Machine};
use matchstick::timeline::{Phase, Probe};
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

#[test]
fn the_phases_of_a_start_are_marked_in_their_order() {
    let Some(notes) = notes("hello") else { return };
    let expected = [
        Phase::Open,
        Phase::CreateVm,
        Phase::LocalApics,
        Phase::AddMemory,
        Phase::Load,
        Phase::CreateVcpus,
        Phase::Registers,
        Phase::Devices,
        Phase::Confine,
        Phase::Guest,
    ];
    assert_eq!(notes.phases, expected);
}
