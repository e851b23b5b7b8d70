//! Which files a program reaches: paths are looked up below its root, and what is found decides.
//!
//! A path is looked up once, to a [`Handle`], and what is done is done to that: nothing can be exchanged in between.
//! Links of procfs that lead into a process are not gone through; the few that programs use of themselves are known
//! here by their names. Devices are those that every program has. Whatever changes a file needs it to lie in a
//! directory that the user has named. Sources: openat2(2), proc(5), the kernel's admin-guide/devices.txt.

use super::errno::Errno;
use super::everywhere::of_host;
use super::procfs::{Own, is_harmless, own};
pub use crate::sys::program::Handle;
use crate::sys::program::{Kind, duplicate_above};
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex};

/// procfs, by its number (statfs(2)).
const PROC: u64 = 0x9fa0;
/// The longest path, its zero included.
pub const PATH_MAX: usize = 4096;
/// For the directory of a path: the working directory.
pub const CWD: RawFd = libc::AT_FDCWD;

type Result<T> = std::result::Result<T, Errno>;

/// What a program may reach.
pub struct Files {
    /// The root, where it is another one than ours.
    root: Option<(Handle, PathBuf)>,
    /// Directories, and files, that may be changed, by their paths on the host.
    writable: Vec<PathBuf>,
    /// With a root: files of the host that are seen at the same place.
    seen: Vec<PathBuf>,
    /// Stay open.
    held: Vec<OwnedFd>,
    /// Descriptors from here on are ours.
    lowest: RawFd,
    /// RLIMIT_NOFILE as the program has set it, soft and hard: how many of the others it can have.
    limits: [AtomicI32; 2],
    /// The program itself: its path on the host, and its arguments.
    program: Mutex<(PathBuf, Vec<Vec<u8>>)>,
    /// Whether a container is around all that can be seen: other processes may be looked at.
    pub contained: bool,
}

/// Whether every program may use that device: null, zero, full, random, urandom; terminals.
fn is_common_device((major, minor): (u32, u32)) -> bool {
    matches!((major, minor), (1, 3 | 5 | 7 | 8 | 9) | (5, 0 | 2) | (136..=143, _))
}

impl Files {
    /// All below `root`, of which `writable` may be changed; both are paths on the host. Descriptors from `lowest` on are
    /// ours.
    ///
    /// # Errors
    /// Which of them is not there, or is a root and no directory.
    pub fn new(
        root: Option<&Path>,
        writable: &[PathBuf],
        lowest: RawFd,
    ) -> std::result::Result<Files, (PathBuf, std::io::Error)> {
        let find = |path: &Path| {
            let path = path.canonicalize()?;
            let text = CString::new(path.as_os_str().as_bytes())?;
            let handle = Handle::find(CWD, &text, true, false, lowest)?;
            match handle.kind()?.mode & libc::S_IFMT {
                libc::S_IFDIR => Ok((handle, path)),
                _ => Err(std::io::Error::from_raw_os_error(libc::ENOTDIR)),
            }
        };
        let of = |path: &Path| {
            let path = path.to_path_buf();
            |error| (path, error)
        };
        let root = root.map(|path| find(path).map_err(of(path))).transpose()?;
        let root = root.filter(|(_, path)| path != Path::new("/"));
        let writable = writable.iter().map(|path| path.canonicalize().map_err(of(path)));
        let writable = writable.collect::<std::result::Result<_, _>>()?;
        let (seen, held) = (Vec::new(), Vec::new());
        let limits = [lowest, lowest].map(AtomicI32::new);
        let program = Mutex::default();
        Ok(Files { root, writable, seen, held, lowest, limits, program, contained: false })
    }

    /// Has the host's files `seen` seen whatever the root is.
    pub fn see(&mut self, seen: Vec<PathBuf>) {
        self.seen = if self.root.is_some() { seen } else { Vec::new() };
    }

    /// Has `held` stay open.
    pub fn hold(&mut self, held: &[Arc<OwnedFd>]) -> std::io::Result<()> {
        let held = held.iter().map(|fd| duplicate_above(fd.as_fd(), self.lowest));
        self.held = held.collect::<std::io::Result<_>>()?;
        Ok(())
    }

