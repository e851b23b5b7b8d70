//! Boot protocols: from the bytes of an image to guest memory and an [`Entry`].
//!
//! ```text
//!   image ──detect──→ Protocol ──load──→ Entry        each loader: headers → Placer → registers
//! ```
//!
//! A loader never touches a vCPU: it returns the registers as a value. It writes to guest memory only through a
//! [`Placer`], and no byte twice. An image is not trusted: whatever is wrong with it ends in an [`ImageError`], never in
//! a panic.

#![deny(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]
#![cfg_attr(
    test,
    allow(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

pub mod bzimage;
pub mod flat;
#[cfg(test)]
mod images;
pub mod linux;
pub mod multiboot;
pub mod placer;
pub mod pvh;
mod segments;

use crate::elf::{Class, ELFMAG, Elf};
use crate::error::ImageError;
use crate::x86::layout::{CMDLINE, CMDLINE_SIZE, GDT, STACK_SIZE, STACK_TOP};
use crate::x86::{Entry, Mode, segment};
use bzimage::BzImage;
use placer::Placer;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

pub use crate::kvm::Memory;

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
    /// A Linux bzImage, entered in long mode by the Linux 64-bit boot protocol.
    Linux,
}

/// A word that names no boot protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{word:?} is not a boot protocol: {}", Protocol::NAMES.join(", "))]
pub struct UnknownProtocol {
    word: String,
}

