//! What happens inside, between the birth of a container's first process and its program, step by step.
//!
//! It runs in our own memory while we wait (see [`clone`](crate::sys::clone)), and only makes system calls: whatever
//! allocates memory was prepared before.

use super::Error;
use crate::sys::clone::{Addresses, ids, inside as sys};
use std::convert::Infallible;
use std::ffi::CStr;
use std::io;
use std::os::fd::BorrowedFd;

/// Where the program is in the container.
const PAYLOAD: &CStr = c"/payload";
/// Any directory that every host has: the new root is mounted on it, where only this container sees it.
const PLACE: &CStr = c"/proc";

/// What the first process needs to become the program.
pub struct Plan<'a> {
    pub program: &'a [u8],
    pub arguments: Addresses<'a>,
    pub environment: Addresses<'a>,
    pub hostname: &'a [u8],
    pub proc: bool,
    pub files: [i32; 3],
    pub uid_map: &'a str,
    pub gid_map: &'a str,
    /// The process that makes the container, and that it ends with.
    pub parent: BorrowedFd<'a>,
    /// A version 1 cgroup's `cgroup.procs`, open for writing.
    pub cgroup: Option<i32>,
}

/// The maps of a user namespace (user_namespaces(7)): root inside is our own user outside, and no other user exists. It
/// is the one map that needs no privilege.
pub fn maps() -> (String, String) {
    let (uid, gid) = ids();
    (format!("0 {uid} 1"), format!("0 {gid} 1"))
}

impl Plan<'_> {
    /// Becomes the program, or returns why not.
    pub fn carry_out(&self) -> Error {
        match self.steps() {
            Err(failure) => failure,
            Ok(never) => match never {},
        }
    }

    fn steps(&self) -> Result<Infallible, Error> {
        let on = |step| move |source| Error { step, source };
        sys::depend_on_parent(self.parent).map_err(on("tie the container to its parent"))?;
        self.join_cgroup().map_err(on("enter the container's cgroup"))?;
        self.map_users().map_err(on("map the container's root to our user"))?;
        sys::set_hostname(self.hostname).map_err(on("set the container's host name"))?;
        // So that what is mounted in the container is not mounted on the host as well.
        sys::make_mounts_private().map_err(on("make the container's mounts private"))?;
        let hardened = libc::MS_NOSUID | libc::MS_NODEV;
        sys::mount(c"tmpfs", PLACE, hardened, c"mode=755").map_err(on("mount a tmpfs"))?;
        sys::change_directory(PLACE).map_err(on("enter the tmpfs"))?;
        self.fill_root()?;
        sys::pivot_root_here().map_err(on("pivot_root into the tmpfs"))?;
        if self.proc {
            // Before the old root goes: a user namespace may mount only what it already sees.
            let hardened = hardened | libc::MS_NOEXEC;
            sys::mount(c"proc", c"/proc", hardened, c"").map_err(on("mount /proc in the container"))?;
        }
        sys::unmount_here().map_err(on("unmount the host's files"))?;
        for (&fd, at) in self.files.iter().zip(0..) {
            sys::give_descriptor(fd, at).map_err(on("pass on standard input and output"))?;
        }
        sys::drop_privileges().map_err(on("drop the container's capabilities"))?;
        Err(on("run the container's program")(sys::execute(PAYLOAD, &self.arguments, &self.environment)))
    }

    /// Enters the cgroup, unless clone3 has done it, and makes it the root of what is seen of cgroups. (A cgroup
    /// namespace that clone3 makes would have our own cgroup as its root.)
    fn join_cgroup(&self) -> io::Result<()> {
        if let Some(procs) = self.cgroup {
            // 0 is the process that writes.
            sys::write_all(procs, b"0")?;
        }
        sys::unshare(libc::CLONE_NEWCGROUP)
    }

    /// setgroups(2) is denied, because leaving a group could give access to a file (user_namespaces(7)).
    fn map_users(&self) -> io::Result<()> {
        sys::write_file(c"/proc/self/uid_map", self.uid_map.as_bytes(), false)?;
        sys::write_file(c"/proc/self/setgroups", b"deny", false)?;
        sys::write_file(c"/proc/self/gid_map", self.gid_map.as_bytes(), false)
    }

    /// The program, and nothing else.
    fn fill_root(&self) -> Result<(), Error> {
        let on = |error| Error { step: "put the program into the tmpfs", source: error };
        sys::write_file(c"payload", self.program, true).map_err(on)?;
        if self.proc { sys::make_directory(c"proc").map_err(on) } else { Ok(()) }
    }
}
