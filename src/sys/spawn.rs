//! Starting a program, hearing of its end, and what it used.
//!
//! posix_spawn(3), because it starts a child without copying the parent's page tables (CLONE_VFORK and CLONE_VM):
//! what it costs does not depend on how large we are. std's `Command` does the same, but hands over neither what
//! wait4(2) says nor a process group. What can be done before is done by [`Program::prepare`].

use super::check;
use std::ffi::{CString, OsStr, c_char, c_int};
use std::io;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::ptr::null;
use std::time::Duration;

/// A program with its arguments and environment, as the kernel takes them.
pub struct Program {
    path: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

fn c_string(text: &OsStr) -> io::Result<CString> {
    CString::new(text.as_bytes()).map_err(|_| io::Error::other("a zero byte in an argument"))
}

/// The addresses of `strings`, and a null pointer after the last.
fn addresses(strings: &[CString]) -> Vec<*mut c_char> {
    strings.iter().map(|string| string.as_ptr().cast_mut()).chain([null::<c_char>().cast_mut()]).collect()
}

impl Program {
    /// `words` are the path of the program, which is not searched for, and its arguments; the environment is
    /// this process's with `more` in it.
    pub fn new(words: &[impl AsRef<OsStr>], more: &[(&str, &OsStr)]) -> io::Result<Program> {
        let arguments = words.iter().map(|word| c_string(word.as_ref())).collect::<io::Result<Vec<_>>>()?;
        let path = arguments.first().ok_or_else(|| io::Error::other("no program is named"))?.clone();
        let is_ours = |name: &OsStr| more.iter().any(|(other, _)| name == *other);
        let inherited = std::env::vars_os().filter(|(name, _)| !is_ours(name));
        let more = more.iter().map(|(name, value)| (OsStr::new(name).to_owned(), (*value).to_owned()));
        let variable = |(mut name, value): (std::ffi::OsString, std::ffi::OsString)| {
            name.push("=");
            name.push(value);
            c_string(&name)
        };
        let environment = inherited.chain(more).map(variable).collect::<io::Result<Vec<_>>>()?;
        Ok(Program { path, arguments, environment })
    }

    /// Gets everything ready to start it with these as its descriptors 0, 1, 2 …, in a process group of its own:
    /// so that a Ctrl-C reaches us alone, and that all of it can be ended together.
    pub fn prepare<'a>(&'a self, files: &[BorrowedFd<'a>]) -> io::Result<Prepared<'a>> {
        let (arguments, environment) = (addresses(&self.arguments), addresses(&self.environment));
        Ok(Prepared { path: &self.path, arguments, environment, plan: Plan::new(files)?, files: PhantomData })
    }
}

/// A program that only has to be started.
pub struct Prepared<'a> {
    path: &'a CString,
    arguments: Vec<*mut c_char>,
    environment: Vec<*mut c_char>,
    plan: Plan,
    /// They have to stay open: the plan knows only their numbers.
    files: PhantomData<BorrowedFd<'a>>,
}

impl Prepared<'_> {
    /// Starts it. Comes back when it has become another program, or could not.
    pub fn spawn(self) -> io::Result<Child> {
        let mut pid = 0;
        // SAFETY: the strings and arrays live as long as we do and end with null; the plan is initialised.
        let error = unsafe {
            libc::posix_spawn(
                &mut pid,
                self.path.as_ptr(),
                &self.plan.actions,
                &self.plan.attributes,
                self.arguments.as_ptr(),
                self.environment.as_ptr(),
            )
        };
        match error {
            0 => Child::of(pid),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }
}

/// What posix_spawn does in the child before exec.
struct Plan {
    actions: libc::posix_spawn_file_actions_t,
    attributes: libc::posix_spawnattr_t,
}

impl Plan {
    fn new(files: &[BorrowedFd<'_>]) -> io::Result<Plan> {
        let done = |error: c_int| match error {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(error)),
        };
        let (mut actions, mut attributes) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        // SAFETY: both are initialised by these calls, which fail only without memory.
        let mut plan = unsafe {
            done(libc::posix_spawn_file_actions_init(actions.as_mut_ptr()))?;
            done(libc::posix_spawnattr_init(attributes.as_mut_ptr()))?;
            Plan { actions: actions.assume_init(), attributes: attributes.assume_init() }
        };
        for (fd, at) in files.iter().zip(0..) {
            // SAFETY: the list is initialised; the rest are numbers.
            done(unsafe { libc::posix_spawn_file_actions_adddup2(&mut plan.actions, fd.as_raw_fd(), at) })?;
        }
        let flags = libc::POSIX_SPAWN_SETPGROUP | libc::POSIX_SPAWN_SETSIGDEF | libc::POSIX_SPAWN_SETSIGMASK;
        let mut set = MaybeUninit::uninit();
        // SAFETY: the attributes are initialised, and so is the set before it is read.
        unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            done(libc::posix_spawnattr_setsigmask(&mut plan.attributes, set.as_ptr()))?;
            // Ignored here, and an ignored signal stays ignored across exec.
            libc::sigaddset(set.as_mut_ptr(), libc::SIGPIPE);
            libc::sigaddset(set.as_mut_ptr(), libc::SIGXFSZ);
            done(libc::posix_spawnattr_setsigdefault(&mut plan.attributes, set.as_ptr()))?;
            done(libc::posix_spawnattr_setpgroup(&mut plan.attributes, 0))?;
            done(libc::posix_spawnattr_setflags(&mut plan.attributes, flags as _))?;
        }
        Ok(plan)
    }
}

impl Drop for Plan {
    fn drop(&mut self) {
        // SAFETY: both were initialised, and are destroyed once.
        unsafe {
            libc::posix_spawn_file_actions_destroy(&mut self.actions);
            libc::posix_spawnattr_destroy(&mut self.attributes);
        }
    }
}

