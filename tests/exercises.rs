//! The exercises of the course, `examples/exercises/`: a check for each.
//!
//! `cargo test --test exercises -- --ignored exercise_01` is for whoever solves the first one, and so on. The same
//! checks pass for the solutions in `tests/solutions/`, and none of them for an exercise as it is shipped.

#[path = "../examples/guest/mod.rs"]
#[macro_use]
mod guest;
mod support;

#[path = "../examples/exercises/01.rs"]
mod e01;
#[path = "../examples/exercises/02.rs"]
mod e02;
#[path = "../examples/exercises/03.rs"]
mod e03;
#[path = "../examples/exercises/04.rs"]
mod e04;
#[path = "../examples/exercises/05.rs"]
mod e05;
#[path = "../examples/exercises/06.rs"]
mod e06;
#[path = "../examples/exercises/07.rs"]
mod e07;
#[path = "../examples/exercises/08.rs"]
mod e08;
#[path = "../examples/exercises/09.rs"]
mod e09;
#[path = "../examples/exercises/10.rs"]
mod e10;
#[path = "solutions/01.rs"]
mod s01;
#[path = "solutions/02.rs"]
mod s02;
#[path = "solutions/03.rs"]
mod s03;
#[path = "solutions/04.rs"]
mod s04;
#[path = "solutions/05.rs"]
mod s05;
#[path = "solutions/06.rs"]
mod s06;
#[path = "solutions/07.rs"]
mod s07;
#[path = "solutions/08.rs"]
mod s08;
#[path = "solutions/09.rs"]
mod s09;
#[path = "solutions/10.rs"]
mod s10;

use matchstick::boot::{self, Payload, Protocol};
use matchstick::device::{Action, Device, Uart};
use matchstick::kvm::{Exit, Kvm, Memory, Vcpu};
use matchstick::x86::{Entry, Mode, identity_map};
use matchstick::{Bytes, GuestAddress};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use support::{has_kvm, is_set, skip};

/// For each exercise: the test of whoever solves it, the test of our solution, and whether it is shipped unsolved.
macro_rules! exercises {
    ($($exercise:ident $solution:ident: $check:ident($yours:expr, $ours:expr), $kvm:literal;)*) => {
        $(
            #[test]
            #[ignore = "yours to solve"]
            fn $exercise() {
                assert!(!$kvm || has_kvm(), "this exercise starts a VM");
                $check($yours);
            }

            #[test]
            fn $solution() {
                if !$kvm || has_kvm() {
                    $check($ours);
                }
            }
        )*

        /// Each exercise, whether its check starts a VM, and the check.
        const AS_SHIPPED: &[(&str, bool, fn())] = &[$((stringify!($exercise), $kvm, || $check($yours))),*];
    };
}

exercises! {
    exercise_01 solution_01: says_any_word(e01::guest, s01::guest), true;
    exercise_02 solution_02: reads_what_a_stranger_wrote(e02::text, s02::text), false;
    exercise_03 solution_03: walks_page_tables(e03::translate, s03::translate), false;
    exercise_04 solution_04: serves_a_port(e04::serve, s04::serve), true;
    exercise_05 solution_05: drives_the_serial_port(e05::guest, s05::guest), true;
    exercise_06 solution_06: finds_the_header(e06::multiboot, s06::multiboot), false;
    exercise_07 solution_07: opens_a_gate(e07::gate, s07::gate), true;
    exercise_08 solution_08: has_a_stack_for_each(e08::entries, s08::entries), true;
    exercise_09 solution_09: compares_in_pairs(e09::ratio, s09::ratio), false;
    exercise_10 solution_10: plays_a_tape(e10::tape, s10::tape), false;
}

/// An exercise that passes as it is would teach nothing. Where somebody has solved one, that is said; with
/// `REQUIRE_UNSOLVED=1` it is a failure.
#[test]
fn as_shipped_every_exercise_fails() {
    for (name, needs_kvm, check) in AS_SHIPPED {
        if (!needs_kvm || has_kvm()) && catch_unwind(check).is_ok() {
            assert!(!is_set("REQUIRE_UNSOLVED"), "{name} is solved");
            skip(&format!("{name} is solved here"));
        }
    }
}

