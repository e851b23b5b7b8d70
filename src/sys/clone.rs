//! A child in namespaces of its own: clone3(2), and what such a child does to itself before it becomes a program.
//!
//! The child runs in our memory, on a stack of its own, while the thread that made it stands still (CLONE_VM and
//! CLONE_VFORK, as posix_spawn(3) does it). So nothing is copied, however large we are, and what the child says
//! before it ends can be read where it wrote it.
//!
//! The functions of [`inside`] make system calls and nothing else: they neither allocate nor lock. That is all that
//! is asked of code in such a child, since other threads of ours go on.

use super::check;
use libc::{c_char, c_int, c_long, c_uint, c_void};
use std::arch::asm;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::{null, null_mut};
use std::sync::OnceLock;

/// The seven namespaces that can be new from the first instruction on (namespaces(7)). The eighth, that of clocks,
/// begins with the next exec.
pub const NAMESPACES: c_int = libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWCGROUP;

/// `struct clone_args` of include/uapi/linux/sched.h, in its form of Linux 5.7.
#[derive(Default)]
#[repr(C, align(8))]
struct Arguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// What the child gets and what it leaves.
struct Shared<F, E> {
    child: Option<F>,
    said: Option<E>,
    signals: libc::sigset_t,
}

/// Bytes of the child's stack. Its deepest call is a system call.
const STACK: usize = 64 << 10;

/// Makes a child in the new `namespaces` (CLONE_NEW… of clone(2)) and in the version 2 `cgroup`, if one is given.
/// It runs `child`, which becomes another program or returns why it could not; then the child ends.
///
/// Comes back when either has happened: with the process number, and with what `child` returned. The child is to be
/// waited for in both cases. `child` may do what [`inside`] offers, and must not panic.
pub fn until_exec<E>(
    namespaces: c_int,
    cgroup: Option<BorrowedFd<'_>>,
    child: impl FnOnce() -> E,
) -> io::Result<(i32, Option<E>)> {
    /// Forgets our handlers, which are of no use to the child, and of no good in our memory.
    const CLONE_CLEAR_SIGHAND: u64 = 1 << 32;
    const CLONE_INTO_CGROUP: u64 = 1 << 33;

    // Boxed, so that a thread's small stack is no matter; not filled, since most of it is never touched.
    let mut stack = Box::<[u8]>::new_uninit_slice(STACK);
    let mut arguments = Arguments {
        flags: (namespaces | libc::CLONE_VM | libc::CLONE_VFORK) as u64 | CLONE_CLEAR_SIGHAND,
        exit_signal: libc::SIGCHLD as u64,
        stack: stack.as_mut_ptr() as u64,
        stack_size: STACK as u64,
        ..Arguments::default()
    };
    if let Some(cgroup) = cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = cgroup.as_raw_fd() as u64;
    }
    let mut shared = Shared { child: Some(child), said: None, signals: block_all() };
    // SAFETY: the arguments are whole, the stack is the child's alone, and `shared` outlives the child's use of it:
    // we stand still until it has become another program or has ended.
    let pid = unsafe { clone3(&arguments, begin_of(&shared), (&raw mut shared).cast()) };
    // SAFETY: it is what was blocked before.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &shared.signals, null_mut()) };
    match pid {
        0.. => Ok((pid as i32, shared.said)),
        error => Err(io::Error::from_raw_os_error(-error as i32)),
    }
}

/// Blocks every signal: a handler of ours that ran in the child would run in our memory. Returns what was blocked.
fn block_all() -> libc::sigset_t {
    let (mut all, mut old) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    // SAFETY: `all` is filled before it is read; `old` is written, as the call cannot fail with these arguments.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), old.as_mut_ptr());
        old.assume_init()
    }
}

type Begin = extern "C" fn(*mut c_void) -> !;

/// The child's first function for this kind of `Shared`.
fn begin_of<F: FnOnce() -> E, E>(_: &Shared<F, E>) -> Begin {
    extern "C" fn begin<F: FnOnce() -> E, E>(shared: *mut c_void) -> ! {
        // SAFETY: `until_exec` passed it, and does not touch it while we are here.
        let shared = unsafe { &mut *shared.cast::<Shared<F, E>>() };
        // SAFETY: the set is what our parent had blocked. What is ignored in this program (`begin`) would
        // stay so across exec.
        unsafe {
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            libc::signal(libc::SIGXFSZ, libc::SIG_DFL);
            libc::sigprocmask(libc::SIG_SETMASK, &shared.signals, null_mut());
        }
        if let Some(child) = shared.child.take() {
            shared.said = Some(child());
        }
        // SAFETY: it ends this process and touches nothing that is shared.
        unsafe { libc::_exit(127) }
    }
    begin::<F, E>
}

