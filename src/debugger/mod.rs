//! A debugger on the guest: the GDB remote protocol, over TCP or a Unix socket.
//!
//! [`Debugger`] is a probe: before the vCPU goes into the guest it looks whether the guest is to stop, and talks to
//! the client for as long as it is stopped. To wait, it lets the vCPU go to KVM and back without the guest, so that
//! time limits and signals are looked after as ever. One vCPU, number 0, is debugged.

#![deny(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]
#![cfg_attr(
    test,
    allow(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

mod error;
mod guest;
mod rehearsal;

pub use rehearsal::rehearse;

use crate::kvm::{Exit, StopPoint, Vcpu};
use crate::timeline::Probe;
pub use error::DebuggerError;
use gdbstub::common::Signal;
use gdbstub::conn::Connection;
use gdbstub::stub::state_machine::GdbStubStateMachine;
use gdbstub::stub::{DisconnectReason, GdbStub, SingleThreadStopReason};
use gdbstub::target::ext::breakpoints::WatchKind;
use guest::Guest;

use error::Result;
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

/// How long to wait for a client's next word before looking around.
const PATIENCE: Duration = Duration::from_millis(10);

/// Where a client finds us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A TCP port of this host, reached from this host only; 0 is any that is free.
    Port(u16),
    /// A Unix socket.
    Unix(PathBuf),
}

/// Someone who waits to be called.
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Listener::Unix(_, path) = self {
            // It was ours; should it be gone, somebody else was quicker.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// What both kinds of sockets can do.
trait Stream: Read + Write + Send {
    /// Whether a read waits for a while, or only takes what is there.
    fn wait(&self, wait: bool) -> io::Result<()>;
}

impl Stream for TcpStream {
    fn wait(&self, wait: bool) -> io::Result<()> {
        self.set_nonblocking(!wait)
    }
}

impl Stream for UnixStream {
    fn wait(&self, wait: bool) -> io::Result<()> {
        self.set_nonblocking(!wait)
    }
}

/// A client, with what is to be sent in one piece.
struct Client {
    stream: Box<dyn Stream>,
    unsent: Vec<u8>,
}

impl Connection for Client {
    type Error = io::Error;

    fn write(&mut self, byte: u8) -> io::Result<()> {
        self.unsent.push(byte);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.unsent)?;
        self.unsent.clear();
        Ok(())
    }
}

type Session = GdbStubStateMachine<'static, Guest, Client>;

/// What the vCPU is to do now.
#[derive(Clone, Copy, PartialEq)]
enum Next {
    /// The guest may run.
    Run,
    /// Nothing is new: it looks around and comes back.
    Wait,
    /// The run is over.
    End,
}

/// A probe through which a client of the GDB remote protocol steers the guest.
pub struct Debugger {
    listener: Listener,
    session: Option<Session>,
    guest: Option<Guest>,
    stopped_at: StopPoint,
    /// Whether the guest stops after each instruction.
    is_stepping: bool,
    /// The client has left and wants the guest to go on without it.
    is_detached: bool,
    /// Says where a client may call, once that is so.
    announce: Option<fn(&str)>,
    /// Whether somebody wants the process to end.
    is_over: fn() -> bool,
    failure: Option<DebuggerError>,
}

impl fmt::Display for Debugger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.listener {
            Listener::Tcp(listener) => match listener.local_addr() {
                Ok(address) => write!(f, "{address}"),
                Err(_) => write!(f, "a port"),
            },
            Listener::Unix(_, path) => write!(f, "{}", path.display()),
        }
    }
}

