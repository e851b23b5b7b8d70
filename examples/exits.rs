//! Why a guest stops, how often, and what that costs: the program of chapter 4.
//!
//! expect: reason      times   µs each
//! expect: OUT           100 *
//! expect: IN            100 *
//! expect: MMIO write    100 *
//! expect: HLT             1 *
use matchstick::kvm::{Exit, Kvm};
use matchstick::x86::{Entry, Mode};
use matchstick::{Bytes, GuestAddress};
use std::error::Error;
use std::time::{Duration, Instant};

#[macro_use]
mod guest;

fn main() -> Result<(), Box<dyn Error>> {
    // ANCHOR: guest
    let guest = guest! {
        ".code16"
        "mov ax, 0x2000"
        "mov ds, ax" //           0x20000: beyond the memory of this machine
        "mov cx, 100"
        "2: out 0x80, al" //      a port
        "in al, 0x80"
        "mov [0], al" //          an address where no memory is
        "add bx, cx" //           work of its own: nobody hears of it
        "loop 2b"
        "hlt"
    };
    // ANCHOR_END: guest

    let mut vm = Kvm::open()?.create_vm()?;
    vm.add_memory(64 << 10)?.write_slice(guest, GuestAddress(0x7c00))?;
    let mut vcpu = vm.create_vcpu(0)?;
    vcpu.enter(&Entry::at(Mode::Real, 0x7c00));

    // ANCHOR: loop
    let mut table =
        [("OUT", Vec::new()), ("IN", Vec::new()), ("MMIO write", Vec::new()), ("HLT", Vec::new())];
    let mut halted = false;
    while !halted {
        // From our last instruction before the guest to our first after it.
        let before = Instant::now();
        let exit = vcpu.run()?;
        let took = before.elapsed();
        let row = match exit {
            Exit::Out { port: 0x80, .. } => 0,
            Exit::In { port: 0x80, data, .. } => {
                data.fill(0xff); // what the guest will find in AL
                1
            }
            Exit::MmioWrite { .. } => 2,
            Exit::Halt => {
                halted = true;
                3
            }
            other => return Err(format!("not expected: {other:?}").into()),
        };
        table[row].1.push(took);
    }
    // ANCHOR_END: loop
    println!("reason      times   µs each");
    for (reason, times) in &mut table {
        println!("{reason:10} {:6} {:9.1}", times.len(), median(times).as_secs_f64() * 1e6);
    }
    Ok(())
}

/// The one in the middle: a few long ones, when this process had to wait for its turn, do not move it.
fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
