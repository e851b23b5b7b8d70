//! paging: one address, two frames
//!
//! A virtual address is a name. This guest builds page tables of its own, gives the name 0x40000000 to
//! one frame of memory, then to another, and reads the same address twice. INVLPG in between matters:
//! the processor remembers translations in its TLB and does not notice that the table has changed.
//!
//! ```text
//!   CR3 → PML4[0] → PDPT[0] → PD_LOW[0]: 2 MiB at address 0, where this code lives
//!                   PDPT[1] → PD[0] → PT[0]: the frame of the moment
//! ```
//!
//! expect: 0x40000000 is frame A at 0x*: apples
//! expect: 0x40000000 is frame B at 0x*: oranges
//! expect: frame A still holds apples
#![no_std]
#![no_main]

#[macro_use]
mod rt;

use core::arch::asm;
use core::ptr::{addr_of, addr_of_mut};

/// Bits of an entry (SDM 3A, "4-Level Paging"): present, writable; and in a directory: this is a page of 2 MiB.
const PRESENT_WRITABLE: u64 = 3;
const LARGE: u64 = 1 << 7;

/// A page table.
#[repr(C, align(4096))]
struct Table([u64; 512]);

/// A frame: 4 KiB of memory that a table entry can name.
#[repr(C, align(4096))]
struct Frame([u8; 4096]);

const EMPTY: Table = Table([0; 512]);
#[unsafe(link_section = ".tables")]
static mut PML4: Table = EMPTY;
#[unsafe(link_section = ".tables")]
static mut PDPT: Table = EMPTY;
#[unsafe(link_section = ".tables")]
static mut PD_LOW: Table = EMPTY;
#[unsafe(link_section = ".tables")]
static mut PD: Table = EMPTY;
#[unsafe(link_section = ".tables")]
static mut PT: Table = EMPTY;
#[unsafe(link_section = ".tables")]
static mut A: Frame = Frame([0; 4096]);
#[unsafe(link_section = ".tables")]
static mut B: Frame = Frame([0; 4096]);

/// The first address of the second GiB: PDPT entry 1, all lower indices 0.
const ADDRESS: *const u8 = 0x4000_0000 as *const u8;

/// The text at an address, up to its zero byte.
fn text(address: *const u8) -> &'static str {
    // SAFETY: the callers pass frames that hold short texts of ASCII letters.
    unsafe { core::ffi::CStr::from_ptr(address.cast()).to_str().unwrap_or("not a text") }
}

#[unsafe(no_mangle)]
extern "C" fn main(_: rt::Boot) -> u8 {
    let (a, b) = (addr_of!(A) as u64, addr_of!(B) as u64);
    // SAFETY: the tables keep this code, its stack and its data where they are, below 2 MiB.
    unsafe {
        A.0[..6].copy_from_slice(b"apples");
        B.0[..7].copy_from_slice(b"oranges");
        PML4.0[0] = addr_of!(PDPT) as u64 | PRESENT_WRITABLE;
        PDPT.0[0] = addr_of!(PD_LOW) as u64 | PRESENT_WRITABLE;
        PDPT.0[1] = addr_of!(PD) as u64 | PRESENT_WRITABLE;
        PD_LOW.0[0] = PRESENT_WRITABLE | LARGE;
        PD.0[0] = addr_of!(PT) as u64 | PRESENT_WRITABLE;
        PT.0[0] = a | PRESENT_WRITABLE;
        asm!("mov cr3, {}", in(reg) addr_of!(PML4));
    }
    println!("{ADDRESS:?} is frame A at {a:#x}: {}", text(ADDRESS));
    // SAFETY: the entry names a frame of ours, and nothing borrows from the address.
    unsafe {
        addr_of_mut!(PT.0[0]).write_volatile(b | PRESENT_WRITABLE);
        asm!("invlpg [{}]", in(reg) ADDRESS);
    }
    println!("{ADDRESS:?} is frame B at {b:#x}: {}", text(ADDRESS));
    println!("frame A still holds {}", text(a as *const u8));
    0
}
