//! A terminal to run a program on: the test sits at the other end of the cable. And the few system calls
//! that std has no function for.
#![allow(unsafe_code)]

use super::{Capture, LIMIT, shown};
use std::fs::File;
use std::io::Write;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;

/// A pseudo terminal, see pty(7).
pub struct Terminal {
    user: File,
    /// What the terminal shows.
    pub screen: Capture,
    line: OwnedFd,
}

/// How a terminal is set, in comparable form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    flags: [u32; 4],
    keys: Vec<u8>,
}

impl Settings {
    /// Whether lines are edited and Ctrl-C is a signal: not raw.
    pub fn is_cooked(&self) -> bool {
        self.flags[3] & (libc::ICANON | libc::ISIG | libc::ECHO) == libc::ICANON | libc::ISIG | libc::ECHO
    }
}

impl Terminal {
    pub fn new() -> Terminal {
        let mut terminal = Terminal::without_screen();
        terminal.screen = Capture::of(Some(terminal.user.try_clone().unwrap()));
        terminal
    }

    /// One that nobody looks at, so that dropping it hangs up.
    pub fn without_screen() -> Terminal {
        // Not openpty(3): children of other threads shall not inherit it.
        let user = File::options().read(true).write(true).open("/dev/ptmx").expect("no pseudo terminals");
        let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
        // SAFETY: the descriptor is open; the rest are plain numbers.
        let line = unsafe {
            assert_eq!(libc::unlockpt(user.as_raw_fd()), 0);
            libc::ioctl(user.as_raw_fd(), libc::TIOCGPTPEER, flags)
        };
        assert!(line >= 0, "no other end of a pseudo terminal");
        // SAFETY: it was opened for us just now.
        let line = unsafe { OwnedFd::from_raw_fd(line) };
        Terminal { user, screen: Capture::of(None::<File>), line }
    }

    /// One end of it for a program's standard input, output or error.
    pub fn stdio(&self) -> Stdio {
        self.line.try_clone().unwrap().into()
    }

    /// The end of it that programs have.
    pub fn line(&self) -> &OwnedFd {
        &self.line
    }

    /// Makes `command` run in a session of its own that this terminal controls, as a login shell does.
    pub fn control(&self, command: &mut Command) {
        let line = self.line.as_raw_fd();
        // SAFETY: between fork and exec only system calls are made.
        unsafe { command.pre_exec(move || take_over(line)) };
    }

    /// Presses keys. A terminal that nobody reads from any more takes a few thousand and then none.
    #[track_caller]
    pub fn press(&mut self, keys: &[u8]) {
        let (mut user, keys) = (self.user.try_clone().unwrap(), keys.to_vec());
        let (tell, done) = mpsc::channel();
        thread::spawn(move || tell.send(user.write_all(&keys)));
        let screen = self.screen.so_far();
        let written = done.recv_timeout(LIMIT);
        written.unwrap_or_else(|_| panic!("the keys went nowhere; it printed {}", shown(&screen))).unwrap();
    }

    pub fn settings(&self) -> Settings {
        let mut termios = MaybeUninit::<libc::termios>::uninit();
        // SAFETY: tcgetattr writes `termios` or fails, which is checked before it is read.
        let termios = unsafe {
            assert_eq!(libc::tcgetattr(self.line.as_raw_fd(), termios.as_mut_ptr()), 0);
            termios.assume_init()
        };
        Settings {
            flags: [termios.c_iflag, termios.c_oflag, termios.c_cflag, termios.c_lflag],
            keys: termios.c_cc.to_vec(),
        }
    }
}

