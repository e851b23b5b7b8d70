//! The keyboard controller, without a keyboard: it is here for the reset line, which it drives.
//!
//! It answers what kernels ask while they probe, and answers fast: Linux waits half a second for each
//! answer that does not come. There is neither a keyboard nor a mouse, so whatever is sent to them
//! times out at once.
//!
//! Source: Intel UPI-41AH/42AH data sheet, for status and buffers; IBM PS/2 hardware interface
//! technical reference, "Keyboard and Auxiliary Device Controller", for the commands.

use super::{Action, Device};

// Offsets from its first port. The ports between them belong to other chips of a PC.
const DATA: u64 = 0;
const COMMAND: u64 = 4;

// The status register, read at COMMAND.
const OUTPUT_FULL: u8 = 1 << 0;
const SYSTEM_FLAG: u8 = 1 << 2;
/// The guest's last write went to COMMAND, not to DATA.
const WAS_COMMAND: u8 = 1 << 3;
/// The key that locks the keyboard is not turned.
const UNLOCKED: u8 = 1 << 4;
const TIMEOUT: u8 = 1 << 6;

// The command byte, "controller configuration byte" in other books.
const KEYBOARD_INTERRUPT: u8 = 1 << 0;
/// Set by a BIOS once the self-test has passed; the status register shows it.
const TESTED: u8 = 1 << 2;
const KEYBOARD_OFF: u8 = 1 << 4;
const AUX_OFF: u8 = 1 << 5;
const TRANSLATE: u8 = 1 << 6;

/// Of the output port: low resets the processor.
const RESET: u8 = 1 << 0;
const A20: u8 = 1 << 1;

/// A keyboard sends this for what it does not understand; the controller sends it when there is no keyboard.
const RESEND: u8 = 0xfe;

/// The keyboard controller, a device of 5 ports. No keyboard is attached.
///
/// A wide access is one byte access after the other, as on an ISA bus.
/// [`interrupt`](Device::interrupt) is IRQ 1.
#[derive(Debug, Clone)]
pub struct I8042 {
    command_byte: u8,
    /// The command that waits for its data byte.
    command: Option<u8>,
    output: u8,
    /// Bits of the status register that come and go.
    status: u8,
}

impl Default for I8042 {
    fn default() -> I8042 {
        I8042::new()
    }
}

impl I8042 {
    /// A controller as a BIOS leaves it, but with its interrupt off.
    pub const fn new() -> I8042 {
        I8042 { command_byte: TESTED | TRANSLATE, command: None, output: 0, status: 0 }
    }

    fn read_port(&mut self, offset: u64) -> u8 {
        match offset {
            DATA => {
                self.status &= !(OUTPUT_FULL | TIMEOUT);
                self.output
            }
            COMMAND => self.status | UNLOCKED | (self.command_byte & SYSTEM_FLAG),
            // A port that no device has. Linux waits for bit 5 of 0x61, and finds it set.
            _ => 0xff,
        }
    }

    fn write_port(&mut self, offset: u64, value: u8) -> Action {
        match offset {
            DATA => {
                self.status &= !WAS_COMMAND;
                self.write_data(value)
            }
            COMMAND => {
                self.status |= WAS_COMMAND;
                self.write_command(value)
            }
            _ => Action::Continue,
        }
    }

    fn write_command(&mut self, command: u8) -> Action {
        self.command = None;
        match command {
            0x20 => self.answer(self.command_byte),
            // Write: command byte, output port, keyboard buffer, auxiliary buffer, auxiliary device.
            0x60 | 0xd1..=0xd4 => self.command = Some(command),
            0xa7 => self.command_byte |= AUX_OFF,
            0xa8 => self.command_byte &= !AUX_OFF,
            // Auxiliary interface test: the clock line is stuck high. There is no mouse port.
            0xa9 => self.answer(0x02),
            0xaa => {
                self.command_byte |= TESTED;
                self.answer(0x55);
            }
            // Keyboard interface test: passed.
            0xab => self.answer(0x00),
            0xad => self.command_byte |= KEYBOARD_OFF,
            0xae => self.command_byte &= !KEYBOARD_OFF,
            0xd0 => self.answer(RESET | A20),
            // Pulse those lines of the output port whose bit is zero; 0xfe is the usual reset.
            0xf0..=0xff if command & RESET == 0 => return Action::Reset,
            _ => {}
        }
        Action::Continue
    }