#[test]
fn every_exercise_has_its_solution_and_its_test() {
    let numbers: Vec<String> = (1..=AS_SHIPPED.len()).map(|n| format!("{n:02}")).collect();
    for dir in ["examples/exercises", "tests/solutions"] {
        let mut found: Vec<String> = std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap().replace(".rs", ""))
            .collect();
        found.sort();
        assert_eq!(found, numbers, "{dir}");
    }
}

/// Runs `body` on a thread and does not wait for ever: a guest that is being written may do anything.
fn within_ten_seconds<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(catch_unwind(AssertUnwindSafe(body))));
    match receiver.recv_timeout(Duration::from_secs(10)) {
        Ok(Ok(result)) => result,
        Ok(Err(panic)) => resume_unwind(panic),
        Err(_) => panic!("it did not come to an end within ten seconds"),
    }
}

/// A machine of 64 KiB with `guest` at 0x7c00 and one processor that is about to run it in real mode.
fn real_mode(guest: &[u8]) -> (Vcpu, Memory) {
    let mut vm = Kvm::open().unwrap().create_vm().unwrap();
    let memory = vm.add_memory(64 << 10).unwrap().clone();
    memory.write_slice(guest, GuestAddress(0x7c00)).unwrap();
    let mut vcpu = vm.create_vcpu(0).unwrap();
    vcpu.enter(&Entry { rsp: 0x7c00, ..Entry::at(Mode::Real, 0x7c00) });
    (vcpu, memory)
}

/// Memory from address 0 on, without a machine.
fn memory(bytes: usize) -> Memory {
    Memory::from_ranges(&[(GuestAddress(0), bytes)]).unwrap()
}

fn says_any_word(guest: fn(&str) -> Vec<u8>) {
    for word in ["ok\n", "", "matchstick", "a\0b"] {
        let code = guest(word);
        let said = within_ten_seconds(move || {
            let (mut vcpu, _) = real_mode(&code);
            let mut said = Vec::new();
            loop {
                match vcpu.run().unwrap() {
                    Exit::Out { port: 0x3f8, data, .. } => said.extend(data),
                    Exit::Halt => return said,
                    other => panic!("the guest for {word:?} did this: {other:?}"),
                }
            }
        });
        assert_eq!(
            said.escape_ascii().to_string(),
            word.escape_default().to_string().replace("\\u{0}", "\\x00")
        );
    }
}

fn reads_what_a_stranger_wrote(text: fn(&Memory, u64, usize) -> Option<Vec<u8>>) {
    let memory = memory(0x3000);
    memory.write_slice(b"hello\0more", GuestAddress(0x1000)).unwrap();
    memory.write_slice(b"open end", GuestAddress(0x3000 - 8)).unwrap();
    let cases: [(u64, usize, Option<&[u8]>, &str); 8] = [
        (0x1000, 100, Some(b"hello"), "a text"),
        (0x1000, 5, Some(b"hello"), "one of just that length"),
        (0x1000, 4, None, "one that is longer than that"),
        (0x1005, 100, Some(b""), "an empty one"),
        (0x1005, 0, Some(b""), "an empty one, and no more is wanted"),
        (0x3000 - 8, 100, None, "one that runs out of memory"),
        (0x3000, 100, None, "one behind the end of memory"),
        (u64::MAX, 100, None, "one at the last address there is"),
    ];
    for (address, max, expected, what) in cases {
        assert_eq!(text(&memory, address, max).as_deref(), expected, "{what}, at {address:#x}");
    }
}

