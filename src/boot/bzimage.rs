//! Linux bzImage: a real-mode part with the setup header, then the compressed protected-mode kernel.
//!
//! Only its headers and its place in memory; how it is entered is [`super::linux`]'s business. The real-mode
//! part is not run: with the 64-bit entry everything it would ask the BIOS is in the zero page.
//! Source: Linux, Documentation/arch/x86/boot.rst; fields are named as there.

use super::placer::Placer;
use super::{BOOT_SIGNATURE, SETUP_MAGIC};
use crate::error::ImageError;
use crate::fields::Fields;

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
/// The setup header begins with a short jump over itself.
const JUMP: u8 = 0xeb;
/// Where the header of that protocol ends: behind `init_size`.
const END: usize = 0x264;
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
    /// entered in 64-bit mode, [`ImageError::Truncated`] and [`ImageError::Damaged`] for a header that is cut or
    /// does not hold together.
    pub fn parse(image: &'a [u8]) -> Result<BzImage<'a>, ImageError> {
        let has = |(offset, mark): (usize, &[u8])| image.get(offset..).is_some_and(|at| at.starts_with(mark));
        if !has(BOOT_SIGNATURE) || !has(SETUP_MAGIC) {
            return Err(ImageError::Not { protocol: "linux", why: "it has no setup header (HdrS at 0x202)" });
        }
        let cut = |what, end: usize| ImageError::Truncated { what, end: end as u64, len: image.len() as u64 };
        let header = Header::parse(image).ok_or(cut("the setup header", END))?;
        let unsupported =
            |advice| Err(ImageError::Unsupported { kind: "a 32-bit or very old Linux", advice });
        if header.version < VERSION_WITH_64_BIT_ENTRY || header.xloadflags & XLF_KERNEL_64 == 0 {
            return unsupported("only kernels with a 64-bit entry are booted (protocol 2.12, Linux 3.8)");
        }
        if header.loadflags & LOADED_HIGH == 0 {
            return unsupported("only kernels that load at 1 MiB or above are booted");
        }
        header.check().map_err(|why| ImageError::Damaged { what: "the setup header", why })?;
        let end = header.end;
        let setup_header = image.get(SETUP_HEADER..end).ok_or(cut("the setup header", end))?;
        let sectors = if header.setup_sects == 0 { DEFAULT_SETUP_SECTS } else { header.setup_sects };
        let start = usize::from(sectors).saturating_add(1).saturating_mul(SECTOR);
        // `syssize` counts 16-byte paragraphs, rounded up; a signature may follow.
        let size = (header.syssize as usize).saturating_mul(16);
        let end = start.saturating_add(size);
        let kernel = image.get(start..).filter(|kernel| kernel.len() as u64 > ENTRY_64);
        let kernel = kernel.ok_or(cut("the protected-mode kernel", end))?;
        if kernel.len().saturating_add(16) <= size {
            return Err(cut("the protected-mode kernel", end));
        }
        let payload_end = u64::from(header.payload_offset).saturating_add(header.payload_length.into());
        if payload_end > kernel.len() as u64 {
            return Err(cut("the compressed kernel", start.saturating_add(payload_end as usize)));
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

    /// Whether `image`, which has no magic number, is a bzImage all the same: all else that can be told of one is there. It
    /// ends like a boot sector, and would be run as one.
    pub fn has_lost_its_mark(image: &[u8]) -> bool {
        let is_one = |header: Header| {
            let setup = usize::from(header.setup_sects).saturating_add(1).saturating_mul(SECTOR);
            header.jump == JUMP
                && (END..=setup).contains(&header.end)
                && header.version >> 8 == VERSION_WITH_64_BIT_ENTRY >> 8
                && setup < image.len()
        };
        Header::parse(image).is_some_and(is_one)
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
    jump: u8,
    end: usize,
    version: u16,
    loadflags: u8,
    initrd_addr_max: u32,
    kernel_alignment: u32,
    xloadflags: u16,
    cmdline_size: u32,
    payload_offset: u32,
    payload_length: u32,
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
            jump: byte(0x200)?,
            // The jump leads over the header: its second byte is the distance.
            end: 0x202 + usize::from(byte(0x201)?),
            version: at(0x206)?.u16()?,
            loadflags: byte(0x211)?,
            initrd_addr_max: at(0x22c)?.u32()?,
            kernel_alignment: at(0x230)?.u32()?,
            xloadflags: at(0x236)?.u16()?,
            cmdline_size: at(0x238)?.u32()?,
            payload_offset: at(0x248)?.u32()?,
            payload_length: at(0x24c)?.u32()?,
            pref_address: at(0x258)?.u64()?,
            init_size: at(0x260)?.u32()?,
        })
    }

    /// What must hold of a header since protocol 2.12, and else is wrong with it.
    fn check(&self) -> Result<(), &'static str> {
        let align = u64::from(self.kernel_alignment);
        let wrong = [
            (self.jump != JUMP, "it does not begin with a jump"),
            (self.end < END, "it is too short for its version"),
            (!align.is_power_of_two(), "kernel_alignment is no power of two"),
            (!self.pref_address.is_multiple_of(align), "pref_address is not aligned to kernel_alignment"),
            (self.init_size == 0, "init_size is zero"),
            (self.initrd_addr_max == 0, "initrd_addr_max is zero"),
            (self.cmdline_size == 0, "cmdline_size is zero"),
        ];
        wrong.iter().find(|(is_wrong, _)| *is_wrong).map_or(Ok(()), |(_, why)| Err(why))
    }
}