/// clone3(2). In the child, `begin` is called with `shared` on the new stack; here, it returns the child's number,
/// or an error's, negative.
///
/// # Safety
/// The arguments name a stack for `begin`, which makes of `shared` what it is.
unsafe fn clone3(arguments: &Arguments, begin: Begin, shared: *mut c_void) -> c_long {
    let result;
    // SAFETY: as the caller promises. The child has our registers but RAX and RSP, and never leaves `begin`. We
    // continue behind the label, with what the child did to memory.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp", // the outermost frame
            "mov rdi, r9",
            "call r8",
            "ud2",
            "2:",
            inout("rax") libc::SYS_clone3 => result,
            in("rdi") arguments,
            in("rsi") size_of::<Arguments>(),
            in("r8") begin,
            in("r9") shared,
            out("rcx") _,
            out("r11") _,
        );
    }
    result
}

/// This process, for its children: a descriptor that becomes readable when it ends (pidfd_open(2), Linux 5.3).
pub fn own_process() -> io::Result<BorrowedFd<'static>> {
    static OWN: OnceLock<OwnedFd> = OnceLock::new();
    if let Some(own) = OWN.get() {
        return Ok(own.as_fd());
    }
    // SAFETY: plain numbers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call made this descriptor for us.
    Ok(OWN.get_or_init(|| unsafe { OwnedFd::from_raw_fd(fd as c_int) }).as_fd())
}

/// The effective user and group of this process.
pub fn ids() -> (u32, u32) {
    // SAFETY: they take nothing and cannot fail.
    unsafe { (libc::geteuid(), libc::getegid()) }
}

/// What a child does to itself, and only to itself, before it becomes a program. System calls, nothing else.
pub mod inside {
    use super::*;
    use std::ffi::CStr;

    /// Minus one for failure, as the rest of libc has it.
    fn done(result: c_long) -> io::Result<()> {
        check(result.min(0) as c_int)
    }

    /// Dies with the thread that made it, and is the first of a process group of its own. `parent` is the process that
    /// made it, see [`own_process`]; if that has ended already, this is an error.
    ///
    /// getppid(2) says nothing here: seen from a new pid namespace, the parent is always 0. So the parent is asked by
    /// its descriptor, after prctl(2). In between is setpgid(2), which takes the kernel's lock on the process tree: a
    /// parent that is about to end has either ended, and is seen, or ends later, and the kernel sends the signal.
    pub fn depend_on_parent(parent: BorrowedFd<'_>) -> io::Result<()> {
        let mut ended = libc::pollfd { fd: parent.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: plain numbers, and one entry as it is told.
        unsafe {
            check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
            check(libc::setpgid(0, 0))?;
            match libc::poll(&mut ended, 1, 0) {
                0 => Ok(()),
                -1 => Err(io::Error::last_os_error()),
                _ => Err(io::Error::from_raw_os_error(libc::ESRCH)),
            }
        }
    }

    /// Writes a file in one go: an existing one, or a new one with mode 0755 if `create`.
    pub fn write_file(path: &CStr, bytes: &[u8], create: bool) -> io::Result<()> {
        let flags = libc::O_WRONLY | libc::O_CLOEXEC | if create { libc::O_CREAT | libc::O_EXCL } else { 0 };
        // SAFETY: a path that ends in zero, and plain numbers.
        let fd = unsafe { libc::open(path.as_ptr(), flags, 0o755 as c_uint) };
        done(fd.into())?;
        let written = write_all(fd, bytes);
        // SAFETY: it was opened above, and nobody else knows it.
        unsafe { libc::close(fd) };
        written
    }

    /// Writes all of `bytes` to an open file.
    pub fn write_all(fd: c_int, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            // SAFETY: it reads `bytes`.
            let count = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
            done(count as c_long)?;
            bytes = bytes.get(count as usize..).unwrap_or_default();
        }
        Ok(())
    }

    /// unshare(2): leaves the namespaces that it shares with its parent.
    pub fn unshare(namespaces: c_int) -> io::Result<()> {
        // SAFETY: a plain number.
        check(unsafe { libc::unshare(namespaces) })
    }

