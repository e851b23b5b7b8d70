//! What the processor, the user and the terminal are, asked of them directly.
//!
//! Sources: Intel SDM volume 2A, "CPUID"; geteuid(2), ioctl_tty(2).

use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;

/// EAX, EBX, ECX and EDX of a CPUID leaf, of its subleaf 0.
pub fn cpuid(leaf: u32) -> [u32; 4] {
    // Newer toolchains have it as a safe function.
    #[allow(unused_unsafe)]
    // SAFETY: every x86-64 processor has the instruction; it changes nothing but the four registers.
    let answer = unsafe { std::arch::x86_64::__cpuid(leaf) };
    [answer.eax, answer.ebx, answer.ecx, answer.edx]
}

/// The ring this very code runs in: the two lowest bits of CS (SDM volume 3A, section 6.5, "Privilege Levels").
pub fn ring() -> u8 {
    let cs: u16;
    // SAFETY: reads a segment register, which is no privileged thing.
    unsafe { std::arch::asm!("mov {0:x}, cs", out(reg) cs, options(nomem, nostack, preserves_flags)) };
    (cs & 3) as u8
}

/// One system call that does next to nothing, for those who time it: getppid(2), whose answer is not cached.
pub fn smallest_system_call() {
    // SAFETY: it takes nothing and cannot fail.
    unsafe { libc::getppid() };
}

/// The user whose rights this process has.
pub fn effective_user() -> u32 {
    // SAFETY: geteuid takes nothing and cannot fail.
    unsafe { libc::geteuid() }
}

/// The width of the terminal behind `output`, in columns; `None` if it is none, or does not know.
pub fn columns(output: &impl AsRawFd) -> Option<usize> {
    let mut size = MaybeUninit::<libc::winsize>::zeroed();
    // SAFETY: TIOCGWINSZ writes a winsize or fails; all zeroes is a valid one.
    let size = unsafe {
        if libc::ioctl(output.as_raw_fd(), libc::TIOCGWINSZ, size.as_mut_ptr()) != 0 {
            return None;
        }
        size.assume_init()
    };
    (size.ws_col > 0).then_some(size.ws_col.into())
}