impl Protocol {
    /// Every protocol.
    pub const ALL: [Protocol; 6] = [
        Protocol::Flat16,
        Protocol::Flat64,
        Protocol::Elf,
        Protocol::Multiboot,
        Protocol::Pvh,
        Protocol::Linux,
    ];
    /// The word for each, in the order of [`Protocol::ALL`].
    pub const NAMES: [&'static str; 6] = ["flat16", "flat64", "elf", "multiboot", "pvh", "linux"];

    /// The word for it, which is also its [`Display`](fmt::Display).
    pub const fn name(self) -> &'static str {
        match self {
            Protocol::Flat16 => "flat16",
            Protocol::Flat64 => "flat64",
            Protocol::Elf => "elf",
            Protocol::Multiboot => "multiboot",
            Protocol::Pvh => "pvh",
            Protocol::Linux => "linux",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Protocol {
    type Err = UnknownProtocol;

    fn from_str(word: &str) -> Result<Protocol, UnknownProtocol> {
        let known = Protocol::ALL.into_iter().find(|protocol| protocol.name() == word);
        known.ok_or_else(|| UnknownProtocol { word: word.to_owned() })
    }
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
    /// Guest-physical address of ACPI's root pointer (RSDP), 0 if there are no ACPI tables.
    pub rsdp: u64,
    /// Random bytes for the guest's generator, where the protocol can pass them on.
    pub seed: Option<[u8; 32]>,
    /// Whether page tables, where there are any, map the IOAPIC and the local APIC.
    pub apics: bool,
}

/// The signature that ends a boot sector's 512 bytes.
const BOOT_SIGNATURE: (usize, &[u8]) = (510, &[0x55, 0xaa]);
/// What tells a Linux bzImage, whose first sector is signed as well, from a boot sector (boot.rst,
/// "The Real-Mode Kernel Header").
const SETUP_MAGIC: (usize, &[u8]) = (0x202, b"HdrS");

/// Finds out how `image` wants to be started, from what it says about itself; nothing is guessed.
///
/// The first that fits: a Multiboot header; ELF64, in long mode (even where it has a PVH note: one
/// mode switch fewer); ELF32 with a PVH note; Linux's setup header; the signature of a boot sector. `flat64` has no mark
/// to be recognised by and must be asked for.
///
/// # Errors
/// [`ImageError::Empty`]; [`ImageError::Unknown`] if nothing fits; [`ImageError::Unsupported`] for
/// ELF files that cannot be booted; [`ImageError::Damaged`] for a bzImage whose mark is gone; errors of the ELF headers.
pub fn detect(image: &[u8]) -> Result<Protocol, ImageError> {
    let has = |(offset, mark): (usize, &[u8])| image.get(offset..).is_some_and(|at| at.starts_with(mark));
    if image.is_empty() {
        Err(ImageError::Empty)
    } else if multiboot::Header::find(image).is_some() {
        Ok(Protocol::Multiboot)
    } else if image.starts_with(ELFMAG) {
        detect_elf(&segments::executable(image)?)
    } else if has(SETUP_MAGIC) && has(BOOT_SIGNATURE) {
        Ok(Protocol::Linux)
    } else if has(BOOT_SIGNATURE) && BzImage::has_lost_its_mark(image) {
        let why = "HdrS is not at 0x202, though it is a bzImage's in all else";
        Err(ImageError::Damaged { what: "the setup header", why })
    } else if has(BOOT_SIGNATURE) {
        Ok(Protocol::Flat16)
    } else {
        Err(ImageError::Unknown { head: image.iter().take(8).copied().collect() })
    }
}

fn detect_elf(elf: &Elf) -> Result<Protocol, ImageError> {
    match elf.header.class {
        Class::Elf64 => Ok(Protocol::Elf),
        Class::Elf32 if pvh::entry(elf)?.is_some() => Ok(Protocol::Pvh),
        Class::Elf32 => Err(ImageError::Unsupported {
            kind: "a 32-bit ELF file with neither a Multiboot header nor a PVH note",
            advice: "one of them must say how it is entered",
        }),
    }
}

/// Whether `image` says of itself that it is a Linux kernel: a bzImage, or an ELF file with a note of Linux's.
pub fn is_linux(image: &[u8]) -> bool {
    match detect(image) {
        Ok(Protocol::Linux) => true,
        Ok(Protocol::Elf | Protocol::Pvh) => Elf::parse(image).is_ok_and(|elf| linux::is_kernel(&elf)),
        _ => false,
    }
}

/// Places `payload` in `memory`, which must be all zeroes, and returns how it is entered.
///
/// Without a `protocol`, [`detect`] finds it.
///
/// # Errors
/// Any [`ImageError`]; the memory is then to be thrown away.
pub fn load(protocol: Option<Protocol>, payload: &Payload, memory: &Memory) -> Result<Entry, ImageError> {
    place(protocol, payload, &mut Placer::new(memory))
}

fn place(protocol: Option<Protocol>, payload: &Payload, placer: &mut Placer) -> Result<Entry, ImageError> {
    if payload.image.is_empty() {
        return Err(ImageError::Empty);
    }
    match protocol.map_or_else(|| detect(payload.image), Ok)? {
        Protocol::Flat16 => flat::load16(payload, placer),
        Protocol::Flat64 => flat::load64(payload, placer),
        Protocol::Elf => linux::load_elf(payload, placer),
        Protocol::Linux => linux::load_bzimage(payload, placer),
        Protocol::Multiboot => multiboot::load(payload, placer),
        Protocol::Pvh => pvh::load(payload, placer),
    }
}

/// Places what long mode needs: page tables and a GDT.
fn long_mode(payload: &Payload, placer: &mut Placer) -> Result<Mode, ImageError> {
    let gdt = segment::GDT.map(u64::to_le_bytes);
    let cr3 = placer.write_page_tables(payload.apics)?;
    placer.write("the GDT", GDT, gdt.as_flattened())?;
    Ok(Mode::Long { cr3, gdt: (GDT, (size_of_val(&gdt) as u16).saturating_sub(1)) })
}

/// Keeps room for the initial stack and returns its top.
fn stack(placer: &mut Placer) -> Result<u64, ImageError> {
    placer.reserve("the stack", STACK_TOP - STACK_SIZE, STACK_SIZE)?;
    Ok(STACK_TOP)
}

/// Places the command line and returns its address: 0 when it is empty, and nothing is written.
fn cmdline(payload: &Payload, placer: &mut Placer) -> Result<u64, ImageError> {
    let (what, line) = ("the command line", payload.cmdline);
    let (size, limit) = (line.len() as u64, CMDLINE_SIZE - 1);
    if line.is_empty() {
        return Ok(0);
    }
    if size > limit {
        return Err(ImageError::TooLarge { what, size, limit });
    }
    if line.contains(&0) {
        return Err(ImageError::Damaged { what, why: "it holds a zero byte, which would end it" });
    }
    placer.write_padded(what, CMDLINE, line, size.saturating_add(1))?;
    Ok(CMDLINE)
}

/// Places the initrd or module as high as it fits below `limit`; an empty range at 0 if there is none.
fn initrd(payload: &Payload, limit: u64, placer: &mut Placer) -> Result<Range<u64>, ImageError> {
    let Some(bytes) = payload.initrd else { return Ok(0..0) };
    let start = placer.write_high("the initrd", bytes, limit)?;
    Ok(start..start.saturating_add(bytes.len() as u64))
}

#[cfg(test)]
mod tests {
    use super::images::{boot, guest, multiboot, pvh_note, read};
    use super::*;
    use crate::elf::images::{AT, CODE, Image, note};
    use proptest::prelude::*;

    const SIZE: usize = 2 << 20;

    fn boot_sector() -> Vec<u8> {
        let mut sector = vec![0; 512];
        sector[510..].copy_from_slice(&[0x55, 0xaa]);
        sector
    }

    /// One image of each kind that can be detected.
    fn images() -> Vec<(Protocol, Vec<u8>)> {
        let with_multiboot = Image { entry: AT + 12, ..Image::elf32().with_header(&multiboot(3, &[])) };
        let addresses = [AT as u32, AT as u32, 0, AT as u32 + 0x100, AT as u32 + 32];
        vec![
            (Protocol::Flat16, boot_sector()),
            (Protocol::Elf, Image::elf64().bytes()),
            (Protocol::Elf, Image::elf64().notes(&pvh_note(), 4).load(AT + 0x5000, b"data", 0x2000).bytes()),
            (Protocol::Pvh, Image::elf32().notes(&pvh_note(), 4).bytes()),
            (Protocol::Pvh, Image::elf32().notes(&note(b"Xen\0", 18, &AT.to_le_bytes(), 8), 8).bytes()),
            (Protocol::Multiboot, with_multiboot.bytes()),
            (Protocol::Multiboot, [&multiboot(1 << 16, &addresses)[..], CODE].concat()),
        ]
    }

    #[test]
    fn every_protocol_is_recognised_by_its_own_mark() {
        for (protocol, image) in images() {
            assert_eq!(detect(&image), Ok(protocol));
            assert_eq!(boot(None, &image, SIZE), boot(Some(protocol), &image, SIZE));
            assert!(boot(None, &image, SIZE).is_ok(), "{protocol}");
        }
    }

    #[test]
    fn a_multiboot_header_wins_over_elf_and_boot_sector() {
        let mut sector = boot_sector();
        sector[8..20].copy_from_slice(&multiboot(0, &[]));
        assert_eq!(detect(&sector), Ok(Protocol::Multiboot));
    }

    #[test]
    fn pvh_can_be_asked_for_where_elf_is_faster() {
        let image = Image::elf64().notes(&pvh_note(), 4).bytes();
        assert_eq!(detect(&image), Ok(Protocol::Elf));
        assert_eq!(boot(Some(Protocol::Pvh), &image, SIZE).unwrap().mode, Mode::Protected);
    }

    #[test]
    fn a_bzimage_is_not_taken_for_a_boot_sector() {
        let mut image = boot_sector();
        image.extend(b"\xeb\x66HdrS\x0f\x02");
        assert_eq!(detect(&image), Ok(Protocol::Linux));
    }

    #[test]
    fn a_signature_anywhere_else_is_no_boot_sector() {
        for at in [0, 509, 511, 512] {
            let mut image = vec![0; 1024];
            image[at..at + 2].copy_from_slice(&[0x55, 0xaa]);
            assert!(detect(&image).is_err());
        }
        assert!(detect(&boot_sector()[..511]).is_err());
    }

    #[test]
    fn what_nobody_knows_is_refused_with_what_it_begins_with() {
        assert_eq!(detect(b""), Err(ImageError::Empty));
        assert_eq!(detect(b"not"), Err(ImageError::Unknown { head: b"not".to_vec() }));
        let message = detect(b"not a kernel").unwrap_err().to_string();
        assert!(message.ends_with("(it begins 6e 6f 74 20 61 20 6b 65)"), "{message}");
    }

    #[test]
    fn elf32_must_say_how_it_is_entered() {
        let message = detect(&Image::elf32().bytes()).unwrap_err().to_string();
        assert!(message.contains("neither a Multiboot header nor a PVH note"), "{message}");
    }

    #[test]
    fn an_empty_image_is_refused_by_every_protocol() {
        for protocol in Protocol::ALL {
            assert_eq!(boot(Some(protocol), b"", SIZE), Err(ImageError::Empty));
        }
    }

    #[test]
    fn names_are_words_for_protocols_and_back() {
        for (protocol, name) in Protocol::ALL.into_iter().zip(Protocol::NAMES) {
            assert_eq!(protocol.to_string(), name);
            assert_eq!(name.parse(), Ok(protocol));
        }
        let message = "uefi".parse::<Protocol>().unwrap_err().to_string();
        assert_eq!(message, "\"uefi\" is not a boot protocol: flat16, flat64, elf, multiboot, pvh, linux");
    }

    #[test]
    fn a_command_line_arrives_whole_or_is_refused() {
        let image = Image::elf64().bytes();
        let with = |cmdline: &[u8]| {
            let memory = guest(SIZE);
            load(None, &Payload { image: &image, cmdline, initrd: None, ..Payload::default() }, &memory)
                .map(|_| memory)
        };
        for size in [1, 5000, 0xffff] {
            let line = vec![b'x'; size];
            let memory = with(&line).unwrap();
            assert_eq!(read(&memory, CMDLINE, size + 1), [&line[..], &[0]].concat());
        }
        let (what, size, limit) = ("the command line", 0x1_0000, 0xffff);
        assert_eq!(with(&[b'x'; 0x1_0000]).err(), Some(ImageError::TooLarge { what, size, limit }));
        assert!(matches!(with(b"a\0b"), Err(ImageError::Damaged { what: "the command line", .. })));
    }

    #[test]
    fn the_zero_that_ends_the_command_line_has_its_own_byte() {
        for (start, free) in [(CMDLINE + 6, true), (CMDLINE + 5, false)] {
            let image = Image::elf64().load(start, b"x", 1).bytes();
            let result = load(
                None,
                &Payload { image: &image, cmdline: b"quiet", initrd: None, ..Payload::default() },
                &guest(SIZE),
            );
            assert_eq!(result.is_ok(), free, "{start:#x}: {result:?}");
        }
    }

    #[test]
    fn an_initrd_that_reaches_the_kernel_is_refused_with_the_numbers() {
        let image = Image::elf64().bytes();
        let with = |size: usize| {
            let payload =
                Payload { image: &image, cmdline: b"", initrd: Some(&vec![7; size]), ..Payload::default() };
            load(None, &payload, &guest(SIZE)).map_err(|error| error.to_string())
        };
        assert!(with(0xf_f000).is_ok());
        let message = "the initrd of 1044481 bytes finds no room below 0x200000";
        assert_eq!(with(0xf_f001), Err(message.to_owned()));
        let message = "the initrd of 2097153 bytes finds no room below 0x200000";
        assert_eq!(with(SIZE + 1), Err(message.to_owned()));
    }

    #[test]
    fn an_image_larger_than_memory_is_refused() {
        let image = vec![1; SIZE];
        for protocol in [Protocol::Flat16, Protocol::Flat64] {
            let result = boot(Some(protocol), &image, SIZE);
            assert!(matches!(result, Err(ImageError::Outside { .. })), "{result:?}");
        }
    }

    #[test]
    fn memory_too_small_for_the_boot_structures_is_refused() {
        for (protocol, image) in images() {
            for size in [0x1000, 0x7000, 0x8000, 0xa000] {
                let result = boot(None, &image, size);
                let fits = protocol == Protocol::Flat16 && size >= 0x8000;
                assert_eq!(result.is_ok(), fits, "{protocol} in {size:#x}: {result:?}");
            }
        }
    }

    /// Loads with every protocol into a guest of `size` bytes: no panic, and not a byte where
    /// nothing was placed.
    fn check(payload: &Payload, size: usize) -> Result<(), TestCaseError> {
        for protocol in Protocol::ALL.map(Some).into_iter().chain([None]) {
            let memory = guest(size);
            let mut placer = Placer::new(&memory);
            let entry = place(protocol, payload, &mut placer);
            let mut bytes = read(&memory, 0, size);
            for placed in placer.placed() {
                prop_assert!(placed.start <= placed.end);
                let end = (placed.end as usize).min(size);
                bytes[(placed.start as usize).min(end)..end].fill(0);
            }
            prop_assert!(bytes.iter().all(|&byte| byte == 0), "{protocol:?} wrote outside of what it placed");
            if let Ok(Entry { rip, .. }) = entry {
                prop_assert!(placer.placed().iter().any(|placed| (placed.start..placed.end).contains(&rip)));
            }
        }
        Ok(())
    }

    fn sizes() -> impl Strategy<Value = usize> {
        prop::sample::select(vec![0x1000, 0x8000, 0x2_1000, 0x10_0000, 0x10_2000])
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn arbitrary_bytes_never_panic_or_stray(
            image in prop::collection::vec(any::<u8>(), 0..2048),
            cmdline in prop::collection::vec(any::<u8>(), 0..64),
            initrd in prop::option::of(prop::collection::vec(any::<u8>(), 0..0x2000)),
            size in sizes(),
        ) {
            check(&Payload { image: &image, cmdline: &cmdline, initrd: initrd.as_deref(), ..Payload::default() }, size)?;
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(192))]

        #[test]
        fn damaged_images_never_panic_or_stray(
            kind in 0_usize..7,
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            keep in prop::option::of(any::<prop::sample::Index>()),
            size in sizes(),
        ) {
            let mut image = images().swap_remove(kind).1;
            // Most of the interesting bytes are at the front.
            for (index, byte) in damage {
                let at = index.index(image.len().min(200));
                image[at] = byte;
            }
            if let Some(keep) = keep {
                image.truncate(keep.index(image.len()));
            }
            check(&Payload { image: &image, cmdline: b"quiet", initrd: Some(b"module"), ..Payload::default() }, size)?;
            check(&Payload { image: &image, ..Payload::default() }, size)?;
        }
    }
}
