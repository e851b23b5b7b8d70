//! Arguments and results of system calls in words, as strace(1) writes them: strings quoted and cut, flags by name,
//! structs in short. What is a program's own text is escaped, byte by byte.

use super::meaning::Meaning;
use super::names;
use crate::timeline::ProgramMemory;

/// Bytes that are shown of a buffer.
const DATA_MAX: usize = 32;
/// Bytes that are shown of a path or of an argument of a program.
const TEXT_MAX: usize = 200;
/// Members that are shown of an array.
const ITEMS_MAX: usize = 8;

/// A call's arguments, for what one may say of another.
pub struct Call<'a> {
    /// In their order.
    pub words: &'a [u64; 6],
    /// Its result, once there is one that is no error.
    pub result: Option<u64>,
    /// The program's memory.
    pub memory: &'a dyn ProgramMemory,
}

/// Bytes in quotes; an ellipsis if there were more.
pub fn quoted(bytes: &[u8], is_cut: bool) -> String {
    let more = if is_cut { "..." } else { "" };
    format!("\"{}\"{more}", bytes.escape_ascii())
}

/// A number with a sign, if its low 32 bits have one and no others are there.
fn number(word: u64) -> String {
    match word {
        0x8000_0000..=0xffff_ffff => (word as u32 as i32).to_string(),
        word => (word as i64).to_string(),
    }
}

fn address(word: u64) -> String {
    if word == 0 { "NULL".into() } else { format!("{word:#x}") }
}

