//! Tests with a driver's end of a queue, well-behaved and hostile.

use super::*;
use crate::device::Device;
use crate::kvm::Buffer;
use proptest::prelude::*;
use vm_memory::{Bytes, GuestAddress};

const SIZE: u16 = 8;
const MEMORY: usize = 0x2_0000;
const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

/// A driver of one device, with a place for each queue's parts and for what its buffers hold.
pub(crate) struct Driver<D> {
    pub memory: Memory,
    pub transport: Transport<D>,
    /// How many chains each queue has been given, and how many it has given back, by queue.
    given: Vec<u16>,
    taken: Vec<u16>,
}

impl<D: VirtioDevice> Driver<D> {
    /// Where the buffers are that a test may fill: everything from here to the end of memory.
    pub const BUFFERS: u64 = 0x1_0000;

    /// One that has set up each of the device's queues, and wants these features.
    pub fn new(device: D, features: u64) -> Driver<D> {
        let memory = Memory::from_ranges(&[(GuestAddress(0), MEMORY)]).unwrap();
        let count = device.queues().len();
        let transport = Transport::new(device, memory.clone());
        let mut driver = Driver { memory, transport, given: vec![0; count], taken: vec![0; count] };
        driver.start(features | feature::VERSION_1);
        driver
    }

    pub fn start(&mut self, features: u64) {
        self.set(0x70, 0);
        (self.given, self.taken) = (vec![0; self.given.len()], vec![0; self.given.len()]);
        self.set(0x70, 1 | 2);
        for half in 0..2 {
            self.set(0x24, half);
            self.set(0x20, (features >> (32 * half)) as u32);
        }
        self.set(0x70, 1 | 2 | 8);
        for queue in 0..self.given.len() as u32 {
            self.memory.write_slice(&[0; 0x1000], GuestAddress(self.base(queue as usize))).unwrap();
            self.set(0x30, queue);
            self.set(0x38, SIZE.into());
            for (register, offset) in [(0x80, 0), (0x90, 0x400), (0xa0, 0x800)] {
                self.set(register, (self.base(queue as usize) + offset) as u32);
            }
            self.set(0x44, 1);
        }
        self.set(0x70, 1 | 2 | 8 | 4);
    }

    fn base(&self, queue: usize) -> u64 {
        0x1000 * (1 + queue as u64)
    }

    pub fn get(&mut self, register: u64) -> u32 {
        let mut data = [0; 4];
        self.transport.read(register, &mut data);
        u32::from_le_bytes(data)
    }

    pub fn set(&mut self, register: u64, value: u32) {
        assert_eq!(self.transport.write(register, &value.to_le_bytes()), crate::device::Action::Continue);
    }

    /// Writes descriptor `index` of a queue.
    pub fn describe(&mut self, queue: usize, index: u16, descriptor: (u64, u32, u16, u16)) {
        let at = self.base(queue) + 16 * u64::from(index);
        self.write_descriptor(at, descriptor);
    }

    pub fn write_descriptor(&mut self, at: u64, (address, len, flags, next): (u64, u32, u16, u16)) {
        let rest = u64::from(len) | u64::from(flags) << 32 | u64::from(next) << 48;
        let bytes = [address.to_le_bytes(), rest.to_le_bytes()].concat();
        self.memory.write_slice(&bytes, GuestAddress(at)).unwrap();
    }

    /// Makes the chain available that begins at `head`.
    pub fn give(&mut self, queue: usize, head: u16) {
        let given = self.given[queue];
        let ring = GuestAddress(self.base(queue) + 0x404 + 2 * u64::from(given % SIZE));
        self.memory.write_obj(head, ring).unwrap();
        self.given[queue] = given.wrapping_add(1);
        self.memory.write_obj(self.given[queue], GuestAddress(self.base(queue) + 0x402)).unwrap();
    }