impl Debugger {
    /// Listens at `address`, and announces that when the guest is ready. `is_over` is asked while there is only
    /// the client to wait for.
    pub fn listen(address: &Address, announce: Option<fn(&str)>, is_over: fn() -> bool) -> Result<Debugger> {
        let refused = DebuggerError::Listen;
        let listener = match address {
            Address::Port(port) => {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).map_err(refused)?;
                listener.set_nonblocking(true).map_err(refused)?;
                Listener::Tcp(listener)
            }
            Address::Unix(path) => {
                let listener = UnixListener::bind(path).map_err(refused)?;
                listener.set_nonblocking(true).map_err(refused)?;
                Listener::Unix(listener, path.clone())
            }
        };
        Ok(Debugger {
            listener,
            session: None,
            guest: None,
            stopped_at: StopPoint::BeforeInstruction,
            is_stepping: false,
            is_detached: false,
            announce,
            is_over,
            failure: None,
        })
    }

    /// Tells the client how the guest ended.
    pub fn finish(mut self, status: u8) -> Result<()> {
        if let (Some(GdbStubStateMachine::Running(running)), Some(guest)) =
            (self.session.take(), &mut self.guest)
        {
            let reason = match self.stopped_at {
                StopPoint::Down => SingleThreadStopReason::Terminated(Signal::SIGSEGV),
                _ => SingleThreadStopReason::Exited(status),
            };
            // A client that is not there any more need not be told.
            let _ = running.report_stop(guest, reason);
        }
        self.failure.map_or(Ok(()), Err)
    }

    /// Looks whether the guest has to stop, and talks to the client for as long as it is stopped.
    fn attend(&mut self, vcpu: &mut Vcpu) -> Result<Next> {
        let stopped_at = std::mem::replace(&mut self.stopped_at, StopPoint::BeforeInstruction);
        if stopped_at == StopPoint::WithinInstruction && self.is_stepping {
            vcpu.run_empty();
        }
        let guest = match &mut self.guest {
            Some(guest) => guest,
            none => none.insert(Guest::new(vcpu.memory().clone())),
        };
        let session = match self.session.take() {
            Some(session) => session,
            None => {
                let Some(client) = accept(&self.listener)? else { return Ok(Next::Wait) };
                stopped(vcpu, guest)?;
                GdbStub::new(client).run_state_machine(guest).map_err(|_| broken())?
            }
        };
        let session = match session {
            GdbStubStateMachine::Running(running) => match reason(vcpu, guest, stopped_at)? {
                Some(reason) => running.report_stop(guest, reason).map_err(|_| gone())?,
                None => running.into(),
            },
            other => other,
        };
        let (session, next) = talk(vcpu, guest, session, stopped_at)?;
        let wants = guest.has_points();
        let was_set = std::mem::take(&mut guest.is_changed);
        if was_set && next != Next::End {
            vcpu.set_general(&guest.registers.general)?;
        }
        self.is_detached = session.is_none();
        if next == Next::Run {
            let wants = wants && !self.is_detached;
            if wants && (was_set || !self.is_stepping) {
                vcpu.run_empty();
            }
            if wants || self.is_stepping {
                vcpu.single_step(wants)?;
            }
            self.is_stepping = wants;
        }
        self.session = session;
        Ok(next)
    }
}

fn broken() -> DebuggerError {
    DebuggerError::Talk(io::Error::other("it does not keep to the protocol"))
}

fn gone() -> DebuggerError {
    DebuggerError::Talk(io::Error::other("it has gone"))
}

/// Takes the first client that comes. `None` while there is none.
fn accept(listener: &Listener) -> Result<Option<Client>> {
    let stream: io::Result<Box<dyn Stream>> = match listener {
        Listener::Tcp(listener) => listener.accept().and_then(|(stream, _)| {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        }),
        Listener::Unix(listener, _) => listener.accept().and_then(|(stream, _)| {
            stream.set_read_timeout(Some(PATIENCE))?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        }),
    };
    match stream {
        Ok(stream) => Ok(Some(Client { stream, unsent: Vec::new() })),
        Err(error) if is_patience(&error) => {
            std::thread::sleep(PATIENCE);
            Ok(None)
        }
        Err(error) => Err(DebuggerError::Talk(error)),
    }
}

