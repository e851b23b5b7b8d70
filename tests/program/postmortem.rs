//! The post-mortem in words: guests that go down in each of the ways that beginners know.

use crate::support::image::{Segment, boot_sector, code, elf};
use crate::support::{file, has_kvm, matchstick, skip};
use matchstick::elf::{Elf, program};
use matchstick::guest::GALLERY;

/// 64-bit code that ends in a triple fault; what is said of it has to name each of `expected`.
#[track_caller]
fn dies(parts: &[&[u8]], expected: &[&str]) {
    if !has_kvm() {
        return;
    }
    let (_dir, path) = file(&parts.concat());
    let ended = matchstick(["run", "--boot", "flat64", "--timeout", "10"]).args([path]).run();
    ended.status(123).says("error: guest crashed: triple fault");
    if ended.stderr.contains("registers   lost") {
        return skip("this processor forgets a guest's registers in a triple fault");
    }
    for text in expected {
        ended.says(text);
    }
}

/// `mov rax, value`
fn rax(value: u64) -> Vec<u8> {
    [&[0x48, 0xb8], &value.to_le_bytes()[..]].concat()
}

const BINARY: &str = env!("CARGO_BIN_EXE_matchstick");

#[test]
fn without_an_idt() {
    // ud2
    dies(&[&[0x0f, 0x0b]], &["likely      no IDT is loaded, so the first exception is the last"]);
}

#[test]
fn at_an_address_that_is_not_mapped() {
    // jmp rax
    let expected = [
        "likely      rip 0x40000000 is not mapped",
        "PML4[0]   at 0x9000",
        "PDPT[1]   at 0xa008",
        "not present",
    ];
    dies(&[&rax(1 << 30), &[0xff, 0xe0]], &expected);
}

#[test]
fn by_a_page_table_entry_with_a_reserved_bit() {
    // mov qword ptr [0xa008], 0x2083: a page of 1 GiB that begins at 8 KiB; mov al, [0x40000000]
    let entry = [0x48, 0xc7, 0x04, 0x25, 0x08, 0xa0, 0x00, 0x00, 0x83, 0x20, 0x00, 0x00];
    let read = [&[0xa0], &(1_u64 << 30).to_le_bytes()[..]].concat();
    // Without the feature nobody knows which address the instruction read.
    let expected: &[&str] = match cfg!(feature = "trace") {
        true => &["a page table entry with a reserved bit", "PDPT[1]   at 0xa008: 0x0000000000002083"],
        false => &["no IDT is loaded"],
    };
    dies(&[&entry, &read], expected);
}

#[test]
#[cfg(feature = "trace")]
fn at_an_address_that_is_not_canonical() {
    // mov [rax], al; jmp rax
    for instruction in [[0x88, 0x00], [0xff, 0xe0]] {
        dies(
            &[&rax(1 << 63), &instruction],
            &["the instruction's address is not canonical: 0x8000000000000000"],
        );
    }
}

#[test]
fn by_reserved_bits() {
    // mov cr4, rax; mov cr3, rax
    dies(
        &[&rax(1 << 31 | 1 << 5), &[0x0f, 0x22, 0xe0]],
        &["it loads CR4 with a reserved bit: 0x80000020 has bit 31"],
    );
    dies(&[&rax(1 << 60 | 0x9000), &[0x0f, 0x22, 0xd8]], &["it loads CR3 with a reserved bit", "has bit 60"]);
    // mov ecx, 0xc0000080; rdmsr; or eax, 2; wrmsr
    let efer = [0xb9, 0x80, 0x00, 0x00, 0xc0, 0x0f, 0x32, 0x83, 0xc8, 0x02, 0x0f, 0x30];
    dies(&[&efer], &["it loads EFER with a reserved bit: 0x502 has bit 1"]);
}

#[test]
fn by_sse_that_is_not_switched_on() {
    // movaps xmm0, xmm1
    dies(
        &[&[0x0f, 0x28, 0xc1]],
        &["an SSE (or MMX) instruction, but it is not switched on: CR4.OSFXSR is 0"],
    );
}

#[test]
fn without_a_stack() {
    // mov esp, 0x40000000; push rax
    let expected = ["the stack 0x3ffffff8 is not mapped, so no exception frame can be pushed", "PD[511]"];
    dies(&[&[0xbc, 0x00, 0x00, 0x00, 0x40, 0x50]], &expected);
}

#[test]
fn one_line_is_enough_for_those_who_want_quiet() {
    if !has_kvm() {
        return;
    }
    // In real mode, a far jump into nothing: lidt [0x7c10]; ud2, and a table that is empty.
    let image = boot_sector(&[&[0x0f, 0x01, 0x1e, 0x10, 0x7c, 0x0f, 0x0b], code::LOOP]);
    let (_dir, path) = file(&image);
    let ended = matchstick(["run", "-q", "--timeout", "10"]).args([path]).run();
    ended.status(123);
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
}

