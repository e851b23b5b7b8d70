//! Clocks. Source: clock_gettime(2).

use std::mem::MaybeUninit;
use std::time::Duration;

/// The time of CLOCK_MONOTONIC, which all processes of a host share.
pub fn monotonic() -> Duration {
    let mut now = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: clock_gettime writes `now`; this clock always exists.
    let now = unsafe {
        libc::clock_gettime(libc::CLOCK_MONOTONIC, now.as_mut_ptr());
        now.assume_init()
    };
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// How often the kernel's timer ticks in a second: its coarse clock advances by one tick at a time.
pub fn timer_frequency() -> u32 {
    let mut tick = MaybeUninit::<libc::timespec>::zeroed();
    // SAFETY: clock_getres writes `tick`; this clock exists since Linux 2.6.32, and all zeroes is valid, too.
    let tick = unsafe {
        libc::clock_getres(libc::CLOCK_MONOTONIC_COARSE, tick.as_mut_ptr());
        tick.assume_init()
    };
    u32::try_from(1_000_000_000 / tick.tv_nsec.max(1)).unwrap_or(0)
}

/// Seconds since the start of 1970, UTC.
pub fn unix_time() -> u64 {
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// `seconds` since the start of 1970 as a date and a time of day, UTC: `2026-12-01 05:30`.
pub fn date(seconds: u64) -> String {
    let seconds = libc::time_t::try_from(seconds).unwrap_or(0);
    let mut parts = MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: gmtime_r reads one and writes the other, which may be all zeroes as well: it points to nothing.
    let tm = unsafe {
        libc::gmtime_r(&seconds, parts.as_mut_ptr());
        parts.assume_init()
    };
    let (year, month) = (i64::from(tm.tm_year) + 1900, tm.tm_mon + 1);
    format!("{year:04}-{month:02}-{:02} {:02}:{:02}", tm.tm_mday, tm.tm_hour, tm.tm_min)
}

/// Nanoseconds since the start of 1970, UTC.
pub fn unix_nanos() -> u64 {
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_has_a_date() {
        // date -u -d @N
        for (seconds, text) in
            [(0, "1970-01-01 00:00"), (951_782_400, "2000-02-29 00:00"), (1_796_103_059, "2026-12-01 05:30")]
        {
            assert_eq!(date(seconds), text);
        }
    }
}
