//! Whatever a guest does to the devices, they answer: none of them panics, and only those that may end
//! the VM do.

use matchstick::device::{Action, Bus, Cable, Cmos, DebugExit, I8042, Ioapic, Post, Serial, Slot, Space};
use proptest::prelude::*;

/// The ports of a small PC, next to each other so that accesses span them.
fn bus() -> Bus {
    let mut bus = Bus::new();
    bus.insert(Slot::mmio(0x60, 5, I8042::new())).unwrap();
    bus.insert(Slot::mmio(0x65, 2, Cmos::new(|| u64::MAX, u64::MAX, u64::MAX, 255))).unwrap();
    bus.insert(Slot::mmio(0x67, 1, Post::default())).unwrap();
    bus.insert(Slot::mmio(0x69, 1, DebugExit)).unwrap();
    bus.insert(Slot::mmio(0x70, Ioapic::SIZE, Ioapic::new())).unwrap();
    bus
}

/// Random programs, as a guest could write them: reads and writes of every width, input, and looking around. A million
/// operations; `OPERATIONS=100000000` in the environment makes it a night's work.
#[test]
fn random_programs_find_no_end_of_a_device() {
    let count = std::env::var("OPERATIONS").map_or(1_000_000, |count| count.parse().unwrap());
    let cable = Cable::default();
    let mut bus = bus();
    bus.insert(Slot::mmio(0x50, 8, Serial::new(cable.clone())).with_pin(4)).unwrap();
    let mut state = 0x2026_1121_u64;
    let mut resets = 0;
    for _ in 0..count {
        // The 64-bit generator of Steele, Lea and Flood, "SplitMix", 2014.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        let random = mixed ^ mixed >> 31;
        let (address, len) = (0x4e + (random >> 8) % 0x44, 1 << (random >> 16 & 3));
        let mut data = random.rotate_left(20).to_le_bytes();
        match random % 16 {
            0..7 => bus.read(Space::Mmio, address, &mut data[..len]),
            7..14 => match bus.write(Space::Mmio, address, &data[..len]) {
                Action::Continue => {}
                Action::Reset => resets += 1,
                Action::Exit(_) if (address..address + len as u64).contains(&0x69) => {}
                other => panic!("{other:?} by a write to {address:#x}"),
            },
            14 => cable.offer(&data),
            _ => bus.poll(),
        }
        bus.interrupts().count();
        cable.written().clear();
    }
    println!("{count} operations, {resets} resets");
    assert!(resets > 0, "there is a way to pull the reset line");
}

proptest! {
    #[test]
    fn no_access_makes_a_device_panic(
        accesses in prop::collection::vec((any::<bool>(), 0x5e..0x92u64, any::<[u8; 8]>(), 1..9usize), 0..300),
    ) {
        let mut bus = bus();
        for (is_write, address, mut data, len) in accesses {
            let data = &mut data[..len];
            let reaches = |port| (address..address + len as u64).contains(&port);
            if !is_write {
                bus.read(Space::Mmio, address, data);
                continue;
            }
            match bus.write(Space::Mmio, address, data) {
                Action::Continue => prop_assert!(!reaches(0x69), "the exit port was written"),
                Action::Exit(status) => {
                    prop_assert!(reaches(0x69));
                    prop_assert_eq!(status, data[(0x69 - address) as usize]);
                }
                Action::Reset | Action::PowerOff | Action::Stop => prop_assert!(reaches(0x60) || reaches(0x64)),
            }
        }
    }
}
