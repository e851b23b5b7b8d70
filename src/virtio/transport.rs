//! The registers of a virtio device at an address of its own: virtio-mmio (section 4.2).
//!
//! What is not here: its address, its pin and its entry in the ACPI tables are the [`Slot`](crate::device::Slot)'s.

use super::queue::Queue;
use super::{Broken, Queues, VirtioDevice, feature};
use crate::device::{Action, Device};
use crate::kvm::Memory;

// Registers (section 4.2.2), each of 32 bits.
const MAGIC_VALUE: u64 = 0x000;
const VERSION: u64 = 0x004;
const DEVICE_ID: u64 = 0x008;
const VENDOR_ID: u64 = 0x00c;
const DEVICE_FEATURES: u64 = 0x010;
const DEVICE_FEATURES_SEL: u64 = 0x014;
const DRIVER_FEATURES: u64 = 0x020;
const DRIVER_FEATURES_SEL: u64 = 0x024;
const QUEUE_SEL: u64 = 0x030;
const QUEUE_SIZE_MAX: u64 = 0x034;
const QUEUE_SIZE: u64 = 0x038;
const QUEUE_READY: u64 = 0x044;
const QUEUE_NOTIFY: u64 = 0x050;
const INTERRUPT_STATUS: u64 = 0x060;
const INTERRUPT_ACK: u64 = 0x064;
const STATUS: u64 = 0x070;
const QUEUE_DESC_LOW: u64 = 0x080;
const QUEUE_DESC_HIGH: u64 = 0x084;
const QUEUE_DRIVER_LOW: u64 = 0x090;
const QUEUE_DRIVER_HIGH: u64 = 0x094;
const QUEUE_DEVICE_LOW: u64 = 0x0a0;
const QUEUE_DEVICE_HIGH: u64 = 0x0a4;
const SHM_LEN_LOW: u64 = 0x0b0;
const SHM_BASE_HIGH: u64 = 0x0bc;
const CONFIG_GENERATION: u64 = 0x0fc;
const CONFIG: u64 = 0x100;

/// "virt"
const MAGIC: u32 = 0x7472_6976;
/// Ours: "MTCH", as no registry has one.
const VENDOR: u32 = 0x4843_544d;

// The device's status (section 2.1).
const FEATURES_OK: u32 = 8;
const DRIVER_OK: u32 = 4;
const DEVICE_NEEDS_RESET: u32 = 64;
/// ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK and FAILED: what a driver can set.
const BY_DRIVER: u32 = 1 | 2 | DRIVER_OK | FEATURES_OK | 128;

// Why there is an interrupt.
const USED_BUFFER: u32 = 1;
const CONFIG_CHANGE: u32 = 2;

/// The registers of a device and its queues.
///
/// [`interrupt`](Device::interrupt) is high while InterruptStatus is not zero.
pub struct Transport<D> {
    device: D,
    memory: Memory,
    queues: Vec<Queue>,
    queue: u32,
    device_features_half: u32,
    driver_features_half: u32,
    driver_features: u64,
    status: u32,
    interrupt_status: u32,
    generation: u32,
}

impl<D: VirtioDevice> Transport<D> {
    /// How many bytes of addresses it takes.
    pub const SIZE: u64 = 0x1000;

    /// `device`, whose queues are in `memory`.
    pub fn new(device: D, memory: Memory) -> Transport<D> {
        let queues = device.queues().iter().map(|&max| Queue::new(max)).collect();
        Transport {
            device,
            memory,
            queues,
            queue: 0,
            device_features_half: 0,
            driver_features_half: 0,
            driver_features: 0,
            status: 0,
            interrupt_status: 0,
            generation: 0,
        }
    }

    /// The device behind the registers.
    pub const fn device(&self) -> &D {
        &self.device
    }

    /// The same, to change it.
    pub const fn device_mut(&mut self) -> &mut D {
        &mut self.device
    }

    fn offered(&self) -> u64 {
        self.device.features() | feature::INDIRECT_DESC | feature::EVENT_IDX | feature::VERSION_1
    }

    /// Whether the driver is ready, and the device is not broken.
    const fn is_live(&self) -> bool {
        self.status & (DRIVER_OK | DEVICE_NEEDS_RESET) == DRIVER_OK
    }

    fn selected(&self) -> Option<&Queue> {
        self.queues.get(self.queue as usize)
    }

    fn read_register(&self, register: u64) -> u32 {
        match register {
            MAGIC_VALUE => MAGIC,
            VERSION => 2,
            DEVICE_ID => self.device.id(),
            VENDOR_ID => VENDOR,
            DEVICE_FEATURES => match self.device_features_half {
                0 => self.offered() as u32,
                1 => (self.offered() >> 32) as u32,
                _ => 0,
            },
            QUEUE_SIZE_MAX => self.selected().map_or(0, |queue| queue.max.into()),
            QUEUE_READY => self.selected().map_or(0, |queue| queue.is_ready.into()),
            INTERRUPT_STATUS => self.interrupt_status,
            STATUS => self.status,
            // There is no shared memory: a length and a base of -1.
            SHM_LEN_LOW..=SHM_BASE_HIGH => u32::MAX,
            CONFIG_GENERATION => self.generation,
            _ => 0,
        }
    }