#[test]
fn a_program_for_linux_is_known_before_it_runs() {
    let known = |path: &str| {
        let ended = matchstick(["run", path]).run();
        ended.printed("").fails(
            126,
            &format!("{path} is a Linux program, not a kernel"),
            "`matchstick exec PROGRAM` runs it",
        );
    };
    known("/bin/sh");
    let (_dir, path) = file(&std::fs::read(BINARY).unwrap());
    known(path.to_str().unwrap());
    // Whoever names a protocol is taken at his word.
    let ended = matchstick(["run", "--boot", "multiboot", "/bin/sh"]).run();
    ended.fails(126, "not Multiboot: no header", "--boot flat16|flat64|elf|multiboot|pvh|linux");
    // None of the gallery is one, as a file.
    for guest in GALLERY {
        let elf = Elf::parse(guest.image);
        assert!(!elf.is_ok_and(|elf| program::is_for_linux(&elf)), "{}", guest.name);
    }
}

/// A static program for Linux: its file is loaded whole, header first, to 4 MiB, as linkers have it, and it has
/// variables of its own for each thread.
fn linux_program(code: &[u8]) -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 2 * 56;
    let all = Segment { address: BASE, bytes: code, size: HEADERS + code.len() as u64 };
    let mut file = elf(BASE + HEADERS, &[all, Segment { address: BASE, bytes: &[], size: 0 }]);
    // The first segment begins with the file, the second is a PT_TLS.
    let size = (file.len() as u64).to_le_bytes();
    file[64 + 8..64 + 16].copy_from_slice(&0_u64.to_le_bytes());
    file[64 + 32..64 + 40].copy_from_slice(&size);
    file[64 + 56..64 + 60].copy_from_slice(&7_u32.to_le_bytes());
    file
}

#[test]
fn a_program_for_linux_is_told_from_a_kernel() {
    if !has_kvm() {
        return;
    }
    // mov eax, 60; syscall: exit. And pxor xmm0, xmm0, as the C library begins.
    let cases: [(&[u8], &str); 2] = [
        (&[0xb8, 60, 0, 0, 0, 0x0f, 0x05], "SYSCALL, but it is not switched on: EFER.SCE is 0"),
        (&[0x66, 0x0f, 0xef, 0xc0], "an SSE (or MMX) instruction, but it is not switched on"),
    ];
    for (code, cause) in cases {
        let (_dir, path) = file(&linux_program(code));
        let ended = matchstick(["run", "--timeout", "10"]).args([path]).run();
        ended.status(123).says("it is a program for Linux, and there is no Linux under it");
        ended.says("hint: `matchstick exec PROGRAM` runs it, in a VM without Linux");
        if !ended.stderr.contains("registers   lost") {
            ended.says(cause);
        }
    }
    // A kernel with the same instruction is none.
    let (_dir, path) = file(&[0x0f, 0x05]);
    let ended = matchstick(["run", "--boot", "flat64", "--timeout", "10"]).args([path]).run();
    assert!(!ended.status(123).stderr.contains("Linux"), "{ended:?}");
}

#[test]
fn a_boot_sector_that_calls_the_bios_is_told_that_there_is_none() {
    if !has_kvm() {
        return;
    }
    // mov ax, 0x0e00; int 0x10; jmp $
    let (_dir, path) = file(&boot_sector(&[&[0xb8, 0x00, 0x0e, 0xcd, 0x10], code::LOOP]));
    let ended = matchstick(["run", "--timeout", "1"]).args([path]).run();
    // It runs for ever, or until its stack has come round to its code.
    assert!(matches!(ended.status, Some(123 | 124)), "{ended:?}");
    ended.says("it calls a BIOS (int 0x10 at 0x7c03), and there is none");
    ended.says("a byte that is written to port 0x3f8 is shown");
}

#[test]
fn what_a_kernel_writes_to_a_vga_screen_is_shown_when_it_ends() {
    if !has_kvm() {
        return;
    }
    // mov ax, 0xb800; mov es, ax; xor di, di; then for each letter: mov word [es:di], letter and colour; inc di; inc di
    let head: &[u8] = &[0xb8, 0x00, 0xb8, 0x8e, 0xc0, 0x31, 0xff];
    let letters: Vec<u8> =
        b"Hello!".iter().flat_map(|&letter| [0x26, 0xc7, 0x05, letter, 0x07, 0x47, 0x47]).collect();
    for (end, status, said) in
        [(code::HALT, 0, "halted with interrupts off"), (code::LOOP, 124, "did not end")]
    {
        let (_dir, path) = file(&boot_sector(&[head, &letters, end]));
        let ended = matchstick(["run", "--timeout", "1"]).args([path]).run();
        ended.status(status).says(said);
        ended.says("hint: it writes to a VGA screen at 0xb8000, and there is none: \"Hello!\"");
    }
    // One that has said what it had to say, and ends, is left alone.
    let (_dir, path) = file(&boot_sector(&[head, &letters, &code::exit(7)]));
    matchstick(["run", "--timeout", "10"]).args([path]).run().silent().status(7);
}
