//! What the processor and the user are, and what else the host gives who asks for it.
//!
//! Sources: Intel SDM volume 2A, "CPUID"; geteuid(2), getrandom(2).

use std::io;

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

/// Bytes from the host's random number generator (getrandom(2)).
///
/// By hand: vmm-sys-util's `rand` calculates its bytes from the clock, and an attacker can guess them.
pub fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    // SAFETY: getrandom writes at most as many bytes as it is told, into an array of that length.
    let count = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), N, 0) };
    match usize::try_from(count) {
        Ok(count) if count == N => Ok(bytes),
        // Up to 256 bytes come whole or not at all.
        _ => Err(io::Error::last_os_error()),
    }
}
