//! The port map: which I/O ports, interrupt pins and codes the parts of a machine have agreed on.
//!
//! ```text
//!   port 0x060   keyboard controller; 0xfe to port 0x64 resets
//!   port 0x070   CMOS: clock and memory
//!   port 0x080   POST: milestones
//!   port 0x0f4   exit: the written byte becomes the exit status
//!   port 0x3f8   COM1 ───────────────── pin 4 of the IOAPIC
//!   port 0x600   ACPI's sleep registers
//!                a new VMGENID ──────── pin 5
//! ```
//!
//! Guest-physical addresses are in [`layout`](super::layout). Sources: IBM PC AT technical reference, "I/O Address Map";
//! ACPI 6.5, section 4.8.3.7, for the sleep registers; 0xf4 is where QEMU users put `isa-debug-exit`.

/// The keyboard controller's first port; its last is [`I8042_COMMAND`].
pub const I8042: u16 = 0x60;
/// The keyboard controller's command port.
pub const I8042_COMMAND: u16 = 0x64;
/// The command that pulls the reset line.
pub const RESET_COMMAND: u8 = 0xfe;
/// The CMOS memory: index, then data.
pub const CMOS: u16 = 0x70;
/// Where a BIOS shows how far its power-on self-test has come.
pub const POST: u16 = 0x80;
/// The exit port.
pub const DEBUG_EXIT: u16 = 0xf4;
/// COM1's first register: what is written there is sent.
pub const COM1: u16 = 0x3f8;
/// How many ports COM1 has.
pub const COM1_LEN: u16 = 8;
/// The sleep control register; the sleep status register is the next port.
pub const SLEEP_CONTROL: u16 = 0x600;
/// The value of SLP_TYP that means S5, soft off: the choice of whoever writes the ACPI tables.
pub const S5: u8 = 5;

/// The pins of the IOAPIC.
pub const IOAPIC_PINS: u8 = 24;
/// COM1's interrupt: IRQ 4 since the first PC.
pub const COM1_PIN: u8 = 4;
/// A pulse here tells the guest that its VMGENID is a new one.
pub const VMGENID_PIN: u8 = 5;

/// The pins of virtio devices, in the order in which they are given: first those that no chip of a PC has had.
pub const VIRTIO_PINS: [u8; 15] = [16, 17, 18, 19, 20, 21, 22, 23, 6, 7, 9, 10, 11, 14, 15];

/// The POST code that says: the console is set up, and what was typed may come. The first program of a Linux guest of
/// ours writes it; nothing else is known to.
pub const READY_FOR_INPUT: u8 = 0xa5;