impl Call<'_> {
    /// Argument `at`, which means `meaning`, and has `len` bytes if it is memory.
    pub fn argument(&self, at: usize, meaning: Meaning, len: u64) -> String {
        let word = self.words[at];
        let low = word & 0xffff_ffff;
        match meaning {
            Meaning::Number => number(word),
            Meaning::Address => address(word),
            Meaning::Hex if word == 0 => "0".into(),
            Meaning::Hex => format!("{word:#x}"),
            Meaning::Octal if low == 0 => "0".into(),
            Meaning::Octal => format!("0{low:o}"),
            Meaning::Descriptor if low as i32 == libc::AT_FDCWD => "AT_FDCWD".into(),
            Meaning::Descriptor => (low as i32).to_string(),
            Meaning::Flags(list) => names::flags(list, low),
            Meaning::Choice(list) => names::choice(list, low),
            Meaning::Both(mask, list, more) => match (names::choice(list, low & mask), low & !mask) {
                (choice, 0) => choice,
                (choice, bits) => format!("{choice}|{}", names::flags(more, bits)),
            },
            Meaning::Signal => names::signal(low),
            Meaning::Clone => {
                let signal = match low & 0xff {
                    0 => String::new(),
                    signal => names::signal(signal),
                };
                match (low & !0xff, signal.as_str()) {
                    (0, signal) => signal.to_owned(),
                    (bits, "") => names::flags(names::CLONE, bits),
                    (bits, signal) => format!("{}|{signal}", names::flags(names::CLONE, bits)),
                }
            }
            // The rest are addresses.
            _ if word == 0 => "NULL".into(),
            meaning => self.behind(word, meaning, len).unwrap_or_else(|| address(word)),
        }
    }

    /// What lies at an address. `None` if it cannot be read, or is not there yet.
    fn behind(&self, at: u64, meaning: Meaning, len: u64) -> Option<String> {
        let sized = |len: u64| self.data(at, len);
        Some(match meaning {
            Meaning::Path => self.string(at, TEXT_MAX)?,
            Meaning::Data => sized(len)?,
            Meaning::Filled => sized(self.result?.min(len))?,
            Meaning::Text => {
                self.result?;
                self.string(at, TEXT_MAX)?
            }
            Meaning::Pieces(count) => self.pieces(at, self.words[count], None)?,
            Meaning::Room(count) => self.pieces(at, self.words[count], Some(self.result?))?,
            Meaning::Strings => self.strings(at)?,
            Meaning::Environment => format!("{} /* {} vars */", address(at), self.count(at)?),
            Meaning::Stat => {
                self.result?;
                // asm/stat.h: st_mode is the fifth 32-bit word from byte 24 on, st_size the long at 48.
                let (mode, size) = (self.word(at + 24)? & 0xffff_ffff, self.word(at + 48)?);
                let kind = names::choice(names::FILES, mode & 0o17_0000);
                format!("{{st_mode={kind}|0{:o}, st_size={size}, ...}}", mode & 0o7777)
            }
            Meaning::Pair(first, second, is_written) => {
                self.ready(is_written)?;
                let [a, b] = [self.word(at)?, self.word(at + 8)?].map(limit);
                format!("{{{first}={a}, {second}={b}}}")
            }
            Meaning::Timer(is_written) => {
                self.ready(is_written)?;
                let [a, b, c, d] = [0, 8, 16, 24].map(|offset| self.word(at + offset));
                format!("{{interval={}.{:09}, value={}.{:09}}}", a?, b?, c?, d?)
            }
            Meaning::Signals(is_written) => {
                self.ready(is_written)?;
                names::signals(self.word(at)?)
            }
            Meaning::Action(is_written) => {
                self.ready(is_written)?;
                let handler = match self.word(at)? {
                    0 => "SIG_DFL".into(),
                    1 => "SIG_IGN".into(),
                    handler => address(handler),
                };
                // SA_RESTORER is every C library's, and says nothing.
                let flags = names::flags(names::ACTION, self.word(at + 8)? & !0x0400_0000);
                let mask = names::signals(self.word(at + 24)?);
                format!("{{sa_handler={handler}, sa_mask={mask}, sa_flags={flags}}}")
            }
            Meaning::Polled => {
                let count = self.words[1];
                let item = |index: u64| {
                    let word = self.word(at + index * 8)?;
                    let events = names::flags(names::POLL, word >> 32 & 0xffff);
                    Some(format!("{{fd={}, events={events}}}", word as i32))
                };
                list(count, item)?
            }
            Meaning::Ints(count) => {
                self.result?;
                let item = |index: u64| {
                    let mut bytes = [0; 4];
                    let is_there = self.memory.read(at + index * 4, &mut bytes);
                    is_there.then(|| i32::from_le_bytes(bytes).to_string())
                };
                list(count as u64, item)?
            }
            Meaning::WaitStatus => {
                // Zero says that nobody has ended.
                self.result.filter(|&child| child != 0)?;
                let mut bytes = [0; 4];
                self.memory.read(at, &mut bytes).then_some(())?;
                wait_status(i32::from_le_bytes(bytes))
            }
            Meaning::System => {
                self.result?;
                format!("{{sysname={}, nodename={}, ...}}", self.string(at, 65)?, self.string(at + 65, 65)?)
            }
            Meaning::SocketAddress => {
                let family = names::choice(names::FAMILY, self.word(at)? & 0xffff);
                format!("{{sa_family={family}, ...}}")
            }
            _ => return None,
        })
    }

    /// Whether there is something to be seen already.
    fn ready(&self, is_written: bool) -> Option<()> {
        (!is_written || self.result.is_some()).then_some(())
    }

    fn word(&self, at: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        self.memory.read(at, &mut bytes).then(|| u64::from_le_bytes(bytes))
    }

    fn data(&self, at: u64, len: u64) -> Option<String> {
        let mut bytes = vec![0; len.min(DATA_MAX as u64) as usize];
        self.memory.read(at, &mut bytes).then(|| quoted(&bytes, len > DATA_MAX as u64))
    }

    fn string(&self, at: u64, limit: usize) -> Option<String> {
        let mut bytes = Vec::new();
        while bytes.len() < limit {
            let mut byte = [0];
            if !self.memory.read(at.checked_add(bytes.len() as u64)?, &mut byte) {
                return None;
            }
            if byte[0] == 0 {
                return Some(quoted(&bytes, false));
            }
            bytes.push(byte[0]);
        }
        Some(quoted(&bytes, true))
    }

    fn pieces(&self, at: u64, count: u64, written: Option<u64>) -> Option<String> {
        let mut left = written.unwrap_or(u64::MAX);
        let item = |index: u64| {
            let (start, len) = (self.word(at + index * 16)?, self.word(at + index * 16 + 8)?);
            let shown = len.min(left);
            left -= shown;
            let base = self.data(start, shown).unwrap_or_else(|| address(start));
            Some(format!("{{iov_base={base}, iov_len={len}}}"))
        };
        list(count, item)
    }

    fn strings(&self, at: u64) -> Option<String> {
        let count = self.count(at)?;
        list(count, |index| self.string(self.word(at + index * 8)?, TEXT_MAX))
    }

    /// How many addresses there are up to a zero.
    fn count(&self, at: u64) -> Option<u64> {
        const MANY: u64 = 10_000;
        for index in 0..MANY {
            if self.word(at.checked_add(index * 8)?)? == 0 {
                return Some(index);
            }
        }
        Some(MANY)
    }
}

/// A number of `struct rlimit` or of a time.
fn limit(value: u64) -> String {
    match value {
        libc::RLIM_INFINITY => "RLIM64_INFINITY".into(),
        value => (value as i64).to_string(),
    }
}

/// An array in brackets: its first members.
fn list(count: u64, mut item: impl FnMut(u64) -> Option<String>) -> Option<String> {
    let shown = (0..count.min(ITEMS_MAX as u64)).map(&mut item).collect::<Option<Vec<_>>>()?;
    let more = if count > ITEMS_MAX as u64 { ", ..." } else { "" };
    Some(format!("[{}{more}]", shown.join(", ")))
}

