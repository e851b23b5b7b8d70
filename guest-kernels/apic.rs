//! The interrupt controllers of every PC since the Pentium: a local APIC in each processor, which takes
//! interrupts, and one IOAPIC for the devices, which sends them (Intel SDM 3A, "APIC"; data sheet 82093AA).
#![allow(dead_code)] // no guest needs everything here

use crate::rt::out;

/// The local APIC of the processor that looks: each sees its own here.
const LOCAL: usize = 0xfee0_0000;
const ID: usize = 0x20;
const END_OF_INTERRUPT: usize = 0xb0;
const SPURIOUS: usize = 0xf0;
const COMMAND_LOW: usize = 0x300;
const COMMAND_HIGH: usize = 0x310;
const TIMER: usize = 0x320;
const TIMER_START: usize = 0x380;
const TIMER_NOW: usize = 0x390;
const TIMER_DIVIDE: usize = 0x3e0;

/// Bit 8 of the spurious vector register: the APIC is on. The vector itself is one no guest uses.
const ENABLE: u32 = 1 << 8 | 63;
/// Bit 17 of the timer's entry: start over whenever it reaches zero.
const PERIODIC: u32 = 1 << 17;
/// Bit 16: count, but interrupt nobody.
const MASKED: u32 = 1 << 16;
/// The divide register's code for 1.
const BY_1: u32 = 0b1011;
/// The hypervisor's timer counts nanoseconds, in KVM and in QEMU. That of a real processor counts its
/// own bus clock and has to be measured first.
pub const TICKS_PER_MICROSECOND: u32 = 1000;

/// Commands for another processor (SDM 3A, "Interrupt Command Register").
pub const INIT: u32 = 0x4500;
/// Bits 7:0 are the page at which it starts.
pub const STARTUP: u32 = 0x4600;
/// Bits 7:0 are the vector.
pub const FIXED: u32 = 0x4000;

fn read(register: usize) -> u32 {
    // SAFETY: both entries map the page, uncached.
    unsafe { ((LOCAL + register) as *const u32).read_volatile() }
}

fn write(register: usize, value: u32) {
    // SAFETY: as `read`.
    unsafe { ((LOCAL + register) as *mut u32).write_volatile(value) }
}

/// Turns the local APIC on.
pub fn enable() {
    // A PC with the old 8259 controllers has them deliver here too: mask all their lines.
    out(0x21, 0xff);
    out(0xa1, 0xff);
    write(SPURIOUS, ENABLE);
}

/// The number of this processor.
pub fn id() -> u32 {
    read(ID) >> 24
}

/// Says that the interrupt has been served; until then none of its class gets through.
pub fn end_of_interrupt() {
    write(END_OF_INTERRUPT, 0);
}

/// Has `vector` called every so many microseconds.
pub fn tick(vector: u32, microseconds: u32) {
    write(TIMER_DIVIDE, BY_1);
    write(TIMER, PERIODIC | vector);
    write(TIMER_START, microseconds * TICKS_PER_MICROSECOND);
}

/// Stops the timer.
pub fn stop_ticking() {
    write(TIMER_START, 0);
}

/// Waits by watching the timer run down.
pub fn wait(microseconds: u32) {
    write(TIMER_DIVIDE, BY_1);
    write(TIMER, MASKED);
    write(TIMER_START, microseconds * TICKS_PER_MICROSECOND);
    while read(TIMER_NOW) != 0 {}
}

/// Sends a command to the processor with that number: `INIT`, `STARTUP` or `FIXED`.
pub fn send(processor: u32, command: u32) {
    write(COMMAND_HIGH, processor << 24);
    write(COMMAND_LOW, command); // this write sends it
}

/// The IOAPIC has two registers: which one, and its value.
const IO_SELECT: *mut u32 = 0xfec0_0000 as *mut u32;
const IO_WINDOW: *mut u32 = 0xfec0_0010 as *mut u32;
/// Two words for each pin begin here.
const REDIRECTION: u32 = 0x10;

/// Sends the interrupts of a pin to this processor as `vector`, on the rising edge.
pub fn route(pin: u32, vector: u32) {
    // SAFETY: both entries map the page, uncached; one processor uses it.
    unsafe {
        IO_SELECT.write_volatile(REDIRECTION + 2 * pin + 1);
        IO_WINDOW.write_volatile(id() << 24);
        IO_SELECT.write_volatile(REDIRECTION + 2 * pin);
        IO_WINDOW.write_volatile(vector); // all other bits 0: fixed, edge, not masked
    }
}
