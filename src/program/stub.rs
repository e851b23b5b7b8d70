//! What lies beside a program in its VM, though there is no kernel: page tables, descriptor tables, and a few
//! instructions that turn a system call or a fault into an exit.
//!
//! ```text
//! program (ring 3) ──syscall──▶ stub: out %al, $0x80 ──exit──▶ the VMM serves the call
//!                  ◀──sysretq or jmp *%rcx────────────────────┘
//! program (ring 3) ──fault────▶ vector's stub (ring 0): push, out %al, $0x81 ──exit──▶ the VMM sends a signal
//! ```
//!
//! This file knows how one KVM differs from another. On processors that KVM runs natively, SYSCALL goes to ring 0 and
//! SYSRET comes back. kvm_pvm runs ring 3 natively and emulates ring 0, and its SYSCALL arrives at the same address
//! *still in ring 3*: there the stub needs IOPL 3 to reach a port, and comes back with a jump. With that jump
//! elsewhere, the program would run in ring 0; so which of the two it is, is read from the ring that the first system
//! call has come from.
//!
//! Sources: Intel SDM volume 3A, sections 3.4.5 "Segment Descriptors", 4.5 "4-Level Paging", 5.8.8 "Fast System Calls
//! in 64-Bit Mode", 6.14 "Exception and Interrupt Handling in 64-bit Mode", 8.7 "Task Management in 64-bit Mode".

use super::calls::{self, Answers, Return, Stop, out};
use crate::kvm::Memory;
use crate::x86::mode::{
    CR0_ET, CR0_PE, CR0_PG, CR4_OSFXSR, CR4_OSXSAVE, CR4_PAE, EFER_LMA, EFER_LME, EFER_NXE, RFLAGS_IF,
    RFLAGS_RESERVED,
};
use crate::x86::segment::Segment;
use kvm_bindings::{kvm_dtable, kvm_regs, kvm_segment, kvm_sregs};
use vm_memory::{Bytes, GuestAddress};

/// The system's memory, by guest-physical addresses: page tables of a small program included, it ends where that of the
/// program begins, so that one slot has both. The first page is nobody's: what is left is too small for a large page,
/// which a host would fill with zeroes for the few pages that are used.
pub const SYSTEM: u64 = 0x1000;
/// Its size.
pub const SYSTEM_LEN: u64 = PROGRAM - SYSTEM;
/// The guest-physical address of the program's address 0.
pub const PROGRAM: u64 = 2 << 20;
/// Where the guest sees the system's memory, behind every program: `seen`.
const SEEN: u64 = 63 << 30;

/// The root of the page tables: the value of CR3.
pub const ROOT: u64 = 0x1000;
/// The table of 1 GiB regions, of which the program has all but the last.
pub const DIRECTORIES: u64 = 0x2000;
const SYSTEM_DIRECTORY: u64 = 0x3000;
const SYSTEM_TABLE: u64 = 0x4000;
/// The GDT, and in the same page the IDT.
const GDT: u64 = 0x5000;
const IDT: u64 = 0x5800;
const VECTORS: u64 = 0x6000;
const VDSO_TABLE: u64 = 0x7000;
/// The vDSO's code.
const VDSO_CODE: u64 = 0x8000;
/// From here to [`TABLES_END`] pages are handed out.
pub const FREE: u64 = VDSO_CODE + VDSO_CODE_MAX;
/// The most vCPUs that there are.
pub const VCPUS_MAX: u32 = 256;
/// What LSTAR of each vCPU leads to: `calls`.
pub const TABLES_END: u64 = OWN - VCPUS_MAX as u64 * calls::LEN;
/// A page for each vCPU: its TSS, and its stack for exceptions.
const OWN: u64 = PROGRAM - VCPUS_MAX as u64 * 4096;

/// Where the guest sees the vDSO's code; its data lies before it.
pub const VDSO: u64 = SEEN + (3 << 20);
/// The region of both: 2 MiB, one page table.
const VDSO_REGION: u64 = SEEN + (2 << 20);
/// The most bytes that its code may have, and its data.
const VDSO_CODE_MAX: u64 = 8 << 12;
const VDSO_DATA_MAX: u64 = 1 << 20;

/// The address by which the guest sees what is at a physical one of the system's memory.
const fn seen(physical: u64) -> u64 {
    SEEN + physical
}

/// The page of the vCPU with that number.
pub fn page_of(vcpu: u32) -> u64 {
    OWN + u64::from(vcpu) * 4096
}