fn wait_status(status: i32) -> String {
    if libc::WIFEXITED(status) {
        format!("[exited with {}]", libc::WEXITSTATUS(status))
    } else if libc::WIFSTOPPED(status) {
        format!("[stopped by {}]", names::signal(libc::WSTOPSIG(status) as u64))
    } else if libc::WIFSIGNALED(status) {
        format!("[killed by {}]", names::signal(libc::WTERMSIG(status) as u64))
    } else {
        "[goes on]".into()
    }
}

/// The result of a call: a number, an address where the call gives one, or the error's name.
pub fn result(number: i64, value: i64) -> (String, Option<String>) {
    match value {
        -4095..=-1 => {
            let name = names::name(names::ERRORS, -value as u64);
            ("-1".into(), Some(name.map_or_else(|| format!("errno {}", -value), str::to_owned)))
        }
        value => {
            let text = match number {
                libc::SYS_mmap | libc::SYS_brk | libc::SYS_mremap => format!("{value:#x}"),
                libc::SYS_umask => format!("0{value:o}"),
                _ => value.to_string(),
            };
            (text, None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Memory that begins at 0x1000.
    struct Bytes(Vec<u8>);

    impl ProgramMemory for Bytes {
        fn read(&self, at: u64, bytes: &mut [u8]) -> bool {
            let piece =
                at.checked_sub(0x1000).and_then(|at| self.0.get(at as usize..at as usize + bytes.len()));
            piece.inspect(|piece| bytes.copy_from_slice(piece)).is_some()
        }

        fn write(&self, _: u64, _: &[u8]) -> bool {
            false
        }
    }

    fn words_of(memory: &[u8], words: [u64; 6], result: Option<u64>, meaning: Meaning, len: u64) -> String {
        let memory = Bytes(memory.to_vec());
        Call { words: &words, result, memory: &memory }.argument(0, meaning, len)
    }

    #[test]
    fn what_is_the_programs_own_is_escaped_and_cut() {
        let at =
            |memory: &[u8], meaning, len| words_of(memory, [0x1000, 0, 0, 0, 0, 0], Some(len), meaning, len);
        assert_eq!(at(b"a\x1b[2J\n\"\xff", Meaning::Data, 8), r#""a\x1b[2J\n\"\xff""#);
        assert_eq!(at(&[b'x'; 100], Meaning::Data, 100), format!("\"{}\"...", "x".repeat(32)));
        assert_eq!(at(b"/etc\0", Meaning::Path, 1), "\"/etc\"");
        assert_eq!(at(b"no end", Meaning::Path, 1), "0x1000", "it is not all there");
        assert_eq!(at(b"", Meaning::Data, u64::MAX), "0x1000");
        assert_eq!(words_of(b"", [0; 6], None, Meaning::Data, 3), "NULL");
    }

    #[test]
    fn what_a_call_writes_is_shown_when_it_has() {
        let memory = [b"abcdef".as_slice(), &[0; 10]].concat();
        let read = |result| words_of(&memory, [0x1000, 0, 0, 0, 0, 0], result, Meaning::Filled, 6);
        assert_eq!((read(None), read(Some(3))), ("0x1000".into(), "\"abc\"".into()));
        let pair = [4_i32.to_le_bytes(), 5_i32.to_le_bytes()].concat();
        assert_eq!(words_of(&pair, [0x1000, 0, 0, 0, 0, 0], Some(0), Meaning::Ints(2), 8), "[4, 5]");
    }

    #[test]
    fn numbers_have_signs_and_flags_their_names() {
        let one = |word, meaning| words_of(b"", [word, 0, 0, 0, 0, 0], None, meaning, 0);
        assert_eq!(one(0xffff_ffff, Meaning::Number), "-1");
        assert_eq!(one(u64::MAX, Meaning::Number), "-1");
        assert_eq!(one(libc::AT_FDCWD as u64, Meaning::Descriptor), "AT_FDCWD");
        assert_eq!(one(0o644, Meaning::Octal), "0644");
        assert_eq!(one(libc::SIGCHLD as u64 | 0x4100, Meaning::Clone), "CLONE_VM|CLONE_VFORK|SIGCHLD");
        let open = Meaning::Both(3, names::ACCESS_MODE, names::OPEN);
        assert_eq!(one(libc::O_CLOEXEC as u64, open), "O_RDONLY|O_CLOEXEC");
        assert_eq!(result(libc::SYS_open, -2), ("-1".into(), Some("ENOENT".into())));
        assert_eq!(result(libc::SYS_brk, 0x1000), ("0x1000".into(), None));
    }
}
