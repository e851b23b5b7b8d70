//! real: a boot sector in 16-bit real mode
//!
//! Every x86 processor since 1978 wakes up like this: 16-bit registers, one MiB of memory in reach, no
//! protection of anything from anything. A BIOS loads the first 512 bytes of a disk to 0x7c00, checks
//! the two bytes at their end and jumps. So does the VMM, without the BIOS.
//!
//! expect: real mode: 16 bits, no protection
#![no_std]
#![no_main]

core::arch::global_asm!(
    r#"
.section .boot, "awx"
.code16
    xor ax, ax
    mov ds, ax                          // address = segment * 16 + offset (SDM 3A, "8086 Emulation")
    mov si, offset message              // DS:SI is where OUTS reads
    mov cx, offset message_length       // and CX how often
    mov dx, 0x3f8                       // the serial port COM1
    cld                                 // SI counts upwards
    rep outsb                           // the whole line
    mov dx, 0xf4                        // the port that ends the machine
    xor al, al                          // with status 0
    out dx, al
halt: cli                               // on a machine without that port: sleep for ever
    hlt
    jmp halt
message: .ascii "real mode: 16 bits, no protection\n"
message_length = . - message
.org 510
    .word 0xaa55                        // bytes 55 aa: bootable
"#,
);

// Nothing here can panic; the compiler asks all the same.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}
