//! A virtual processor: `KVM_RUN`, and what comes back from it.
//!
//! Sources: KVM API document, sections 4.10 `KVM_RUN` and 5 "The kvm_run structure".

use super::{Memory, host};
use crate::error::{Result, Step};
use crate::x86::mode::{CR0_PE, CR0_PG, CR4_LA57, EFER_LMA, RFLAGS_DF, RFLAGS_IF, RFLAGS_TF};
use crate::x86::{Entry, paging};
use kvm_bindings::{
    CpuId, KVM_EXIT_DEBUG, KVM_EXIT_FAIL_ENTRY, KVM_EXIT_HLT, KVM_EXIT_INTERNAL_ERROR, KVM_EXIT_IO,
    KVM_EXIT_IO_OUT, KVM_EXIT_IOAPIC_EOI, KVM_EXIT_MMIO, KVM_EXIT_SHUTDOWN, KVM_MAX_MSR_ENTRIES,
    KVM_MP_STATE_HALTED, KVM_MP_STATE_INIT_RECEIVED, KVM_MP_STATE_UNINITIALIZED, Msrs, kvm_msr_entry,
    kvm_regs, kvm_run, kvm_sregs,
};
use kvm_ioctls::{SyncReg, VcpuFd};
use std::cell::{Cell, OnceCell};
use std::ptr::{addr_of_mut, null_mut};
use vm_memory::{Bytes, GuestAddress};

/// Why the guest stopped and the VMM has the word. It borrows the page that KVM shares with us, so an
/// exit allocates nothing, but for room for the first long string.
#[derive(Debug)]
pub enum Exit<'a> {
    /// OUT: `data` holds one access of `size` bytes, or several in a row after a `rep outs`.
    Out {
        /// The port.
        port: u16,
        /// Bytes per access: 1, 2 or 4.
        size: usize,
        /// What was written, little-endian.
        data: &'a [u8],
    },
    /// IN: fill `data`, which is one access of `size` bytes, or several in a row for a `rep ins`.
    In {
        /// The port.
        port: u16,
        /// Bytes per access: 1, 2 or 4.
        size: usize,
        /// What the guest will read.
        data: &'a mut [u8],
    },
    /// A read of a guest-physical address that is not memory: fill `data` (at most 8 bytes).
    MmioRead {
        /// Guest-physical address.
        address: u64,
        /// What the guest will read.
        data: &'a mut [u8],
    },
    /// A write to a guest-physical address that is not memory (at most 8 bytes).
    MmioWrite {
        /// Guest-physical address.
        address: u64,
        /// What was written.
        data: &'a [u8],
    },
    /// HLT, on a machine without local APICs: with them, HLT waits inside KVM.
    Halt,
    /// The guest told its local APIC that a level-triggered interrupt is served.
    Eoi {
        /// The interrupt's vector.
        vector: u8,
    },
    /// A triple fault: an exception in the handler of an exception in the handler of an exception.
    Shutdown,
    /// The guest reached what `KVM_SET_GUEST_DEBUG` has it stop at.
    Debug,
    /// A signal arrived, or someone called for attention: look around and run again.
    Interrupted,
    /// KVM could not go on with the guest.
    Failed {
        /// In words, for the post-mortem.
        why: &'static str,
        /// KVM's number for it: an exit reason, a suberror or the hardware's entry failure reason.
        code: u64,
    },
}

/// All registers of a vCPU, as the post-mortem shows them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Registers {
    /// General registers, RIP and RFLAGS.
    pub general: kvm_regs,
    /// Segments, control registers and descriptor tables.
    pub system: kvm_sregs,
}

impl Registers {
    /// True in 64-bit mode, where segment bases do not count.
    fn is_long(&self) -> bool {
        self.system.efer & EFER_LMA != 0 && self.system.cs.l == 1
    }