    fn write_data(&mut self, value: u8) -> Action {
        match self.command.take() {
            Some(0x60) => self.command_byte = value,
            Some(0xd1) if value & RESET == 0 => return Action::Reset,
            Some(0xd1) => {}
            // The auxiliary loop, 0xd3, does not mark its byte as the mouse's: no mouse port again.
            Some(0xd2 | 0xd3) => self.answer(value),
            // For the mouse, or without a command for the keyboard.
            _ => {
                self.answer(RESEND);
                self.status |= TIMEOUT;
            }
        }
        Action::Continue
    }

    const fn answer(&mut self, value: u8) {
        self.output = value;
        self.status = (self.status & !TIMEOUT) | OUTPUT_FULL;
    }
}

impl Device for I8042 {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        for (byte, offset) in data.iter_mut().zip(offset..) {
            *byte = self.read_port(offset);
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Action {
        for (&byte, offset) in data.iter().zip(offset..) {
            let action = self.write_port(offset, byte);
            if action != Action::Continue {
                return action;
            }
        }
        Action::Continue
    }

    fn interrupt(&self) -> bool {
        self.status & OUTPUT_FULL != 0 && self.command_byte & KEYBOARD_INTERRUPT != 0
    }

    /// Command byte, the command that waits or 0, output, status. (0 is no command that waits for anything.)
    fn state(&self) -> Option<Vec<u8>> {
        Some(vec![self.command_byte, self.command.unwrap_or(0), self.output, self.status])
    }

