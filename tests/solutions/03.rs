//! A solution of exercise 03, walk the page tables: look after you have tried.

use matchstick::kvm::Memory;
use matchstick::{Bytes, GuestAddress};

/// The physical address of `linear`, with `cr3` naming the first table; `None` where nothing is mapped.
pub fn translate(memory: &Memory, cr3: u64, linear: u64) -> Option<u64> {
    const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
    let mut table = cr3 & ADDRESS;
    for shift in [39, 30, 21, 12] {
        let index = linear >> shift & 511;
        let entry = u64::from_le(memory.read_obj(GuestAddress(table + index * 8)).ok()?);
        if entry & 1 == 0 {
            return None;
        }
        let is_large = matches!(shift, 30 | 21) && entry & 1 << 7 != 0;
        if shift == 12 || is_large {
            let offset = (1 << shift) - 1;
            return Some(entry & ADDRESS & !offset | linear & offset);
        }
        table = entry & ADDRESS;
    }
    None
}
