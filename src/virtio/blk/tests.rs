//! Requests of a driver, and those that no driver would make.

use super::super::tests::Driver;
use super::*;
use proptest::prelude::*;
use std::os::unix::fs::FileExt;
use std::sync::atomic::AtomicU32;
use vm_memory::{Bytes, GuestAddress};

const SECTORS: u64 = 64;
const HERE: u64 = Driver::<Blk>::BUFFERS;
const DATA: u64 = HERE + 0x1000;
const STATUS: u64 = HERE + 0x800;
/// What the status byte is before it is written.
const NONE: u8 = 0xee;

fn file() -> File {
    let file = tempfile::tempfile().unwrap();
    let bytes: Vec<u8> = (0..SECTORS * SECTOR).map(|at| (at / SECTOR) as u8).collect();
    file.write_all_at(&bytes, 0).unwrap();
    file
}

fn store(file: &File, is_read_only: bool) -> Store {
    Store::new(file.try_clone().unwrap(), SECTORS, is_read_only, b"a disk")
}

const fn buffer(address: u64, len: u32) -> Buffer {
    Buffer { address, len }
}

impl Driver<Blk> {
    fn header(&mut self, kind: u32, sector: u64) -> Buffer {
        let bytes = [&kind.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes()].concat();
        self.memory.write_slice(&bytes, GuestAddress(HERE)).unwrap();
        self.memory.write_slice(&[NONE], GuestAddress(STATUS)).unwrap();
        buffer(HERE, 16)
    }

    fn status(&self) -> u8 {
        self.memory.read_obj(GuestAddress(STATUS)).unwrap()
    }

    /// A request whose data the device reads (`out`) or writes: its status.
    fn request(&mut self, kind: u32, sector: u64, out: &[Buffer], back: &[Buffer]) -> u8 {
        let header = self.header(kind, sector);
        let back = [back, &[buffer(STATUS, 1)]].concat();
        self.send(0, &[&[header], out].concat(), &back);
        assert!(self.take(0).is_some());
        self.status()
    }

    fn range(&mut self, kind: u32, sector: u64, count: u32, flags: u32) -> u8 {
        let bytes = [&sector.to_le_bytes()[..], &count.to_le_bytes(), &flags.to_le_bytes()].concat();
        self.memory.write_slice(&bytes, GuestAddress(DATA)).unwrap();
        self.request(kind, 0, &[buffer(DATA, 16)], &[])
    }
}

fn driver(file: &File, is_read_only: bool) -> Driver<Blk> {
    let disk = Blk::waiting(store(file, is_read_only));
    Driver::new(disk, if is_read_only { F_FLUSH | F_READ_ONLY } else { F_FLUSH })
}

#[test]
fn sectors_are_read_and_written_where_they_are() {
    let file = file();
    let mut driver = driver(&file, false);
    let back = [buffer(DATA, 512), buffer(DATA + 0x400, 1024)];
    assert_eq!(driver.request(IN, 5, &[], &back), OK);
    let mut seen = [0; 1024];
    driver.memory.read_slice(&mut seen, GuestAddress(DATA + 0x400)).unwrap();
    assert!(seen[..512].iter().all(|&byte| byte == 6) && seen[512..].iter().all(|&byte| byte == 7));
    driver.memory.write_slice(&[0xaa; 512], GuestAddress(DATA)).unwrap();
    assert_eq!(driver.request(OUT, SECTORS - 1, &[buffer(DATA, 500), buffer(DATA + 500, 12)], &[]), OK);
    assert_eq!(driver.request(FLUSH, 0, &[], &[]), OK);
    let mut end = [0; 1024];
    file.read_exact_at(&mut end, (SECTORS - 2) * SECTOR).unwrap();
    assert!(end[..512].iter().all(|&byte| byte == 62) && end[512..].iter().all(|&byte| byte == 0xaa));
}

