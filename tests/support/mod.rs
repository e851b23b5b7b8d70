//! What the tests of the program share: they start it as a user would, with a limit of time.
#![allow(dead_code, reason = "each test program uses another part")]

pub mod image;
pub mod supervisor;
pub mod tar;
pub mod terminal;

use matchstick::guest::Guest;
use matchstick::kvm::Kvm;
use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use terminal::Terminal;

/// How long a program may take that nobody gave a limit. Generous: test machines are busy.
const LIMIT: Duration = Duration::from_secs(30);

/// The key that ends input: what `echo` waits for.
pub const CTRL_D: u8 = 0x04;

/// Prints why the running test does nothing here, even when the test harness keeps its output.
pub fn skip(why: &str) {
    let name = thread::current().name().unwrap_or("?").to_owned();
    let _ = writeln!(std::io::stderr(), "skipped: {name}: {why}");
}

/// Whether this host runs VMs. If not, that is printed, and with `REQUIRE_KVM=1` the test fails.
pub fn has_kvm() -> bool {
    let Err(error) = Kvm::open().and_then(|kvm| kvm.create_vm()) else { return true };
    let cause = error.source().map_or(String::new(), |cause| format!(": {cause}"));
    let why = format!("no /dev/kvm ({error}{cause})");
    assert!(!is_set("REQUIRE_KVM"), "{why}");
    skip(&why);
    false
}

/// Runs the ignored test `name` of `module` in a process of its own, with these variables in its environment: for what
/// changes its process for good, or counts what it has.
pub fn in_a_process(module: &str, name: &str, variables: &[(&str, &str)]) -> Output {
    // The harness's names begin below the crate.
    let (_, module) = module.split_once("::").expect("a module of this program");
    let own = std::env::current_exe().expect("a test knows its program");
    let ended = Command::new(own)
        .args(["--exact", &format!("{module}::{name}"), "--ignored", "--nocapture", "--test-threads=1"])
        .envs(variables.iter().copied())
        .output()
        .expect("it runs again");
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(said.contains("running 1 test\n"), "there is no {module}::{name}: {said}");
    ended
}

/// Whether an environment variable says 1.
pub fn is_set(variable: &str) -> bool {
    std::env::var(variable).is_ok_and(|value| value == "1")
}

/// The path of a program of this host; `None`, and said, where there is none.
pub fn installed(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(name)).find(|path| path.is_file());
    if found.is_none() {
        skip(&format!("{name} is not installed"));
    }
    found
}

/// How a program ended.
pub struct Ended {
    pub stdout: Vec<u8>,
    pub stderr: String,
    /// The exit status, unless a signal ended it.
    pub status: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// From start to end.
    pub took: Duration,
}

impl fmt::Debug for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ended { status, signal, took, .. } = self;
        let (stdout, stderr) = (shown(&self.stdout), shown(self.stderr.as_bytes()));
        write!(f, "status {status:?}, signal {signal:?} after {took:?}; stdout: {stdout}; stderr: {stderr}")
    }
}

impl Ended {
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Asserts an end with `status` without a panic.
    #[track_caller]
    pub fn status(&self, status: i32) -> &Ended {
        assert!(!self.stderr.contains("panicked"), "it panicked: {}", self.stderr);
        assert_eq!(self.status, Some(status), "{self:?}");
        self
    }

    /// Asserts death by `signal`.
    #[track_caller]
    pub fn killed_by(&self, signal: i32) -> &Ended {
        assert!(!self.stderr.contains("panicked"), "it panicked: {}", self.stderr);
        assert_eq!(self.signal, Some(signal), "{self:?}");
        self
    }

    /// Asserts what came to standard output.
    #[track_caller]
    pub fn printed(&self, text: impl AsRef<[u8]>) -> &Ended {
        let text = text.as_ref();
        assert!(self.stdout == text, "printed {}, not {}", shown(&self.stdout), shown(text));
        self
    }

