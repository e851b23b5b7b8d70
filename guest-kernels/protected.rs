//! protected: a boot sector that climbs to 32-bit protected mode
//!
//! Since the 286 a segment register no longer holds an address divided by 16 but a selector: the byte
//! offset of a descriptor in a table, the GDT. Since the 386 a descriptor can cover all 4 GiB, so two of
//! them, code and data, make segments disappear from view. Then one bit switches protection on.
//!
//! expect: protected mode: 32 bits, flat segments
#![no_std]
#![no_main]

core::arch::global_asm!(
    r#"
.section .boot, "awx"
.code16
    cli                                 // real mode's interrupt vectors will mean nothing in a moment
    xor ax, ax
    mov ds, ax                          // LGDT reads through DS
    lgdt [gdt_pointer]                  // where the descriptors are
    mov eax, cr0
    or al, 1                            // CR0.PE: protection enable (SDM 3A, "Control Registers")
    mov cr0, eax                        // on; but CS still holds what real mode left there,
    ljmp 8, offset protected                   // and only a far jump loads it: selector 8

.code32                                 // descriptor 8 says 32 bits: the same bytes now mean other instructions
protected:
    mov eax, 16                         // selector 16: data
    mov ds, eax                         // where OUTS reads
    mov esi, offset message
    mov ecx, offset message_length
    mov edx, 0x3f8                      // COM1
    cld
    rep outsb
    mov edx, 0xf4                       // the port that ends the machine
    xor eax, eax                        // with status 0
    out dx, al
halt: hlt
    jmp halt

// A descriptor, from its low end (SDM 3A, "Segment Descriptors"): limit 15:0, base 23:0, type, flags and limit
// 19:16, base 31:24. G counts the limit in pages, so 0xfffff is 4 GiB; D says 32 bits.
.balign 8
gdt:
    .quad 0                             // 0: a selector of zero must fault
    .word 0xffff, 0                     // 8: limit, base
    .byte 0, 0x9b, 0xcf, 0              //    present, ring 0, code, readable; G, D
    .word 0xffff, 0                     // 16: limit, base
    .byte 0, 0x93, 0xcf, 0              //    present, ring 0, data, writable; G, D
gdt_pointer: .word gdt_pointer - gdt - 1 // its last byte
    .long gdt                           // its first
message: .ascii "protected mode: 32 bits, flat segments\n"
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