#[cfg(test)]
mod tests {
    use super::super::images::{boot, guest, read};
    use super::super::{Payload, Protocol, detect, load};
    use super::*;
    use crate::x86::Mode;
    use crate::x86::layout::ZERO_PAGE;
    use proptest::prelude::*;

    /// Where the kernel of the tests wants to be, and how much it needs there.
    const PREF_ADDRESS: u64 = 0x20_0000;
    const INIT_SIZE: u32 = 0x8000;
    /// The protected-mode kernel, which is never run.
    const KERNEL: [u8; 0x410] = [0x90; 0x410];
    const SIZE: usize = 4 << 20;

    /// A bzImage of one setup sector. What the tests do not look at is zero.
    fn bzimage() -> Vec<u8> {
        let mut image = vec![0; 2 * SECTOR];
        let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
        put(0x1f1, &[1]);
        put(0x1f4, &(KERNEL.len() as u32 / 16).to_le_bytes());
        put(0x1fe, &[0x55, 0xaa, 0xeb, 0x66]);
        put(0x202, b"HdrS");
        put(0x206, &0x020f_u16.to_le_bytes());
        put(0x211, &[LOADED_HIGH]);
        put(0x22c, &0x7fff_ffff_u32.to_le_bytes());
        put(0x230, &0x20_0000_u32.to_le_bytes());
        put(0x236, &XLF_KERNEL_64.to_le_bytes());
        put(0x238, &100_u32.to_le_bytes());
        put(0x258, &PREF_ADDRESS.to_le_bytes());
        put(0x260, &INIT_SIZE.to_le_bytes());
        [&image[..], &KERNEL].concat()
    }

    fn changed(at: usize, bytes: &[u8]) -> Vec<u8> {
        let mut image = bzimage();
        image[at..at + bytes.len()].copy_from_slice(bytes);
        image
    }

    #[test]
    fn the_kernel_goes_where_it_prefers_to_be_and_is_entered_0x200_behind() {
        let (image, memory) = (bzimage(), guest(SIZE));
        let payload = Payload {
            image: &image,
            cmdline: b"quiet",
            initrd: Some(b"files"),
            rsdp: 0xe_0000,
            ..Payload::default()
        };
        let entry = load(None, &payload, &memory).unwrap();
        assert_eq!((entry.rip, entry.rsi), (PREF_ADDRESS + 0x200, ZERO_PAGE));
        assert!(matches!(entry.mode, Mode::Long { .. }));
        assert_eq!(read(&memory, PREF_ADDRESS, KERNEL.len()), KERNEL);
        let page = read(&memory, ZERO_PAGE, 0xeec);
        assert_eq!(page[0x070..0x078], 0xe_0000_u64.to_le_bytes(), "acpi_rsdp_addr");
        assert_eq!(page[0x202..0x208], *b"HdrS\x0f\x02", "header and version are the kernel's own");
        assert_eq!(page[0x210], 0xff, "type_of_loader");
        assert_eq!(page[0x21c..0x220], 5_u32.to_le_bytes(), "ramdisk_size");
        assert_eq!(page[0x228..0x22c], 0x2_0000_u32.to_le_bytes(), "cmd_line_ptr");
        assert_eq!(page[0x260..0x264], INIT_SIZE.to_le_bytes(), "init_size");
    }