    /// sethostname(2).
    pub fn set_hostname(name: &[u8]) -> io::Result<()> {
        // SAFETY: it reads `name`.
        check(unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) })
    }

    /// mount(2) of a file system without a device, such as tmpfs. `options` are the file system's own.
    pub fn mount(kind: &CStr, path: &CStr, flags: u64, options: &CStr) -> io::Result<()> {
        // SAFETY: strings that end in zero, and a number.
        check(unsafe {
            libc::mount(kind.as_ptr(), path.as_ptr(), kind.as_ptr(), flags, options.as_ptr().cast())
        })
    }

    /// Makes every mount private: what happens to mounts here stays here, and what happens outside, there.
    pub fn make_mounts_private() -> io::Result<()> {
        let flags = libc::MS_REC | libc::MS_PRIVATE;
        // SAFETY: a string that ends in zero, a number, and null for what is not used.
        check(unsafe { libc::mount(null(), c"/".as_ptr(), null(), flags, null()) })
    }

    /// chdir(2).
    pub fn change_directory(path: &CStr) -> io::Result<()> {
        // SAFETY: a string that ends in zero.
        check(unsafe { libc::chdir(path.as_ptr()) })
    }

    /// mkdir(2) with mode 0755.
    pub fn make_directory(path: &CStr) -> io::Result<()> {
        // SAFETY: a string that ends in zero, and a number.
        check(unsafe { libc::mkdir(path.as_ptr(), 0o755) })
    }

    /// pivot_root(".", "."): this directory, where a file system is mounted, becomes the root; the old root lies on
    /// top of it, ready for [`unmount_here`] (pivot_root(2), "Notes").
    pub fn pivot_root_here() -> io::Result<()> {
        // SAFETY: two strings that end in zero.
        done(unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) })
    }

    /// Takes away what lies on top of this directory, with all that is mounted below it.
    pub fn unmount_here() -> io::Result<()> {
        // SAFETY: a string that ends in zero, and a number.
        check(unsafe { libc::umount2(c".".as_ptr(), libc::MNT_DETACH) })
    }

    /// Gives up every capability for good: none can be had by exec (an empty bounding set, capabilities(7)), and
    /// set-user-ID bits mean nothing (PR_SET_NO_NEW_PRIVS). A root without capabilities is an ordinary user.
    pub fn drop_privileges() -> io::Result<()> {
        const PR_CAPBSET_DROP: c_int = 24;
        for capability in 0..64 {
            // SAFETY: plain numbers.
            match check(unsafe { libc::prctl(PR_CAPBSET_DROP, capability as libc::c_ulong, 0, 0, 0) }) {
                Ok(()) => {}
                // One more than this kernel has.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => break,
                Err(error) => return Err(error),
            }
        }
        // SAFETY: plain numbers.
        check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })
    }

    /// Gives this process `fd` as its descriptor `at`, which stays open across exec.
    pub fn give_descriptor(fd: c_int, at: c_int) -> io::Result<()> {
        // SAFETY: plain numbers.
        unsafe {
            match fd == at {
                true => done(libc::fcntl(fd, libc::F_SETFD, 0).into()),
                false => done(libc::dup2(fd, at).into()),
            }
        }
    }

    /// execve(2): becomes `program`. Comes back only with an error. `arguments` and `environment` have a null
    /// pointer at their end.
    pub fn execute(program: &CStr, arguments: &Addresses, environment: &Addresses) -> io::Error {
        // SAFETY: strings that end in zero, in lists that end with null.
        unsafe { libc::execve(program.as_ptr(), arguments.0.as_ptr(), environment.0.as_ptr()) };
        io::Error::last_os_error()
    }
}

/// A list of strings as execve(2) takes it: addresses, and null at the end.
pub struct Addresses<'a>(Vec<*const c_char>, std::marker::PhantomData<&'a std::ffi::CStr>);

impl<'a> Addresses<'a> {
    /// The addresses of `strings`.
    pub fn of(strings: impl Iterator<Item = &'a std::ffi::CStr>) -> Addresses<'a> {
        let addresses = strings.map(std::ffi::CStr::as_ptr).chain([null()]).collect();
        Addresses(addresses, std::marker::PhantomData)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::spawn::Child;

    /// Of a parent that is gone the kernel sends no signal any more: who asks for it has to look.
    #[test]
    fn a_child_depends_on_a_parent_that_is_there_and_on_no_other() {
        let depend = |parent: BorrowedFd<'_>| {
            let (pid, error) = until_exec(0, None, || inside::depend_on_parent(parent).err()).unwrap();
            Child::of(pid).unwrap().wait().unwrap();
            error.flatten().and_then(|error| error.raw_os_error())
        };
        assert_eq!(depend(own_process().unwrap()), None);
        let mut gone = std::process::Command::new("true").spawn().unwrap();
        // SAFETY: plain numbers; the call makes the descriptor for us.
        let parent = unsafe {
            OwnedFd::from_raw_fd(libc::syscall(libc::SYS_pidfd_open, gone.id() as i32, 0) as c_int)
        };
        gone.wait().unwrap();
        assert_eq!(depend(parent.as_fd()), Some(libc::ESRCH));
    }
}
