//! What the kernel is told: its command line.
//!
//! Words are apart by white space; what follows `--` goes to the first program. Sources: Linux,
//! Documentation/admin-guide/kernel-parameters.txt; for what its parser makes of quotes, lib/cmdline.c (next_arg) and
//! kernel/params.c (parse_args).

use super::Options;
use super::error::{LinuxError, Result};
use super::userland::Userland;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// What every kernel is told. Its console is the serial port, with RTS lowered when its buffers are full, so that
/// nothing is lost of what comes faster than any line (`r`). A panic is a warm reboot, by which it can be told
/// from any other. The kernel does not test its cryptography first: that is most of the start of a distribution's.
const CMDLINE: &str = "console=ttyS0,115200n8r panic=-1 reboot=panic_warm cryptomgr.notests";
/// Added if the first program is ours: ftrace does not look for weak functions, those that another one replaces. The
/// search is a fifth of a distribution's start. Without it the list of functions that can be traced has such functions
/// too, and the kernel warns in its log of the first one.
const NO_WEAK_FUNCTIONS: &str = "initcall_blacklist=ftrace_check_for_weak_functions";
/// Added if the kernel is there to run programs: its own messages do not mix with theirs. That leaves out a panic
/// as well; a level of 1 would show it, but also "reboot: Power down" at the end.
const QUIET: &str = "loglevel=0";
/// Added if there is less memory than [`LITTLE`]: tracefs is left out, whose directories for events take nine megabytes.
/// Without them a distribution's kernel starts in 64 MiB, and with them it does not.
const NO_TRACEFS: &str = "initcall_blacklist=tracer_init_tracefs";
const LITTLE: u64 = 128 << 20;

/// The command line of a kernel for `userland`: ours, then the user's, whose word counts where they differ; or the
/// user's alone.
///
/// # Errors
/// [`LinuxError::Word`] and [`LinuxError::Words`] for ARGS that the kernel has no way to hand over.
pub fn cmdline(options: &Options, userland: &Userland) -> Result<Vec<u8>> {
    // What the kernel does not know and has no dot before its `=` becomes its first program's environment.
    let term = options.terminal.as_deref().filter(|name| is_plain(name)).unwrap_or("dumb");
    let term = format!("TERM={term}");
    let init = userland.init.map(|path| format!("rdinit={path}"));
    let mut words: Vec<&[u8]> = Vec::new();
    if options.cmdline_only.is_none() {
        words.push(CMDLINE.as_bytes());
        words.extend(userland.is_ours.then_some(NO_WEAK_FUNCTIONS.as_bytes()));
        words.extend(options.quiet.then_some(QUIET.as_bytes()));
        words.extend((options.memory < LITTLE).then_some(NO_TRACEFS.as_bytes()));
        words.push(term.as_bytes());
        words.extend(init.as_ref().map(|word| word.as_bytes()));
    }
    words.extend(options.cmdline_only.iter().chain(&options.cmdline).map(|text| text.as_bytes()));
    let args = userland.args.iter().map(|word| quoted(word)).collect::<Result<Vec<_>>>()?;
    let is_apart = |text: &OsString| text.as_bytes().split(is_space).any(|word| word == b"--");
    let ends_with_args = options.cmdline_only.iter().chain(&options.cmdline).any(is_apart);
    if args.len() > ARGS_MAX {
        return Err(LinuxError::Words { count: args.len(), limit: ARGS_MAX });
    }
    // A second `--` would end the list.
    if !args.is_empty() && !ends_with_args {
        words.push(b"--");
    }
    words.extend(args.iter().map(Vec::as_slice));
    Ok(words.join(&b' '))
}

/// The most words that the kernel hands to its first program; with one more it panics (CONFIG_INIT_ENV_ARG_LIMIT is 32,
/// the program's name among them).
const ARGS_MAX: usize = 31;

/// What separates words for the kernel: white space as it has it (lib/ctype.c), a no-break space of Latin-1 included,
/// which is a part of many a letter in UTF-8.
fn is_space(byte: &u8) -> bool {
    matches!(byte, 9..=13 | b' ' | 0xa0)
}

