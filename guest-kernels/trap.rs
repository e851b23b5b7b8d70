//! Interrupts and exceptions: the descriptor table, and handlers written in Rust.
//!
//! The processor finds a handler through the IDT and pushes five words; an IRETQ pops them again (Intel
//! SDM 3A, "Exception and Interrupt Handling in 64-bit Mode"). In between a handler in Rust needs the
//! registers saved that the interrupted code may be using, which is what the stubs made by `trap!` do.
#![allow(dead_code)] // no guest needs everything here

use core::arch::asm;
use core::ptr::addr_of_mut;

/// What lies on the stack while a handler runs: the registers a Rust function may overwrite, then what
/// the processor pushed.
#[repr(C)]
pub struct Frame {
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rdx: u64,
    pub rcx: u64,
    pub rax: u64,
    /// What some exceptions push (SDM 3A, "Error Code"), 0 from the others.
    pub error: u64,
    /// Where the handler goes back to.
    pub rip: u64,
    /// Code segment; its low two bits are the ring that was interrupted.
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

/// Defines `$stub`, the address for the IDT, around `$handler`, an `extern "C" fn(&mut Frame)`.
///
/// `error` says that the exception pushes an error code; without it the stub pushes a zero, so that the
/// frame always looks the same.
macro_rules! trap {
    ($stub:ident, error, $handler:ident) => {
        trap!(@ $stub, "", $handler);
    };
    ($stub:ident, $handler:ident) => {
        trap!(@ $stub, "push 0", $handler);
    };
    (@ $stub:ident, $error:literal, $handler:ident) => {
        #[unsafe(naked)]
        extern "C" fn $stub() {
            core::arch::naked_asm!(
                $error,
                "push rax; push rcx; push rdx; push rsi; push rdi; push r8; push r9; push r10; push r11",
                "cld",          // as functions expect it
                "mov rdi, rsp", // the frame is the argument
                "sub rsp, 8",   // calls want the stack aligned to 16 bytes
                "call {handler}",
                "add rsp, 8",
                "pop r11; pop r10; pop r9; pop r8; pop rdi; pop rsi; pop rdx; pop rcx; pop rax",
                "add rsp, 8", // the error code
                "iretq",
                handler = sym $handler,
            )
        }
    };
}

/// An entry of the IDT (SDM 3A, "64-Bit Mode IDT").
#[repr(C)]
#[derive(Clone, Copy)]
struct Gate {
    offset_low: u16,
    selector: u16,
    stack: u8,
    kind: u8,
    offset_middle: u16,
    offset_high: u32,
    zero: u32,
}

/// Vectors in the table: the 32 exceptions, then as many interrupts.
const VECTORS: usize = 64;
/// Absent gates: an exception nobody expects becomes a double fault, then a triple fault.
static mut IDT: [Gate; VECTORS] =
    [Gate { offset_low: 0, selector: 0, stack: 0, kind: 0, offset_middle: 0, offset_high: 0, zero: 0 };
        VECTORS];

/// The 64-bit code segment of both entries.
const CODE: u16 = 0x10;
/// Present, 64-bit interrupt gate: interrupts are off while the handler runs.
const INTERRUPT_GATE: u8 = 0x8e;
/// DPL 3: instructions of ring 3 may use the gate.
const FROM_RING_3: u8 = 3 << 5;

/// What LIDT and LGDT read.
#[repr(C, packed)]
pub struct TablePointer {
    pub limit: u16,
    pub base: u64,
}

/// Has `stub` called for `vector`, and makes the table the processor's.
pub fn handle(vector: usize, stub: extern "C" fn()) {
    install(vector, stub, INTERRUPT_GATE);
}

/// As `handle`, and lets ring 3 call the vector by an instruction.
pub fn handle_from_ring_3(vector: usize, stub: extern "C" fn()) {
    install(vector, stub, INTERRUPT_GATE | FROM_RING_3);
}

fn install(vector: usize, stub: extern "C" fn(), kind: u8) {
    let address = stub as usize as u64;
    let gate = Gate {
        offset_low: address as u16,
        selector: CODE,
        stack: 0,
        kind,
        offset_middle: (address >> 16) as u16,
        offset_high: (address >> 32) as u32,
        zero: 0,
    };
    let idt = addr_of_mut!(IDT);
    let pointer = TablePointer { limit: size_of::<[Gate; VECTORS]>() as u16 - 1, base: idt as u64 };
    // SAFETY: one processor fills the table, and no gate changes while it is in use.
    unsafe {
        (*idt)[vector] = gate;
        asm!("lidt [{}]", in(reg) &pointer);
    }
}