/// Where the stub is of the vCPU whose page is `page`: the physical address.
fn stub_of(page: u64) -> u64 {
    TABLES_END + (page - OWN) / 4096 * calls::LEN
}

/// The same as the guest sees it, which is what LSTAR holds.
pub fn entry_of(page: u64) -> u64 {
    seen(stub_of(page))
}

/// The port of an exception.
pub const EXCEPTION: u16 = 0x81;

/// Bits of an entry of a page table (SDM 4.5.5).
pub mod entry {
    /// P: there is a page.
    pub const PRESENT: u64 = 1 << 0;
    /// R/W: it may be written to.
    pub const WRITE: u64 = 1 << 1;
    /// U/S: ring 3 may use it.
    pub const USER: u64 = 1 << 2;
    /// A and D, set from the start, so that no processor has to set them: KVM then maps several pages at once.
    pub const USED: u64 = 1 << 5 | 1 << 6;
    /// PS: the page has 2 MiB.
    pub const LARGE: u64 = 1 << 7;
    /// XD: no code.
    pub const NO_CODE: u64 = 1 << 63;
    /// Of an entry that leads to a table.
    pub const TABLE: u64 = PRESENT | WRITE | USER | 1 << 5;
}

/// The selectors that Linux has, so that a program that looks finds what it knows.
const KERNEL_CODE: u16 = 0x10;
const USER_CODE: Segment = Segment { selector: 0x33, dpl: 3, ..Segment::CODE64 };
const USER_DATA: Segment = Segment { selector: 0x2b, dpl: 3, ..Segment::DATA };
const TSS_LIMIT: u32 = 0x67;
const VECTOR_COUNT: u64 = 32;
/// Bytes of a vector's stub.
const VECTOR_LEN: u64 = 16;
/// #BP, which the program's INT3 reaches from ring 3; all others come from the processor alone.
const BREAKPOINT: u64 = 3;

const IA32_STAR: u32 = 0xc000_0081;
const IA32_LSTAR: u32 = 0xc000_0082;
const IA32_FMASK: u32 = 0xc000_0084;
/// What SYSCALL sets, as in Linux: selectors for both ways, the stub, and no trap, nesting or interrupts. The direction
/// flag stays, as no stub looks at it.
pub fn msrs(page: u64) -> [(u32, u64); 3] {
    [
        (IA32_STAR, 0x23 << 48 | u64::from(KERNEL_CODE) << 32),
        (IA32_LSTAR, entry_of(page)),
        (IA32_FMASK, 0x4300),
    ]
}

const CR0: u64 = CR0_PE | 1 << 1 | CR0_ET | 1 << 5 | 1 << 16 | CR0_PG; // MP, NE, WP
/// FSGSBASE, as Linux has it since 5.9.
const CR4_FSGSBASE: u64 = 1 << 16;
const CR4_OSXMMEXCPT: u64 = 1 << 10;
const CR4: u64 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT;
const EFER_SCE: u64 = 1;

/// RFLAGS bits 12 and 13: which rings may use ports.
const IOPL3: u64 = 3 << 12;
/// What a program may decide of RFLAGS, as in Linux (`FIX_EFLAGS`): AC, RF, OF, DF, TF, SF, ZF, AF, PF, CF.
const OWN_FLAGS: u64 = 0x5_0dd5;

/// An exception, as the processor has told it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exception {
    /// Its number: 14 is a page fault.
    pub vector: u8,
    /// Its error code, or 0.
    pub error: u64,
    /// False if it happened in the stub itself.
    pub is_users: bool,
    /// Where.
    pub rip: u64,
    /// The stack pointer before it.
    pub rsp: u64,
    /// The flags before it.
    pub rflags: u64,
}

fn store(memory: &Memory, at: u64, value: u64) {
    memory.write_obj(value, GuestAddress(at)).expect("the system's memory is there");
}

fn store_bytes(memory: &Memory, at: u64, bytes: &[u8]) {
    memory.write_slice(bytes, GuestAddress(at)).expect("the system's memory is there");
}

/// Lets the guest see a page of the system's memory.
fn show(memory: &Memory, page: u64, rights: u64) {
    use entry::{PRESENT, USED};
    store(memory, SYSTEM_TABLE + (page >> 12) * 8, page | PRESENT | USED | rights);
}