fn walks_page_tables(translate: fn(&Memory, u64, u64) -> Option<u64>) {
    // The tables of a guest of ours: pages of 2 MiB, each at the address it has anyway.
    let guest = memory(0x10_0000);
    let cr3 = identity_map::write(&guest, 2 << 20).unwrap();
    for linear in [0, 0x1234, 0x1f_ffff] {
        assert_eq!(translate(&guest, cr3, linear), Some(linear), "{linear:#x}, mapped to itself");
    }
    assert_eq!(translate(&guest, cr3, 2 << 20), None, "no entry in the third table");
    assert_eq!(translate(&guest, cr3, 1 << 39), None, "no entry in the first table");

    // Tables at 0x1000, 0x2000, 0x3000, 0x4000, with the bit that forbids execution (63) in some entries.
    let guest = memory(0x10_0000);
    let put = |address: u64, entry: u64| guest.write_obj(entry.to_le(), GuestAddress(address)).unwrap();
    put(0x1000 + 511 * 8, 0x2003);
    put(0x2000 + 8, 0x3003 | 1 << 63);
    put(0x2000 + 2 * 8, 0x4000_0083); // 1 GiB at 1 GiB
    put(0x3000 + 5 * 8, 0x4003);
    put(0x4000 + 7 * 8, 0xabc_d003 | 1 << 63);
    put(0x4000 + 8 * 8, 0xabc_e083); // in the last table bit 7 means something else
    put(0x4000 + 9 * 8, 0xabc_f002); // not present
    put(0x3000 + 6 * 8, 0x7fff_f000 | 1); // a table where no memory is
    let at = |second: u64, third: u64, fourth: u64| 511 << 39 | second << 30 | third << 21 | fourth << 12;
    assert_eq!(translate(&guest, 0x1000, at(1, 5, 7) | 0x123), Some(0xabc_d123), "a page of 4 KiB");
    assert_eq!(translate(&guest, 0x1018, at(1, 5, 8) | 0xfff), Some(0xabc_efff), "low bits of CR3 are flags");
    assert_eq!(translate(&guest, 0x1000, at(1, 5, 9)), None, "an entry that is not present");
    assert_eq!(translate(&guest, 0x1000, at(2, 3, 4) | 5), Some(0x4060_4005), "a page of 1 GiB");
    assert_eq!(translate(&guest, 0x1000, at(1, 6, 0)), None, "a table outside memory");
}

