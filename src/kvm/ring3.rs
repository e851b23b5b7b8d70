//! A VM whose memory is that of a program, and vCPUs that leave it at each system call.
//!
//! Beside [`Vm`](super::Vm) and [`Vcpu`](super::Vcpu): its slots come and go as the program maps memory, its
//! descriptors are out of the program's reach, and a vCPU's registers are read and written at every exit. What lies in
//! the memory is [`crate::program`]'s matter. Source: KVM API document; each ioctl is named there as it is here.

use super::vcpu::kick_this_thread;
use super::{Kvm, Memory, host};
use crate::error::{Error, Result, Step};
use crate::sys::program::{Arena, Inbox, VdsoData, duplicate_above};
use kvm_bindings::{
    CpuId, KVM_CAP_SPLIT_IRQCHIP, KVM_CAP_X86_DISABLE_EXITS, KVM_EXIT_IO, KVM_EXIT_IO_OUT,
    KVM_EXIT_MEMORY_FAULT, KVM_EXIT_SHUTDOWN, KVM_MEM_READONLY, KVM_MP_STATE_RUNNABLE, KVM_SYNC_X86_SREGS,
    KVM_VCPU_TSC_CTRL, KVM_VCPU_TSC_OFFSET, KVM_X86_DISABLE_EXITS_HLT, Msrs, kvm_device_attr, kvm_enable_cap,
    kvm_mp_state, kvm_msr_entry, kvm_regs, kvm_sregs, kvm_userspace_memory_region, kvm_xcrs, kvm_xsave,
};
use kvm_ioctls::{SyncReg, VcpuFd, VmFd};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::ptr::addr_of_mut;
use std::sync::Arc;
use vm_memory::{Address, GuestAddress, GuestMemoryBackend, GuestMemoryRegion, GuestRegionMmap, MmapRegion};

/// The number of a piece of guest memory.
pub type Slot = u32;

/// `_IO(KVMIO, 0x01)` and `_IO(KVMIO, 0x41)`: kvm-ioctls makes its descriptors where programs have theirs.
const KVM_CREATE_VM: libc::c_ulong = 0xae01;
const KVM_CREATE_VCPU: libc::c_ulong = 0xae41;
/// `_IOW(KVMIO, 0xe1, struct kvm_device_attr)`, for a vCPU.
const KVM_SET_DEVICE_ATTR: libc::c_ulong = 0x4018_aee1;
/// A split irqchip's IOAPIC, which is not used: HLT would wait in KVM, and no program executes it.
const IOAPIC_PINS: u64 = 24;
/// IA32_FS_BASE and IA32_GS_BASE (SDM volume 4, table 2-2).
const FS_BASE: u32 = 0xc000_0100;
const GS_BASE: u32 = 0xc000_0101;
/// IA32_MISC_FEATURES_ENABLES, and its bit that has CPUID fault outside ring 0.
const MISC_FEATURES_ENABLES: u32 = 0x140;
const CPUID_FAULTING: u64 = 1 << 0;

/// An ioctl whose answer is a descriptor, which becomes the lowest free one from `lowest` on.
fn descriptor(
    fd: RawFd,
    request: libc::c_ulong,
    argument: libc::c_ulong,
    lowest: RawFd,
) -> io::Result<OwnedFd> {
    loop {
        // SAFETY: both requests take a number and make a descriptor.
        match unsafe { libc::ioctl(fd, request, argument) } {
            made if made >= 0 => {
                // SAFETY: it was made for us just now.
                let made = unsafe { OwnedFd::from_raw_fd(made) };
                return duplicate_above(made.as_fd(), lowest);
            }
            _ => match io::Error::last_os_error() {
                // A signal came meanwhile. Of what was begun nothing is left.
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            },
        }
    }
}