/// `word` such that the kernel takes it as one and hands it over as it is.
fn quoted(word: &OsStr) -> Result<Vec<u8>> {
    let bytes = word.as_bytes();
    let refused = |why| Err(LinuxError::Word { word: word.to_owned(), why });
    if bytes.contains(&b'"') {
        return refused("its parser takes quotes away, and knows no way to keep one");
    }
    if bytes == b"--" {
        return refused("it ends the list of words");
    }
    match bytes.is_empty() || bytes.iter().any(is_space) {
        true => Ok([b"\"", bytes, b"\""].concat()),
        false => Ok(bytes.to_vec()),
    }
}

/// Whether it is a word that the kernel takes as one.
fn is_plain(word: &str) -> bool {
    !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "-+._".contains(c))
}

/// Whether a kernel with this command line shows no message at all, not even that of a panic: `loglevel=0`, of which the
/// last one counts.
pub fn is_silent(cmdline: &[u8]) -> bool {
    let words = cmdline.split(is_space).take_while(|word| *word != b"--");
    words.filter_map(|word| word.strip_prefix(b"loglevel=")).last() == Some(b"0")
}

/// Whether a kernel with this command line does a warm reset when it panics, and at no other time.
///
/// `reboot=` takes a list, of which a word's first letter counts, after `panic_` for panics; the last word on a thing
/// wins (Linux, kernel/reboot.c).
pub fn tells_panic(cmdline: &[u8]) -> bool {
    let (mut always, mut at_panic) = (false, false);
    let words = cmdline.split(|byte| byte.is_ascii_whitespace());
    for values in words.take_while(|word| *word != b"--").filter_map(|word| word.strip_prefix(b"reboot=")) {
        for value in values.split(|byte| *byte == b',') {
            let (mode, letter) = match value.strip_prefix(b"panic_") {
                Some(rest) => (&mut at_panic, rest.first()),
                None => (&mut always, value.first()),
            };
            match letter {
                Some(b'w') => *mode = true,
                // Cold, hard, soft, by a pin.
                Some(b'c' | b'h' | b's' | b'g') => *mode = false,
                _ => {}
            }
        }
    }
    at_panic && !always
}

#[cfg(test)]
mod tests {
    use super::super::userland::userland;
    use super::*;
    use std::fs;

    /// The command line for a root file system that is made here.
    fn line(options: &Options) -> String {
        String::from_utf8(cmdline(options, &userland(options).unwrap()).unwrap()).unwrap()
    }

    /// The same for a kernel that is given, and no initramfs of ours.
    fn line_of_given(options: &Options) -> String {
        String::from_utf8(cmdline(options, &Userland::given(None, options)).unwrap()).unwrap()
    }

    #[test]
    fn the_users_words_come_after_ours_and_those_for_init_last() {
        let none = Options::default();
        assert_eq!(line_of_given(&none), format!("{CMDLINE} TERM=dumb"));
        let quiet = Options { quiet: true, ..Options::default() };
        assert_eq!(line(&quiet), format!("{CMDLINE} {NO_WEAK_FUNCTIONS} {QUIET} TERM=dumb"));
        let options = Options {
            cmdline: Some("maxcpus=1".into()),
            args: vec!["echo".into(), "now".into()],
            terminal: Some("xterm-256color".into()),
            ..quiet
        };
        assert_eq!(
            line(&options),
            format!("{CMDLINE} {NO_WEAK_FUNCTIONS} {QUIET} TERM=xterm-256color maxcpus=1 -- echo now")
        );
        let strange = Options { terminal: Some("x panic=0".into()), ..none };
        assert_eq!(line_of_given(&strange), format!("{CMDLINE} TERM=dumb"));
        let with = |memory| Options { memory, ..Options::default() };
        assert_eq!(line_of_given(&with(LITTLE)), format!("{CMDLINE} TERM=dumb"));
        assert_eq!(line_of_given(&with(LITTLE - 1)), format!("{CMDLINE} {NO_TRACEFS} TERM=dumb"));
    }

    /// What the kernel's own parser makes of what follows `--`: next_arg and parse_args, read closely.
    fn as_the_kernel_reads_it(line: &str) -> Vec<String> {
        let mut rest: Vec<u8> = line.bytes().collect();
        let mut words = Vec::new();
        loop {
            let begin = rest.iter().position(|byte| !is_space(byte)).unwrap_or(rest.len());
            rest.drain(..begin);
            if rest.is_empty() {
                return words;
            }
            let is_quoted = rest[0] == b'"';
            if is_quoted {
                rest.remove(0);
            }
            let mut in_quote = is_quoted;
            let mut end = 0;
            while end < rest.len() && (in_quote || !is_space(&rest[end])) {
                in_quote ^= rest[end] == b'"';
                end += 1;
            }
            let mut word: Vec<u8> = rest.drain(..end).collect();
            if is_quoted && word.last() == Some(&b'"') {
                word.pop();
            }
            let word = String::from_utf8(word).unwrap();
            if word == "--" {
                return words;
            }
            words.push(word);
        }
    }

