//! What a Multiboot loader tells the kernel: memory, command line, module, its own name.
//!
//! One block of bytes: the structure that EBX points to, and right behind it what it points to.
//! Source: Multiboot Specification 0.6.96, section 3.3 "Boot information format", whose field names
//! are kept.

use crate::x86::layout::{BOOT_INFO, HIGH_MEMORY, LOW_MEMORY_END, MMIO_START, memory_map};

/// Information flags: which fields of the boot information are valid.
const INFO_MEMORY: u32 = 1 << 0;
const INFO_CMDLINE: u32 = 1 << 2;
const INFO_MODS: u32 = 1 << 3;
const INFO_MMAP: u32 = 1 << 6;
const INFO_BOOT_LOADER_NAME: u32 = 1 << 9;
/// Bytes of the boot information up to `vbe_interface_len`; of a module; of a memory map entry.
const INFO_SIZE: u32 = 88;
const MODULE_SIZE: u32 = 16;
const MMAP_SIZE: u32 = 24;
/// Types of memory map entries.
const MMAP_RAM: u32 = 1;
const MMAP_RESERVED: u32 = 2;
/// Where what follows the information begins.
const INFO_END: u32 = BOOT_INFO as u32 + INFO_SIZE;
const BOOT_LOADER_NAME: &[u8] = b"matchstick\0";

/// The bytes to put at [`BOOT_INFO`] for a guest with `memory` bytes. `cmdline` is the address of the
/// command line or 0, `module` the first byte of the module and the one after its last.
pub(super) fn boot_information(memory: u64, cmdline: u32, module: Option<[u32; 2]>) -> Vec<u8> {
    let map = memory_map(memory);
    let mods_count = module.iter().len() as u32;
    let mods_addr = INFO_END;
    let mmap_addr = mods_addr.saturating_add(MODULE_SIZE.saturating_mul(mods_count));
    let mmap_length = MMAP_SIZE.saturating_mul(map.len() as u32);
    let boot_loader_name = mmap_addr.saturating_add(mmap_length);

    let kib = |bytes: u64| (bytes >> 10) as u32;
    let mem_lower = kib(memory.min(LOW_MEMORY_END));
    let mem_upper = kib(memory.min(MMIO_START).saturating_sub(HIGH_MEMORY));
    let mut flags = INFO_MEMORY | INFO_MMAP | INFO_BOOT_LOADER_NAME;
    flags |= if cmdline == 0 { 0 } else { INFO_CMDLINE };
    flags |= if mods_count == 0 { 0 } else { INFO_MODS };

    let (boot_device, syms, drives, config_table, apm_table, vbe) = (0, [0; 4], [0; 2], 0, 0, [0; 4]);
    let mut words = vec![flags, mem_lower, mem_upper, boot_device, cmdline, mods_count, mods_addr];
    words.extend(syms);
    words.extend([mmap_length, mmap_addr]);
    words.extend(drives);
    words.extend([config_table, boot_loader_name, apm_table]);
    words.extend(vbe);
    if let Some([mod_start, mod_end]) = module {
        let (string, reserved) = (0, 0);
        words.extend([mod_start, mod_end, string, reserved]);
    }
    for range in map {
        // `size` does not count itself.
        let (size, kind) = (MMAP_SIZE - 4, if range.usable { MMAP_RAM } else { MMAP_RESERVED });
        let halves = |wide: u64| [wide as u32, (wide >> 32) as u32];
        words.push(size);
        words.extend(halves(range.start));
        words.extend(halves(range.len));
        words.push(kind);
    }
    let mut bytes: Vec<u8> = words.into_iter().flat_map(u32::to_le_bytes).collect();
    bytes.extend(BOOT_LOADER_NAME);
    bytes
}
