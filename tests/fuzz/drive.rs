//! What is fuzzed: for each target a function that takes any bytes and must come back.
//!
//! The same functions serve the fuzzer (`targets/`, run by cargo-fuzz) and `cargo test`, which replays the corpus
//! and changes it at random (`tests/library/fuzz.rs`). Each also checks what must hold for every input.

use matchstick::boot::{self, Payload, Protocol};
use matchstick::device::{Action, Bus, Cable, Cmos, Device, I8042, Ioapic, Post, Serial, Slot, Space, Uart};
use matchstick::image::Unpacker;
use matchstick::image::archive::Stream;
use matchstick::kvm::Memory;
use matchstick::linux::LinuxError;
use matchstick::linux::initramfs::Initramfs;
use matchstick::snapshot::{Limits, Snapshot};
use matchstick::virtio::blk::{Blk, Store};
use matchstick::virtio::{Rng, Transport};
use matchstick::{Bytes, GuestAddress, cli, debugger};
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

/// A name, and what it drives.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 14] = [
    ("bus", bus),
    ("cmdline", cmdline),
    ("detect", detect),
    ("elf", elf),
    ("flat", flat),
    ("gdb", gdb),
    ("initramfs", initramfs),
    ("layer", layer),
    ("linux", linux),
    ("multiboot", multiboot),
    ("pvh", pvh),
    ("snapshot", snapshot),
    ("uart", uart),
    ("virtio", virtio),
];

/// Bytes of guest memory: enough for what a small kernel asks for.
const MEMORY: usize = 8 << 20;

/// Loads `image` as `protocol` has it, with all that it can be given.
fn load(protocol: Protocol, image: &[u8]) {
    let memory = Memory::from_ranges(&[(GuestAddress(0), MEMORY)]).expect("there is memory for the guest");
    let (cmdline, initrd): (&[u8], Option<&[u8]>) = match protocol {
        Protocol::Flat16 | Protocol::Flat64 => (b"", None),
        _ => (b"console=ttyS0", Some(b"an initrd")),
    };
    let payload = Payload { image, cmdline, initrd, rsdp: 0xe_0000, seed: Some([0xa5; 32]), apics: true };
    match boot::load(Some(protocol), &payload, &memory) {
        Ok(entry) => assert!(entry.rip < MEMORY as u64, "entered outside memory: {entry:?}"),
        Err(error) => is_one_line(&error),
    }
}

fn is_one_line(error: &dyn std::error::Error) {
    let text = error.to_string();
    assert!(!text.is_empty() && text.len() < 300 && !text.contains('\n'), "{text:?}");
}

/// Unpacks a layer of a container image over another one. Whatever it says, nothing beside its directory is touched.
pub fn layer(archive: &[u8]) {
    // In memory, where there is such a directory: a fuzzer makes many.
    let scratch = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("there is room");
    let (root, outside) = (scratch.path().join("root"), scratch.path().join("outside"));
    std::fs::create_dir_all(root.join("d/e")).expect("there is room");
    std::fs::write(root.join("d/e/file"), "below").expect("there is room");
    std::os::unix::fs::symlink("../outside", root.join("up")).expect("there is room");
    std::os::unix::fs::symlink("d/e", root.join("in")).expect("there is room");
    std::fs::write(&outside, "secret").expect("there is room");
    let mut unpacker = Unpacker::new(File::open(&root).expect("it was made").into(), 100);
    match unpacker.apply(Stream(archive)) {
        Ok(()) => unpacker.finish().expect("what was unpacked can be finished"),
        Err(error) => is_one_line(&error),
    }
    assert_eq!(std::fs::read_to_string(&outside).expect("it is still there"), "secret");
    assert_eq!(std::fs::read_dir(scratch.path()).expect("it is still there").count(), 2);
    remove(&root);
}

/// Removes a directory whose permissions may be in the way of whoever is not root.
fn remove(directory: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    let open = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(directory, open).expect("it is ours");
    for entry in std::fs::read_dir(directory).expect("it may be read").flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    std::fs::remove_dir_all(directory).expect("it can be removed");
}

