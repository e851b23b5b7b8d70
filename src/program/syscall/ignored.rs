//! Arguments that Linux does not look at, by what else a call is asked. A program may have anything in their registers,
//! and that is no wrong address.
//!
//! Sources: futex(2), clone(2), epoll_ctl(2), mmap(2), clock_nanosleep(2), accept(2), recv(2).

/// `words` with 0 for what Linux does not look at, and -1 where that is no descriptor.
pub fn without_ignored(number: i64, mut words: [u64; 6]) -> [u64; 6] {
    let int = |at: usize| words[at] as i32;
    let has = |at: usize, flags: i32| int(at) & flags != 0;
    match number {
        libc::SYS_futex => {
            let (has_time, has_second) = match int(1) & libc::FUTEX_CMD_MASK {
                libc::FUTEX_WAIT | libc::FUTEX_WAIT_BITSET | libc::FUTEX_LOCK_PI | libc::FUTEX_LOCK_PI2 => {
                    (true, false)
                }
                // The fourth is a number.
                libc::FUTEX_REQUEUE
                | libc::FUTEX_CMP_REQUEUE
                | libc::FUTEX_WAKE_OP
                | libc::FUTEX_CMP_REQUEUE_PI
                | libc::FUTEX_WAIT_REQUEUE_PI => (true, true),
                _ => (false, false),
            };
            words[3] = if has_time { words[3] } else { 0 };
            words[4] = if has_second { words[4] } else { 0 };
        }
        libc::SYS_clone => {
            let tells_parent = has(0, libc::CLONE_PARENT_SETTID | libc::CLONE_PIDFD);
            let tells_child = has(0, libc::CLONE_CHILD_SETTID | libc::CLONE_CHILD_CLEARTID);
            words[2] = if tells_parent { words[2] } else { 0 };
            words[3] = if tells_child { words[3] } else { 0 };
        }
        libc::SYS_epoll_ctl if int(1) == libc::EPOLL_CTL_DEL => words[3] = 0,
        libc::SYS_mmap if has(3, libc::MAP_ANONYMOUS) => words[4] = u64::MAX,
        // It is the remaining time, of a time that is no moment.
        libc::SYS_clock_nanosleep if has(1, libc::TIMER_ABSTIME) => words[3] = 0,
        // Where an address is not asked for, its length is not either.
        libc::SYS_accept | libc::SYS_accept4 if words[1] == 0 => words[2] = 0,
        libc::SYS_recvfrom if words[4] == 0 => words[5] = 0,
        _ => {}
    }
    words
}
