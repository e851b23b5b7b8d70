//! A container, as small as one can be and still be one.
//!
//! There is no such thing in Linux as a container. There is a process, and there are eight or nine system calls that
//! take things away from its sight:
//!
//! | the process does not see | because of |
//! |---|---|
//! | other processes: it is number 1 | a pid namespace |
//! | the host's files | a mount namespace, a tmpfs, and `pivot_root` into it |
//! | the host's network | a net namespace: a loopback device that is down, and nothing else |
//! | shared memory, queues and semaphores of others | an ipc namespace |
//! | the host's name | a uts namespace, and `sethostname` |
//! | that its root is an ordinary user outside | a user namespace, with a map of one user |
//! | where it is in the host's tree of cgroups | a cgroup of its own, and a cgroup namespace |
//!
//! And it can do nothing about it, since it has no capabilities and can never get any. What is left is
//! the kernel: the same for all, with all of its system calls. That is the difference from a virtual machine.
//!
//! It is not an OCI runtime: no image, no network, no seccomp filter, no limits. `matchstick bench` races it because
//! it is what every runtime has to do at least. Root is not needed. Sources: namespaces(7), user_namespaces(7),
//! pivot_root(2), cgroups(7), capabilities(7); Linux 5.7.

pub mod cgroup;
mod inside;
pub mod mark;
pub(crate) mod proc;

pub use crate::sys::spawn::{Child, Usage};

use crate::sys::clone::{self, Addresses};
use cgroup::{Cgroup, CgroupParent};
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// What is to be contained.
pub struct Config<'a> {
    /// The bytes of a static program: the only file there is, as /payload.
    pub program: &'a [u8],
    /// Its arguments; the first one is its name.
    pub arguments: &'a [CString],
    /// What uname(2) calls the host there.
    pub hostname: &'a str,
    /// Whether a /proc is mounted there, for programs that want to look around.
    pub proc: bool,
    /// Where its cgroup is made, see [`CgroupParent::find`]; without one it stays in ours.
    pub cgroup: Option<&'a CgroupParent>,
}

/// A container that runs.
pub struct Container {
    /// The process that is number 1 inside; when it ends, the kernel kills all others. Dropping this kills it.
    pub child: Child,
    /// Removed when it is dropped, which has to be after the child.
    pub cgroup: Option<Cgroup>,
}

/// Why this host makes no container.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step}")]
pub struct Error {
    /// The step that failed, as the end of "cannot …".
    pub step: &'static str,
    /// What the operating system said.
    pub source: io::Error,
}

impl Container {
    /// Starts one, with `files` as the descriptors 0, 1 and 2 of its program. Here, none of them may have one of these
    /// numbers, except its own. Returns when the program has begun.
    pub fn start(config: &Config<'_>, files: [BorrowedFd<'_>; 3]) -> Result<Container, Error> {
        let failed = |step| move |source| Error { step, source };
        let cgroup = config.cgroup.map(CgroupParent::make).transpose().map_err(failed("make a cgroup"))?;
        let arguments = Addresses::of(config.arguments.iter().map(CString::as_c_str));
        let (uid_map, gid_map) = inside::maps();
        let plan = inside::Plan {
            program: config.program,
            arguments,
            environment: Addresses::of(std::iter::empty::<&CStr>()),
            hostname: config.hostname.as_bytes(),
            proc: config.proc,
            files: files.map(|file| file.as_raw_fd()),
            uid_map: &uid_map,
            gid_map: &gid_map,
            parent: clone::own_process().map_err(failed("watch our own process"))?,
            cgroup: cgroup.as_ref().and_then(Cgroup::entrance),
        };
        let into = cgroup.as_ref().and_then(Cgroup::directory);
        let born = clone::until_exec(clone::NAMESPACES & !libc::CLONE_NEWCGROUP, into, || plan.carry_out());
        let (pid, failure) = born.map_err(failed("make a child in new namespaces"))?;
        // From here on the child is reaped, whatever happens.
        let child = Child::of(pid).map_err(failed("watch the container's first process"));
        match failure {
            Some(error) => Err(error),
            None => Ok(Container { child: child?, cgroup }),
        }
    }
}
