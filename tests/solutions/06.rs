//! A solution of exercise 06, find a Multiboot header: look after you have tried.

/// Where the header of `image` begins. It may be in nobody's way but inside those 8192 bytes, all twelve bytes of it.
pub fn multiboot(image: &[u8]) -> Option<usize> {
    let searched = &image[..image.len().min(8192)];
    (0..searched.len()).step_by(4).find(|&at| {
        let number = |n: usize| {
            let bytes = searched.get(at + 4 * n..at + 4 * n + 4)?;
            Some(u32::from_le_bytes(bytes.try_into().ok()?))
        };
        let [Some(magic), Some(flags), Some(checksum)] = [0, 1, 2].map(number) else { return false };
        magic == 0x1bad_b002 && magic.wrapping_add(flags).wrapping_add(checksum) == 0
    })
}
