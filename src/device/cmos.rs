//! The CMOS memory: a clock to read, and what a BIOS leaves in it about the machine.
//!
//! The clock is a function that the constructor is given, called at each access. A guest cannot set it, and it never
//! interrupts. It never shows an update in progress either: a guest that wants a consistent time reads the seconds again
//! at the end, as Linux does.
//!
//! Source: Motorola MC146818 data sheet, for the clock and registers A to D; Ralf Brown's interrupt
//! list, CMOS.LST, for what a PC keeps above; Bochs and QEMU for 0x5b to 0x5f.

use super::{Action, Device};

const SECONDS: u8 = 0x00;
const MINUTES: u8 = 0x02;
const HOURS: u8 = 0x04;
const DAY_OF_WEEK: u8 = 0x06;
const DAY: u8 = 0x07;
const MONTH: u8 = 0x08;
const YEAR: u8 = 0x09;
const REGISTER_A: u8 = 0x0a;
const REGISTER_B: u8 = 0x0b;
const REGISTER_C: u8 = 0x0c;
const REGISTER_D: u8 = 0x0d;
const BASE_MEMORY: usize = 0x15;
const EXTENDED_MEMORY: usize = 0x17;
const EXTENDED_MEMORY_AGAIN: usize = 0x30;
const CENTURY: u8 = 0x32;
const MEMORY_ABOVE_16M: usize = 0x34;
const MEMORY_ABOVE_4G: usize = 0x5b;
const EXTRA_CPUS: usize = 0x5f;

/// Register A: a 32.768 kHz crystal and 1024 Hz, as every BIOS sets it.
const DIVIDER: u8 = 0x26;
/// Register A, "Update In Progress".
const UIP: u8 = 1 << 7;
/// Register B, "Data Mode": binary, not BCD.
const DM: u8 = 1 << 2;
/// Register B: hours count to 24.
const H24: u8 = 1 << 1;
/// Bit 7 of the hours while they count to 12.
const PM: u8 = 1 << 7;
/// Register D, "Valid RAM and Time": the battery is good.
const VRT: u8 = 1 << 7;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const DAY_SECONDS: u64 = 24 * 60 * 60;

/// The clock and memory, a device of 2 ports: index and data.
///
/// A guest reads the clock; setting it has no effect. A wide access is one byte access after the other, as on an ISA bus.
#[derive(Debug, Clone)]
pub struct Cmos {
    now: fn() -> u64,
    index: u8,
    memory: [u8; 128],
}

impl Cmos {
    /// `now` gives seconds since the start of 1970, UTC; `low` and `high` are the bytes of memory below
    /// and above 4 GiB; `extra_cpus` are the processors beside the first.
    pub fn new(now: fn() -> u64, low: u64, high: u64, extra_cpus: u8) -> Cmos {
        let mut memory = [0; 128];
        let mut put = |at: usize, bytes: &[u8]| {
            for (to, from) in memory.iter_mut().skip(at).zip(bytes) {
                *to = *from;
            }
        };
        put(REGISTER_A.into(), &[DIVIDER]);
        put(REGISTER_B.into(), &[H24]);
        put(EXTRA_CPUS, &[extra_cpus]);
        // What does not fit its field reads as the field's largest value.
        let two_bytes = |size: u64| u16::try_from(size).unwrap_or(u16::MAX).to_le_bytes();
        put(BASE_MEMORY, &two_bytes(low.min(640 * KIB) / KIB));
        put(EXTENDED_MEMORY, &two_bytes(low.saturating_sub(MIB) / KIB));
        put(EXTENDED_MEMORY_AGAIN, &two_bytes(low.saturating_sub(MIB) / KIB));
        put(MEMORY_ABOVE_16M, &two_bytes(low.saturating_sub(16 * MIB) / (64 * KIB)));
        let [a, b, c, ..] = (high / (64 * KIB)).min(0xff_ffff).to_le_bytes();
        put(MEMORY_ABOVE_4G, &[a, b, c]);
        Cmos { now, index: 0, memory }
    }

    fn read_data(&self) -> u8 {
        let time = Time::at((self.now)());
        match self.index {
            SECONDS => self.encode(time.second),
            MINUTES => self.encode(time.minute),
            HOURS => self.encode_hours(time.hour),
            DAY_OF_WEEK => self.encode(time.day_of_week),
            DAY => self.encode(time.day),
            MONTH => self.encode(time.month),
            YEAR => self.encode(time.year),
            CENTURY => self.encode(time.century),
            REGISTER_C => 0,
            REGISTER_D => VRT,
            index => self.register(index),
        }
    }

