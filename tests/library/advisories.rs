//! Faults that other loaders and devices had, by the number of their advisory: each file that hurt them is refused here, at
//! once and by name, and each driver that did needs a reset. What has no number is fuzzed (`tests/library/fuzz.rs`).

use matchstick::boot::{self, Payload, Protocol};
use matchstick::device::{Action, Device};
use matchstick::error::ImageError;
use matchstick::kvm::Memory;
use matchstick::virtio::Transport;
use matchstick::virtio::blk::{Blk, Store};
use matchstick::{Bytes, GuestAddress};
use std::time::{Duration, Instant};

/// Where the kernels would be loaded, in bytes from address 0.
const BASE: u32 = 0x10_0000;

/// Tries to load `image`, and expects to be told why not.
fn refused(protocol: Protocol, image: &[u8]) -> ImageError {
    let memory = Memory::from_ranges(&[(GuestAddress(0), 4 << 20)]).unwrap();
    let begin = Instant::now();
    let result = boot::load(Some(protocol), &Payload { image, ..Payload::default() }, &memory);
    assert!(begin.elapsed() < Duration::from_secs(1));
    result.expect_err("it was loaded")
}

/// An ELF64 file with one segment of four bytes at 1 MiB: a file header of 64 bytes, a program header of 56.
fn elf() -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    for half in [2_u16, 62] {
        file.extend(half.to_le_bytes()); // e_type, e_machine
    }
    file.extend(1_u32.to_le_bytes()); // e_version
    for word in [u64::from(BASE), 64, 0] {
        file.extend(word.to_le_bytes()); // e_entry, e_phoff, e_shoff
    }
    file.extend(0_u32.to_le_bytes()); // e_flags
    for half in [64_u16, 56, 1, 0, 0, 0] {
        file.extend(half.to_le_bytes()); // e_ehsize, e_phentsize, e_phnum, and no sections
    }
    for word in [1_u32, 7] {
        file.extend(word.to_le_bytes()); // p_type: PT_LOAD, p_flags
    }
    for word in [120_u64, BASE.into(), BASE.into(), 4, 4, 4] {
        file.extend(word.to_le_bytes()); // p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_align
    }
    file.extend(*b"code");
    file
}

/// Offsets of the fields that the advisories are about.
const E_PHOFF: usize = 32;
const P_OFFSET: usize = 64 + 8;
const P_PADDR: usize = 64 + 24;
const P_FILESZ: usize = 64 + 32;

/// The same file with another number at `field`.
fn elf_with(field: usize, value: u64) -> Vec<u8> {
    let mut file = elf();
    file[field..field + 8].copy_from_slice(&value.to_le_bytes());
    file
}

#[test]
fn the_file_itself_is_in_order() {
    let (image, memory) = (elf(), Memory::from_ranges(&[(GuestAddress(0), 4 << 20)]).unwrap());
    let payload = Payload { image: &image, ..Payload::default() };
    assert_eq!(boot::load(Some(Protocol::Elf), &payload, &memory).unwrap().rip, u64::from(BASE));
}

/// linux-loader before 0.8.1 read without end where headers point behind the end of the file.
#[test]
fn cve_2022_23523() {
    for value in [125, 1 << 32, u64::MAX - 64, u64::MAX] {
        for field in [E_PHOFF, P_OFFSET, P_FILESZ] {
            let error = refused(Protocol::Elf, &elf_with(field, value));
            assert!(
                matches!(error, ImageError::Truncated { .. } | ImageError::Damaged { .. }),
                "{field}: {error:?}"
            );
        }
    }
}

/// QEMU copied a segment whose address and size did not go together.
#[test]
fn cve_2020_13765() {
    for address in [(4 << 20) - 3, u64::MAX - 3, u64::MAX] {
        let error = refused(Protocol::Elf, &elf_with(P_PADDR, address));
        assert!(
            matches!(error, ImageError::Outside { .. } | ImageError::Damaged { .. }),
            "{address:#x}: {error:?}"
        );
    }
}

/// A Multiboot kernel whose header says where its parts are: header, load, load end, BSS end, entry.
fn multiboot(addresses: [u32; 5]) -> Vec<u8> {
    const MAGIC: u32 = 0x1bad_b002;
    const HAS_ADDRESSES: u32 = 1 << 16;
    let checksum = 0_u32.wrapping_sub(MAGIC).wrapping_sub(HAS_ADDRESSES);
    let words = [MAGIC, HAS_ADDRESSES, checksum].into_iter().chain(addresses);
    words.flat_map(u32::to_le_bytes).chain([0; 32]).collect()
}

/// QEMU wrote outside its memory for header addresses that are below the load address, or far above.
#[test]
fn cve_2017_14167() {
    for header in [0, BASE - 1, BASE + 4096, u32::MAX] {
        refused(Protocol::Multiboot, &multiboot([header, BASE, 0, 0, BASE]));
    }
    refused(Protocol::Multiboot, &multiboot([u32::MAX - 3, u32::MAX - 3, 0, 0, u32::MAX - 3]));
}

