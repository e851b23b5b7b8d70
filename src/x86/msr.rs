//! Model-specific registers that firmware sets before it starts a kernel, and that kernels rely on.
//!
//! Source: Intel SDM volume 4, table 2-2; volume 3A, section 12.11.2.1 "IA32_MTRR_DEF_TYPE MSR".

const IA32_MISC_ENABLE: u32 = 0x1a0;
/// IA32_MISC_ENABLE bit 0. If it is clear, Linux on an Intel processor takes `rep movs` to be slow.
const FAST_STRINGS: u64 = 1 << 0;
/// Bits 11 and 12: no branch trace store, no precise event sampling.
const BTS_UNAVAILABLE: u64 = 1 << 11;
const PEBS_UNAVAILABLE: u64 = 1 << 12;

const IA32_MTRR_DEF_TYPE: u32 = 0x2ff;
/// Bits 0 to 7: memory that no range register covers is cached, write-back.
const WRITE_BACK: u64 = 6;
/// Bit 11: the memory type range registers are used. If they are not, Linux does not use page attributes either.
const MTRR_ENABLE: u64 = 1 << 11;

/// Registers and what they hold when the kernel starts.
pub const AT_BOOT: [(u32, u64); 2] = [
    (IA32_MISC_ENABLE, FAST_STRINGS | BTS_UNAVAILABLE | PEBS_UNAVAILABLE),
    (IA32_MTRR_DEF_TYPE, MTRR_ENABLE | WRITE_BACK),
];
