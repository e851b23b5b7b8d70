//! Whatever a guest does to the devices, they answer: none of them panics, and only those that may end
//! the VM do.

use matchstick::device::{Action, Bus, Cmos, DebugExit, I8042, Ioapic, Post};
use proptest::prelude::*;

/// The ports of a small PC, next to each other so that accesses span them.
fn bus() -> Bus {
    let mut bus = Bus::new();
    bus.insert(0x60, 5, None, Box::new(I8042::new())).unwrap();
    bus.insert(0x65, 2, None, Box::new(Cmos::new(|| u64::MAX, u64::MAX, u64::MAX, 255))).unwrap();
    bus.insert(0x67, 1, None, Box::new(Post::default())).unwrap();
    bus.insert(0x69, 1, None, Box::new(DebugExit)).unwrap();
    bus.insert(0x70, Ioapic::SIZE, None, Box::new(Ioapic::new())).unwrap();
    bus
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
                bus.read(address, data);
                continue;
            }
            match bus.write(address, data) {
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
