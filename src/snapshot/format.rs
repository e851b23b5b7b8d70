//! The file format, version 1, as docs/snapshots.md has it: a header, sections, and the memory.
//!
//! A file is not trusted: whatever is wrong with it ends in an [`ImageError`], and nothing of it is used before all of
//! header and sections was checked.

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

use super::memory::{self, PAGE, zeroes};
use crate::device::Space;
use crate::error::ImageError;
use crate::kvm::{MAX_MEMORY, Memory, StatePart, VcpuState};
use crate::machine::{Config, DeviceState, State};
use std::fs::File;
use std::hash::Hasher;
use std::io;
use std::os::unix::fs::FileExt;
use twox_hash::XxHash64;

/// What a golden image begins with. The last bytes would be changed by a transfer as text.
pub const MAGIC: [u8; 16] = *b"matchstick\x1agold\n";
/// The version that is written, and the newest that is read.
pub const VERSION: u32 = 1;

/// Bytes of the header, of which the last eight are the digest of the others and of the sections.
const HEADER: usize = 64;
/// Where that is.
const DIGEST: usize = HEADER - size_of::<u64>();
/// More bytes of sections than 255 vCPUs and all devices need.
const SECTIONS_MAX: u64 = 16 << 20;

// The sections.
const MACHINE: [u8; 8] = *b"machine\0";
const VCPU: [u8; 8] = *b"vcpu\0\0\0\0";
const DEVICE: [u8; 8] = *b"device\0\0";

/// Bits of MACHINE's flags.
const ACPI: u32 = 1 << 0;
const CLOCK: u32 = 1 << 1;

/// Where the memory lies in the file, and what it must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Where the memory begins: a multiple of [`PAGE`].
    pub memory_offset: u64,
    /// How many of its pages are not zero.
    pub pages: u64,
    /// Their digest.
    pub memory_digest: u64,
}

/// Writes an image to an empty file.
pub fn write(file: &File, state: &State, memory: &Memory) -> io::Result<()> {
    let sections = sections(state);
    let offset = HEADER.saturating_add(sections.len()).next_multiple_of(PAGE) as u64;
    let (pages, memory_digest) = memory::write(file, offset, memory)?;
    let header = Header { memory_offset: offset, pages, memory_digest };
    file.write_all_at(&head(&header, &sections), 0)
}

/// Header and sections.
fn head(header: &Header, sections: &[u8]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend((PAGE as u32).to_le_bytes());
    for number in [sections.len() as u64, header.memory_offset, header.pages, header.memory_digest] {
        bytes.extend(number.to_le_bytes());
    }
    let digest = XxHash64::oneshot(0, &[&bytes, sections].concat());
    bytes.extend(digest.to_le_bytes());
    bytes.extend(sections);
    bytes
}

fn sections(state: &State) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut section = |tag: [u8; 8], content: &[u8]| {
        bytes.extend(tag);
        bytes.extend((content.len() as u64).to_le_bytes());
        bytes.extend(content);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
    };
    let flags = if state.acpi { ACPI } else { 0 } | if state.clock.is_some() { CLOCK } else { 0 };
    let mut machine = state.memory.to_le_bytes().to_vec();
    machine.extend((state.vcpus.len() as u32).to_le_bytes());
    machine.extend(flags.to_le_bytes());
    machine.extend(state.time.to_le_bytes());
    machine.extend(state.clock.unwrap_or(0).to_le_bytes());
    section(MACHINE, &machine);
    for vcpu in &state.vcpus {
        let mut parts = Vec::new();
        for (part, content) in vcpu.parts() {
            parts.extend((part as u32).to_le_bytes());
            parts.extend((content.len() as u32).to_le_bytes());
            parts.extend(content);
            parts.resize(parts.len().next_multiple_of(8), 0);
        }
        section(VCPU, &parts);
    }
    for DeviceState { space, base, bytes: content } in &state.devices {
        let mut device = (*space as u64).to_le_bytes().to_vec();
        device.extend(base.to_le_bytes());
        device.extend(content);
        section(DEVICE, &device);
    }
    bytes
}

/// How large a machine an image may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory.
    pub memory: u64,
    /// Number of vCPUs.
    pub cpus: u32,
}

impl Default for Limits {
    /// 512 MiB and 4 vCPUs: what a machine has at most that was made without saying how much.
    fn default() -> Limits {
        Limits { memory: 512 << 20, cpus: 4 }
    }
}

impl Limits {
    /// All that a machine can have.
    pub const NONE: Limits = Limits { memory: MAX_MEMORY, cpus: 255 };
}

