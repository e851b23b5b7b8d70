//! Linux bzImage: a real-mode part with the setup header, then the compressed protected-mode kernel.
//!
//! Only its headers and its place in memory; how it is entered is [`super::linux`]'s business. The real-mode
//! part is not run: with the 64-bit entry everything it would ask the BIOS is in the zero page.
//! Source: Linux, Documentation/arch/x86/boot.rst; fields are named as there.

use super::fields::Fields;
use super::placer::Placer;
use super::{BOOT_SIGNATURE, SETUP_MAGIC};
use crate::error::ImageError;

/// Where the setup header begins, in the file and in the zero page.
pub const SETUP_HEADER: usize = 0x1f1;
/// Where the 64-bit entry lies in the protected-mode kernel (boot.rst, "64-bit Boot Protocol").
pub const ENTRY_64: u64 = 0x200;

/// The oldest protocol with `xloadflags`, from Linux 3.8.
const VERSION_WITH_64_BIT_ENTRY: u16 = 0x020c;
/// `loadflags`: the protected-mode kernel goes to 1 MiB or above.
const LOADED_HIGH: u8 = 1 << 0;
/// `xloadflags`: there is a 64-bit entry.
const XLF_KERNEL_64: u16 = 1 << 0;
/// `setup_sects` of a kernel that leaves it at 0.
const DEFAULT_SETUP_SECTS: u8 = 4;
const SECTOR: usize = 512;

/// The headers of a bzImage.
pub struct BzImage<'a> {
    /// The setup header, as long as it says it is.
    pub setup_header: &'a [u8],
    /// The protected-mode kernel.
    kernel: &'a [u8],
    /// The longest command line it takes, in bytes without the terminating zero.
    pub cmdline_size: u32,
    /// The highest address of the initrd's last byte.
    pub initrd_addr_max: u32,
    /// Where it wants to run.
    pref_address: u64,
    /// Bytes it needs from its load address on, to unpack itself.
    init_size: u32,
}

impl<'a> BzImage<'a> {
    /// Reads the setup header.
    ///
    /// # Errors
    /// [`ImageError::Not`] without the magic numbers, [`ImageError::Unsupported`] for a kernel that cannot be
    /// entered in 64-bit mode, [`ImageError::Truncated`] and [`ImageError::Damaged`].
    pub fn parse(image: &'a [u8]) -> Result<BzImage<'a>, ImageError> {
        let has = |(offset, mark): (usize, &[u8])| image.get(offset..).is_some_and(|at| at.starts_with(mark));
        if !has(BOOT_SIGNATURE) || !has(SETUP_MAGIC) {
            return Err(ImageError::Not { protocol: "linux", why: "it has no setup header (HdrS at 0x202)" });
        }
        let cut = |what, end: usize| ImageError::Truncated { what, end: end as u64, len: image.len() as u64 };
        let header = Header::parse(image).ok_or(cut("the setup header", 0x264))?;
        let unsupported =
            |advice| Err(ImageError::Unsupported { kind: "a 32-bit or very old Linux", advice });
        if header.version < VERSION_WITH_64_BIT_ENTRY || header.xloadflags & XLF_KERNEL_64 == 0 {
            return unsupported("only kernels with a 64-bit entry are booted (protocol 2.12, Linux 3.8)");
        }
        if header.loadflags & LOADED_HIGH == 0 {
            return unsupported("only kernels that load at 1 MiB or above are booted");
        }
        let end = header.end;
        let setup_header = image.get(SETUP_HEADER..end).ok_or(cut("the setup header", end))?;
        let sectors = if header.setup_sects == 0 { DEFAULT_SETUP_SECTS } else { header.setup_sects };
        let start = (usize::from(sectors) + 1) * SECTOR;
        // `syssize` counts 16-byte units; what follows may be padding or a signature.
        let end = start.saturating_add(header.syssize as usize * 16);
        let kernel = image.get(start..).filter(|kernel| kernel.len() as u64 > ENTRY_64);
        let kernel = kernel.ok_or(cut("the protected-mode kernel", end))?;
        if kernel.len() + 16 <= header.syssize as usize * 16 {
            return Err(cut("the protected-mode kernel", end));
        }
        Ok(BzImage {
            setup_header,
            kernel,
            cmdline_size: header.cmdline_size,
            initrd_addr_max: header.initrd_addr_max,
            pref_address: header.pref_address,
            init_size: header.init_size,
        })
    }

    /// Places the protected-mode kernel where it prefers to be, and returns that address.
    ///
    /// A relocatable kernel may be loaded elsewhere, but not to use less memory: from a lower address it moves
    /// itself up to the preferred one before it unpacks.
    ///
    /// # Errors
    /// What the [`Placer`] refuses.
    pub fn load(&self, placer: &mut Placer) -> Result<u64, ImageError> {
        let size = u64::from(self.init_size).max(self.kernel.len() as u64);
        placer.write_padded("the kernel", self.pref_address, self.kernel, size)?;
        Ok(self.pref_address)
    }
}

/// The fields of the setup header that are needed here.
struct Header {
    setup_sects: u8,
    syssize: u32,
    end: usize,
    version: u16,
    loadflags: u8,
    initrd_addr_max: u32,
    xloadflags: u16,
    cmdline_size: u32,
    pref_address: u64,
    init_size: u32,
}

impl Header {
    fn parse(image: &[u8]) -> Option<Header> {
        let byte = |at: usize| image.get(at).copied();
        let at = |at| Fields::at(image, at);
        Some(Header {
            setup_sects: byte(0x1f1)?,
            syssize: at(0x1f4)?.u32()?,
            // The jump at 0x200 leads over the header: its second byte is the distance.
            end: 0x202 + usize::from(byte(0x201)?),
            version: at(0x206)?.u16()?,
            loadflags: byte(0x211)?,
            initrd_addr_max: at(0x22c)?.u32()?,
            xloadflags: at(0x236)?.u16()?,
            cmdline_size: at(0x238)?.u32()?,
            pref_address: at(0x258)?.u64()?,
            init_size: at(0x260)?.u32()?,
        })
    }
}