/// QEMU wrote outside its memory where the end of what is loaded lies above the end of what is cleared.
#[test]
fn cve_2018_7550() {
    refused(Protocol::Multiboot, &multiboot([BASE, BASE, BASE + 64, BASE + 16, BASE]));
    refused(Protocol::Multiboot, &multiboot([BASE, BASE, BASE - 1, 0, BASE]));
    refused(Protocol::Multiboot, &multiboot([BASE, BASE, 0, u32::MAX, BASE]));
}

/// A virtio disk of eight sectors, its memory of 64 KiB, and a driver that has made a queue of eight: descriptors at 0x1000,
/// what is available at 0x2000, what was used at 0x3000.
struct Disk {
    memory: Memory,
    device: Transport<Blk>,
}

impl Disk {
    fn new() -> Disk {
        let memory = Memory::from_ranges(&[(GuestAddress(0), 1 << 16)]).unwrap();
        let file = tempfile::tempfile().unwrap();
        file.set_len(8 * 512).unwrap();
        let device = Transport::new(Blk::waiting(Store::new(file, 8, false, b"")), memory.clone());
        let mut disk = Disk { memory, device };
        let features = [(0x70, 3), (0x24, 1), (0x20, 1), (0x24, 0), (0x20, 1 << 28), (0x70, 11)];
        let queue =
            [(0x30, 0), (0x38, 8), (0x80, 0x1000), (0x90, 0x2000), (0xa0, 0x3000), (0x44, 1), (0x70, 15)];
        features.into_iter().chain(queue).for_each(|(register, value)| disk.set(register, value));
        disk
    }

    fn set(&mut self, register: u64, value: u32) {
        assert_eq!(self.device.write(register, &value.to_le_bytes()), Action::Continue);
    }

    fn describe(&mut self, index: u64, address: u64, len: u32, flags: u16, next: u16) {
        let bytes =
            [&address.to_le_bytes()[..], &len.to_le_bytes(), &flags.to_le_bytes(), &next.to_le_bytes()]
                .concat();
        self.memory.write_slice(&bytes, GuestAddress(0x1000 + 16 * index)).unwrap();
    }

    /// Makes the chain at descriptor 0 available `count` times, and says whether the device needs a reset.
    fn breaks(&mut self, count: u16) -> bool {
        self.memory.write_obj(count, GuestAddress(0x2002)).unwrap();
        let begin = Instant::now();
        self.set(0x50, 0);
        assert!(begin.elapsed() < Duration::from_secs(1));
        let mut status = [0; 4];
        self.device.read(0x70, &mut status);
        status[0] & 64 != 0
    }
}

/// Firecracker divided by zero, or wrote behind its queues, when their size was changed once they were in use.
#[test]
fn cve_2026_5747() {
    for size in [0, 3, 256, 32768, u32::MAX] {
        let mut disk = Disk::new();
        disk.set(0x38, size);
        disk.set(0xa0, 0xfff0);
        disk.memory.write_slice(&[4], GuestAddress(0x4000)).unwrap();
        disk.describe(0, 0x4000, 16, 1, 1);
        disk.describe(1, 0x5000, 1, 2, 0);
        assert!(!disk.breaks(1));
        let used: u16 = disk.memory.read_obj(GuestAddress(0x3002)).unwrap();
        assert_eq!(used, 1, "the queue is where it was");
    }
}

/// QEMU went on with buffers that were not in memory but a device's: those of the device itself, too.
#[test]
fn cve_2021_3748() {
    for address in [0xd000_0000, 0xfec0_0000, 0xfee0_0000, 0xffff, u64::MAX - 8] {
        let mut disk = Disk::new();
        disk.describe(0, 0x4000, 16, 1, 1);
        disk.describe(1, address, 512, 3, 2);
        disk.describe(2, 0x5000, 1, 2, 0);
        assert!(disk.breaks(1), "{address:#x}");
    }
}

/// QEMU crashed at a buffer of almost 4 GiB.
#[test]
fn cve_2016_7422() {
    for len in [u32::MAX, 0xffff_f000, 0x8000_0000] {
        let mut disk = Disk::new();
        disk.describe(0, 0x4000, 16, 1, 1);
        disk.describe(1, 0x5000, len, 3, 2);
        disk.describe(2, 0x5000, 1, 2, 0);
        assert!(disk.breaks(1), "{len:#x}");
    }
}

/// QEMU took memory for more requests than a queue can hold, from a driver that did not wait for answers.
#[test]
fn cve_2016_5403() {
    for count in [9, 0x8000, u16::MAX] {
        let mut disk = Disk::new();
        disk.describe(0, 0x4000, 16, 1, 1);
        disk.describe(1, 0x5000, 1, 2, 0);
        assert!(disk.breaks(count), "{count}");
    }
}
