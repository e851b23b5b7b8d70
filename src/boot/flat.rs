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

/// Places a real-mode image at 0x7c00; the stack grows down from there.
pub(super) fn load16(payload: &Payload, placer: &mut Placer) -> Result<Entry, ImageError> {
    nothing_else("flat16", payload)?;
    placer.write("the image", BOOT_SECTOR, payload.image)?;
    Ok(Entry { rsp: BOOT_SECTOR, ..Entry::at(Mode::Real, BOOT_SECTOR) })
}

/// Places 64-bit code at 1 MiB.
pub(super) fn load64(payload: &Payload, placer: &mut Placer) -> Result<Entry, ImageError> {
    nothing_else("flat64", payload)?;
    let mode = long_mode(placer)?;
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
