//! What whoever watches a program is told, and when. Where nobody does, each of these is a look at an empty place.

use super::calls::{CALL, Stop};
use super::process::lock;
use super::stub;
use super::syscall;
use super::syscall::answer::{Answer, Done, Trouble};
use super::thread::Thread;
use crate::error::Result;
use crate::kvm::ring3::{ProgramExit, ProgramVcpu};
use crate::sys;
use crate::sys::program::Arena;
use crate::timeline::{Answered, Ended, Halted, Left, Observer, ProgramMemory};
use kvm_bindings::kvm_regs;
use std::sync::Arc;

/// How often a way out of the VM and back is measured; the shortest counts.
const ROUND_TRIPS: usize = 5;

impl ProgramMemory for Arena {
    fn read(&self, at: u64, bytes: &mut [u8]) -> bool {
        Arena::read(self, at, bytes).is_ok()
    }

    fn write(&self, at: u64, bytes: &[u8]) -> bool {
        Arena::write(self, at, bytes).is_ok() || self.write_anyway(at, bytes).is_ok()
    }
}

impl Halted for Thread {
    fn number(&self) -> i32 {
        self.number
    }

    fn registers(&mut self) -> kvm_regs {
        let registers = self.state();
        kvm_regs { rflags: stub::visible_flags(registers.rflags), ..registers }
    }

    fn set_registers(&mut self, registers: kvm_regs) -> Result<()> {
        // What KVM completes of the last OUT must not be taken for the program's instruction, which a trap flag counts.
        self.vcpu.complete()?;
        self.go_on_at(registers)
    }

    fn others(&mut self) -> Result<(Vec<u8>, [u64; 2])> {
        let fpu: Vec<u8> = self.vcpu.fpu()?.region.iter().flat_map(|word| word.to_le_bytes()).collect();
        Ok((fpu[..512].to_vec(), self.vcpu.bases()?))
    }

    fn is_before_call(&self) -> bool {
        self.stop == Stop::BeforeCall
    }

    fn memory(&self) -> Arc<dyn ProgramMemory> {
        Arc::clone(&self.process.arena) as Arc<dyn ProgramMemory>
    }
}

impl Thread {
    /// Says that the thread is about to run in the VM.
    pub fn tell_entry(&mut self) -> Result<()> {
        let Some(mut observer) = self.observer.take() else { return Ok(()) };
        let told = observer.enter(self);
        self.observer = Some(observer);
        told
    }

    /// Tells of a signal. False if it is not to be delivered.
    pub fn tell_signal(&mut self, signal: i32, info: &[u8; 128]) -> Result<bool> {
        let Some(mut observer) = self.observer.take() else { return Ok(true) };
        let told = observer.signal(self, signal, info);
        self.observer = Some(observer);
        told
    }

    /// Tells of an exception. True if the program is not to hear of it.
    pub fn tell_exception(&mut self, vector: u8) -> Result<bool> {
        let Some(mut observer) = self.observer.take() else { return Ok(false) };
        let told = observer.exception(self, vector);
        self.observer = Some(observer);
        told
    }

    /// Whether anybody watches.
    pub fn observer(&mut self) -> Option<&mut (dyn Observer + 'static)> {
        self.observer.as_deref_mut()
    }

    /// Says why the VM was left.
    pub fn tell_left(&mut self, exit: ProgramExit, registers: &kvm_regs) {
        let Some(observer) = self.observer.as_deref_mut() else { return };
        observer.left(match exit {
            ProgramExit::Out(CALL) if stub::is_stub(registers.rip, self.page) => Left::Call,
            ProgramExit::Interrupted => Left::Signal,
            ProgramExit::NoPage(_) => Left::NoPage,
            _ => {
                let space = lock(&self.process.space);
                match stub::exception(space.system(), registers, self.page) {
                    Some(exception) if exception.vector == 14 => Left::PageFault,
                    _ => Left::Exception,
                }
            }
        });
    }

    /// Serves a call, and tells of it. `words` are its arguments.
    pub fn serve_watched(&mut self, number: u64, words: [u64; 6]) -> Answer {
        let Some(mut observer) = self.observer.take() else { return syscall::serve(self, number, words) };
        let process = Arc::clone(&self.process);
        let shapes = syscall::shapes(number, &words);
        let is_known = shapes.is_some();
        let arguments: Vec<_> = words.into_iter().zip(shapes.unwrap_or_default()).collect();
        let told = observer.call(self, number, &arguments);
        let before = std::process::id();
        self.observer = Some(observer);
        told?;
        let answer = syscall::serve(self, number, words);
        let Some(observer) = self.observer.as_deref_mut() else { return answer };
        if std::process::id() != before {
            // A child, which has not called anything.
            return answer;
        }
        let how = match &answer {
            Ok(Done::Value(value)) => Answered::Value(*value as i64),
            Err(Trouble::Errno(errno)) if is_known => Answered::Value(-i64::from(errno.0)),
            Err(Trouble::Errno(_)) => Answered::Unknown,
            Ok(Done::Again | Done::Interrupted) => Answered::Again,
            Ok(Done::Elsewhere) => Answered::Value(self.vcpu.registers().rax as i64),
            Ok(Done::End(_)) | Err(Trouble::Vmm(_)) => Answered::Never,
        };
        observer.answered(how, &*process.arena);
        answer
    }

    /// Says that the process is about to end.
    pub fn tell_end(&mut self, how: Ended) {
        if let Some(observer) = self.observer() {
            observer.ended(how);
        }
    }

    /// Measures what it takes to leave the VM and to come back, where the thread stands at its first call: the stub's
    /// OUT is made again, and changes nothing.
    pub fn measure_round_trip(&mut self) -> Result<()> {
        let Some(mut observer) = self.observer.take() else { return Ok(()) };
        let time = round_trip(&mut self.vcpu, stub::entry_of(self.page));
        observer.round_trip(time?);
        self.observer = Some(observer);
        Ok(())
    }
}

fn round_trip(vcpu: &mut ProgramVcpu, entry: u64) -> Result<std::time::Duration> {
    let at_exit = vcpu.registers();
    let mut shortest = None;
    for _ in 0..ROUND_TRIPS {
        // What KVM has not completed of the last OUT moves RIP: that has to be over before RIP is set.
        vcpu.complete()?;
        *vcpu.registers_mut() = kvm_regs { rip: entry, ..at_exit };
        let begin = sys::monotonic();
        vcpu.run(true)?;
        let took = sys::monotonic().saturating_sub(begin);
        shortest = Some(shortest.map_or(took, |least| took.min(least)));
    }
    Ok(shortest.unwrap_or_default())
}