#[test]
fn the_disk_says_how_large_it_is_and_what_it_is_called() {
    let file = file();
    let mut driver = driver(&file, false);
    assert_eq!([0x100, 0x104].map(|at| driver.get(at)), [SECTORS as u32, 0]);
    assert_eq!([0x10c, 0x114, 0x130].map(|at| driver.get(at)), [SEGMENTS, 512, MOST_ZEROED]);
    assert_eq!(driver.request(GET_ID, 0, &[], &[buffer(DATA, 20)]), OK);
    let mut id = [0xff; 20];
    driver.memory.read_slice(&mut id, GuestAddress(DATA)).unwrap();
    assert_eq!(&id, b"a disk\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    assert_eq!(driver.request(GET_ID, 0, &[], &[buffer(DATA, 19)]), UNSUPPORTED);
}

#[test]
fn what_lies_beyond_its_end_is_an_error_and_changes_nothing() {
    let file = file();
    let mut driver = driver(&file, false);
    for sector in [SECTORS, SECTORS - 1, u64::MAX, u64::MAX / 512, 1 << 55] {
        for kind in [IN, OUT] {
            let data = &[buffer(DATA, 1024)][..];
            let (out, back) = if kind == OUT { (data, &[][..]) } else { (&[][..], data) };
            assert_eq!(driver.request(kind, sector, out, back), IO_ERROR, "{kind} at {sector}");
        }
        for kind in [DISCARD, WRITE_ZEROES] {
            assert_eq!(driver.range(kind, sector, 2, 0), IO_ERROR, "{kind} at {sector}");
        }
    }
    assert_eq!(driver.request(OUT, 0, &[buffer(DATA, 511)], &[]), IO_ERROR, "a part of a sector");
    assert_eq!(driver.range(WRITE_ZEROES, 0, MOST_ZEROED + 1, 0), IO_ERROR);
    assert_eq!(file.metadata().unwrap().len(), SECTORS * SECTOR);
}

#[test]
fn sectors_become_zeroes() {
    for (kind, flags) in [(DISCARD, 0), (WRITE_ZEROES, 0), (WRITE_ZEROES, 1)] {
        let file = file();
        let mut driver = driver(&file, false);
        assert_eq!(driver.range(kind, 8, 16, flags), OK);
        let mut all = [0; (SECTORS * SECTOR) as usize];
        file.read_exact_at(&mut all, 0).unwrap();
        for (sector, bytes) in (0..).zip(all.chunks(SECTOR as usize)) {
            let expected = if (8..24).contains(&sector) { 0 } else { sector };
            assert!(bytes.iter().all(|&byte| byte == expected), "{kind}: {sector}");
        }
        assert_eq!(driver.range(kind, 8, 0, flags), OK, "none at all");
    }
    let mut driver = driver(&file(), false);
    for (kind, flags) in [(DISCARD, 1), (DISCARD, 2), (WRITE_ZEROES, 2)] {
        assert_eq!(driver.range(kind, 8, 16, flags), UNSUPPORTED);
    }
}

#[test]
fn a_disk_that_is_only_read_says_so_and_stays_as_it_is() {
    let file = file();
    let mut driver = driver(&file, true);
    driver.set(0x14, 0);
    let offered = driver.get(0x10);
    assert_eq!(offered & (F_READ_ONLY | F_DISCARD | F_WRITE_ZEROES) as u32, F_READ_ONLY as u32);
    assert_eq!(driver.request(IN, 3, &[], &[buffer(DATA, 512)]), OK);
    assert_eq!(driver.request(OUT, 3, &[buffer(HERE + 0x3000, 512)], &[]), IO_ERROR);
    for kind in [DISCARD, WRITE_ZEROES] {
        assert_eq!(driver.range(kind, 3, 1, 0), IO_ERROR);
    }
    let mut sector = [0; 512];
    file.read_exact_at(&mut sector, 3 * SECTOR).unwrap();
    assert_eq!(sector, [3; 512]);
}

#[test]
fn a_file_that_became_shorter_or_cannot_be_written_is_the_guests_io_error() {
    let file = file();
    let mut driver = driver(&file, false);
    file.set_len(10 * SECTOR).unwrap();
    assert_eq!(driver.request(IN, 9, &[], &[buffer(DATA, 1024)]), IO_ERROR);
    assert_eq!(driver.request(IN, 9, &[], &[buffer(DATA, 512)]), OK);
    // The device that is always full.
    let full = File::options().read(true).write(true).open("/dev/full").unwrap();
    let mut driver = Driver::new(Blk::waiting(Store::new(full, SECTORS, false, b"")), F_FLUSH);
    assert_eq!(driver.request(OUT, 0, &[buffer(DATA, 512)], &[]), IO_ERROR);
    assert_eq!(driver.request(FLUSH, 0, &[], &[]), IO_ERROR, "no such thing there");
}

#[test]
fn requests_that_are_none_break_the_queue_or_are_refused() {
    let file = file();
    let mut driver = driver(&file, false);
    assert_eq!(driver.request(99, 0, &[], &[]), UNSUPPORTED);
    assert_eq!(driver.request(IN, 0, &[], &[]), OK, "no sectors at all");
    for (readable, writable) in [(15, 1), (16, 0), (0, 1)] {
        driver.start(crate::virtio::feature::VERSION_1 | F_FLUSH);
        driver.send(0, &[buffer(HERE, readable)], &[buffer(STATUS, writable)]);
        assert!(driver.is_broken(), "{readable} {writable}");
    }
}

/// Waits for the answer of a worker, as a guest does for its interrupt.
fn answer(driver: &mut Driver<Blk>) -> (u32, u32) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        crate::device::Device::poll(&mut driver.transport);
        if let Some(answer) = driver.take(0) {
            return answer;
        }
        assert!(std::time::Instant::now() < deadline, "no answer");
        std::thread::yield_now();
    }
}