/// Why an image cannot be read.
#[derive(Debug)]
pub enum ReadError {
    /// The file cannot be read, or there is no memory for it.
    Io(io::Error),
    /// There is something wrong with it.
    Image(ImageError),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> ReadError {
        ReadError::Io(error)
    }
}

impl From<ImageError> for ReadError {
    fn from(error: ImageError) -> ReadError {
        ReadError::Image(error)
    }
}

/// Reads and checks everything but the memory, and that the memory is there.
pub fn read(file: &File, limits: &Limits) -> Result<(Header, State), ReadError> {
    let len = file.metadata()?.len();
    // Mostly one read is enough.
    let mut bytes = zeroes(len.min(PAGE as u64) as usize)?;
    file.read_exact_at(&mut bytes, 0)?;
    let (sections_len, _) = read_header(&bytes, len)?;
    let head_len = HEADER.saturating_add(sections_len);
    if head_len > bytes.len() {
        bytes = zeroes(head_len)?;
        file.read_exact_at(&mut bytes, 0)?;
    }
    decode(&bytes, len, limits)
}

/// A copy of bytes of a file.
fn copied(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(bytes.len())?;
    copy.extend_from_slice(bytes);
    Ok(copy)
}

/// The same for an image of `len` bytes that begins with `bytes`: at least its header and its sections.
pub fn decode(bytes: &[u8], len: u64, limits: &Limits) -> Result<(Header, State), ReadError> {
    let (sections_len, header) = read_header(bytes, len)?;
    let head_len = HEADER.saturating_add(sections_len);
    let Some(head) = bytes.get(..head_len) else {
        return Err(ImageError::Truncated { what: "the state", end: head_len as u64, len }.into());
    };
    let state = read_state(head, limits)?;
    let end = header.memory_offset.saturating_add(state.memory);
    if end > len {
        return Err(ImageError::Truncated { what: "the memory", end, len }.into());
    }
    if header.pages > state.memory.div_ceil(PAGE as u64) {
        let what = "the header of the golden image";
        return Err(damaged(what, "it counts more pages than its machine has").into());
    }
    Ok((header, state))
}

/// Damage in one of the parts.
const fn damaged(what: &'static str, why: &'static str) -> ImageError {
    ImageError::Damaged { what, why }
}

/// The header, and how many bytes of sections follow it.
fn read_header(bytes: &[u8], len: u64) -> Result<(usize, Header), ImageError> {
    let what = "the header of the golden image";
    let mut input = Input { bytes };
    if input.array() != Some(MAGIC) {
        return Err(damaged(what, "it does not begin as one"));
    }
    let version = input.u32();
    if version.is_some_and(|version| version > VERSION) {
        return Err(ImageError::Unsupported {
            kind: "a golden image of a newer version",
            advice: "a newer matchstick has written it, and can run it",
        });
    }
    if version != Some(VERSION) {
        return Err(damaged(what, "there is no such version"));
    }
    if input.u32() != Some(PAGE as u32) {
        return Err(damaged(what, "its pages do not have 4096 bytes"));
    }
    let numbers: Option<[u64; 4]> = (|| Some([input.u64()?, input.u64()?, input.u64()?, input.u64()?]))();
    let Some([sections, memory_offset, pages, memory_digest]) = numbers else {
        return Err(ImageError::Truncated { what: "the header", end: HEADER as u64, len });
    };
    if sections > SECTIONS_MAX {
        return Err(damaged(what, "its sections are larger than they can be"));
    }
    let end = sections.saturating_add(HEADER as u64);
    if end > len {
        return Err(ImageError::Truncated { what: "the state", end, len });
    }
    if memory_offset < end
        || !memory_offset.is_multiple_of(PAGE as u64)
        || memory_offset > end.saturating_add(PAGE as u64)
    {
        return Err(damaged(what, "the memory is not where it belongs"));
    }
    Ok((sections as usize, Header { memory_offset, pages, memory_digest }))
}

