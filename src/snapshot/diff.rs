//! The differences between two golden images, or between an image and a machine that went on from it.

use super::memory::{self, address};
use super::{PAGE, Snapshot};
use crate::error::{Error, Result, Step};
use crate::kvm::{StatePart, VcpuState};
use crate::machine::State;
use crate::text::counted;
use crate::x86::layout::{ABOVE_HOLE, HIGH_MEMORY, LOW_MEMORY_END};
use crate::x86::registers;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::hash::Hasher;
use twox_hash::XxHash64;

/// Where each region of memory begins, and its name.
const REGIONS: [(u64, &str); 4] = [
    (0, "low memory"),
    (LOW_MEMORY_END, "firmware"),
    (HIGH_MEMORY, "memory from 1 MiB on"),
    (ABOVE_HOLE, "memory beyond 4 GiB"),
];
/// At most this many ranges of pages are named in a region.
const RANGES: usize = 4;

impl Snapshot {
    /// The differences between this image and `other`, a line each; empty if there are none.
    pub fn differences(&self, other: &Snapshot) -> Result<String> {
        let mut text = String::new();
        let (one, two) = (&self.state, &other.state);
        if (one.memory, one.vcpus.len(), one.acpi) != (two.memory, two.vcpus.len(), two.acpi) {
            let shape = |state: &State| {
                let acpi = if state.acpi { ", ACPI" } else { "" };
                format!("{} KiB, {}{acpi}", state.memory >> 10, counted(state.vcpus.len(), "CPU"))
            };
            let _ = writeln!(text, "machine: {} became {}", shape(one), shape(two));
        }
        let (one_pages, two_pages) = (self.page_digests()?, other.page_digests()?);
        let all: BTreeSet<u64> = one_pages.keys().chain(two_pages.keys()).copied().collect();
        let changed = all.into_iter().filter(|page| one_pages.get(page) != two_pages.get(page));
        pages(&mut text, &changed.collect::<Vec<_>>());
        for (n, (one, two)) in one.vcpus.iter().zip(&two.vcpus).enumerate() {
            vcpu(&mut text, n, &StatePart::ALL, one, two);
        }
        devices(&mut text, one, two);
        Ok(text)
    }

    /// A digest of every page that is not zero.
    fn page_digests(&self) -> Result<BTreeMap<u64, u64>> {
        let mut digests = BTreeMap::new();
        let each = |number, page: &[u8]| {
            let mut hash = XxHash64::with_seed(0);
            hash.write(page);
            digests.insert(number, hash.finish());
            Ok(())
        };
        memory::each_page(&self.file, self.header.memory_offset, self.state.memory, each)
            .map_err(|source| Error::Host { step: Step::ReadImage, source })?;
        Ok(digests)
    }
}

/// Adds lines that name the pages `changed`, which are numbers in ascending order.
pub(super) fn pages(text: &mut String, changed: &[u64]) {
    let changed: Vec<u64> = changed.iter().copied().map(address).collect();
    for (n, &(start, name)) in REGIONS.iter().enumerate() {
        let end = REGIONS.get(n + 1).map_or(u64::MAX, |&(end, _)| end);
        let here: Vec<u64> = changed.iter().copied().filter(|at| (start..end).contains(at)).collect();
        if here.is_empty() {
            continue;
        }
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for &at in &here {
            match ranges.last_mut() {
                Some((_, end)) if *end == at => *end += PAGE as u64,
                _ => ranges.push((at, at + PAGE as u64)),
            }
        }
        let named: Vec<String> =
            ranges.iter().take(RANGES).map(|(start, end)| format!("{start:#x}..{end:#x}")).collect();
        let more = if ranges.len() > RANGES { ", …" } else { "" };
        let _ = writeln!(text, "{name}: {}: {}{more}", counted(here.len(), "page"), named.join(", "));
    }
}

/// Adds a line for each of these parts in which two states of vCPU `n` differ.
pub(super) fn vcpu(text: &mut String, n: usize, parts: &[StatePart], one: &VcpuState, two: &VcpuState) {
    for &part in parts {
        let (was, is) = (one.part(part), two.part(part));
        if was == is || part == StatePart::Tsc {
            continue;
        }
        let details: Vec<String> = match part {
            StatePart::Msrs => {
                let (was, is) = (one.msrs(), two.msrs());
                let new = is.iter().filter(|msr| !was.contains(msr));
                let gone = was.iter().filter(|(index, _)| is.iter().all(|(other, _)| other != index));
                let new = new.map(|(index, value)| format!("{index:#x} is {value:#x}"));
                new.chain(gone.map(|(index, _)| format!("{index:#x} is as after a reset"))).collect()
            }
            part => registers_of(part, one)
                .into_iter()
                .zip(registers_of(part, two))
                .filter(|(was, is)| was != is)
                .map(|((name, was), (_, is))| format!("{name} {was:#x} → {is:#x}"))
                .collect(),
        };
        let details = if details.is_empty() { "changed".into() } else { details.join(", ") };
        let _ = writeln!(text, "cpu {n}, {}: {details}", part.name());
    }
}

/// The registers of a part, with their names; none for parts that are not lists of registers.
fn registers_of(part: StatePart, state: &VcpuState) -> Vec<(&'static str, u64)> {
    match part {
        StatePart::Regs => registers::general(&state.regs().unwrap_or_default()).into(),
        StatePart::Sregs => registers::system(&state.sregs().unwrap_or_default()).into(),
        _ => Vec::new(),
    }
}

fn devices(text: &mut String, one: &State, two: &State) {
    for device in &one.devices {
        let place = (device.space, device.base);
        let other = two.devices.iter().find(|other| (other.space, other.base) == place);
        let line = match other {
            Some(other) if other.bytes == device.bytes => continue,
            Some(other) => {
                let (was, is) = (device.bytes.len(), other.bytes.len());
                let changed = device.bytes.iter().zip(&other.bytes).filter(|(was, is)| was != is).count();
                let count = changed + was.abs_diff(is);
                format!("{count} of its bytes differ{}", if count == 1 { "s" } else { "" })
            }
            None => "is gone".into(),
        };
        let _ = writeln!(text, "device at {:#x} ({}): {line}", device.base, device.space);
    }
    for device in &two.devices {
        if one.devices.iter().all(|other| (other.space, other.base) != (device.space, device.base)) {
            let _ = writeln!(text, "device at {:#x} ({}): is new", device.base, device.space);
        }
    }
}
