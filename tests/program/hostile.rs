//! Guests that mean harm: whatever they try, the VMM stays itself. It ends with the guest's status, with a crash of
//! the guest, or because time or output ran out; never with a fault of its own.
//!
//! Not a proof: programs of random bytes find what nobody thought of, and the others ask for what somebody did.

use crate::support::image::{boot_sector, code};
use crate::support::{Ended, Program, file, has_kvm, matchstick};
use std::fs;
use std::thread;
use std::time::Duration;

/// 64-bit code at 1 MiB, or a boot sector if `boot` is `flat16`.
fn program(image: &[u8], boot: &str, options: &[&str]) -> (tempfile::TempDir, Program) {
    let (dir, path) = file(image);
    (dir, matchstick(["run", "--boot", boot]).args(options).args([path]))
}

fn run(image: &[u8], options: &[&str]) -> Ended {
    let (_dir, program) = program(image, "flat64", options);
    program.run()
}

/// Ended by the guest or because of it: neither a panic nor an error of ours.
#[track_caller]
fn is_the_guests_doing(ended: &Ended) {
    let ours = ["panicked", "error: cannot", "sandbox"].iter().any(|word| ended.stderr.contains(word));
    assert!(ended.signal.is_none() && !ours, "{ended:?}");
}

/// `mov al, 7; out 0xf4, al`
const EXIT_7: &[u8] = &[0xb0, 0x07, 0xe6, 0xf4];

#[test]
fn every_port_is_read_and_written_in_every_width() {
    if !has_kvm() {
        return;
    }
    #[rustfmt::skip]
    let image = [
        &[
            0x31, 0xdb,                         // xor ebx, ebx: the port
            // next:
            0x8d, 0x83, 0x0f, 0xff, 0xff, 0xff, // lea eax, [rbx - 0xf1]
            0x83, 0xf8, 0x04,                   // cmp eax, 4: what reaches the port that ends the VM
            0x72, 0x0f,                         // jb skip
            0x89, 0xda,                         // mov edx, ebx
            0xec, 0x66, 0xed, 0xed,             // in al, dx; in ax, dx; in eax, dx
            0x31, 0xc0,                         // xor eax, eax
            0xee, 0x66, 0xef, 0xef,             // out dx, al; out dx, ax; out dx, eax
            0x90, 0x90, 0x90,                   // nop
            // skip:
            0xff, 0xc3,                         // inc ebx
            0x81, 0xfb, 0x00, 0x00, 0x01, 0x00, // cmp ebx, 0x10000
            0x72, 0xdc,                         // jb next
        ][..],
        EXIT_7,
    ].concat();
    let (_dir, program) = program(&image, "flat64", &[]);
    program.limit(Duration::from_secs(120)).run().silent().status(7);
}

#[test]
fn strings_go_to_and_come_from_every_device() {
    if !has_kvm() {
        return;
    }
    // Ports of devices and their neighbours, as far as a zero there does not end the VM.
    for port in [0x60, 0x64, 0x70, 0x71, 0x80, 0x92, 0x3f8, 0x3f9, 0x3fd, 0x3fe, 0x600, 0xfffe, 0xffff_u16] {
        let [low, high] = port.to_le_bytes();
        let mut image = vec![
            0x66, 0xba, low, high, // mov dx, port
            0x48, 0xc7, 0xc7, 0x00, 0x00, 0x18, 0x00, // mov rdi, 0x180000
            0x48, 0xc7, 0xc6, 0x00, 0x80, 0x18, 0x00, // mov rsi, 0x188000: zeroes
        ];
        for string in [&[0x6c][..], &[0x66, 0x6d], &[0x6d], &[0x6e], &[0x66, 0x6f], &[0x6f]] {
            image.extend([0xb9, 0x21, 0x01, 0x00, 0x00, 0xf3]); // mov ecx, 289; rep ins or outs
            image.extend(string);
        }
        image.extend(EXIT_7);
        run(&image, &[]).silent().status(7);
    }
}

#[test]
fn every_register_of_the_ioapic_takes_every_width() {
    if !has_kvm() {
        return;
    }
    #[rustfmt::skip]
    let image = [
        &[
            0xbb, 0x00, 0x00, 0xc0, 0xfe,       // mov ebx, 0xfec00000
            0x48, 0xb8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, // mov rax, 2^63 - 1
            // next:
            0x8a, 0x0b, 0x66, 0x8b, 0x0b, 0x8b, 0x0b, 0x48, 0x8b, 0x0b, // mov cl, cx, ecx, rcx from [rbx]
            0x88, 0x03, 0x66, 0x89, 0x03, 0x89, 0x03, 0x48, 0x89, 0x03, // mov [rbx] from al, ax, eax, rax
            0x48, 0xd1, 0xc8,                   // ror rax, 1
            0xff, 0xc3,                         // inc ebx
            0x81, 0xfb, 0x00, 0x04, 0xc0, 0xfe, // cmp ebx, 0xfec00400
            0x72, 0xdf,                         // jb next
        ][..],
        EXIT_7,
    ].concat();
    run(&image, &[]).silent().status(7);
}

