//! Time for the guest between two bursts of input.
//!
//! A driver that is called by interrupt reads as long as it finds one more byte. We have the next one at once, so it
//! would not come to an end while input waits: whoever is to take the bytes from it would not run, nor would the
//! guest's timers. So a guest that has read a burst gets as much time for itself as reading it took.
//!
//! Only the times; the bytes wait in the [`Cable`](crate::device::Cable).

use std::time::{Duration, Instant};

/// The longest rest, and the first one: how long the guest reads is not known yet.
const LONGEST: Duration = Duration::from_millis(1);

/// When the guest was given a burst, and until when it is left alone.
#[derive(Default)]
pub(super) struct Rest {
    given: Option<Instant>,
    until: Option<Instant>,
}

impl Rest {
    /// The guest has read a burst, and more waits. For how long, unless that was said before.
    pub fn begin(&mut self, now: Instant) -> Option<Duration> {
        if self.until.is_some() {
            return None;
        }
        let rest = self.given.map_or(LONGEST, |given| (now - given).min(LONGEST));
        self.until = Some(now + rest);
        Some(rest)
    }

    /// How much of it is left, if it has begun.
    pub fn left(&self, now: Instant) -> Option<Duration> {
        self.until.map(|until| until.saturating_duration_since(now))
    }

    /// Ends it, if its time is over: the guest is given the next burst.
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
    fn a_guest_rests_as_long_as_it_has_read_and_no_longer_than_a_millisecond() {
        let (mut rest, start) = (Rest::default(), Instant::now());
        let at = |micros| start + Duration::from_micros(micros);
        let micros = |micros| Some(Duration::from_micros(micros));
        assert_eq!((rest.left(at(0)), rest.end(at(0))), (None, false));
        assert_eq!(rest.begin(at(0)), micros(1000));
        assert_eq!(rest.begin(at(1)), None, "it has begun");
        assert_eq!((rest.left(at(400)), rest.end(at(400))), (micros(600), false));
        assert!(rest.end(at(1000)));
        assert_eq!(rest.begin(at(1200)), micros(200));
        assert!(rest.end(at(1500)));
        assert_eq!(rest.begin(at(9000)), micros(1000));
    }
}
