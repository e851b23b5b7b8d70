//! The run loop as a user sees it: output, input, ends and signals, with images of a few instructions.

use crate::support::image::{boot_sector, code, crash};
use crate::support::terminal::{make_nonblocking, nearly_full_pipe};
use crate::support::{CTRL_D, Ended, Program, file, has_kvm, matchstick};
use std::fs::File;
use std::io::Read;
use std::thread;
use std::time::Duration;

/// SIGHUP, SIGINT, SIGTERM: libc::SIG*, in one place for the tables below.
const SIGNALS: [i32; 3] = [libc::SIGHUP, libc::SIGINT, libc::SIGTERM];

/// `REP OUTSB`, `REP INSB`.
const REP_OUTSB: &[u8] = &[0xf3, 0x6e];
const REP_INSB: &[u8] = &[0xf3, 0x6c];
/// Where [`with_data`] puts its data.
const DATA: u16 = 0x7e00;

/// A program with `image` as its guest; the files live as long as the first part.
fn program(image: &[u8], options: &[&str]) -> (tempfile::TempDir, Program) {
    let (dir, path) = file(image);
    let program = matchstick(["run"]).args(options).args([path]);
    (dir, program)
}

fn run(image: &[u8], options: &[&str]) -> Ended {
    let (_dir, program) = program(image, options);
    program.run()
}

/// A boot sector with data right behind it.
fn with_data(code: &[&[u8]], data: &[u8]) -> Vec<u8> {
    [&boot_sector(code), data].concat()
}

/// Bytes of which no two neighbours within 251 are alike.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n % 251) as u8).collect()
}

/// The low bytes of the numbers from `count` to 1.
fn down_from(count: u16) -> Vec<u8> {
    (1..=count).rev().map(|n| n as u8).collect()
}

/// Prints an A and then does nothing for ever.
fn busy() -> Vec<u8> {
    boot_sector(&[code::SERIAL, code::PUT_A, code::LOOP])
}

#[test]
fn a_written_status_is_the_exit_status() {
    if !has_kvm() {
        return;
    }
    for status in [0, 1, 42, 255] {
        run(&boot_sector(&[&code::exit(status)]), &[]).silent().status(status.into());
        run(&boot_sector(&[&code::exit(status)]), &["-v"]).status(status.into()).says("ended with status");
    }
    // A string to the exit port: the first byte ends it.
    let string = [&[0xba, 0xf4, 0x00], &code::count(3)[..], &code::from(DATA), REP_OUTSB];
    run(&with_data(&string, &[5, 6, 7]), &[]).silent().status(5);
}

#[test]
fn a_halt_for_good_is_an_end() {
    if !has_kvm() {
        return;
    }
    let image = boot_sector(&[code::SERIAL, code::PUT_A, code::HALT]);
    let ended = run(&image, &[]);
    ended.status(0).printed("A").says("halted with interrupts off\n hint: a write to port 0xf4");
    assert!(ended.took < Duration::from_secs(3), "it took {:?}", ended.took);
    run(&image, &["-q"]).status(0).printed("A").silent();
}

#[test]
fn a_reset_has_a_status_of_its_own() {
    if !has_kvm() {
        return;
    }
    // mov al, 0xfe; out 0x64, al
    let image = boot_sector(&[code::SERIAL, code::PUT_A, &[0xb0, 0xfe, 0xe6, 0x64], code::LOOP]);
    run(&image, &[]).status(122).printed("A").says("asked for a reset");
}

#[test]
fn what_was_printed_before_a_crash_is_not_lost() {
    if !has_kvm() {
        return;
    }
    let expected = [pattern(600), down_from(3000)].concat();
    let ended = run(&crash(&pattern(600), 3000), &["--boot", "flat64"]);
    ended.status(123).printed(expected).says("error: guest crashed: triple fault").says("last exits");
}

