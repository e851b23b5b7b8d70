//! The loop around `KVM_RUN`, and what becomes of each exit.

use super::calls::{ANSWERED, CALL, Return, Stop};
use super::errno::Errno;
use super::process::lock;
use super::regions::Verdict;
use super::signal::Trap;
use super::stub::{self, EXCEPTION, Exception};
use super::syscall::answer::{Done, Trouble};
use super::thread::{End, Thread};
use crate::error::{Error, Result, Step};
use crate::kvm::ring3::ProgramExit;
use crate::sys::program as sys;
use kvm_bindings::kvm_regs;
use std::io;

/// Runs the first thread of a process, and ends the process.
pub fn first(thread: Thread) -> Result<()> {
    thread.live()
}

/// Runs another thread, to its end or the process's.
pub fn other(thread: Thread) {
    if let Err(error) = thread.live() {
        eprintln!("error: {}", crate::error::in_words(&error));
        sys::end_process(125);
    }
}

impl Thread {
    /// The loop.
    pub fn run(&mut self) -> Result<End> {
        // Whether an exception is being told to the guest: the program is between two instructions only after that.
        let mut is_in_exception = false;
        loop {
            if !is_in_exception {
                if self.is_to_end() {
                    return Ok(End::Alone(0));
                }
                if let Some(noted) = sys::Inbox::take() {
                    self.deliver(&noted, Trap::default())?;
                    self.is_call_undone = false;
                    self.apply_mask();
                    continue;
                }
                self.tell_entry()?;
            }
            let exit = self.vcpu.run(is_in_exception)?;
            let registers = self.vcpu.registers();
            is_in_exception = exit == ProgramExit::Interrupted
                && (stub::is_vector(registers.rip) || self.vcpu.is_exception_under_way()?);
            if is_in_exception {
                continue;
            }
            self.tell_left(exit, &registers);
            let is_probing = std::mem::take(&mut self.is_probing);
            if is_probing && exit != ProgramExit::Out(EXCEPTION) {
                lock(&self.process.space).hide_files(false);
            }
            match exit {
                ProgramExit::Out(CALL) if stub::is_stub(registers.rip, self.page) => {
                    if let Some(end) = self.call(&registers)? {
                        return Ok(end);
                    }
                }
                ProgramExit::Out(EXCEPTION) => {
                    self.stop = Stop::Program;
                    let exception =
                        stub::exception(lock(&self.process.space).system(), &registers, self.page);
                    match exception {
                        Some(exception) => self.exception(&exception, is_probing)?,
                        None => self.fault(
                            libc::SIGSEGV,
                            libc::SI_KERNEL,
                            0,
                            Trap { vector: 13, ..Trap::default() },
                        )?,
                    }
                }
                // The program's own OUT, which a processor without us would not allow.
                ProgramExit::Out(_) => {
                    self.stop = Stop::Program;
                    self.fault(libc::SIGSEGV, libc::SI_KERNEL, 0, Trap { vector: 13, ..Trap::default() })?;
                }
                ProgramExit::In => {
                    // KVM ends the instruction first, which is then not made after all.
                    self.vcpu.complete()?;
                    *self.vcpu.registers_mut() = registers;
                    self.stop = Stop::Program;
                    self.fault(libc::SIGSEGV, libc::SI_KERNEL, 0, Trap { vector: 13, ..Trap::default() })?;
                }
                ProgramExit::Interrupted => match stub::stop(registers.rip, self.page) {
                    Stop::Program => (self.stop, self.is_in_stub) = (Stop::Program, false),
                    // The VMM hears of the call now, in place of the OUT.
                    Stop::BeforeCall => {
                        self.vcpu.registers_mut().rip = stub::after_call(self.page);
                        if let Some(end) = self.call(&registers)? {
                            return Ok(end);
                        }
                    }
                    Stop::Answering(which) => {
                        let registers = self.vcpu.registers_mut();
                        registers.rip = stub::after_call(self.page);
                        registers.rax = ANSWERED[which] as u64;
                        let registers = *registers;
                        if let Some(end) = self.call(&registers)? {
                            return Ok(end);
                        }
                    }
                    Stop::AfterCall => {
                        self.stop = Stop::AfterCall;
                        self.is_in_stub = self.process.how() == Some(Return::Sysret);
                    }
                },
                ProgramExit::NoPage(address) => self.no_page(address)?,
                ProgramExit::Shutdown => self.die_of(libc::SIGSEGV),
                ProgramExit::Other(reason) => {
                    let source = io::Error::other(format!("KVM stopped for reason {reason}"));
                    return Err(Error::Host { step: Step::RunVcpu, source });
                }
            }
        }
    }

