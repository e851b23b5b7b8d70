//! A disk (section 5.2): sectors of 512 bytes that lie in a file or on a block device of the host.
//!
//! ```text
//!   request: type, sector │ data to write     ─▶ Store ─▶ pwritev, fdatasync, fallocate …
//!                         │ data read, status ◀─
//! ```
//!
//! A write that is answered is in the host's page cache: it outlives this process, however that ends. What a flush has been
//! answered for is on the host's disk. A driver that does not know flushes has every write there before it is answered.
//!
//! A host's disk takes its time, and what works on a queue must not wait. So [`Blk`] hands its chains to a [`Worker`], which
//! the caller gives a thread; without one it serves them where it is asked, for tests.

use super::chain::part;
use super::{Broken, Chain, Queues, VirtioDevice};
use crate::kvm::{Buffer, Memory, read_file, write_file};
use crate::sys::{self, Hole};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Bytes of a sector: what requests count in.
pub const SECTOR: u64 = 512;

// Types of requests (section 5.2.6).
const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;
const DISCARD: u32 = 11;
const WRITE_ZEROES: u32 = 13;

// What a request's last byte says.
const OK: u8 = 0;
const IO_ERROR: u8 = 1;
const UNSUPPORTED: u8 = 2;

// Features (section 5.2.3).
const F_SEG_MAX: u64 = 1 << 2;
const F_READ_ONLY: u64 = 1 << 5;
const F_BLOCK_SIZE: u64 = 1 << 6;
const F_FLUSH: u64 = 1 << 9;
const F_TOPOLOGY: u64 = 1 << 10;
const F_DISCARD: u64 = 1 << 13;
const F_WRITE_ZEROES: u64 = 1 << 14;

/// How long the queue is.
const QUEUE: u16 = 256;
/// The most buffers of a request: the queue's length without header and status.
const SEGMENTS: u32 = QUEUE as u32 - 2;
/// The most sectors of one discard or zeroing: 1 GiB.
const MOST_ZEROED: u32 = 1 << 21;
/// Bytes of a request's header.
const HEADER: u32 = 16;
/// Bytes of the name that GET_ID asks for.
pub const ID: usize = 20;
/// The sizes that blocks have beneath most files: a driver that keeps to these spares the host to read before it writes.
const PHYSICAL_BLOCK_EXPONENT: u8 = 3;

/// Where the sectors are.
pub struct Store {
    file: File,
    sectors: u64,
    is_read_only: bool,
    id: [u8; ID],
    /// The host could not write what it had taken. It says so once, and later that all is well: so that is kept here.
    has_failed: AtomicBool,
}

impl Store {
    /// The first `sectors` sectors of `file`, with a name of up to 20 bytes.
    pub fn new(file: File, sectors: u64, is_read_only: bool, id: &[u8]) -> Store {
        let mut padded = [0; ID];
        padded.iter_mut().zip(id).for_each(|(to, from)| *to = *from);
        Store { file, sectors, is_read_only, id: padded, has_failed: AtomicBool::new(false) }
    }

    /// Does what a chain asks for, and says how many bytes were written to it; `None` for one that is no request.
    fn serve(&self, memory: &Memory, chain: &Chain, is_stable: bool) -> Option<u32> {
        let mut header = [0; HEADER as usize];
        let room = chain.writable_len().checked_sub(1)?;
        if chain.read(memory, 0, &mut header) != header.len() {
            return None;
        }
        let [kind, _, low, high] = words(&header);
        let sector = u64::from(low) | u64::from(high) << 32;
        let data = chain.readable_len().saturating_sub(HEADER);
        let (status, written) = match kind {
            IN => self.read(memory, sector, &part(chain.writable(), 0, room), room),
            OUT => self.write(memory, sector, &part(chain.readable(), HEADER, data), data, is_stable),
            FLUSH => (status(self.flush()), 0),
            GET_ID if room as usize >= ID => (OK, chain.write(memory, 0, &self.id) as u32),
            DISCARD | WRITE_ZEROES => (self.zero(memory, chain, kind, data, is_stable), 0),
            _ => (UNSUPPORTED, 0),
        };
        chain.write(memory, room, &[status]);
        // The status is the last byte: all before it counts as written if any of it is to be seen.
        Some(if written == room { room.saturating_add(1) } else { written })
    }

