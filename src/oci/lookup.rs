//! Whether a container's program is there, asked before the container is made: callers want to hear it then.
//!
//! Names are looked up as the container would, below its root, one part after another, and nothing is opened. What lies
//! in a mount cannot be seen yet: then nothing is said, and the VM says it when it starts. Sources: execve(2),
//! path_resolution(7), and Go's exec.LookPath, whose words callers look for.

use std::ffi::{OsStr, OsString};
use std::fs::Metadata;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// As many links as Linux follows.
const LINKS_MAX: usize = 40;
/// Where a program is looked for that has no PATH.
const PATH: &[u8] = b"/usr/local/bin:/usr/bin:/bin";

/// A container's files, as far as they can be seen from here.
pub struct Files<'a> {
    /// Its root directory, on this host.
    pub root: &'a Path,
    /// Paths in it on which something is mounted.
    pub mounts: Vec<PathBuf>,
}

/// Why the program `name` cannot be run; `None` if it can, or if that cannot be known yet.
pub fn why_not(files: &Files<'_>, directory: &Path, path: Option<&[u8]>, name: &[u8]) -> Option<String> {
    if name.contains(&b'/') {
        let file = directory.join(OsStr::from_bytes(name));
        let said = OsStr::from_bytes(name).to_string_lossy();
        return match files.find(&file) {
            Ok(None) => None,
            Ok(Some(found)) if is_program(&found) => None,
            Ok(Some(_)) => Some("permission denied".into()),
            Err(error) if error.raw_os_error() == Some(libc::ENOTDIR) => {
                Some(format!("stat {said}: not a directory"))
            }
            Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
                Some(format!("stat {said}: too many levels of symbolic links"))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Some(format!("stat {said}: no such file or directory"))
            }
            Err(_) => None,
        };
    }
    for entry in path.unwrap_or(PATH).split(|&byte| byte == b':') {
        match files.find(&directory.join(OsStr::from_bytes(entry)).join(OsStr::from_bytes(name))) {
            Ok(None) => return None,
            Ok(Some(found)) if is_program(&found) => return None,
            _ => {}
        }
    }
    Some("executable file not found in $PATH".into())
}

fn is_program(found: &Metadata) -> bool {
    found.is_file() && found.mode() & 0o111 != 0
}

/// A path without `.`, `..` and doubled slashes, from `/` on.
pub fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => drop(clean.pop()),
            _ => {}
        }
    }
    clean
}

impl Files<'_> {
    /// What is at `path`; `None` if a mount is on the way.
    fn find(&self, path: &Path) -> io::Result<Option<Metadata>> {
        let mut todo: Vec<OsString> = parts(path);
        let mut at = PathBuf::from("/");
        let mut links = 0;
        let mut found = self.root.symlink_metadata()?;
        loop {
            if self.mounts.contains(&at) {
                return Ok(None);
            }
            let Some(part) = todo.pop() else { return Ok(Some(found)) };
            if part == ".." {
                at.pop();
            } else {
                at.push(part);
            }
            if self.mounts.contains(&at) {
                return Ok(None);
            }
            let here = self.root.join(at.strip_prefix("/").unwrap_or(&at));
            found = here.symlink_metadata()?;
            if found.is_symlink() {
                links += 1;
                if links > LINKS_MAX {
                    return Err(io::Error::from_raw_os_error(libc::ELOOP));
                }
                let target = here.read_link()?;
                at.pop();
                if target.is_absolute() {
                    at = PathBuf::from("/");
                }
                todo.extend(parts(&target));
            }
        }
    }
}

/// The parts of a path, the last one first.
fn parts(path: &Path) -> Vec<OsString> {
    let is_part = |part: &Component<'_>| matches!(part, Component::Normal(_) | Component::ParentDir);
    path.components().rev().filter(is_part).map(|part| part.as_os_str().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn root() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("usr/bin")).unwrap();
        fs::create_dir(root.join("data")).unwrap();
        fs::write(root.join("usr/bin/run"), "").unwrap();
        fs::set_permissions(root.join("usr/bin/run"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(root.join("usr/bin/text"), "").unwrap();
        symlink("usr/bin", root.join("bin")).unwrap();
        symlink("/bin/../../../../usr/bin/run", root.join("usr/bin/link")).unwrap();
        symlink("/data/x", root.join("usr/bin/far")).unwrap();
        symlink("loop", root.join("usr/bin/loop")).unwrap();
        // Leads out for everybody who does not stay below the root.
        symlink("/etc/passwd", root.join("usr/bin/passwd")).unwrap();
        dir
    }

    fn why(name: &str, path: Option<&str>) -> Option<String> {
        let root = root();
        let files = Files { root: root.path(), mounts: vec!["/proc".into(), "/data".into()] };
        why_not(&files, Path::new("/usr"), path.map(str::as_bytes), name.as_bytes())
    }

    #[test]
    fn what_is_there_and_what_is_not() {
        for name in ["run", "/usr/bin/run", "/bin/run", "bin/run", "../bin/link", "/bin/link", "link"] {
            assert_eq!(why(name, None), None, "{name}");
        }
        assert_eq!(why("none", None).unwrap(), "executable file not found in $PATH");
        assert_eq!(why("run", Some("/sbin")).unwrap(), "executable file not found in $PATH");
        assert_eq!(why("text", None).unwrap(), "executable file not found in $PATH");
        assert_eq!(why("/none", None).unwrap(), "stat /none: no such file or directory");
        assert_eq!(why("/bin/passwd", None).unwrap(), "stat /bin/passwd: no such file or directory");
        assert_eq!(why("/bin/run/x", None).unwrap(), "stat /bin/run/x: not a directory");
        assert_eq!(why("/bin/loop", None).unwrap(), "stat /bin/loop: too many levels of symbolic links");
        assert_eq!(why("/bin/text", None).unwrap(), "permission denied");
        assert_eq!(why("/usr", None).unwrap(), "permission denied");
    }

    #[test]
    fn what_may_be_in_a_mount_is_not_known_yet() {
        for name in ["/data/x", "/proc/self/exe", "/bin/far", "far"] {
            assert_eq!(why(name, None), None, "{name}");
        }
        assert_eq!(why("none", Some("/bin:/data/bin")), None);
    }

    #[test]
    fn a_path_is_cleaned_as_words() {
        for (path, is) in [("/a//b/../c/.", "/a/c"), ("dev/", "/dev"), ("/../..", "/")] {
            assert_eq!(clean(Path::new(path)), Path::new(is));
        }
    }
}
