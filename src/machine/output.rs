//! The guest's output on its way to the host: it is written soon, in few writes, and none of it is lost.
//!
//! A guest that prints byte by byte leaves a byte at each exit. The first byte after a pause is written
//! at once, so that a prompt or an echo shows; what follows within [`PAUSE`] is written together.

use std::io::{self, ErrorKind, Write};
use std::time::{Duration, Instant};

/// The shortest time between two writes.
const PAUSE: Duration = Duration::from_millis(1);
/// How long a reader may take for the rest of the output when the time is over.
const GRACE: Duration = Duration::from_millis(100);
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

    /// Whether anything was written, or waits to be.
    pub fn has_begun(&self) -> bool {
        self.last.is_some() || self.promised
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
        let mut gave_up: Option<Instant> = None;
        while done < bytes.len() {
            match self.sink.write(&bytes[done..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => {
                    done += count;
                    // A reader that is not slow gets the rest; one that is slow could take any time for it.
                    if done < bytes.len() && give_up() {
                        let since = *gave_up.get_or_insert_with(Instant::now);
                        if since.elapsed() >= GRACE {
                            break;
                        }
                    }
                }
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Takes so many bytes at once, and waits that long before.
    struct Reader {
        at_once: usize,
        pause: Duration,
        taken: Arc<AtomicUsize>,
    }

    impl Write for Reader {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            std::thread::sleep(self.pause);
            let count = bytes.len().min(self.at_once);
            self.taken.fetch_add(count, Ordering::SeqCst);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// How many of 100,000 bytes come to such a reader when the time is over.
    fn taken(at_once: usize, pause: Duration) -> usize {
        let taken = Arc::new(AtomicUsize::new(0));
        let mut output = Output::new(Box::new(Reader { at_once, pause, taken: Arc::clone(&taken) }), None);
        let mut bytes = vec![b'x'; 100_000];
        output.flush(&mut bytes, || true).unwrap();
        assert!(bytes.is_empty());
        taken.load(Ordering::SeqCst)
    }

    /// It would take this reader a hundred seconds.
    #[test]
    fn a_slow_reader_does_not_keep_a_guest_whose_time_is_over() {
        assert!(taken(1, Duration::from_millis(1)) < 100_000);
    }

    #[test]
    fn a_reader_that_takes_part_of_it_at_once_gets_all() {
        assert_eq!(taken(10_000, Duration::ZERO), 100_000);
    }
}
