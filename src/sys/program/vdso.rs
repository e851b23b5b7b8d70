//! The vDSO: code and data of the kernel in every process, which tell the time without a system call.
//!
//! Sources: vdso(7), proc_pid_maps(5); System V gABI, chapter 4 "ELF Header".

use super::process::auxiliary;
use std::fs;
use std::io;
use std::ptr::with_exposed_provenance;

/// Its code, whole pages, as an ELF file; `None` where there is none.
pub fn vdso_code() -> Option<&'static [u8]> {
    let at = auxiliary(libc::AT_SYSINFO_EHDR) as usize;
    if at == 0 {
        return None;
    }
    // SAFETY: the kernel has mapped an ELF file there, for as long as the process; it begins with its header.
    let header: &[u8; 64] = unsafe { &*with_exposed_provenance(at) };
    let [low, high] = [header[0x3a], header[0x3b]];
    let size_of_section = usize::from(u16::from_le_bytes([low, high]));
    let sections = usize::from(u16::from_le_bytes([header[0x3c], header[0x3d]]));
    // The table of its sections, e_shoff, is the last thing in it.
    let table = u64::from_le_bytes(header[0x28..0x30].try_into().expect("eight bytes")) as usize;
    let len = table.checked_add(sections * size_of_section)?.checked_next_multiple_of(PAGE)?;
    // SAFETY: all of the file is mapped, in whole pages, and nobody writes to it.
    Some(unsafe { std::slice::from_raw_parts(with_exposed_provenance(at), len) })
}

const PAGE: usize = 4096;

/// Where the kernel has put its data, `[vvar]`, into this process: right before the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VdsoData {
    /// The first byte, in our address space.
    pub start: u64,
    /// How many bytes there are.
    pub len: u64,
}

impl VdsoData {
    /// Looks for it in /proc/self/maps; `None` where there is none, or not in one piece with the code.
    pub fn find() -> io::Result<Option<VdsoData>> {
        Ok(VdsoData::in_maps(&fs::read_to_string("/proc/self/maps")?))
    }

    fn in_maps(maps: &str) -> Option<VdsoData> {
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
        Some(VdsoData { start, len: code? - start })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_and_code_are_one_piece() {
        let maps = "7f00-8000 rw-p 0 00:00 0 [heap]\n7000-b000 r--p 0 00:00 0    [vvar]\n\
                    b000-d000 r--p 0 00:00 0   [vvar_vclock]\nd000-f000 r-xp 0 00:00 0  [vdso]\n";
        assert_eq!(VdsoData::in_maps(maps), Some(VdsoData { start: 0x7000, len: 0x6000 }));
        assert_eq!(VdsoData::in_maps(&maps.replace("b000-d000", "b800-d000")), None);
        assert_eq!(VdsoData::in_maps("7000-b000 r--p 0 00:00 0 [vvar]\n"), None);
        assert_eq!(VdsoData::in_maps(""), None);
    }

    #[test]
    fn the_code_is_what_the_kernel_says_it_is() {
        let Some(code) = vdso_code() else { return };
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let line = maps.lines().find(|line| line.ends_with("[vdso]")).unwrap();
        let (from, to) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let at = |text| usize::from_str_radix(text, 16).unwrap();
        assert_eq!((code.as_ptr() as usize, code.len()), (at(from), at(to) - at(from)));
        assert!(code.starts_with(b"\x7fELF"));
    }
}
