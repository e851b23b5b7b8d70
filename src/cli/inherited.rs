//! Descriptors that whoever started us left open: all are closed but those that the command line names.
//!
//! A guest that broke out could read and write them. What is named is a path such as `/dev/fd/63`, which is how a shell
//! hands over `<(COMMAND)`, or what follows `--keep-fd`.

use super::timings;
use crate::sys;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

/// The option of `exec`, as a word.
const KEEP: &str = "--keep-fd";

/// Closes them. To be called before anything is opened.
pub fn close(args: &[OsString]) {
    let mut named: Vec<u32> = args.iter().filter_map(|arg| named(arg.as_bytes())).collect();
    let following = args.iter().zip(args.iter().skip(1)).filter(|(arg, _)| *arg == KEEP);
    named.extend(following.filter_map(|(_, number)| number.to_str()?.parse::<u32>().ok()));
    named.extend(timings::descriptor());
    sys::close_inherited(&mut named);
}

/// The number in `/dev/fd/N`, `/proc/self/fd/N` and their like, if `arg` has such a path in it.
fn named(arg: &[u8]) -> Option<u32> {
    const DIRECTORY: &[u8] = b"/fd/";
    if let Some(number) = arg.strip_prefix(KEEP.as_bytes()).and_then(|rest| rest.strip_prefix(b"=")) {
        return std::str::from_utf8(number).ok()?.parse().ok();
    }
    let at = arg.windows(DIRECTORY.len()).rposition(|part| part == DIRECTORY)?;
    let mut digits = arg.get(at + DIRECTORY.len()..)?.iter().take_while(|byte| byte.is_ascii_digit());
    digits.try_fold(0_u32, |number, digit| number.checked_mul(10)?.checked_add((digit - b'0').into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_is_named_by_its_path() {
        for (arg, number) in [
            ("/dev/fd/63", Some(63)),
            ("--initrd=/proc/self/fd/5", Some(5)),
            ("-i/dev/fd/5", Some(5)),
            ("mine=/bin/cat /dev/fd/7 x", Some(7)),
            ("/dev/fd/99999999999", None),
            ("--keep-fd=9", Some(9)),
            ("--keep-fd=x", None),
            ("hello", None),
            ("5", None),
        ] {
            assert_eq!(named(arg.as_bytes()), number, "{arg}");
        }
    }
}