#[test]
fn time_ends_a_guest_that_does_not() {
    if !has_kvm() {
        return;
    }
    for options in [&["--timeout", "0.2"][..], &["-q", "--timeout=200ms"]] {
        let ended = run(&busy(), options);
        ended.status(124).printed("A").says("did not end within its time");
        assert!(ended.took >= Duration::from_millis(200), "it took {:?}", ended.took);
        assert!(ended.took < Duration::from_secs(3), "it took {:?}", ended.took);
    }
}

#[test]
fn a_sleeping_guest_is_ended_by_time_too() {
    if !has_kvm() {
        return;
    }
    // sti; hlt: interrupts are on, so something might still wake it.
    run(&boot_sector(&[&[0xfb, 0xf4], code::LOOP]), &["--timeout", "0.1"]).status(124);
}

#[test]
fn dev_null_is_the_end_of_input_like_an_empty_pipe() {
    if !has_kvm() {
        return;
    }
    let nothing = File::open("/dev/null").unwrap();
    matchstick(["run", "echo", "--timeout", "10"]).stdin(nothing).run().status(0);
    matchstick(["run", "echo", "--timeout", "10"]).run().status(0);
}

#[test]
fn single_bytes_arrive_in_order() {
    if !has_kvm() {
        return;
    }
    const COUNT: u16 = 5_000;
    // again: mov al, cl; out dx, al; loop again
    let print = [0x88, 0xc8, 0xee, 0xe2, 0xfb];
    let image = boot_sector(&[code::SERIAL, &code::count(COUNT), &print, &code::exit(0)]);
    let expected = down_from(COUNT);
    run(&image, &[]).silent().status(0).printed(&expected);
    // And when it does not end by itself.
    let image = boot_sector(&[code::SERIAL, &code::count(COUNT), &print, code::LOOP]);
    run(&image, &["--timeout", "1"]).status(124).printed(&expected);
}

#[test]
fn strings_of_every_length_arrive_whole() {
    if !has_kvm() {
        return;
    }
    // Around the length that one exit carries, over a page border at 0x8000, and nothing at all.
    for len in [0, 1, 2, 255, 256, 257, 300, 0xfff, 0x1000, 0x1001, 0x1234] {
        let data = pattern(len.into());
        let print = [code::SERIAL, &code::count(len), &code::from(DATA), REP_OUTSB, &code::exit(0)];
        run(&with_data(&print, &data), &[]).silent().status(0).printed(&data);
    }
}

#[test]
fn a_string_leaves_the_registers_as_the_processor_would() {
    if !has_kvm() {
        return;
    }
    const LEN: u16 = 0x333;
    let end = DATA + LEN;
    #[rustfmt::skip]
    let check = [
        &[0x81, 0xfe, end as u8, (end >> 8) as u8, // cmp si, end
          0x75, 0x08,                              // jne wrong
          0x85, 0xc9,                              // test cx, cx
          0x75, 0x04][..],                         // jne wrong
        &code::exit(0),
        &code::exit(1),                            // wrong:
    ].concat();
    let print = [code::SERIAL, &code::count(LEN), &code::from(DATA), REP_OUTSB, &check];
    let data = pattern(LEN.into());
    run(&with_data(&print, &data), &[]).silent().status(0).printed(&data);
}

