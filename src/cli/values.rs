//! What the values of options mean: words to numbers, times, sizes and moments.

use crate::boot::Protocol;
#[cfg(feature = "debugger")]
use crate::debugger::Address;
use crate::sandbox::Sandbox;
use crate::x86::ports::READY_FOR_INPUT;
#[cfg(feature = "debugger")]
use lexopt::{Parser, ValueExt};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

/// NAME=VALUE, a variable of an environment.
pub fn variable(word: OsString) -> Result<OsString, String> {
    match word.as_bytes().iter().position(|&byte| byte == b'=') {
        None | Some(0) => Err(format!("{word:?} is no variable: NAME=VALUE is one")),
        Some(_) => Ok(word),
    }
}

/// A number of CPUs.
pub fn count(text: &str) -> Result<u32, &'static str> {
    text.parse().map_err(|_| "a machine has a whole number of CPUs, 1 or more")
}

/// `64` (MiB), `512K`, `64M`, `2G`, `1T`, in bytes.
pub fn size(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.char_indices().last() {
        Some((at, 'k' | 'K')) => (&text[..at], 10),
        Some((at, 'm' | 'M')) => (&text[..at], 20),
        Some((at, 'g' | 'G')) => (&text[..at], 30),
        Some((at, 't' | 'T')) => (&text[..at], 40),
        _ => (text, 20),
    };
    let number: u64 =
        digits.parse().map_err(|_| "a size is a number of MiB, or has K, M, G or T".to_string())?;
    number.checked_mul(1 << shift).ok_or_else(|| "that is more than 64 bits can count".into())
}

/// `strict` or `off`.
pub fn sandbox(text: &str) -> Result<Sandbox, String> {
    match text {
        "strict" => Ok(Sandbox::Strict),
        "off" => Ok(Sandbox::Off),
        _ => Err("a sandbox is strict or off".into()),
    }
}

/// `2` (seconds), `0.5`, `500ms`, `2s`, `3m`.
pub fn time(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.find(|c: char| c.is_ascii_alphabetic()) {
        Some(at) => text.split_at(at),
        None => (text, "s"),
    };
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err("a time is a number of seconds, or has ms, s, m or h".into()),
    };
    let number: f64 = number.parse().map_err(|_| "a time is a number of seconds, or has ms, s, m or h")?;
    match Duration::try_from_secs_f64(number * seconds) {
        Ok(time) if !time.is_zero() => Ok(time),
        _ => Err("a time is more than nothing and less than for ever".into()),
    }
}

/// A protocol's name, or `auto`.
pub fn protocol(text: &str) -> Result<Option<Protocol>, String> {
    match text {
        "auto" => Ok(None),
        name => name
            .parse()
            .map(Some)
            .map_err(|_| "it is one of auto, flat16, flat64, elf, multiboot, pvh, linux".into()),
    }
}

/// `0x12` or `18`, as far as it fits.
fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// When a guest is saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// When it first writes this POST code.
    Post(u8),
    /// After so many exits.
    Exit(u64),
    /// After that time.
    After(Duration),
}

impl Moment {
    /// When a guest says that it is set up, with the POST code for it.
    pub const READY: Moment = Moment::Post(READY_FOR_INPUT);
}

/// `ready`, `post:N`, `exit:N` or a time.
pub fn moment(text: &str) -> Result<Moment, String> {
    let wrong = || format!("{text:?} is no moment: ready, post:N (a byte), exit:N or a time");
    match text.split_once(':') {
        None if text == "ready" => Ok(Moment::READY),
        None => time(text).map(Moment::After).map_err(|_| wrong()),
        Some(("post", code)) => {
            number(code).and_then(|code| u8::try_from(code).ok()).map(Moment::Post).ok_or_else(wrong)
        }
        Some(("exit", count)) => number(count).map(Moment::Exit).ok_or_else(wrong),
        Some(_) => Err(wrong()),
    }
}

/// Where a client is waited for: the value of `--gdb`.
#[cfg(feature = "debugger")]
pub fn address(parser: &mut Parser) -> std::result::Result<Address, lexopt::Error> {
    parser.value()?.parse_with(address_of)
}

/// `1234` or `unix:PATH`.
#[cfg(feature = "debugger")]
fn address_of(text: &str) -> std::result::Result<Address, &'static str> {
    match text.strip_prefix("unix:") {
        Some(path) if !path.is_empty() => Ok(Address::Unix(path.into())),
        _ => text
            .parse()
            .map(Address::Port)
            .map_err(|_| "a debugger calls at a port, 0 to 65535, or at unix:PATH"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_named_in_four_ways_and_no_other() {
        assert_eq!(moment("ready"), Ok(Moment::Post(0xa5)));
        assert_eq!((moment("post:0xa5"), moment("post:7")), (Ok(Moment::Post(0xa5)), Ok(Moment::Post(7))));
        assert_eq!(moment("exit:0"), Ok(Moment::Exit(0)));
        assert_eq!(moment("0.5"), Ok(Moment::After(Duration::from_millis(500))));
        for wrong in ["", "post:", "post:256", "exit:-1", "soon", "entry:3", "post", "0"] {
            assert!(moment(wrong).is_err(), "{wrong}");
        }
    }
}