#[test]
fn a_worker_answers_and_rings_and_ends_with_its_disk() {
    let file = file();
    let (disk, worker) = Blk::new(store(&file, false));
    let rings = Arc::new(AtomicU32::new(0));
    let heard = Arc::clone(&rings);
    let thread = std::thread::spawn(move || {
        worker.run(|| {
            heard.fetch_add(1, Ordering::SeqCst);
        });
    });
    let mut driver = Driver::new(disk, F_FLUSH);
    for sector in 0..SECTORS {
        let header = driver.header(IN, sector);
        driver.send(0, &[header], &[buffer(DATA, 512), buffer(STATUS, 1)]);
        assert_eq!((answer(&mut driver), driver.status()), ((0, 513), OK));
        assert_eq!(driver.memory.read_obj::<u8>(GuestAddress(DATA + 511)).unwrap(), sector as u8);
    }
    driver.start(crate::virtio::feature::VERSION_1 | F_FLUSH);
    let header = driver.header(FLUSH, 0);
    driver.send(0, &[header], &[buffer(STATUS, 1)]);
    assert_eq!((answer(&mut driver), driver.status()), ((0, 1), OK));
    drop(driver);
    thread.join().unwrap();
    assert_eq!(rings.load(Ordering::SeqCst), SECTORS as u32 + 1);
}

#[test]
fn after_a_reset_nothing_is_answered_or_written_to_memory() {
    let file = file();
    for _ in 0..200 {
        let (disk, worker) = Blk::new(store(&file, false));
        let thread = std::thread::spawn(move || worker.run(|| {}));
        let mut driver = Driver::new(disk, F_FLUSH);
        let header = driver.header(IN, 1);
        driver.send(0, &[header], &[buffer(DATA, 512), buffer(STATUS, 1)]);
        driver.start(crate::virtio::feature::VERSION_1 | F_FLUSH);
        driver.memory.write_slice(&[0x77; 512], GuestAddress(DATA)).unwrap();
        crate::device::Device::poll(&mut driver.transport);
        assert_eq!(driver.take(0), None);
        drop(driver);
        thread.join().unwrap();
    }
}

proptest! {
    /// Any requests: the disk holds what a model of it holds, whatever was asked before.
    #[test]
    fn a_disk_is_what_was_written_to_it(
        requests in prop::collection::vec((0..5_u32, 0..SECTORS + 4, 0..5_u32, any::<u8>()), 1..60),
    ) {
        let file = file();
        let mut driver = driver(&file, false);
        let mut model: Vec<u8> = (0..SECTORS).map(|sector| sector as u8).collect();
        for (kind, sector, count, byte) in requests {
            let end = sector + u64::from(count);
            let fits = end <= SECTORS;
            let expected = if fits { OK } else { IO_ERROR };
            let range = sector as usize..end as usize;
            let len = count * SECTOR as u32;
            match kind {
                0 => {
                    prop_assert_eq!(driver.request(IN, sector, &[], &[buffer(DATA, len)]), expected);
                    if fits {
                        let mut seen = vec![0; len as usize];
                        driver.memory.read_slice(&mut seen, GuestAddress(DATA)).unwrap();
                        let wanted = model[range].iter().flat_map(|&byte| [byte; SECTOR as usize]);
                        prop_assert!(seen.into_iter().eq(wanted));
                    }
                }
                1 | 2 => {
                    driver.memory.write_slice(&vec![byte; len as usize], GuestAddress(DATA)).unwrap();
                    prop_assert_eq!(driver.request(OUT, sector, &[buffer(DATA, len)], &[]), expected);
                    if fits {
                        model[range].fill(byte);
                    }
                }
                _ => {
                    let kind = if kind == 3 { DISCARD } else { WRITE_ZEROES };
                    prop_assert_eq!(driver.range(kind, sector, count, 0), expected);
                    if fits {
                        model[range].fill(0);
                    }
                }
            }
        }
        let mut all = vec![0; (SECTORS * SECTOR) as usize];
        file.read_exact_at(&mut all, 0).unwrap();
        prop_assert!(all.into_iter().eq(model.iter().flat_map(|&byte| [byte; SECTOR as usize])));
    }
}
