//! On a terminal: which keys go where, and that the terminal is given back as it was, however it ends.

use crate::support::image::{Segment, boot_sector, code, crash, elf};
use crate::support::terminal::Terminal;
use crate::support::{CTRL_D, file, has_kvm, matchstick, skip};
use std::fs::{self, OpenOptions};
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

/// What is said when the keys work.
const ANNOUNCEMENT: &str = "the keys go to the guest; Ctrl-a x leaves";
/// What `echo` says when it is ready.
const READY: &str = "end with Ctrl-D";
const CTRL_A: u8 = 0x01;
const CTRL_C: u8 = 0x03;
/// Ctrl-a x
const LEAVE: &[u8] = &[CTRL_A, b'x'];

/// Prints an A and then does nothing for ever, its input included.
fn busy() -> (tempfile::TempDir, std::ffi::OsString) {
    file(&boot_sector(&[code::SERIAL, code::PUT_A, code::LOOP]))
}

#[test]
fn it_says_how_to_leave_and_the_keys_go_to_the_guest() {
    if !has_kvm() {
        return;
    }
    let mut terminal = Terminal::new();
    let before = terminal.settings();
    let running = matchstick(["run", "echo"]).on(&terminal).stderr(Stdio::piped()).start();
    running.stderr.wait_for(ANNOUNCEMENT);
    assert!(before.is_cooked() && !terminal.settings().is_cooked());
    terminal.screen.wait_for(READY);
    // The terminal does not echo any more: what shows comes from the guest.
    terminal.press(b"hello");
    terminal.screen.wait_for("hello");
    terminal.press(&[CTRL_C, b'.']);
    terminal.screen.wait_for("\x03.");
    terminal.press(&[CTRL_D]);
    let ended = running.end();
    ended.status(0);
    assert_eq!(ended.stderr, format!("{ANNOUNCEMENT}\n"));
    assert_eq!(terminal.settings(), before);
}

/// Runs from a golden image that is larger than what is copied, on a terminal, and shortens the image.
#[test]
fn an_image_that_becomes_shorter_under_its_machine_is_an_error_and_gives_the_terminal_back() {
    if !has_kvm() {
        return;
    }
    // Says 42 at the POST port, prints an A, waits for a byte, and goes on 96 KiB further up.
    let mut sector = vec![0x90; 0x2_0000];
    let code = [
        &[0xb0, 0x42, 0xe6, 0x80, 0xba, 0xf8, 0x03, 0xb0, b'A', 0xee, 0xba, 0xfd, 0x03][..],
        &[0xec, 0xa8, 0x01, 0x74, 0xfb, 0xea, 0x00, 0x00, 0x00, 0x20],
    ]
    .concat();
    sector[..code.len()].copy_from_slice(&code);
    sector[510..512].copy_from_slice(&[0x55, 0xaa]);
    let (dir, path) = file(&sector);
    let golden = dir.path().join("golden.ms");
    let snapshot = matchstick(["snapshot".as_ref(), path.as_os_str(), "--at".as_ref(), "post:0x42".as_ref()]);
    snapshot.args(["-o".as_ref(), golden.as_os_str()]).run().status(0);
    let mut terminal = Terminal::new();
    let before = terminal.settings();
    let running = matchstick(["run".as_ref(), golden.as_os_str()]).on(&terminal).start();
    terminal.screen.wait_for("A");
    assert!(!terminal.settings().is_cooked());
    OpenOptions::new().write(true).open(&golden).unwrap().set_len(8192).unwrap();
    // Its code is gone, and so it may have ended before the key comes.
    terminal.press(b"x");
    running.end().status(126);
    terminal.screen.wait_for("a file became shorter while it was in use");
    assert_eq!(terminal.settings(), before);
}

/// Enter is a carriage return, which alone would let the next line overwrite this one.
#[test]
fn enter_begins_a_new_line_and_backspace_takes_a_letter_away() {
    if !has_kvm() {
        return;
    }
    let mut terminal = Terminal::new();
    let running = matchstick(["run", "echo"]).on(&terminal).start();
    terminal.screen.wait_for(READY);
    terminal.press(b"one\rtwo\x7f");
    terminal.screen.wait_for("one\r\ntwo\x08 \x08");
    terminal.press(&[CTRL_D]);
    running.end().status(0);
}

