//! What is said between a client and the gdbstub crate: packets in and out, and what to do about those that it cannot take.
//!
//! gdbstub ends the session at the first packet that it cannot parse. The protocol has an answer for that: the empty
//! packet, "not supported". So each packet is checked here first, and where gdbstub gives up in spite of that, a new
//! session is put into the state of the old one. Source: the GDB manual, appendix E.1 "Overview" of the protocol.

use super::error::Result;
use super::guest::{StopReason, tid};
use super::listener::Stream;
use super::{DebuggerError, gone};
use gdbstub::arch::Arch;
use gdbstub::conn::Connection;
use gdbstub::stub::state_machine::GdbStubStateMachine;
use gdbstub::stub::{DisconnectReason, GdbStub};
use gdbstub::target::Target;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

/// The most bytes of a packet that gdbstub takes.
const PACKET_MAX: usize = 4096;

/// Our end of the connection. gdbstub has one as well, which it drops when it fails.
#[derive(Clone)]
struct Wire(Rc<RefCell<Line>>);

/// The connection itself.
struct Line {
    stream: Box<dyn Stream>,
    /// To be sent in one piece.
    unsent: Vec<u8>,
    /// What was sent last, in case the client did not get it.
    last: Vec<u8>,
    /// Whether nothing is to be sent, because the client has heard it before.
    is_muted: bool,
    has_failed: bool,
}

impl Connection for Wire {
    type Error = io::Error;

    fn write(&mut self, byte: u8) -> io::Result<()> {
        self.0.borrow_mut().unsent.push(byte);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.borrow_mut().flush()
    }
}

impl Line {
    fn flush(&mut self) -> io::Result<()> {
        let bytes = std::mem::take(&mut self.unsent);
        if self.is_muted {
            return Ok(());
        }
        let sent = self.stream.write_all(&bytes);
        self.has_failed |= sent.is_err();
        self.last = bytes;
        sent
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.unsent = bytes.to_vec();
        self.flush().map_err(|_| gone())
    }
}

/// What a client says.
#[derive(Debug, PartialEq, Eq)]
enum Message {
    /// Ctrl-C: the guest is to stop.
    Interrupt,
    /// It has not understood us.
    Again,
    /// What is between `$` and `#`; `None` if the sum is wrong.
    Packet(Option<Vec<u8>>),
    /// A packet that is longer than any may be.
    TooLong,
}

/// Takes the first message off `received`. `None` if it is not whole yet.
fn next_message(received: &mut Vec<u8>) -> Option<Message> {
    let start = received.iter().position(|byte| matches!(byte, b'$' | b'-' | 3)).unwrap_or(received.len());
    // Acknowledgements, and noise.
    received.drain(..start);
    match received.first()? {
        b'$' => {}
        b'-' => return received.drain(..1).next().map(|_| Message::Again),
        _ => return received.drain(..1).next().map(|_| Message::Interrupt),
    }
    let Some(end) = received.iter().position(|&byte| byte == b'#') else {
        if received.len() <= PACKET_MAX {
            return None;
        }
        received.clear();
        return Some(Message::TooLong);
    };
    let sum = received.get(end.saturating_add(1)..end.saturating_add(3))?;
    let sum = std::str::from_utf8(sum).ok().and_then(|sum| u8::from_str_radix(sum, 16).ok());
    let body = received.get(1..end)?.to_vec();
    received.drain(..end.saturating_add(3));
    if body.len() > PACKET_MAX - 4 {
        return Some(Message::TooLong);
    }
    let is_right = sum == Some(body.iter().fold(0_u8, |sum, &byte| sum.wrapping_add(byte)));
    Some(Message::Packet(is_right.then_some(body)))
}

/// `body` with its frame.
fn framed(body: &[u8]) -> Vec<u8> {
    let sum = body.iter().fold(0_u8, |sum, &byte| sum.wrapping_add(byte));
    [b"$", body, format!("#{sum:02x}").as_bytes()].concat()
}

/// What a client can be shown and can steer: a machine's vCPUs, or a program's threads.
pub(super) trait Debuggee: Target<Arch: Arch<Usize = u64>> + 'static {}