    /// Makes a chain of these buffers available, those to read first, and notifies the device.
    pub fn send(&mut self, queue: usize, readable: &[Buffer], writable: &[Buffer]) {
        let all =
            readable.iter().map(|buffer| (buffer, 0)).chain(writable.iter().map(|buffer| (buffer, WRITE)));
        let count = readable.len() + writable.len();
        for (index, (buffer, flags)) in all.enumerate() {
            let flags = flags | if index + 1 < count { NEXT } else { 0 };
            self.describe(queue, index as u16, (buffer.address, buffer.len, flags, index as u16 + 1));
        }
        self.give(queue, 0);
        self.set(0x50, queue as u32);
    }

    /// What the device has given back next: the head of the chain, and how many bytes were written.
    pub fn take(&mut self, queue: usize) -> Option<(u32, u32)> {
        let used: u16 = self.memory.read_obj(GuestAddress(self.base(queue) + 0x802)).unwrap();
        let taken = self.taken[queue];
        if used == taken {
            return None;
        }
        let element = self.base(queue) + 0x804 + 8 * u64::from(taken % SIZE);
        self.taken[queue] = taken.wrapping_add(1);
        let [head, len] = self.memory.read_obj(GuestAddress(element)).unwrap();
        Some((head, len))
    }

    /// Which event the driver waits for: `used_event`.
    pub fn wait_for(&mut self, queue: usize, event: u16) {
        let at = self.base(queue) + 0x404 + 2 * u64::from(SIZE);
        self.memory.write_obj(event, GuestAddress(at)).unwrap();
    }

    pub fn is_broken(&mut self) -> bool {
        self.get(0x70) & 64 != 0
    }
}

/// Gives each chain back with what it could read, or as many bytes as it can write.
#[derive(Default)]
struct Echo {
    seen: Vec<(u32, u32)>,
    activated: Option<u64>,
    resets: u32,
    has_changed: bool,
}

impl VirtioDevice for Echo {
    fn name(&self) -> &'static str {
        "Echo"
    }
    fn id(&self) -> u32 {
        0x2a
    }
    fn features(&self) -> u64 {
        1 << 5
    }
    fn queues(&self) -> &[u16] {
        &[SIZE, 4 * SIZE]
    }
    fn activate(&mut self, features: u64) {
        self.activated = Some(features);
    }
    fn reset(&mut self) {
        self.resets += 1;
    }
    fn take_config_change(&mut self) -> bool {
        std::mem::take(&mut self.has_changed)
    }
    fn notify(&mut self, index: usize, queues: &mut Queues<'_>) -> Result<(), Broken> {
        while let Some(chain) = queues.pop(index)? {
            let mut data = vec![0; chain.readable_len() as usize];
            assert_eq!(chain.read(queues.memory(), 0, &mut data), data.len());
            let written = chain.write(queues.memory(), 0, &data);
            self.seen.push((chain.readable_len(), chain.writable_len()));
            queues.push(index, &chain, written as u32)?;
        }
        Ok(())
    }
}

const fn buffer(address: u64, len: u32) -> Buffer {
    Buffer { address, len }
}

const HERE: u64 = Driver::<Echo>::BUFFERS;

fn echo(features: u64) -> Driver<Echo> {
    Driver::new(Echo::default(), features)
}

#[test]
fn a_driver_finds_what_it_looks_for() {
    let mut driver = echo(0);
    let registers = [0x00, 0x04, 0x08].map(|register| driver.get(register));
    assert_eq!(registers, [u32::from_le_bytes(*b"virt"), 2, 0x2a]);
    driver.set(0x14, 0);
    assert_eq!(driver.get(0x10), 1 << 5 | 1 << 28 | 1 << 29);
    driver.set(0x14, 1);
    assert_eq!(driver.get(0x10), 1);
    driver.set(0x14, 2);
    assert_eq!(driver.get(0x10), 0);
    for (queue, max) in [(0, SIZE), (1, 4 * SIZE), (2, 0)] {
        driver.set(0x30, queue);
        assert_eq!(driver.get(0x34), u32::from(max));
        assert_eq!(driver.get(0x44), u32::from(queue < 2));
    }
    assert_eq!((driver.get(0xb0), driver.get(0xbc)), (u32::MAX, u32::MAX), "no shared memory");
    assert_eq!(driver.transport.device().activated, Some(feature::VERSION_1));
}

