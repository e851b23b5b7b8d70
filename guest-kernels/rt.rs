//! What every ELF guest shares: two entries, a serial port to speak and a port to leave.
//!
//! A guest is a function `main(boot: Boot) -> u8`; what it returns is the exit status of the machine.
//! The same file starts in two ways. A VMM that follows the Linux 64-bit protocol jumps to `start`, and
//! everything is prepared: long mode, low memory and the APICs mapped at their own addresses. A VMM
//! that follows PVH (QEMU's `-kernel`) finds the address of `start_pvh` in an ELF note and enters there
//! in 32-bit protected mode without paging, so that road is longer. Both meet in `main`.
#![allow(dead_code)] // no guest needs everything here

#[path = "mem.rs"]
mod mem;

use core::arch::{asm, global_asm};
use core::fmt::{self, Write};

global_asm!(
    r#"
.section .text.start, "ax"
.global start
start:
    mov esp, offset stack_top
    lea rdi, [rsi + 0x228]              // boot_params.hdr.cmd_line_ptr: where the command line's address is
run:
    call main
leave:
    mov edx, {exit_port}
    out dx, al
    mov al, 0xfe                        // still here: nobody listens there; pulse the reset line
    out {reset_port}, al
    cli
    hlt
"#,
    exit_port = const EXIT,
    reset_port = const RESET,
);

// The PVH road. Protected mode, paging off, EBX = hvm_start_info. Long mode needs page tables before it
// can be switched on, so: four tables, PAE, EFER.LME, paging, and a far jump into 64-bit code.
// (PVH: xen/include/public/arch-x86/hvm/start_info.h; the steps: Intel SDM 3A, "Initializing IA-32e Mode".)
global_asm!(
    r#"
.section .pvh, "awx"
.code32
start_pvh:
    mov esp, offset stack_top
    lea edi, [ebx + 24]                 // hvm_start_info.cmdline_paddr
    mov dword ptr [pml4], offset pdpt + 3 // 3: present, writable
    mov dword ptr [pdpt], offset pd_memory + 3 // the first GiB
    mov dword ptr [pdpt + 3 * 8], offset pd_devices + 3 // the fourth
    mov dword ptr [pd_devices + 502 * 8], 0xfec00093 // IOAPIC, 2 MiB: present, writable, uncached
    mov dword ptr [pd_devices + 503 * 8], 0xfee00093 // local APIC
    xor ecx, ecx
2:  mov eax, ecx                        // the first 32 MiB of memory, 2 MiB an entry
    shl eax, 21
    or eax, 0x83                        // present, writable, large
    mov [pd_memory + ecx * 8], eax
    inc ecx
    cmp ecx, 16
    jb 2b
    mov eax, offset pml4
    mov cr3, eax
    mov eax, cr4
    or eax, 1 << 5                      // CR4.PAE
    mov cr4, eax
    mov ecx, 0xc0000080                 // EFER
    rdmsr
    or eax, 1 << 8                      // EFER.LME
    wrmsr
    mov eax, cr0
    or eax, 1 << 31                     // CR0.PG: with it, long mode becomes active
    mov cr0, eax
    lgdt [gdt_pointer]
    mov eax, 0x18
    mov ss, eax                         // IRETQ will want a stack segment that exists
    ljmp 0x10, offset long_mode         // loads CS with a segment whose L bit says 64 bits
.code64
long_mode: jmp run
.balign 8
gdt: .quad 0, 0                         // the selectors are those of the 64-bit entry: 0x10 and 0x18
    .quad 0x00af9b000000ffff            // 0x10: code, L, present
    .quad 0x00cf93000000ffff            // 0x18: data, present, writable
gdt_pointer: .word 4 * 8 - 1
    .long gdt
.section .tables, "aw", @nobits
.balign 4096
pml4: .skip 4096
pdpt: .skip 4096
pd_memory: .skip 4096
pd_devices: .skip 4096
.section .note.Xen, "a", @note
.balign 4
    .long 4, 8, 18                      // sizes of name and value; XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .quad start_pvh
"#,
);

/// First port of the serial line COM1.
pub const SERIAL: u16 = 0x3f8;
/// The byte written here ends the machine and is its status.
const EXIT: u16 = 0xf4;
/// The keyboard controller, whose command 0xfe resets a PC.
const RESET: u16 = 0x64;

/// What the boot protocol handed over: the place that holds the command line's address.
#[repr(transparent)]
pub struct Boot(*const u32);

impl Boot {
    /// The command line, up to its zero byte.
    pub fn command_line(&self) -> &'static str {
        // SAFETY: both protocols point to a string of bytes that ends in zero, below 4 GiB, or to nothing.
        unsafe {
            match *self.0 {
                0 => "",
                line => core::ffi::CStr::from_ptr(line as *const _).to_str().unwrap_or(""),
            }
        }
    }
}

/// Ends the machine.
pub fn exit(status: u8) -> ! {
    // SAFETY: the code at `leave` needs nothing but AL and does not come back.
    unsafe { asm!("jmp leave", in("al") status, options(noreturn)) }
}

/// Sends bytes down the serial line with one instruction: to a VMM, one exit instead of one a byte.
///
/// There is no wait for an empty transmitter between the bytes: a virtual one is always empty.
pub fn print(bytes: &[u8]) {
    // SAFETY: reads `bytes` and writes a port.
    unsafe {
        asm!("rep outsb", inout("rcx") bytes.len() => _, inout("rsi") bytes.as_ptr() => _, in("dx") SERIAL)
    }
}

/// Writes a byte to a port.
pub fn out(port: u16, value: u8) {
    // SAFETY: ports are devices, not memory.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack)) }
}

/// Reads a byte from a port.
pub fn inp(port: u16) -> u8 {
    let value;
    // SAFETY: as `out`.
    unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack)) }
    value
}

/// Lets interrupts in and sleeps until one has been served.
pub fn sleep() {
    // SAFETY: STI takes effect one instruction late, so no interrupt slips in between and is slept over.
    unsafe { asm!("sti", "hlt", "cli") }
}

/// `println!` of the standard library, one `rep outsb` a line.
macro_rules! println {
    ($($arg:tt)*) => { $crate::rt::print_line(format_args!($($arg)*)) };
}

/// A line being put together.
struct Line {
    bytes: [u8; 128],
    len: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for &byte in text.as_bytes() {
            // Full: send what there is and go on.
            if self.len == self.bytes.len() {
                print(&self.bytes);
                self.len = 0;
            }
            self.bytes[self.len] = byte;
            self.len += 1;
        }
        Ok(())
    }
}

/// Formats a line and sends it.
pub fn print_line(text: fmt::Arguments) {
    let mut line = Line { bytes: [0; 128], len: 0 };
    let _ = line.write_fmt(text);
    let _ = line.write_str("\n");
    print(&line.bytes[..line.len]);
}

/// The status of a guest that panicked, as Rust programs have it.
const PANICKED: u8 = 101;

#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    match info.location() {
        Some(place) => println!("panic: {} at {}:{}", info.message(), place.file(), place.line()),
        None => println!("panic: {}", info.message()),
    }
    exit(PANICKED)
}
