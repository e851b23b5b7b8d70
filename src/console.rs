//! The user's side of the serial cable: keys to the guest, a way out, and the terminal as it was.
//!
//! On a terminal every key goes to the guest, Ctrl-C included; Ctrl-a is ours: `Ctrl-a x` leaves, `Ctrl-a b` sends a
//! break, `Ctrl-a Ctrl-a` sends one Ctrl-a. Through a pipe there are no such keys, and every byte passes.

use crate::device::Cable;
use crate::error::{Error, Result, Step};
use crate::machine::Remote;
use crate::sandbox::{Role, Sandbox};
use crate::sys::{self, Input};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::thread;

/// Ctrl-a, as a terminal sends it.
const CTRL_A: u8 = 0x01;
/// Ctrl-d, the end of input.
const CTRL_D: u8 = 0x04;

fn host(step: Step) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Host { step, source }
}

/// What the user can ask of us by a key after Ctrl-a.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// To leave the guest.
    Leave,
    /// To send it a break.
    Break,
}

/// Splits what a terminal sends into the guest's bytes and our commands.
#[derive(Debug, Default)]
pub struct Keys {
    escaped: bool,
}

impl Keys {
    /// Appends the guest's bytes to `guest`, up to the first command, and returns that and what was typed after it.
    pub fn feed<'t>(&mut self, typed: &'t [u8], guest: &mut Vec<u8>) -> (Option<Command>, &'t [u8]) {
        for (at, &key) in typed.iter().enumerate() {
            match (std::mem::take(&mut self.escaped), key) {
                (false, CTRL_A) => self.escaped = true,
                (true, b'x') => return (Some(Command::Leave), &typed[at + 1..]),
                (true, b'b') => return (Some(Command::Break), &typed[at + 1..]),
                (true, CTRL_A) | (false, _) => guest.push(key),
                // Not a command of ours: the guest gets both keys.
                (true, _) => guest.extend([CTRL_A, key]),
            }
        }
        (None, &[])
    }
}

/// Connects standard input; dropping it restores the terminal.
pub struct Console(());

impl Console {
    /// Starts passing standard input on to `cable`. A terminal goes raw, and `announce` is called when the
    /// keys of [`Keys`] work. A thread is started only where there is something to read.
    pub fn connect(
        cable: Cable,
        remote: Remote,
        sandbox: Sandbox,
        announce: impl FnOnce(),
    ) -> Result<Console> {
        let console = Console(());
        let input = sys::stdin_kind();
        match input {
            Input::Background => return Ok(console),
            Input::Empty => {
                cable.send(&[CTRL_D]);
                return Ok(console);
            }
            Input::Stream => {}
            Input::Terminal => {
                sys::raw_terminal().map_err(host(Step::Terminal))?;
                announce();
            }
        }
        let awaited = remote.gate().expect(sandbox);
        let spawned = thread::Builder::new().name("stdin".into()).spawn(move || {
            sys::block_signals();
            if awaited.confine(Role::Input) {
                pump(io::stdin(), input == Input::Terminal, &cable, &remote);
            }
        });
        spawned.map_err(host(Step::StartThread))?;
        Ok(console)
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        sys::restore_terminal();
    }
}

/// Moves bytes from `source` to the cable until it ends or the user leaves.
fn pump(mut source: impl Read + AsFd, terminal: bool, cable: &Cable, remote: &Remote) {
    let mut keys = Keys::default();
    let mut buffer = [0; 4096];
    let mut is_open_line = false;
    loop {
        let typed = match source.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => &buffer[..count],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // Somebody made it non-blocking. Nothing is there yet; that is no end.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                sys::wait_for_input(&source);
                continue;
            }
            Err(_) => break,
        };
        if terminal {
            let mut rest = typed;
            loop {
                let mut guest = Vec::new();
                let (command, more) = keys.feed(rest, &mut guest);
                // To wait for a guest that does not read would be to miss the keys that leave it.
                cable.offer(&guest);
                match command {
                    None => break,
                    Some(Command::Break) => cable.offer_break(),
                    Some(Command::Leave) => {
                        remote.stop();
                        return;
                    }
                }
                rest = more;
            }
        } else {
            cable.send(typed);
            is_open_line = !typed.ends_with(b"\n");
        }
        remote.kick();
    }
    // A guest cannot see a closed pipe; it can see the key that stands for it.
    // To a terminal within the guest, the first one in a line ends only what was typed of that line.
    cable.send(if is_open_line { &[CTRL_D, CTRL_D] } else { &[CTRL_D] });
    remote.kick();
}

static MACHINE: OnceLock<Remote> = OnceLock::new();

/// From now on a signal that asks a program to end stops the machine of `remote` instead, so that output and terminal
/// are taken care of first. [`sys::die_if_noted`] does the rest.
pub fn catch_signals(remote: Remote) -> Result<()> {
    MACHINE.get_or_init(|| remote);
    let noted = sys::note_ending_signals(|_| {
        if let Some(remote) = MACHINE.get() {
            remote.stop_from_signal();
        }
    });
    noted.map_err(host(Step::Signals))
}

/// Whether a signal wants the process to end.
pub fn is_ending() -> bool {
    sys::noted_signal().is_some()
}