    /// Where a request of `len` bytes begins, in bytes, if its sectors are there.
    fn place(&self, sector: u64, len: u64) -> Option<u64> {
        let is_whole = len.is_multiple_of(SECTOR);
        let end = sector.checked_add(len >> SECTOR.trailing_zeros())?;
        (is_whole && end <= self.sectors).then(|| sector.wrapping_mul(SECTOR))
    }

    fn read(&self, memory: &Memory, sector: u64, buffers: &[Buffer], len: u32) -> (u8, u32) {
        let Some(at) = self.place(sector, len.into()) else { return (IO_ERROR, 0) };
        let done = whole(buffers, at, len, |rest, at| read_file(memory, rest, self.file.as_fd(), Some(at)));
        if done.is_ok() { (OK, len) } else { (IO_ERROR, 0) }
    }

    fn write(
        &self,
        memory: &Memory,
        sector: u64,
        buffers: &[Buffer],
        len: u32,
        is_stable: bool,
    ) -> (u8, u32) {
        let Some(at) = self.place(sector, len.into()).filter(|_| !self.is_read_only) else {
            return (IO_ERROR, 0);
        };
        let done = whole(buffers, at, len, |rest, at| write_file(memory, rest, self.file.as_fd(), Some(at)));
        (status(done.and_then(|()| self.settle(is_stable))), 0)
    }

    /// Has what was written on the host's disk, for a driver that would not ask.
    fn settle(&self, is_stable: bool) -> io::Result<()> {
        if is_stable { self.flush() } else { Ok(()) }
    }

    /// Has what was written on the host's disk.
    fn flush(&self) -> io::Result<()> {
        let result = self.file.sync_data();
        if result.is_err() {
            self.has_failed.store(true, Ordering::Relaxed);
        }
        match self.has_failed.load(Ordering::Relaxed) {
            true => Err(result.err().unwrap_or_else(|| io::ErrorKind::Other.into())),
            false => Ok(()),
        }
    }

    /// What the file is, to look at what is on it.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Whether nothing can be written.
    pub const fn is_read_only(&self) -> bool {
        self.is_read_only
    }

    /// Gives sectors back to the host, or fills them with zeroes: one range, as the configuration says.
    fn zero(&self, memory: &Memory, chain: &Chain, kind: u32, data: u32, is_stable: bool) -> u8 {
        const UNMAP: u32 = 1;
        let mut range = [0; 16];
        if data != 16 || chain.read(memory, HEADER, &mut range) != range.len() {
            return UNSUPPORTED;
        }
        let [low, high, count, flags] = words(&range);
        // Whoever discards must not say so once more (section 5.2.6.1).
        if flags & !UNMAP != 0 || kind == DISCARD && flags != 0 {
            return UNSUPPORTED;
        }
        let (sector, len) = (u64::from(low) | u64::from(high) << 32, u64::from(count).wrapping_mul(SECTOR));
        let place = self.place(sector, len).filter(|_| !self.is_read_only && count <= MOST_ZEROED);
        let Some(at) = place else { return IO_ERROR };
        if count == 0 {
            return OK;
        }
        let hole = if kind == DISCARD || flags & UNMAP != 0 { Hole::Punch } else { Hole::Zero };
        match sys::make_hole(self.file.as_fd(), hole, at, len) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported && kind == DISCARD => UNSUPPORTED,
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                status(self.write_zeroes(at, len).and_then(|()| self.settle(is_stable)))
            }
            result => status(result.and_then(|()| self.settle(is_stable))),
        }
    }

    /// For a file system without holes.
    fn write_zeroes(&self, mut at: u64, mut left: u64) -> io::Result<()> {
        use std::os::unix::fs::FileExt;
        static ZEROES: [u8; 1 << 16] = [0; 1 << 16];
        while left > 0 {
            let len = left.min(ZEROES.len() as u64);
            self.file.write_all_at(ZEROES.get(..len as usize).unwrap_or_default(), at)?;
            (at, left) = (at.wrapping_add(len), left.wrapping_sub(len));
        }
        Ok(())
    }
}

