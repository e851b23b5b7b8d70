//! fault: a page fault that repairs itself, and a triple fault on request
//!
//! Nothing is mapped at 1.5 GiB. Reading there faults; the handler learns the address from CR2, enters a
//! page into the tables and returns. The processor runs the same instruction again, and now it works.
//! This is how an operating system lends memory it has not bought yet, and how KVM gives a guest its own.
//!
//! With `triple` on the command line the guest then shows what a crash is: an exception without a
//! handler is a double fault, a double fault without a handler a triple fault, and that is a reset.
//!
//! args: triple
//! expect: reading address 0x60000000
//! expect: page fault at 0x60000000: ring 0 read a page that is not present
//! expect: mapped it; going back to the same instruction
//! expect: it read 42
#![no_std]
#![no_main]

#[macro_use]
mod rt;
#[macro_use]
mod trap;

use core::arch::asm;
use core::ptr::{addr_of, addr_of_mut};

/// 1.5 GiB: entry 256 of the page directory for the second GiB.
const ADDRESS: usize = 0x6000_0000;
const PAGE_FAULT: usize = 14;

/// Page-table entry: bit 0 present, bit 1 writable (SDM 3A, "4-Level Paging").
const PRESENT_WRITABLE: u64 = 3;

/// One page, or one page table.
#[repr(C, align(4096))]
struct Page([u64; 512]);

#[unsafe(link_section = ".tables")]
static mut DIRECTORY: Page = Page([0; 512]);
#[unsafe(link_section = ".tables")]
static mut TABLE: Page = Page([0; 512]);
#[unsafe(link_section = ".tables")]
static mut FRAME: Page = Page([0; 512]);

trap!(on_page_fault, error, page_fault);

extern "C" fn page_fault(frame: &mut trap::Frame) {
    let address: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, cr2", out(reg) address) };
    let bit = |n: u32| frame.error >> n & 1 != 0; // SDM 3A, "Page-Fault Exceptions"
    println!(
        "page fault at {address:#x}: ring {} {} a page that is {}",
        if bit(2) { 3 } else { 0 },
        if bit(1) { "wrote to" } else { "read" },
        if bit(0) { "protected" } else { "not present" },
    );
    map();
    println!("mapped it; going back to the same instruction");
}

/// Enters FRAME into the page tables at ADDRESS, and 42 into FRAME.
fn map() {
    // SAFETY: CR3 and the entries name tables below 4 GiB, which are mapped at their own addresses, and
    // those written here belong to nobody yet.
    unsafe {
        let pml4: *const u64;
        asm!("mov {}, cr3", out(reg) pml4);
        let pdpt = (*pml4 & !0xfff) as *mut u64;
        FRAME.0[0] = 42;
        TABLE.0[0] = addr_of!(FRAME) as u64 | PRESENT_WRITABLE;
        DIRECTORY.0[256] = addr_of!(TABLE) as u64 | PRESENT_WRITABLE;
        pdpt.add(1).write_volatile(addr_of_mut!(DIRECTORY) as u64 | PRESENT_WRITABLE);
    }
}

#[unsafe(no_mangle)]
extern "C" fn main(boot: rt::Boot) -> u8 {
    trap::handle(PAGE_FAULT, on_page_fault);
    println!("reading address {ADDRESS:#x}");
    let value: u64;
    // SAFETY: the handler makes the address good.
    unsafe { asm!("mov {}, [{}]", out(reg) value, in(reg) ADDRESS) };
    println!("it read {value}");

    if boot.command_line().split(' ').any(|word| word == "triple") {
        println!("now an exception that nobody handles");
        // SAFETY: none: a table without entries and an undefined instruction end this machine.
        unsafe {
            asm!("lidt [{}]", "ud2", in(reg) &trap::TablePointer { limit: 0, base: 0 }, options(noreturn));
        }
    }
    0
}