#[test]
fn a_guest_that_says_nothing_is_explained_after_a_second_where_someone_waits() {
    if !has_kvm() {
        return;
    }
    // mov ax, 0xb800; mov es, ax; mov word [es:0], H; jmp $
    let screen = [0xb8, 0x00, 0xb8, 0x8e, 0xc0, 0x26, 0xc7, 0x06, 0x00, 0x00, b'H', 0x07];
    let (_dir, path) = file(&boot_sector(&[&screen, code::LOOP]));
    let run = || matchstick(["run".as_ref(), path.as_os_str()]);
    let mut terminal = Terminal::new();
    let running = run().on(&terminal).start();
    terminal.screen.wait_for(
        "has written nothing yet: it writes to a VGA screen at 0xb8000, and there is none: \"H\"; a byte that is written to \
         port 0x3f8 is shown",
    );
    terminal.press(&[CTRL_A, b'x']);
    running.end().status(0);
    let said = String::from_utf8_lossy(&terminal.screen.so_far()).matches("has written nothing").count();
    assert_eq!(said, 1);

    // Nobody waits before a pipe, and -q means no remarks.
    let ended = run().args(["--timeout", "1.2"]).run();
    assert!(ended.status == Some(124) && !ended.stderr.contains("nothing yet"), "{ended:?}");
    let terminal = Terminal::new();
    let running = run().args(["-q", "--timeout", "1.2"]).on(&terminal).start();
    running.end().status(124);
    assert!(!String::from_utf8_lossy(&terminal.screen.so_far()).contains("nothing yet"));
}

#[test]
fn a_linux_that_will_take_long_says_so() {
    if !has_kvm() {
        return;
    }
    if !Path::new("/sys/module/kvm_pvm").exists() {
        return skip("this host's KVM runs kernels as fast as others");
    }
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("init"), "").unwrap();
    // jmp to itself: as far as Linux comes in a second.
    let code = Segment { address: 0x10_0000, bytes: b"\xeb\xfe", size: 2 };
    let (_dir, kernel) = file(&elf(code.address, &[code]));
    let mut terminal = Terminal::new();
    let running = matchstick(["run".as_ref(), "-k".as_ref(), kernel.as_os_str()])
        .args(["--rootfs".as_ref(), root.path().as_os_str()])
        .on(&terminal)
        .start();
    terminal
        .screen
        .wait_for("has written nothing yet: this host's KVM, kvm_pvm, emulates each instruction of a kernel");
    terminal.press(&[CTRL_A, b'x']);
    running.end().status(0);
}

#[test]
fn ctrl_a_twice_sends_one_and_ctrl_a_x_leaves() {
    if !has_kvm() {
        return;
    }
    let mut terminal = Terminal::new();
    let before = terminal.settings();
    let running = matchstick(["run", "echo"]).on(&terminal).start();
    terminal.screen.wait_for(READY);
    terminal.press(&[b'[', CTRL_A, CTRL_A, b']']);
    terminal.screen.wait_for("[\x01]");
    // What is no command of ours goes to the guest, with its Ctrl-a.
    terminal.press(&[CTRL_A, b'z']);
    terminal.screen.wait_for("\x01z");
    // One key at a time, as fingers do it.
    terminal.press(&[CTRL_A]);
    thread::sleep(Duration::from_millis(20));
    terminal.press(b"x");
    running.end().status(0);
    assert_eq!(terminal.settings(), before);
}

/// A guest that looks at the line status until it sees a break (bit 4), and then prints an A.
#[test]
fn ctrl_a_b_sends_a_break() {
    if !has_kvm() {
        return;
    }
    let wait = [0xba, 0xfd, 0x03, 0xec, 0xa8, 0x10, 0x74, 0xfb];
    let sector =
        boot_sector(&[code::SERIAL, &[0xb0, b'?', 0xee], &wait, code::SERIAL, code::PUT_A, &code::exit(9)]);
    let (_dir, path) = file(&sector);
    let mut terminal = Terminal::new();
    let running = matchstick(["run".into(), path]).on(&terminal).start();
    terminal.screen.wait_for("?");
    terminal.press(&[CTRL_A, b'b']);
    terminal.screen.wait_for("A");
    running.end().status(9);
}

#[test]
fn one_can_leave_a_guest_that_does_not_listen() {
    if !has_kvm() {
        return;
    }
    let (_dir, path) = busy();
    let mut terminal = Terminal::new();
    let before = terminal.settings();
    let running = matchstick(["run"]).args([path]).on(&terminal).start();
    terminal.screen.wait_for("A");
    terminal.press(b"is anybody there?");
    terminal.press(LEAVE);
    let ended = running.end();
    ended.status(0);
    assert!(ended.took < Duration::from_secs(5), "it took {:?}", ended.took);
    assert_eq!(terminal.settings(), before);
}