/// Nothing has come yet; that is no failure.
fn is_patience(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

/// The client's next byte, if it comes in time.
fn next_byte(client: &mut Client, wait: bool) -> Result<Option<u8>> {
    let mut byte = [0];
    match client.stream.wait(wait).and_then(|()| client.stream.read(&mut byte)) {
        Ok(0) => Err(gone()),
        Ok(_) => Ok(Some(byte[0])),
        Err(error) if is_patience(&error) => Ok(None),
        Err(_) => Err(gone()),
    }
}

/// Shows the client the guest as it is now.
fn stopped(vcpu: &mut Vcpu, guest: &mut Guest) -> Result<()> {
    guest.registers = vcpu.registers_at_exit()?;
    guest.fpu = vcpu.fpu()?;
    Ok(())
}

/// Why a guest that runs has to stop here, if it has to.
fn reason(
    vcpu: &mut Vcpu,
    guest: &mut Guest,
    stopped_at: StopPoint,
) -> Result<Option<SingleThreadStopReason<u64>>> {
    if stopped_at == StopPoint::BeforeInstruction {
        return Ok(None);
    }
    guest.registers = vcpu.registers_at_exit()?;
    let reason = why(guest, stopped_at);
    if reason.is_some() {
        stopped(vcpu, guest)?;
    }
    Ok(reason)
}

/// The same, as far as registers and memory tell.
fn why(guest: &mut Guest, stopped_at: StopPoint) -> Option<SingleThreadStopReason<u64>> {
    match guest.changed_watch() {
        _ if stopped_at == StopPoint::Down => Some(SingleThreadStopReason::Signal(Signal::SIGSEGV)),
        Some(addr) => Some(SingleThreadStopReason::Watch { tid: (), kind: WatchKind::Write, addr }),
        None if guest.is_at_breakpoint() => Some(SingleThreadStopReason::SwBreak(())),
        None if guest.one_step => Some(SingleThreadStopReason::DoneStep),
        None => None,
    }
}

/// Hears the client out. The session is gone when the client has left.
fn talk(
    vcpu: &mut Vcpu,
    guest: &mut Guest,
    mut session: Session,
    stopped_at: StopPoint,
) -> Result<(Option<Session>, Next)> {
    loop {
        session = match session {
            GdbStubStateMachine::Idle(mut idle) => match next_byte(idle.borrow_conn(), true)? {
                Some(byte) => idle.incoming_data(guest, byte).map_err(|_| broken())?,
                None => return Ok((Some(idle.into()), Next::Wait)),
            },
            GdbStubStateMachine::Running(mut running) => {
                // Ctrl-C is worth a look when the vCPU was called back anyway.
                let byte = match stopped_at {
                    StopPoint::BeforeInstruction => next_byte(running.borrow_conn(), false)?,
                    _ => None,
                };
                match byte {
                    Some(byte) => running.incoming_data(guest, byte).map_err(|_| broken())?,
                    None => return Ok((Some(running.into()), Next::Run)),
                }
            }
            GdbStubStateMachine::CtrlCInterrupt(interrupt) => {
                stopped(vcpu, guest)?;
                let reason = SingleThreadStopReason::Signal(Signal::SIGINT);
                interrupt.interrupt_handled(guest, Some(reason)).map_err(|_| gone())?
            }
            GdbStubStateMachine::Disconnected(left) => {
                let is_killed = matches!(left.get_reason(), DisconnectReason::Kill);
                return Ok((None, if is_killed { Next::End } else { Next::Run }));
            }
        };
    }
}

impl Probe for Debugger {
    fn enter(&mut self, vcpu: &mut Vcpu) -> ControlFlow<()> {
        if self.is_detached {
            return ControlFlow::Continue(());
        }
        if let Some(announce) = self.announce.take() {
            announce(&self.to_string());
        }
        match self.attend(vcpu) {
            Ok(Next::Run) => ControlFlow::Continue(()),
            Ok(Next::Wait) => {
                vcpu.skip_next_run();
                ControlFlow::Continue(())
            }
            Ok(Next::End) => ControlFlow::Break(()),
            Err(failure) => {
                self.failure = Some(failure);
                ControlFlow::Break(())
            }
        }
    }

    fn exit(&mut self, exit: &Exit<'_>) {
        self.stopped_at = exit.stop_point();
    }

    /// A guest that went down can be looked at once more.
    fn left(&mut self, vcpu: &mut Vcpu) {
        if self.stopped_at != StopPoint::Down || self.is_detached || self.session.is_none() {
            return;
        }
        loop {
            match self.attend(vcpu) {
                Ok(Next::Wait) if !(self.is_over)() => {}
                Ok(_) => break,
                Err(failure) => {
                    self.failure = Some(failure);
                    break;
                }
            }
        }
        self.stopped_at = StopPoint::Down;
    }
}