    fn write_register(&mut self, register: u64, value: u32) {
        match register {
            DEVICE_FEATURES_SEL => self.device_features_half = value,
            DRIVER_FEATURES_SEL => self.driver_features_half = value,
            // Once it is agreed upon, what the driver wants stays.
            DRIVER_FEATURES if self.status & FEATURES_OK == 0 => match self.driver_features_half {
                0 => set_low(&mut self.driver_features, value),
                1 => set_high(&mut self.driver_features, value),
                _ => {}
            },
            QUEUE_SEL => self.queue = value,
            QUEUE_NOTIFY => self.notify(value as usize),
            INTERRUPT_ACK => self.interrupt_status &= !value,
            STATUS => self.set_status(value),
            QUEUE_READY => self.set_ready(value),
            _ => self.set_up_queue(register, value),
        }
    }

    /// A register of the selected queue: as long as it is not ready.
    fn set_up_queue(&mut self, register: u64, value: u32) {
        let queue = self.queues.get_mut(self.queue as usize).filter(|queue| !queue.is_ready);
        let Some(queue) = queue else { return };
        match register {
            // Zero is no size: it is refused when the queue is to be ready.
            QUEUE_SIZE => queue.size = u16::try_from(value).unwrap_or(0),
            QUEUE_DESC_LOW => set_low(&mut queue.descriptors, value),
            QUEUE_DESC_HIGH => set_high(&mut queue.descriptors, value),
            QUEUE_DRIVER_LOW => set_low(&mut queue.available, value),
            QUEUE_DRIVER_HIGH => set_high(&mut queue.available, value),
            QUEUE_DEVICE_LOW => set_low(&mut queue.used, value),
            QUEUE_DEVICE_HIGH => set_high(&mut queue.used, value),
            _ => {}
        }
    }

    /// QueueReady: 1 begins, 0 stops the queue.
    fn set_ready(&mut self, value: u32) {
        let Some(queue) = self.queues.get_mut(self.queue as usize) else { return };
        // Features are agreed upon before queues are made (section 3.1.1).
        let result = match value {
            1 if !queue.is_ready && self.status & FEATURES_OK != 0 => {
                queue.make_ready(&self.memory, self.driver_features)
            }
            0 => {
                *queue = Queue::new(queue.max);
                Ok(())
            }
            _ => Ok(()),
        };
        self.accept(result);
    }

    fn set_status(&mut self, value: u32) {
        if value == 0 {
            self.device.reset();
            self.queues.iter_mut().for_each(|queue| *queue = Queue::new(queue.max));
            (self.status, self.interrupt_status, self.driver_features) = (0, 0, 0);
            (self.queue, self.device_features_half, self.driver_features_half) = (0, 0, 0);
            return;
        }
        // A driver only ever adds to it.
        let mut added = value & BY_DRIVER & !self.status;
        let is_subset = self.driver_features & !self.offered() == 0;
        if !is_subset || self.driver_features & feature::VERSION_1 == 0 {
            added &= !FEATURES_OK;
        }
        if (self.status | added) & FEATURES_OK == 0 {
            added &= !DRIVER_OK;
        }
        self.status |= added;
        if added & DRIVER_OK != 0 {
            self.device.activate(self.driver_features);
        }
    }

    fn notify(&mut self, index: usize) {
        if self.is_live() && index < self.queues.len() {
            self.with_queues(|device, queues| device.notify(index, queues));
        }
    }

    /// Has the device do something with its queues, and interrupts if the driver wants to know.
    fn with_queues(&mut self, body: impl FnOnce(&mut D, &mut Queues<'_>) -> Result<(), Broken>) {
        let mut queues = Queues { queues: &mut self.queues, memory: &self.memory };
        let result = body(&mut self.device, &mut queues);
        self.accept(result);
        for at in 0..self.queues.len() {
            let wanted =
                self.queues.get_mut(at).map_or(Ok(false), |queue| queue.take_interrupt(&self.memory));
            match wanted {
                Ok(true) => self.interrupt_status |= USED_BUFFER,
                Ok(false) => {}
                Err(broken) => self.accept(Err(broken)),
            }
        }
    }

    /// After a rule was broken, only a reset helps (section 2.1.2).
    fn accept(&mut self, result: Result<(), Broken>) {
        if result.is_err() && self.status & DEVICE_NEEDS_RESET == 0 {
            if self.status & DRIVER_OK != 0 {
                self.interrupt_status |= CONFIG_CHANGE;
            }
            self.status |= DEVICE_NEEDS_RESET;
        }
    }
}

const fn set_low(value: &mut u64, low: u32) {
    *value = *value & !0xffff_ffff | low as u64;
}

const fn set_high(value: &mut u64, high: u32) {
    *value = *value & 0xffff_ffff | (high as u64) << 32;
}

impl<D: VirtioDevice> Device for Transport<D> {
    /// Registers are read by 32 bits (section 4.2.2.2), the configuration space by any width.
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        if let Some(offset) = offset.checked_sub(CONFIG) {
            return self.device.config(offset, data);
        }
        let value = self.read_register(offset).to_le_bytes();
        match <&mut [u8; 4]>::try_from(&mut *data) {
            Ok(all) => *all = value,
            Err(_) => data.fill(0),
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Action {
        match (offset.checked_sub(CONFIG), data.first_chunk().filter(|_| data.len() == 4)) {
            (Some(offset), _) => self.device.set_config(offset, data),
            (None, Some(&value)) => self.write_register(offset, u32::from_le_bytes(value)),
            (None, None) => {}
        }
        Action::Continue
    }

    fn interrupt(&self) -> bool {
        self.interrupt_status != 0
    }

    fn name(&self) -> &'static str {
        self.device.name()
    }

    fn poll(&mut self) {
        if self.device.take_config_change() {
            self.generation = self.generation.wrapping_add(1);
            if self.status & DRIVER_OK != 0 {
                self.interrupt_status |= CONFIG_CHANGE;
            }
        }
        if self.is_live() {
            self.with_queues(|device, queues| device.poll(queues));
        }
    }
}
