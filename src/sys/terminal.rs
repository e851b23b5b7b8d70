//! The terminal and the two standard descriptors on it: what they are, raw mode and the way back.
//!
//! Sources: termios(3), ioctl_tty(2), tcgetpgrp(3).

use super::screen::Screen;
use super::signal::{CRASHES, on_signal};
use super::{check, die_saying};
use libc::{c_int, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::sync::{Mutex, OnceLock};
use vmm_sys_util::ioctl::ioctl_with_mut_ref;

/// What standard input is, as far as a console cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// A terminal, and we are in its foreground: it may be switched to raw mode.
    Terminal,
    /// A terminal, but others are in its foreground: to change it or to read from it would stop us
    /// (SIGTTOU, SIGTTIN).
    Background,
    /// A pipe, a file, a socket: bytes to pass on.
    Stream,
    /// /dev/null: nothing but an end.
    Empty,
}

/// Looks at file descriptor 0.
pub fn stdin_kind() -> Input {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: fstat writes `stat` or fails; the other calls take plain numbers.
    unsafe {
        if libc::fstat(0, stat.as_mut_ptr()) != 0 {
            return Input::Empty;
        }
        let stat = stat.assume_init();
        // /dev/null is character device 1:3 (kernel: admin-guide/devices.txt).
        if stat.st_mode & libc::S_IFMT != libc::S_IFCHR {
            return Input::Stream;
        } else if stat.st_rdev == libc::makedev(1, 3) {
            return Input::Empty;
        } else if libc::isatty(0) == 0 {
            return Input::Stream;
        }
        match libc::tcgetpgrp(0) {
            // Not the terminal of our session, so it has no background.
            -1 => Input::Terminal,
            group if group == libc::getpgrp() => Input::Terminal,
            _ => Input::Background,
        }
    }
}

/// How the terminal on standard input was set before [`raw_terminal`].
static COOKED: Mutex<Option<libc::termios>> = Mutex::new(None);

/// Switches the terminal on standard input to raw mode: every key goes through, Ctrl-C included.
///
/// By hand: vmm-sys-util's raw mode leaves out Ctrl-S, Ctrl-Q, Ctrl-V and the Enter key, and does not give back what was.
pub fn raw_terminal() -> io::Result<()> {
    let mut termios = MaybeUninit::uninit();
    // SAFETY: tcgetattr writes `termios` or fails.
    check(unsafe { libc::tcgetattr(0, termios.as_mut_ptr()) })?;
    // SAFETY: the call succeeded.
    let cooked = unsafe { termios.assume_init() };
    let mut raw = cooked;
    // SAFETY: cfmakeraw changes the struct it is given.
    unsafe { libc::cfmakeraw(&mut raw) };
    // Our own messages go to the same terminal, and end their lines with \n alone.
    raw.c_oflag = cooked.c_oflag;
    COOKED.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).get_or_insert(cooked);
    CRASHES.into_iter().try_for_each(|signal| on_signal(signal, crashed))?;
    // SAFETY: `raw` is initialised and only read.
    check(unsafe { libc::tcsetattr(0, libc::TCSANOW, &raw) })
}

/// What the guest's output has done to the terminal that shows it.
static SCREEN: Mutex<Screen> = Mutex::new(Screen::new());
/// Whether standard output is one; asked when it first matters.
static SHOWS: OnceLock<bool> = OnceLock::new();

/// Notes that `bytes` were written to standard output: [`restore_terminal`] gives back what they change of a terminal.
pub fn follow_output(bytes: &[u8]) {
    if SHOWS.get() == Some(&false) {
        return;
    }
    let mut screen = SCREEN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    // SAFETY: isatty takes a plain number.
    if !screen.ignores(bytes) && *SHOWS.get_or_init(|| unsafe { libc::isatty(1) } == 1) {
        screen.show(bytes);
    }
}

/// So often a lock is tried that another thread holds for a moment.
const TRIES: u32 = 100_000;

/// Writes to the terminal on standard output. One that takes nothing within a while gets nothing.
fn write_to_screen(bytes: &[u8]) {
    // SAFETY: the bytes are only read; descriptor 1 is standard output, or closed.
    let write = || unsafe { libc::write(1, bytes.as_ptr().cast(), bytes.len()) };
    if write() == -1 {
        wait_for_stdout();
        write();
    }
}

/// Gives the terminal back: as [`raw_terminal`] found it, and as it was before the guest's output. Nothing happens where
/// nothing was changed.
pub fn restore_terminal() {
    // Another thread follows a few bytes at most; this one may be doing that itself, and would wait for ever.
    let screen = (0..TRIES).find_map(|_| {
        std::hint::spin_loop();
        SCREEN.try_lock().ok()
    });
    if let Some(mut screen) = screen {
        screen.give_back(write_to_screen);
    }
    // Not lock(): a panic may come from the thread that holds it.
    if let Ok(mut saved) = COOKED.try_lock()
        && let Some(cooked) = saved.take()
    {
        // SAFETY: `cooked` is what tcgetattr gave. Should the terminal be gone, there is nothing to restore.
        unsafe { libc::tcsetattr(0, libc::TCSANOW, &cooked) };
    }
}

/// From now on this process ends with an error in words, and the terminal as it was, when a file that it has mapped
/// becomes shorter than the mapping and somebody reads what is gone (SIGBUS, mmap(2)).
pub fn watch_mapped_files() -> io::Result<()> {
    on_signal(libc::SIGBUS, crashed)
}

/// Nobody else would give the terminal back.
extern "C" fn crashed(signal: c_int, info: *mut libc::siginfo_t, _context: *mut c_void) {
    restore_terminal();
    /// The address is mapped, and has no page behind it (sigaction(2)).
    const BUS_ADRERR: c_int = 2;
    // SAFETY: the kernel passes a siginfo_t to a handler that is set with SA_SIGINFO, as all of ours are.
    let code = unsafe { (*info).si_code };
    if signal == libc::SIGBUS && code == BUS_ADRERR {
        die_saying(b"error: a file became shorter while it was in use\n hint: an image must stay as it is while it is loaded, and a golden image while machines run from it\n", 126)
    }
    die_saying(b"error: matchstick crashed\n hint: that is a fault of its own\n", 125)
}

/// Waits until standard output takes bytes again, for a pipe that someone made non-blocking.
pub fn wait_for_stdout() {
    let mut poll = libc::pollfd { fd: 1, events: libc::POLLOUT, revents: 0 };
    // SAFETY: one pollfd, and it is ours.
    unsafe { libc::poll(&mut poll, 1, 100) };
}

/// The width of the terminal behind `output`, in columns; `None` if it is none, or does not know.
pub fn columns(output: &impl AsRawFd) -> Option<usize> {
    let mut size = MaybeUninit::<libc::winsize>::zeroed();
    // SAFETY: TIOCGWINSZ writes a winsize or fails; all zeroes is a valid one.
    let size = unsafe {
        check(ioctl_with_mut_ref(output, libc::TIOCGWINSZ, &mut size)).ok()?;
        size.assume_init()
    };
    (size.ws_col > 0).then_some(size.ws_col.into())
}