#[test]
fn what_was_sent_comes_back_and_interrupts_until_it_is_acknowledged() {
    let mut driver = echo(0);
    driver.memory.write_slice(b"hello world", GuestAddress(HERE)).unwrap();
    driver.send(
        0,
        &[buffer(HERE, 6), buffer(HERE + 6, 5)],
        &[buffer(HERE + 0x100, 4), buffer(HERE + 0x200, 50)],
    );
    assert_eq!((driver.take(0), driver.take(0)), (Some((0, 11)), None));
    let (mut first, mut second) = ([0; 4], [0; 7]);
    driver.memory.read_slice(&mut first, GuestAddress(HERE + 0x100)).unwrap();
    driver.memory.read_slice(&mut second, GuestAddress(HERE + 0x200)).unwrap();
    assert_eq!((&first, &second), (b"hell", b"o world"));
    assert!(driver.transport.interrupt());
    assert_eq!(driver.get(0x60), 1);
    driver.set(0x64, 1);
    assert!(!driver.transport.interrupt());
}

#[test]
fn a_queue_goes_round_and_its_indices_wrap() {
    let mut driver = echo(0);
    for number in 0..70_000_u32 {
        let index = (number % u32::from(SIZE)) as u16;
        driver.describe(0, index, (HERE, number % 5, 0, 0));
        driver.give(0, index);
        driver.set(0x50, 0);
        assert_eq!(driver.take(0), Some((index.into(), 0)));
    }
    assert_eq!(driver.transport.device().seen.len(), 70_000);
}

#[test]
fn a_driver_that_polls_is_not_interrupted() {
    let mut driver = echo(0);
    driver.memory.write_obj(1_u16, GuestAddress(0x1400)).unwrap();
    driver.send(0, &[buffer(HERE, 1)], &[]);
    assert!(driver.take(0).is_some() && !driver.transport.interrupt());
}

#[test]
fn with_event_idx_the_driver_is_interrupted_at_the_event_it_names() {
    let mut driver = echo(feature::EVENT_IDX);
    driver.wait_for(0, 2);
    for expected in [false, false, true, false] {
        driver.send(0, &[buffer(HERE, 1)], &[]);
        assert_eq!(driver.transport.interrupt(), expected);
        driver.set(0x64, 3);
    }
    // And the device names the next one it wants to be told of.
    let event: u16 = driver.memory.read_obj(GuestAddress(0x1804 + 8 * u64::from(SIZE))).unwrap();
    assert_eq!(event, 4);
}

#[test]
fn a_table_of_descriptors_is_a_chain() {
    let mut driver = echo(feature::INDIRECT_DESC);
    let table = HERE + 0x1000;
    driver.write_descriptor(table, (HERE, 3, NEXT, 2));
    driver.write_descriptor(table + 32, (HERE + 0x100, 8, WRITE, 0));
    driver.describe(0, 5, (table, 48, INDIRECT, 0));
    driver.give(0, 5);
    driver.set(0x50, 0);
    assert_eq!(driver.take(0), Some((5, 3)));
    assert_eq!(driver.transport.device().seen, [(3, 8)]);
}

