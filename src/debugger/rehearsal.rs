//! A client and a guest's memory, without the vCPU: what a stranger at the socket can say, for tests and the fuzzer.
//!
//! Each time the guest is to run, it stops again at once, where it is. So every packet is answered.

use super::guest::Guest;
use super::{Client, Stream, why};
use crate::kvm::{Memory, StopPoint};
use gdbstub::common::Signal;
use gdbstub::stub::state_machine::GdbStubStateMachine;
use gdbstub::stub::{GdbStub, SingleThreadStopReason};
use std::io::{self, Read, Write};
use std::sync::mpsc::{Sender, channel};

/// Where the answers go; nothing comes from it.
struct Listener(Sender<Vec<u8>>);

impl Read for Listener {
    fn read(&mut self, _to: &mut [u8]) -> io::Result<usize> {
        Ok(0)
    }
}

impl Write for Listener {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(bytes.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Listener {
    fn wait(&self, _wait: bool) -> io::Result<()> {
        Ok(())
    }
}

/// Tells a debugger on a guest with `memory` the bytes that a client sends, and returns what it answers, until the
/// client leaves or does not keep to the protocol.
pub fn rehearse(memory: Memory, sent: &[u8]) -> Vec<u8> {
    let (tell, answers) = channel();
    // An end before the last byte is an end like any other.
    let _ =
        converse(Guest::new(memory), Client { stream: Box::new(Listener(tell)), unsent: Vec::new() }, sent);
    answers.try_iter().flatten().collect()
}

fn converse(mut guest: Guest, client: Client, sent: &[u8]) -> Option<()> {
    let mut sent = sent.iter();
    let mut session = GdbStub::new(client).run_state_machine(&mut guest).ok()?;
    loop {
        session = match session {
            GdbStubStateMachine::Idle(idle) => idle.incoming_data(&mut guest, *sent.next()?).ok()?,
            GdbStubStateMachine::Running(running) => {
                let reason =
                    why(&mut guest, StopPoint::AfterInstruction).unwrap_or(SingleThreadStopReason::DoneStep);
                running.report_stop(&mut guest, reason).ok()?
            }
            GdbStubStateMachine::CtrlCInterrupt(interrupt) => {
                let reason = SingleThreadStopReason::Signal(Signal::SIGINT);
                interrupt.interrupt_handled(&mut guest, Some(reason)).ok()?
            }
            GdbStubStateMachine::Disconnected(_) => return Some(()),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::GuestAddress;

    /// The answers to packets with these contents, as text.
    fn answers(packets: &[&str]) -> String {
        let framed = packets.iter().map(|packet| {
            let sum = packet.bytes().fold(0_u8, u8::wrapping_add);
            format!("${packet}#{sum:02x}+")
        });
        let memory = Memory::from_ranges(&[(GuestAddress(0), 0x2000)]).unwrap();
        String::from_utf8(rehearse(memory, framed.collect::<String>().as_bytes())).unwrap()
    }

    #[test]
    fn memory_is_written_and_read_as_the_manual_has_it() {
        assert_eq!(answers(&["M1ffe,2:abcd", "m1ffe,2"]), "+$OK#9a+$abcd#8a");
        // Beyond its end.
        assert!(answers(&["m2000,1"]).starts_with("+$E"));
    }

    #[test]
    fn a_step_ends_with_a_stop_and_a_detached_client_is_not_answered_any_more() {
        assert_eq!(answers(&["s", "D", "m0,1"]), "+$S05#b8+$OK#9a");
    }

    #[test]
    fn a_packet_with_a_wrong_sum_is_the_end() {
        let memory = || Memory::from_ranges(&[(GuestAddress(0), 0x1000)]).unwrap();
        assert_eq!(rehearse(memory(), b"$m0,1#fa"), b"+$00#60");
        assert_eq!(rehearse(memory(), b"$m0,1#00$m0,1#fa"), b"");
    }
}
