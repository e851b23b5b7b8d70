//! A signal's frame on the program's stack: how a handler is called, and how it comes back.
//!
//! Sources: signal(7), rt_sigreturn(2); the frame is `struct rt_sigframe` of Linux's arch/x86/include/asm/sigframe.h,
//! with `struct sigcontext` and `struct _fpx_sw_bytes` of asm/sigcontext.h.

use super::actions::{AlternateStack, ByDefault, DEFAULT, Disposition, IGNORE, UNBLOCKABLE, bit, by_default};
use super::process::lock;
use super::processor::{FRAME, UCONTEXT};
use super::stub;
use super::thread::Thread;
use crate::error::Result;
use crate::kvm::ring3::Fpu;
use crate::sys::program::{self as sys, Fault, Noted};
use kvm_bindings::kvm_regs;

const SA_ONSTACK: u64 = libc::SA_ONSTACK as u64;
const SA_RESTART: u64 = libc::SA_RESTART as u64;
const SA_NODEFER: u64 = libc::SA_NODEFER as u64;
const SA_RESETHAND: u64 = libc::SA_RESETHAND as u64;

/// What the processor said, if a fault is the reason.
#[derive(Debug, Clone, Copy, Default)]
pub struct Trap {
    /// The exception's number.
    pub vector: u64,
    /// Its error code.
    pub error: u64,
    /// CR2.
    pub address: u64,
}

/// Below the stack pointer, where functions without calls have their variables (psABI, section 3.2.2).
const RED_ZONE: u64 = 128;
/// `FP_XSTATE_MAGIC1`, `FP_XSTATE_MAGIC2`
const MAGIC1: u32 = 0x4650_5853;
const MAGIC2: u32 = 0x4650_5845;
/// Where the legacy region has room for `struct _fpx_sw_bytes`.
const SOFTWARE: usize = 464;
const LEGACY: usize = 512;
/// UC_FP_XSTATE, UC_SIGCONTEXT_SS, UC_STRICT_RESTORE_SS
const UC_FLAGS: u64 = 7;
const SELECTORS: u64 = 0x33 | 0x2b << 48;
/// MXCSR has sixteen bits; another one in KVM_SET_XSAVE would be refused.
const MXCSR: usize = 24;