    fn set_state(&mut self, state: &[u8]) -> bool {
        let &[command_byte, command, output, status] = state else { return false };
        let command = (command != 0).then_some(command);
        *self = I8042 { command_byte, command, output, status };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(device: &mut I8042, offset: u64) -> u8 {
        let mut data = [0];
        device.read(offset, &mut data);
        data[0]
    }

    /// Sends `command` and reads the answer as a driver does, if there is one.
    fn ask(device: &mut I8042, command: u8) -> Option<u8> {
        assert_eq!(device.write(COMMAND, &[command]), Action::Continue);
        (read(device, COMMAND) & OUTPUT_FULL != 0).then(|| read(device, DATA))
    }

    #[test]
    fn command_fe_resets() {
        assert_eq!(I8042::new().write(COMMAND, &[0xfe]), Action::Reset);
        assert_eq!(I8042::new().write(DATA, &[0xfe]), Action::Continue, "that was for the keyboard");
    }

    #[test]
    fn a_pulse_resets_only_if_the_reset_line_is_among_its_lines() {
        for command in 0xf0..=0xff {
            let expected = if command & 1 == 0 { Action::Reset } else { Action::Continue };
            assert_eq!(I8042::new().write(COMMAND, &[command]), expected, "{command:#x}");
        }
    }

    #[test]
    fn the_output_port_resets_with_bit_0_low() {
        let mut device = I8042::new();
        assert_eq!(ask(&mut device, 0xd1), None);
        assert_eq!(device.write(DATA, &[0xdf]), Action::Continue, "A20 on, as old kernels write it");
        assert_eq!(ask(&mut device, 0xd1), None);
        assert_eq!(device.write(DATA, &[0xfe]), Action::Reset);
    }

    #[test]
    fn it_is_idle_and_unlocked_at_first() {
        assert_eq!(read(&mut I8042::new(), COMMAND), UNLOCKED | SYSTEM_FLAG);
    }

    #[test]
    fn the_tests_give_what_drivers_expect() {
        let mut device = I8042::new();
        assert_eq!(ask(&mut device, 0xaa), Some(0x55), "self-test");
        assert_eq!(ask(&mut device, 0xab), Some(0x00), "keyboard interface");
        assert_eq!(ask(&mut device, 0xa9), Some(0x02), "no auxiliary interface");
        assert_eq!(ask(&mut device, 0xd0), Some(0x03), "output port");
    }

    #[test]
    fn the_self_test_sets_the_system_flag() {
        let mut device = I8042::new();
        assert_eq!(ask(&mut device, 0x60), None);
        assert_eq!(device.write(DATA, &[0]), Action::Continue);
        assert_eq!(read(&mut device, COMMAND) & SYSTEM_FLAG, 0);
        assert_eq!(ask(&mut device, 0xaa), Some(0x55));
        assert_eq!(read(&mut device, COMMAND) & SYSTEM_FLAG, SYSTEM_FLAG);
    }

    #[test]
    fn the_status_tells_a_command_from_data() {
        let mut device = I8042::new();
        assert_eq!(ask(&mut device, 0x60), None);
        assert_eq!(read(&mut device, COMMAND) & WAS_COMMAND, WAS_COMMAND);
        assert_eq!(device.write(DATA, &[0]), Action::Continue);
        assert_eq!(read(&mut device, COMMAND) & WAS_COMMAND, 0);
    }

    #[test]
    fn both_loops_give_their_byte_back_without_a_timeout() {
        for command in [0xd2, 0xd3] {
            let mut device = I8042::new();
            assert_eq!(ask(&mut device, command), None);
            assert_eq!(device.write(DATA, &[0x5a]), Action::Continue);
            assert_eq!(read(&mut device, COMMAND) & (OUTPUT_FULL | TIMEOUT), OUTPUT_FULL);
            assert_eq!(read(&mut device, DATA), 0x5a);
        }
    }

    #[test]
    fn the_command_byte_reads_back_and_the_port_switches_change_it() {
        let mut device = I8042::new();
        assert_eq!(ask(&mut device, 0x60), None);
        assert_eq!(device.write(DATA, &[0x05]), Action::Continue);
        assert_eq!(ask(&mut device, 0x20), Some(0x05));
        for (command, expected) in [(0xa7, 0x25), (0xad, 0x35), (0xa8, 0x15), (0xae, 0x05)] {
            assert_eq!(ask(&mut device, command), None);
            assert_eq!(ask(&mut device, 0x20), Some(expected), "{command:#x}");
        }
    }

    #[test]
    fn a_byte_for_the_missing_keyboard_times_out_at_once() {
        let mut device = I8042::new();
        assert_eq!(device.write(DATA, &[0xf2]), Action::Continue);
        assert_eq!(read(&mut device, COMMAND) & (OUTPUT_FULL | TIMEOUT), OUTPUT_FULL | TIMEOUT);
        assert_eq!(read(&mut device, DATA), RESEND);
        assert_eq!(read(&mut device, COMMAND) & (OUTPUT_FULL | TIMEOUT), 0);
    }

    #[test]
    fn a_new_command_forgets_the_one_that_waits() {
        let mut device = I8042::new();
        assert_eq!(ask(&mut device, 0x60), None);
        let before = ask(&mut device, 0x20);
        assert_eq!(device.write(DATA, &[0xff]), Action::Continue);
        assert_eq!(ask(&mut device, 0x20), before);
    }

    #[test]
    fn the_interrupt_follows_the_buffer_and_its_enable_bit() {
        let mut device = I8042::new();
        assert_eq!(device.write(DATA, &[0xf2]), Action::Continue);
        assert!(!device.interrupt());
        assert_eq!(ask(&mut device, 0x60), Some(RESEND));
        assert_eq!(device.write(DATA, &[KEYBOARD_INTERRUPT]), Action::Continue);
        assert!(!device.interrupt());
        assert_eq!(device.write(DATA, &[0xf2]), Action::Continue);
        assert!(device.interrupt());
        read(&mut device, DATA);
        assert!(!device.interrupt());
    }

    #[test]
    fn a_wide_access_is_one_byte_after_the_other() {
        let mut device = I8042::new();
        let mut data = [0; 5];
        device.read(DATA, &mut data);
        assert_eq!(data, [0, 0xff, 0xff, 0xff, UNLOCKED | SYSTEM_FLAG]);
        assert_eq!(device.write(3, &[0, 0xfe]), Action::Reset);
    }
}
