//! The guest's output on its way to the host: soon, in bursts, and never lost.
//!
//! A guest that prints byte by byte leaves a byte at each exit. The first byte after a pause is written
//! at once, so that a prompt or an echo shows; what follows within [`PAUSE`] is written together.

use std::io::{self, ErrorKind, Write};
use std::time::{Duration, Instant};

/// The shortest time between two writes.
const PAUSE: Duration = Duration::from_millis(1);
/// Bytes that are written without waiting for the pause to end.
const BURST: usize = 16 << 10;

/// A sink for the guest's bytes.
pub(super) struct Output {
    sink: Box<dyn Write + Send>,
    last: Option<Instant>,
    promised: bool,
}

impl Output {
    pub fn new(sink: Box<dyn Write + Send>) -> Output {
        Output { sink, last: None, promised: false }
    }

    /// Writes `bytes` if it is time; `Some` asks the caller to [`flush`](Output::flush) that much later.
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

    /// Leaves `bytes` to a later [`flush`](Output::flush), for which the answer asks as that of `offer` does.
    pub fn promise(&mut self, bytes: &[u8]) -> Option<Duration> {
        if bytes.is_empty() {
            return None;
        }
        let asked = std::mem::replace(&mut self.promised, true);
        (!asked).then_some(PAUSE)
    }

    /// Writes all of `bytes` now. A sink that is full is waited for, until `give_up` says otherwise.
    pub fn flush(&mut self, bytes: &mut Vec<u8>, give_up: impl Fn() -> bool) -> io::Result<()> {
        self.promised = false;
        if bytes.is_empty() {
            return Ok(());
        }
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