#[test]
fn strings_of_the_rarer_kinds_arrive_too() {
    if !has_kvm() {
        return;
    }
    const LEN: u16 = 700;
    let data = pattern(LEN.into());
    let string = |prefix: &[u8], from: u16, instruction: &[u8], expected: &[u8]| {
        let print = [code::SERIAL, prefix, &code::count(LEN), &code::from(from), instruction, &code::exit(0)];
        run(&with_data(&print, &data), &[]).silent().status(0).printed(expected);
    };
    // std: downwards.
    let backwards: Vec<u8> = data.iter().rev().copied().collect();
    string(&[0xfd], DATA + LEN - 1, REP_OUTSB, &backwards);
    // mov ax, DATA / 16; mov es, ax; es rep outsb, its prefixes in both orders
    let es = [0xb8, 0xe0, 0x07, 0x8e, 0xc0];
    string(&es, 0, &[0x26, 0xf3, 0x6e], &data);
    string(&es, 0, &[0xf3, 0x26, 0x6e], &data);
    // Through DS: mov ds, ax
    string(&[0xb8, 0xe0, 0x07, 0x8e, 0xd8], 0, REP_OUTSB, &data);
    // again: outsb; loop again
    string(&[], DATA, &[0x6e, 0xe2, 0xfd], &data);
    // movzx esi, si; movzx ecx, cx; rep outsb with 32-bit addresses
    string(&[], DATA, &[0x66, 0x0f, 0xb7, 0xf6, 0x66, 0x0f, 0xb7, 0xc9, 0x67, 0xf3, 0x6e], &data);
    // Plain OUTs before, at other addresses: each instruction is looked at for itself.
    string(code::PUT_A, DATA, REP_OUTSB, &[b"A", &data[..]].concat());
}

#[test]
fn a_string_right_behind_an_out_goes_to_its_own_port() {
    if !has_kvm() {
        return;
    }
    let data = pattern(40);
    // mov al, byte; out 0x80, al: once the byte that lies before the string, once another.
    for byte in [data[0], 0xaa] {
        let post = [0xb0, byte, 0xe6, 0x80];
        let print = [code::SERIAL, &code::count(39), &code::from(DATA + 1), &post, REP_OUTSB, &code::exit(0)];
        run(&with_data(&print, &data), &[]).silent().status(0).printed(&data[1..]);
        // out dx, al
        let plain = [0xb0, byte, 0xee];
        let print =
            [code::SERIAL, &code::count(39), &code::from(DATA + 1), &plain, REP_OUTSB, &code::exit(0)];
        run(&with_data(&print, &data), &[]).silent().status(0).printed([&[byte], &data[1..]].concat());
    }
}

#[test]
fn wide_strings_keep_their_order() {
    if !has_kvm() {
        return;
    }
    // The upper byte of a word goes to the next port, the interrupt enable register: zero.
    let bytes = pattern(0x300);
    let words: Vec<u8> = bytes.iter().flat_map(|&byte| [byte, 0]).collect();
    let count = code::count(bytes.len() as u16);
    for odd in [0u16, 1] {
        let data = [&vec![0; odd.into()], &words[..]].concat();
        // rep outsw
        let print = [code::SERIAL, &count, &code::from(DATA + odd), &[0xf3, 0x6f], &code::exit(0)];
        run(&with_data(&print, &data), &[]).silent().status(0).printed(&bytes);
    }
}

#[test]
fn nothing_answers_with_all_ones() {
    if !has_kvm() {
        return;
    }
    const LEN: u16 = 300;
    // mov dx, 0x500; rep insb, to memory that is not all ones
    let read = [&[0xba, 0x00, 0x05], &code::count(LEN)[..], &code::to(DATA), REP_INSB].concat();
    let print = [code::SERIAL, &code::count(LEN + 1), &code::from(DATA), REP_OUTSB, &code::exit(0)];
    let image = with_data(&[&[&read[..]], &print[..]].concat(), &[b'.'; LEN as usize + 1]);
    run(&image, &[]).silent().status(0).printed([&[0xff; LEN as usize][..], b"."].concat());
    // in al, dx; then as a word and as a double word, each stored behind the other
    #[rustfmt::skip]
    let read = [0xba, 0x00, 0x05, 0xfc, 0xbf, DATA as u8, (DATA >> 8) as u8, // mov dx, 0x500; cld; mov di, DATA
                0xec, 0xaa, 0xed, 0xab, 0x66, 0xed, 0x66, 0xab]; // in, stosb; stosw; stosd
    let print = [&read, code::SERIAL, &code::count(8), &code::from(DATA), REP_OUTSB, &code::exit(0)];
    let image = with_data(&print, b"........");
    run(&image, &[]).silent().status(0).printed(b"\xff\xff\xff\xff\xff\xff\xff.");
}

