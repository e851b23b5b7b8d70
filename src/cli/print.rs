//! Text of ours: what was asked for goes to stdout, and remarks go to stderr.

use super::error::Result;
use crate::error::Error;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;

/// Writes text of ours to stdout.
pub fn print(text: &str) -> Result<u8> {
    stdout()?.write_all(text.as_bytes()).map_err(Error::Output)?;
    Ok(0)
}

/// Standard output on a descriptor of its own: std's has a line buffer, and takes a closed one for success.
pub fn stdout() -> Result<File> {
    let stdout = std::io::stdout().as_fd().try_clone_to_owned().map_err(Error::Output)?;
    Ok(File::from(stdout))
}

/// One line and one hint, on stderr. When even that is gone, there is nobody left to tell.
pub fn complain(line: &str, hint: Option<&str>) {
    let hint = hint.map_or(String::new(), |hint| format!(" hint: {hint}\n"));
    let _ = write!(std::io::stderr(), "{line}\n{hint}");
}