/// The sections of `head`, which is a header and its sections.
fn read_state(head: &[u8], limits: &Limits) -> Result<State, ReadError> {
    let what = "the golden image";
    let (Some((signed, rest)), Some(sections)) = (head.split_at_checked(DIGEST), head.get(HEADER..)) else {
        return Err(damaged(what, "its header is cut short").into());
    };
    let mut digest = XxHash64::with_seed(0);
    digest.write(signed);
    digest.write(sections);
    let digest = digest.finish();
    if (Input { bytes: rest }).u64() != Some(digest) {
        return Err(damaged(what, "its state is not what its digest says").into());
    }
    let mut input = Input { bytes: sections };
    let Some((MACHINE, machine)) = input.section() else {
        return Err(damaged(what, "it does not begin with the machine").into());
    };
    let (mut state, cpus) = read_machine(machine)?;
    if state.memory > limits.memory {
        return Err(ImageError::TooMuchMemory { bytes: state.memory, limit: limits.memory }.into());
    }
    if cpus > limits.cpus {
        return Err(ImageError::TooManyCpus { cpus, limit: limits.cpus }.into());
    }
    while !input.bytes.is_empty() {
        match input.section() {
            Some((VCPU, parts)) => state.vcpus.push(read_vcpu(parts)?),
            Some((DEVICE, device)) => {
                let device = read_device(device)?;
                if state.devices.iter().any(|other| (other.space, other.base) == (device.space, device.base))
                {
                    return Err(damaged(what, "it has a device twice").into());
                }
                state.devices.push(device);
            }
            Some(_) => return Err(damaged(what, "it has a section that nobody knows").into()),
            None => return Err(damaged(what, "a section is cut short").into()),
        }
    }
    if state.vcpus.len() != cpus as usize {
        return Err(damaged(what, "it does not have as many vCPUs as it says").into());
    }
    Ok(state)
}

/// The machine without vCPUs and devices, and how many vCPUs it has.
fn read_machine(mut input: Input<'_>) -> Result<(State, u32), ImageError> {
    let what = "the machine in the golden image";
    let numbers = (|| Some((input.u64()?, input.u32()?, input.u32()?, input.u64()?, input.u64()?)))();
    let Some((memory, cpus, flags, time, clock)) = numbers.filter(|_| input.bytes.is_empty()) else {
        return Err(damaged(what, "it has another length"));
    };
    if !(Config::MIN_MEMORY..=MAX_MEMORY).contains(&memory) || !memory.is_multiple_of(PAGE as u64) {
        return Err(damaged(what, "there is no machine with that much memory"));
    }
    if !(1..=255).contains(&cpus) || flags & !(ACPI | CLOCK) != 0 {
        return Err(damaged(what, "there is no such machine"));
    }
    let clock = (flags & CLOCK != 0).then_some(clock);
    let state =
        State { memory, acpi: flags & ACPI != 0, vcpus: Vec::new(), clock, time, devices: Vec::new() };
    Ok((state, cpus))
}

fn read_vcpu(mut input: Input<'_>) -> Result<VcpuState, ReadError> {
    let what = "a vCPU in the golden image";
    let mut state = VcpuState::default();
    while !input.bytes.is_empty() {
        let part = (|| {
            let (number, len) = (input.u32()?, input.u32()?);
            Some((number, input.padded(len as usize)?))
        })();
        let Some((number, bytes)) = part else { return Err(damaged(what, "a part is cut short").into()) };
        let Some(part) = StatePart::find(number) else {
            return Err(damaged(what, "it has a part that nobody knows").into());
        };
        if !state.add(part, copied(bytes)?) {
            return Err(damaged(what, "a part is there twice, or has another length").into());
        }
    }
    if state.regs().is_none() || state.sregs().is_none() {
        return Err(damaged(what, "it has no registers").into());
    }
    Ok(state)
}

fn read_device(mut input: Input<'_>) -> Result<DeviceState, ReadError> {
    let spaces = [Space::Ports, Space::Mmio, Space::Ioapic];
    let space = input.u64().and_then(|number| spaces.get(usize::try_from(number).ok()?).copied());
    match (space, input.u64()) {
        (Some(space), Some(base)) => Ok(DeviceState { space, base, bytes: copied(input.bytes)? }),
        _ => Err(damaged("a device in the golden image", "it is nowhere").into()),
    }
}

/// Bytes that have not been read yet.
struct Input<'a> {
    bytes: &'a [u8],
}

impl<'a> Input<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.bytes.split_first_chunk()?;
        self.bytes = rest;
        Some(*array)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// `len` bytes, and what fills them up to a multiple of 8.
    fn padded(&mut self, len: usize) -> Option<&'a [u8]> {
        let (padded, rest) = self.bytes.split_at_checked(len.checked_next_multiple_of(8)?)?;
        self.bytes = rest;
        padded.get(..len)
    }

    /// Tag and contents of a section.
    fn section(&mut self) -> Option<([u8; 8], Input<'a>)> {
        let (tag, len) = (self.array()?, self.u64()?);
        let bytes = self.padded(usize::try_from(len).ok()?)?;
        Some((tag, Input { bytes }))
    }
}