    fn write_data(&mut self, value: u8) {
        let value = if self.index == REGISTER_A { value & !UIP } else { value };
        if let Some(register) = self.memory.get_mut(usize::from(self.index)) {
            *register = value;
        }
    }

    /// A number below 100 as register B wants it.
    fn encode(&self, number: u8) -> u8 {
        if self.register(REGISTER_B) & DM != 0 { number } else { (number / 10) << 4 | (number % 10) }
    }

    fn encode_hours(&self, hour: u8) -> u8 {
        if self.register(REGISTER_B) & H24 != 0 {
            return self.encode(hour);
        }
        let twelve = self.encode(if hour.is_multiple_of(12) { 12 } else { hour % 12 });
        if hour < 12 { twelve } else { twelve | PM }
    }

    fn register(&self, index: u8) -> u8 {
        self.memory.get(usize::from(index)).copied().unwrap_or(0)
    }
}

impl Device for Cmos {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        for (byte, offset) in data.iter_mut().zip(offset..) {
            // The index can only be written.
            *byte = if offset == 1 { self.read_data() } else { 0xff };
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Action {
        for (&byte, offset) in data.iter().zip(offset..) {
            match offset {
                // Bit 7 masks NMIs; there are none.
                0 => self.index = byte & 0x7f,
                1 => self.write_data(byte),
                _ => {}
            }
        }
        Action::Continue
    }

    /// The index, then the memory. The clock is the host's.
    fn state(&self) -> Option<Vec<u8>> {
        Some([&[self.index], &self.memory[..]].concat())
    }

    fn set_state(&mut self, state: &[u8]) -> bool {
        let Some((&index @ 0..=0x7f, memory)) = state.split_first() else { return false };
        let Ok(memory) = memory.try_into() else { return false };
        (self.index, self.memory) = (index, memory);
        true
    }
}

/// A moment as the clock's registers have it, in numbers; `day_of_week` 1 is Sunday.
#[derive(Debug, PartialEq, Eq)]
struct Time {
    second: u8,
    minute: u8,
    hour: u8,
    day_of_week: u8,
    day: u8,
    month: u8,
    year: u8,
    century: u8,
}

impl Time {
    /// The moment `seconds` after the start of 1970.
    fn at(seconds: u64) -> Time {
        let days = seconds / DAY_SECONDS;
        // 400 years of the Gregorian calendar are a whole number of days, and of weeks.
        let (cycles, mut left) = (days / 146_097, days % 146_097);
        let mut year = cycles.saturating_mul(400).saturating_add(1970);
        while let Some(rest) = left.checked_sub(year_days(year)) {
            (left, year) = (rest, year.saturating_add(1));
        }
        let mut month = 1_u64;
        while let Some(rest) = left.checked_sub(month_days(year, month)) {
            (left, month) = (rest, month.saturating_add(1));
        }
        // Each number is below 100, so nothing is cut off.
        Time {
            second: (seconds % 60) as u8,
            minute: (seconds / 60 % 60) as u8,
            hour: (seconds / 3600 % 24) as u8,
            // 1970 began on a Thursday.
            day_of_week: (days.saturating_add(4) % 7).saturating_add(1) as u8,
            day: left.saturating_add(1) as u8,
            month: month as u8,
            year: (year % 100) as u8,
            century: (year / 100 % 100) as u8,
        }
    }
}

const fn leap(year: u64) -> bool {
    year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400)
}

const fn year_days(year: u64) -> u64 {
    if leap(year) { 366 } else { 365 }
}

