//! Faults that other loaders had, by the number of their advisory: each file that hurt them is refused here, at once
//! and by name. What has no number is fuzzed (`tests/library/fuzz.rs`).

use matchstick::GuestAddress;
use matchstick::boot::{self, Payload, Protocol};
use matchstick::error::ImageError;
use matchstick::kvm::Memory;
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