/// Prints bytes without an end.
fn flood() -> Vec<u8> {
    // mov al, 'A'; again: out dx, al; jmp again
    boot_sector(&[code::SERIAL, code::PUT_A, &[0xeb, 0xfd]])
}

#[test]
fn a_reader_that_does_not_read_cannot_keep_us() {
    if !has_kvm() {
        return;
    }
    let (mut reader, writer) = std::io::pipe().unwrap();
    let (_dir, program) = program(&flood(), &["--timeout", "1"]);
    program.stdout(writer).run().status(124).says("did not end");
    let mut received = Vec::new();
    reader.read_to_end(&mut received).unwrap();
    assert!(received.len() >= 4096 && received.iter().all(|&byte| byte == b'A'), "{} bytes", received.len());
}

#[test]
fn a_signal_ends_a_flood_that_nobody_reads() {
    if !has_kvm() {
        return;
    }
    const ROOM: usize = 100;
    for signal in SIGNALS {
        let (mut reader, writer) = nearly_full_pipe(ROOM);
        let (_dir, program) = program(&flood(), &[]);
        let running = program.stdout(writer).start();
        // As good as surely in the middle of a write by then; the outcome is the same if not.
        thread::sleep(Duration::from_millis(200));
        running.signal(signal);
        running.end().silent().killed_by(signal);
        // At least the first byte came out; a later write that did not fit whole need not have begun.
        let mut received = Vec::new();
        reader.read_to_end(&mut received).unwrap();
        assert_eq!(received[4096 - ROOM], b'A');
    }
}

#[test]
fn other_processors_do_not_hang_on_a_reader_that_does_not_read() {
    if !has_kvm() {
        return;
    }
    // The first processor's line fits, the second's does not.
    let room = "cpu 0 is up, and there are 3 more\n".len() + 5;
    let (_reader, writer) = nearly_full_pipe(room);
    matchstick(["run", "smp", "--timeout", "0.5"]).stdout(writer).run().status(124);
    let (_reader, writer) = nearly_full_pipe(room);
    let running = matchstick(["run", "smp"]).stdout(writer).start();
    thread::sleep(Duration::from_millis(200));
    running.signal(libc::SIGTERM);
    running.end().killed_by(libc::SIGTERM);
}

#[test]
fn a_slow_reader_gets_everything() {
    if !has_kvm() {
        return;
    }
    // mov bx, 60; again: 4,000 bytes; dec bx; jnz again
    let data = pattern(4_000);
    let print = [&code::count(4_000)[..], &code::from(DATA), REP_OUTSB, &[0x4b]].concat();
    let back = (-(print.len() as i8) - 2) as u8;
    let image = with_data(&[code::SERIAL, &[0xbb, 60, 0], &print, &[0x75, back], &code::exit(3)], &data);
    for nonblocking in [false, true] {
        let (mut reader, writer) = std::io::pipe().unwrap();
        if nonblocking {
            make_nonblocking(&writer);
        }
        let (_dir, program) = program(&image, &[]);
        let running = program.stdout(writer).start();
        thread::sleep(Duration::from_millis(300));
        let mut received = Vec::new();
        reader.read_to_end(&mut received).unwrap();
        running.end().silent().status(3);
        assert!(received == data.repeat(60), "{} bytes", received.len());
    }
}

#[test]
fn a_prompt_shows_while_the_guest_runs() {
    if !has_kvm() {
        return;
    }
    let mut running = matchstick(["run", "echo"]).open_input().start();
    running.stdout.wait_for("end with Ctrl-D");
    for word in ["one", "two", "three"] {
        running.write(word.as_bytes());
        running.stdout.wait_for(word);
    }
    running.write(&[CTRL_D]);
    running.end().silent().status(0);
}