/// Moves all of `buffers` by as many calls as it takes: each says how many bytes it moved.
fn whole(
    buffers: &[Buffer],
    at: u64,
    len: u32,
    mut step: impl FnMut(&[Buffer], u64) -> io::Result<usize>,
) -> io::Result<()> {
    let mut done = 0_u32;
    let mut rest = None;
    while done < len {
        let now = rest.as_deref().unwrap_or(buffers);
        match step(now, at.wrapping_add(done.into())) {
            // The file is shorter than it was.
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => done = done.saturating_add(count as u32),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if done < len {
            rest = Some(part(buffers, done, u32::MAX));
        }
    }
    Ok(())
}

fn status(result: io::Result<()>) -> u8 {
    if result.is_ok() { OK } else { IO_ERROR }
}

fn words(bytes: &[u8; 16]) -> [u32; 4] {
    let mut words = [0; 4];
    let (chunks, _) = bytes.as_chunks();
    words.iter_mut().zip(chunks).for_each(|(word, chunk)| *word = u32::from_le_bytes(*chunk));
    words
}

/// A disk, as its driver sees it.
pub struct Blk {
    config: [u8; 60],
    features: u64,
    service: Service,
}

/// Who does what is asked for.
enum Service {
    /// The caller, at once.
    Here(Store, bool),
    /// A thread.
    Elsewhere(Arc<Desk>),
}

impl Blk {
    /// A disk that serves each request where it is asked to: the caller waits for the host.
    pub fn waiting(store: Store) -> Blk {
        let (config, features) = describe(&store);
        Blk { config, features, service: Service::Here(store, false) }
    }

    /// A disk, and the worker that has to be given a thread.
    pub fn new(store: Store) -> (Blk, Worker) {
        let (config, features) = describe(&store);
        let desk = Arc::new(Desk::default());
        let blk = Blk { config, features, service: Service::Elsewhere(Arc::clone(&desk)) };
        (blk, Worker { store, desk })
    }
}

/// Its configuration space (section 5.2.4) and its features.
fn describe(store: &Store) -> ([u8; 60], u64) {
    let mut config = [0; 60];
    let mut put = |at: usize, bytes: &[u8]| {
        config.iter_mut().skip(at).zip(bytes).for_each(|(to, from)| *to = *from);
    };
    put(0, &store.sectors.to_le_bytes());
    put(12, &SEGMENTS.to_le_bytes());
    put(20, &(SECTOR as u32).to_le_bytes());
    put(24, &[PHYSICAL_BLOCK_EXPONENT]);
    // Discards and zeroings: how many sectors, how many ranges, and in which steps.
    let limits = [MOST_ZEROED, 1, 1 << PHYSICAL_BLOCK_EXPONENT, MOST_ZEROED, 1];
    for (at, limit) in [36, 40, 44, 48, 52].into_iter().zip(limits) {
        put(at, &limit.to_le_bytes());
    }
    // To fill with zeroes may give sectors back.
    put(56, &[1]);
    let features = F_SEG_MAX | F_BLOCK_SIZE | F_TOPOLOGY | F_FLUSH;
    (config, features | if store.is_read_only { F_READ_ONLY } else { F_DISCARD | F_WRITE_ZEROES })
}

impl VirtioDevice for Blk {
    fn name(&self) -> &'static str {
        "Blk"
    }

    fn id(&self) -> u32 {
        2
    }

    fn features(&self) -> u64 {
        self.features
    }

    fn queues(&self) -> &[u16] {
        &[QUEUE]
    }

    fn config(&self, offset: u64, data: &mut [u8]) {
        for (byte, at) in data.iter_mut().zip(offset..) {
            *byte = usize::try_from(at).ok().and_then(|at| self.config.get(at)).copied().unwrap_or(0);
        }
    }

    fn activate(&mut self, features: u64) {
        let now = features & F_FLUSH == 0;
        match &mut self.service {
            Service::Here(_, is_stable) => *is_stable = now,
            Service::Elsewhere(desk) => desk.papers().is_stable = now,
        }
    }

    /// What is being served is waited for, as no byte of the guest's memory may change after the reset.
    fn reset(&mut self) {
        if let Service::Elsewhere(desk) = &self.service {
            let mut papers = desk.papers();
            papers.asked.clear();
            let mut papers = desk.wait_while(papers, |papers| papers.is_busy);
            papers.answered.clear();
        }
    }

    fn notify(&mut self, index: usize, queues: &mut Queues<'_>) -> Result<(), Broken> {
        match &self.service {
            Service::Here(store, is_stable) => {
                while let Some(chain) = queues.pop(index)? {
                    let written = store.serve(queues.memory(), &chain, *is_stable).ok_or(Broken::Request)?;
                    queues.push(index, &chain, written)?;
                }
            }
            Service::Elsewhere(desk) => {
                let mut papers = desk.papers();
                let was_idle = papers.asked.is_empty();
                while let Some(chain) = queues.pop(index)? {
                    papers.asked.push(chain);
                }
                if papers.memory.is_none() {
                    papers.memory = Some(queues.memory().clone());
                }
                if was_idle && !papers.asked.is_empty() && !papers.is_busy {
                    desk.changed.notify_all();
                }
            }
        }
        Ok(())
    }

    fn poll(&mut self, queues: &mut Queues<'_>) -> Result<(), Broken> {
        let Service::Elsewhere(desk) = &self.service else { return Ok(()) };
        let answered = std::mem::take(&mut desk.papers().answered);
        for (chain, written) in answered {
            queues.push(0, &chain, written.ok_or(Broken::Request)?)?;
        }
        Ok(())
    }
}

