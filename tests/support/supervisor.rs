//! A program whose system calls wait until they are let go (seccomp_unotify(2)): so a test decides what comes first.
#![allow(unsafe_code)]

use super::{LIMIT, Program, Running};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::thread;
use std::time::Duration;

/// Who is asked about some calls of a program.
pub struct Supervisor(OwnedFd);

/// A call that waits.
#[derive(Debug)]
pub struct Call {
    id: u64,
    /// The thread that makes it.
    pub thread: i32,
    pub number: i64,
}

/// `struct seccomp_notif`, with `struct seccomp_data` at its end.
#[repr(C)]
struct Notification {
    id: u64,
    thread: u32,
    _flags: u32,
    number: i32,
    _architecture: u32,
    _instruction_pointer: u64,
    _arguments: [u64; 6],
}

/// `struct seccomp_notif_resp`.
#[repr(C)]
struct Answer {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

const NOTIF_RECV: libc::c_ulong = 0xc050_2100;
const NOTIF_SEND: libc::c_ulong = 0xc018_2101;
const FLAG_CONTINUE: u32 = 1;

/// Starts `program`. Every one of `calls` waits: of a number, or of ioctl(2) with that request.
pub fn supervise(program: Program, calls: &'static [(i64, Option<u32>)]) -> (Running, Supervisor) {
    // The filter is that of a thread, and of what it starts.
    let start = move || {
        let listener = listen(calls);
        (program.start(), Supervisor(listener))
    };
    thread::spawn(start).join().unwrap()
}

/// Puts the calling thread behind the filter.
fn listen(calls: &[(i64, Option<u32>)]) -> OwnedFd {
    const LOAD: u16 = 0x20;
    const EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const ALLOW: u32 = 0x7fff_0000;
    const USER_NOTIF: u32 = 0x7fc0_0000;
    let instruction = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut filter = Vec::new();
    for &(number, request) in calls {
        // The number; if it is this one, the second argument where that counts; then ask.
        let checks: &[_] = match request {
            Some(request) => &[instruction(LOAD, 0, 0, 24), instruction(EQUAL, 0, 1, request)],
            None => &[],
        };
        filter.push(instruction(LOAD, 0, 0, 0));
        filter.push(instruction(EQUAL, 0, checks.len() as u8 + 1, number as u32));
        filter.extend(checks);
        filter.push(instruction(RETURN, 0, 0, USER_NOTIF));
    }
    filter.push(instruction(RETURN, 0, 0, ALLOW));
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the program is only read; the descriptor that comes back is nobody's yet.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let (mode, flags) = (libc::SECCOMP_SET_MODE_FILTER, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER);
        let listener = libc::syscall(libc::SYS_seccomp, mode, flags, &program);
        assert!(listener >= 0, "{}", io::Error::last_os_error());
        OwnedFd::from_raw_fd(listener as i32)
    }
}

impl Supervisor {
    /// The next call that waits, if one comes in this time; an error when there can be no more.
    pub fn next_within(&self, time: Duration) -> Result<Option<Call>, ()> {
        let mut poll = libc::pollfd { fd: self.0.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let mut call = MaybeUninit::<Notification>::zeroed();
        // SAFETY: one pollfd, and it is ours; the kernel fills in a notification, of which it wants all to be zero.
        let call = unsafe {
            libc::poll(&mut poll, 1, time.as_millis() as i32);
            if poll.revents & libc::POLLIN == 0 {
                return if poll.revents == 0 { Ok(None) } else { Err(()) };
            }
            if libc::ioctl(self.0.as_raw_fd(), NOTIF_RECV, call.as_mut_ptr()) != 0 {
                // A signal took it back.
                return Ok(None);
            }
            call.assume_init()
        };
        Ok(Some(Call { id: call.id, thread: call.thread as i32, number: call.number.into() }))
    }

    /// Lets `call` go on.
    pub fn let_go(&self, call: Call) {
        let answer = Answer { id: call.id, value: 0, error: 0, flags: FLAG_CONTINUE };
        // SAFETY: the answer is only read. The call may be gone, with its thread.
        unsafe { libc::ioctl(self.0.as_raw_fd(), NOTIF_SEND, &answer) };
    }

    /// Lets every call go on, until there can be no more.
    pub fn let_all_go(self) {
        thread::spawn(move || {
            while let Ok(call) = self.next_within(LIMIT) {
                if let Some(call) = call {
                    self.let_go(call);
                }
            }
        });
    }
}