/// What a process used, with those children of it that it waited for.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// How it ended.
    pub status: ExitStatus,
    /// Time on a processor in its own code.
    pub user: Duration,
    /// Time on a processor in the kernel.
    pub system: Duration,
}

/// A process that was started and not yet waited for; one that is forgotten is killed, with its group.
pub struct Child {
    pid: libc::pid_t,
    /// Becomes readable when it ends (pidfd_open(2), Linux 5.3).
    end: Option<OwnedFd>,
}

impl Child {
    /// The child with that number, which nobody else waits for.
    pub(crate) fn of(pid: libc::pid_t) -> io::Result<Child> {
        let mut child = Child { pid, end: None };
        // SAFETY: plain numbers.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call made this descriptor for us.
        child.end = Some(unsafe { OwnedFd::from_raw_fd(fd as c_int) });
        Ok(child)
    }

    /// Its process number, and that of its group.
    pub fn id(&self) -> i32 {
        self.pid
    }

    /// A descriptor that becomes readable when the process ends.
    pub fn end(&self) -> Option<BorrowedFd<'_>> {
        self.end.as_ref().map(AsFd::as_fd)
    }

    /// Ends it and its process group at once.
    pub fn kill(&self) {
        super::send_signal(-self.pid, libc::SIGKILL);
    }

    /// Waits for its end.
    pub fn wait(mut self) -> io::Result<Usage> {
        let usage = self.reap();
        self.pid = 0;
        usage
    }

    fn reap(&self) -> io::Result<Usage> {
        let mut status = 0;
        let mut usage = MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: both are written, and large enough.
        while unsafe { libc::wait4(self.pid, &mut status, 0, usage.as_mut_ptr()) } < 0 {
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
        // SAFETY: all zeroes is a valid rusage, and wait4 wrote one.
        let usage = unsafe { usage.assume_init() };
        let (user, system) = (time(usage.ru_utime), time(usage.ru_stime));
        Ok(Usage { status: ExitStatus::from_raw(status), user, system })
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.pid > 0 {
            self.kill();
            let _ = self.reap();
        }
    }
}

fn time(time: libc::timeval) -> Duration {
    Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1000)
}

/// The time that this thread has spent on a processor, in its own code and in the kernel.
pub fn thread_times() -> (Duration, Duration) {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: getrusage writes it; it fails for bad arguments only, and all zeroes is valid, too.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr());
        usage.assume_init()
    };
    (time(usage.ru_utime), time(usage.ru_stime))
}

/// Waits until one of `files` can be read (or has ended), or `limit` is over, or a signal comes; says which can.
///
/// By hand: poll(2) is one call, and vmm-sys-util's epoll takes a descriptor and a call for each file more.
pub fn wait_readable<const N: usize>(
    files: [Option<BorrowedFd<'_>>; N],
    limit: Duration,
) -> io::Result<[bool; N]> {
    let entry = |file: Option<BorrowedFd<'_>>| libc::pollfd {
        // A negative one is left out.
        fd: file.map_or(-1, |file| file.as_raw_fd()),
        events: libc::POLLIN,
        revents: 0,
    };
    let mut entries = files.map(entry);
    // One that is over in less than a millisecond still waits for one.
    let millis = limit.as_nanos().div_ceil(1_000_000).min(i32::MAX as u128) as c_int;
    // SAFETY: poll is given as many entries as it is told.
    match check(unsafe { libc::poll(entries.as_mut_ptr(), N as libc::nfds_t, millis) }.min(0)) {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
        Err(_) => Ok([false; N]),
        Ok(()) => Ok(entries.map(|entry| entry.revents != 0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Read;

    #[test]
    fn a_program_has_its_descriptors_its_variables_and_a_group_of_its_own() {
        let script = "echo $MATCHSTICK_TEST; read x; ps -o pgid= -p $$ | tr -d ' ' >&2; exit 7";
        let words = ["/bin/sh", "-c", script];
        let program = Program::new(&words, &[("MATCHSTICK_TEST", OsStr::new("there"))]).unwrap();
        let null = File::open("/dev/null").unwrap();
        let (mut out, out_end) = io::pipe().unwrap();
        let (mut err, err_end) = io::pipe().unwrap();
        let child =
            program.prepare(&[null.as_fd(), out_end.as_fd(), err_end.as_fd()]).unwrap().spawn().unwrap();
        drop((out_end, err_end));
        let id = child.id();
        let ended = wait_readable([child.end()], Duration::from_secs(30)).unwrap();
        assert_eq!(ended, [true]);
        assert_eq!(child.wait().unwrap().status.code(), Some(7));
        let (mut text, mut group) = (String::new(), String::new());
        out.read_to_string(&mut text).unwrap();
        err.read_to_string(&mut group).unwrap();
        assert_eq!(text, "there\n");
        assert!(group.is_empty() || group.trim() == id.to_string(), "{group}");
    }

    #[test]
    fn what_is_forgotten_is_killed_and_what_is_not_there_is_said() {
        let null = File::open("/dev/null").unwrap();
        let standard = [null.as_fd(); 3];
        let sleep = Program::new(&["/bin/sleep", "1000"], &[]).unwrap();
        let child = sleep.prepare(&standard).unwrap().spawn().unwrap();
        let id = child.id();
        drop(child);
        assert!(!std::path::Path::new(&format!("/proc/{id}")).exists());
        let none = Program::new(&["/nonexistent"], &[]).unwrap();
        assert_eq!(none.prepare(&standard).unwrap().spawn().err().unwrap().kind(), io::ErrorKind::NotFound);
        assert!(Program::new(&["a\0b"], &[]).is_err());
    }
}
