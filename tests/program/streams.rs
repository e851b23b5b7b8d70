//! Standard input and output that somebody else made non-blocking, or that take nothing: EAGAIN is no end, and what cannot
//! be written is a failure.

use crate::support::terminal::{Terminal, is_nonblocking, make_nonblocking, nearly_full_pipe, waiting_in};
use crate::support::{CTRL_D, has_kvm, matchstick};
use std::fs::File;
use std::io::{Read, Write};

/// What `echo` says when it is ready.
const READY: &str = "end with Ctrl-D";
/// The smallest pipe.
const PAGE: usize = 4096;

#[test]
fn a_pipe_without_bytes_is_not_one_that_has_ended() {
    if !has_kvm() {
        return;
    }
    let (reader, mut writer) = std::io::pipe().unwrap();
    make_nonblocking(&reader);
    let running = matchstick(["run", "echo"]).stdin(reader).start();
    running.stdout.wait_for(READY);
    for word in ["hello", "again"] {
        writer.write_all(word.as_bytes()).unwrap();
        running.stdout.wait_for(word);
    }
    drop(writer);
    running.end().silent().status(0);
}

#[test]
fn a_terminal_that_was_left_non_blocking_has_keys() {
    if !has_kvm() {
        return;
    }
    for (leave, status) in [(&[1, b'x'][..], 0), (&[CTRL_D], 0)] {
        let mut terminal = Terminal::new();
        make_nonblocking(terminal.line());
        let before = terminal.settings();
        let running = matchstick(["run", "echo"]).on(&terminal).start();
        terminal.screen.wait_for(READY);
        terminal.press(b"hello");
        terminal.screen.wait_for("hello");
        terminal.press(leave);
        running.end().status(status);
        assert_eq!(terminal.settings(), before);
        assert!(is_nonblocking(terminal.line()), "it is whoever made it so who may change it");
    }
}

/// What was typed, whether its text goes to standard output, and what the text has to be.
type Case<'a> = (&'a [&'a str], bool, &'a dyn Fn(&str));

#[test]
fn a_full_pipe_is_waited_for() {
    if !has_kvm() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let story = |text: &str| {
        assert!(
            text.contains("devices, signals and a timer are ready") && text.ends_with("on top).\n"),
            "{text}"
        )
    };
    let json = |text: &str| drop(serde_json::from_str::<serde_json::Value>(text).unwrap());
    let all_options = |text: &str| assert!(text.contains("128+N  ended by signal N"), "{text}");
    let cases: [Case; 6] = [
        (&["host", "--json"], true, &json),
        (&["help", "run"], true, &all_options),
        (&["explain", "kvm", "-l", "en"], true, &|text| assert!(text.lines().count() > 40, "{text}")),
        (&["trace", "--step", "smp"], false, &|text| assert!(text.len() > 4096, "{text}")),
        (&["trace", "hello"], false, &story),
        (&["trace", "smp", "--json", "-o", "/dev/stdout", "-q"], true, &|text| {
            text.lines().filter(|line| line.starts_with('{')).for_each(json);
        }),
    ];
    for (args, to_stdout, check) in cases {
        let (mut reader, writer) = nearly_full_pipe(PAGE);
        make_nonblocking(&writer);
        let program = matchstick(args).directory(dir.path());
        let program = if to_stdout { program.stdout(writer) } else { program.stderr(writer) };
        let running = program.start();
        // Nobody reads before it waits, or everything was written.
        running.wait_until_asleep(|| waiting_in(&reader) > 0);
        let mut text = Vec::new();
        reader.read_to_end(&mut text).unwrap();
        running.end().status(0);
        check(&String::from_utf8_lossy(&text));
    }
}

#[test]
fn what_cannot_be_written_is_said_and_fails() {
    if !has_kvm() {
        return;
    }
    let full = || File::options().write(true).open("/dev/full").unwrap();
    for args in
        [&["host", "--json"][..], &["host"], &["guests"], &["explain"], &["help"], &["--version"], &["run"]]
    {
        let ended = matchstick(args).stdout(full()).run();
        ended.fails(125, "cannot write the output: No space left", "make room where standard output goes");
    }
    for args in [&["trace", "hello"][..], &["trace", "--step", "hello"], &["run", "--timings"]] {
        matchstick(args).stderr(full()).run().status(125).printed("Hello from a virtual machine!\n");
        // Whoever read it has gone.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        matchstick(args).stderr(writer).run().status(141);
    }
}
