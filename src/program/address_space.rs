//! The memory of a program: what is mapped where, with which rights, and whose tables say so.
//!
//! Three places know of a mapping: the model here, the page tables that the processor reads, and the host's mapping
//! behind them. Their order is what makes a fault exact. Rights are taken from the tables first, and the host's call
//! on the same range then has KVM forget what it had; rights are given by the host first. What is replaced has no
//! rights in between. KVM does not see a table that is written from the host's side, and needs no more than this.
//!
//! Sources: mmap(2), mprotect(2), mremap(2), brk(2).

use super::errno::Errno;
use super::regions::{Region, Regions};
use super::stub::{self, PROGRAM};
use super::tables::{MORE, MORE_LEN, Rights, Tables};
use super::touch;
use crate::error::{Error, Result, Step};
use crate::kvm::ring3::{self, ProgramVcpu, ProgramVm};
use crate::kvm::{Kvm, Memory};
use crate::sys::program::{Arena, Source, VdsoData, vdso_code};
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;

/// The program's addresses end here; its guest-physical ones fit the 36 bits that every processor has.
pub const ARENA: u64 = 62 << 30;
/// A slot, by guest-physical addresses: added when something in it is mapped. A small program has one, in which the
/// system's memory is as well: for each slot KVM waits for all who read the old list of slots.
const CHUNK: u64 = 64 << 20;
/// Where the first slot ends for the program.
pub const FIRST_END: u64 = CHUNK - PROGRAM;
/// The lowest address that can be mapped, as vm.mmap_min_addr usually is.
pub const LOWEST: u64 = 0x1_0000;
pub const PAGE: u64 = 4096;
const LARGE: u64 = 2 << 20;
/// Mappings from this size on lie behind the first slot.
const LARGE_MAPPING: u64 = 8 << 20;

/// Slots by their numbers: what has no room in the first chunk, the vDSO's data, then the chunks.
const MORE_SLOT: u32 = 0;
const VDSO_SLOT: u32 = 1;
const FIRST_SLOT: u32 = 2;

/// Where things go that say no address.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// Small mappings lie from here downwards.
    top: u64,
    /// The heap begins and ends here.
    pub heap: u64,
    pub heap_end: u64,
}

/// The address space of one process, with the VM that sees it.
pub struct AddressSpace {
    // Declared first, dropped first: KVM lets go of the pages before they are unmapped.
    vm: ProgramVm,
    tables: Tables,
    pub(super) arena: Arc<Arena>,
    pub(super) regions: Regions,
    pub layout: Layout,
    /// The slots that the VM has.
    shown: Vec<bool>,
    has_more: bool,
    /// Whether the program has the vDSO's code.
    has_vdso: bool,
    /// The vDSO's data, once the program has it.
    vdso_data: Option<VdsoData>,
    vcpus: u32,
}

/// The arena, and in front of it the system's memory.
pub fn reserve() -> Result<Arc<Arena>> {
    let arena = Arena::reserve(ARENA, stub::SYSTEM_LEN as usize);
    Ok(Arc::new(arena.map_err(|source| Error::Host { step: Step::AllocateMemory, source })?))
}

impl AddressSpace {
    /// An empty one, and its VM. The VM's descriptors are `lowest` or more.
    pub fn new(kvm: &Kvm, arena: Arc<Arena>, lowest: RawFd) -> Result<AddressSpace> {
        let memory = ring3::system_memory(&arena, stub::SYSTEM, &[(MORE, MORE_LEN)])?;
        let vm = kvm.create_program_vm(Arc::clone(&arena), memory.clone(), lowest)?;
        stub::build(&memory);
        let has_vdso = vdso_code().is_some_and(|code| stub::build_vdso(&memory, code));
        let mut space = AddressSpace {
            vm,
            tables: Tables::new(memory),
            arena,
            regions: Regions::default(),
            layout: Layout { top: 0, heap: 0, heap_end: 0 },
            shown: vec![false; (PROGRAM + ARENA).div_ceil(CHUNK) as usize],
            has_more: false,
            has_vdso,
            vdso_data: None,
            vcpus: 0,
        };
        space.show_chunk(0)?;
        Ok(space)
    }

