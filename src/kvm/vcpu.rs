//! A virtual processor: `KVM_RUN`, and what comes back from it.
//!
//! Sources: KVM API document, sections 4.10 `KVM_RUN` and 5 "The kvm_run structure".

use super::{Memory, host};
use crate::error::{Result, Step};
use crate::x86::Entry;
use kvm_bindings::{
    CpuId, KVM_EXIT_DEBUG, KVM_EXIT_FAIL_ENTRY, KVM_EXIT_HLT, KVM_EXIT_INTERNAL_ERROR, KVM_EXIT_IO,
    KVM_EXIT_IO_OUT, KVM_EXIT_IOAPIC_EOI, KVM_EXIT_MMIO, KVM_EXIT_SHUTDOWN, kvm_run,
};
use kvm_ioctls::{SyncReg, VcpuFd};
use std::cell::{Cell, OnceCell};
use std::ptr::{addr_of_mut, null_mut};

/// Why the guest stopped. It borrows the page that KVM shares with us, so an exit allocates nothing, except
/// memory for the first long string.
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

/// One virtual processor.
pub struct Vcpu {
    pub(super) fd: VcpuFd,
    pub(super) memory: Memory,
    /// What [`Vcpu::set_cpuid`] was given. `KVM_GET_CPUID2` does not always return the same: some KVMs put the
    /// host's bits into it.
    pub(super) cpuid: OnceCell<CpuId>,
    /// The bytes of the last string that was finished; see [`Vcpu::finish_string`].
    pub(super) string: Vec<u8>,
    /// RIP after the last OUT that turned out not to be a string: not worth a second look.
    pub(super) plain_out: u64,
    /// Where the pages that KVM shares are mapped; a number, as nothing is read through it.
    shared_pages: usize,
}

impl Vcpu {
    pub(super) fn new(mut fd: VcpuFd, memory: Memory) -> Vcpu {
        fd.set_sync_valid_reg(SyncReg::Register);
        fd.set_sync_valid_reg(SyncReg::SystemRegister);
        let shared_pages = std::ptr::from_mut(fd.get_kvm_run()) as usize;
        Vcpu { fd, memory, cpuid: OnceCell::new(), string: Vec::new(), plain_out: u64::MAX, shared_pages }
    }

    /// The address of the first page that KVM shares with us, which `struct kvm_run` begins.
    pub(super) fn shared_pages(&self) -> usize {
        self.shared_pages
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

    /// Lets the guest run until it needs us (`KVM_RUN`).
    pub fn run(&mut self) -> Result<Exit<'_>> {
        match self.fd.run() {
            Ok(_) => {}
            // EAGAIN: the vCPU was waiting for its SIPI, and has received it.
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => {
                self.fd.set_kvm_immediate_exit(0);
                return Ok(Exit::Interrupted);
            }
            Err(error) => return Err(host(Step::RunVcpu)(error)),
        }
        let string = self.finish_string();
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

    /// RIP after the last exit.
    pub fn rip(&mut self) -> u64 {
        self.fd.sync_regs_mut().regs.rip
    }

    /// Runs `body` so that [`kick_this_thread`] ends a `KVM_RUN` in it, even one that has not begun.
    ///
    /// A signal that comes just before the ioctl would be lost. So the signal handler sets the byte
    /// `immediate_exit` of the shared page, which KVM checks before it enters the guest (KVM API document,
    /// section 5).
    pub fn accept_kicks<T>(&mut self, body: impl FnOnce(&mut Vcpu) -> T) -> T {
        with_kicks(addr_of_mut!(self.fd.get_kvm_run().immediate_exit), || body(self))
    }
}

/// Runs `body` so that [`kick_this_thread`] stores to `immediate_exit`, which outlives it.
pub(super) fn with_kicks<T>(immediate_exit: *mut u8, body: impl FnOnce() -> T) -> T {
    struct Clear;
    impl Drop for Clear {
        fn drop(&mut self) {
            IMMEDIATE_EXIT.set(null_mut());
        }
    }
    IMMEDIATE_EXIT.set(immediate_exit);
    let _clear_even_after_a_panic = Clear;
    body()
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
