//! One memory, seen from both sides: the program of chapter 2.
//!
//! expect: host: put 21 at 0x1000
//! expect: guest: wrote 7 to 0x20010, where no memory is
//! expect: guest: halted
//! expect: host: found 42 at 0x1002
//! expect: host: a guest of 1024 MiB takes * KiB
//! expect: host: with a byte in 4096 of its pages, 1* KiB
use matchstick::kvm::{Exit, Kvm};
use matchstick::x86::{Entry, Mode};
use matchstick::{Bytes, GuestAddress};
use std::error::Error;

#[macro_use]
mod guest;

fn main() -> Result<(), Box<dyn Error>> {
    // ANCHOR: guest
    let guest = guest! {
        ".code16"
        "mov ax, [0x1000]" //       what the host has put there
        "add ax, ax"
        "mov [0x1002], ax" //       for the host to find
        "mov ax, 0x2000"
        "mov ds, ax" //             from here on, address = 0x2000 * 16 + offset
        "mov byte ptr [0x10], 7" // 0x20010: beyond the 64 KiB of this machine
        "hlt"
    };
    // ANCHOR_END: guest

    // ANCHOR: both_sides
    let mut vm = Kvm::open()?.create_vm()?;
    let memory = vm.add_memory(64 << 10)?.clone();
    memory.write_slice(guest, GuestAddress(0x7c00))?;
    memory.write_obj(21_u16.to_le(), GuestAddress(0x1000))?;
    println!("host: put 21 at 0x1000");

    let mut vcpu = vm.create_vcpu(0)?;
    vcpu.enter(&Entry::at(Mode::Real, 0x7c00));
    loop {
        match vcpu.run()? {
            Exit::MmioWrite { address, data } => {
                println!("guest: wrote {} to {address:#x}, where no memory is", data[0]);
            }
            Exit::Halt => break,
            other => return Err(format!("not expected: {other:?}").into()),
        }
    }
    println!("guest: halted");
    let found: u16 = memory.read_obj(GuestAddress(0x1002))?;
    println!("host: found {} at 0x1002", u16::from_le(found));
    // ANCHOR_END: both_sides

    // ANCHOR: lazy
    let before = resident()?;
    let mut large = Kvm::open()?.create_vm()?;
    let pages = large.add_memory(1024 << 20)?;
    println!("host: a guest of 1024 MiB takes {} KiB", resident()?.saturating_sub(before));
    for page in 0..4096 {
        pages.write_obj(1_u8, GuestAddress(page * 4096))?;
    }
    println!("host: with a byte in 4096 of its pages, {} KiB", resident()?.saturating_sub(before));
    // ANCHOR_END: lazy
    Ok(())
}

/// The memory of this process that is really there, in KiB (proc_pid_status(5), `VmRSS`).
fn resident() -> Result<u64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("there is no VmRSS")?;
    Ok(line.trim_end_matches("kB").trim().parse()?)
}
