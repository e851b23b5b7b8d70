//! Golden images: a machine as a file, from which any number of machines go on.
//!
//! ```text
//!   Machine ──snapshot──▶ Snapshot ──save──▶ golden.ms ──open──▶ Snapshot
//!                            │
//!                            └─restore──▶ Machine, Machine, Machine …   (MAP_PRIVATE of one file)
//! ```
//!
//! The file is described in docs/snapshots.md, together with what the machines that come from one image have in
//! common: that is more than most guests expect.

mod diff;
mod error;
mod format;
mod memory;
mod pool;
mod running;

use crate::error::{Error, ImageError, Result, Step};
use crate::kvm::{Call, Kvm, Memory, allocate, map_file};
use crate::machine::{Config, Machine, State, StateError};
use crate::sys;
use crate::sys::replace::{Access, Replacement};
use crate::text::shown;
use crate::timeline::{Phase, Probe};
use crate::x86::cpuid;
use format::{Header, ReadError};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use vm_memory::{Bytes, GuestAddress};

pub use error::{ProcessError, SnapshotError};
pub use format::{Limits, MAGIC, VERSION};
pub use memory::PAGE;
pub use pool::{Cleaned, Pool};

/// A machine at one moment, in a file of its own: on disk, or only in memory.
pub struct Snapshot {
    name: String,
    file: Arc<File>,
    header: Header,
    state: State,
    /// Whether this host can run it, once that was found out.
    fits: OnceLock<()>,
    /// The pages of a small image, by number, once they were read.
    small: OnceLock<Vec<(u64, Vec<u8>)>>,
}

/// The most pages of an image that are copied into each machine.
const COPIED_MAX: u64 = 32;

/// What is wrong with devices that no machine of ours has.
const FOREIGN_DEVICES: ImageError = ImageError::Damaged {
    what: "the list of devices in the golden image",
    why: "it is not that of such a machine, or one does not take what it is to remember",
};

impl Machine {
    /// Saves the machine as it is now: one that has been stopped, by its probe, a
    /// [`Remote`](crate::machine::Remote) or its time, or has not yet been run. It can be run on afterwards.
    ///
    /// # Errors
    /// [`SnapshotError::State`] if the guest has ended, or has a device that does not tell its state.
    pub fn snapshot(&mut self) -> std::result::Result<Snapshot, SnapshotError> {
        let file = sys::memory_file().map_err(|source| Error::Host { step: Step::MemoryFile, source })?;
        let state = self.state()?;
        format::write(&file, &state, self.memory())
            .map_err(|source| Error::Host { step: Step::CopyMemory, source })?;
        Ok(Snapshot::read("the snapshot", file, &Limits::NONE)?)
    }

    /// A machine that goes on from `snapshot`; what its guest writes to the serial port goes to `output`.
    pub fn restore(snapshot: &Snapshot, output: Box<dyn Write + Send>) -> Result<Machine> {
        snapshot.start(&Kvm::open()?, &Config::default(), output)
    }
}

