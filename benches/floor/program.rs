//! The floor as a program: the least a process can do that starts `hello` and passes its line on.
//!
//! Built by `benches/start.rs` twice: without a C library, and with `--cfg libc` on a static one.
#![cfg_attr(not(libc), no_std)]
#![no_main]

mod floor;

static HELLO: &[u8] = include_bytes!(env!("HELLO"));

unsafe extern "C" fn run() -> ! {
    // SAFETY: HELLO is the guest it is made for; write and exit_group take what they are given.
    unsafe {
        floor::start(HELLO, |line| {
            floor::syscall(1, [1, line.as_ptr() as usize, line.len(), 0, 0, 0]);
        });
        floor::syscall(231, [0; 6]);
    }
    loop {}
}

#[cfg(libc)]
#[unsafe(no_mangle)]
extern "C" fn main() -> i32 {
    // SAFETY: called once.
    unsafe { run() }
}

/// The compiler asks for it by name where it copies more than a few bytes.
#[cfg(not(libc))]
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    // SAFETY: the caller's.
    unsafe {
        core::arch::asm!("rep movsb", inout("rcx") length => _, inout("rdi") to => _, inout("rsi") from => _);
    }
    to
}

#[cfg(not(libc))]
core::arch::global_asm!(".globl _start", "_start: and rsp, -16", "call {run}", run = sym run);

#[cfg(not(libc))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