#[test]
fn input_arrives_byte_for_byte() {
    if !has_kvm() {
        return;
    }
    const PROMPT: &str = "echo: type, and end with Ctrl-D\n";
    // All bytes but the one that ends it: through a pipe, Ctrl-a is not a key of ours.
    let sent: Vec<u8> =
        pattern(20_000).into_iter().map(|byte| if byte == CTRL_D { 0x01 } else { byte }).collect();
    let received = |ended: Ended| {
        ended.silent().status(0);
        let text = ended.stdout;
        assert!(text.starts_with(PROMPT.as_bytes()));
        text[PROMPT.len()..].to_vec()
    };
    let through_a_pipe = received(matchstick(["run", "echo"]).input(&sent[..]).run());
    let from_a_file = {
        let (_dir, path) = file(&sent[..500]);
        received(matchstick(["run", "echo"]).stdin(File::open(path).unwrap()).run())
    };
    // The guest ends each echo with a line of its own making, so look for the beginning.
    assert!(through_a_pipe.starts_with(&sent), "{} bytes", through_a_pipe.len());
    assert!(from_a_file.starts_with(&sent[..500]), "{} bytes", from_a_file.len());
    assert_eq!(received(matchstick(["run", "echo"]).input("hi\n").run()), b"hi\n");
}

#[test]
fn input_that_nobody_takes_is_no_obstacle() {
    if !has_kvm() {
        return;
    }
    let ended = matchstick(["run", "hello"]).input(vec![b'x'; 1 << 20]).run();
    ended.silent().status(0).printed("Hello from a virtual machine!\n");
}

#[test]
fn a_signal_ends_us_as_it_would_any_program() {
    if !has_kvm() {
        return;
    }
    for signal in SIGNALS {
        for options in [&[][..], &["--timings"]] {
            let (_dir, program) = program(&busy(), options);
            let running = program.start();
            running.stdout.wait_for("A");
            running.signal(signal);
            running.end().killed_by(signal).printed("A");
        }
    }
}

#[test]
fn a_signal_ends_us_at_every_stage_of_a_start() {
    if !has_kvm() {
        return;
    }
    for step in 0..40 {
        let (_dir, program) = program(&busy(), if step % 4 == 3 { &["--timings"] } else { &[] });
        let running = program.start();
        thread::sleep(Duration::from_micros(100 * step));
        running.signal(SIGNALS[step as usize % 3]);
        let ended = running.end();
        ended.killed_by(SIGNALS[step as usize % 3]);
        assert!(["", "A"].contains(&ended.text().as_str()));
    }
}

#[test]
fn a_signal_that_was_ignored_stays_ignored() {
    if !has_kvm() {
        return;
    }
    for options in [&[][..], &["--timings"]] {
        let (_dir, program) = program(&busy(), options);
        let running = program.ignoring(libc::SIGHUP).start();
        running.stdout.wait_for("A");
        running.signal(libc::SIGHUP);
        thread::sleep(Duration::from_millis(100));
        running.signal(libc::SIGTERM);
        running.end().killed_by(libc::SIGTERM);
    }
}

/// Else it would be a child without its pipe that starts another one, for ever.
#[test]
fn timings_without_their_pipe_are_not_measured_again() {
    if !has_kvm() {
        return;
    }
    for value in ["nonsense", "1,99,5", "1,1,5"] {
        let ended = matchstick(["run", "--timings", "hello"]).env("MATCHSTICK_TIMINGS", value).run();
        ended.printed("Hello from a virtual machine!\n").silent().status(0);
    }
}