impl Drop for Blk {
    fn drop(&mut self) {
        if let Service::Elsewhere(desk) = &self.service {
            desk.papers().is_over = true;
            desk.changed.notify_all();
        }
    }
}

/// Where a disk and its worker meet.
#[derive(Default)]
struct Desk {
    papers: Mutex<Papers>,
    changed: Condvar,
}

#[derive(Default)]
struct Papers {
    asked: Vec<Chain>,
    /// Each with how many bytes were written; `None` if it was no request.
    answered: Vec<(Chain, Option<u32>)>,
    memory: Option<Memory>,
    /// Every write is to be on the host's disk before it is answered.
    is_stable: bool,
    /// The worker has chains that are in neither list.
    is_busy: bool,
    /// The disk is gone.
    is_over: bool,
}

impl Desk {
    fn papers(&self) -> MutexGuard<'_, Papers> {
        self.papers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_while<'a>(
        &self,
        papers: MutexGuard<'a, Papers>,
        condition: impl FnMut(&mut Papers) -> bool,
    ) -> MutexGuard<'a, Papers> {
        self.changed.wait_while(papers, condition).unwrap_or_else(PoisonError::into_inner)
    }
}

/// What serves the requests of a [`Blk`].
pub struct Worker {
    store: Store,
    desk: Arc<Desk>,
}

impl Worker {
    /// Serves requests until the disk is gone. After each lot calls `ring`, which has the disk
    /// [look for news](VirtioDevice::poll).
    pub fn run(self, ring: impl Fn()) {
        loop {
            let papers = self.desk.papers();
            let is_idle = |papers: &mut Papers| papers.asked.is_empty() && !papers.is_over;
            let mut papers = self.desk.wait_while(papers, is_idle);
            // What was asked for before the machine ended is done, as on a real disk.
            if papers.asked.is_empty() {
                return;
            }
            let chains = std::mem::take(&mut papers.asked);
            let (memory, is_stable) = (papers.memory.clone(), papers.is_stable);
            papers.is_busy = true;
            drop(papers);
            let serve = |chain: Chain| {
                let written = memory.as_ref().and_then(|memory| self.store.serve(memory, &chain, is_stable));
                (chain, written)
            };
            let answers: Vec<_> = chains.into_iter().map(serve).collect();
            let mut papers = self.desk.papers();
            papers.answered.extend(answers);
            papers.is_busy = false;
            drop(papers);
            self.desk.changed.notify_all();
            ring();
        }
    }
}

#[cfg(test)]
mod tests;