impl Snapshot {
    /// Opens a golden image of a machine that is not larger than `limits` allow. Its state is read and checked; its memory
    /// is read when it is used.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Image`] for a file that is something else, damaged, or of a newer version.
    pub fn open(path: &Path, limits: &Limits) -> Result<Snapshot> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                Error::NotFound { path: path.into(), source }
            }
            _ => Error::Unreadable { path: path.into(), source },
        };
        // Asked before it is opened: to open a pipe is to wait for its writer.
        let metadata = fs::metadata(path).map_err(failed)?;
        if !metadata.is_file() {
            let source = io::Error::other("it is not a regular file");
            return Err(Error::Unreadable { path: path.into(), source });
        }
        let file = File::open(path).map_err(failed)?;
        Snapshot::read(&shown(path), file, limits)
    }

    /// The same for a file that is open.
    pub fn read(name: &str, file: File, limits: &Limits) -> Result<Snapshot> {
        let (header, state) =
            format::read(&file, limits).map_err(|error| Snapshot::cannot_read(name, error))?;
        Ok(Snapshot {
            name: name.into(),
            file: Arc::new(file),
            header,
            state,
            fits: OnceLock::new(),
            small: OnceLock::new(),
        })
    }

    /// The state in `bytes`, which are an image or its beginning; its memory may be missing. Does all checks that need no
    /// KVM: for fuzzing.
    pub fn decode(bytes: &[u8]) -> Result<State> {
        let name = "the image";
        let (_, state) = format::decode(bytes, u64::MAX, &Limits::NONE)
            .map_err(|error| Snapshot::cannot_read(name, error))?;
        state.check_devices().map_err(|_| Error::Image { name: name.into(), source: FOREIGN_DEVICES })?;
        Ok(state)
    }

    fn cannot_read(name: &str, error: ReadError) -> Error {
        match error {
            ReadError::Io(source) => Error::Unreadable { path: name.into(), source },
            ReadError::Image(source) => Error::Image { name: name.into(), source },
        }
    }

    /// Whether `file` begins as a golden image does.
    pub fn is_one(file: &File) -> bool {
        let mut magic = [0; MAGIC.len()];
        file.read_exact_at(&mut magic, 0).is_ok() && Snapshot::begins(&magic)
    }

    /// Whether `bytes` do.
    pub fn begins(bytes: &[u8]) -> bool {
        bytes.starts_with(&MAGIC)
    }

    /// Reads all of the memory and compares it with its digest.
    pub fn verify(&self) -> Result<()> {
        let read = memory::digest(&self.file, self.header.memory_offset, self.state.memory);
        let digest = read.map_err(|source| Error::Host { step: Step::ReadImage, source })?;
        if digest == (self.header.pages, self.header.memory_digest) {
            return Ok(());
        }
        let source = ImageError::Damaged { what: "its memory", why: "it is not what its digest says" };
        Err(Error::Image { name: self.name.clone(), source })
    }

    /// Writes the image to `path`. Only its owner may read it, as it holds all that the guest's memory held. It is there when
    /// it is whole; what was there before stays until then.
    pub fn save(&self, path: &Path) -> Result<()> {
        self.save_unless(path, || false)
    }

    /// The same. If `is_over` becomes true meanwhile, it ends with an error, and leaves what was there.
    pub fn save_unless(&self, path: &Path, is_over: fn() -> bool) -> Result<()> {
        let failed = |source| Error::Export { path: path.into(), source };
        let new = Replacement::of(path, Access::Private).map_err(failed)?;
        let (offset, size) = (self.header.memory_offset, self.state.memory);
        memory::copy(&self.file, new.file(), offset, size, is_over).map_err(failed)?;
        match is_over() {
            true => Err(failed(io::ErrorKind::Interrupted.into())),
            false => new.publish().map_err(failed),
        }
    }

    /// Whether [`save`](Self::save) could write its file. To be asked before the guest runs.
    pub fn can_be_saved(path: &Path) -> Result<()> {
        let new = Replacement::of(path, Access::Private);
        new.map(drop).map_err(|source| Error::Export { path: path.into(), source })
    }

    /// A new machine on `kvm` that goes on from here. Of `config` its limits and its sandbox count.
    pub fn start(&self, kvm: &Kvm, config: &Config, output: Box<dyn Write + Send>) -> Result<Machine> {
        self.start_watched(kvm, config, output, &mut ())
    }

    /// The same, watched by `probe`.
    pub fn start_watched<P: Probe>(
        &self,
        kvm: &Kvm,
        config: &Config,
        output: Box<dyn Write + Send>,
        probe: &mut P,
    ) -> Result<Machine> {
        self.check_host(kvm, probe)?;
        probe.mark(Phase::Load);
        let memory = || self.map();
        Machine::from_state(kvm, &self.state, memory, config, output, probe).map_err(|error| match error {
            StateError::Vmm(error) => error,
            _ => Error::Image { name: self.name.clone(), source: FOREIGN_DEVICES },
        })
    }

    /// The memory; what a guest writes there stays its own. A large image is mapped. Of a small one the pages are copied,
    /// which is cheaper: a private mapping costs two faults a page, one to read and one to write, and KVM has to drop
    /// its own entry for the page in between.
    fn map(&self) -> Result<Memory> {
        if self.header.pages > COPIED_MAX {
            return map_file(&self.file, self.header.memory_offset, self.state.memory);
        }
        let failed = |source| Error::Host { step: Step::ReadImage, source };
        let miscounted = || Error::Image {
            name: self.name.clone(),
            source: ImageError::Damaged {
                what: "its memory",
                why: "it has other pages than its header counts",
            },
        };
        let memory = allocate(self.state.memory)?;
        if self.small.get().is_none() {
            let mut pages = Vec::new();
            let mut is_too_many = false;
            let read = memory::each_page(
                &self.file,
                self.header.memory_offset,
                self.state.memory,
                |number, page| {
                    is_too_many = pages.len() as u64 == self.header.pages;
                    if is_too_many {
                        return Err(io::ErrorKind::InvalidData.into());
                    }
                    pages.push((number, page.to_vec()));
                    Ok(())
                },
            );
            if is_too_many || read.is_ok() && pages.len() as u64 != self.header.pages {
                return Err(miscounted());
            }
            read.map_err(failed)?;
            let _ = self.small.set(pages);
        }
        for (number, page) in self.small.get().into_iter().flatten() {
            let at = GuestAddress(memory::address(*number));
            memory.write_slice(page, at).map_err(|error| failed(io::Error::other(error)))?;
        }
        Ok(memory)
    }

    /// Whether this host can give the guest the processor that it was told of by CPUID. A guest without a CPUID table was
    /// told of none.
    fn check_host<P: Probe>(&self, kvm: &Kvm, probe: &mut P) -> Result<()> {
        if self.fits.get().is_some() {
            return Ok(());
        }
        let tables: Vec<_> = self.state.vcpus.iter().filter_map(|vcpu| vcpu.cpuid()).collect();
        if !tables.is_empty() {
            let supported = probe.call(|| Call::SupportedCpuid, || kvm.supported_cpuid())?;
            if let Some(what) = tables.iter().find_map(|table| cpuid::missing(&supported, table)) {
                let source = ImageError::Foreign { what };
                return Err(Error::Image { name: self.name.clone(), source });
            }
        }
        self.fits.get_or_init(|| ());
        Ok(())
    }

    /// What it is called in errors: its path.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Everything but the memory.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// How many pages of memory are in the file; the others are zero.
    pub fn pages(&self) -> u64 {
        self.header.pages
    }
}