impl Kvm {
    /// Its descriptor's number.
    pub(crate) fn descriptor(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// The same /dev/kvm by a descriptor of `lowest` or more.
    pub(crate) fn out_of_reach(self, lowest: RawFd) -> Result<Kvm> {
        // SAFETY: `self` has the descriptor, and lives to the end of this function.
        let fd = unsafe { BorrowedFd::borrow_raw(self.fd.as_raw_fd()) };
        let moved = duplicate_above(fd, lowest).map_err(host(Step::OpenKvm))?;
        // SAFETY: the descriptor is that of /dev/kvm, and nobody else has it.
        Ok(Kvm { fd: unsafe { kvm_ioctls::Kvm::from_raw_fd(moved.into_raw_fd()) } })
    }

    /// Creates a VM for the program in `arena`; `system` is what the VMM puts beside it, at its guest-physical
    /// addresses. The descriptors of it and of its vCPUs are `lowest` or more.
    pub(crate) fn create_program_vm(
        &self,
        arena: Arc<Arena>,
        system: Memory,
        lowest: RawFd,
    ) -> Result<ProgramVm> {
        let fd = descriptor(self.fd.as_raw_fd(), KVM_CREATE_VM, 0, lowest).map_err(host(Step::CreateVm))?;
        // SAFETY: the descriptor is a VM's, and nobody else has it.
        let fd = unsafe { self.fd.create_vmfd_from_rawfd(fd.into_raw_fd()) }.map_err(host(Step::CreateVm))?;
        let args = [IOAPIC_PINS, 0, 0, 0];
        let cap = kvm_enable_cap { cap: KVM_CAP_SPLIT_IRQCHIP, args, ..Default::default() };
        fd.enable_cap(&cap).map_err(host(Step::LocalApics))?;
        // A guest that may halt by itself gets no asynchronous page faults (kvm_can_do_async_pf): with them, KVM asks
        // again and again for a page that there is not, as behind the end of a file, and never says so.
        let args = [KVM_X86_DISABLE_EXITS_HLT.into(), 0, 0, 0];
        let cap = kvm_enable_cap { cap: KVM_CAP_X86_DISABLE_EXITS, args, ..Default::default() };
        let _ = fd.enable_cap(&cap);
        Ok(ProgramVm { fd, arena, system, lowest })
    }
}

/// The system memory of such a VM: what lies before `arena`, at guest-physical address `at`, and `others`, which are
/// zeroes.
pub(crate) fn system_memory(arena: &Arena, at: u64, others: &[(u64, u64)]) -> Result<Memory> {
    let refused =
        |error: &dyn std::fmt::Display| Error::Misuse(format!("cannot map the system's memory: {error}"));
    let (start, len) = arena.before();
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: the arena has mapped it, and it stays as long as the process.
    let before =
        unsafe { MmapRegion::build_raw(start, len, access, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) };
    let before = before.map_err(|error| refused(&error))?;
    let mut regions: Vec<_> = GuestRegionMmap::new(before, GuestAddress(at)).into_iter().collect();
    for &(at, len) in others {
        let other = MmapRegion::new(len as usize).map_err(|error| refused(&error))?;
        regions.extend(GuestRegionMmap::new(other, GuestAddress(at)));
    }
    Memory::from_regions(regions).map_err(|error| refused(&error))
}

/// A VM in which a program runs.
pub struct ProgramVm {
    // Declared first, dropped first: KVM lets go of the pages before they are unmapped.
    fd: VmFd,
    arena: Arc<Arena>,
    system: Memory,
    lowest: RawFd,
}

impl ProgramVm {
    /// Its descriptor's number.
    pub(crate) fn descriptor(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Gives the guest `len` bytes from guest-physical address `at` on, of the arena and what lies before it: of the
    /// latter, the last byte is at `arena_at - 1` (`KVM_SET_USER_MEMORY_REGION`).
    pub fn show_arena(&self, slot: Slot, at: u64, len: u64, arena_at: u64) -> Result<()> {
        let before = self.arena.before().1 as u64;
        let is_ours = match at.checked_sub(arena_at) {
            Some(offset) => self.arena.contains(offset, len),
            None => arena_at - at <= before && self.arena.contains(0, len - (arena_at - at)),
        };
        assert!(is_ours, "{at:#x}+{len:#x} is not in the arena");
        self.show(slot, 0, at, len, self.arena.host_address() + at - arena_at)
    }

    /// Gives the guest region `index` of the system memory, at its guest-physical address.
    pub fn show_system(&self, slot: Slot, index: usize) -> Result<()> {
        let region = self.system.iter().nth(index).expect("the system memory has its regions");
        self.show(slot, 0, region.start_addr().raw_value(), region.len(), region.as_ptr() as u64)
    }

    /// Gives the guest the data of this process's vDSO to read, at guest-physical address `at`.
    pub fn show_vdso_data(&self, slot: Slot, at: u64, data: &VdsoData) -> Result<()> {
        self.show(slot, KVM_MEM_READONLY, at, data.len, data.start)
    }

    fn show(&self, slot: Slot, flags: u32, at: u64, len: u64, userspace_addr: u64) -> Result<()> {
        let region = kvm_userspace_memory_region {
            slot,
            flags,
            guest_phys_addr: at,
            memory_size: len,
            userspace_addr,
        };
        // SAFETY: the arena and the system memory are owned by `self` and outlive `self.fd`; neither is ever moved, and
        // what is unmapped in the arena is the guest's to lose. The vDSO stays where it is as long as the process.
        unsafe { self.fd.set_user_memory_region(region) }.map_err(host(Step::AddMemory))
    }

    /// Creates vCPU `index` (`KVM_CREATE_VCPU`); the first is number 0. The others do not wait for a SIPI
    /// (`KVM_SET_MP_STATE`).
    pub fn create_vcpu(&self, index: u32) -> Result<ProgramVcpu> {
        let fd = descriptor(self.fd.as_raw_fd(), KVM_CREATE_VCPU, index.into(), self.lowest)
            .map_err(host(Step::CreateVcpu))?;
        // SAFETY: the descriptor is a vCPU's of this VM, and nobody else has it.
        let fd =
            unsafe { self.fd.create_vcpu_from_rawfd(fd.into_raw_fd()) }.map_err(host(Step::CreateVcpu))?;
        if index > 0 {
            let state = kvm_mp_state { mp_state: KVM_MP_STATE_RUNNABLE };
            fd.set_mp_state(state).map_err(host(Step::Set("the vCPU's run state")))?;
        }
        let mut vcpu = ProgramVcpu { fd };
        vcpu.fd.set_sync_valid_reg(SyncReg::Register);
        Ok(vcpu)
    }
}

/// Why a program stopped and the VMM has the word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProgramExit {
    /// OUT to that port: the VMM's own stub did it, or the program.
    Out(u16),
    /// IN, which only the program does; KVM waits for what it is to read.
    In,
    /// A signal arrived: look around and run again.
    Interrupted,
    /// KVM found no page of the host behind a guest-physical address; which, if it says so.
    NoPage(Option<u64>),
    /// A fault while a fault was being told to the guest.
    Shutdown,
    /// Anything else, by KVM's number for it.
    Other(u32),
}

/// A vCPU of such a VM.
pub struct ProgramVcpu {
    fd: VcpuFd,
}

/// The registers of floating point and vectors, as XSAVE has them.
pub type Fpu = Box<kvm_xsave>;

impl ProgramVcpu {
    /// Its descriptor's number.
    pub(crate) fn descriptor(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// What a processor needs once, before it first runs: CPUID, the registers of vectors that it may use (`XCR0`, where
    /// there is XSAVE), and a TSC that is the host's own, by which the vDSO tells the time.
    pub fn set_up(&self, cpuid: &CpuId, xcr0: Option<u64>, msrs: &[(u32, u64)]) -> Result<()> {
        self.fd.set_cpuid2(cpuid).map_err(host(Step::Set("the vCPU's CPUID")))?;
        if let Some(value) = xcr0 {
            let mut xcrs = kvm_xcrs { nr_xcrs: 1, ..Default::default() };
            xcrs.xcrs[0].value = value;
            self.fd.set_xcrs(&xcrs).map_err(host(Step::Set("the vCPU's XCR0")))?;
        }
        self.set_msrs(msrs)?;
        self.use_hosts_tsc();
        Ok(())
    }

    /// The same without CPUID, which KVM lets nobody set any more once the vCPU has run: ring 3 faults when it executes
    /// CPUID (#GP, "CPUID faulting": SDM volume 3A, section 2.9; KVM has it on every processor). False where KVM does
    /// not know of that.
    pub fn set_up_bare(&self, msrs: &[(u32, u64)]) -> Result<bool> {
        let faulting = [(MISC_FEATURES_ENABLES, CPUID_FAULTING)];
        let entries = msrs.iter().chain(&faulting);
        let entries = entries
            .map(|&(index, data)| kvm_msr_entry { index, data, ..Default::default() })
            .collect::<Vec<_>>();
        let list = Msrs::from_entries(&entries).expect("a few");
        let set = self.fd.set_msrs(&list).map_err(host(Step::Set("the vCPU's model-specific registers")))?;
        self.use_hosts_tsc();
        Ok(set == entries.len())
    }

    /// Has the TSC be the host's own (`KVM_VCPU_TSC_OFFSET`), where KVM can.
    fn use_hosts_tsc(&self) {
        let offset = 0_u64;
        let attribute = kvm_device_attr {
            flags: 0,
            group: KVM_VCPU_TSC_CTRL,
            attr: KVM_VCPU_TSC_OFFSET.into(),
            addr: std::ptr::from_ref(&offset) as u64,
        };
        // SAFETY: the descriptor is the vCPU's; the attribute is one u64, and both outlive the call. Linux before 5.16
        // does not know it, and has a vDSO all the same, whose clocks then begin at another time.
        unsafe { libc::ioctl(self.fd.as_raw_fd(), KVM_SET_DEVICE_ATTR, &attribute) };
    }

    fn set_msrs(&self, msrs: &[(u32, u64)]) -> Result<()> {
        let entries = msrs.iter().map(|&(index, data)| kvm_msr_entry { index, data, ..Default::default() });
        let list = Msrs::from_entries(&entries.collect::<Vec<_>>()).expect("a few");
        let what = Step::Set("the vCPU's model-specific registers");
        match self.fd.set_msrs(&list).map_err(host(what))? {
            set if set == msrs.len() => Ok(()),
            _ => Err(host(what)(io::Error::from_raw_os_error(libc::EINVAL))),
        }
    }

    /// The system registers that the vCPU is to go on with, if it has others than KVM knows.
    fn pending(&mut self) -> Option<&mut kvm_sregs> {
        let is_pending = self.fd.get_kvm_run().kvm_dirty_regs & u64::from(KVM_SYNC_X86_SREGS) != 0;
        is_pending.then(|| &mut self.fd.sync_regs_mut().sregs)
    }

    /// The bases of FS, by which programs find what belongs to a thread, and of GS.
    pub fn bases(&mut self) -> Result<[u64; 2]> {
        if let Some(sregs) = self.pending() {
            return Ok([sregs.fs.base, sregs.gs.base]);
        }
        let entries = [FS_BASE, GS_BASE].map(|index| kvm_msr_entry { index, ..Default::default() });
        let mut list = Msrs::from_entries(&entries).expect("two");
        let what = Step::Get("a model-specific register");
        match self.fd.get_msrs(&mut list).map_err(host(what))? {
            2 => Ok([list.as_slice()[0].data, list.as_slice()[1].data]),
            _ => Err(host(what)(io::Error::from_raw_os_error(libc::EINVAL))),
        }
    }

    /// Sets both.
    pub fn set_bases(&mut self, [fs, gs]: [u64; 2]) -> Result<()> {
        if let Some(sregs) = self.pending() {
            (sregs.fs.base, sregs.gs.base) = (fs, gs);
            return Ok(());
        }
        self.set_msrs(&[(FS_BASE, fs), (GS_BASE, gs)])
    }

    /// Sets the base of FS.
    pub fn set_fs_base(&mut self, base: u64) -> Result<()> {
        match self.pending() {
            Some(sregs) => sregs.fs.base = base,
            None => self.set_msrs(&[(FS_BASE, base)])?,
        }
        Ok(())
    }

    /// Sets the base of GS.
    pub fn set_gs_base(&mut self, base: u64) -> Result<()> {
        match self.pending() {
            Some(sregs) => sregs.gs.base = base,
            None => self.set_msrs(&[(GS_BASE, base)])?,
        }
        Ok(())
    }

    /// The general registers as they were at the last exit, or as they have been set since.
    pub fn registers(&mut self) -> kvm_regs {
        self.fd.sync_regs_mut().regs
    }

    /// The same to be changed: the vCPU goes on with what is there then.
    pub fn registers_mut(&mut self) -> &mut kvm_regs {
        self.fd.set_sync_dirty_reg(SyncReg::Register);
        &mut self.fd.sync_regs_mut().regs
    }

    /// The system registers (`KVM_GET_SREGS`), or those that it is to go on with.
    pub fn system(&mut self) -> Result<kvm_sregs> {
        if let Some(sregs) = self.pending() {
            return Ok(*sregs);
        }
        self.fd.get_sregs().map_err(host(Step::Get("the vCPU's system registers")))
    }

    /// Whether each exit brings the system registers along, for `system_at_exit`.
    pub fn bring_system(&mut self, is_wanted: bool) {
        match is_wanted {
            true => self.fd.set_sync_valid_reg(SyncReg::SystemRegister),
            false => self.fd.clear_sync_valid_reg(SyncReg::SystemRegister),
        }
    }

    /// The system registers as they were at the last exit, where that was to bring them along.
    pub fn system_at_exit(&mut self) -> kvm_sregs {
        self.fd.sync_regs_mut().sregs
    }

    /// Has the vCPU go on with these system registers; they go through the shared page and cost no ioctl.
    pub fn set_system(&mut self, sregs: kvm_sregs) {
        self.fd.sync_regs_mut().sregs = sregs;
        self.fd.set_sync_dirty_reg(SyncReg::SystemRegister);
    }

    /// `KVM_GET_XSAVE`.
    pub fn fpu(&self) -> Result<Fpu> {
        self.fd.get_xsave().map(Box::new).map_err(host(Step::Get("the vCPU's FPU")))
    }

    /// `KVM_SET_XSAVE`. EINVAL for bytes that no processor could have saved.
    pub fn set_fpu(&self, fpu: &Fpu) -> Result<()> {
        // SAFETY: it wants a buffer as large as KVM_CAP_XSAVE2 says, which is 4096 bytes, the size of this struct, for
        // a process that has not asked for larger features (arch_prctl(2)), as we never do.
        unsafe { self.fd.set_xsave(fpu) }.map_err(host(Step::Set("the vCPU's FPU")))
    }

    /// Whether KVM has begun to tell the guest of an exception and was interrupted before it could
    /// (`KVM_GET_VCPU_EVENTS`): other registers would not keep it from going on with that.
    pub fn is_exception_under_way(&self) -> Result<bool> {
        let events = self.fd.get_vcpu_events().map_err(host(Step::Get("the vCPU's events")))?;
        Ok(events.exception.injected != 0)
    }

    /// Lets the program run until it needs us (`KVM_RUN`). Where a signal waits in the thread's [`Inbox`], it does not
    /// run at all, unless `regardless`.
    pub fn run(&mut self, regardless: bool) -> Result<ProgramExit> {
        let byte = addr_of_mut!(self.fd.get_kvm_run().immediate_exit);
        // A signal that comes after the look finds the byte, and KVM looks there on its way in.
        let result = super::vcpu::with_kicks(byte, || match regardless || Inbox::is_empty() {
            true => Some(self.fd.run().map(drop)),
            false => None,
        });
        let Some(result) = result else { return Ok(ProgramExit::Interrupted) };
        let run = self.fd.get_kvm_run();
        match result {
            Ok(()) => Ok(match run.exit_reason {
                KVM_EXIT_IO => {
                    // SAFETY: exit_reason says that KVM filled `io`.
                    let io = unsafe { run.__bindgen_anon_1.io };
                    if u32::from(io.direction) == KVM_EXIT_IO_OUT {
                        ProgramExit::Out(io.port)
                    } else {
                        ProgramExit::In
                    }
                }
                KVM_EXIT_SHUTDOWN => ProgramExit::Shutdown,
                reason => ProgramExit::Other(reason),
            }),
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => {
                self.fd.set_kvm_immediate_exit(0);
                Ok(ProgramExit::Interrupted)
            }
            Err(error) if error.errno() == libc::EFAULT => {
                // SAFETY: they are numbers; whether KVM filled them, exit_reason says.
                let address = unsafe { run.__bindgen_anon_1.memory_fault.gpa };
                Ok(ProgramExit::NoPage((run.exit_reason == KVM_EXIT_MEMORY_FAULT).then_some(address)))
            }
            Err(error) => Err(host(Step::RunVcpu)(error)),
        }
    }

    /// Has KVM complete what the last exit left to be done, without running the program.
    pub fn complete(&mut self) -> Result<()> {
        self.fd.set_kvm_immediate_exit(1);
        let result = self.fd.run().map(drop);
        self.fd.set_kvm_immediate_exit(0);
        match result {
            Err(error) if error.errno() != libc::EINTR => Err(host(Step::RunVcpu)(error)),
            _ => Ok(()),
        }
    }
}

/// Makes the vCPU of the calling thread leave its program. For signal handlers.
pub fn kick() {
    kick_this_thread();
}