    /// Asserts that standard error says `text`.
    #[track_caller]
    pub fn says(&self, text: &str) -> &Ended {
        assert!(self.stderr.contains(text), "{text:?} is not in {}", self.stderr);
        self
    }

    /// Asserts that there was no word on standard error.
    #[track_caller]
    pub fn silent(&self) -> &Ended {
        assert_eq!(self.stderr, "");
        self
    }

    /// Asserts one error in one line, and nothing else on standard error: no hint fits it.
    #[track_caller]
    pub fn fails_without_hint(&self, status: i32, error: &str) -> &Ended {
        self.status(status);
        let lines: Vec<&str> = self.stderr.lines().collect();
        let &[line] = lines.as_slice() else { panic!("not one line: {}", self.stderr) };
        assert!(line.starts_with("error: ") && line.contains(error), "{error:?} is not in {line:?}");
        self
    }

    /// Asserts one error and one hint, each a line, and nothing else on standard error.
    #[track_caller]
    pub fn fails(&self, status: i32, error: &str, hint: &str) -> &Ended {
        self.status(status);
        let lines: Vec<&str> = self.stderr.lines().collect();
        let &[first, second] = lines.as_slice() else { panic!("not two lines: {}", self.stderr) };
        assert!(first.starts_with("error: ") && first.contains(error), "{error:?} is not in {first:?}");
        assert!(second.starts_with(" hint: ") && second.contains(hint), "{hint:?} is not in {second:?}");
        self
    }
}

/// Where a program's standard input comes from.
enum Input {
    /// These bytes through a pipe, then its end.
    Bytes(Vec<u8>),
    /// A pipe that the test writes to.
    Open,
    Other(Stdio),
}

/// A program about to be started.
pub struct Program {
    command: Command,
    input: Input,
    limit: Duration,
}

/// The program under test, with arguments and an empty standard input.
pub fn matchstick<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Program {
    let mut program = Program::new(env!("CARGO_BIN_EXE_matchstick"));
    program.command.args(args);
    program
}

impl Program {
    pub fn new(program: impl AsRef<OsStr>) -> Program {
        let mut command = Command::new(program);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        // What is said is compared in English and with all its characters, whoever runs the tests.
        command.env_remove("LC_ALL").env_remove("LC_MESSAGES").env_remove("LC_CTYPE").env("LANG", "C.UTF-8");
        Program { command, input: Input::Bytes(Vec::new()), limit: LIMIT }
    }

    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Program {
        self.command.args(args);
        self
    }

    /// Where it runs.
    pub fn directory(mut self, directory: &std::path::Path) -> Program {
        self.command.current_dir(directory);
        self
    }