/// Writes all of it into the system's memory, which is zero.
pub fn build(memory: &Memory) {
    use entry::{NO_CODE, TABLE, WRITE};
    store(memory, ROOT, DIRECTORIES | TABLE);
    store(memory, DIRECTORIES + (SEEN >> 30) * 8, SYSTEM_DIRECTORY | TABLE);
    store(memory, SYSTEM_DIRECTORY, SYSTEM_TABLE | TABLE);
    show(memory, GDT, WRITE | NO_CODE);
    show(memory, VECTORS, 0);
    let kernel_code = Segment { selector: KERNEL_CODE, ..Segment::CODE64 };
    let kernel_data = Segment { selector: KERNEL_CODE + 8, ..Segment::DATA };
    for segment in [kernel_code, kernel_data, USER_CODE, USER_DATA] {
        store(memory, GDT + u64::from(segment.selector & !7), segment.descriptor());
    }
    for vector in 0..VECTOR_COUNT {
        let at = VECTORS + vector * VECTOR_LEN;
        let has_error = matches!(vector, 8 | 10..=14 | 17 | 21 | 29 | 30);
        // push 0, where the processor has not pushed an error code; push the vector; leave.
        let push = |value: u8| [0x6a, value];
        let mut code = Vec::new();
        if !has_error {
            code.extend(push(0));
        }
        code.extend(push(vector as u8));
        code.extend(out(EXCEPTION));
        code.extend([0xf4]);
        store_bytes(memory, at, &code);
        // A 64-bit interrupt gate on the first stack of the TSS (SDM 6.14.1 and 6.14.5): an exception in the stub,
        // whose stack is the program's, would otherwise push there.
        let (dpl, at) = (if vector == BREAKPOINT { 3 } else { 0 }, seen(at));
        let low = at & 0xffff
            | u64::from(KERNEL_CODE) << 16
            | 1 << 32
            | 0xe << 40
            | dpl << 45
            | 1 << 47
            | (at >> 16 & 0xffff) << 48;
        store(memory, IDT + vector * 16, low);
        store(memory, IDT + vector * 16 + 8, at >> 32);
    }
}

/// Has system calls of the vCPU whose page is `page` go back in the way that is right here, and be answered there if
/// they only ask for one of `answers`.
pub fn set_calls(memory: &Memory, page: u64, how: Return, answers: Option<&Answers>) {
    store_bytes(memory, stub_of(page), &calls::code(how, answers));
}

/// Gives the program the vDSO's code, to read and run: a copy. False if there is no room for it.
pub fn build_vdso(memory: &Memory, code: &[u8]) -> bool {
    let len = code.len() as u64;
    if len > VDSO_CODE_MAX {
        return false;
    }
    store(memory, SYSTEM_DIRECTORY + 8, VDSO_TABLE | entry::TABLE);
    store_bytes(memory, VDSO_CODE, code);
    for page in 0..len.div_ceil(4096) {
        store_vdso(memory, VDSO + (page << 12), VDSO_CODE + (page << 12));
    }
    true
}

fn store_vdso(memory: &Memory, at: u64, physical: u64) {
    use entry::{PRESENT, USED, USER};
    store(memory, VDSO_TABLE + ((at - VDSO_REGION) >> 12) * 8, physical | PRESENT | USED | USER);
}

/// Where the vDSO's data, of `len` bytes, lies in front of its code: the guest-virtual address, which is the physical
/// one as well.
pub fn vdso_data(len: u64) -> Option<u64> {
    (len <= VDSO_DATA_MAX).then(|| VDSO - len)
}

/// Whether an address may be of the vDSO's data.
pub fn is_vdso_data(at: u64) -> bool {
    (VDSO - VDSO_DATA_MAX..VDSO).contains(&at)
}

/// Gives the program the vDSO's data, of `len` bytes, to read.
pub fn map_vdso_data(memory: &Memory, len: u64) {
    for at in (VDSO - len..VDSO).step_by(4096) {
        store_vdso(memory, at, at);
    }
}

/// Takes it away again.
pub fn unmap_vdso_data(memory: &Memory, len: u64) {
    for at in (VDSO - len..VDSO).step_by(4096) {
        store(memory, VDSO_TABLE + ((at - VDSO_REGION) >> 12) * 8, 0);
    }
}

/// Writes the TSS and the stack for exceptions into `page`, which a vCPU has for itself.
pub fn build_vcpu(memory: &Memory, page: u64) {
    show(memory, page, entry::WRITE | entry::NO_CODE);
    show(memory, stub_of(page) & !0xfff, entry::USER);
    // What is right before anybody knows.
    set_calls(memory, page, Return::Sysret, None);
    // IST1 (SDM 8.7, figure 8-11), and RSP0.
    for offset in [4, 36] {
        store(memory, page + offset, seen(page) + 0x1000);
    }
}