#[test]
fn page_tables_that_lead_nowhere_end_the_guest() {
    if !has_kvm() {
        return;
    }
    let wild: [&[u8]; 5] = [
        // mov eax, 0x180000; mov cr3, rax: tables of zeroes
        &[0xb8, 0x00, 0x00, 0x18, 0x00, 0x0f, 0x22, 0xd8],
        // mov rax, -1; mov cr3, rax: reserved bits
        &[0x48, 0xc7, 0xc0, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x22, 0xd8],
        // mov rax, 1 << 63; jmp rax: no canonical address
        &[0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0x80, 0xff, 0xe0],
        // mov eax, 0x7fffff000; jmp rax: an address behind the memory
        &[0x48, 0xb8, 0, 0xf0, 0xff, 0xff, 7, 0, 0, 0, 0xff, 0xe0],
        // xor esp, esp; mov cr4, rsp; mov cr0, rsp: out of long mode with a single step
        &[0x31, 0xe4, 0x0f, 0x22, 0xe4, 0x0f, 0x22, 0xc4],
    ];
    for image in wild {
        let ended = run(&[image, &[0x0f, 0x0b]].concat(), &["--timeout", "10"]);
        is_the_guests_doing(&ended);
        ended.status(123);
    }
}

#[test]
fn a_guest_that_writes_all_of_its_memory_harms_itself() {
    if !has_kvm() {
        return;
    }
    // xor edi, edi; mov al, 0xcc; mov ecx, 2 MiB; rep stosb: page tables, stack and this code
    let image = [0x31, 0xff, 0xb0, 0xcc, 0xb9, 0x00, 0x00, 0x20, 0x00, 0xf3, 0xaa, 0x0f, 0x0b];
    let ended = run(&image, &["--timeout", "20"]);
    is_the_guests_doing(&ended);
}

#[test]
fn a_processor_that_resets_itself_is_no_obstacle() {
    if !has_kvm() {
        return;
    }
    #[rustfmt::skip]
    let image = [
        0xb9, 0x00, 0x00, 0xe0, 0xfe,                               // mov ecx, 0xfee00000: local APIC
        0xc7, 0x81, 0xf0, 0x00, 0x00, 0x00, 0xff, 0x01, 0x00, 0x00, // mov [rcx + 0xf0], 0x1ff: on
        0xc7, 0x81, 0x00, 0x03, 0x00, 0x00, 0x00, 0x45, 0x04, 0x00, // mov [rcx + 0x300], 0x44500: INIT to itself
        0xfa, 0xf4, 0xeb, 0xfd,                                     // cli; again: hlt; jmp again
    ];
    let ended = run(&image, &["--timeout", "1"]);
    is_the_guests_doing(&ended);
    assert!(ended.took < Duration::from_secs(20));
}

#[test]
fn output_ends_at_its_limit() {
    if !has_kvm() {
        return;
    }
    // mov al, 'A'; again: out dx, al; jmp again
    let flood = boot_sector(&[code::SERIAL, code::PUT_A, &[0xeb, 0xfd]]);
    let (_dir, program) = program(&flood, "flat16", &["--max-output", "10K"]);
    let ended = program.run();
    ended.fails(120, "wrote more than it may", "--max-output").printed(vec![b'A'; 10 << 10]);
}

#[test]
fn what_nobody_reads_does_not_pile_up() {
    if !has_kvm() {
        return;
    }
    let flood = boot_sector(&[code::SERIAL, code::PUT_A, &[0xeb, 0xfd]]);
    let (_reader, writer) = std::io::pipe().unwrap();
    let (_dir, program) = program(&flood, "flat16", &["--timeout", "2"]);
    let running = program.stdout(writer).start();
    thread::sleep(Duration::from_millis(1500));
    let status = fs::read_to_string(format!("/proc/{}/status", running.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim();
    let peak: u64 = peak.trim_end_matches(" kB").parse().unwrap();
    // The guest's 2 MiB and ours, of a debug build.
    assert!(peak < 16 << 10, "{peak} kB");
    running.end().status(124);
}

#[test]
fn a_storm_of_exits_ends_in_time() {
    if !has_kvm() {
        return;
    }
    // again: in al, 0x80; jmp again
    let ended = run(&[0xe4, 0x80, 0xeb, 0xfc], &["--timeout", "0.5"]);
    ended.status(124);
    assert!(ended.took < Duration::from_secs(10), "{ended:?}");
}

/// Bytes from a seed (the 64-bit generator of Steele, Lea and Flood, "SplitMix", 2014).
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    };
    (0..len.div_ceil(8)).flat_map(|_| next().to_le_bytes()).take(len).collect()
}

#[test]
fn programs_of_random_bytes_do_no_harm() {
    if !has_kvm() {
        return;
    }
    for seed in 0..40 {
        for (boot, len) in [("flat16", 510), ("flat64", 4096)] {
            let limits = ["--timeout", "0.2", "--max-output", "64K"];
            let (_dir, program) = program(&noise(seed, len), boot, &limits);
            let ended = program.run();
            is_the_guests_doing(&ended);
            assert!(ended.took < Duration::from_secs(10), "seed {seed}, {boot}: {ended:?}");
        }
    }
}