    /// Sets a variable of its environment.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Program {
        self.command.env(name, value);
        self
    }

    /// Gives it that much time.
    pub fn limit(mut self, limit: Duration) -> Program {
        self.limit = limit;
        self
    }

    /// Gives it these bytes and then the end of input.
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Program {
        self.input = Input::Bytes(bytes.into());
        self
    }

    /// Keeps its input open: see [`Running::write`].
    pub fn open_input(mut self) -> Program {
        self.input = Input::Open;
        self
    }

    pub fn stdin(mut self, stdin: impl Into<Stdio>) -> Program {
        self.input = Input::Other(stdin.into());
        self
    }

    pub fn stdout(mut self, stdout: impl Into<Stdio>) -> Program {
        self.command.stdout(stdout);
        self
    }

    pub fn stderr(mut self, stderr: impl Into<Stdio>) -> Program {
        self.command.stderr(stderr);
        self
    }

    /// Puts all three on `terminal`, which then controls it.
    pub fn on(mut self, terminal: &Terminal) -> Program {
        terminal.control(&mut self.command);
        self.stdin(terminal.stdio()).stdout(terminal.stdio()).stderr(terminal.stdio())
    }

    /// Starts it with these descriptors closed.
    pub fn closed(mut self, fds: &'static [i32]) -> Program {
        terminal::close_in(&mut self.command, fds);
        self
    }

    /// Starts it with `signal` ignored.
    pub fn ignoring(mut self, signal: i32) -> Program {
        terminal::ignore_in(&mut self.command, signal);
        self
    }

    /// Starts it behind a seccomp filter.
    pub fn filtered(mut self, filter: seccompiler::BpfProgram) -> Program {
        terminal::filter_in(&mut self.command, filter);
        self
    }

    /// Runs it to its end.
    #[track_caller]
    pub fn run(self) -> Ended {
        self.start().end()
    }

    #[track_caller]
    pub fn start(mut self) -> Running {
        let (stdin, bytes) = match self.input {
            Input::Bytes(bytes) => (Stdio::piped(), Some(bytes)),
            Input::Open => (Stdio::piped(), None),
            Input::Other(stdin) => (stdin, None),
        };
        let started = Instant::now();
        let mut child = self.command.stdin(stdin).spawn().expect("cannot start the program");
        // The parent's copies of what was given away: a reader waits for the last one to be closed.
        drop(self.command);
        let mut stdin = child.stdin.take();
        if let Some(bytes) = bytes
            && let Some(mut stdin) = stdin.take()
        {
            // A program that ends early leaves its input unread.
            thread::spawn(move || stdin.write_all(&bytes));
        }
        Running {
            stdout: Capture::of(child.stdout.take()),
            stderr: Capture::of(child.stderr.take()),
            child,
            stdin,
            started,
            limit: self.limit,
        }
    }
}

/// A program that runs; one that is forgotten is killed.
pub struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    pub stdout: Capture,
    pub stderr: Capture,
    started: Instant,
    limit: Duration,
}

impl Running {
    /// Its process number.
    pub fn id(&self) -> i32 {
        self.child.id() as i32
    }

    pub fn signal(&self, signal: i32) {
        terminal::send_signal(self.id(), signal);
    }

