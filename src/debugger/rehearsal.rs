//! A client and a guest's memory, without the vCPU: what a stranger at the socket can say, for tests and the fuzzer.
//!
//! Each time the guest is to run, it stops again at once, where it is. So every packet is answered.

use super::conversation::{Conversation, Heard};
use super::error::Result;
use super::guest::{Guest, StopReason, tid};
use super::listener::Stream;
use crate::kvm::{Memory, StopPoint};
use gdbstub::common::Signal;
use std::io::{self, Read, Write};
use std::sync::mpsc::{Sender, channel};

/// What the client says, and where the answers go.
struct Client {
    sent: Vec<u8>,
    answers: Sender<Vec<u8>>,
}

impl Read for Client {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let count = self.sent.len().min(to.len());
        to.iter_mut().zip(self.sent.drain(..count)).for_each(|(to, byte)| *to = byte);
        Ok(count)
    }
}

impl Write for Client {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.answers.send(bytes.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Client {
    fn out_of_reach(self: Box<Self>, _: i32) -> io::Result<(Box<dyn Stream>, i32)> {
        Ok((self, -1))
    }

    fn wait(&self, _wait: bool) -> io::Result<()> {
        Ok(())
    }
}

/// Tells a debugger on a guest with `memory` the bytes that a client sends, and returns what it answers, until the
/// client leaves. The guest has two vCPUs.
pub fn rehearse(memory: Memory, sent: &[u8]) -> Vec<u8> {
    let (tell, answers) = channel();
    let mut guest = Guest::new();
    guest.memory = memory;
    guest.add_cpu(1);
    guest.cpus.iter_mut().for_each(|cpu| cpu.is_parked = true);
    // The end of what is sent is an end like any other.
    let _ = converse(&mut guest, Client { sent: sent.to_vec(), answers: tell });
    answers.try_iter().flatten().collect()
}

fn converse(guest: &mut Guest, client: Client) -> Result<()> {
    let mut conversation = Conversation::new(Box::new(client), guest)?;
    loop {
        match conversation.answer(guest)? {
            Heard::Nothing => conversation.receive(true)?,
            Heard::Answered => {}
            Heard::Left | Heard::Killed => return Ok(()),
        }
        if conversation.is_running() {
            guest.is_stopped = true;
            let step = StopReason::SignalWithThread { tid: tid(0), signal: Signal::SIGTRAP };
            let reason = guest.why(0, StopPoint::AfterInstruction).unwrap_or(step);
            conversation.report(guest, reason)?;
        }
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
        assert_eq!(answers(&["s", "D", "m0,1"]), "+$T05thread:01;#07+$OK#9a");
    }

    #[test]
    fn a_packet_with_a_wrong_sum_is_asked_for_again() {
        let memory = || Memory::from_ranges(&[(GuestAddress(0), 0x1000)]).unwrap();
        assert_eq!(rehearse(memory(), b"$m0,1#fa"), b"+$00#60");
        assert_eq!(rehearse(memory(), b"$m0,1#00$m0,1#fa"), b"-+$00#60");
        assert_eq!(rehearse(memory(), b"$m0,1#fa-"), b"+$00#60+$00#60");
    }

    #[test]
    fn what_cannot_be_parsed_is_not_supported_and_nothing_is_forgotten() {
        let unknown = [
            "qSupported",
            "qSupported:;;",
            "qXfer:features:read:other.xml:0,10",
            "qXfer:auxv:read::0,10",
            "qXfer:features:read:target.xml",
            "m",
            "mzz,1",
            "M0,1",
            "G00",
            "Hx",
            "H",
            "T",
            "vCont",
            "vCont;",
            "vCont;x",
            "vCont;r0,1",
            "vCont;t",
            "Z0",
            "Z0,",
            "Z9,0,1",
            "z",
            "D;",
            "qAttached:x",
            "vKill",
            "p0",
            "P0=0",
            "!",
            "",
            "c!",
        ];
        for packet in unknown {
            let said = answers(&["qSupported:multiprocess+", "QStartNoAckMode", "Hgp1.2", packet, "qC", "s"]);
            // Packets are still not acknowledged, and threads still named by their process.
            assert!(said.contains("$OK#9a"), "{packet:?}: {said}");
            let after = said.rsplit("$OK#9a").next().unwrap();
            assert!(after.starts_with('$') && !after.contains('+'), "{packet:?}: {said}");
            assert!(said.ends_with("$T05thread:p01.01;#06"), "{packet:?}: {said}");
        }
        assert_eq!(answers(&["qSupported"]), "+$#00");
    }

    #[test]
    fn every_vcpu_is_a_thread() {
        let threads = answers(&["qfThreadInfo", "qsThreadInfo", "Hg2", "T2", "T3"]);
        assert!(threads.starts_with("+$m01,02#") && threads.contains("+$l#6c+$OK#9a+$OK#9a+$"), "{threads}");
        let info = answers(&["qThreadExtraInfo,2"]);
        let text = "CPU 1, real, 16-bit".bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert!(info.contains(&text), "{info}");
    }
}
