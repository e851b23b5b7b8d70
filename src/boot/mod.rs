//! Boot protocols: from the bytes of an image to guest memory and an [`Entry`].
//!
//! A loader never touches a vCPU: what it promises about registers is the value it returns.

use crate::error::ImageError;
use crate::x86::Entry;

/// How an image wants to be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// A 16-bit boot sector at 0x7c00.
    Flat16,
    /// 64-bit code at 1 MiB, without any header.
    Flat64,
    /// ELF64, entered in long mode with the registers of the Linux 64-bit boot protocol.
    Elf,
    /// Multiboot 0.6.96.
    Multiboot,
    /// PVH, the x86/HVM direct boot ABI.
    Pvh,
}

/// What is to be started.
#[derive(Debug, Clone, Copy, Default)]
pub struct Payload<'a> {
    /// The image.
    pub image: &'a [u8],
    /// The command line, without a terminating zero.
    pub cmdline: &'a [u8],
    /// A module or initial RAM disk.
    pub initrd: Option<&'a [u8]>,
}
/// TEMP
pub fn load(
    _p: Option<Protocol>,
    payload: &Payload<'_>,
    memory: &crate::kvm::Memory,
) -> std::result::Result<Entry, ImageError> {
    use vm_memory::{Bytes, GuestAddress};
    memory.write_slice(payload.image, GuestAddress(0x7c00)).unwrap();
    Ok(Entry::at(crate::x86::Mode::Real, 0x7c00))
}
impl std::str::FromStr for Protocol {
    type Err = ();
    fn from_str(_: &str) -> std::result::Result<Protocol, ()> {
        Err(())
    }
}
