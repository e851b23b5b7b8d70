//! What the host's kernel takes to do what a program wants, for whoever watches: nothing is timed unless a thread has
//! begun to.

use std::cell::Cell;
use std::time::Duration;

/// How often the host was asked, and how long that took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HostTime {
    /// System calls that were made on the program's behalf.
    pub calls: u32,
    /// Their time.
    pub time: Duration,
}

thread_local! {
    static RUNNING: Cell<Option<HostTime>> = const { Cell::new(None) };
}

/// From now on the calling thread times what it asks of the host.
pub fn begin_host_time() {
    RUNNING.set(Some(HostTime::default()));
}

/// What it was since then. It ends here.
pub fn end_host_time() -> HostTime {
    RUNNING.take().unwrap_or_default()
}

/// Does `body`, one system call, and adds its time if somebody wants to know.
pub(super) fn timed<T>(body: impl FnOnce() -> T) -> T {
    let Some(before) = RUNNING.get() else { return body() };
    let begin = super::super::monotonic();
    let result = body();
    let time = before.time + super::super::monotonic().saturating_sub(begin);
    RUNNING.set(Some(HostTime { calls: before.calls + 1, time }));
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_between_beginning_and_end_is_timed() {
        timed(|| ());
        assert_eq!(end_host_time(), HostTime::default());
        begin_host_time();
        timed(|| std::thread::sleep(Duration::from_millis(2)));
        assert_eq!(timed(|| 7), 7);
        let HostTime { calls, time } = end_host_time();
        assert!(calls == 2 && time >= Duration::from_millis(2), "{calls} {time:?}");
        timed(|| ());
        assert_eq!(end_host_time(), HostTime::default());
    }
}
