//! Machines that are used again instead of made again, for those who start very many guests.
//!
//! Most of the time of a start is KVM's, for making the machine. So a machine that has run is put back into the state
//! of its image. That happens when it is given back, and not when it is taken, so that a start from the pool needs only a
//! `KVM_RUN`.
//!
//! /proc/self/pagemap tells which pages the guest wrote to: those that do not belong to the image's file any more. They
//! are compared with the image, and copied back where they differ. KVM's own tables for the guest stay valid then; if
//! the pages were dropped (madvise(2)), KVM would have to build them again.

use super::{PAGE, Snapshot, SnapshotError};
use crate::error::{self, Error, Step};
use crate::kvm::{Kvm, Memory, VcpuState};
use crate::machine::{Config, Machine, State};
use crate::sys;
use crate::x86::page_table::{ACCESSED, ADDRESS, DIRTY, Paging, PagingMode};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

/// How a machine that was given back was put into the state of its image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cleaned {
    /// This many of its pages were written back, and it will be used again.
    Pages(usize),
    /// It was replaced by a new one, because its guest had changed its page tables.
    Anew,
}

/// Machines from one image, ready to run.
pub struct Pool<'a> {
    snapshot: &'a Snapshot,
    kvm: Kvm,
    config: Config,
    /// The image's memory, for comparison.
    golden: Memory,
    /// The addresses of its pages that hold page tables; `None` if these cannot be compared.
    tables: Option<BTreeSet<u64>>,
    /// All of a machine's state, including values that a new machine has as well.
    state: State,
    ready: Vec<Machine>,
}

impl<'a> Pool<'a> {
    /// A pool with `count` machines that are ready. Of `config`, only the limits and the sandbox are used.
    pub fn new(snapshot: &'a Snapshot, config: &Config, count: usize) -> Result<Pool<'a>, SnapshotError> {
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

    fn new_machine(&self) -> error::Result<Machine> {
        self.snapshot.start(&self.kvm, &self.config, Box::new(io::sink()))
    }

    /// A machine at the moment of its image: one that is ready, or else a new one. What its guest writes to the
    /// serial port goes to `output`.
    pub fn take(&mut self, output: Box<dyn Write + Send>) -> error::Result<Machine> {
        let mut machine = match self.ready.pop() {
            Some(machine) => machine,
            None => self.new_machine()?,
        };
        machine.set_output(output);
        Ok(machine)
    }

    /// Takes back a machine that came from this pool, and puts it into the state of its image.
    pub fn give_back(&mut self, mut machine: Machine) -> Result<Cleaned, SnapshotError> {
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
    fn changed_pages(&self, machine: &Machine) -> error::Result<Vec<u64>> {
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

    /// Whether the machine can be used again when the pages `changed` are written back.
    ///
    /// A KVM with shadow page tables notices when the guest writes to its page tables, and not when we do. So the
    /// guest's page tables must be those of the image already, except the bits that say which entries were used.
    fn may_stay(&self, machine: &mut Machine, changed: &[u64]) -> error::Result<bool> {
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

/// The addresses of all pages that hold page tables of these vCPUs. `None` with 32-bit paging: entries of 4 bytes are
/// not compared here.
fn page_tables(memory: &Memory, vcpus: &[VcpuState]) -> Option<BTreeSet<u64>> {
    let mut tables = BTreeSet::new();
    for sregs in vcpus.iter().filter_map(VcpuState::sregs) {
        let paging = Paging::of(&sregs);
        if paging.mode == PagingMode::Bits32 {
            return None;
        }
        // The PDPT of PAE paging can lie anywhere in its page.
        tables.extend(paging.tables(memory).into_iter().map(|table| table & ADDRESS));
    }
    Some(tables)
}

/// The entries of a page table.
fn entries(table: &[u8; PAGE]) -> impl Iterator<Item = u64> {
    table.as_chunks().0.iter().map(|&entry| u64::from_le_bytes(entry))
}