    /// Gives the program the vDSO's data, if `at` is in it: few programs ask for the time, so that this comes when one
    /// touches it. False if that is not what kept it from there.
    pub fn show_vdso_data(&mut self, at: u64) -> Result<bool> {
        if !self.has_vdso || !stub::is_vdso_data(at) {
            return Ok(false);
        }
        if let Some(data) = self.vdso_data {
            // Another thread may have been faster.
            return Ok(at >= stub::VDSO - data.len);
        }
        let failed = |source| Error::Host { step: Step::AddMemory, source };
        let data = VdsoData::find().map_err(failed)?;
        let place = data.and_then(|data| Some((data, stub::vdso_data(data.len)?)));
        let (data, start) = place.ok_or_else(|| failed(io::Error::other("the vDSO is not in one piece")))?;
        self.vm.show_vdso_data(VDSO_SLOT, start, &data)?;
        stub::map_vdso_data(self.tables.memory(), data.len);
        self.vdso_data = Some(data);
        Ok(at >= start)
    }

    /// The same address space in a new VM: that of a child that fork(2) has made, to whom its parent's VM is of no use.
    pub fn move_to_new_vm(&mut self, kvm: &Kvm, lowest: RawFd) -> Result<()> {
        self.vm = kvm.create_program_vm(Arc::clone(&self.arena), self.tables.memory().clone(), lowest)?;
        self.vcpus = 0;
        if let Some(data) = self.vdso_data.take() {
            stub::unmap_vdso_data(self.tables.memory(), data.len);
        }
        if std::mem::take(&mut self.has_more) {
            self.show_more()?;
        }
        for chunk in 0..self.shown.len() {
            if std::mem::take(&mut self.shown[chunk]) {
                self.show_chunk(chunk as u64)?;
            }
        }
        Ok(())
    }

    fn show_more(&mut self) -> Result<()> {
        if self.tables.has_more() && !self.has_more {
            self.vm.show_system(MORE_SLOT, 1)?;
            self.has_more = true;
        }
        Ok(())
    }

    fn show_chunk(&mut self, chunk: u64) -> Result<()> {
        if !self.shown[chunk as usize] {
            // The first page of the first one is nobody's.
            let start = (chunk * CHUNK).max(stub::SYSTEM);
            let end = ((chunk + 1) * CHUNK).min(PROGRAM + ARENA);
            self.vm.show_arena(FIRST_SLOT + chunk as u32, start, end - start, PROGRAM)?;
            self.shown[chunk as usize] = true;
        }
        Ok(())
    }

    /// The program's memory.
    pub fn arena(&self) -> &Arc<Arena> {
        &self.arena
    }

    /// The VM's descriptor.
    pub fn descriptors(&self) -> [RawFd; 1] {
        [self.vm.descriptor()]
    }

    /// The system's memory.
    pub fn system(&self) -> &Memory {
        self.tables.memory()
    }

    /// Where the vDSO's ELF header is for the program.
    pub fn vdso(&self) -> Option<u64> {
        self.has_vdso.then_some(stub::VDSO)
    }

    /// One more vCPU, and the page that it has for itself. None of them can be given back before the VM is.
    pub fn create_vcpu(&mut self) -> Result<(ProgramVcpu, u64)> {
        if self.vcpus >= stub::VCPUS_MAX {
            return Err(Error::Misuse("there is no room for one more vCPU".into()));
        }
        let vcpu = self.vm.create_vcpu(self.vcpus)?;
        let page = stub::page_of(self.vcpus);
        self.vcpus += 1;
        stub::build_vcpu(self.tables.memory(), page);
        Ok((vcpu, page))
    }

    /// A vCPU for a page that there is already: that of a child's only thread, which is the first one's, or of a vCPU that is
    /// replaced.
    pub fn create_vcpu_again(&mut self) -> Result<ProgramVcpu> {
        self.vcpus += 1;
        self.vm.create_vcpu(self.vcpus - 1)
    }

    /// Takes everything away: the program is about to become another one.
    pub fn clear(&mut self) -> Result<()> {
        self.tables.clear();
        self.regions.clear();
        self.arena
            .unmap(0, ARENA)
            .map_err(|source| Error::Misuse(format!("cannot empty the memory: {source}")))
    }

    /// Where what says no address goes from now on: below `top`, and the heap from `heap` on.
    pub fn set_layout(&mut self, top: u64, heap: u64) {
        self.layout = Layout { top, heap, heap_end: heap };
    }