fn serves_a_port(serve: fn(Exit<'_>, &mut u16) -> bool) {
    for (number, square) in [(7, 49), (0, 0), (255, 65025_u16)] {
        let memory = within_ten_seconds(move || {
            let (mut vcpu, memory) = real_mode(guest! {
                ".code16"
                "mov al, [0x1000]"
                "out 0x10, al"
                "mov al, 99"
                "out 0x11, al" // another port
                "in ax, 0x10"
                "mov [0x1002], ax"
                "in al, 0x12"
                "mov [0x1004], al"
                "hlt"
            });
            memory.write_obj(number as u8, GuestAddress(0x1000)).unwrap();
            let mut state = 0;
            while serve(vcpu.run().unwrap(), &mut state) {}
            memory
        });
        let found: [u8; 3] = memory.read_obj(GuestAddress(0x1002)).unwrap();
        assert_eq!(u16::from_le_bytes([found[0], found[1]]), square, "the square of {number}");
        assert_eq!(found[2], 0xff, "an empty port");
    }
}

fn drives_the_serial_port(guest: fn() -> &'static [u8]) {
    for (typed, expected) in
        [("hello\n", "HELLO\n"), ("\n", "\n"), ("[a-z] {A-Z} 1`2\nmore", "[A-Z] {A-Z} 1`2\n")]
    {
        let sent = within_ten_seconds(move || {
            let (mut vcpu, _) = real_mode(guest());
            let (mut uart, mut waiting, mut sent) = (Uart::new(), typed.as_bytes(), Vec::new());
            // What the guest may do next: it has seen that a byte is there, that there is room.
            let (mut may_read, mut may_send) = (false, false);
            for turn in 0.. {
                match vcpu.run().unwrap() {
                    Exit::In { port: 0x3fd, data: [byte], .. } => {
                        *byte = uart.read(5);
                        (may_read, may_send) = (*byte & 1 != 0, *byte & 0x20 != 0);
                    }
                    Exit::In { port: 0x3f8, data: [byte], .. } => {
                        assert!(
                            may_read,
                            "it read although the line status had not said that a byte is there"
                        );
                        (*byte, may_read) = (uart.read(0), false);
                    }
                    Exit::Out { port: 0x3f8, data: &[byte], .. } => {
                        assert!(may_send, "it sent although the line status had not said that there is room");
                        sent.extend(uart.write(0, byte));
                        may_send = false;
                    }
                    Exit::Halt => break,
                    other => panic!("the guest did this: {other:?}"),
                }
                // Whoever types is slow.
                if turn % 3 == 2 {
                    waiting = &waiting[uart.receive(&waiting[..waiting.len().min(1)])..];
                }
                assert!(
                    turn < 10_000,
                    "it goes on and on; so far it sent {:?}",
                    sent.escape_ascii().to_string()
                );
            }
            sent
        });
        assert_eq!(sent.escape_ascii().to_string(), expected.escape_default().to_string());
    }
}

fn finds_the_header(multiboot: fn(&[u8]) -> Option<usize>) {
    let image = |at: usize, len: usize, numbers: [u32; 3]| {
        let mut image = vec![0; at + 12];
        let bytes = numbers.map(u32::to_le_bytes);
        image[at..].copy_from_slice(bytes.as_flattened());
        image.resize(len, 0);
        image
    };
    const MAGIC: u32 = 0x1bad_b002;
    let right = |flags: u32| [MAGIC, flags, 0_u32.wrapping_sub(MAGIC).wrapping_sub(flags)];
    for at in [0, 4, 400, 8180] {
        for flags in [0, 3, 0xffff_ffff] {
            assert_eq!(multiboot(&image(at, 10_000, right(flags))), Some(at), "at {at}, flags {flags:#x}");
        }
    }
    assert_eq!(multiboot(&image(8, 20, right(3))), Some(8), "at the end of a short image");
    assert_eq!(multiboot(&image(8, 19, right(3))), None, "an image that ends within it");
    assert_eq!(multiboot(&image(2, 100, right(3))), None, "an offset that 4 does not divide");
    assert_eq!(multiboot(&image(8184, 10_000, right(3))), None, "not all of it in the first 8192 bytes");
    assert_eq!(multiboot(&image(4, 100, [MAGIC, 3, 0])), None, "a wrong checksum");
    assert_eq!(
        multiboot(&image(4, 100, [MAGIC + 1, 3, 0_u32.wrapping_sub(MAGIC + 4)])),
        None,
        "another number"
    );
    assert_eq!(multiboot(&[]), None, "nothing");
    let mut two = image(4, 100, [MAGIC, 3, 0]);
    two[40..52].copy_from_slice(&image(0, 12, right(1)));
    assert_eq!(multiboot(&two), Some(40), "behind what only looks like one");
}

fn opens_a_gate(gate: fn(u64, u16) -> [u8; 16]) {
    let expected = [0xef, 0xcd, 0x34, 0x12, 0, 0x8e, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01, 0, 0, 0, 0];
    assert_eq!(gate(0x0123_4567_89ab_cdef, 0x1234), expected);

    // And now through it.
    const IDT: u64 = 0x1_0000;
    let answer = within_ten_seconds(move || {
        let code = guest! {
            "lidt [0x11000]"
            "ud2" // exception 6
            ".p2align 8"
            "mov al, 42"
            "out 0x80, al"
            "hlt"
        };
        let mut vm = Kvm::open().unwrap().create_vm().unwrap();
        let memory = vm.add_memory(2 << 20).unwrap();
        let payload = Payload { image: code, ..Payload::default() };
        let entry = boot::load(Some(Protocol::Flat64), &payload, memory).unwrap();
        memory.write_slice(&gate(entry.rip + 0x100, 0x10), GuestAddress(IDT + 6 * 16)).unwrap();
        memory.write_obj(0xfff_u16.to_le(), GuestAddress(0x1_1000)).unwrap();
        memory.write_obj(IDT.to_le(), GuestAddress(0x1_1002)).unwrap();
        let mut vcpu = vm.create_vcpu(0).unwrap();
        vcpu.enter(&entry);
        match vcpu.run().unwrap() {
            Exit::Out { port: 0x80, data, .. } => data[0],
            other => panic!("the exception did not lead to the handler: {other:?}"),
        }
    });
    assert_eq!(answer, 42);
}

fn has_a_stack_for_each(entries: fn(u32) -> Vec<Entry>) {
    for cpus in [1, 2, 4, 16] {
        let entries = entries(cpus);
        assert_eq!(entries.len(), cpus as usize, "as many as there are processors");
        let mut stacks = Vec::new();
        for (entry, index) in entries.iter().zip(0..) {
            assert_eq!((entry.rax, entry.rip, entry.mode), (index, 0x7c00, Mode::Real), "processor {index}");
            let stack = entry.rsp.saturating_sub(256)..entry.rsp;
            let (rsp, free) =
                (entry.rsp, stack.start >= 0x2000 && (stack.end <= 0x7c00 || stack.start >= 0x8000));
            assert!(free && stack.end < 0x1_0000, "processor {index} has its stack at {rsp:#x}");
            stacks.push(stack);
        }
        stacks.sort_by_key(|stack| stack.start);
        let apart = stacks.windows(2).all(|pair| pair[0].end <= pair[1].start);
        assert!(apart, "with {cpus} processors, two share a stack: {stacks:x?}");
    }
    let entries = entries(2);
    let sums = within_ten_seconds(move || {
        let code = guest! {
            ".code16"
            "mov cx, 100"
            "2: push ax"
            "loop 2b"
            "mov cx, 100"
            "3: pop bx"
            "add dx, bx"
            "loop 3b"
            "mov bx, ax"
            "add bx, bx"
            "mov [bx + 0x1000], dx"
            "hlt"
        };
        let mut vm = Kvm::open().unwrap().create_vm().unwrap();
        let memory = vm.add_memory(64 << 10).unwrap().clone();
        memory.write_slice(code, GuestAddress(0x7c00)).unwrap();
        let run = |(entry, index): (&Entry, u32)| {
            let mut vcpu = vm.create_vcpu(index).unwrap();
            vcpu.enter(entry);
            thread::spawn(move || assert!(matches!(vcpu.run(), Ok(Exit::Halt)), "it did not come to its end"))
        };
        let running: Vec<_> = entries.iter().zip(0..).map(run).collect();
        running.into_iter().for_each(|thread| thread.join().unwrap());
        memory.read_obj::<[u8; 4]>(GuestAddress(0x1000)).unwrap()
    });
    assert_eq!(sums, [0, 0, 100, 0], "each adds its own number up a hundred times");
}

fn compares_in_pairs(ratio: fn(&[(f64, f64)]) -> Option<f64>) {
    let near = |rounds: &[(f64, f64)], expected: f64, what: &str| {
        let found = ratio(rounds).unwrap_or_else(|| panic!("{what}: no answer"));
        assert!((found - expected).abs() < 1e-9, "{what}: {found} instead of {expected}");
    };
    assert_eq!(ratio(&[]), None, "no round");
    near(&[(2.0, 3.0)], 1.5, "one round");
    near(&[(1.0, 1.0), (1.0, 2.0)], 1.5, "two rounds");
    near(&[(1.0, 2.0), (10.0, 20.0), (100.0, 200.0)], 2.0, "a machine that slows down");
    near(&[(1.0, 2.0), (1.0, 2.0), (1.0, 2.0), (1.0, 500.0), (700.0, 2.0)], 2.0, "two accidents");
    near(&[(9.0, 9.0), (1.0, 3.0), (1.0, 2.0), (1.0, 4.0), (50.0, 50.0), (1.0, 4.0)], 2.5, "an even number");
}

fn plays_a_tape(tape: fn(Vec<u8>) -> Box<dyn Device>) {
    let mut device = tape(b"abc".to_vec());
    let read = |device: &mut Box<dyn Device>, port: u64| {
        let mut data = [0];
        device.read(port, &mut data);
        data[0]
    };
    assert_eq!(
        [(); 5].map(|()| read(&mut device, 1)),
        [b'a', b'b', b'c', 0xff, 0xff],
        "to its end and beyond"
    );
    for (position, next) in [(1, b'b'), (0, b'a'), (2, b'c'), (3, 0xff), (255, 0xff)] {
        assert_eq!(device.write(0, &[position]), Action::Continue);
        assert_eq!(read(&mut device, 0), position, "the position");
        assert_eq!(read(&mut device, 0), position, "to ask for the position moves nothing");
        assert_eq!(read(&mut device, 1), next, "position {position}");
    }
    assert_eq!(device.write(0, &[1]), Action::Continue);
    assert_eq!(device.write(1, &[0]), Action::Continue);
    assert_eq!(read(&mut device, 1), b'b', "what is written to the second port is lost");
    assert_eq!(read(&mut device, 0), 2, "and one is read");
}
