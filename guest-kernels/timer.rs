//! timer: ten ticks of the local APIC's timer, ten milliseconds apart
//!
//! The timer starts over by itself, which is its periodic mode. KVM knows that mode only on a processor
//! that was given a CPUID table; without one the first tick is the last.
//!
//! needs: cpuid, apic
//! expect: tick 1
//! expect: tick 2
//! expect: tick 3
//! expect: tick 4
//! expect: tick 5
//! expect: tick 6
//! expect: tick 7
//! expect: tick 8
//! expect: tick 9
//! expect: tick 10
#![no_std]
#![no_main]

#[macro_use]
mod rt;
#[macro_use]
mod trap;
mod apic;

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

const VECTOR: usize = 32;
static TICKS: AtomicU32 = AtomicU32::new(0);

trap!(on_tick, tick);

extern "C" fn tick(_: &mut trap::Frame) {
    TICKS.fetch_add(1, Relaxed);
    apic::end_of_interrupt();
}

#[unsafe(no_mangle)]
extern "C" fn main(_: rt::Boot) -> u8 {
    trap::handle(VECTOR, on_tick);
    apic::enable();
    apic::tick(VECTOR as u32, 10_000);
    let mut seen = 0;
    while seen < 10 {
        rt::sleep();
        // More than one if a line took longer than a tick.
        while seen < TICKS.load(Relaxed).min(10) {
            seen += 1;
            println!("tick {seen}");
        }
    }
    0
}