    /// How the processor reads code: as 16-, 32- or 64-bit instructions.
    pub fn bits(&self) -> u32 {
        match (self.is_long(), self.system.cs.db) {
            (true, _) => 64,
            (false, 0) => 16,
            (false, _) => 32,
        }
    }

    /// Where RIP points in linear addresses.
    pub fn linear_rip(&self) -> u64 {
        let base = if self.is_long() { 0 } else { self.system.cs.base };
        base.wrapping_add(self.general.rip)
    }

    /// Bytes of an entry of the IDT: in real mode a far pointer (SDM volume 3A, "Real-Address Mode Operation").
    pub fn gate_size(&self) -> u32 {
        match (self.system.cr0 & CR0_PE != 0, self.system.efer & EFER_LMA != 0) {
            (false, _) => 4,
            (true, false) => 8,
            (true, true) => 16,
        }
    }

    /// The processor's mode, in words.
    pub fn mode(&self) -> &'static str {
        match (self.system.cr0 & CR0_PE != 0, self.system.efer & EFER_LMA != 0, self.system.cs.db) {
            (false, ..) => "real, 16-bit",
            (true, false, 0) => "protected, 16-bit code",
            (true, false, _) => "protected, 32-bit code",
            (true, true, _) if self.is_long() => "long, 64-bit code",
            (true, true, _) => "long, in a compatibility segment",
        }
    }
}

/// One virtual processor.
pub struct Vcpu {
    pub(super) fd: VcpuFd,
    pub(super) memory: Memory,
    /// What [`Vcpu::set_cpuid`] was given. KVM does not tell it again as it was: some show the host's bits.
    pub(super) cpuid: OnceCell<CpuId>,
    /// The bytes of a string that was finished for KVM; see [`Vcpu::finish_outs`].
    string: Vec<u8>,
    /// RIP after the last OUT that turned out not to be a string: not worth a second look.
    plain_out: u64,
}

impl Vcpu {
    pub(super) fn new(mut fd: VcpuFd, memory: Memory) -> Vcpu {
        fd.set_sync_valid_reg(SyncReg::Register);
        fd.set_sync_valid_reg(SyncReg::SystemRegister);
        Vcpu { fd, memory, cpuid: OnceCell::new(), string: Vec::new(), plain_out: u64::MAX }
    }

    /// For what is mapped beside the page shared with KVM.
    pub(super) fn fd(&self) -> &VcpuFd {
        &self.fd
    }

    /// Puts the processor where a boot protocol wants it.
    ///
    /// The registers go into the shared page, from which the next `KVM_RUN` takes them (`KVM_CAP_SYNC_REGS`):
    /// two ioctls fewer than `KVM_SET_SREGS` and `KVM_SET_REGS`.
    pub fn enter(&mut self, entry: &Entry) {
        let sync = self.fd.sync_regs_mut();
        (sync.regs, sync.sregs) = (entry.regs(), entry.sregs());
        self.fd.set_sync_dirty_reg(SyncReg::Register);
        self.fd.set_sync_dirty_reg(SyncReg::SystemRegister);
    }

    /// Decides what the CPUID instruction shows (`KVM_SET_CPUID2`). Without it, every leaf is zero.
    pub fn set_cpuid(&self, cpuid: &CpuId) -> Result<()> {
        self.fd.set_cpuid2(cpuid).map_err(host(Step::Set("the vCPU's CPUID")))?;
        let _ = self.cpuid.set(cpuid.clone());
        Ok(())
    }

    /// Sets model-specific registers, as far as this processor has them (`KVM_SET_MSRS`).
    pub fn set_msrs(&self, msrs: &[(u32, u64)]) -> Result<()> {
        let entries = msrs.iter().map(|&(index, data)| kvm_msr_entry { index, data, ..Default::default() });
        let entries: Vec<_> = entries.collect();
        // In one call, as each costs as much as ten registers do.
        let mut rest = &entries[..];
        while !rest.is_empty() {
            let some = &rest[..rest.len().min(KVM_MAX_MSR_ENTRIES)];
            let list = Msrs::from_entries(some).expect("no more than fit a list");
            let set =
                self.fd.set_msrs(&list).map_err(host(Step::Set("the vCPU's model-specific registers")))?;
            // It stops at a register that is not there, and says how many came before.
            let done = if set < some.len() { set + 1 } else { set };
            rest = &rest[done..];
        }
        Ok(())
    }