    /// A free place for `len` bytes: small ones below the layout's top, from there downwards; others behind the first
    /// slot, upwards, at multiples of 2 MiB if they are as large.
    pub(super) fn find(&self, len: u64, below: u64) -> std::result::Result<u64, Errno> {
        if len < LARGE_MAPPING || below <= FIRST_END {
            let (mut end, floor) = (self.layout.top.min(below), self.layout.heap_end + (1 << 20));
            while let Some(start) = end.checked_sub(len).filter(|&start| start >= floor) {
                match self.regions.within(start, end).next() {
                    None => return Ok(start),
                    Some((at, _)) => end = self.regions.start_of(at),
                }
            }
        }
        let align = if len >= LARGE { LARGE } else { PAGE };
        let mut start = CHUNK.max(self.layout.heap.next_multiple_of(CHUNK));
        while start.checked_add(len).is_some_and(|end| end <= below.min(ARENA)) {
            match self.regions.within(start, start + len).last() {
                None => return Ok(start),
                Some((_, region)) => start = self.regions.end_of(region.end - 1).next_multiple_of(align),
            }
        }
        Err(Errno(libc::ENOMEM))
    }

    /// Whole pages: the length rounded up, if all of it can be the program's.
    pub(super) fn range(&self, at: u64, len: u64) -> std::result::Result<(u64, u64), Errno> {
        let len = len.checked_next_multiple_of(PAGE).filter(|&len| len > 0).ok_or(Errno(libc::EINVAL))?;
        match at.is_multiple_of(PAGE) {
            false => Err(Errno(libc::EINVAL)),
            true if at < LOWEST => Err(Errno(libc::EPERM)),
            true if !self.arena.contains(at, len) => Err(Errno(libc::ENOMEM)),
            true => Ok((at, at + len)),
        }
    }

    /// Gives the entries of `start..end` their rights, and the VM what they lead to.
    pub(super) fn give(&mut self, start: u64, end: u64, rights: Rights) -> std::result::Result<(), Errno> {
        let no_room = |_| Errno(libc::ENOMEM);
        if rights.read {
            for chunk in (PROGRAM + start) / CHUNK..(PROGRAM + end).div_ceil(CHUNK) {
                self.show_chunk(chunk).map_err(no_room)?;
            }
        }
        let is_set = self.tables.set(start, end, rights);
        self.show_more().map_err(no_room)?;
        if is_set { Ok(()) } else { Err(Errno(libc::ENOMEM)) }
    }

    /// From now on no more than so many bytes may be mapped to write to: ENOMEM.
    pub fn limit(&mut self, memory: Option<u64>) {
        self.regions.limit = memory;
    }

    /// Maps `source` at exactly `at`, in place of what is there.
    pub fn map_at(
        &mut self,
        at: u64,
        len: u64,
        protection: i32,
        source: Source,
    ) -> std::result::Result<u64, Errno> {
        let (start, end) = self.range(at, len)?;
        let rights = Rights::of(protection);
        if rights.write {
            self.regions.check_memory(start, end, end - start)?;
        }
        if !self.regions.is_free(start, end) {
            self.give(start, end, Rights::NONE)?;
        }
        self.arena.map(start, end - start, rights.on_host(), source)?;
        let is_shared = source.flags & libc::MAP_SHARED != 0;
        let is_anonymous = !is_shared && source.fd < 0;
        self.regions
            .remember(start, Region { end, rights, is_anonymous, is_shared, is_counted: rights.write });
        if is_shared || touch::prepare(&self.arena, start, end, rights, is_anonymous) {
            self.give(start, end, rights)?;
        }
        Ok(start)
    }

    /// The same wherever there is room, at `hint` if it is free; `below` is where the place has to end.
    pub fn map(
        &mut self,
        hint: u64,
        len: u64,
        protection: i32,
        source: Source,
        below: u64,
    ) -> std::result::Result<u64, Errno> {
        let len = len.checked_next_multiple_of(PAGE).filter(|&len| len > 0).ok_or(Errno(libc::EINVAL))?;
        if len > ARENA {
            return Err(Errno(libc::ENOMEM));
        }
        let hint = hint & !(PAGE - 1);
        let fits = hint >= LOWEST && self.arena.contains(hint, len) && hint + len <= below;
        let at = if fits && self.regions.is_free(hint, hint + len) { hint } else { self.find(len, below)? };
        self.map_at(at, len, protection, source)
    }

    /// Maps at `at` only what replaces nothing (MAP_FIXED_NOREPLACE).
    pub fn map_new(
        &mut self,
        at: u64,
        len: u64,
        protection: i32,
        source: Source,
    ) -> std::result::Result<u64, Errno> {
        let (start, end) = self.range(at, len)?;
        match self.regions.is_free(start, end) {
            true => self.map_at(at, len, protection, source),
            false => Err(Errno(libc::EEXIST)),
        }
    }