fn bytes_of(fpu: &Fpu) -> Vec<u8> {
    fpu.region.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn set_bytes(fpu: &mut Fpu, bytes: &[u8]) {
    for (word, bytes) in fpu.region.iter_mut().zip(bytes.chunks_exact(4)) {
        *word = u32::from_le_bytes(bytes.try_into().expect("four bytes"));
    }
}

impl Thread {
    /// Delivers what has come: the program goes on in its handler, or this process ends.
    pub fn deliver(&mut self, noted: &Noted, trap: Trap) -> Result<()> {
        let signal = noted.signal;
        if !self.tell_signal(signal, &noted.info)? || sys::is_kick(signal, &noted.info) {
            return Ok(());
        }
        let disposition = {
            let mut actions = lock(&self.process.actions);
            let disposition = actions.of(signal);
            if disposition.handler > IGNORE && disposition.flags & SA_RESETHAND != 0 {
                let _ = actions.set(signal, Disposition { handler: DEFAULT, ..disposition });
            }
            disposition
        };
        match disposition.handler {
            IGNORE => {}
            DEFAULT => match by_default(signal) {
                ByDefault::Nothing => {}
                // It was handled when it came, and is not any more: it may come again.
                ByDefault::Stop => sys::send_to_thread(self.number, signal),
                ByDefault::End => self.die_of(signal),
            },
            _ => {
                if self.push_frame(noted, disposition, trap)?.is_err() {
                    // There is no stack to tell it on.
                    self.die_of(libc::SIGSEGV);
                }
                let own = if disposition.flags & SA_NODEFER == 0 { bit(signal) } else { 0 };
                self.mask |= (disposition.mask | own) & !UNBLOCKABLE;
            }
        }
        Ok(())
    }

    /// A fault of the program's own: its handler is called, or the process ends, even if the signal is blocked or
    /// ignored.
    pub fn fault(&mut self, signal: i32, code: i32, address: u64, trap: Trap) -> Result<()> {
        let handler = lock(&self.process.actions).of(signal).handler;
        let mut info = [0; 128];
        info[..4].copy_from_slice(&signal.to_le_bytes());
        info[8..12].copy_from_slice(&code.to_le_bytes());
        info[16..24].copy_from_slice(&address.to_le_bytes());
        if handler <= IGNORE || self.mask & bit(signal) != 0 {
            if self.tell_signal(signal, &info)? {
                self.die_of(signal);
            }
            return Ok(());
        }
        self.deliver(&Noted { signal, info }, trap)?;
        self.apply_mask();
        Ok(())
    }

    /// Writes the frame and sets the registers for the handler.
    fn push_frame(
        &mut self,
        noted: &Noted,
        action: Disposition,
        trap: Trap,
    ) -> Result<std::result::Result<(), Fault>> {
        let mut old = self.state();
        // A call that was not made is made again after the handler, or fails, as the program wants it.
        if std::mem::take(&mut self.is_call_undone) && action.flags & SA_RESTART == 0 {
            old.rip += 2;
            old.rax = -i64::from(libc::EINTR) as u64;
        }
        let alternate = self.alternate;
        let on_alternate = action.flags & SA_ONSTACK != 0 && alternate.size > 0 && !alternate.holds(old.rsp);
        let top = match on_alternate {
            true => alternate.start.wrapping_add(alternate.size),
            false => old.rsp.wrapping_sub(RED_ZONE),
        };
        let size = self.process.processor()?.fpu_size as usize;
        let fpu_at = top.wrapping_sub(size as u64 + 4) & !63;
        let frame_at = (fpu_at.wrapping_sub(FRAME) & !15).wrapping_sub(8);

        let mut fpu = bytes_of(&self.vcpu.fpu()?);
        fpu.truncate(size);
        fpu[SOFTWARE..LEGACY].fill(0);
        if size > LEGACY {
            fpu[SOFTWARE..SOFTWARE + 4].copy_from_slice(&MAGIC1.to_le_bytes());
            fpu[SOFTWARE + 4..SOFTWARE + 8].copy_from_slice(&(size as u32 + 4).to_le_bytes());
            fpu[SOFTWARE + 8..SOFTWARE + 16].copy_from_slice(&self.process.processor()?.xcr0.to_le_bytes());
            fpu[SOFTWARE + 16..SOFTWARE + 20].copy_from_slice(&(size as u32).to_le_bytes());
        }
        fpu.extend(MAGIC2.to_le_bytes());

        let [stack_start, stack_flags, stack_size] = alternate.words(old.rsp);
        let flags = stub::visible_flags(old.rflags);
        #[rustfmt::skip]
        let context = [
            UC_FLAGS, 0, stack_start, stack_flags, stack_size,
            old.r8, old.r9, old.r10, old.r11, old.r12, old.r13, old.r14, old.r15,
            old.rdi, old.rsi, old.rbp, old.rbx, old.rdx, old.rax, old.rcx, old.rsp, old.rip, flags,
            SELECTORS, trap.error, trap.vector, self.mask, trap.address, fpu_at,
            0, 0, 0, 0, 0, 0, 0, 0, self.mask,
        ];
        let mut frame = action.restorer.to_le_bytes().to_vec();
        frame.extend(context.iter().flat_map(|word| word.to_le_bytes()));
        let info_at = frame_at.wrapping_add(frame.len() as u64);
        frame.extend(noted.info);
        let arena = &self.process.arena;
        if arena.write(fpu_at, &fpu).and_then(|()| arena.write(frame_at, &frame)).is_err() {
            return Ok(Err(Fault));
        }
        if alternate.flags != 0 {
            self.alternate = AlternateStack::default();
        }
        let new = kvm_regs {
            rip: action.handler,
            rsp: frame_at,
            rdi: noted.signal as u64,
            rsi: info_at,
            rdx: frame_at + 8,
            rax: 0,
            rflags: 0,
            ..old
        };
        self.go_on_at(new)?;
        Ok(Ok(()))
    }

    /// rt_sigreturn(2): goes back to where the frame at the stack pointer says.
    pub fn return_from_handler(&mut self) -> Result<()> {
        let rsp = self.vcpu.registers().rsp;
        let mut context = [0; UCONTEXT];
        let arena = std::sync::Arc::clone(&self.process.arena);
        if arena.read(rsp, &mut context).is_err() {
            self.die_of(libc::SIGSEGV);
        }
        let word = |index: usize| {
            u64::from_le_bytes(context[index * 8..index * 8 + 8].try_into().expect("eight bytes"))
        };
        let fpu_at = word(28);
        if fpu_at != 0 && self.restore_fpu(fpu_at)?.is_err() {
            self.die_of(libc::SIGSEGV);
        }
        // Stack, flags and size: as they were when the handler was called.
        let flags = word(3) as u32;
        if flags & libc::SS_ONSTACK as u32 == 0 {
            let is_none = flags & libc::SS_DISABLE as u32 != 0;
            let size = if is_none { 0 } else { word(4) };
            self.alternate =
                AlternateStack { start: word(2), size, flags: flags & !(libc::SS_DISABLE as u32) };
        }
        self.mask = word(37) & !UNBLOCKABLE;
        self.go_on_at(kvm_regs {
            r8: word(5),
            r9: word(6),
            r10: word(7),
            r11: word(8),
            r12: word(9),
            r13: word(10),
            r14: word(11),
            r15: word(12),
            rdi: word(13),
            rsi: word(14),
            rbp: word(15),
            rbx: word(16),
            rdx: word(17),
            rax: word(18),
            rcx: word(19),
            rsp: word(20),
            rip: word(21),
            rflags: word(22),
        })?;
        self.apply_mask();
        Ok(())
    }

    fn restore_fpu(&mut self, at: u64) -> Result<std::result::Result<(), Fault>> {
        let size = self.process.processor()?.fpu_size as usize;
        let arena = &self.process.arena;
        let mut saved = vec![0; LEGACY];
        if arena.read(at, &mut saved).is_err() {
            return Ok(Err(Fault));
        }
        let has_all = saved[SOFTWARE..SOFTWARE + 4] == MAGIC1.to_le_bytes();
        if has_all && size > LEGACY {
            saved.resize(size, 0);
            if arena.read(at, &mut saved).is_err() {
                return Ok(Err(Fault));
            }
        }
        saved[SOFTWARE..LEGACY].fill(0);
        saved[MXCSR + 2..MXCSR + 4].fill(0);
        saved[MXCSR + 4..MXCSR + 8].fill(0);
        let mut all = saved;
        all.resize(4096, 0);
        // The header: which parts there are, and no compaction (SDM volume 1, section 13.4.2).
        let parts = u64::from_le_bytes(all[LEGACY..LEGACY + 8].try_into().expect("eight bytes"));
        let parts = if has_all { parts & self.process.processor()?.xcr0 } else { 3 };
        all[LEGACY..LEGACY + 8].copy_from_slice(&parts.to_le_bytes());
        all[LEGACY + 8..LEGACY + 64].fill(0);
        let mut fpu = self.vcpu.fpu()?;
        set_bytes(&mut fpu, &all);
        Ok(self.vcpu.set_fpu(&fpu).map_err(|_| Fault))
    }

    /// Sets x87, SSE and vectors as a new program has them.
    pub fn reset_fpu(&mut self) -> Result<()> {
        let mut all = vec![0; 4096];
        all[..2].copy_from_slice(&0x37f_u16.to_le_bytes());
        all[MXCSR..MXCSR + 4].copy_from_slice(&0x1f80_u32.to_le_bytes());
        all[LEGACY..LEGACY + 8].copy_from_slice(&3_u64.to_le_bytes());
        let mut fpu = Fpu::default();
        set_bytes(&mut fpu, &all);
        self.vcpu.set_fpu(&fpu)
    }

    /// Has the host block what the program blocks.
    pub fn apply_mask(&mut self) {
        // While a signal waits to be delivered, all others do.
        if sys::Inbox::is_empty() {
            sys::mask(self.mask);
        }
    }
}