impl<T: Target<Arch: Arch<Usize = u64>> + 'static> Debuggee for T {}

type Session<T> = GdbStubStateMachine<'static, T, Wire>;

/// What came of listening to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// It has said nothing new.
    Nothing,
    /// It was answered.
    Answered,
    /// It has let go of the guest.
    Left,
    /// It wants the run to end.
    Killed,
}

/// A client, and the session with it.
pub(super) struct Conversation<T: Debuggee> {
    wire: Wire,
    /// `None` when the client has left.
    session: Option<Session<T>>,
    received: Vec<u8>,
    messages: VecDeque<Message>,
    /// What was agreed on, in packets that put a new session into the state of this one: `qSupported`, and whether
    /// packets are acknowledged.
    features: Option<Vec<u8>>,
    is_acknowledging: bool,
    /// The thread that is spoken of, in packets as well: `Hg` for its registers and memory, `Hc` to go on.
    threads: [Option<Vec<u8>>; 2],
}

impl<T: Debuggee> Conversation<T> {
    /// Begins to talk.
    pub fn new(stream: Box<dyn Stream>, guest: &mut T) -> Result<Conversation<T>> {
        let (unsent, last) = (Vec::new(), Vec::new());
        let line = Line { stream, unsent, last, is_muted: false, has_failed: false };
        let wire = Wire(Rc::new(RefCell::new(line)));
        let session = begin(&wire, guest)?;
        Ok(Conversation {
            wire,
            session: Some(session),
            received: Vec::new(),
            messages: VecDeque::new(),
            features: None,
            is_acknowledging: true,
            threads: [None, None],
        })
    }

    /// Whether the client waits for the guest to stop.
    pub fn is_running(&self) -> bool {
        matches!(self.session, Some(GdbStubStateMachine::Running(_)))
    }

    /// Takes in what the client has sent: with `wait`, waits a moment for it.
    pub fn receive(&mut self, wait: bool) -> Result<()> {
        let mut bytes = [0; 1024];
        match self.wire.0.borrow_mut().stream.receive(&mut bytes, wait).map_err(|_| gone())? {
            None => {}
            Some(0) => return Err(gone()),
            Some(count) => self.received.extend(bytes.iter().take(count)),
        }
        self.messages.extend(std::iter::from_fn(|| next_message(&mut self.received)));
        Ok(())
    }

    /// Whether the client has said that the guest is to stop; other messages wait until it has.
    pub fn take_interrupt(&mut self) -> bool {
        let at = self.messages.iter().position(|message| *message == Message::Interrupt);
        at.and_then(|at| self.messages.remove(at)).is_some()
    }

    /// Answers the next message of the client, to which the guest stands still.
    pub fn answer(&mut self, guest: &mut T) -> Result<Heard> {
        match self.messages.pop_front() {
            None => return Ok(Heard::Nothing),
            // It stands still already.
            Some(Message::Interrupt) => {}
            Some(Message::Again) => {
                let mut line = self.wire.0.borrow_mut();
                let last = line.last.clone();
                line.send(&last)?;
            }
            Some(Message::Packet(None)) if self.is_acknowledging => self.wire.0.borrow_mut().send(b"-")?,
            Some(Message::Packet(None) | Message::TooLong) => self.not_supported()?,
            Some(Message::Packet(Some(body))) => return self.answer_packet(guest, &body),
        }
        Ok(Heard::Answered)
    }

    fn answer_packet(&mut self, guest: &mut T, body: &[u8]) -> Result<Heard> {
        // Without threads named, the old packet means all of them.
        let body = if body == b"c" { b"vCont;c" } else { body };
        match self.feed(guest, &framed(body)) {
            Ok(()) => self.note(body),
            Err(()) if self.wire.0.borrow().has_failed => return Err(gone()),
            Err(()) => {
                self.wire.0.borrow_mut().unsent.clear();
                self.renew(guest)?;
                self.not_supported()?;
            }
        }
        let Some(GdbStubStateMachine::Disconnected(left)) = &self.session else {
            return Ok(Heard::Answered);
        };
        let is_kill = matches!(left.get_reason(), DisconnectReason::Kill);
        self.session = None;
        Ok(if is_kill { Heard::Killed } else { Heard::Left })
    }