/// The system registers with which a program begins; `page` is the vCPU's own.
pub fn system_registers(page: u64, has_xsave: bool, has_fsgsbase: bool) -> kvm_sregs {
    let (code, data) = (USER_CODE.kvm(), USER_DATA.kvm());
    let tss = Segment { selector: 0x40, base: seen(page), limit: TSS_LIMIT, ..Segment::TSS };
    let cr4 = CR4 | if has_xsave { CR4_OSXSAVE } else { 0 } | if has_fsgsbase { CR4_FSGSBASE } else { 0 };
    // What an unused segment looks like: Linux leaves these at null as well.
    let null = kvm_segment { unusable: 1, type_: 3, s: 1, dpl: 3, ..kvm_segment::default() };
    kvm_sregs {
        cs: code,
        ss: data,
        ds: data,
        es: data,
        fs: data,
        gs: data,
        tr: tss.kvm(),
        ldt: kvm_segment { type_: 2, s: 0, ..null },
        gdt: kvm_dtable { base: seen(GDT), limit: 0x3f, ..kvm_dtable::default() },
        idt: kvm_dtable { base: seen(IDT), limit: (VECTOR_COUNT * 16 - 1) as u16, ..kvm_dtable::default() },
        cr0: CR0,
        cr3: ROOT,
        cr4,
        efer: EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE,
        apic_base: 0xfee0_0900,
        ..kvm_sregs::default()
    }
}

/// Puts a vCPU that has stopped in ring 0 back into ring 3.
pub fn back_to_ring3(sregs: &mut kvm_sregs) {
    (sregs.cs, sregs.ss) = (USER_CODE.kvm(), USER_DATA.kvm());
}

/// Which return is right, by the registers at the first system call.
pub fn find_return(sregs: &kvm_sregs) -> Return {
    if sregs.cs.dpl == 3 { Return::Jump } else { Return::Sysret }
}

/// A program's flags, as it goes on with them.
pub fn flags(wanted: u64, how: Option<Return>) -> u64 {
    let ports = match how {
        Some(Return::Sysret) => 0,
        // Before the first system call nobody knows. Where SYSRET is right, the first one takes them away.
        Some(Return::Jump) | None => IOPL3,
    };
    wanted & OWN_FLAGS | RFLAGS_RESERVED | RFLAGS_IF | ports
}

/// Flags as a program sees them.
pub fn visible_flags(rflags: u64) -> u64 {
    rflags & OWN_FLAGS | RFLAGS_RESERVED | RFLAGS_IF
}

/// Where `rip` is, at an exit of the vCPU whose page is `page` that is not a system call's own.
pub fn stop(rip: u64, page: u64) -> Stop {
    calls::stop(rip.wrapping_sub(entry_of(page)))
}

/// Where the stub goes on when a call has been served.
pub fn after_call(page: u64) -> u64 {
    entry_of(page) + calls::AFTER
}

/// Whether an OUT was the stub's. Some KVMs show RIP at it, some behind it.
pub fn is_stub(rip: u64, page: u64) -> bool {
    calls::is_out(rip.wrapping_sub(entry_of(page)))
}

/// Whether `rip` is in a vector's stub: an exception has come, and the VMM has not heard of it yet.
pub fn is_vector(rip: u64) -> bool {
    (VECTORS..VECTORS + 0x1000).contains(&rip.wrapping_sub(SEEN))
}

/// Reads what an exception has left on the stack of the vCPU whose page is `page`.
///
/// `None` if the registers are not those of a vector's stub, as when the program has written to the port itself.
pub fn exception(memory: &Memory, registers: &kvm_regs, page: u64) -> Option<Exception> {
    let at = registers.rsp.wrapping_sub(SEEN);
    if !(page..page + 0x1000 - 7 * 8 + 1).contains(&at) || !is_vector(registers.rip) {
        return None;
    }
    let word = |index: u64| memory.read_obj::<u64>(GuestAddress(at + index * 8)).ok();
    Some(Exception {
        vector: word(0)? as u8,
        error: word(1)?,
        rip: word(2)?,
        is_users: word(3)? & 3 == 3,
        rflags: word(4)?,
        rsp: word(5)?,
    })
}