    /// The first descriptor that is ours.
    pub fn lowest(&self) -> RawFd {
        self.lowest
    }

    /// New descriptors of the program are below that.
    pub fn limit(&self) -> RawFd {
        self.limits[0].load(Ordering::Relaxed)
    }

    /// RLIMIT_NOFILE, soft and hard.
    pub fn limits(&self) -> [u64; 2] {
        [0, 1].map(|at: usize| self.limits[at].load(Ordering::Relaxed) as u64)
    }

    /// Sets RLIMIT_NOFILE: EPERM above the hard limit.
    pub fn set_limits(&self, new: [u64; 2]) -> Result<()> {
        if new[1] > self.limits()[1] {
            return Err(Errno(libc::EPERM));
        }
        for (limit, new) in self.limits.iter().zip(new) {
            limit.store(new as i32, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Descriptors that are kept for looking up paths, and those that stay open.
    pub fn ours(&self) -> Vec<RawFd> {
        let root = self.root.iter().map(|(handle, _)| handle.number() as RawFd);
        root.chain(self.held.iter().map(|fd| fd.as_raw_fd())).collect()
    }

    /// Files of the host that are seen below another root.
    pub fn seen(&self) -> &[PathBuf] {
        &self.seen
    }

    /// The root, where it is another one than ours.
    pub fn root(&self) -> Option<&Path> {
        self.root.as_ref().map(|(_, path)| path.as_path())
    }

    /// The directories that may be changed.
    pub fn writable(&self) -> &[PathBuf] {
        &self.writable
    }

    /// Notes what the process runs from now on: a path on the host, and arguments.
    pub fn set_program(&self, path: PathBuf, arguments: Vec<Vec<u8>>) {
        *self.program.lock().expect("no thread panics with it") = (path, arguments);
    }

    /// The same, to be told.
    pub fn what_runs(&self) -> (PathBuf, Vec<Vec<u8>>) {
        self.program.lock().expect("no thread panics with it").clone()
    }

    /// The program's path as the program sees it.
    pub fn program(&self) -> Vec<u8> {
        let program = self.program.lock().expect("no thread panics with it");
        self.inside(&program.0)
    }

    /// The program's arguments, each with a zero behind it.
    pub fn arguments(&self) -> Vec<u8> {
        let program = self.program.lock().expect("no thread panics with it");
        program.1.iter().flat_map(|argument| argument.iter().copied().chain([0])).collect()
    }

    /// A path on the host as the program sees it.
    fn inside(&self, path: &Path) -> Vec<u8> {
        let inside = self.root.as_ref().and_then(|(_, root)| path.strip_prefix(root).ok());
        match inside {
            Some(inside) => [b"/", inside.as_os_str().as_bytes()].concat(),
            None => path.as_os_str().as_bytes().to_vec(),
        }
    }

    /// The working directory as the program sees it.
    pub fn working_directory(&self) -> std::io::Result<Vec<u8>> {
        Ok(self.inside(&std::env::current_dir()?))
    }

    /// Looks up a path of the program, from its directory `dir` on.
    pub fn find(&self, dir: RawFd, path: &[u8], follow: bool) -> Result<Handle> {
        // As many links as Linux follows.
        self.find_by_links(dir, path, follow, 40)
    }

    fn find_by_links(&self, dir: RawFd, path: &[u8], follow: bool, links: usize) -> Result<Handle> {
        if path.is_empty() {
            return Err(Errno(libc::ENOENT));
        }
        let handle = match own(path, std::process::id()) {
            Some(Own::Program) if follow => {
                let program = self.program();
                return self.find(CWD, &program, true);
            }
            Some(Own::Descriptor(fd)) if follow => {
                if !(0..self.lowest).contains(&fd) {
                    return Err(Errno(libc::ENOENT));
                }
                return Ok(Handle::of(fd, self.lowest)?);
            }
            Some(Own::WorkingDirectory) if follow => self.look_up(CWD, b".", true)?,
            Some(Own::Root) if follow => self.look_up(CWD, b"/", true)?,
            _ => match self.look_up(dir, path, follow) {
                // It may lead to one of those above by the text of a link: /dev/stdout is one, and programs make others.
                Err(error @ Errno(libc::ELOOP | libc::ENOENT)) if follow && links > 0 => {
                    let target = self.link_target(dir, path).ok_or(error)?;
                    return self.find_by_links(dir, &target, follow, links - 1);
                }
                found => found?,
            },
        };
        let kind = handle.kind()?;
        if kind.file_system == PROC && !is_harmless(&handle.path()?, std::process::id(), self.contained) {
            return Err(Errno(libc::ENOENT));
        }
        Ok(handle)
    }

    fn look_up(&self, dir: RawFd, path: &[u8], follow: bool) -> Result<Handle> {
        let text = |path: &[u8]| CString::new(path).map_err(|_| Errno(libc::ENOENT));
        let Some((root, root_path)) = &self.root else {
            return Ok(Handle::find(dir, &text(path)?, follow, false, self.lowest)?);
        };
        let mut whole = b"/".to_vec();
        if !path.starts_with(b"/") {
            // By its text, as a relative path could lead out of the root; where the directory is now.
            let base = match dir {
                CWD => std::env::current_dir()?,
                dir => Handle::of(dir, self.lowest)?.path()?,
            };
            let inside = base.strip_prefix(root_path).ok();
            let base = inside.or_else(|| of_host(base.as_os_str().as_bytes(), &[]).map(|_| base.as_path()));
            whole.extend_from_slice(base.ok_or(Errno(libc::ENOENT))?.as_os_str().as_bytes());
            whole.push(b'/');
        }
        whole.extend_from_slice(path);
        if let Some(path) = of_host(&whole, &self.seen) {
            let found = Handle::find(CWD, &text(&path)?, follow, false, self.lowest)?;
            // What is mounted below procfs is not of it.
            return match path.starts_with(b"/proc") && found.kind()?.file_system != PROC {
                true => Err(Errno(libc::ENOENT)),
                false => Ok(found),
            };
        }
        // A path that is nothing but slashes is the root.
        let start = whole.iter().position(|&byte| byte != b'/').unwrap_or(whole.len());
        let below = if start == whole.len() { b"." } else { &whole[start..] };
        Ok(Handle::find(root.number() as RawFd, &text(below)?, follow, true, self.lowest)?)
    }

    /// Where a link leads, as a path from `dir` on; `None` for what is no link.
    fn link_target(&self, dir: RawFd, path: &[u8]) -> Option<Vec<u8>> {
        let link = self.look_up(dir, path, false).ok()?;
        if link.kind().ok()?.mode & libc::S_IFMT != libc::S_IFLNK {
            return None;
        }
        let target = link.target().ok()?;
        let parent = path.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
        Some(match target.starts_with(b"/") {
            true => target,
            false => [&path[..parent], &target].concat(),
        })
    }

    /// The directory in which the last name of a path is or would be, and that name.
    pub fn find_parent(&self, dir: RawFd, path: &[u8]) -> Result<(Handle, CString)> {
        let end = path.iter().rposition(|&byte| byte != b'/').map_or(0, |at| at + 1);
        let (parent, name) = match path[..end].iter().rposition(|&byte| byte == b'/') {
            Some(slash) => (&path[..=slash], &path[slash + 1..end]),
            None => (&b"."[..], &path[..end]),
        };
        match name {
            b"" if path.is_empty() => Err(Errno(libc::ENOENT)),
            b"" | b"." | b".." => Err(Errno(libc::EBUSY)),
            _ => Ok((self.find(dir, parent, true)?, CString::new(name).map_err(|_| Errno(libc::ENOENT))?)),
        }
    }

    /// Whether what a handle stands for may be changed, or made in it: EROFS if not.
    pub fn check_change(&self, handle: &Handle) -> Result<()> {
        let path = handle.path()?;
        match self.writable.iter().any(|writable| path.starts_with(writable)) {
            true => Ok(()),
            false => Err(Errno(libc::EROFS)),
        }
    }

    /// Whether what a handle stands for may be opened, with O_ flags.
    pub fn check_open(&self, handle: &Handle, flags: i32) -> Result<()> {
        let Kind { mode, device, .. } = handle.kind()?;
        match mode & libc::S_IFMT {
            libc::S_IFBLK => Err(Errno(libc::EACCES)),
            libc::S_IFCHR if is_common_device(device) => Ok(()),
            libc::S_IFCHR => Err(Errno(libc::EACCES)),
            _ if flags & libc::O_ACCMODE == libc::O_RDONLY && flags & libc::O_TRUNC == 0 => Ok(()),
            // A pipe without a name: the program has it already.
            libc::S_IFIFO if handle.path()?.as_os_str().as_bytes().starts_with(b"pipe:") => Ok(()),
            _ => self.check_change(handle),
        }
    }

    /// Where a link leads, for the few that are known by their names.
    pub fn own_link(&self, path: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(match own(path, std::process::id()) {
            Some(Own::Program) => Some(self.program()),
            Some(Own::WorkingDirectory) => Some(self.working_directory()?),
            Some(Own::Root) => Some(b"/".to_vec()),
            Some(Own::Descriptor(fd)) if path.starts_with(b"/proc/") => {
                match (0..self.lowest).contains(&fd) {
                    true => Some(self.inside(&Handle::of(fd, self.lowest)?.path()?)),
                    false => return Err(Errno(libc::ENOENT)),
                }
            }
            _ => None,
        })
    }

    /// Finds a program by a name without a slash, in the directories of `path` (PATH of environ(7)).
    pub fn find_in_path(&self, name: &[u8], path: &[u8]) -> Option<Vec<u8>> {
        let directories = path.split(|&byte| byte == b':');
        let candidates = directories.map(|directory| match directory {
            b"" => name.to_vec(),
            _ => [directory, b"/", name].concat(),
        });
        candidates.into_iter().find(|candidate| {
            let is_program = |kind: Kind| kind.mode & libc::S_IFMT == libc::S_IFREG && kind.mode & 0o111 != 0;
            self.find(CWD, candidate, true).and_then(|handle| Ok(handle.kind()?)).is_ok_and(is_program)
        })
    }
}

/// A string of ours for the kernel.
pub fn c_string(text: &str) -> CString {
    CString::new(text).expect("a path of ours has no zero")
}

/// The empty path, with which a call is about its descriptor.
pub const EMPTY: &CStr = c"";

/// A path of the program's as we print it.
pub fn shown(path: &[u8]) -> String {
    crate::text::shown(OsStr::from_bytes(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn below_a_root_procfs_and_devices_are_the_host_s() {
        let seen = [PathBuf::from("/etc/hosts")];
        let of_host =
            |path: &str| of_host(path.as_bytes(), &seen).map(|path| String::from_utf8(path).unwrap());
        for path in ["/proc", "/proc/self/status", "/dev/null", "/dev/pts/3", "/etc/hosts"] {
            assert_eq!(of_host(path).as_deref(), Some(path));
        }
        assert_eq!(of_host("//proc/./stat").as_deref(), Some("/proc/stat"));
        assert_eq!(of_host("/dev/null/").as_deref(), Some("/dev/null/"));
        for path in [
            "/",
            "/dev",
            "/dev/sda",
            "/dev/shm/x",
            "/procs",
            "/proc/../etc/shadow",
            "/etc/passwd",
            "/dev/null/x",
        ] {
            assert_eq!(of_host(path), None, "{path}");
        }
    }

    #[test]
    fn a_path_is_split_at_its_last_name() {
        let files = Files::new(None, &[], 1024).unwrap();
        let name = |path: &[u8]| files.find_parent(CWD, path).map(|(_, name)| name.into_bytes());
        assert_eq!(name(b"/tmp/a"), Ok(b"a".to_vec()));
        assert_eq!(name(b"a//"), Ok(b"a".to_vec()));
        assert_eq!(
            (name(b"/"), name(b""), name(b"/tmp/..")),
            (Err(Errno(16)), Err(Errno(2)), Err(Errno(16)))
        );
    }
}