    /// The program has made a system call, and its vCPU stands behind the OUT of its stub.
    fn call(&mut self, registers: &kvm_regs) -> Result<Option<End>> {
        let is_first = self.process.how().is_none();
        let how = self.process.learn(&mut self.vcpu);
        self.stop = Stop::AfterCall;
        self.is_in_stub = how == Return::Sysret;
        if is_first {
            self.set_calls();
            self.measure_round_trip()?;
        }
        // Some KVMs show RIP at the OUT and move it when the vCPU goes on. Should a signal come before that, the call would
        // look as if nobody had heard of it.
        self.vcpu.registers_mut().rip = stub::after_call(self.page);
        if how == Return::Jump {
            // SYSRET would do it.
            self.vcpu.registers_mut().rflags = stub::flags(registers.r11, Some(how));
        }
        self.serve(registers)
    }

    /// Serves the system call at which the program stands.
    fn serve(&mut self, registers: &kvm_regs) -> Result<Option<End>> {
        let kvm_regs { rax: number, rdi, rsi, rdx, r10, r8, r9, .. } = *registers;
        match self.serve_watched(number, [rdi, rsi, rdx, r10, r8, r9]) {
            Ok(Done::Value(value)) => self.vcpu.registers_mut().rax = value,
            Err(Trouble::Errno(Errno(errno))) => {
                self.vcpu.registers_mut().rax = -i64::from(errno) as u64;
            }
            // SYSCALL has two bytes: the program goes back to it, with its number.
            Ok(done @ (Done::Again | Done::Interrupted)) => {
                self.is_call_undone = matches!(done, Done::Interrupted);
                let registers = self.vcpu.registers_mut();
                registers.rcx = registers.rcx.wrapping_sub(2);
                registers.rax = number;
            }
            Ok(Done::Elsewhere) => {}
            Ok(Done::End(end)) => return Ok(Some(end)),
            Err(Trouble::Vmm(error)) => return Err(error),
        }
        Ok(None)
    }