    /// Waits until a signal has stopped it.
    #[track_caller]
    pub fn wait_until_stopped(&self) {
        let deadline = Instant::now() + self.limit;
        // proc(5): the state follows the name, which is in parentheses.
        let is_stopped = || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
        };
        while !is_stopped() {
            assert!(Instant::now() < deadline, "it did not stop");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits until it sleeps after `is_so`, or it has ended.
    pub fn wait_until_asleep(&self, is_so: impl Fn() -> bool) {
        let deadline = Instant::now() + self.limit;
        let state = || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap_or_default();
            stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()).unwrap_or('X')
        };
        let is_there = || matches!(state(), 'Z' | 'X') || is_so() && state() == 'S';
        while !is_there() {
            assert!(Instant::now() < deadline, "it did not come to that");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Writes to its open input.
    pub fn write(&mut self, bytes: &[u8]) {
        self.stdin.as_mut().expect("its input is not open").write_all(bytes).expect("it does not read");
    }

    /// Waits for its end.
    #[track_caller]
    pub fn end(mut self) -> Ended {
        drop(self.stdin.take());
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("cannot wait for it") {
                break status;
            }
            if self.started.elapsed() > self.limit {
                let (out, err) = (self.stdout.so_far(), self.stderr.so_far());
                let limit = self.limit;
                panic!(
                    "it did not end within {limit:?}; it printed {} and said {}",
                    shown(&out),
                    shown(&err)
                );
            }
            thread::sleep(Duration::from_millis(1));
        };
        let took = self.started.elapsed();
        Ended {
            stdout: self.stdout.all(),
            stderr: String::from_utf8_lossy(&self.stderr.all()).into_owned(),
            status: status.code(),
            signal: status.signal(),
            took,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It is our child and not yet waited for, or std remembers that it was: never another process.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What comes out of a pipe or a terminal, read by a thread as it comes.
pub struct Capture(Arc<(Mutex<Captured>, Condvar)>);

#[derive(Default)]
struct Captured {
    bytes: Vec<u8>,
    ended: bool,
}

impl Capture {
    /// Reads `source` to its end; without one, nothing ever comes.
    pub fn of(source: Option<impl Read + Send + 'static>) -> Capture {
        let shared = Arc::new((Mutex::new(Captured::default()), Condvar::new()));
        let Some(mut source) = source else {
            shared.0.lock().unwrap().ended = true;
            return Capture(shared);
        };
        let ours = Arc::clone(&shared);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            loop {
                // A terminal whose other end is gone gives an error instead of an end.
                let count = source.read(&mut buffer).unwrap_or(0);
                let mut captured = shared.0.lock().unwrap();
                captured.bytes.extend(&buffer[..count]);
                captured.ended = count == 0;
                shared.1.notify_all();
                if captured.ended {
                    return;
                }
            }
        });
        Capture(ours)
    }

    /// What has come until now.
    pub fn so_far(&self) -> Vec<u8> {
        self.0.0.lock().unwrap().bytes.clone()
    }

    /// Waits until `text` has come.
    #[track_caller]
    pub fn wait_for(&self, text: &str) {
        let seen = self.wait_until(|captured| contains(&captured.bytes, text.as_bytes()) || captured.ended);
        assert!(contains(&seen, text.as_bytes()), "{text:?} never came: {}", shown(&seen));
    }

    /// Waits for the end and returns everything.
    #[track_caller]
    pub fn all(&self) -> Vec<u8> {
        self.wait_until(|captured| captured.ended)
    }

    #[track_caller]
    fn wait_until(&self, done: impl Fn(&Captured) -> bool) -> Vec<u8> {
        let (captured, news) = &*self.0;
        let captured = captured.lock().unwrap();
        let (captured, time) = news.wait_timeout_while(captured, LIMIT, |captured| !done(captured)).unwrap();
        assert!(!time.timed_out(), "waited in vain; it printed {}", shown(&captured.bytes));
        captured.bytes.clone()
    }
}

/// Bytes for a message: the ends of what is long.
fn shown(bytes: &[u8]) -> String {
    const END: usize = 120;
    match bytes.len() {
        len if len <= 2 * END => format!("{:?}", String::from_utf8_lossy(bytes)),
        len => {
            let (head, tail) =
                (String::from_utf8_lossy(&bytes[..END]), String::from_utf8_lossy(&bytes[len - END..]));
            format!("{len} bytes, {head:?} … {tail:?}")
        }
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// Asserts that `output` is what `guest` promises: as many lines, each as its `expect`.
#[track_caller]
pub fn assert_expected(guest: &Guest, output: &str) {
    let lines: Vec<&str> = output.lines().map(|line| line.trim_end_matches('\r')).collect();
    assert_eq!(lines.len(), guest.expect.len(), "{} printed {output:?}", guest.name);
    for (line, pattern) in lines.iter().zip(guest.expect) {
        assert!(is_match(pattern, line), "{} printed {line:?} instead of {pattern:?}", guest.name);
    }
    assert!(output.is_empty() || output.ends_with('\n'), "{} left a line open: {output:?}", guest.name);
}

/// Whether this command succeeds here.
pub fn runs(command: &[&str]) -> bool {
    let status = Command::new(command[0]).args(&command[1..]).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// Whether `line` is as `pattern` has it, in which `*` stands for any characters.
pub fn is_match(pattern: &str, line: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == line };
    let Some(line) = line.strip_prefix(head) else { return false };
    line.char_indices().map(|(at, _)| at).chain([line.len()]).any(|at| is_match(rest, &line[at..]))
}

/// What a test of `guest` types.
pub fn keys_for(guest: &Guest) -> Vec<u8> {
    [guest.input.as_bytes(), &[CTRL_D]].concat()
}

/// A directory of the test's own, and a file in it.
pub fn file(bytes: &[u8]) -> (tempfile::TempDir, OsString) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    std::fs::write(&path, bytes).unwrap();
    (dir, path.into_os_string())
}
