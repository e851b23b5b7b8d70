//! A differential test: our loaders and linux-loader's place the same random images, and must put the same bytes at the
//! same addresses and enter them at the same place, wherever both claim to follow the same document.
//!
//! Where they differ on purpose, and why ours is so (linux-loader 0.14):
//!
//! | | linux-loader | here | because |
//! |---|---|---|---|
//! | segments that overlap | the later one wins | refused | no linker makes them; what is lost would crash far from the cause |
//! | the part of a segment that is not in the file | not looked at | must lie in memory | the kernel will write to it |
//! | class, machine and type of an ELF file | not looked at | must be x86-64's, of something that runs | another processor's code |
//! | an entry outside all segments | taken | refused | it would run zeroes |
//! | where a bzImage goes | `code32_start` | `pref_address` | the 64-bit protocol; a kernel moves itself there from elsewhere |
//! | `code32_start` in the zero page | set to where the kernel is | as the file has it | only the 32-bit entry reads it |
//! | a `pref_address` that is not aligned | not looked at | refused | boot.rst, `kernel_alignment` |
//! | a bzImage without a 64-bit entry | loaded | refused | it is entered in long mode |
//! | a command line | printable ASCII | any bytes but zero | the kernel takes any, and file names have them |
//!
//! So the images below have none of that: segments that keep apart, of a machine that fits, and kernels that are to be
//! where they prefer to be.

use linux_loader::cmdline::Cmdline;
use linux_loader::loader::bootparam::setup_header;
use linux_loader::loader::elf::PvhBootCapability;
use linux_loader::loader::{BzImage, Elf, KernelLoader, KernelLoaderResult, load_cmdline};
use matchstick::boot::{self, Payload, Protocol};
use matchstick::kvm::Memory;
use matchstick::x86::Entry;
use matchstick::x86::layout::{CMDLINE, ZERO_PAGE};
use matchstick::{Bytes, GuestAddress};
use proptest::prelude::*;
use std::io::Cursor;
use std::mem::offset_of;
use vm_memory::ByteValued;

/// Guest memory, in bytes. What our loaders place besides the image lies below [`BASE`].
const MEMORY: usize = 4 << 20;
/// Where kernels begin.
const BASE: u64 = 1 << 20;

fn memory() -> Memory {
    Memory::from_ranges(&[(GuestAddress(0), MEMORY)]).unwrap()
}

fn bytes_at(memory: &Memory, start: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    memory.read_slice(&mut bytes, GuestAddress(start)).unwrap();
    bytes
}

/// Loads `image` with ours and with `L`: how ours enters it, and what the oracle tells. The memory is compared.
fn load_both<L: KernelLoader>(protocol: Protocol, image: &[u8]) -> (Entry, KernelLoaderResult, Memory) {
    let (ours, oracle) = (memory(), memory());
    let payload = Payload { image, ..Payload::default() };
    let entry = boot::load(Some(protocol), &payload, &ours).unwrap();
    let told = L::load(&oracle, None, &mut Cursor::new(image), Some(GuestAddress(BASE))).unwrap();
    let len = MEMORY - BASE as usize;
    let (ours_at, oracle_at) = (bytes_at(&ours, BASE, len), bytes_at(&oracle, BASE, len));
    if ours_at != oracle_at {
        let at = ours_at.iter().zip(&oracle_at).position(|(ours, oracle)| ours != oracle).unwrap();
        panic!("at {:#x} are {:#04x} and {:#04x}", BASE + at as u64, ours_at[at], oracle_at[at]);
    }
    (entry, told, ours)
}

/// A program header, and the bytes it names.
#[derive(Debug, Clone)]
struct Segment {
    kind: u32,
    address: u64,
    bytes: Vec<u8>,
    size: u64,
}

const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;

