//! Copies to and from a program's memory, which end where that memory ends.
//!
//! A fault in the copy reaches the process as SIGSEGV or SIGBUS, whose handler (`signals`) knows the copy by the address
//! of its one instruction, and leads out of it.

use std::arch::global_asm;

/// The program has given an address where it has no memory of the kind: EFAULT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault;

// The copy: RDI to, RSI from, RDX bytes; RAX says how many were not copied. REP MOVSB can be gone on with or given up
// at each byte (SDM volume 2B, "REP"), and is one instruction, by whose address the handler knows it.
global_asm!(
    ".globl matchstick_copy, matchstick_copy_at, matchstick_copy_end",
    "matchstick_copy:",
    "mov rcx, rdx",
    "matchstick_copy_at:",
    "rep movsb",
    "matchstick_copy_end:",
    "mov rax, rcx",
    "ret",
);

unsafe extern "C" {
    fn matchstick_copy(to: *mut u8, from: *const u8, len: usize) -> usize;
    fn matchstick_copy_at();
    fn matchstick_copy_end();
}

/// Copies `len` bytes of which one side is the program's memory.
pub(super) fn copy(to: *mut u8, from: *const u8, len: usize) -> Result<(), Fault> {
    // SAFETY: the callers give one side as a slice of ours and the other in an arena, of which we have no references.
    // A fault on the arena's side ends the copy (see `end_of_copy`). The direction flag is clear by the ABI.
    match unsafe { matchstick_copy(to, from, len) } {
        0 => Ok(()),
        _ => Err(Fault),
    }
}

/// Where a thread goes on that has faulted at `rip`, if that is in the copy.
pub(super) fn end_of_copy(rip: usize) -> Option<usize> {
    (rip == matchstick_copy_at as *const () as usize).then_some(matchstick_copy_end as *const () as usize)
}
