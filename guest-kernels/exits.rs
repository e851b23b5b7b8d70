//! exits: what it costs to leave the virtual machine, by reason
//!
//! Some instructions the processor does not run in a guest: it stops, the hypervisor does something in
//! their place, and the guest goes on. Each row times one such instruction with the processor's clock.
//! The kernel answers CPUID and HLT by itself; a port or an address without memory goes on to the VMM,
//! which is another program, and that journey is most of the price.
//!
//! HLT has an interrupt waiting when it comes, so it does not sleep: the row shows the way out and in,
//! and the interrupt itself.
//!
//! expect: cycles of the TSC * minimum * median
//! expect: RDTSC alone *
//! expect: CPUID *
//! expect: HLT, interrupted *
//! expect: port, IN *
//! expect: memory, MOV *
//! needs: cpuid, apic
#![no_std]
#![no_main]

#[macro_use]
mod rt;
#[macro_use]
mod trap;
mod apic;

use core::arch::{asm, x86_64};

/// Enough for a median; few, because where ring 0 is emulated each takes its time.
const ROUNDS: usize = 21;

/// A port at which there is no device.
const NO_DEVICE: u16 = 0xe0;
/// An address at which there is no memory: 3.25 GiB, in the hole that every PC has below 4 GiB.
const NO_MEMORY: usize = 0xd000_0000;

const VECTOR: usize = 32;

trap!(on_interrupt, interrupt);

extern "C" fn interrupt(_: &mut trap::Frame) {
    apic::end_of_interrupt();
}

/// Times `exit`, which `prepare` sets up, and prints a row.
fn measure(name: &str, prepare: impl Fn(), exit: impl Fn()) {
    let mut cycles = [0; ROUNDS];
    for slot in &mut cycles {
        prepare();
        // SAFETY: RDTSC reads a counter.
        unsafe {
            let start = x86_64::_rdtsc();
            exit();
            *slot = x86_64::_rdtsc() - start;
        }
    }
    sort(&mut cycles);
    println!("{name:<18} {:>13} {:>9}", cycles[0], cycles[ROUNDS / 2]);
}

/// Insertion sort: the shortest, and quick enough for so few.
fn sort(values: &mut [u64]) {
    for end in 1..values.len() {
        let mut i = end;
        while i > 0 && values[i - 1] > values[i] {
            values.swap(i - 1, i);
            i -= 1;
        }
    }
}

/// Makes NO_MEMORY an address that paging lets through, so that only the hypervisor can object.
fn map_the_hole() {
    // SAFETY: CR3 and the entries name tables that are mapped at their own addresses; the fourth GiB has
    // a directory, since the APICs are in it, and its entry for NO_MEMORY is free.
    unsafe {
        let pml4: *const u64;
        asm!("mov {}, cr3", out(reg) pml4);
        let pdpt = (*pml4 & !0xfff) as *const u64;
        let directory = (*pdpt.add(3) & !0xfff) as *mut u64;
        let entry = NO_MEMORY >> 21 & 511;
        directory.add(entry).write_volatile(NO_MEMORY as u64 | 0x93); // present, writable, uncached, 2 MiB
    }
}

fn nothing() {}

fn cpuid() {
    // Written out, because the compiler may drop a CPUID whose result nobody reads.
    // SAFETY: writes four registers; RBX, which the compiler does not lend, is put back.
    unsafe {
        asm!(
            "mov {saved}, rbx",
            "cpuid",
            "mov rbx, {saved}",
            saved = out(reg) _,
            inout("eax") 0 => _,
            out("ecx") _,
            out("edx") _,
        )
    }
}

fn port() {
    rt::inp(NO_DEVICE);
}

fn memory() {
    // SAFETY: `map_the_hole` mapped it; nothing answers, and all ones come back.
    unsafe { (NO_MEMORY as *const u32).read_volatile() };
}

/// Has an interrupt wait for the next HLT, which lets it in.
fn interrupt_myself() {
    apic::send(apic::id(), apic::FIXED | VECTOR as u32);
}

#[unsafe(no_mangle)]
extern "C" fn main(_: rt::Boot) -> u8 {
    map_the_hole();
    trap::handle(VECTOR, on_interrupt);
    apic::enable();

    println!("{:<22} {:>9} {:>9}", "cycles of the TSC", "minimum", "median");
    measure("RDTSC alone", nothing, nothing);
    measure("CPUID", nothing, cpuid);
    measure("HLT, interrupted", interrupt_myself, rt::sleep);
    measure("port, IN", nothing, port);
    measure("memory, MOV", nothing, memory);
    0
}
