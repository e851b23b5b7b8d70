//! Time for the guest between two bursts of input.
//!
//! A driver that is called by interrupt reads until it finds no more. The next byte is always there at once, so the
//! driver would not stop while input waits: the program that is to take the bytes from it would not run, nor would the
//! guest's timers. So after each burst the guest gets a pause, as long as it took to read the burst.
//!
//! This counts the times only; the bytes wait in the [`Cable`](crate::device::Cable).

use std::time::{Duration, Instant};

/// The longest pause, and the first one: how long the guest reads is not known yet.
const LONGEST: Duration = Duration::from_millis(1);

/// When the guest got its last burst, and when it gets the next one.
#[derive(Default)]
pub(super) struct Pacing {
    given: Option<Instant>,
    until: Option<Instant>,
}

impl Pacing {
    /// The guest has read a burst, and more input waits: a pause begins. Returns its length; `None` if one has begun
    /// already.
    pub fn begin(&mut self, now: Instant) -> Option<Duration> {
        if self.until.is_some() {
            return None;
        }
        let pause = self.given.map_or(LONGEST, |given| (now - given).min(LONGEST));
        self.until = Some(now + pause);
        Some(pause)
    }

    /// How much of the pause is left; `None` if there is none.
    pub fn left(&self, now: Instant) -> Option<Duration> {
        self.until.map(|until| until.saturating_duration_since(now))
    }

    /// Ends the pause if its time is over: the guest gets the next burst. True if it has ended now.
    pub fn end(&mut self, now: Instant) -> bool {
        let is_over = self.until.is_some_and(|until| until <= now);
        if is_over {
            (self.given, self.until) = (Some(now), None);
        }
        is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_as_long_as_the_guest_has_read_and_at_most_a_millisecond() {
        let (mut pacing, start) = (Pacing::default(), Instant::now());
        let at = |micros| start + Duration::from_micros(micros);
        let micros = |micros| Some(Duration::from_micros(micros));
        assert_eq!((pacing.left(at(0)), pacing.end(at(0))), (None, false));
        assert_eq!(pacing.begin(at(0)), micros(1000));
        assert_eq!(pacing.begin(at(1)), None, "it has begun");
        assert_eq!((pacing.left(at(400)), pacing.end(at(400))), (micros(600), false));
        assert!(pacing.end(at(1000)));
        assert_eq!(pacing.begin(at(1200)), micros(200));
        assert!(pacing.end(at(1500)));
        assert_eq!(pacing.begin(at(9000)), micros(1000));
    }
}