#[test]
fn each_broken_rule_needs_a_reset_after_which_all_is_well() {
    let end = MEMORY as u64;
    let far = [
        ("behind memory", (end, 1, 0, 0)),
        ("across its end", (end - 1, 2, 0, 0)),
        ("around the top", (u64::MAX, 2, 0, 0)),
        ("a table behind memory", (end, 16, INDIRECT, 0)),
        ("a table of no length", (HERE, 0, INDIRECT, 0)),
        ("a table that is cut", (HERE, 24, INDIRECT, 0)),
        ("a table with a follower", (HERE, 16, INDIRECT | NEXT, 1)),
        ("a follower that is none", (HERE, 1, NEXT, SIZE)),
        ("its own tail", (HERE, 1, NEXT, 0)),
        ("a table in a table", (HERE + 0x1000, 16, INDIRECT, 0)),
        ("more to read after what is to be written", (HERE, 1, WRITE | NEXT, 1)),
        ("4 GiB", (HERE, u32::MAX, NEXT, 1)),
    ];
    let mut driver = echo(feature::INDIRECT_DESC);
    for (what, descriptor) in far {
        driver.start(feature::INDIRECT_DESC | feature::VERSION_1);
        driver.write_descriptor(HERE + 0x1000, (HERE, 16, INDIRECT, 0));
        driver.describe(0, 1, (HERE, 1, 0, 0));
        driver.describe(0, 0, descriptor);
        driver.give(0, 0);
        driver.set(0x50, 0);
        assert!(driver.is_broken(), "{what}");
        assert_eq!(driver.get(0x60), 2, "{what}: a change of the configuration is told");
        let before = driver.transport.device().seen.len();
        driver.set(0x50, 1);
        assert_eq!(driver.transport.device().seen.len(), before, "{what}: nothing is done any more");
    }
    driver.start(feature::VERSION_1);
    driver.send(0, &[buffer(HERE, 1)], &[]);
    assert!(!driver.is_broken() && driver.take(0).is_some());
}

#[test]
fn a_table_is_refused_that_was_not_agreed_upon() {
    let mut driver = echo(0);
    driver.write_descriptor(HERE, (HERE, 1, 0, 0));
    driver.describe(0, 0, (HERE, 16, INDIRECT, 0));
    driver.give(0, 0);
    driver.set(0x50, 0);
    assert!(driver.is_broken());
}

#[test]
fn more_available_than_the_queue_holds_is_refused() {
    let mut driver = echo(0);
    driver.memory.write_obj(SIZE + 1, GuestAddress(0x1402)).unwrap();
    driver.set(0x50, 0);
    assert!(driver.is_broken() && driver.transport.device().seen.is_empty());
}

#[test]
fn features_that_were_not_offered_are_not_agreed_upon() {
    for features in [0, feature::VERSION_1 | 1 << 6, 1 << 5] {
        let mut driver = echo(0);
        driver.start(features);
        assert_eq!(driver.get(0x70) & (8 | 4), 0, "{features:#x}");
        driver.send(0, &[buffer(HERE, 1)], &[]);
        assert_eq!(driver.take(0), None);
    }
}

#[test]
fn nothing_is_done_before_the_driver_is_ready_or_after_a_reset() {
    let mut driver = echo(0);
    driver.set(0x70, 0);
    assert_eq!(driver.transport.device().resets, 2);
    driver.send(0, &[buffer(HERE, 1)], &[]);
    assert_eq!((driver.take(0), driver.get(0x70), driver.transport.interrupt()), (None, 0, false));
}

#[test]
fn a_queue_that_cannot_be_is_refused() {
    // Size, and where its three parts are.
    let wrong = [
        (0, [0x1000, 0x1400, 0x1800]),
        (3, [0x1000, 0x1400, 0x1800]),
        (2 * SIZE, [0x1000, 0x1400, 0x1800]),
        (SIZE, [0x1008, 0x1400, 0x1800]),
        (SIZE, [0x1000, 0x1401, 0x1800]),
        (SIZE, [0x1000, 0x1400, 0x1802]),
        (SIZE, [MEMORY as u32 - 16, 0x1400, 0x1800]),
        (SIZE, [0x1000, MEMORY as u32 - 4, 0x1800]),
        (SIZE, [0x1000, 0x1400, MEMORY as u32]),
    ];
    for (size, parts) in wrong {
        let mut driver = echo(0);
        driver.set(0x30, 0);
        driver.set(0x44, 0);
        driver.set(0x38, size.into());
        for (register, address) in [0x80, 0x90, 0xa0].into_iter().zip(parts) {
            driver.set(register, address);
        }
        driver.set(0x44, 1);
        assert!(driver.get(0x44) == 0 && driver.is_broken(), "{size} {parts:x?}");
    }
}

