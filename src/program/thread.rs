//! A thread of a program: its vCPU, where that stands, and how it is made to go on elsewhere.

use super::actions::AlternateStack;
use super::calls::Stop;
use super::image::Begin;
use super::process::{Process, lock};
use super::processor::Processor;
use super::stub;
use crate::error::Result;
use crate::kvm::ring3::{Fpu, ProgramVcpu};
use crate::sys::program as sys;
use crate::timeline::Observer;
use kvm_bindings::kvm_regs;
use std::sync::Arc;

/// One thread, with its vCPU.
pub struct Thread {
    pub process: Arc<Process>,
    pub vcpu: ProgramVcpu,
    /// The vCPU's page of the system's memory.
    pub page: u64,
    /// The kernel's number, which is the program's as well.
    pub number: i32,
    /// The signals that it blocks.
    pub mask: u64,
    pub alternate: AlternateStack,
    /// A word that is cleared when the thread ends, and woken (set_tid_address(2)), or 0.
    pub clear_at_end: u64,
    /// The head of its list of locks (set_robust_list(2)), or 0.
    pub robust_list: u64,
    /// Where the vCPU stands.
    pub stop: Stop,
    /// Whether it is in ring 0, in a stub of ours.
    pub is_in_stub: bool,
    /// The call at which it stands is to be made once more, unless a handler is to end it (EINTR).
    pub is_call_undone: bool,
    /// Its vCPU has no CPUID yet, as nobody has asked: see `complete`.
    pub is_bare: bool,
    /// It is made to fault where the host has no page: see `no_page`.
    pub is_probing: bool,
    /// Who watches it, if anybody does.
    pub observer: Option<Box<dyn Observer>>,
    /// How a thread that it starts runs: the loop stands above the calls, one of which starts it.
    pub run_other: fn(Thread),
}

/// How a thread ends.
pub enum End {
    /// By itself, with a status that counts if it is the last one.
    Alone(i32),
    /// With all of the process.
    Process(i32),
}

impl Thread {
    /// The first thread of a program, which is the calling one. A program that does not ask for CPUID when it starts
    /// has a vCPU without.
    pub fn first(
        process: Arc<Process>,
        begin: Begin,
        asks_cpuid: bool,
        run_other: fn(Thread),
    ) -> Result<Thread> {
        let (mut vcpu, page) = lock(&process.space).create_vcpu()?;
        let is_bare = !asks_cpuid && process.set_up_bare(&mut vcpu, page)?;
        if !is_bare {
            process.set_up(&mut vcpu, page)?;
        }
        let mut thread = Thread { is_bare, ..Thread::on(process, vcpu, page, run_other) };
        thread.mask = sys::current_mask();
        thread.begin(begin);
        Ok(thread)
    }

    /// A thread on `vcpu`, whose registers are to be set.
    pub fn on(process: Arc<Process>, vcpu: ProgramVcpu, page: u64, run_other: fn(Thread)) -> Thread {
        Thread {
            process,
            vcpu,
            page,
            number: sys::thread_id(),
            mask: 0,
            alternate: AlternateStack::default(),
            clear_at_end: 0,
            robust_list: 0,
            stop: Stop::Program,
            is_in_stub: false,
            is_call_undone: false,
            is_bare: false,
            is_probing: false,
            observer: None,
            run_other,
        }
    }

    /// Sets the registers of a vCPU that has not run yet, or stands in ring 3.
    fn begin(&mut self, begin: Begin) {
        let rflags = stub::flags(0, self.process.how());
        *self.vcpu.registers_mut() =
            kvm_regs { rip: begin.rip, rsp: begin.rsp, rflags, ..kvm_regs::default() };
    }

    /// Writes its stub, once it is known how calls go back: with the answers that are this thread's by now, unless
    /// somebody watches, who wants to hear of every call.
    pub fn set_calls(&mut self) {
        let Some(how) = self.process.how() else { return };
        let [uid, euid, gid, egid] = sys::ids().map(|id| id as u32);
        let answers = [std::process::id(), self.number as u32, uid, euid, gid, egid];
        let answers = self.observer.is_none().then_some(&answers);
        stub::set_calls(lock(&self.process.space).system(), self.page, how, answers);
    }

    /// It has another vCPU now, which has not run yet.
    pub fn renew(&mut self) {
        (self.stop, self.is_in_stub, self.is_call_undone) = (Stop::Program, false, false);
    }

    /// Gives it a vCPU with all that the processor has, if its own is a bare one: that one has run, and then KVM
    /// lets nobody set CPUID any more. It happens when the program executes CPUID, or an instruction that is none
    /// without it; and before there is a handler, a thread or a child, so that all else finds every register.
    pub fn complete(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.is_bare) {
            return Ok(());
        }
        let copied = Copied::of(self)?;
        self.vcpu = lock(&self.process.space).create_vcpu_again()?;
        self.process.set_up(&mut self.vcpu, self.page)?;
        self.renew();
        copied.put(self)
    }

    /// Goes on at another program's beginning.
    pub fn begin_anew(&mut self, begin: Begin) -> Result<()> {
        let rflags = stub::flags(0, self.process.how());
        self.go_on_at(kvm_regs { rip: begin.rip, rsp: begin.rsp, rflags, ..kvm_regs::default() })
    }

    /// The program's registers, wherever the vCPU stands.
    pub fn state(&mut self) -> kvm_regs {
        let registers = self.vcpu.registers();
        match self.stop {
            Stop::AfterCall => kvm_regs { rip: registers.rcx, rflags: registers.r11, ..registers },
            _ => registers,
        }
    }

    /// Has the program go on with these registers.
    pub fn go_on_at(&mut self, registers: kvm_regs) -> Result<()> {
        let rflags = stub::flags(registers.rflags, self.process.how());
        *self.vcpu.registers_mut() = kvm_regs { rflags, ..registers };
        self.stop = Stop::Program;
        if std::mem::take(&mut self.is_in_stub) {
            let mut system = self.vcpu.system()?;
            stub::back_to_ring3(&mut system);
            self.vcpu.set_system(system);
        }
        Ok(())
    }
}

/// What a vCPU begins with that goes on where another one stands.
pub struct Copied {
    pub registers: kvm_regs,
    pub fpu: Fpu,
    pub fs_base: u64,
    pub gs_base: u64,
}

impl Copied {
    /// What `thread` has.
    pub fn of(thread: &mut Thread) -> Result<Copied> {
        let [fs_base, gs_base] = thread.vcpu.bases()?;
        Ok(Copied { registers: thread.state(), fpu: thread.vcpu.fpu()?, fs_base, gs_base })
    }

    /// Sets the registers of `thread`'s vCPU, wherever it stood.
    pub fn put(&self, thread: &mut Thread) -> Result<()> {
        let Processor { has_xsave, has_fsgsbase, .. } = thread.process.processor()?;
        let mut system = stub::system_registers(thread.page, *has_xsave, *has_fsgsbase);
        (system.fs.base, system.gs.base) = (self.fs_base, self.gs_base);
        thread.vcpu.set_system(system);
        thread.vcpu.set_fpu(&self.fpu)?;
        let rflags = stub::flags(self.registers.rflags, thread.process.how());
        *thread.vcpu.registers_mut() = kvm_regs { rflags, ..self.registers };
        Ok(())
    }
}