#[test]
fn timings_show_every_phase_and_change_nothing_else() {
    if !has_kvm() {
        return;
    }
    let hello = matchstick(["run", "--timings", "hello"]).run();
    hello.status(0).printed("Hello from a virtual machine!\n");
    for phase in
        ["exec to main", "KVM_CREATE_VM", "guest: first byte", "guest: to its end", "exit to reaped", "total"]
    {
        hello.says(phase);
    }
    for (image, options, status) in [
        (boot_sector(&[&code::exit(42)]), &["--timings"][..], 42),
        (crash(b"", 1), &["--timings", "--boot", "flat64"], 123),
        (busy(), &["--timings", "--timeout", "0.1"], 124),
    ] {
        run(&image, options).status(status).says("total").says("KVM_CREATE_VM");
    }
    matchstick(["run", "--timings", "nonsense"]).run().status(127).says("error: no guest and no file");
    // A guest may mark milestones: mov al, 0x42; out 0x80, al
    let milestone = boot_sector(&[&[0xb0, 0x42, 0xe6, 0x80], &code::exit(0)]);
    run(&milestone, &["--timings"]).status(0).says("guest: POST 0x42");
    // Or write there without end. again: mov al, cl; out 0x80, al; loop again
    let flood = boot_sector(&[&code::count(9_000), &[0x88, 0xc8, 0xe6, 0x80, 0xe2, 0xfa], &code::exit(7)]);
    let ended = run(&flood, &["--timings"]);
    ended.status(7).says("guest: to its end").says("VM torn down");
    assert!(ended.stderr.lines().count() < 80, "{}", ended.stderr);
}

#[test]
fn an_interrupt_for_nobody_is_lost_as_on_a_pc() {
    if !has_kvm() {
        return;
    }
    #[rustfmt::skip]
    let image = [
        0xb9, 0x00, 0x00, 0xe0, 0xfe,                               // mov ecx, 0xfee00000: local APIC
        0xc7, 0x81, 0xf0, 0x00, 0x00, 0x00, 0x3f, 0x01, 0x00, 0x00, // mov [rcx + 0xf0], 0x13f: on
        0xc7, 0x81, 0xd0, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x03, // mov [rcx + 0xd0], 3 << 24: logical names
        0xbb, 0x00, 0x00, 0xc0, 0xfe,                               // mov ebx, 0xfec00000: IOAPIC
        0xc7, 0x03, 0x19, 0x00, 0x00, 0x00,                         // mov [rbx], 0x19: pin 4, upper half
        0xc7, 0x43, 0x10, 0x00, 0x00, 0x00, 0x80,                   // mov [rbx + 0x10], 0x80 << 24: nobody
        0xc7, 0x03, 0x18, 0x00, 0x00, 0x00,                         // mov [rbx], 0x18: lower half
        0xc7, 0x43, 0x10, 0x24, 0x08, 0x00, 0x00,                   // mov [rbx + 0x10], 0x824: by logical name
        0x66, 0xba, 0xf9, 0x03, 0xb0, 0x02, 0xee,                   // mov dx, 0x3f9; mov al, 2; out dx, al
        0x66, 0xba, 0xf8, 0x03, 0xb0, b'A', 0xee,                   // mov dx, 0x3f8; mov al, 'A'; out dx, al
        0xb0, 0x05, 0xe6, 0xf4,                                     // mov al, 5; out 0xf4, al
    ];
    run(&image, &["--boot", "flat64"]).silent().status(5).printed("A");
}

#[test]
fn verbose_says_what_is_started() {
    if !has_kvm() {
        return;
    }
    let ended = matchstick(["run", "-v", "hello"]).run();
    ended.status(0).says("starting hello: 2048 KiB of memory, 1 CPU(s)").says("hello ended with status 0");
}

#[test]
fn many_at_once_do_not_disturb_each_other() {
    if !has_kvm() {
        return;
    }
    let all: Vec<_> = (0..8).map(|_| matchstick(["run", "timer"]).start()).collect();
    for running in all {
        let ended = running.end();
        ended.silent().status(0);
        assert_eq!(ended.text().lines().count(), 10);
    }
}
