//! The way down to ring 3 and back.
//!
//! Down: IRETQ pops a code segment, and the privilege with it. Back: an exception, or an instruction
//! that a gate allows; the processor then takes its stack from the TSS, because that of ring 3 may be
//! anything (Intel SDM 3A, "Stack Switching in IA-32e Mode").
//!
//! The system call is INT3 with a number in RAX. INT 0x80 through a gate of its own would be as good,
//! and SYSCALL quicker; INT3 is the one that even hypervisors which emulate ring 0 let through.

use crate::trap::TablePointer;
use core::arch::asm;
use core::ptr::{addr_of, addr_of_mut};

/// Vector of INT3.
pub const SYSTEM_CALL: usize = 3;

const USER_DATA: u64 = 0x20 | 3;
const USER_CODE: u64 = 0x28 | 3;
const TSS_SELECTOR: u16 = 0x30;

/// Code and data of ring 0 where both entries have them, those of ring 3, and the TSS, which takes two.
static mut GDT: [u64; 8] = [
    0,
    0,
    0x00af_9b00_0000_ffff, // 0x10: code, 64 bits
    0x00cf_9300_0000_ffff, // 0x18: data
    0x00cf_f300_0000_ffff, // 0x20: data, DPL 3
    0x00af_fb00_0000_ffff, // 0x28: code, 64 bits, DPL 3
    0,
    0,
];

/// The task-state segment of long mode (SDM 3A, "64-Bit TSS"): of its 104 bytes only RSP0 matters here.
static mut TSS: [u32; 26] = [0; 26];

const STACK_SIZE: usize = 2048;

#[repr(C, align(16))]
struct Stack([u8; STACK_SIZE]);

/// Ring 3's own; the handlers of ring 0 use the one the guest started with, from its top.
static mut USER_STACK: Stack = Stack([0; STACK_SIZE]);

unsafe extern "C" {
    static stack_top: u8;
}

/// Runs `function` in ring 3. It cannot return, for there is nothing to return to: it leaves by a
/// system call.
pub fn enter(function: extern "C" fn(u64) -> !, argument: u64) -> ! {
    // SAFETY: all of this belongs to the one processor, and the tables live as long as the machine.
    unsafe {
        let tss = addr_of_mut!(TSS);
        let rsp0 = addr_of!(stack_top) as u64;
        (*tss)[1] = rsp0 as u32;
        (*tss)[2] = (rsp0 >> 32) as u32;
        let gdt = addr_of_mut!(GDT);
        let (base, limit) = (tss as u64, size_of::<[u32; 26]>() as u64 - 1);
        const PRESENT_TSS: u64 = 0x89; // type 9: a 64-bit TSS not in use
        (*gdt)[6] = limit | (base & 0xff_ffff) << 16 | PRESENT_TSS << 40 | (base >> 24 & 0xff) << 56;
        (*gdt)[7] = base >> 32;
        let pointer = TablePointer { limit: size_of::<[u64; 8]>() as u16 - 1, base: gdt as u64 };
        asm!("lgdt [{}]", "ltr {:x}", in(reg) &pointer, in(reg) TSS_SELECTOR);
        open_memory();
        // A function expects its stack as CALL leaves it: 8 bytes off a multiple of 16.
        let stack = addr_of!(USER_STACK) as u64 + STACK_SIZE as u64 - 8;
        asm!(
            "push {ss}",
            "push {rsp}",
            "push 2", // RFLAGS: bit 1 is always one; interrupts stay off
            "push {cs}",
            "push {rip}",
            "iretq",
            ss = in(reg) USER_DATA,
            rsp = in(reg) stack,
            cs = in(reg) USER_CODE,
            rip = in(reg) function,
            in("rdi") argument,
            options(noreturn),
        )
    }
}

/// Lets ring 3 use the memory of the guest: the U bit, in each table on the way to its 2 MiB.
///
/// # Safety
/// CR3 must name identity-mapped tables.
unsafe fn open_memory() {
    const USER: u64 = 1 << 2;
    // SAFETY: the caller's promise.
    unsafe {
        let mut table: *mut u64;
        asm!("mov {}, cr3", out(reg) table);
        for _level in ["PML4", "PDPT", "page directory"] {
            *table |= USER;
            table = (*table & !0xfff) as *mut u64;
        }
        asm!("mov {0}, cr3", "mov cr3, {0}", out(reg) _); // forgets the translations known so far
    }
}

/// Calls ring 0 with a number and two arguments.
pub fn system_call(number: u64, a: u64, b: u64) {
    // SAFETY: the handler keeps all registers.
    unsafe { asm!("int3", in("rax") number, in("rdi") a, in("rsi") b) }
}