    /// Lets the guest run until it needs us (`KVM_RUN`).
    pub fn run(&mut self) -> Result<Exit<'_>> {
        match self.fd.run() {
            Ok(_) => {}
            // EAGAIN: a processor that waited for its SIPI has got it.
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => {
                self.fd.set_kvm_immediate_exit(0);
                return Ok(Exit::Interrupted);
            }
            Err(error) => return Err(host(Step::RunVcpu)(error)),
        }
        let string = self.finish_outs();
        let run = self.fd.get_kvm_run();
        // SAFETY: KVM says in `exit_reason` which member of the union it filled. For an I/O exit the data
        // lies `data_offset` bytes into the mapping, `count` accesses of `size` bytes, all of it inside
        // the mapping and, like `run` itself, untouched by the kernel until the next KVM_RUN, which needs
        // the `&mut self` that the exit borrows.
        let exit = unsafe {
            match run.exit_reason {
                KVM_EXIT_IO => {
                    let io = run.__bindgen_anon_1.io;
                    let size = usize::from(io.size);
                    let data = (run as *mut kvm_run).cast::<u8>().add(io.data_offset as usize);
                    let data = std::slice::from_raw_parts_mut(data, size * io.count as usize);
                    match (u32::from(io.direction), string) {
                        (KVM_EXIT_IO_OUT, Some(len)) => {
                            Exit::Out { port: io.port, size, data: &self.string[..len] }
                        }
                        (KVM_EXIT_IO_OUT, None) => Exit::Out { port: io.port, size, data },
                        _ => Exit::In { port: io.port, size, data },
                    }
                }
                KVM_EXIT_MMIO => {
                    let mmio = &mut run.__bindgen_anon_1.mmio;
                    let address = mmio.phys_addr;
                    let data = &mut mmio.data[..mmio.len as usize];
                    match mmio.is_write {
                        0 => Exit::MmioRead { address, data },
                        _ => Exit::MmioWrite { address, data },
                    }
                }
                KVM_EXIT_HLT => Exit::Halt,
                KVM_EXIT_IOAPIC_EOI => Exit::Eoi { vector: run.__bindgen_anon_1.eoi.vector },
                KVM_EXIT_SHUTDOWN => Exit::Shutdown,
                KVM_EXIT_DEBUG => Exit::Debug,
                KVM_EXIT_INTERNAL_ERROR => {
                    let code = run.__bindgen_anon_1.internal.suberror.into();
                    let why = match code {
                        1 => "KVM's instruction emulator does not know this instruction",
                        3 => "the guest faulted while an event was being delivered to it",
                        _ => "KVM gave up with an internal error",
                    };
                    Exit::Failed { why, code }
                }
                KVM_EXIT_FAIL_ENTRY => Exit::Failed {
                    why: "the processor refused the guest's state",
                    code: run.__bindgen_anon_1.fail_entry.hardware_entry_failure_reason,
                },
                reason => {
                    Exit::Failed { why: "KVM stopped for a reason we do not serve", code: reason.into() }
                }
            }
        };
        Ok(exit)
    }

    /// Completes a `rep outsb` in one exit, and returns how many bytes of `self.string` it wrote.
    ///
    /// KVM leaves for userspace after every single element of an OUTS: 14 exits for a line of 14 bytes. But
    /// at that moment the guest is between two iterations, a point the architecture lets everyone see
    /// (SDM volume 2B, "REP"): RIP still at the instruction, RSI at the next byte, RCX the bytes left. So we
    /// may do the other iterations ourselves: take the bytes from guest memory and move RSI and RCX on. With
    /// RCX at 0 the instruction ends by itself when the guest goes on.
    ///
    /// Whatever is unusual (another segment or size, a page border, the direction flag, a trap flag) is left
    /// to KVM, one element at a time. So is a plain OUT: KVM's emulator shows RIP behind it, KVM's fast path
    /// at it, so that the instruction at RIP alone does not tell which one has come.
    fn finish_outs(&mut self) -> Option<usize> {
        let run = self.fd.get_kvm_run();
        if run.exit_reason != KVM_EXIT_IO {
            return None;
        }
        // SAFETY: exit_reason says that KVM filled `io`; data_offset points at its first byte.
        let (io, first) = unsafe {
            let io = run.__bindgen_anon_1.io;
            (io, *(run as *const kvm_run).cast::<u8>().add(io.data_offset as usize))
        };
        if u32::from(io.direction) != KVM_EXIT_IO_OUT || (io.size, io.count) != (1, 1) {
            return None;
        }
        let mut regs = self.fd.sync_regs_mut().regs;
        if regs.rcx == 0 || regs.rip == self.plain_out || regs.rflags & (RFLAGS_DF | RFLAGS_TF) != 0 {
            return None;
        }
        // KVM may show RIP behind a plain OUT already: the string there may be for another port.
        if io.port != regs.rdx as u16 {
            return None;
        }
        let sregs = self.system_registers()?;
        let long = sregs.efer & EFER_LMA != 0 && sregs.cs.l == 1;
        let (mask, code, data, limit) = match (long, sregs.cs.db) {
            (true, _) => (u64::MAX, 0, 0, u64::MAX),
            (false, 1) => (0xffff_ffff, sregs.cs.base, sregs.ds.base, sregs.ds.limit.into()),
            (false, _) => (0xffff, sregs.cs.base, sregs.ds.base, sregs.ds.limit.into()),
        };
        const REP_OUTSB: [u8; 2] = [0xf3, 0x6e];
        let mut instruction = [0; 2];
        self.read_as(&sregs, code.wrapping_add(regs.rip), &mut instruction)?;
        if instruction != REP_OUTSB {
            self.plain_out = regs.rip;
            // A guest that writes byte by byte shall not pay for registers nobody looks at.
            self.fd.clear_sync_valid_reg(SyncReg::SystemRegister);
            return None;
        }
        // From the byte that KVM has just taken to the end of its page: so far the processor has looked
        // whether the guest may read.
        let (left, next) = (regs.rcx & mask, regs.rsi & mask);
        let from = next.checked_sub(1)?;
        let linear = data.wrapping_add(from);
        let more = left.min(0xfff - (linear & 0xfff));
        if more == 0 || from.checked_add(more)? > limit {
            return None;
        }
        let len = 1 + more as usize;
        let mut string = std::mem::take(&mut self.string);
        string.resize(len, 0);
        let is_read = self.read_as(&sregs, linear, &mut string);
        self.string = string;
        is_read?;
        if self.string[0] != first {
            return None;
        }
        regs.rcx = regs.rcx & !mask | (left - more);
        regs.rsi = regs.rsi & !mask | (next.wrapping_add(more) & mask);
        self.fd.sync_regs_mut().regs = regs;
        self.fd.set_sync_dirty_reg(SyncReg::Register);
        Some(len)
    }

    /// The system registers: from the shared page where KVM still puts them there at each exit, else by
    /// `KVM_GET_SREGS`. An ioctl on a vCPU can cost as much as an exit.
    pub(super) fn system_registers(&mut self) -> Option<kvm_sregs> {
        let synced = self.fd.get_kvm_run().kvm_valid_regs & SyncReg::SystemRegister as u64 != 0;
        if synced { Some(self.fd.sync_regs_mut().sregs) } else { self.fd.get_sregs().ok() }
    }

    /// Reads guest memory at a linear address through the guest's own page tables. `None` when it is not
    /// mapped, not memory, or runs over the end of its page.
    pub fn read_linear(&self, linear: u64, data: &mut [u8]) -> Option<()> {
        self.read_as(&self.fd.get_sregs().ok()?, linear, data)
    }

    /// The same for a guest whose system registers are known.
    pub(super) fn read_as(&self, sregs: &kvm_sregs, linear: u64, data: &mut [u8]) -> Option<()> {
        if (linear & 0xfff) as usize + data.len() > 0x1000 {
            return None;
        }
        let physical =
            match (sregs.cr0 & CR0_PG != 0, sregs.efer & EFER_LMA != 0 && sregs.cr4 & CR4_LA57 == 0) {
                (false, _) => linear,
                (true, true) => paging::translate(&self.memory, sregs.cr3, linear)?,
                // The rarer kinds of paging are KVM's to walk (`KVM_TRANSLATE`).
                (true, false) => {
                    let page = self.fd.translate_gva(linear).ok().filter(|page| page.valid != 0)?;
                    page.physical_address
                }
            };
        self.memory.read_slice(data, GuestAddress(physical)).ok()
    }

    /// RIP after the last exit.
    pub fn rip(&mut self) -> u64 {
        self.fd.sync_regs_mut().regs.rip
    }

    /// All registers (`KVM_GET_REGS`, `KVM_GET_SREGS`).
    pub fn registers(&self) -> Result<Registers> {
        Ok(Registers {
            general: self.fd.get_regs().map_err(host(Step::Get("the vCPU's registers")))?,
            system: self.fd.get_sregs().map_err(host(Step::Get("the vCPU's system registers")))?,
        })
    }

    /// The general registers, when nothing can wake the processor but another one: it halted with interrupts off,
    /// or still waits for its SIPI (`KVM_GET_MP_STATE`).
    pub fn halted_for_good(&mut self) -> Result<Option<kvm_regs>> {
        let state = self.fd.get_mp_state().map_err(host(Step::Get("the vCPU's state")))?.mp_state;
        let regs = self.fd.sync_regs_mut().regs;
        let is_halted = match state {
            KVM_MP_STATE_UNINITIALIZED | KVM_MP_STATE_INIT_RECEIVED => true,
            KVM_MP_STATE_HALTED => regs.rflags & RFLAGS_IF == 0,
            _ => false,
        };
        Ok(is_halted.then_some(regs))
    }

    /// Runs `body` so that [`kick_this_thread`] ends a `KVM_RUN` in it, even one that has not begun.
    ///
    /// A signal that comes just before the ioctl would be lost; the byte `immediate_exit` of the shared
    /// page is what KVM looks at once more on its way in (KVM API document, section 5).
    pub fn accept_kicks<T>(&mut self, body: impl FnOnce(&mut Vcpu) -> T) -> T {
        struct Clear;
        impl Drop for Clear {
            fn drop(&mut self) {
                IMMEDIATE_EXIT.set(null_mut());
            }
        }
        IMMEDIATE_EXIT.set(addr_of_mut!(self.fd.get_kvm_run().immediate_exit));
        let _clear_even_after_a_panic = Clear;
        body(self)
    }
}

thread_local! {
    /// The `immediate_exit` byte of the vCPU that runs on this thread, or null.
    static IMMEDIATE_EXIT: Cell<*mut u8> = const { Cell::new(null_mut()) };
}

/// Makes the vCPU of the calling thread, if it has one, leave the guest. For signal handlers: it only
/// stores a byte.
pub fn kick_this_thread() {
    let byte = IMMEDIATE_EXIT.get();
    if !byte.is_null() {
        // SAFETY: the pointer is set while `accept_kicks` borrows the vCPU, whose mapping it points into,
        // and cleared before that borrow ends; it is read on the same thread only.
        unsafe { byte.write_volatile(1) };
    }
}
