//! Copies to and from a program's memory, which end where that memory ends; and a word of it that is exchanged.
//!
//! A fault in one of them reaches the process as SIGSEGV or SIGBUS, whose handler (`signals`) knows it by the address
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

// The exchange: RDI where, ESI what is expected there, EDX what is to be there; RAX says what was, or that it faulted.
global_asm!(
    ".globl matchstick_exchange, matchstick_exchange_at, matchstick_exchange_failed",
    "matchstick_exchange:",
    "mov eax, esi",
    "matchstick_exchange_at:",
    "lock cmpxchg [rdi], edx",
    "ret",
    "matchstick_exchange_failed:",
    "mov rax, -1",
    "ret",
);

unsafe extern "C" {
    fn matchstick_copy(to: *mut u8, from: *const u8, len: usize) -> usize;
    fn matchstick_copy_at();
    fn matchstick_copy_end();
    fn matchstick_exchange(at: *mut u32, old: u32, new: u32) -> u64;
    fn matchstick_exchange_at();
    fn matchstick_exchange_failed();
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

/// Puts `new` in the place of `old` in the program's memory, if that is what is there, in one step that no other thread
/// or process comes between. Returns what was there.
pub(super) fn exchange(at: *mut u32, old: u32, new: u32) -> Result<u32, Fault> {
    // SAFETY: the callers give a word of an arena, of which we have no references. A fault is led out of.
    u32::try_from(unsafe { matchstick_exchange(at, old, new) }).map_err(|_| Fault)
}

/// Where a thread goes on that has faulted at `rip`, if that is in the copy or in the exchange.
pub(super) fn end_of_copy(rip: usize) -> Option<usize> {
    let ways_out = [
        (matchstick_copy_at as *const (), matchstick_copy_end as *const ()),
        (matchstick_exchange_at as *const (), matchstick_exchange_failed as *const ()),
    ];
    ways_out.into_iter().find(|(at, _)| *at as usize == rip).map(|(_, out)| out as usize)
}