fn take_over(line: RawFd) -> std::io::Result<()> {
    // SAFETY: plain system calls with plain numbers.
    let done = unsafe { libc::setsid() != -1 && libc::ioctl(line, libc::TIOCSCTTY, 0) != -1 };
    if done { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// Sends `signal` to a child that has not been waited for.
pub fn send_signal(process: i32, signal: i32) {
    // SAFETY: plain numbers.
    unsafe { libc::kill(process, signal) };
}

/// Makes `command` start with these descriptors closed.
pub fn close_in(command: &mut Command, fds: &'static [RawFd]) {
    let close = move || {
        for &fd in fds {
            // SAFETY: std has put its pipes in place already; nothing else uses these in the child.
            unsafe { libc::close(fd) };
        }
        Ok(())
    };
    // SAFETY: between fork and exec only system calls are made.
    unsafe { command.pre_exec(close) };
}

/// Makes `command` start with `signal` ignored, as nohup(1) does.
pub fn ignore_in(command: &mut Command, signal: i32) {
    let ignore = move || {
        // SAFETY: a constant disposition.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
        Ok(())
    };
    // SAFETY: between fork and exec only system calls are made.
    unsafe { command.pre_exec(ignore) };
}

/// Whether we are root, whom file modes do not stop.
pub fn is_root() -> bool {
    // SAFETY: geteuid takes nothing and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Makes a named pipe.
pub fn make_fifo(path: &std::path::Path) {
    let path = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).unwrap();
    // SAFETY: the path is a C string and only read.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
}

/// Makes a pipe as small as it can be, one page, with room for `room` bytes.
pub fn nearly_full_pipe(room: usize) -> (std::io::PipeReader, std::io::PipeWriter) {
    const PAGE: usize = 4096;
    let (reader, mut writer) = std::io::pipe().unwrap();
    // SAFETY: the descriptor is open; the size is a plain number.
    let size = unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETPIPE_SZ, PAGE) };
    assert_eq!(size, PAGE as i32);
    writer.write_all(&vec![b'.'; PAGE - room]).unwrap();
    (reader, writer)
}

/// Makes writes to `pipe` fail where they would wait.
pub fn make_nonblocking(pipe: &impl AsRawFd) {
    // SAFETY: the descriptor is open; a fresh pipe has no other flags that this would clear.
    assert_eq!(unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) }, 0);
}

/// Whether reading or writing fails where it would wait.
pub fn is_nonblocking(file: &impl AsRawFd) -> bool {
    // SAFETY: the descriptor is open.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) & libc::O_NONBLOCK != 0 }
}

/// How many bytes wait in a pipe.
pub fn waiting_in(pipe: &impl AsRawFd) -> usize {
    let mut count: libc::c_int = 0;
    // SAFETY: FIONREAD writes an int.
    assert_eq!(unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &mut count) }, 0);
    count as usize
}

/// Has the child of `command` start behind a seccomp filter.
pub fn filter_in(command: &mut Command, filter: seccompiler::BpfProgram) {
    let apply =
        move || seccompiler::apply_filter(&filter).map_err(|_| std::io::ErrorKind::Unsupported.into());
    // SAFETY: it makes two system calls, and allocates nothing.
    unsafe { command.pre_exec(apply) };
}

/// Traces a process until this is dropped.
pub struct Traced(Option<(mpsc::Sender<()>, thread::JoinHandle<()>)>);

/// Becomes the tracer of `process` (ptrace(2)).
pub fn trace(process: i32) -> Traced {
    let (end, ended) = mpsc::channel();
    let (begin, begun) = mpsc::channel();
    // A tracer is a thread, and what it traces is free again when it ends.
    let tracer = thread::spawn(move || {
        // SAFETY: with this request all arguments are numbers.
        let result = unsafe { libc::ptrace(libc::PTRACE_SEIZE, process, 0, 0) };
        begin.send(result).unwrap();
        let _ = ended.recv();
    });
    assert_eq!(begun.recv().unwrap(), 0, "{process} cannot be traced");
    Traced(Some((end, tracer)))
}

impl Drop for Traced {
    fn drop(&mut self) {
        if let Some((end, tracer)) = self.0.take() {
            drop(end);
            tracer.join().unwrap();
        }
    }
}

/// Any system call, for a test that tries what it must not do. The numbers and addresses in it are the test's to answer
/// for: none of those that are tried reads or writes our memory.
pub fn call(number: i64, arguments: [u64; 6]) -> std::io::Result<i64> {
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: as said above.
    match unsafe { libc::syscall(number, a, b, c, d, e, f) } {
        -1 => Err(std::io::Error::last_os_error()),
        result => Ok(result),
    }
}
