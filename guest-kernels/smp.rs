//! smp: wakes the other processors, one by one
//!
//! When a PC starts, one processor runs and the others wait. Each is woken by two messages through the
//! local APIC: INIT, a reset, and STARTUP, which names the page where it begins, in real mode, as in
//! 1978 (Intel SDM 3A, "MP Initialization"). So each climbs to long mode on its own, through the
//! trampoline below, and takes over the page tables of the first.
//!
//! How many there are is in register 0x5f of the CMOS memory, as QEMU has it.
//!
//! needs: cpus 4, cpuid, apic
//! expect: cpu 0 is up, and there are 3 more
//! expect: cpu 1 is up
//! expect: cpu 2 is up
//! expect: cpu 3 is up
#![no_std]
#![no_main]

#[macro_use]
mod rt;
mod apic;

use core::arch::{asm, global_asm};
use core::ptr::{addr_of, addr_of_mut, copy_nonoverlapping};
use core::sync::atomic::{AtomicU32, Ordering};

/// Where the trampoline goes: a free page below 1 MiB, for real mode reaches no further.
const TRAMPOLINE: usize = 0x8000;

// The trampoline runs at another address than it was linked to. That matters twice: real mode starts
// with CS = 0x800 and IP = 0, so data is addressed as an offset from its start, and the jump out of it
// goes to an address in the image.
global_asm!(
    r#"
.section .data.trampoline, "aw"
.code16
trampoline:
    cli
    mov ax, cs
    mov ds, ax
    mov eax, dword ptr [cr3_offset]
    mov cr3, eax                        // the page tables of the first processor
    mov eax, cr4
    or eax, 1 << 5                      // CR4.PAE
    mov cr4, eax
    mov ecx, 0xc0000080                 // EFER
    rdmsr
    or eax, 1 << 8                      // EFER.LME
    wrmsr
    mov eax, cr0
    and eax, 0x9fffffff                 // CD and NW, which INIT sets, off: use the caches
    or eax, 0x80000001                  // CR0.PG and CR0.PE: real to long mode in one step
    mov cr0, eax
    lgdt [gdt_pointer_offset]
    .byte 0x66, 0xea                    // far jump, with an offset of 32 bits
    .long processor_start
    .word 0x10
.balign 8
trampoline_gdt: .quad 0, 0              // the selectors of the first processor
    .quad 0x00af9b000000ffff            // 0x10: code, 64 bits
    .quad 0x00cf93000000ffff            // 0x18: data
trampoline_gdt_pointer: .word 4 * 8 - 1
    .long {trampoline} + trampoline_gdt - trampoline
trampoline_cr3: .long 0
trampoline_end:
cr3_offset = trampoline_cr3 - trampoline
gdt_pointer_offset = trampoline_gdt_pointer - trampoline

.section .text.processor, "ax"
.code64
processor_start:
    mov eax, 0x18
    mov ss, eax
    mov rsp, [PROCESSOR_STACK]
    call processor_main
    cli
2:  hlt                                 // no interrupt comes: for ever
    jmp 2b
"#,
    trampoline = const TRAMPOLINE,
);

unsafe extern "C" {
    static trampoline: u8;
    static trampoline_end: u8;
    static mut trampoline_cr3: u32;
}

/// Processors beyond this many stay asleep.
const MOST: usize = 16;
const STACK_SIZE: usize = 2048;

#[repr(C, align(16))]
struct Stack([u8; STACK_SIZE]);

static mut STACKS: [Stack; MOST] = [const { Stack([0; STACK_SIZE]) }; MOST];
/// The stack of the processor being woken.
#[unsafe(no_mangle)]
static mut PROCESSOR_STACK: u64 = 0;
/// How many have said that they are up.
static UP: AtomicU32 = AtomicU32::new(0);

#[unsafe(no_mangle)]
extern "C" fn processor_main() {
    println!("cpu {} is up", apic::id());
    UP.fetch_add(1, Ordering::Release);
}

#[unsafe(no_mangle)]
extern "C" fn main(_: rt::Boot) -> u8 {
    rt::out(0x70, 0x5f);
    let others = rt::inp(0x71) as usize;
    println!("cpu 0 is up, and there {} {others} more", if others == 1 { "is" } else { "are" });
    apic::enable();
    // SAFETY: nothing else uses the trampoline's page, and no other processor runs yet.
    unsafe {
        let cr3: u64;
        asm!("mov {}, cr3", out(reg) cr3);
        trampoline_cr3 = cr3 as u32; // both entries put the tables below 4 GiB
        let len = addr_of!(trampoline_end) as usize - addr_of!(trampoline) as usize;
        copy_nonoverlapping(addr_of!(trampoline), TRAMPOLINE as *mut u8, len);
    }
    for cpu in 1..(others + 1).min(MOST) {
        if !wake(cpu) {
            println!("cpu {cpu} does not answer");
            return 1;
        }
    }
    if others >= MOST {
        println!("the rest stays asleep: there are stacks for {MOST}");
    }
    0
}

/// INIT, STARTUP and, if that was lost, STARTUP again; true once the processor has spoken.
fn wake(cpu: usize) -> bool {
    // SAFETY: one processor at a time starts, and this one waits for it.
    unsafe { addr_of_mut!(PROCESSOR_STACK).write_volatile(addr_of!(STACKS[cpu]) as u64 + STACK_SIZE as u64) };
    apic::send(cpu as u32, apic::INIT);
    apic::wait(200);
    for _ in 0..2 {
        apic::send(cpu as u32, apic::STARTUP | (TRAMPOLINE >> 12) as u32);
        for _ in 0..1000 {
            if UP.load(Ordering::Acquire) as usize == cpu {
                return true;
            }
            apic::wait(200);
        }
    }
    false
}
