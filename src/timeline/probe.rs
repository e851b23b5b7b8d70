//! What can be watched of a machine: the phases of its start, the calls to the host, the exits.
//!
//! A [`Probe`] is told what happens; the probe `()` hears nothing and costs nothing.

use crate::kvm::{Call, Exit, Vcpu};
use std::ops::ControlFlow;

/// A step on the way from the first instruction of a process to the last of its VM.
///
/// The order is the order in which they happen. Each ends when it is marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// From exec to `main`: the kernel maps the program, libc prepares itself.
    Exec,
    /// The command line is read and the image is in memory.
    Prepare,
    /// /dev/kvm is open.
    Open,
    /// `KVM_CREATE_VM`.
    CreateVm,
    /// `KVM_CAP_SPLIT_IRQCHIP`.
    LocalApics,
    /// mmap and `KVM_SET_USER_MEMORY_REGION`.
    AddMemory,
    /// The address space of a program is reserved.
    Arena,
    /// The devices are on their bus.
    Devices,
    /// The image, its tables and its arguments are in guest memory; or a golden image was found to fit this host.
    Load,
    /// `KVM_CREATE_VCPU` for each processor.
    CreateVcpus,
    /// The boot processor's registers; `KVM_SET_CPUID2` for a guest that wants it.
    Registers,
    /// Signals, timer, threads and the sandbox: everything that is left before the guest runs.
    Confine,
    /// The guest runs until its first byte leaves the serial port.
    FirstByte,
    /// The program runs until it wants its first system call.
    FirstCall,
    /// The program runs to its end.
    Program,
    /// The guest wrote this POST code for the first time; [`READY_FOR_INPUT`](crate::x86::ports::READY_FOR_INPUT) says that a Linux runs our init.
    Post(u8),
    /// The guest runs to its end.
    Guest,
    /// vCPUs, VM and memory are given back to the host.
    Teardown,
    /// From our last instruction until the parent has reaped the process.
    Reap,
}

/// Something that watches a machine start and run. It sees vCPU 0; a [`Companion`] sees another one.
///
/// ```text
///   mark, call … mark ┊ enter ─▶ KVM_RUN ─▶ exit ─▶ served ─┐ mark
///                     ┊   ▲─────────────────────────────────┘
/// ```
pub trait Probe {
    /// `phase` has just ended.
    fn mark(&mut self, _phase: Phase) {}

    /// Asks the host for something: `body` does it, `_call` says what it is.
    fn call<T>(&mut self, _call: impl FnOnce() -> Call, body: impl FnOnce() -> T) -> T {
        body()
    }

    /// The vCPU is about to go into the guest; its registers are those of the last exit. `Break` ends the run.
    fn enter(&mut self, _vcpu: &mut Vcpu) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    /// The guest has left for `_exit`, which is about to be served.
    fn exit(&mut self, _exit: &Exit<'_>) {}

    /// The board has answered `_exit`: what the guest reads is filled in. `_device` says who answered.
    fn served(&mut self, _exit: &Exit<'_>, _device: impl FnOnce() -> &'static str) {}

    /// The run is over: the vCPU has left the guest for good.
    fn left(&mut self, _vcpu: &mut Vcpu) {}

    /// What is to watch vCPU `_index`, which is not the first, on its own thread. Asked before any vCPU runs.
    fn companion(&mut self, _index: usize) -> Option<Box<dyn Companion>> {
        None
    }
}

/// Something that watches a vCPU other than the first, for a [`Probe`]. Its methods are those of the probe.
pub trait Companion: Send {
    /// See [`Probe::enter`].
    fn enter(&mut self, vcpu: &mut Vcpu) -> ControlFlow<()>;

    /// See [`Probe::exit`].
    fn exit(&mut self, exit: &Exit<'_>);

    /// See [`Probe::left`].
    fn left(&mut self, vcpu: &mut Vcpu);
}

impl Probe for Box<dyn Companion> {
    fn enter(&mut self, vcpu: &mut Vcpu) -> ControlFlow<()> {
        (**self).enter(vcpu)
    }

    fn exit(&mut self, exit: &Exit<'_>) {
        (**self).exit(exit);
    }

    fn left(&mut self, vcpu: &mut Vcpu) {
        (**self).left(vcpu);
    }
}

impl Probe for () {}