    #[test]
    fn words_for_the_first_program_arrive_one_by_one_or_are_refused() {
        let with = |args: &[&str]| {
            let options = Options { args: args.iter().map(Into::into).collect(), ..Options::default() };
            cmdline(&options, &Userland::given(None, &options)).map(|line| String::from_utf8(line).unwrap())
        };
        for args in [
            &["two  words", "tab\there", "line\nend", "", "a=b c", "=", "'single'", "-a", "---", "한국 어"][..],
            // One letter whose last byte is a no-break space of Latin-1.
            &["\u{c4a0}", "x"],
            &["a"; ARGS_MAX],
        ] {
            let line = with(args).unwrap();
            let (_, told) = line.split_once(" -- ").unwrap();
            assert_eq!(as_the_kernel_reads_it(told), args);
        }
        for (args, why) in [
            (&["q\"q"][..], "Linux cannot be told \"q\\\"q\": its parser takes quotes away"),
            (&["a", "--", "b"], "Linux cannot be told \"--\": it ends the list of words"),
            (&["a"; ARGS_MAX + 1], "Linux cannot be told 32 words: it hands over 31 at most"),
        ] {
            let error = with(args).unwrap_err().to_string();
            assert!(error.starts_with(why), "{error}");
        }
    }

    #[test]
    fn there_is_one_mark_before_the_words_for_the_first_program() {
        let options = Options {
            cmdline_only: Some("quiet -- one".into()),
            args: vec!["two".into()],
            ..Options::default()
        };
        assert_eq!(line_of_given(&options), "quiet -- one two");
    }

    #[test]
    fn nothing_is_added_to_a_command_line_that_is_the_only_one() {
        let only = |text: &str| Options {
            cmdline_only: Some(text.into()),
            terminal: Some("vt100".into()),
            ..Options::default()
        };
        assert_eq!(line(&only("console=ttyS0")), "console=ttyS0");
        assert_eq!(line(&Options { args: vec!["echo".into()], ..only("quiet") }), "quiet -- echo");
        assert_eq!(line(&only("")), "");
    }

    #[test]
    fn a_kernel_is_silent_at_a_level_of_zero() {
        assert!(is_silent(b"quiet loglevel=7 loglevel=0 -- loglevel=1"));
        for not in ["", "loglevel=0 loglevel=7", "-- loglevel=0", "loglevel=01", "xloglevel=0"] {
            assert!(!is_silent(not.as_bytes()), "{not}");
        }
    }

    #[test]
    fn a_panic_is_told_where_only_a_panic_resets_warm() {
        for told in
            [CMDLINE, "reboot=panic_warm", "a reboot=panic_w,triple b", "reboot=warm reboot=cold,panic_warm"]
        {
            assert!(tells_panic(told.as_bytes()), "{told}");
        }
        for not in [
            "",
            "reboot=warm",
            "noreboot=panic_warm",
            "panic_warm",
            "reboot=panic_cold",
            "-- reboot=panic_warm",
            "reboot=panic_warm,warm",
            "reboot=panic_warm reboot=w",
            "reboot=panic_warm reboot=panic_cold",
        ] {
            assert!(!tells_panic(not.as_bytes()), "{not}");
        }
    }

    #[test]
    fn a_directory_brings_its_own_init_or_gets_ours_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let with = |init: Option<&str>| {
            let options =
                Options { rootfs: Some(root.into()), init: init.map(Into::into), ..Options::default() };
            line(&options)
        };
        assert!(with(Some("bin/sh")).ends_with(" rdinit=/.matchstick/init"));
        fs::create_dir(root.join("sbin")).unwrap();
        fs::write(root.join("sbin/init"), "").unwrap();
        assert!(with(None).ends_with(" rdinit=/sbin/init"));
        fs::write(root.join("init"), "").unwrap();
        assert!(!with(None).contains("rdinit"));
        assert!(with(Some("bin/sh")).ends_with(" rdinit=/.matchstick/init"));
    }
}
