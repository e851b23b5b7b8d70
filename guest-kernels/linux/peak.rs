//! peak: runs a program and says how much memory it had
//!
//! `peak PROGRAM ARGS...` ends as PROGRAM does, and writes the most KiB that any one process of it had resident to
//! descriptor 3, in decimal. Linux counts a child's memory from its fork, when it is still a copy of its parent:
//! so the one who asks has to be small. This program has a few pages.
#![no_std]
#![no_main]

#[allow(dead_code)]
mod calls;
#[path = "../mem.rs"]
mod mem;

use core::arch::asm;

/// Where the answer goes.
const ANSWER: i32 = 3;

#[unsafe(no_mangle)]
extern "C" fn main(stack: *const usize) -> ! {
    // SAFETY: this is how the kernel lays out the stack of a new program: argc, argv, zero, environment.
    let (argc, argv) = unsafe { (*stack, stack.add(1).cast::<*const u8>()) };
    if argc < 2 {
        leave(125);
    }
    match calls::fork() {
        Ok(0) => {
            // SAFETY: argv ends with a null pointer, and so does the environment behind it.
            unsafe { become_program(argv.add(1), argv.add(argc + 1)) };
            leave(127)
        }
        Ok(child) => answer(child),
        Err(_) => leave(125),
    }
}

/// execve(2) of the first of `words`.
///
/// # Safety
/// Both are lists of strings as the kernel wants them.
unsafe fn become_program(words: *const *const u8, environment: *const *const u8) {
    // The answer is not for the program.
    // SAFETY: the caller's promise; 3 is close(2), and 59 comes back only if it failed.
    unsafe {
        asm!("syscall", inout("rax") 3usize => _, in("rdi") ANSWER, out("rcx") _, out("r11") _);
        asm!("syscall", inout("rax") 59usize => _, in("rdi") *words, in("rsi") words, in("rdx") environment,
            out("rcx") _, out("r11") _);
    }
}

/// Waits for the program's end and writes what it used.
fn answer(child: usize) -> ! {
    loop {
        match calls::wait_for_usage() {
            Ok((ended, status, peak)) if ended == child => {
                let mut line = calls::Line::new();
                line.number(peak, 1);
                line.write_to(ANSWER);
                leave(if status & 0x7f == 0 { (status >> 8) as u8 } else { 128 + (status & 0x7f) as u8 });
            }
            Ok(_) => {}
            Err(_) => leave(125),
        }
    }
}

fn leave(status: u8) -> ! {
    calls::exit(status)
}
