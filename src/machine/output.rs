//! The guest's output on its way to the host: it is written soon, in few writes, and none of it is lost.
//!
//! A guest that prints byte by byte leaves a byte at each exit. The first byte after a pause is written
//! at once, so that a prompt or an echo shows; what follows within [`PAUSE`] is written together.

use std::io::{self, ErrorKind, Write};
use std::time::{Duration, Instant};

/// The shortest time between two writes.
const PAUSE: Duration = Duration::from_millis(1);
/// Bytes that are written without waiting for the pause to end.
const BURST: usize = 16 << 10;

/// Where the guest's bytes go.
pub(super) struct Output {
    sink: Box<dyn Write + Send>,
    /// When something was written last.
    last: Option<Instant>,
    /// A flush is asked for and has not come yet.
    promised: bool,
    /// How many bytes may still be written.
    left: u64,
}

impl Output {
    /// Takes at most `limit` bytes; what is written beyond is dropped, and ends the guest.
    pub fn new(sink: Box<dyn Write + Send>, limit: Option<u64>) -> Output {
        Output { sink, last: None, promised: false, left: limit.unwrap_or(u64::MAX) }
    }

    /// Whether `waiting` bytes are more than the limit leaves.
    pub fn is_over(&self, waiting: usize) -> bool {
        waiting as u64 > self.left
    }

    /// Writes `bytes` if the pause since the last write is over; if not, keeps them as [`promise`](Output::promise) does.
    pub fn offer(&mut self, bytes: &mut Vec<u8>, give_up: impl Fn() -> bool) -> io::Result<Option<Duration>> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let fresh = self.last.is_some_and(|last| last.elapsed() < PAUSE);
        if fresh && bytes.len() < BURST {
            return Ok(self.promise(bytes));
        }
        self.flush(bytes, give_up).map(|()| None)
    }

    /// Keeps `bytes` for a later [`flush`](Output::flush). `Some` is how much later: the caller is to call it then. `None` if
    /// there is nothing to write, or a flush was asked for before.
    pub fn promise(&mut self, bytes: &[u8]) -> Option<Duration> {
        if bytes.is_empty() {
            return None;
        }
        let asked = std::mem::replace(&mut self.promised, true);
        (!asked).then_some(PAUSE)
    }

    /// Writes all of `bytes` now, and empties it. A full sink is waited for until `give_up` is true; what is left then is
    /// lost.
    pub fn flush(&mut self, bytes: &mut Vec<u8>, give_up: impl Fn() -> bool) -> io::Result<()> {
        self.promised = false;
        if bytes.is_empty() {
            return Ok(());
        }
        bytes.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= bytes.len() as u64;
        let mut done = 0;
        while done < bytes.len() {
            match self.sink.write(&bytes[done..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => done += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock && !give_up() => {
                    crate::sys::wait_for_stdout()
                }
                Err(error) if error.kind() == ErrorKind::Interrupted && !give_up() => {}
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => break,
                Err(error) => return Err(error),
            }
        }
        bytes.clear();
        self.last = Some(Instant::now());
        Ok(())
    }
}
