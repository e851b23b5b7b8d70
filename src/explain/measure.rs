//! How the figures of the lessons are measured: how often, with which pauses, and how a time is written.

use std::time::Duration;

/// Runs of a thing whose median is shown.
pub(super) const RUNS: usize = 7;
/// A pause between runs: the kernel frees a virtual machine bit by bit, and the next one may have to wait for that.
pub(super) const PAUSE: Duration = Duration::from_millis(20);
/// No start takes so long.
pub(super) const LIMIT: Duration = Duration::from_secs(5);

/// A time as people read it.
pub(super) fn in_words(time: Duration) -> String {
    match time.as_nanos() {
        nanos @ 0..1_000 => format!("{nanos} ns"),
        nanos @ 1_000..1_000_000 => format!("{:.1} µs", nanos as f64 / 1e3),
        nanos @ 1_000_000..1_000_000_000 => format!("{:.2} ms", nanos as f64 / 1e6),
        nanos => format!("{:.2} s", nanos as f64 / 1e9),
    }
}

/// The one in the middle.
pub(super) fn median(mut times: Vec<Duration>) -> Option<Duration> {
    times.sort();
    times.get(times.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit_that_fits() {
        let nanos = [850, 10_340, 1_234_567, 2_000_000_000];
        let words = nanos.map(|nanos| in_words(Duration::from_nanos(nanos)));
        assert_eq!(words, ["850 ns", "10.3 µs", "1.23 ms", "2.00 s"]);
    }
}