    /// An exception of the program: a signal, unless it is over by now.
    fn exception(&mut self, exception: &Exception, is_probing: bool) -> Result<()> {
        let system = self.vcpu.system()?;
        let registers = self.vcpu.registers();
        let Exception { vector, error, is_users, rip, rsp, rflags } = *exception;
        if !is_users {
            // The stub's own, from a return to an address that is none.
            self.die_of(libc::SIGSEGV);
        }
        self.is_in_stub = true;
        self.go_on_at(kvm_regs { rip, rsp, rflags, ..registers })?;
        if self.is_bare && matches!(vector, 6 | 13) {
            // CPUID, or what is an instruction only to those who have it: once more, on a whole processor.
            return self.complete();
        }
        if self.tell_exception(vector)? {
            return Ok(());
        }
        let mut trap = Trap { vector: vector.into(), error, address: 0 };
        let (signal, code, address) = match vector {
            0 => (libc::SIGFPE, FPE_INTDIV, rip),
            1 => (libc::SIGTRAP, TRAP_TRACE, rip),
            3 => (libc::SIGTRAP, libc::SI_KERNEL, 0),
            6 => (libc::SIGILL, ILL_ILLOPN, rip),
            12 => (libc::SIGBUS, libc::SI_KERNEL, 0),
            14 => {
                trap.address = system.cr2;
                let mut space = lock(&self.process.space);
                if error & 2 == 0 && space.show_vdso_data(system.cr2)? {
                    return Ok(());
                }
                let verdict = space.regions().verdict(system.cr2, error & 2 != 0, error & 16 != 0);
                let is_there = || self.process.arena.read(system.cr2, &mut [0]).is_ok();
                match verdict {
                    Verdict::Allowed if is_probing && is_there() => {
                        // Another page of a file, such as that of the code: it is not about this one.
                        space.show_page(system.cr2);
                        self.is_probing = true;
                        return Ok(());
                    }
                    Verdict::Allowed if is_probing => (libc::SIGBUS, BUS_ADRERR, system.cr2),
                    // It comes to a page that it has not been given yet, or another thread has been given meanwhile.
                    Verdict::Allowed => match space.touch(system.cr2) {
                        Ok(()) => return Ok(()),
                        Err(_) => (libc::SIGBUS, BUS_ADRERR, system.cr2),
                    },
                    Verdict::Nothing => (libc::SIGSEGV, SEGV_MAPERR, system.cr2),
                    // Linux looks for the page first: a file may end before it.
                    Verdict::Denied
                        if error & 16 != 0
                            && space.regions().rights(system.cr2).is_some_and(|rights| rights.read)
                            && !is_there() =>
                    {
                        (libc::SIGBUS, BUS_ADRERR, system.cr2)
                    }
                    Verdict::Denied => (libc::SIGSEGV, SEGV_ACCERR, system.cr2),
                }
            }
            16 | 19 => (libc::SIGFPE, self.float_code(vector)?, rip),
            17 => (libc::SIGBUS, BUS_ADRALN, 0),
            _ => (libc::SIGSEGV, libc::SI_KERNEL, 0),
        };
        if is_probing {
            lock(&self.process.space).hide_files(false);
        }
        self.fault(signal, code, address, trap)
    }

    /// Which exception of floating point it was: x87 (16) or SSE (19).
    fn float_code(&self, vector: u8) -> Result<i32> {
        let fpu = self.vcpu.fpu()?;
        let raised = match vector {
            16 => fpu.region[0] >> 16 & !fpu.region[0] & 0x3f,
            _ => fpu.region[6] & !(fpu.region[6] >> 7) & 0x3f,
        };
        // Invalid, divided by zero, overflow, underflow or denormal, inexact: in the order in which Linux asks.
        Ok([(0x01, 7), (0x04, 3), (0x08, 4), (0x12, 5), (0x20, 6)]
            .iter()
            .find(|(bits, _)| raised & bits != 0)
            .map_or(0, |&(_, code)| code))
    }

    /// The host has no page behind an address that the program may use: the file there has become shorter. Not every KVM
    /// says which address. Then the program goes on without the rights to any file, and faults there again.
    fn no_page(&mut self, address: Option<u64>) -> Result<()> {
        self.stop = Stop::Program;
        let mut space = lock(&self.process.space);
        let Some(address) = address else {
            space.hide_files(true);
            self.is_probing = true;
            return Ok(());
        };
        let verdict = space.regions().verdict(address, false, false);
        drop(space);
        let trap = Trap { vector: PAGE_FAULT, error: 4, address };
        match verdict {
            Verdict::Allowed => self.fault(libc::SIGBUS, BUS_ADRERR, address, trap),
            // Taken away by another thread just now.
            Verdict::Denied => self.fault(libc::SIGSEGV, SEGV_ACCERR, address, trap),
            Verdict::Nothing => self.fault(libc::SIGSEGV, SEGV_MAPERR, address, trap),
        }
    }
}

/// #PF.
const PAGE_FAULT: u64 = 14;
/// Codes of `siginfo_t` (sigaction(2)).
const FPE_INTDIV: i32 = 1;
const TRAP_TRACE: i32 = 2;
const ILL_ILLOPN: i32 = 2;
const SEGV_MAPERR: i32 = 1;
const SEGV_ACCERR: i32 = 2;
const BUS_ADRALN: i32 = 1;
const BUS_ADRERR: i32 = 2;
