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

/// Nanoseconds since the start of 1970, UTC.
pub fn unix_nanos() -> u64 {
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}