/// An ELF64 file (gABI, chapters 4 and 5): headers, `gap` bytes, then the segments' bytes.
fn elf(entry: u64, segments: &[Segment], gap: usize) -> Vec<u8> {
    let mut image = b"\x7fELF\x02\x01\x01".to_vec();
    image.resize(16, 0);
    for half in [2_u16, 62] {
        image.extend(half.to_le_bytes()); // e_type, e_machine
    }
    image.extend(1_u32.to_le_bytes()); // e_version
    for word in [entry, 64, 0] {
        image.extend(word.to_le_bytes()); // e_entry, e_phoff, e_shoff
    }
    image.extend(0_u32.to_le_bytes()); // e_flags
    for half in [64, 56, segments.len() as u16, 0, 0, 0] {
        image.extend(half.to_le_bytes()); // e_ehsize, e_phentsize, e_phnum, and no sections
    }
    let mut offset = 64 + 56 * segments.len() + gap;
    for segment in segments {
        for word in [segment.kind, 7] {
            image.extend(word.to_le_bytes()); // p_type, p_flags
        }
        let (address, in_file) = (segment.address, segment.bytes.len() as u64);
        // p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_align: that the virtual address differs is usual in a kernel
        for word in [offset as u64, address | 0xffff_ffff_8000_0000, address, in_file, segment.size, 4] {
            image.extend(word.to_le_bytes());
        }
        offset += segment.bytes.len();
    }
    image.resize(image.len() + gap, 0xee);
    image.extend(segments.iter().flat_map(|segment| &segment.bytes));
    image
}

/// A note: sizes, type, name and description, each filled up to four bytes.
fn note(name: &[u8], kind: u32, description: &[u8]) -> Vec<u8> {
    let mut note = Vec::new();
    for word in [name.len() as u32, description.len() as u32, kind] {
        note.extend(word.to_le_bytes());
    }
    for part in [name, description] {
        note.extend(part);
        note.resize(note.len().next_multiple_of(4), 0);
    }
    note
}

