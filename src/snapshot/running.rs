//! A machine that runs in another process, compared with its golden image.
//!
//! The process itself is not asked: its sandbox would not let it answer. But Linux lets a process read the memory of
//! another one that it may trace. The guest's memory is a mapping there, and so is the page that KVM shares for each
//! vCPU, with its registers. All threads are stopped while we read, so that everything is of one moment; a stopped vCPU
//! has left the guest, and KVM has stored its registers. Its devices cannot be seen, nor the state of a vCPU that only
//! KVM has.
//!
//! Source: proc(5), `/proc/PID/maps`, `mem` and `pagemap`.

use super::{PAGE, Snapshot, diff, memory};
use super::{ProcessError, SnapshotError};
use crate::kvm::{StatePart, VcpuState, map_file};
use crate::sys;
use crate::sys::stopped::Stopped;
use crate::x86::layout::MMIO_START;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use vm_memory::GuestMemoryBackend;

type Seen<T> = std::result::Result<T, ProcessError>;

impl Snapshot {
    /// What the machine that `process` runs differs in from this image, a line each, as in
    /// [`differences`](Snapshot::differences): memory and registers; empty if there are none. The process stands
    /// still meanwhile.
    ///
    /// # Errors
    /// [`SnapshotError::Process`] if it is no such machine, ends meanwhile, or may not be traced by this user.
    pub fn drift(&self, process: i32) -> Result<String, SnapshotError> {
        let drift = self.look_into(process).map_err(|error| match error {
            ProcessError::Io(_) if has_ended(process) => ProcessError::Missing,
            error => error,
        });
        drift.map_err(|source| SnapshotError::Process { process, source })
    }

    fn look_into(&self, process: i32) -> Seen<String> {
        let _stopped = Stopped::new(process).map_err(ProcessError::Io)?;
        let there = Process::new(&process.to_string()).map_err(ProcessError::Io)?;
        let vcpus = there.vcpus()?;
        if vcpus.len() != self.state.vcpus.len() {
            return Err(ProcessError::OtherMachine);
        }
        let mut text = String::new();
        diff::pages(&mut text, &self.changed_pages(&there)?);
        for (n, (was, is)) in self.state.vcpus.iter().zip(&vcpus).enumerate() {
            let seen: Vec<StatePart> = is.parts().map(|(part, _)| part).collect();
            diff::vcpu(&mut text, n, &seen, was, is);
        }
        Ok(text)
    }

    /// The numbers of the pages that are not as in the image.
    fn changed_pages(&self, there: &Process) -> Seen<Vec<u64>> {
        let below = self.state.memory.min(MMIO_START);
        let mut changed = Vec::new();
        for (start, len) in [(0, below), (below, self.state.memory - below)] {
            if len == 0 {
                continue;
            }
            let (address, is_copy) = self.find(there, start, len)?;
            let own = there.own_pages(address, len).map_err(ProcessError::Io)?;
            let first = start / PAGE as u64;
            let (mut was, mut is) = ([0; PAGE], [0; PAGE]);
            for &page in &own {
                let at = page * PAGE as u64;
                let in_file = self.header.memory_offset + start + at;
                self.file.read_exact_at(&mut was, in_file).map_err(ProcessError::Io)?;
                there.memory.read_exact_at(&mut is, address + at).map_err(ProcessError::Io)?;
                if was != is {
                    changed.push(first + page);
                }
            }
            // In a copy, a page that is not there is zero.
            if is_copy {
                let missing = |number, _: &[u8]| {
                    if own.binary_search(&(number - first)).is_err() {
                        changed.push(number);
                    }
                    Ok(())
                };
                memory::each_page_in(&self.file, self.header.memory_offset, start..start + len, missing)
                    .map_err(ProcessError::Io)?;
            }
        }
        changed.sort_unstable();
        Ok(changed)
    }

    /// Where `len` bytes of the guest's memory from its place `start` in the image are in the process, and whether they
    /// are a copy, not a mapping of the image.
    fn find(&self, there: &Process, start: u64, len: u64) -> Seen<(u64, bool)> {
        let file = self.as_mapped()?;
        let place = (file.0.as_str(), file.1, self.header.memory_offset + start);
        let mut fitting = there.mappings.iter().filter(|mapping| mapping.is_private && mapping.len == len);
        let is_ours = |mapping: &&Mapping| (mapping.device.as_str(), mapping.inode, mapping.offset) == place;
        if let Some(mapping) = fitting.clone().find(is_ours) {
            return Ok((mapping.address, false));
        }
        if let Some(other) = fitting.clone().find(|mapping| mapping.inode != 0) {
            return Err(ProcessError::OtherImage(other.path.clone()));
        }
        // A guest's memory is the only mapping without a file that was made with MAP_NORESERVE.
        match fitting.find(|mapping| mapping.path.is_empty() && there.is_not_reserved(mapping)) {
            Some(mapping) => Ok((mapping.address, true)),
            None => Err(ProcessError::OtherMachine),
        }
    }

