//! A subject that is a command, whatever the command does: process, matchstick itself, and those of `--with`.

use super::rootfs::version_of;
use crate::bench::launcher::{Expect, Launcher, find_program};
use crate::bench::payload::Payload;
use crate::bench::subject::{Failure, Kind, Missing, Sample, Subject};
use std::ffi::OsString;
use std::time::Duration;

/// Finds out which words to launch, or why that cannot be.
type Words = Box<dyn FnMut() -> Result<Vec<OsString>, Missing>>;

/// A command that is launched anew each time, always with the same words.
pub struct Command {
    kind: Kind,
    name: String,
    about: String,
    payload: Payload,
    words: Words,
    expect: Expect,
    version: Option<String>,
    asks_version: Option<&'static str>,
    launcher: Option<Launcher>,
    tidy: Option<Box<dyn FnMut()>>,
}

impl Command {
    /// A command that prints what `payload` prints. `words` is called once, when it is to be ready: the path of a
    /// program and its arguments.
    pub fn new(
        kind: Kind,
        name: impl Into<String>,
        about: impl Into<String>,
        payload: &Payload,
        words: impl FnMut() -> Result<Vec<OsString>, Missing> + 'static,
    ) -> Command {
        Command {
            kind,
            name: name.into(),
            about: about.into(),
            payload: payload.clone(),
            words: Box::new(words),
            expect: Expect::of(payload),
            version: None,
            asks_version: None,
            launcher: None,
            tidy: None,
        }
    }

    /// It prints something else.
    pub fn expecting(mut self, expect: Expect) -> Command {
        self.expect = expect;
        self
    }

    /// It is of this version.
    pub fn of_version(mut self, version: impl Into<String>) -> Command {
        self.version = Some(version.into());
        self
    }

    /// `program` tells its version itself; it is asked once everything is ready.
    pub fn of_version_of(mut self, program: &'static str) -> Command {
        self.asks_version = Some(program);
        self
    }

    /// `tidy` removes what a start leaves behind that was cut short.
    pub fn tidied_by(mut self, tidy: impl FnMut() + 'static) -> Command {
        self.tidy = Some(Box::new(tidy));
        self
    }

    fn launch(&mut self, limit: Duration) -> Result<(Sample, Vec<u8>), Failure> {
        let launcher = self.launcher.as_ref().ok_or_else(|| Failure::new("it is not ready"))?;
        let result = launcher.output(limit);
        if let (Err(_), Some(tidy)) = (&result, &mut self.tidy) {
            tidy();
        }
        result
    }
}

impl Subject for Command {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> Kind {
        self.kind
    }

    fn about(&self) -> &str {
        &self.about
    }

    fn command(&self) -> String {
        self.launcher.as_ref().map_or(self.name.clone(), Launcher::command)
    }

    fn version(&self) -> Option<String> {
        self.version.clone()
    }

    fn ready(&mut self) -> Result<(), Missing> {
        let words = (self.words)()?;
        if let Some(program) = self.asks_version {
            self.version = find_program(program).and_then(|program| version_of(&program));
        }
        let launcher = Launcher::new(&words, &[], self.expect.clone(), &self.payload);
        self.launcher = Some(launcher.map_err(|error| Missing::new(error.to_string(), "is it a program?"))?);
        Ok(())
    }

    fn run(&mut self, limit: Duration) -> Result<Sample, Failure> {
        self.launch(limit).map(|(sample, _)| sample)
    }

    fn output(&mut self, limit: Duration) -> Result<Vec<u8>, Failure> {
        self.launch(limit).map(|(_, output)| output)
    }

    fn peak_memory(&mut self, limit: Duration) -> Option<u64> {
        let peak = self.launcher.as_ref()?.peak_memory(limit);
        if let (None, Some(tidy)) = (peak, &mut self.tidy) {
            tidy();
        }
        peak
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::payload::Scratch;
    use crate::bench::subjects;

    const LIMIT: Duration = Duration::from_secs(20);

    fn shell(script: &str, scratch: &Scratch) -> Command {
        let payload = Payload::new("hello", scratch).unwrap();
        let words = ["/bin/sh", "-c", script].map(OsString::from).to_vec();
        let mut command = Command::new(Kind::Custom, "shell", "a shell", &payload, move || Ok(words.clone()));
        command.ready().unwrap();
        command
    }

    #[test]
    fn the_payloads_print_what_their_guests_print() {
        let scratch = Scratch::new().unwrap();
        for name in ["hello", "primes"] {
            let payload = Payload::new(name, &scratch).unwrap();
            assert!(payload.expect.as_ref().is_some_and(|bytes| bytes.ends_with(b"\n")));
            let mut process = subjects::process(&payload);
            process.ready().unwrap();
            let sample = process.run(LIMIT).unwrap();
            assert!(sample.first_byte > Duration::ZERO && sample.first_byte <= sample.reaped);
            let peak = process.peak_memory(LIMIT).unwrap();
            // Recent kernels count pages in batches for each processor: so few are none.
            assert!(peak < 512, "{name} had {peak} KiB");
        }
        let path = scratch.path().to_owned();
        drop(scratch);
        assert!(!path.exists());
    }

    #[test]
    fn a_failure_says_what_was_wrong_and_shows_standard_error() {
        let scratch = Scratch::new().unwrap();
        for (script, why, stderr) in [
            ("echo alas >&2; exit 3", "it ended with status 3", "alas"),
            ("exit 0", "it printed nothing", ""),
            ("echo hi", "it printed \"hi\\n\" instead of \"Hello from", ""),
            ("kill -9 $$", "it was ended by signal 9", ""),
            ("exec yes", "it prints without end", ""),
        ] {
            let failure = shell(script, &scratch).run(LIMIT).unwrap_err();
            assert!(failure.why.starts_with(why), "{script}: {failure:?}");
            assert_eq!(failure.stderr, stderr);
        }
    }

    #[test]
    fn what_hangs_is_killed_with_all_its_children() {
        let scratch = Scratch::new().unwrap();
        let file = scratch.path().join("pid");
        let script = format!("sleep 1000 & echo $! > {}; wait", file.display());
        // Long enough for the shell to begin: on a busy machine that takes as long as it takes.
        let pid = [500, 5000, 50_000].into_iter().find_map(|limit| {
            let limit = Duration::from_millis(limit);
            let failure = shell(&script, &scratch).run(limit).unwrap_err();
            assert_eq!(failure.why, format!("it did not end within {limit:?}"));
            std::fs::read_to_string(&file).ok().filter(|pid| pid.ends_with('\n'))
        });
        let pid = pid.expect("the shell has begun");
        let status = || std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        // Its new parent has yet to reap it.
        let begin = std::time::Instant::now();
        while !status().is_empty() && !status().contains(") Z ") {
            assert!(begin.elapsed() < LIMIT, "it lives on");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_daemon_that_keeps_the_pipe_is_not_waited_for() {
        let scratch = Scratch::new().unwrap();
        let payload = Payload::new("hello", &scratch).unwrap();
        let script = format!("{}; sleep 30 & echo $! >&2", payload.program.display());
        let begin = std::time::Instant::now();
        shell(&script, &scratch).run(LIMIT).unwrap();
        assert!(begin.elapsed() < LIMIT);
    }
}
