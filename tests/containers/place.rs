//! Where a test does what it does: a directory with our runtime and an image, and nothing that stays when it ends.

use crate::support::{self, Ended, Program};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

/// How long a tool may take. Several of them start dozens of processes each time.
pub const LIMIT: Duration = Duration::from_secs(90);
/// The programs that an image has by links to busybox.
const APPLETS: &[&str] = &[
    "sh", "cat", "dd", "echo", "env", "id", "kill", "ls", "ps", "pwd", "sleep", "stty", "tty", "true", "wget",
];

/// A directory for one test, which has the machine for itself.
pub struct Place {
    directory: tempfile::TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl Place {
    /// `None`, and said, where one of these tools is missing; with `REQUIRE_CONTAINERS=1` that is a failure.
    pub fn with(tools: &[&str]) -> Option<Place> {
        static ALONE: Mutex<()> = Mutex::new(());
        if !support::has_kvm() {
            return None;
        }
        let is_required = support::is_set("REQUIRE_CONTAINERS");
        if !support::terminal::is_root() {
            assert!(!is_required, "not root");
            support::skip("not root");
            return None;
        }
        for tool in tools {
            let found = support::installed(tool).is_some();
            assert!(found || !is_required, "{tool} is not installed");
            if !found {
                return None;
            }
        }
        let alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        // Names of sockets have 107 bytes at most.
        let directory = tempfile::Builder::new().prefix("oci-").tempdir_in("/tmp").unwrap();
        let place = Place { directory, _alone: alone };
        symlink(env!("CARGO_BIN_EXE_matchstick"), place.runtime()).unwrap();
        Some(place)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The same as text, for arguments.
    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Our program, as a runtime.
    pub fn runtime(&self) -> PathBuf {
        self.path("matchstick-runtime")
    }

    /// A call of it.
    pub fn call(&self, args: &[&str]) -> Program {
        Program::new(self.runtime()).args(["--root", &self.text("state")]).args(args).limit(LIMIT)
    }

    /// What `matchstick bench` has measured with these words; containerd, if it is asked, is at `address`.
    pub fn bench(&self, words: &[&str], address: &str) -> serde_json::Value {
        let export = self.path("bench.json");
        let ended = support::matchstick(["bench"])
            .args(words)
            .args(["--export-json".as_ref(), export.as_os_str()])
            .env("CONTAINERD_ADDRESS", address)
            .limit(LIMIT)
            .run();
        ended.status(0);
        json(&export)
    }

    /// Races `names` for a round, in which each of them runs the payload.
    #[track_caller]
    pub fn race(&self, names: &[&str], address: &str) {
        let report = self.bench(&["--only", &names.join(","), "--runs", "1", "--warmup", "0"], address);
        let raced = report["results"].as_array().unwrap().iter().map(|result| &result["command"]);
        let raced: Vec<_> = raced.collect();
        assert!(names.iter().all(|name| raced.iter().any(|raced| *raced == name)), "{report:#}");
    }

    /// A root directory with busybox.
    pub fn root(&self) -> PathBuf {
        let root = self.path("image");
        if root.exists() {
            return root;
        }
        fs::create_dir_all(root.join("bin")).unwrap();
        fs::create_dir_all(root.join("tmp")).unwrap();
        fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
        let busybox = support::installed("busybox").expect("a tool of every test");
        fs::copy(busybox, root.join("bin/busybox")).unwrap();
        APPLETS.iter().for_each(|name| symlink("busybox", root.join("bin").join(name)).unwrap());
        fs::write(root.join("bin/text"), "no program\n").unwrap();
        root
    }

    /// Adds a dynamic program of this host, with its libraries.
    pub fn add(&self, program: &str) {
        let path = support::installed(program).expect("a program of this host").canonicalize().unwrap();
        let listed = Program::new("ldd").args([&path]).run();
        let libraries = listed.text();
        let libraries = libraries.split_whitespace().filter(|word| word.starts_with('/'));
        let files: Vec<&str> = libraries.chain(path.to_str()).collect();
        for file in files {
            let to = self.root().join(&file[1..]);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(file, to).unwrap();
        }
        let link = self.root().join("bin").join(Path::new(program).file_name().unwrap());
        if !link.exists() {
            symlink(path, link).unwrap();
        }
    }

    /// The image's files as an archive, as `podman import` and `docker import` take it.
    pub fn archive(&self) -> PathBuf {
        let archive = self.path("image.tar");
        let root = self.root();
        Program::new("tar")
            .args(["-cf", &self.text("image.tar"), "-C", root.to_str().unwrap(), "."])
            .run()
            .status(0);
        archive
    }

    /// Starts a daemon, whose output goes to a file.
    pub fn daemon(&self, mut command: Command, log: &str) -> Daemon {
        let file = fs::File::create(self.path(log)).unwrap();
        let error = file.try_clone().unwrap();
        let child = command.stdin(Stdio::null()).stdout(file).stderr(error).spawn().unwrap();
        Daemon { child, log: self.path(log) }
    }

    /// The processes that have this directory in their arguments.
    fn processes(&self) -> Vec<String> {
        let own = self.directory.path().to_str().unwrap();
        let all = fs::read_dir("/proc").unwrap().flatten();
        let arguments = all.filter_map(|entry| {
            let read = fs::read(entry.path().join("cmdline")).ok()?;
            Some(format!("{:?} {}", entry.file_name(), String::from_utf8_lossy(&read).replace('\0', " ")))
        });
        arguments.filter(|line| line.contains(own)).collect()
    }

    fn mounts(&self) -> Vec<String> {
        let own = self.directory.path().to_str().unwrap();
        let all = fs::read_to_string("/proc/self/mountinfo").unwrap();
        all.lines().filter(|line| line.contains(own)).map(str::to_owned).collect()
    }

    /// Asserts that no process and no mount is left.
    #[track_caller]
    pub fn is_left_as_it_was(&self) {
        let begin = Instant::now();
        let left = || (self.processes(), self.mounts());
        while left() != (vec![], vec![]) && begin.elapsed() < Duration::from_secs(20) {
            thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(left(), (vec![], vec![]));
    }
}

impl Drop for Place {
    /// After a failure: what the directory holds could not be removed with mounts in it.
    fn drop(&mut self) {
        let containers = fs::read_dir(self.path("state")).into_iter().flatten().flatten();
        for id in containers.map(|entry| entry.file_name()) {
            let _ = self.call(&["delete", "--force"]).args([id]).run();
        }
        for line in self.mounts().iter().rev() {
            let point = line.split(' ').nth(4).unwrap_or_default();
            let _ = Command::new("umount").args(["-l", point]).status();
        }
    }
}

/// A daemon, which ends when it is forgotten.
pub struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Waits until `is_so`.
    #[track_caller]
    pub fn wait_until(&mut self, is_so: impl Fn() -> bool) {
        let begin = Instant::now();
        while !is_so() {
            let ended = self.child.try_wait().unwrap();
            let log = || fs::read_to_string(&self.log).unwrap_or_default();
            assert!(ended.is_none(), "the daemon has ended: {}", log());
            assert!(begin.elapsed() < LIMIT, "the daemon is not ready: {}", log());
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Daemon {
    /// Asks it to end, and kills it if it does not.
    pub fn end(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        support::terminal::send_signal(self.child.id() as i32, libc::SIGTERM);
        let begin = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if begin.elapsed() > Duration::from_secs(20) {
                let _ = self.child.kill();
                let _ = self.child.wait();
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.end();
    }
}

/// Asserts that what a tool says has a line with each of these words.
#[track_caller]
pub fn says(ended: &Ended, words: &[&str]) {
    let text = ended.text() + &ended.stderr;
    let is_there = |line: &str| words.iter().all(|word| line.contains(word));
    assert!(text.lines().any(is_there), "{words:?} are not in a line of {ended:?}");
}

/// Reads a JSON file.
pub fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}
