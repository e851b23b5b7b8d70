//! The sleep registers of hardware-reduced ACPI, as far as switching off needs them.
//!
//! Source: ACPI 6.5, section 4.8.3.7 "Sleep Control and Status Registers".

use super::{Action, Device};

/// Where the sleep control register has SLP_TYP (bits 2 to 4).
const SLP_TYP: u8 = 0b111 << 2;
/// SLP_EN, bit 5: go to sleep now.
const SLP_EN: u8 = 1 << 5;

/// Sleep control at offset 0, sleep status at offset 1.
#[derive(Debug, Clone)]
pub struct Power {
    /// The value of SLP_TYP that switches off, as the tables tell the guest.
    soft_off: u8,
}

impl Power {
    /// Registers in which `soft_off` (0 to 7) is the sleep type of S5.
    pub const fn new(soft_off: u8) -> Power {
        Power { soft_off }
    }
}

impl Device for Power {
    /// Both read as zero: never woken from a sleep.
    fn read(&mut self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Action {
        match data.first() {
            Some(value) if offset == 0 && value & (SLP_EN | SLP_TYP) == SLP_EN | self.soft_off << 2 => {
                Action::PowerOff
            }
            _ => Action::Continue,
        }
    }

    fn state(&self) -> Option<Vec<u8>> {
        Some(vec![self.soft_off])
    }

    fn set_state(&mut self, state: &[u8]) -> bool {
        state == [self.soft_off]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_sleep_type_of_soft_off_with_the_enable_bit_switches_off() {
        let mut power = Power::new(5);
        for value in 0..=u8::MAX {
            let off = value >> 2 & 0b1111 == 0b1101;
            let expected = if off { Action::PowerOff } else { Action::Continue };
            assert_eq!(power.write(0, &[value]), expected, "{value:#x}");
            assert_eq!(power.write(1, &[value]), Action::Continue);
        }
    }
}