    /// Gives the program the page at `at`, which it may use and has come to, with those around it that it is likely to
    /// use next: see [`touch`].
    pub fn touch(&mut self, at: u64) -> std::result::Result<(), Errno> {
        let Some((page, region)) = self.regions.within(at & !(PAGE - 1), (at | (PAGE - 1)) + 1).next() else {
            return Ok(());
        };
        if !(region.is_anonymous && region.rights.write) {
            return self.give(page, region.end, region.rights);
        }
        let (start, end) = touch::window(at, self.regions.start_of(at), self.regions.end_of(at));
        self.fill(start, end, region.rights)
    }

    /// Gives the program the part of its stack, from `rsp` on up to `end`, that it uses first.
    pub fn touch_stack(&mut self, rsp: u64, end: u64) -> std::result::Result<(), Errno> {
        let start = (rsp & !(PAGE - 1)) - touch::STACK;
        self.fill(
            start,
            end,
            Rights {
                read: true,
                write: true,
                run: self.regions.rights(start).is_some_and(|rights| rights.run),
            },
        )
    }

    fn fill(&mut self, start: u64, end: u64, rights: Rights) -> std::result::Result<(), Errno> {
        touch::populate(&self.arena, start, end);
        self.give(start, end, rights)
    }

    /// munmap(2).
    pub fn unmap(&mut self, at: u64, len: u64) -> std::result::Result<(), Errno> {
        let len = len.checked_next_multiple_of(PAGE).filter(|&len| len > 0).ok_or(Errno(libc::EINVAL))?;
        if !at.is_multiple_of(PAGE) || !self.arena.contains(at, len) {
            return Err(Errno(libc::EINVAL));
        }
        if !self.regions.is_free(at, at + len) {
            self.give(at, at + len, Rights::NONE)?;
            self.arena.unmap(at, len)?;
            self.regions.forget(at, at + len);
        }
        Ok(())
    }

    /// mprotect(2): as far as the range is mapped, and then ENOMEM.
    pub fn protect(&mut self, at: u64, len: u64, protection: i32) -> std::result::Result<(), Errno> {
        if len == 0 {
            return Ok(());
        }
        let (start, end) = match self.range(at, len) {
            Err(Errno(libc::EPERM)) => return Err(Errno(libc::ENOMEM)),
            range => range?,
        };
        let rights = Rights::of(protection);
        let mut reached = start;
        let regions: Vec<(u64, Region)> = self.regions.within(start, end).collect();
        for (at, region) in regions {
            if at != reached {
                break;
            }
            reached = region.end;
            if region.rights == rights {
                continue;
            }
            if rights.write && !region.is_counted {
                self.regions.check_memory(at, region.end, region.end - at)?;
            }
            self.give(at, region.end, region.rights.and(rights))?;
            self.on_host(at, region.end, region.rights, rights).inspect_err(|_| {
                let _ = self.give(at, region.end, region.rights);
            })?;
            let is_counted = region.is_counted || rights.write;
            self.regions.remember(at, Region { rights, is_counted, ..region });
            // What was nobody's to use has not been touched yet.
            let is_new = region.is_anonymous && !region.rights.read;
            if !is_new || touch::prepare(&self.arena, at, region.end, rights, true) {
                self.give(at, region.end, rights)?;
            }
        }
        if reached == end { Ok(()) } else { Err(Errno(libc::ENOMEM)) }
    }

    /// The host's part of it. Where only the right to run code goes, the host sees no difference and would not tell
    /// KVM, so it is told twice.
    fn on_host(&self, at: u64, end: u64, old: Rights, new: Rights) -> std::result::Result<(), Errno> {
        if old.run && !new.run && old.on_host() == new.on_host() && new.read {
            self.arena.protect(at, end - at, libc::PROT_NONE)?;
        }
        Ok(self.arena.protect(at, end - at, new.on_host())?)
    }

    /// What is mapped.
    pub fn regions(&self) -> &Regions {
        &self.regions
    }

    /// Takes the rights to files from the tables, or gives them back. Nobody is told: so only what no processor has been
    /// at yet faults, with its address.
    pub fn hide_files(&mut self, is_hidden: bool) {
        for (start, end, rights) in self.regions.of_files() {
            self.tables.set(start, end, if is_hidden { Rights::NONE } else { rights });
        }
    }

    /// Gives the rights to one hidden page back.
    pub fn show_page(&mut self, at: u64) {
        let page = at & !(PAGE - 1);
        if let Some(rights) = self.regions.rights(page) {
            self.tables.set(page, page + PAGE, rights);
        }
    }

    /// Every mapping, in the form of /proc/self/maps.
    pub fn maps(&self) -> String {
        self.regions.listed(self.layout.heap)
    }
}
