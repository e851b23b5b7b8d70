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
    let unit = unit_of(time.as_nanos());
    format!("{} {}", in_unit(time.as_nanos(), unit), unit.1)
}

/// A unit of time: its nanoseconds, its name, and how many digits are shown behind the point.
pub(super) type Unit = (f64, &'static str, usize);

/// The unit for a time of so many nanoseconds.
pub(super) fn unit_of(nanos: u128) -> Unit {
    match nanos {
        0..1_000 => (1.0, "ns", 0),
        1_000..1_000_000 => (1e3, "µs", 1),
        1_000_000..1_000_000_000 => (1e6, "ms", 2),
        _ => (1e9, "s", 2),
    }
}

/// A time of so many nanoseconds in that unit, without its name.
pub(super) fn in_unit(nanos: u128, (size, _, digits): Unit) -> String {
    format!("{:.digits$}", nanos as f64 / size)
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
