//! Flat images: machine code without any header, copied to a fixed address and entered there.
//!
//! Two of them: `flat16` is what a PC's BIOS does with a boot sector (except that the whole image is
//! loaded, not its first 512 bytes), `flat64` is the least that long mode takes. Neither tells the
//! guest anything: a command line or an initrd is refused rather than dropped.

use super::placer::Placer;
use super::{Payload, long_mode, stack};
use crate::error::ImageError;
use crate::x86::layout::{BOOT_SECTOR, HIGH_MEMORY};
use crate::x86::{Entry, Mode};

/// Places a real-mode image where a BIOS puts a boot sector; the stack grows down from there.
pub(super) fn load16(payload: &Payload, placer: &mut Placer) -> Result<Entry, ImageError> {
    nothing_else("flat16", payload)?;
    placer.write("the image", BOOT_SECTOR, payload.image)?;
    Ok(Entry { rsp: BOOT_SECTOR, ..Entry::at(Mode::Real, BOOT_SECTOR) })
}

/// Places 64-bit code at 1 MiB.
pub(super) fn load64(payload: &Payload, placer: &mut Placer) -> Result<Entry, ImageError> {
    nothing_else("flat64", payload)?;
    let mode = long_mode(payload, placer)?;
    let rsp = stack(placer)?;
    placer.write("the image", HIGH_MEMORY, payload.image)?;
    Ok(Entry { rsp, ..Entry::at(mode, HIGH_MEMORY) })
}

fn nothing_else(protocol: &'static str, payload: &Payload) -> Result<(), ImageError> {
    if !payload.cmdline.is_empty() {
        return Err(ImageError::Unpassable { protocol, what: "a command line" });
    }
    if payload.initrd.is_some() {
        return Err(ImageError::Unpassable { protocol, what: "an initrd" });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::images::{guest, read};
    use super::super::{Protocol, load};
    use super::*;
    use crate::elf::images::CODE;
    use crate::x86::layout::LOW_MEMORY_END;

    #[test]
    fn a_boot_sector_runs_in_real_mode_with_its_stack_below_it() {
        let memory = guest(0x1_0000);
        let payload = Payload { image: CODE, ..Payload::default() };
        let entry = load(Some(Protocol::Flat16), &payload, &memory).unwrap();
        assert_eq!(entry, Entry { rsp: 0x7c00, ..Entry::at(Mode::Real, 0x7c00) });
        assert_eq!(read(&memory, 0x7c00, CODE.len()), CODE);
    }

    #[test]
    fn a_real_mode_image_ends_below_the_bios_data() {
        let room = (LOW_MEMORY_END - BOOT_SECTOR) as usize;
        for (size, fits) in [(room, true), (room + 1, false)] {
            let payload = Payload { image: &vec![1; size], ..Payload::default() };
            let result = load(Some(Protocol::Flat16), &payload, &guest(2 << 20));
            assert_eq!(result.is_ok(), fits, "{size:#x}: {result:?}");
        }
    }

    #[test]
    fn flat64_is_entered_in_long_mode_at_1_mib() {
        let memory = guest(2 << 20);
        let payload = Payload { image: CODE, ..Payload::default() };
        let entry = load(Some(Protocol::Flat64), &payload, &memory).unwrap();
        assert_eq!((entry.rip, entry.rsp, entry.rsi), (0x10_0000, 0x1_0000, 0));
        assert!(matches!(entry.mode, Mode::Long { cr3: 0x9000, gdt: (0x7f00, 47) }));
        assert_eq!(read(&memory, HIGH_MEMORY, CODE.len()), CODE);
    }

    #[test]
    fn what_a_flat_image_cannot_be_told_is_refused() {
        for protocol in [Protocol::Flat16, Protocol::Flat64] {
            let told = [
                Payload { image: CODE, cmdline: b"quiet", initrd: None, ..Payload::default() },
                Payload { image: CODE, cmdline: b"", initrd: Some(b""), ..Payload::default() },
            ];
            for payload in told {
                let result = load(Some(protocol), &payload, &guest(2 << 20));
                assert!(matches!(result, Err(ImageError::Unpassable { .. })), "{result:?}");
            }
        }
    }
}
