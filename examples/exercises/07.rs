//! Exercise 07: an entry of the IDT.
//!
//! An entry of the interrupt descriptor table in long mode, a gate, has 16 bytes (Intel SDM volume 3A, "64-Bit Mode IDT"):
//!
//! ```text
//! bytes 0, 1    bits 15 to 0 of the handler's address
//! bytes 2, 3    the selector of its code segment
//! byte  4       0: the handler runs on the stack that is there
//! byte  5       0x8e: present, an interrupt gate for ring 0
//! bytes 6, 7    bits 31 to 16 of the address
//! bytes 8 to 11 bits 63 to 32 of the address
//! bytes 12 to 15, zero
//! ```
//!
//! Check it with `cargo test --test exercises -- --ignored exercise_07`.

/// The gate that calls `handler` in the code segment `selector`.
pub fn gate(handler: u64, selector: u16) -> [u8; 16] {
    todo!("sixteen bytes for {handler:#x} and {selector:#x}")
}