#[test]
fn one_can_leave_after_more_keys_than_it_will_ever_read() {
    if !has_kvm() {
        return;
    }
    let (_dir, path) = busy();
    let mut terminal = Terminal::new();
    let before = terminal.settings();
    let running = matchstick(["run"]).args([path]).on(&terminal).start();
    terminal.screen.wait_for("A");
    for _ in 0..300 {
        terminal.press(&[b'y'; 1000]);
    }
    terminal.press(LEAVE);
    running.end().status(0);
    assert_eq!(terminal.settings(), before);
}

#[test]
fn one_can_leave_a_flood() {
    if !has_kvm() {
        return;
    }
    let (_dir, path) = file(&boot_sector(&[code::SERIAL, code::PUT_A, &[0xeb, 0xfd]]));
    let mut terminal = Terminal::new();
    let before = terminal.settings();
    let running = matchstick(["run"]).args([path]).on(&terminal).start();
    terminal.screen.wait_for("AAAAAAAA");
    terminal.press(LEAVE);
    running.end().status(0);
    assert_eq!(terminal.settings(), before);
}

#[test]
fn the_terminal_is_given_back_after_every_end() {
    if !has_kvm() {
        return;
    }
    for (args, status) in [
        (&["run", "hello"][..], 0),
        (&["run", "-q", "hello"], 0),
        (&["run", "--timings", "hello"], 0),
        (&["run", "fault", "--", "triple"], 123),
        (&["run", "echo", "--timeout", "0.1"], 124),
        (&["run", "nonsense"], 127),
        (&["run", "-m", "0"], 125),
    ] {
        let terminal = Terminal::new();
        let before = terminal.settings();
        matchstick(args).on(&terminal).run().status(status);
        assert_eq!(terminal.settings(), before, "{args:?}");
        assert!(!String::from_utf8_lossy(&terminal.screen.so_far()).contains("panicked"), "{args:?}");
    }
    // An error while it is raw.
    let terminal = Terminal::new();
    let before = terminal.settings();
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    matchstick(["run", "hello"]).on(&terminal).stdout(full).run().status(125);
    assert_eq!(terminal.settings(), before);
}

#[test]
fn the_terminal_is_given_back_after_a_signal() {
    if !has_kvm() {
        return;
    }
    for options in [&[][..], &["--timings"]] {
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT] {
            let (_dir, path) = busy();
            let terminal = Terminal::new();
            let before = terminal.settings();
            let running = matchstick(["run"]).args(options).args([path]).on(&terminal).start();
            terminal.screen.wait_for("A");
            assert!(!terminal.settings().is_cooked());
            running.signal(signal);
            running.end().killed_by(signal);
            assert_eq!(terminal.settings(), before, "{options:?}, signal {signal}");
        }
    }
}

#[test]
fn the_terminal_is_given_back_after_a_crash_of_ours() {
    if !has_kvm() {
        return;
    }
    for signal in [libc::SIGSEGV, libc::SIGBUS, libc::SIGABRT] {
        let (_dir, path) = busy();
        let terminal = Terminal::new();
        let before = terminal.settings();
        let running = matchstick(["run"]).args([path]).on(&terminal).stderr(Stdio::piped()).start();
        terminal.screen.wait_for("A");
        running.signal(signal);
        let ended = running.end();
        ended.status(125).says("error: matchstick crashed");
        assert_eq!(terminal.settings(), before, "signal {signal}");
    }
}

#[test]
fn a_guest_on_a_terminal_can_be_stopped_and_goes_on() {
    if !has_kvm() {
        return;
    }
    let mut terminal = Terminal::new();
    let before = terminal.settings();
    let running = matchstick(["run", "echo"]).on(&terminal).start();
    terminal.screen.wait_for(READY);
    for round in ["once", "twice"] {
        running.signal(libc::SIGSTOP);
        running.wait_until_stopped();
        terminal.press(round.as_bytes());
        running.signal(libc::SIGCONT);
        terminal.screen.wait_for(round);
    }
    terminal.press(&[CTRL_D]);
    running.end().status(0);
    assert_eq!(terminal.settings(), before);
}

#[test]
fn it_does_not_outlive_its_terminal() {
    if !has_kvm() {
        return;
    }
    for options in [&[][..], &["--timings"]] {
        let (_dir, path) = busy();
        let terminal = Terminal::without_screen();
        let program = matchstick(["run"]).args(options).args([path]).on(&terminal);
        let running = program.stdout(Stdio::piped()).stderr(Stdio::piped()).start();
        running.stdout.wait_for("A");
        drop(terminal);
        running.end().killed_by(libc::SIGHUP);
    }
}

#[test]
fn quiet_does_not_say_how_to_leave() {
    if !has_kvm() {
        return;
    }
    let terminal = Terminal::new();
    matchstick(["run", "-q", "hello"]).on(&terminal).run().status(0);
    terminal.screen.wait_for("Hello from a virtual machine!");
    assert!(!String::from_utf8_lossy(&terminal.screen.so_far()).contains("Ctrl-a"));
}