    /// Hands bytes to gdbstub. After an error there is no session any more.
    fn feed(&mut self, guest: &mut T, bytes: &[u8]) -> std::result::Result<(), ()> {
        for &byte in bytes {
            self.session = match self.session.take() {
                Some(GdbStubStateMachine::Idle(idle)) => {
                    Some(idle.incoming_data(guest, byte).map_err(|_| ())?)
                }
                other => other,
            };
        }
        Ok(())
    }

    /// Remembers what a new session would have to know.
    fn note(&mut self, body: &[u8]) {
        let [memory, resume] = &mut self.threads;
        match body {
            [b'q', b'S', b'u', b'p', ..] => self.features = Some(framed(body)),
            b"QStartNoAckMode" => self.is_acknowledging = false,
            [b'H', b'g', ..] => *memory = Some(framed(body)),
            [b'H', b'c', ..] => *resume = Some(framed(body)),
            _ => {}
        }
    }

    /// Begins a session that stands where the last one stood.
    fn renew(&mut self, guest: &mut T) -> Result<()> {
        self.session = Some(begin(&self.wire, guest)?);
        self.wire.0.borrow_mut().is_muted = true;
        let no_acknowledgement = (!self.is_acknowledging).then(|| framed(b"QStartNoAckMode"));
        let before = [self.features.clone(), no_acknowledgement].into_iter().chain(self.threads.clone());
        let is_again = before.flatten().all(|packet| self.feed(guest, &packet).is_ok());
        self.wire.0.borrow_mut().is_muted = false;
        if is_again { Ok(()) } else { Err(nonsense()) }
    }

    /// Says that a packet is not supported: the empty answer.
    fn not_supported(&mut self) -> Result<()> {
        let answer: &[u8] = if self.is_acknowledging { b"+$#00" } else { b"$#00" };
        self.wire.0.borrow_mut().send(answer)
    }

    /// Tells a client that waits for the guest why it has stopped, or how it has ended.
    pub fn report(&mut self, guest: &mut T, reason: StopReason) -> Result<()> {
        if let StopReason::SignalWithThread { tid, .. }
        | StopReason::SwBreak(tid)
        | StopReason::Watch { tid, .. } = reason
        {
            self.threads = ["Hg", "Hc"].map(|which| Some(framed(format!("{which}{tid:x}").as_bytes())));
        }
        self.session = match self.session.take() {
            Some(GdbStubStateMachine::Running(running)) => {
                Some(running.report_stop(guest, reason).map_err(|_| gone())?)
            }
            other => other,
        };
        Ok(())
    }
}

/// A session in which nothing was said yet; the first thread is spoken of.
fn begin<T: Debuggee>(wire: &Wire, guest: &mut T) -> Result<Session<T>> {
    debug_assert_eq!(tid(0).get(), 1, "gdbstub begins with this thread");
    GdbStub::new(wire.clone()).run_state_machine(guest).map_err(|_| nonsense())
}

fn nonsense() -> DebuggerError {
    DebuggerError::Talk(io::Error::other("it does not keep to the protocol"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(bytes: &[u8]) -> Vec<Message> {
        let mut received = bytes.to_vec();
        std::iter::from_fn(|| next_message(&mut received)).collect()
    }

    #[test]
    fn messages_are_found_between_acknowledgements_and_noise() {
        let packet = |body: &[u8]| Message::Packet(Some(body.to_vec()));
        assert_eq!(
            messages(b"++$g#67+\x03xyz$?#3f-"),
            [packet(b"g"), Message::Interrupt, packet(b"?"), Message::Again]
        );
        assert_eq!(messages(b"$g#00$g#zz$#00"), [Message::Packet(None), Message::Packet(None), packet(b"")]);
        for part in [&b"$g"[..], b"$g#", b"$g#6", b"+", b""] {
            assert_eq!(messages(part), []);
        }
        assert_eq!(messages(&[&b"$"[..], &[b'a'; PACKET_MAX]].concat()), [Message::TooLong]);
        assert_eq!(messages(&framed(&[b'a'; PACKET_MAX])), [Message::TooLong]);
    }
}