/// What an image says of itself.
pub fn detect(image: &[u8]) {
    if let Err(error) = boot::detect(image) {
        is_one_line(&error);
    }
    boot::is_linux(image);
}

/// ELF64 by Linux's 64-bit protocol.
pub fn elf(image: &[u8]) {
    load(Protocol::Elf, image);
}

/// Boot sectors and code without any header.
pub fn flat(image: &[u8]) {
    load(Protocol::Flat16, image);
    load(Protocol::Flat64, image);
}

/// A bzImage.
pub fn linux(image: &[u8]) {
    load(Protocol::Linux, image);
}

/// Multiboot 1.
pub fn multiboot(image: &[u8]) {
    load(Protocol::Multiboot, image);
}

/// ELF with a PVH note.
pub fn pvh(image: &[u8]) {
    load(Protocol::Pvh, image);
}

/// The packer, with names and contents between zero bytes: what comes out is a newc archive, or a clear error.
pub fn initramfs(bytes: &[u8]) {
    const LIMIT: u64 = 1 << 16;
    let mut archive = Initramfs::new(LIMIT);
    let mut entries = 0;
    for entry in bytes.split(|&byte| byte == 0) {
        let (name, data) = entry.split_at(entry.len() / 2);
        let name = String::from_utf8_lossy(name);
        let added = match data.first() {
            Some(&mode) if mode & 1 == 0 => archive.directory(&name, mode.into()),
            Some(&mode) => archive.file(&name, mode.into(), data),
            None => archive.character_device(&name, 0o600, (5, 1)),
        };
        match added {
            Ok(()) => entries += 1,
            Err(LinuxError::Pack { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }
    let Ok(archive) = archive.finish() else { return };
    assert!(archive.len() as u64 <= LIMIT + 512, "{} bytes", archive.len());
    assert_eq!(newc_entries(&archive), entries);
}

/// Walks a newc archive (initramfs buffer format) and counts its entries, up to the trailer.
fn newc_entries(archive: &[u8]) -> usize {
    let field = |header: &[u8], number: usize| {
        let digits = std::str::from_utf8(&header[6 + 8 * number..][..8]).expect("a field is text");
        usize::from_str_radix(digits, 16).expect("a field is a number")
    };
    let aligned = |length: usize| length.next_multiple_of(4);
    let (mut at, mut entries) = (0, 0);
    loop {
        let header = &archive[at..at + 110];
        assert_eq!(&header[..6], b"070701");
        let (size, name_size) = (field(header, 6), field(header, 11));
        let name = &archive[at + 110..][..name_size];
        assert_eq!(name.last(), Some(&0));
        if name == b"TRAILER!!!\0" {
            return entries;
        }
        entries += 1;
        at += aligned(110 + name_size) + aligned(size);
    }
}

/// A UART: three bytes an operation.
pub fn uart(bytes: &[u8]) {
    const IER: u8 = 1;
    const LCR_DLAB: u8 = 0x80;
    let mut uart = Uart::default();
    for operation in bytes.chunks_exact(3) {
        let &[kind, register, value] = operation else { return };
        match kind % 4 {
            0 => drop(uart.read(register % 8)),
            1 => drop(uart.write(register % 8, value)),
            2 => {
                let room = uart.room();
                let taken = uart.receive(&bytes[..usize::from(value).min(bytes.len())]);
                assert!(taken <= room, "{taken} bytes were taken where there was room for {room}");
            }
            _ => uart.receive_break(),
        }
        // What is not enabled does not interrupt.
        let mut probe = uart.clone();
        let lcr = probe.read(3);
        probe.write(3, lcr & !LCR_DLAB);
        if probe.read(IER) & 0x0f == 0 {
            assert!(!uart.irq(), "an interrupt that nobody enabled");
        }
    }
}

/// A bus with every device: an operation is its kind and length, an address, and data.
pub fn bus(bytes: &[u8]) {
    let mut bus = Bus::new();
    let cable = Cable::default();
    let clock = || 1_800_000_000;
    for slot in [
        Slot::ports(0x00, 5, I8042::new()),
        Slot::ports(0x08, 8, Serial::new(cable.clone())).with_pin(4),
        Slot::ports(0x10, 2, Cmos::new(clock, u64::MAX, u64::MAX, 255)),
        Slot::ports(0x12, 1, Post::default()),
        Slot::ports(0x20, Ioapic::SIZE as u16, Ioapic::new()),
    ] {
        bus.insert(slot).expect("they do not overlap");
    }
    for operation in bytes.chunks_exact(10) {
        let (&[kind, address], Ok(mut data)) = (&operation[..2], <[u8; 8]>::try_from(&operation[2..])) else {
            return;
        };
        let data = &mut data[..usize::from(kind >> 4) % 8 + 1];
        match kind % 4 {
            0 => bus.read(Space::Ports, address.into(), data),
            1 => {
                let action = bus.write(Space::Ports, address.into(), data);
                assert!(matches!(action, Action::Continue | Action::Reset), "{action:?}");
            }
            2 => cable.offer(data),
            _ => bus.poll(),
        }
        bus.interrupts().count();
        cable.written().clear();
    }
}

/// Virtio devices whose driver is hostile: an operation is its kind, a place and four bytes. It writes to registers and to
/// the memory that the queues are in, and may leave the usual beginning to us.
pub fn virtio(bytes: &[u8]) {
    const SIZE: usize = 1 << 16;
    const SECTORS: u64 = 16;
    const O_TMPFILE: i32 = 0o20_200_000;
    let memory = Memory::from_ranges(&[(GuestAddress(0), SIZE)]).expect("there is memory for the guest");
    let scratch = File::options().read(true).write(true).custom_flags(O_TMPFILE).open(std::env::temp_dir());
    let Ok(file) = scratch else { return };
    file.set_len(SECTORS * 512).expect("a hole costs nothing");
    let kept = file.try_clone().expect("there are descriptors");
    let mut disk = Transport::new(Blk::waiting(Store::new(file, SECTORS, false, b"fuzz")), memory.clone());
    let mut rng = Transport::new(Rng::new(), memory.clone());
    for operation in bytes.chunks_exact(7) {
        let (&[kind, low, high], Ok(value)) = (&operation[..3], <[u8; 4]>::try_from(&operation[3..])) else {
            return;
        };
        let device: &mut dyn Device = if kind & 0x80 == 0 { &mut disk } else { &mut rng };
        let place = u64::from(u16::from_le_bytes([low, high]));
        let mut set = |register: u64, value: u32| {
            assert_eq!(device.write(register, &value.to_le_bytes()), Action::Continue);
        };
        match kind % 5 {
            0 => set(place % 0x140, u32::from_le_bytes(value)),
            1 => drop(memory.write_slice(&value, GuestAddress(place))),
            2 => device.read(place % 0x140, &mut [0; 8][..1 << (kind >> 5 & 3)]),
            3 => set(0x50, u32::from(low & 1)),
            _ => {
                // Reset, features of this kind, a queue of eight, ready.
                let beginning = [
                    (0x70, 0),
                    (0x70, 3),
                    (0x24, 1),
                    (0x20, 1),
                    (0x24, 0),
                    (0x20, u32::from_le_bytes(value)),
                ];
                beginning.into_iter().for_each(|(register, value)| set(register, value));
                let queue =
                    [(0x70, 11), (0x30, 0), (0x38, 8), (0x80, 0x1000), (0x90, 0x2000), (0xa0, 0x3000)];
                queue.into_iter().for_each(|(register, value)| set(register, value));
                [(0x44, 1), (0x70, 15)].into_iter().for_each(|(register, value)| set(register, value));
            }
        }
        device.poll();
        device.interrupt();
    }
    assert_eq!(kept.metadata().expect("it is open").len(), SECTORS * 512, "a disk does not grow");
}

/// What is typed, with a zero byte after each argument: it makes sense, or there is a complaint and a hint.
pub fn cmdline(bytes: &[u8]) {
    let args = bytes.split(|&byte| byte == 0).map(|arg| OsString::from_vec(arg.to_vec()));
    if let Err(usage) = cli::check(args) {
        assert!(!usage.what.is_empty() && usage.hint.contains("matchstick"), "{usage:?}");
    }
}

/// What a client of the debugger sends, in pieces with a zero byte after each: packets, that are framed here, or, if
/// it begins with a 1, bytes as they are.
pub fn gdb(bytes: &[u8]) {
    let mut sent = Vec::new();
    for piece in bytes.split(|&byte| byte == 0) {
        match piece {
            [1, raw @ ..] => sent.extend(raw),
            packet => {
                let sum = packet.iter().fold(0_u8, |sum, &byte| sum.wrapping_add(byte));
                sent.extend([b"$", packet, format!("#{sum:02x}+").as_bytes()].concat());
            }
        }
    }
    let memory = Memory::from_ranges(&[(GuestAddress(0), 1 << 16)]).expect("there is memory for the guest");
    let answers = debugger::rehearse(memory, &sent);
    // One byte may ask for many, but for no more than a packet can hold.
    assert!(answers.len() <= (sent.len() + 1) * 2 * 4096, "{} bytes", answers.len());
}

/// A golden image: header and sections, of which the digest is set right here, as a fuzzer would not find it.
pub fn snapshot(bytes: &[u8]) {
    /// A file without a name (open(2)).
    const O_TMPFILE: i32 = 0o20_200_000;
    let file = File::options().read(true).write(true).custom_flags(O_TMPFILE).open(std::env::temp_dir());
    let Ok(file) = file else { return };
    let mut bytes = bytes.to_vec();
    set_digest(&mut bytes);
    // Its devices take what they are to remember, or do not.
    let _ = Snapshot::decode(&bytes);
    file.write_all_at(&bytes, 0).expect("it fits memory");
    let read = |file: &std::fs::File| {
        Snapshot::read("it", file.try_clone().expect("there are descriptors"), &Limits::NONE)
    };
    let image = read(&file).or_else(|_| {
        // Its memory, all zero.
        file.set_len(64 << 20).expect("a hole costs nothing");
        read(&file)
    });
    let image = match image {
        Ok(image) => image,
        Err(error) => return is_one_line(&error),
    };
    if let Err(error) = image.verify() {
        is_one_line(&error);
    }
    assert_eq!(image.differences(&image).ok().as_deref(), Some(""));
    for device in &image.state().devices {
        take_over(&device.bytes);
    }
}

/// Writes the digest of header and sections, XXH64, to where it belongs (docs/snapshots.md).
fn set_digest(image: &mut [u8]) {
    const DIGEST: usize = 56;
    const SECTIONS: usize = 64;
    let Some(len) = image.get(24..).and_then(<[u8]>::first_chunk).copied().map(u64::from_le_bytes) else {
        return;
    };
    let end = usize::try_from(len).ok().and_then(|len| SECTIONS.checked_add(len));
    let Some(sections) = end.and_then(|end| image.get(SECTIONS..end)) else { return };
    let digest = twox_hash::XxHash64::oneshot(0, &[&image[..DIGEST], sections].concat());
    image[DIGEST..SECTIONS].copy_from_slice(&digest.to_le_bytes());
}

/// Gives `state` to every device. One that takes it is as it says, and one that does not is as it was; both work.
fn take_over(state: &[u8]) {
    let cable = Cable::default();
    let devices: [(u64, Box<dyn Device>); 5] = [
        (5, Box::new(I8042::new())),
        (8, Box::new(Serial::new(cable.clone()))),
        (2, Box::new(Cmos::new(|| 1_800_000_000, u64::MAX, u64::MAX, 255))),
        (1, Box::<Post>::default()),
        (Ioapic::SIZE, Box::new(Ioapic::new())),
    ];
    for (len, mut device) in devices {
        let before = device.state();
        let expected = if device.set_state(state) { Some(state.to_vec()) } else { before };
        assert_eq!(device.state(), expected, "{}", device.name());
        cable.offer(b"0123456789abcdef0123456789abcdef");
        for offset in (0..len).chain(0..len) {
            device.poll();
            device.read(offset, &mut [0]);
            let _ = device.write(offset, &[0x5a]);
            device.interrupt();
        }
    }
}
