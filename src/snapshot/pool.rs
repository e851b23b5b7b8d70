//! Machines that are used again and again: for those who start guests by the million.
//!
//! To make a machine is mostly KVM's work. So one that has run is put back to where its image was and kept, and that is
//! done when it is given back, not when it is wanted: a start from the pool is a `KVM_RUN`.
//!
//! What the guest wrote to is found in /proc/self/pagemap: these are pages that are not, or no longer, those of a
//! file. They are compared with the image, and copied back where they differ. That keeps KVM's own tables, which
//! dropping the pages (madvise(2)) would not.

use super::{PAGE, Snapshot};
use crate::error::{Error, Result, Step};
use crate::kvm::{Kvm, Memory, VcpuState};
use crate::machine::{Config, Machine, State};
use crate::sys;
use crate::x86::page_table::{ACCESSED, ADDRESS, DIRTY, Paging, PagingMode};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

/// What became of a machine that was given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cleaned {
    /// So many of its pages were written back, and it will be used again.
    Pages(usize),
    /// It was taken down and another one made, as its guest had changed its page tables.
    Anew,
}

/// Machines from one image, ready to run.
pub struct Pool<'a> {
    snapshot: &'a Snapshot,
    kvm: Kvm,
    config: Config,
    /// The image's memory, for comparison.
    golden: Memory,
    /// Pages of it that hold page tables; `None` if they cannot be followed.
    tables: Option<BTreeSet<u64>>,
    /// All of a machine's state, with what a new one has anyway.
    state: State,
    ready: Vec<Machine>,
}

impl<'a> Pool<'a> {
    /// A pool with `count` machines that are ready. Of `config` its limits and its sandbox count.
    pub fn new(snapshot: &'a Snapshot, config: &Config, count: usize) -> Result<Pool<'a>> {
        let kvm = Kvm::open()?;
        let golden = snapshot.map()?;
        let mut first = snapshot.start(&kvm, config, Box::new(io::sink()))?;
        let state = first.whole_state()?;
        let tables = page_tables(&golden, &snapshot.state.vcpus);
        let mut pool =
            Pool { snapshot, kvm, config: config.clone(), golden, tables, state, ready: vec![first] };
        while pool.ready.len() < count.max(1) {
            let machine = pool.new_machine()?;
            pool.ready.push(machine);
        }
        Ok(pool)
    }

    fn new_machine(&self) -> Result<Machine> {
        self.snapshot.start(&self.kvm, &self.config, Box::new(io::sink()))
    }

    /// A machine at the moment of its image: one that is ready, or else a new one. What its guest writes to the
    /// serial port goes to `output`.
    pub fn take(&mut self, output: Box<dyn Write + Send>) -> Result<Machine> {
        let mut machine = match self.ready.pop() {
            Some(machine) => machine,
            None => self.new_machine()?,
        };
        machine.set_output(output);
        Ok(machine)
    }

    /// Takes back a machine that came from here, wherever it has come to, and puts it where its image is.
    pub fn give_back(&mut self, mut machine: Machine) -> Result<Cleaned> {
        let changed = self.changed_pages(&machine)?;
        if !self.may_stay(&mut machine, &changed)? {
            drop(machine);
            let new = self.new_machine()?;
            self.ready.push(new);
            return Ok(Cleaned::Anew);
        }
        let mut page = [0; PAGE];
        for &at in &changed {
            self.golden.read_slice(&mut page, GuestAddress(at)).map_err(outside)?;
            machine.memory().write_slice(&page, GuestAddress(at)).map_err(outside)?;
        }
        machine.rewind(&self.state)?;
        self.ready.push(machine);
        Ok(Cleaned::Pages(changed.len()))
    }

    /// The addresses of the pages that are not as they were in the image.
    fn changed_pages(&self, machine: &Machine) -> Result<Vec<u64>> {
        let (mut was, mut is) = ([0; PAGE], [0; PAGE]);
        let mut changed = Vec::new();
        let failed = |source| Error::Host { step: Step::WrittenPages, source };
        let pagemap = File::open("/proc/self/pagemap").map_err(failed)?;
        for region in machine.memory().iter() {
            let pages = (region.len() / PAGE as u64) as usize;
            let own = sys::own_pages(&pagemap, region.as_ptr() as usize, pages).map_err(failed)?;
            for number in own {
                let at = region.start_addr().0 + (number * PAGE) as u64;
                self.golden.read_slice(&mut was, GuestAddress(at)).map_err(outside)?;
                machine.memory().read_slice(&mut is, GuestAddress(at)).map_err(outside)?;
                if was != is {
                    changed.push(at);
                }
            }
        }
        Ok(changed)
    }

    /// Whether KVM's view of the guest's page tables will be right when `changed` is undone. Where it shadows them,
    /// it sees what the guest writes to them, not what we do. So they have to be the image's own, but for the bits
    /// that say which entries were used.
    fn may_stay(&self, machine: &mut Machine, changed: &[u64]) -> Result<bool> {
        const USED: u64 = ACCESSED | DIRTY;
        let Some(tables) = &self.tables else { return Ok(false) };
        if !machine.has_page_tables_of(&self.state)? {
            return Ok(false);
        }
        let (mut was, mut is) = ([0; PAGE], [0; PAGE]);
        for &at in changed.iter().filter(|at| tables.contains(at)) {
            self.golden.read_slice(&mut was, GuestAddress(at)).map_err(outside)?;
            machine.memory().read_slice(&mut is, GuestAddress(at)).map_err(outside)?;
            if entries(&was).zip(entries(&is)).any(|(was, is)| (was ^ is) & !USED != 0) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn outside(error: vm_memory::GuestMemoryError) -> Error {
    Error::Misuse(format!("the guest's memory is not what it was: {error}"))
}

/// The addresses of all pages that hold page tables of these vCPUs. `None` where entries have 4 bytes: tables of those
/// are not compared.
fn page_tables(memory: &Memory, vcpus: &[VcpuState]) -> Option<BTreeSet<u64>> {
    let mut tables = BTreeSet::new();
    for sregs in vcpus.iter().filter_map(VcpuState::sregs) {
        let paging = Paging::of(&sregs);
        if paging.mode == PagingMode::Bits32 {
            return None;
        }
        // A PDPT of PAE does not begin its page.
        tables.extend(paging.tables(memory).into_iter().map(|table| table & ADDRESS));
    }
    Some(tables)
}

/// The entries of a page table.
fn entries(table: &[u8; PAGE]) -> impl Iterator<Item = u64> {
    table.as_chunks().0.iter().map(|&entry| u64::from_le_bytes(entry))
}