    /// Device and inode of the image as a list of mappings has them; stat(2) tells others on some file systems.
    fn as_mapped(&self) -> Seen<(String, u64)> {
        let unmapped = || ProcessError::Io(io::ErrorKind::Unsupported.into());
        let memory = map_file(&self.file, self.header.memory_offset, PAGE as u64).map_err(|_| unmapped())?;
        let at = memory.iter().next().ok_or_else(unmapped)?.as_ptr() as u64;
        let own = Process::new("self").map_err(ProcessError::Io)?;
        let mut mappings = own.mappings.into_iter();
        let mapping = mappings.find(|mapping| (mapping.address..mapping.address + mapping.len).contains(&at));
        mapping.map(|mapping| (mapping.device, mapping.inode)).ok_or_else(unmapped)
    }
}

/// Whether there is no such process, or only a zombie.
fn has_ended(process: i32) -> bool {
    match fs::read_to_string(format!("/proc/{process}/stat")) {
        // The state follows the program's name, which may have any characters.
        Ok(stat) => stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['Z', 'X'])),
        Err(_) => true,
    }
}

/// One line of /proc/PID/maps.
struct Mapping {
    address: u64,
    len: u64,
    /// Readable, writable, and written to privately.
    is_private: bool,
    offset: u64,
    /// The file system's device, as it is written there.
    device: String,
    inode: u64,
    path: String,
}

impl Mapping {
    fn parse(line: &str) -> Option<Mapping> {
        let hex = |text| u64::from_str_radix(text, 16).ok();
        let mut words = line.splitn(6, ' ');
        let (start, end) = words.next()?.split_once('-')?;
        let access = words.next()?;
        let offset = hex(words.next()?)?;
        let device = words.next()?.into();
        let inode = words.next()?.parse().ok()?;
        let address = hex(start)?;
        Some(Mapping {
            address,
            len: hex(end)?.checked_sub(address)?,
            is_private: access == "rw-p",
            offset,
            device,
            inode,
            path: words.next().unwrap_or_default().trim_start().into(),
        })
    }
}

/// A stopped process, or this one.
struct Process {
    /// Its directory in /proc.
    name: String,
    mappings: Vec<Mapping>,
    memory: File,
}

impl Process {
    fn new(name: &str) -> io::Result<Process> {
        let maps = fs::read_to_string(format!("/proc/{name}/maps"))?;
        let mappings = maps.lines().filter_map(Mapping::parse).collect();
        Ok(Process { name: name.into(), mappings, memory: File::open(format!("/proc/{name}/mem"))? })
    }

    /// The registers of each vCPU.
    fn vcpus(&self) -> Seen<Vec<VcpuState>> {
        let mut pages: Vec<(u32, u64)> = Vec::new();
        for mapping in &self.mappings {
            if let Some(index) = mapping.path.strip_prefix("anon_inode:kvm-vcpu") {
                let index = index.trim_start_matches(':').parse().unwrap_or(pages.len() as u32);
                pages.push((index, mapping.address));
            }
        }
        pages.sort_unstable();
        if pages.is_empty() {
            return Err(ProcessError::NotAMachine);
        }
        let read = |(_, address)| {
            let mut page = [0; PAGE];
            self.memory.read_exact_at(&mut page, address).map_err(ProcessError::Io)?;
            Ok(VcpuState::in_shared_page(&page))
        };
        pages.into_iter().map(read).collect()
    }

    /// The numbers of the pages from `address` on that are the process's own.
    fn own_pages(&self, address: u64, len: u64) -> io::Result<Vec<u64>> {
        let pagemap = File::open(format!("/proc/{}/pagemap", self.name))?;
        let own = sys::own_pages(&pagemap, address as usize, len as usize / PAGE)?;
        Ok(own.into_iter().map(|page| page as u64).collect())
    }

    /// Whether `mapping` was made with MAP_NORESERVE (`nr` among its VmFlags in smaps).
    fn is_not_reserved(&self, mapping: &Mapping) -> bool {
        let Ok(smaps) = fs::read_to_string(format!("/proc/{}/smaps", self.name)) else { return false };
        let start = format!("{:x}-", mapping.address);
        let mut lines = smaps.lines().skip_while(|line| !line.starts_with(&start));
        let flags = lines.find_map(|line| line.strip_prefix("VmFlags:"));
        flags.is_some_and(|flags| flags.split_whitespace().any(|flag| flag == "nr"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_maps_is_read_with_whatever_its_path_is() {
        let line =
            "7f1200000000-7f1220000000 rw-p 00002000 fe:01 131076                     /tmp/a b (deleted)";
        let mapping = Mapping::parse(line).unwrap();
        assert_eq!((mapping.address, mapping.len), (0x7f12_0000_0000, 512 << 20));
        assert_eq!((mapping.offset, mapping.device, mapping.inode), (0x2000, "fe:01".into(), 131_076));
        assert_eq!((mapping.path.as_str(), mapping.is_private), ("/tmp/a b (deleted)", true));
        let nameless = Mapping::parse("1000-2000 r--p 00000000 00:00 0 ").unwrap();
        assert_eq!((nameless.path.as_str(), nameless.is_private), ("", false));
        assert!(Mapping::parse("2000-1000 rw-p 0 00:00 0").is_none());
        assert!(Mapping::parse("").is_none());
    }
}