prop_compose! {
    /// Segments from [`BASE`] on that keep apart, in any order in the file. The first has code for the entry.
    fn segments()(
        parts in prop::collection::vec((0_u64..0x9000, prop::collection::vec(any::<u8>(), 16..0x3000), 0_u64..0x4000), 1..6),
    )(
        order in Just((0..parts.len()).collect::<Vec<_>>()).prop_shuffle(),
        parts in Just(parts),
    ) -> Vec<Segment> {
        let mut at = BASE;
        let placed: Vec<Segment> = parts.into_iter().map(|(gap, bytes, more)| {
            let address = at + gap;
            let size = bytes.len() as u64 + more;
            at = address + size;
            Segment { kind: PT_LOAD, address, bytes, size }
        }).collect();
        order.into_iter().map(|index| placed[index].clone()).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_elf_file_is_placed_and_entered_alike(segments in segments(), gap in 0_usize..300) {
        let entry = segments[0].address + 4;
        let (ours, told, _) = load_both::<Elf>(Protocol::Elf, &elf(entry, &segments, gap));
        prop_assert_eq!(GuestAddress(ours.rip), told.kernel_load);
        let end = segments.iter().map(|segment| segment.address + segment.size).max();
        prop_assert_eq!(Some(told.kernel_end), end);
        prop_assert!(!matches!(told.pvh_boot_cap, PvhBootCapability::PvhEntryPresent(_)));
    }

    /// The note is found among others, at whatever place, and names the entry.
    #[test]
    fn a_pvh_entry_is_found_alike(
        segments in segments(),
        others in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..9), 0_u32..30, prop::collection::vec(any::<u8>(), 0..40)), 0..4),
        place in any::<prop::sample::Index>(),
        is_wide: bool,
    ) {
        let address = segments[0].address + 8;
        let value = address.to_le_bytes();
        let mut notes: Vec<Vec<u8>> =
            others.iter().map(|(name, kind, description)| note(name, *kind, description)).collect();
        // Of four bytes, or of eight, as Linux has it.
        notes.insert(place.index(notes.len() + 1), note(b"Xen\0", 18, if is_wide { &value } else { &value[..4] }));
        let bytes = notes.concat();
        let size = bytes.len() as u64;
        let mut all = segments.clone();
        all.push(Segment { kind: PT_NOTE, address: 0, bytes, size });
        let (ours, told, _) = load_both::<Elf>(Protocol::Pvh, &elf(segments[0].address, &all, 0));
        prop_assert_eq!(told.pvh_boot_cap, PvhBootCapability::PvhEntryPresent(GuestAddress(ours.rip)));
        prop_assert_eq!(ours.rip, address);
    }

    #[test]
    fn a_bzimage_is_placed_alike_and_its_header_arrives(
        sectors in 0_u8..40,
        kernel in prop::collection::vec(any::<u8>(), 0x400..0x8000),
        ramdisk_max in 0x10_0000_u32..,
        more: [u8; 16],
    ) {
        let address = 2 * BASE as u32;
        let header = setup_header {
            setup_sects: sectors,
            syssize: (kernel.len() as u32).div_ceil(16),
            boot_flag: 0xaa55,
            jump: 0x6aeb, // over what ends at 0x26c
            header: u32::from_le_bytes(*b"HdrS"),
            version: 0x020f,
            loadflags: 1,
            code32_start: address,
            initrd_addr_max: ramdisk_max,
            kernel_alignment: 0x20_0000,
            relocatable_kernel: more[0] & 1,
            min_alignment: more[1] % 22,
            xloadflags: 1 | u16::from(more[2]) << 1,
            cmdline_size: 2047,
            payload_offset: u32::from(more[3]),
            payload_length: u32::from(more[4]),
            pref_address: address.into(),
            init_size: kernel.len() as u32 + u32::from_le_bytes([more[5], more[6], more[7] & 3, 0]),
            ..setup_header::default()
        };
        let setup = (usize::from(if sectors == 0 { 4 } else { sectors }) + 1) * 512;
        let mut image = vec![0x90; setup];
        image[0x1f1..0x1f1 + size_of::<setup_header>()].copy_from_slice(header.as_slice());
        image.extend(&kernel);
        let (ours, told, memory) = load_both::<BzImage>(Protocol::Linux, &image);
        // boot.rst, "64-bit Boot Protocol": the entry lies 0x200 bytes behind the load address.
        prop_assert_eq!(ours.rip, told.kernel_load.0 + 0x200);
        prop_assert_eq!(told.kernel_end, 2 * BASE + kernel.len() as u64);
        // The zero page has what the oracle would hand over, but for what a boot loader fills in.
        let mut zero_page = setup_header::default();
        memory.read_slice(zero_page.as_mut_slice(), GuestAddress(ZERO_PAGE + 0x1f1)).unwrap();
        let mut expected = told.setup_header.unwrap();
        expected.type_of_loader = 0xff;
        expected.cmdline_size = 0;
        prop_assert_eq!(zero_page.as_slice(), expected.as_slice());
    }

    #[test]
    fn a_command_line_lies_alike(words in prop::collection::vec("[!-~]{1,20}", 1..20)) {
        let line = words.join(" ");
        let (ours, oracle) = (memory(), memory());
        let segments = [Segment { kind: PT_LOAD, address: BASE, bytes: vec![0xf4; 64], size: 64 }];
        let image = elf(BASE, &segments, 0);
        let payload = Payload { image: &image, cmdline: line.as_bytes(), ..Payload::default() };
        boot::load(None, &payload, &ours).unwrap();
        let mut cmdline = Cmdline::new(0x1000).unwrap();
        cmdline.insert_str(&line).unwrap();
        load_cmdline(&oracle, GuestAddress(CMDLINE), &cmdline).unwrap();
        let len = line.len() + 1;
        prop_assert_eq!(bytes_at(&ours, CMDLINE, len), bytes_at(&oracle, CMDLINE, len));
        let pointer = offset_of!(setup_header, cmd_line_ptr) as u64;
        prop_assert_eq!(ours.read_obj::<u32>(GuestAddress(ZERO_PAGE + 0x1f1 + pointer)).unwrap(), CMDLINE as u32);
    }
}

/// The differences of the table that an image can show: the oracle loads what ours refuses.
#[test]
fn what_the_oracle_lets_pass_is_refused() {
    let segment = |address, size| Segment { kind: PT_LOAD, address, bytes: vec![0xf4; 64], size };
    let whole = elf(BASE, &[segment(BASE, 64)], 0);
    let with = |at: usize, byte: u8| {
        let mut image = whole.clone();
        image[at] = byte;
        image
    };
    for (why, image) in [
        ("segments that overlap", elf(BASE, &[segment(BASE, 64), segment(BASE + 32, 64)], 0)),
        ("more than there is memory", elf(BASE, &[segment(BASE, MEMORY as u64)], 0)),
        ("an entry outside", elf(BASE + 4096, &[segment(BASE, 64)], 0)),
        ("ELF32", with(4, 1)),
        ("a relocatable file", with(16, 1)),
        ("another machine", with(18, 183)),
    ] {
        Elf::load(&memory(), None, &mut Cursor::new(&image), None)
            .unwrap_or_else(|error| panic!("{why}: {error}"));
        let payload = Payload { image: &image, ..Payload::default() };
        assert!(boot::load(Some(Protocol::Elf), &payload, &memory()).is_err(), "{why}");
    }
}
