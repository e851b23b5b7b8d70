//! The floor: the `hello` guest started by bare system calls in straight-line code.
//!
//! Not a VMM: it knows the one guest it starts, checks nothing, and has no device. It is what a start
//! costs on this host when nobody adds anything. No libc, no std, so that it can be a program of 3 KiB as
//! well as a function in a benchmark. If you find a cheaper way, put it here: the bars follow.

use core::arch::asm;

/// Only what the floor needs of the KVM API (Documentation/virt/kvm/api.rst).
const KVM_CREATE_VM: usize = 0xae01;
const KVM_CREATE_VCPU: usize = 0xae41;
const KVM_RUN: usize = 0xae80;
const KVM_SET_USER_MEMORY_REGION: usize = 0x4020_ae46;
const KVM_ENABLE_CAP: usize = 0x4068_aea3;
const KVM_CAP_SPLIT_IRQCHIP: u32 = 121;
/// The shared page, the page for port I/O and the one for coalesced MMIO.
const RUN_SIZE: usize = 3 * 4096;
const MEMORY: usize = 2 << 20;
const TABLES: u64 = 0x9000;

/// One system call.
///
/// # Safety
/// As the call itself.
pub unsafe fn syscall(number: usize, arguments: [usize; 6]) -> isize {
    let [a, b, c, d, e, f] = arguments;
    let result;
    // SAFETY: the kernel's calling convention; it changes nothing but rax, rcx, r11 and what the call says.
    unsafe {
        asm!("syscall", inlateout("rax") number => result, in("rdi") a, in("rsi") b, in("rdx") c,
            in("r10") d, in("r8") e, in("r9") f, lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

unsafe fn ioctl(fd: isize, request: usize, argument: usize) -> isize {
    // SAFETY: the caller's.
    unsafe { syscall(16, [fd as usize, request, argument, 0, 0, 0]) }
}

unsafe fn mmap(length: usize, flags: usize, fd: isize) -> *mut u8 {
    const READ_WRITE: usize = 3;
    // SAFETY: a new mapping at an address of the kernel's choice.
    unsafe { syscall(9, [0, length, READ_WRITE, flags, fd as usize, 0]) as *mut u8 }
}

/// `struct kvm_segment`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Segment {
    base: u64,
    limit: u32,
    selector: u16,
    kind: u8,
    present: u8,
    dpl: u8,
    db: u8,
    s: u8,
    l: u8,
    g: u8,
    avl: u8,
    unusable: u8,
    padding: u8,
}

/// `struct kvm_sregs`: segments, tables, control registers.
#[repr(C)]
struct Sregs {
    /// cs, ds, es, fs, gs, ss, tr, ldt
    segments: [Segment; 8],
    /// gdt, idt: base, limit
    tables: [[u64; 2]; 2],
    cr0: u64,
    cr2: u64,
    cr3: u64,
    cr4: u64,
    cr8: u64,
    efer: u64,
    apic_base: u64,
    interrupt_bitmap: [u64; 4],
}

fn little(image: &[u8], at: usize) -> usize {
    let mut value = 0;
    for n in (0..8).rev() {
        value = value << 8 | image[at + n] as usize;
    }
    value
}

/// What has to be given back when the process lives on.
pub struct Started {
    fds: [isize; 3],
    mappings: [(*mut u8, usize); 2],
}

impl Started {
    /// Gives the VM back.
    ///
    /// # Safety
    /// It must not be used afterwards, and is not.
    #[allow(dead_code, reason = "the program leaves it to its end")]
    pub unsafe fn tear_down(self) {
        // SAFETY: descriptors and mappings are ours.
        unsafe {
            for (n, fd) in self.fds.into_iter().enumerate() {
                syscall(3, [fd as usize, 0, 0, 0, 0, 0]);
                if let Some((at, length)) = self.mappings.get(n) {
                    syscall(11, [*at as usize, *length, 0, 0, 0, 0]);
                }
            }
        }
    }
}

/// Starts `hello` (an ELF64 file with one segment), gives its line to `line` and runs it to its end.
///
/// # Safety
/// `hello` must be the guest of the gallery: nothing is checked.
pub unsafe fn start(hello: &[u8], line: impl FnOnce(&[u8])) -> Started {
    // SAFETY: the caller gave the guest that this was written for; every pointer below is into a mapping made
    // here or to a local that outlives its call.
    unsafe {
        let kvm = syscall(2, [c"/dev/kvm".as_ptr() as usize, 0x80002, 0, 0, 0, 0]);
        let vm = ioctl(kvm, KVM_CREATE_VM, 0);
        let mut cap = [0u64; 13];
        cap[0] = KVM_CAP_SPLIT_IRQCHIP.into();
        cap[1] = 24;
        ioctl(vm, KVM_ENABLE_CAP, cap.as_ptr() as usize);
        const PRIVATE_ANONYMOUS_NORESERVE: usize = 0x4022;
        let memory = mmap(MEMORY, PRIVATE_ANONYMOUS_NORESERVE, -1);
        let region: [u64; 4] = [0, 0, MEMORY as u64, memory as u64];
        ioctl(vm, KVM_SET_USER_MEMORY_REGION, region.as_ptr() as usize);

        let header = little(hello, 32);
        let (offset, address, length) =
            (little(hello, header + 8), little(hello, header + 24), little(hello, header + 32));
        core::ptr::copy_nonoverlapping(hello.as_ptr().add(offset), memory.add(address), length);
        // One page of 2 MiB: PML4, PDPT, PD.
        let tables = memory.add(TABLES as usize).cast::<u64>();
        tables.write((TABLES + 0x1000) | 3);
        tables.add(512).write((TABLES + 0x2000) | 3);
        tables.add(1024).write(0x83);

        let cpu = ioctl(vm, KVM_CREATE_VCPU, 0);
        const SHARED: usize = 1;
        let run = mmap(RUN_SIZE, SHARED, cpu);
        let data = Segment {
            base: 0,
            limit: !0,
            selector: 0x18,
            kind: 3,
            present: 1,
            dpl: 0,
            db: 1,
            s: 1,
            l: 0,
            g: 1,
            avl: 0,
            unusable: 0,
            padding: 0,
        };
        let code = Segment { selector: 0x10, kind: 0xb, db: 0, l: 1, ..data };
        let task = Segment { selector: 0x20, kind: 0xb, limit: 0x67, db: 0, s: 0, g: 0, ..data };
        let ldt = Segment { selector: 0, kind: 2, ..task };
        let sregs = Sregs {
            segments: [code, data, data, data, data, data, task, ldt],
            tables: [[0; 2]; 2],
            cr0: 0x8000_0011,
            cr2: 0,
            cr3: TABLES,
            cr4: 0x20,
            cr8: 0,
            efer: 0x500,
            apic_base: 0xfee0_0900,
            interrupt_bitmap: [0; 4],
        };

        let mut regs = [0u64; 18];
        regs[7 - 1] = 0x1_0000; // rsp
        regs[16] = little(hello, 24) as u64; // rip
        regs[17] = 2; // rflags

        // struct kvm_run: kvm_valid_regs, kvm_dirty_regs, then the general and the system registers. KVM
        // takes them over at KVM_RUN, which saves two ioctls.
        let valid = run.add(288).cast::<u64>();
        let (dirty, synced) = (valid.add(1), valid.add(2));
        core::ptr::copy_nonoverlapping(regs.as_ptr(), synced, regs.len());
        synced.add(regs.len()).cast::<Sregs>().write(sregs);
        valid.write(1);
        dirty.write(3);
        ioctl(cpu, KVM_RUN, 0);
        // The guest is at its `rep outsb`, one byte on: the rest of the line lies at RSI, RCX bytes of it.
        let (rcx, rsi) = (synced.add(2), synced.add(4));
        let left = rcx.read() as usize;
        line(core::slice::from_raw_parts(memory.add(rsi.read() as usize - 1), left + 1));
        rsi.write(rsi.read() + left as u64);
        rcx.write(0);
        dirty.write(1);
        ioctl(cpu, KVM_RUN, 0);
        Started { fds: [cpu, vm, kvm], mappings: [(run, RUN_SIZE), (memory, MEMORY)] }
    }
}
