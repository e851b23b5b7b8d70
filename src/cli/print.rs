//! Text of ours: what was asked for goes to stdout, and remarks go to stderr.

use super::error::Result;
use super::korean::say;
use super::terminal::Terminal;
use crate::error::{self, Error};
use crate::sys;
use crate::text::{one_line, plain};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;

/// Writes text of ours to stdout, in ASCII if the locale knows no more. What a terminal would obey in it, from whoever's
/// name, is spelled out.
pub fn print(text: &str) -> Result<u8> {
    print_drawn(&Terminal::of_locale().fit(&plain(text)))
}

/// The same for what a program is to read: its characters stay what they are.
pub fn print_data(text: &str) -> Result<u8> {
    print_drawn(&plain(text))
}

/// The same for text that was drawn for a terminal ([`Terminal::finish`](super::terminal::Terminal::finish)).
pub fn print_drawn(text: &str) -> Result<u8> {
    sys::write_all(io::stdout(), text.as_bytes()).map_err(Error::Output)?;
    Ok(0)
}

/// The same as `print` on stderr, where the guest has stdout. It holds nothing that a terminal would obey.
pub fn tell_beside(text: &str) -> error::Result<()> {
    print_beside(&Terminal::of_locale().fit(text))
}

/// Writes what was asked for to stderr, as it is.
pub fn print_beside(text: &str) -> error::Result<()> {
    let failed = |source| Error::Export { path: "standard error".into(), source };
    sys::write_all(io::stderr(), text.as_bytes()).map_err(failed)
}

/// Standard output for a guest. What that changes of a terminal is given back at the end
/// ([`sys::restore_terminal`]).
pub struct GuestOutput {
    stdout: File,
    /// How many bytes of those that come next were followed already.
    followed: usize,
}

impl GuestOutput {
    /// It has a descriptor of its own: std's standard output has a line buffer, and takes a closed one for success.
    pub fn new() -> Result<GuestOutput> {
        let stdout = io::stdout().as_fd().try_clone_to_owned().map_err(Error::Output)?;
        Ok(GuestOutput { stdout: File::from(stdout), followed: 0 })
    }
}

impl Write for GuestOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Before they are written: a signal may come right after that. What is not written now comes again.
        sys::follow_output(bytes.get(self.followed..).unwrap_or_default());
        self.followed = bytes.len();
        let count = self.stdout.write(bytes)?;
        self.followed -= count;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One line and one hint, on stderr; whatever names are in the line, it is one. When even that is gone, there is nobody
/// left to tell.
pub fn complain(line: &str, hint: Option<&str>) {
    let line = match line.split_once("error: ") {
        Some(("", what)) => format!("{}: {}", say("error"), say(what)),
        _ => say(line).into_owned(),
    };
    let hint = hint.map_or(String::new(), |hint| format!("{}: {}\n", say(" hint"), say(hint)));
    // A name in it stays what it is.
    let text = Terminal::of_locale().spell(&format!("{}\n{hint}", one_line(&line)));
    let _ = sys::write_all(io::stderr(), text.as_bytes());
}