#[test]
fn output_may_go_elsewhere() {
    if !has_kvm() {
        return;
    }
    // Only standard input decides whether there are keys.
    let mut terminal = Terminal::new();
    let running = matchstick(["run", "echo"]).on(&terminal).stdout(Stdio::piped()).start();
    running.stdout.wait_for(READY);
    terminal.press(b"to a pipe");
    running.stdout.wait_for("to a pipe");
    terminal.press(&[CTRL_D]);
    running.end().status(0);
}

/// What a full-screen program sends first: alternate screen, no cursor, mouse, pastes in brackets, colours, lines.
const TAKEN: &str = "\x1b[?1049h\x1b[?25l\x1b[?1000;1006h\x1b[?2004h\x1b[31m\x1b(0";
/// What takes it back.
const GIVEN_BACK: &str = "\x1b[?1049l\x1b[?25h\x1b[?1000l\x1b[?1006l\x1b[?2004l\x1b(B\x1b)B\x0f\x1b[0m";

/// Prints [`TAKEN`] and goes on with `then`.
fn full_screen(then: &[u8]) -> Vec<u8> {
    let out = |byte: u8| [0xb0, byte, 0xee];
    let text: Vec<u8> = TAKEN.bytes().flat_map(out).collect();
    boot_sector(&[code::SERIAL, &text, then])
}

#[test]
fn the_screen_is_given_back_after_every_end() {
    if !has_kvm() {
        return;
    }
    let go_on = [code::PUT_A, code::LOOP].concat();
    for (args, image, status) in [
        (&["run"][..], full_screen(&code::exit(0)), 0),
        (&["run"], full_screen(code::HALT), 0),
        (&["run", "--boot", "flat64"], crash(TAKEN.as_bytes(), 1), 123),
        (&["run", "--sandbox", "off"], full_screen(&code::exit(3)), 3),
        (&["run", "--timeout", "0.2"], full_screen(code::LOOP), 124),
        (&["run", "--max-output", "1K"], full_screen(&[0xb0, b'A', 0xee, 0xeb, 0xfd]), 120),
        (&["trace", "-o", "/dev/null"], full_screen(&code::exit(3)), 3),
        (&["run", "--timings"], full_screen(&code::exit(3)), 3),
        (&["snapshot", "-o", "/dev/null"], full_screen(&code::exit(3)), 125),
    ] {
        let (dir, path) = file(&image);
        let terminal = Terminal::new();
        let mut args = args.to_vec();
        let golden = dir.path().join("golden.ms").display().to_string();
        if args[0] == "snapshot" {
            args[2] = &golden;
        }
        let ended = matchstick(args.iter().map(std::ffi::OsStr::new).chain([path.as_os_str()]));
        ended.on(&terminal).run().status(status);
        terminal.screen.wait_for(GIVEN_BACK);
        let shown = String::from_utf8(terminal.screen.so_far()).unwrap();
        // Once, and what we have to say is on the user's screen.
        let (before, after) = shown.split_once(GIVEN_BACK).unwrap();
        assert!(
            before.contains(TAKEN) && !before.contains("error") && !after.contains('\x1b'),
            "{args:?}: {shown:?}"
        );
    }
    for end in [Some(libc::SIGTERM), Some(libc::SIGSEGV), Some(libc::SIGABRT), None] {
        let (_dir, path) = file(&full_screen(&go_on));
        let mut terminal = Terminal::new();
        let running = matchstick(["run"]).args([path]).on(&terminal).start();
        terminal.screen.wait_for("\x1b(0A");
        match end {
            Some(signal) => running.signal(signal),
            None => terminal.press(LEAVE),
        }
        running.end();
        terminal.screen.wait_for(GIVEN_BACK);
    }
}

#[test]
fn nothing_is_added_to_output_that_no_terminal_shows_or_that_changes_none() {
    if !has_kvm() {
        return;
    }
    let (_dir, path) = file(&full_screen(&code::exit(0)));
    matchstick(["run"]).args([&path]).run().status(0).printed(TAKEN);
    let terminal = Terminal::new();
    matchstick(["run", "hello"]).on(&terminal).stderr(Stdio::null()).run().status(0);
    assert!(!terminal.screen.so_far().contains(&0x1b));
    // The input is the terminal's, and the output another's.
    let terminal = Terminal::new();
    matchstick(["run"]).args([path]).on(&terminal).stdout(Stdio::piped()).run().status(0).printed(TAKEN);
    assert!(!terminal.screen.so_far().contains(&0x1b));
}
