//! Several processors, one memory: the program of chapter 8.
//!
//! expect: processor 0 counted to 2000
//! expect: processor 1 counted to 2000
//! expect: together, in one step: 4000
//! expect: together, in three: * of 4000
use matchstick::kvm::{Exit, Kvm, Vcpu};
use matchstick::x86::{Entry, Mode};
use matchstick::{Bytes, GuestAddress};
use std::error::Error;
use std::thread;

#[macro_use]
mod guest;

const CPUS: u32 = 2;

fn main() -> Result<(), Box<dyn Error>> {
    // ANCHOR: guest
    let guest = guest! {
        ".code16"
        "mov bx, ax" //                      who am I? The host has put it into AX
        "add bx, bx"
        "mov cx, 2000"
        "2: inc word ptr [bx + 0x1000]" //   a cell of its own
        "lock inc word ptr [0x1010]" //      one for all, in one step
        "mov dx, [0x1012]" //                one for all, in three: the other may come between
        "inc dx"
        "mov [0x1012], dx"
        "loop 2b"
        "hlt"
    };
    // ANCHOR_END: guest

    // ANCHOR: threads
    let mut vm = Kvm::open()?.create_vm()?;
    let memory = vm.add_memory(64 << 10)?.clone();
    memory.write_slice(guest, GuestAddress(0x7c00))?;
    let mut vcpus = Vec::new();
    for index in 0..CPUS {
        let mut vcpu = vm.create_vcpu(index)?;
        vcpu.enter(&Entry { rax: index.into(), ..Entry::at(Mode::Real, 0x7c00) });
        vcpus.push(vcpu);
    }
    // A processor is a thread that has called KVM_RUN.
    thread::scope(|scope| {
        let running: Vec<_> = vcpus.iter_mut().map(|vcpu| scope.spawn(|| run_to_halt(vcpu))).collect();
        running.into_iter().try_for_each(|thread| thread.join().unwrap_or(Err("a thread panicked".into())))
    })?;
    // ANCHOR_END: threads

    let cell = |address: u64| memory.read_obj(GuestAddress(address)).map(u16::from_le);
    for index in 0..CPUS {
        println!("processor {index} counted to {}", cell(0x1000 + 2 * u64::from(index))?);
    }
    println!("together, in one step: {}", cell(0x1010)?);
    println!("together, in three: {} of {}", cell(0x1012)?, 2000 * CPUS);
    Ok(())
}

fn run_to_halt(vcpu: &mut Vcpu) -> Result<(), String> {
    match vcpu.run() {
        Ok(Exit::Halt) => Ok(()),
        Ok(other) => Err(format!("not expected: {other:?}")),
        Err(error) => Err(error.to_string()),
    }
}
