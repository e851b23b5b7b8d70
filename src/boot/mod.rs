//! Boot protocols: from the bytes of an image to guest memory and an [`Entry`].
//!
//! ```text
//!   image ──detect──→ Protocol ──load──→ Entry        each loader: headers → Placer → registers
//! ```
//!
//! A loader never touches a vCPU: what it promises about registers is the value it returns. It
//! writes to guest memory only through a [`Placer`](placer::Placer), and nothing twice. An image is
//! input from a stranger: whatever is wrong with it ends in an [`ImageError`], never in a panic.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]
#![cfg_attr(test, allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used))]

pub mod elf;
mod fields;
pub mod flat;
pub mod linux;
pub mod placer;

use crate::error::ImageError;
use crate::x86::layout::{CMDLINE, CMDLINE_SIZE, GDT, STACK_SIZE, STACK_TOP};
use crate::x86::{Entry, Mode, segment};
use elf::{Class, ELFMAG, Elf};
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
}

/// A word that names no boot protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{word:?} is not a boot protocol: {}", Protocol::NAMES.join(", "))]
pub struct UnknownProtocol {
    word: String,
}

impl Protocol {
    /// Every protocol.
    pub const ALL: [Protocol; 5] =
        [Protocol::Flat16, Protocol::Flat64, Protocol::Elf, Protocol::Multiboot, Protocol::Pvh];
    /// The word for each, in the order of [`Protocol::ALL`].
    pub const NAMES: [&'static str; 5] = ["flat16", "flat64", "elf", "multiboot", "pvh"];

    /// The word for it, which is also its [`Display`](fmt::Display).
    pub const fn name(self) -> &'static str {
        match self {
            Protocol::Flat16 => "flat16",
            Protocol::Flat64 => "flat64",
            Protocol::Elf => "elf",
            Protocol::Multiboot => "multiboot",
            Protocol::Pvh => "pvh",
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
}

/// The signature that ends a boot sector's 512 bytes.
const BOOT_SIGNATURE: (usize, &[u8]) = (510, &[0x55, 0xaa]);
/// What tells a Linux bzImage, whose first sector is signed as well, from a boot sector (boot.rst,
/// "The Real-Mode Kernel Header").
const SETUP_HEADER: (usize, &[u8]) = (0x202, b"HdrS");

/// Finds out how `image` wants to be started, from what it says about itself; nothing is guessed.
///
/// The first that fits: a Multiboot header; ELF64, in long mode (even where it has a PVH note: one
/// mode switch fewer); ELF32 with a PVH note; the signature of a boot sector. `flat64` has no mark
/// to be recognised by and must be asked for.
///
/// # Errors
/// [`ImageError::Empty`]; [`ImageError::Unknown`] if nothing fits; [`ImageError::Unsupported`] for a
/// Linux bzImage and for ELF files that cannot be booted; errors of the ELF headers.
pub fn detect(image: &[u8]) -> Result<Protocol, ImageError> {
    let has = |(offset, mark): (usize, &[u8])| image.get(offset..).is_some_and(|at| at.starts_with(mark));
    if image.is_empty() {
        Err(ImageError::Empty)
    } else if image.starts_with(ELFMAG) {
        detect_elf(&Elf::parse(image)?)
    } else if has(SETUP_HEADER) {
        let advice = "this version boots its uncompressed ELF kernel instead (vmlinux)";
        Err(ImageError::Unsupported { kind: "a Linux bzImage", advice })
    } else if has(BOOT_SIGNATURE) {
        Ok(Protocol::Flat16)
    } else {
        Err(ImageError::Unknown { head: image.iter().take(8).copied().collect() })
    }
}

fn detect_elf(elf: &Elf) -> Result<Protocol, ImageError> {
    match elf.class {
        Class::Elf64 => Ok(Protocol::Elf),
        Class::Elf32 => Err(ImageError::Unsupported {
            kind: "a 32-bit ELF file with neither a Multiboot header nor a PVH note",
            advice: "one of them must say how it is entered",
        }),
    }
}

/// Places `payload` in `memory`, whose every byte must be zero, and returns how it is entered.
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
        Protocol::Elf => linux::load(payload, placer),
        Protocol::Multiboot | Protocol::Pvh => {
            Err(ImageError::Unsupported { kind: "not yet bootable", advice: "wait" })
        }
    }
}

/// Places what long mode needs: page tables and a GDT.
fn long_mode(placer: &mut Placer) -> Result<Mode, ImageError> {
    let gdt = segment::GDT.map(u64::to_le_bytes);
    let cr3 = placer.write_page_tables()?;
    placer.write("the GDT", GDT, gdt.as_flattened())?;
    Ok(Mode::Long { cr3, gdt: (GDT, size_of_val(&gdt) as u16 - 1) })
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
    placer.write_padded(what, CMDLINE, line, size + 1)?;
    Ok(CMDLINE)
}

/// Places the initrd or module as high as it fits; an empty range at 0 if there is none.
fn initrd(payload: &Payload, placer: &mut Placer) -> Result<Range<u64>, ImageError> {
    let Some(bytes) = payload.initrd else { return Ok(0..0) };
    let start = placer.write_high("the initrd", bytes)?;
    Ok(start..start + bytes.len() as u64)
}