#[test]
fn a_change_of_the_configuration_is_told_with_another_generation() {
    let mut driver = echo(0);
    let before = driver.get(0xfc);
    driver.transport.poll();
    assert_eq!((driver.get(0xfc), driver.get(0x60)), (before, 0));
    driver.transport.device_mut().has_changed = true;
    driver.transport.poll();
    assert_ne!(driver.get(0xfc), before);
    assert_eq!(driver.get(0x60), 2);
}

#[test]
fn registers_are_not_read_or_written_by_other_widths() {
    let mut driver = echo(0);
    let mut byte = [0xff];
    driver.transport.read(0, &mut byte);
    assert_eq!(byte, [0]);
    let _ = driver.transport.write(0x70, &[0]);
    assert_ne!(driver.get(0x70), 0);
}

#[test]
fn random_bytes_fill_a_buffer_and_differ() {
    let mut driver = Driver::new(super::Rng::new(), 0);
    let mut seen = Vec::new();
    for _ in 0..2 {
        driver.send(0, &[], &[buffer(HERE, 16), buffer(HERE + 0x100, 1000)]);
        assert_eq!(driver.take(0), Some((0, 256)));
        let mut bytes = [0; 16];
        driver.memory.read_slice(&mut bytes, GuestAddress(HERE)).unwrap();
        seen.push(bytes);
    }
    assert_ne!(seen[0], seen[1]);
    assert!(seen.iter().all(|bytes| bytes != &[0; 16]));
}

#[test]
fn a_part_of_buffers_is_the_bytes_that_are_asked_for() {
    let buffers = [buffer(100, 4), buffer(200, 1), buffer(300, 5)];
    assert_eq!(chain::part(&buffers, 0, 10), buffers);
    assert_eq!(chain::part(&buffers, 3, 3), [buffer(103, 1), buffer(200, 1), buffer(300, 1)]);
    assert_eq!(chain::part(&buffers, 5, u32::MAX), [buffer(300, 5)]);
    assert_eq!(chain::part(&buffers, 10, 1), []);
}

proptest! {
    /// Whatever a guest writes to registers and rings, nothing but its memory is touched, and what a device sees is sound.
    #[test]
    fn a_hostile_driver_harms_nobody(
        features in prop::sample::select(vec![0, feature::INDIRECT_DESC, feature::EVENT_IDX, feature::INDIRECT_DESC | feature::EVENT_IDX]),
        descriptors in prop::collection::vec((0..MEMORY as u64 + 64, 0..5000_u32, 0..8_u16, 0..SIZE + 2), SIZE as usize),
        tables in prop::collection::vec((0..MEMORY as u64 + 64, 0..5000_u32, 0..8_u16, 0..SIZE + 2), 32),
        accesses in prop::collection::vec((0..0x110_u64, any::<u32>(), 0..4_u32), 0..60),
    ) {
        let mut driver = echo(features);
        for (index, descriptor) in descriptors.into_iter().enumerate() {
            let (address, len, flags, next) = descriptor;
            // Half of the tables are where there are some.
            let address = if flags & INDIRECT != 0 && len & 1 != 0 { HERE } else { address };
            driver.describe(0, index as u16, (address, len, flags, next));
        }
        for (index, descriptor) in tables.into_iter().enumerate() {
            driver.write_descriptor(HERE + 16 * index as u64, descriptor);
        }
        for (register, value, kind) in accesses {
            match kind {
                0 => driver.give(0, value as u16 % (SIZE + 1)),
                1 => driver.set(0x50, 0),
                2 => driver.set(register & !3, value),
                _ => {
                    let mut data = [0; 8];
                    driver.transport.read(register, &mut data[..1 << (value & 3)]);
                    let _ = driver.transport.write(register, &data[..1 << (value & 3)]);
                }
            }
            driver.transport.poll();
            driver.transport.interrupt();
        }
        for &(readable, writable) in &driver.transport.device().seen {
            prop_assert!(readable.checked_add(writable).is_some());
        }
        // A reset makes all of it good.
        driver.start(feature::VERSION_1);
        driver.send(0, &[buffer(HERE, 1)], &[]);
        prop_assert!(driver.take(0) == Some((0, 0)) && !driver.is_broken());
    }
}