    #[test]
    fn init_size_has_to_fit_memory() {
        let refused = boot(None, &changed(0x260, &0x20_0001_u32.to_le_bytes()), SIZE).unwrap_err();
        let end = PREF_ADDRESS + 0x20_0001;
        assert_eq!(
            refused,
            ImageError::Outside { what: "the kernel", start: PREF_ADDRESS, end, memory: SIZE as u64 }
        );
        assert!(boot(None, &changed(0x258, &u64::MAX.to_le_bytes()), SIZE).is_err());
    }

    #[test]
    fn a_kernel_without_a_64_bit_entry_is_unsupported() {
        for (at, byte) in [(0x236, 0), (0x206, 0x0b), (0x211, 0)] {
            let refused = boot(None, &changed(at, &[byte]), SIZE);
            assert!(matches!(refused, Err(ImageError::Unsupported { .. })), "{refused:?}");
        }
    }

    #[test]
    fn without_its_mark_it_is_no_boot_sector() {
        let image = changed(0x202, &[0; 4]);
        let why = "HdrS is not at 0x202, though it is a bzImage's in all else";
        assert_eq!(boot(None, &image, SIZE), Err(ImageError::Damaged { what: "the setup header", why }));
        assert!(boot(Some(Protocol::Flat16), &image, SIZE).is_ok(), "whoever asks for it gets it");
        // Each of what it is known by.
        for (at, byte) in [(0x1f1, 0), (0x1f1, 9), (0x200, 0xe9), (0x201, 0), (0x207, 0)] {
            let mut other = image.clone();
            other[at] = byte;
            assert_eq!(detect(&other), Ok(Protocol::Flat16), "{at:#x}");
        }
    }

    #[test]
    fn a_header_that_does_not_hold_together_says_where() {
        let why = |at, bytes: &[u8]| match boot(None, &changed(at, bytes), SIZE) {
            Err(ImageError::Damaged { what: "the setup header", why }) => why,
            other => panic!("{at:#x}: {other:?}"),
        };
        assert_eq!(why(0x200, &[0xe9]), "it does not begin with a jump");
        assert_eq!(why(0x201, &[0x61]), "it is too short for its version");
        assert_eq!(why(0x230, &[0; 4]), "kernel_alignment is no power of two");
        assert_eq!(why(0x230, &[1]), "kernel_alignment is no power of two");
        assert_eq!(why(0x258, &[0, 0, 0x10]), "pref_address is not aligned to kernel_alignment");
        assert_eq!(why(0x260, &[0; 4]), "init_size is zero");
        assert_eq!(why(0x22c, &[0; 4]), "initrd_addr_max is zero");
        assert_eq!(why(0x238, &[0; 4]), "cmdline_size is zero");
        let payload = [0x400_u32.to_le_bytes(), 0x11_u32.to_le_bytes()].concat();
        let cut = boot(None, &changed(0x248, &payload), SIZE).unwrap_err();
        assert_eq!(cut, ImageError::Truncated { what: "the compressed kernel", end: 0x811, len: 0x810 });
    }

    #[test]
    fn a_command_line_longer_than_the_kernel_takes_is_refused() {
        let image = bzimage();
        let with = |len: usize| {
            let payload = Payload { image: &image, cmdline: &vec![b'x'; len], ..Payload::default() };
            load(None, &payload, &guest(SIZE)).map(drop)
        };
        assert_eq!(with(100), Ok(()));
        assert_eq!(with(101), Err(ImageError::TooLarge { what: "the command line", size: 101, limit: 100 }));
    }

    #[test]
    fn the_initrd_stays_below_initrd_addr_max() {
        let image = changed(0x22c, &0x2f_ffff_u32.to_le_bytes());
        let memory = guest(SIZE);
        let payload = Payload { image: &image, initrd: Some(b"files"), ..Payload::default() };
        load(None, &payload, &memory).unwrap();
        assert_eq!(read(&memory, 0x2f_f000, 5), b"files");
    }

    #[test]
    fn a_bzimage_cut_anywhere_is_an_error() {
        let image = bzimage();
        // The last paragraph need not be whole: `syssize` is rounded up.
        for len in 1..image.len() - 15 {
            let refused = boot(Some(Protocol::Linux), &image[..len], SIZE);
            assert!(refused.is_err(), "{len} of {} bytes: {refused:?}", image.len());
        }
    }

    proptest! {
        #[test]
        fn damaged_headers_never_panic(at in 0x1f1_usize..0x268, bytes in any::<[u8; 8]>()) {
            let _ = boot(Some(Protocol::Linux), &changed(at, &bytes), SIZE);
        }
    }
}