const fn month_days(year: u64, month: u64) -> u64 {
    match month {
        2 if leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    /// Wednesday, 31 December 2025, 23:59:58.
    fn new_years_eve() -> u64 {
        1_767_225_598
    }

    fn cmos() -> Cmos {
        Cmos::new(new_years_eve, 3 * GIB, GIB, 3)
    }

    fn get(cmos: &mut Cmos, index: u8) -> u8 {
        let mut data = [0];
        assert_eq!(cmos.write(0, &[index]), Action::Continue);
        cmos.read(1, &mut data);
        data[0]
    }

    fn set(cmos: &mut Cmos, index: u8, value: u8) {
        assert_eq!(cmos.write(0, &[index, value]), Action::Continue);
    }

    const CLOCK: [u8; 8] = [SECONDS, MINUTES, HOURS, DAY_OF_WEEK, DAY, MONTH, YEAR, CENTURY];

    #[test]
    fn the_time_is_bcd_at_first() {
        let mut cmos = cmos();
        let time = CLOCK.map(|index| get(&mut cmos, index));
        assert_eq!(time, [0x58, 0x59, 0x23, 4, 0x31, 0x12, 0x25, 0x20]);
    }

    #[test]
    fn register_b_makes_it_binary() {
        let mut cmos = cmos();
        set(&mut cmos, REGISTER_B, H24 | DM);
        let time = CLOCK.map(|index| get(&mut cmos, index));
        assert_eq!(time, [58, 59, 23, 4, 31, 12, 25, 20]);
    }

    #[test]
    fn twelve_hours_have_no_zero_and_an_afternoon() {
        let mut cmos = cmos();
        set(&mut cmos, REGISTER_B, 0);
        assert_eq!(
            [0, 1, 11, 12, 13, 23].map(|hour| cmos.encode_hours(hour)),
            [0x12, 1, 0x11, 0x92, 0x81, 0x91]
        );
    }

    #[test]
    fn the_calendar_knows_its_leap_years() {
        // Checked with `date --utc --date=@…`.
        for (seconds, day, month, year, century, day_of_week) in [
            (0, 1, 1, 70, 19, 5),
            (951_782_400, 29, 2, 0, 20, 3),
            (1_709_164_800, 29, 2, 24, 20, 5),
            (1_740_787_199, 28, 2, 25, 20, 6),
            (4_107_542_400, 1, 3, 0, 21, 2),
            (12_622_780_800, 1, 1, 70, 23, 5),
        ] {
            let time = Time::at(seconds);
            let date = (time.day, time.month, time.year, time.century, time.day_of_week);
            assert_eq!(date, (day, month, year, century, day_of_week), "{seconds}");
        }
    }

    #[test]
    fn no_moment_is_too_late() {
        assert!(Time::at(u64::MAX).century < 100);
    }

    #[test]
    fn a_guest_cannot_set_the_clock() {
        let mut cmos = cmos();
        set(&mut cmos, SECONDS, 0x11);
        assert_eq!(get(&mut cmos, SECONDS), 0x58);
    }

    #[test]
    fn no_update_is_ever_in_progress_and_the_battery_is_good() {
        let mut cmos = cmos();
        for register in [REGISTER_A, REGISTER_C, REGISTER_D] {
            set(&mut cmos, register, 0xff);
        }
        let registers = [REGISTER_A, REGISTER_C, REGISTER_D].map(|register| get(&mut cmos, register));
        assert_eq!(registers, [0x7f, 0, VRT]);
    }

    #[test]
    fn the_shutdown_status_is_memory() {
        let mut cmos = cmos();
        set(&mut cmos, 0x0f, 0x0a);
        assert_eq!(get(&mut cmos, 0x0f), 0x0a);
    }

    #[test]
    fn the_nmi_bit_is_not_part_of_the_index() {
        assert_eq!(get(&mut cmos(), 0x80 | REGISTER_D), VRT);
    }

    #[test]
    fn memory_sizes_are_told_in_their_units_and_stop_at_their_largest() {
        let mut cmos = cmos();
        let mut word = |low| u16::from_le_bytes([get(&mut cmos, low), get(&mut cmos, low + 1)]);
        assert_eq!(word(0x15), 640);
        assert_eq!((word(0x17), word(0x30)), (0xffff, 0xffff));
        assert_eq!(word(0x34), 0xc000 - 0x100);
        assert_eq!((word(0x5b), get(&mut cmos, 0x5d)), (0x4000, 0));

        let mut small = Cmos::new(new_years_eve, 2 * MIB, 0, 0);
        assert_eq!([0x17, 0x18, 0x34, 0x35, 0x5b].map(|index| get(&mut small, index)), [0x00, 0x04, 0, 0, 0]);
    }

    #[test]
    fn the_other_processors_are_counted() {
        assert_eq!(get(&mut cmos(), 0x5f), 3);
    }

    #[test]
    fn a_wide_access_is_one_byte_after_the_other() {
        let mut cmos = cmos();
        assert_eq!(cmos.write(0, &[0x40, 0x5a, 0xff, 0xff]), Action::Continue);
        let mut data = [0; 2];
        cmos.read(0, &mut data);
        assert_eq!(data, [0xff, 0x5a]);
    }
}
