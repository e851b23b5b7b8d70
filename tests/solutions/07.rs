//! A solution of exercise 07, an entry of the IDT: look after you have tried.

/// The gate that calls `handler` in the code segment `selector`.
pub fn gate(handler: u64, selector: u16) -> [u8; 16] {
    let mut gate = [0; 16];
    gate[0..2].copy_from_slice(&(handler as u16).to_le_bytes());
    gate[2..4].copy_from_slice(&selector.to_le_bytes());
    gate[5] = 0x8e;
    gate[6..8].copy_from_slice(&((handler >> 16) as u16).to_le_bytes());
    gate[8..12].copy_from_slice(&((handler >> 32) as u32).to_le_bytes());
    gate
}
