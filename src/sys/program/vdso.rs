//! The vDSO: code and data of the kernel in every process, which tell the time without a system call.
//!
//! Sources: vdso(7), proc_pid_maps(5).

use std::fs;
use std::io;

/// Where the kernel has put it into this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vdso {
    /// The first byte of its data, `[vvar]`, in our address space.
    pub start: u64,
    /// Bytes of data and code.
    pub len: u64,
    /// How far from `start` the code begins, as an ELF file.
    pub code: u64,
}

impl Vdso {
    /// Looks for it in /proc/self/maps; `None` where there is none, or not in one piece.
    pub fn find() -> io::Result<Option<Vdso>> {
        Ok(Vdso::in_maps(&fs::read_to_string("/proc/self/maps")?))
    }

    fn in_maps(maps: &str) -> Option<Vdso> {
        let (mut start, mut end, mut code) = (None, 0, None);
        for line in maps.lines().filter(|line| line.ends_with(']')) {
            let name = line.rsplit(' ').next().unwrap_or_default();
            if name != "[vdso]" && !name.starts_with("[vvar") {
                continue;
            }
            let (from, to) = line.split(' ').next()?.split_once('-')?;
            let (from, to) = (u64::from_str_radix(from, 16).ok()?, u64::from_str_radix(to, 16).ok()?);
            if start.is_some() && from != end {
                return None;
            }
            start.get_or_insert(from);
            end = to;
            if name == "[vdso]" {
                code = Some(from);
            }
        }
        let start = start?;
        Some(Vdso { start, len: end - start, code: code? - start })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_and_code_are_one_piece() {
        let maps = "7f00-8000 rw-p 0 00:00 0 [heap]\n7000-b000 r--p 0 00:00 0    [vvar]\n\
                    b000-d000 r--p 0 00:00 0   [vvar_vclock]\nd000-f000 r-xp 0 00:00 0  [vdso]\n";
        assert_eq!(Vdso::in_maps(maps), Some(Vdso { start: 0x7000, len: 0x8000, code: 0x6000 }));
        assert_eq!(Vdso::in_maps(&maps.replace("b000-d000", "b800-d000")), None);
        assert_eq!(Vdso::in_maps("7000-b000 r--p 0 00:00 0 [vvar]\n"), None);
        assert_eq!(Vdso::in_maps(""), None);
    }
}
