//! long: a boot sector that climbs through protected mode to 64-bit long mode
//!
//! Long mode exists only with paging, and only with tables of 8-byte entries. So the tables come first:
//! three entries are enough to give the first 2 MiB the addresses they had (SDM 3A, "4-Level Paging").
//! Then, in the order the manual asks for ("Initializing IA-32e Mode"): PAE, the root of the tables, the
//! wish for long mode, paging. What the processor runs after that is still 32-bit code, until a far jump
//! loads a segment with the L bit.
//!
//! expect: long mode: 64 bits, paging
//! needs: cpuid
#![no_std]
#![no_main]

core::arch::global_asm!(
    r#"
.section .boot, "awx"
.code16
    cli                                 // real mode's interrupt vectors will mean nothing in a moment
    xor ax, ax
    mov ds, ax
    lgdt [gdt_pointer]
    mov eax, cr0
    or al, 1                            // CR0.PE: protection enable (SDM 3A, "Control Registers")
    mov cr0, eax
    ljmp 8, offset protected                   // selector 8: 32-bit code

.code32
protected:
    mov eax, 16                         // selector 16: data
    mov ds, eax
    mov es, eax
    cld
    mov edi, 0x1000                     // three tables of 4 KiB: 0x1000, 0x2000, 0x3000,
    xor eax, eax
    mov ecx, 3 * 1024
    rep stosd                           // with nothing in them yet
// In an entry, bit 0 is present and bit 1 writable; bit 7 ends the walk early with a large page.
    mov dword ptr [0x1000], 0x2003      // PML4[0]: 512 GiB, see the PDPT
    mov dword ptr [0x2000], 0x3003      // PDPT[0]: 1 GiB, see the page directory
    mov dword ptr [0x3000], 0x83        // PD[0]: 2 MiB that begin at address 0
    mov eax, cr4
    or al, 1 << 5                       // CR4.PAE: entries of 8 bytes
    mov cr4, eax
    mov eax, 0x1000
    mov cr3, eax                        // the walk begins here
    mov ecx, 0xc0000080                 // the register EFER (SDM 3A, "Extended Feature Enable Register")
    rdmsr
    or ah, 1                            // EFER.LME, bit 8: long mode enable
    wrmsr
    mov eax, cr0
    or eax, 1 << 31                     // CR0.PG: paging
    mov cr0, eax                        // long mode is active, in its 32-bit disguise
    ljmp 24, offset long                       // selector 24: 64-bit code

.code64
long:
    mov rsi, offset message
    mov ecx, offset message_length
    mov edx, 0x3f8                      // COM1
    rep outsb
    mov edx, 0xf4                       // the port that ends the machine
    xor eax, eax                        // with status 0
    out dx, al
halt: hlt
    jmp halt

// A descriptor, from its low end (SDM 3A, "Segment Descriptors"): limit 15:0, base 23:0, type, flags and limit
// 19:16, base 31:24. In 64-bit code base and limit do not count any more.
.balign 8
gdt:
    .quad 0                             // 0: a selector of zero must fault
    .word 0xffff, 0                     // 8
    .byte 0, 0x9b, 0xcf, 0              //    present, ring 0, code, readable; G, D: 32 bits
    .word 0xffff, 0                     // 16
    .byte 0, 0x93, 0xcf, 0              //    present, ring 0, data, writable; G, D
    .word 0xffff, 0                     // 24
    .byte 0, 0x9b, 0xaf, 0              //    present, ring 0, code, readable; G, L: 64 bits
gdt_pointer: .word gdt_pointer - gdt - 1
    .long gdt
message: .ascii "long mode: 64 bits, paging\n"
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
