//! How an ELF file shows that it is a program for Linux, and not a kernel.
//!
//! Only marks that no kernel has are looked for: a mistake here would keep a kernel from being booted. So not every
//! program is known: one without a C library has no mark at all. Sources: Linux Standard Base, "Linux ABI tag"; the first
//! instructions of a program are those of musl (arch/x86_64/crt_arch.h) and of Go (runtime/asm_amd64.s, _rt0_amd64).

use super::notes::{self, Note};
use super::{Class, EM_X86_64, ET_DYN, ET_EXEC, Elf, PT_LOAD};

/// The note that says for which system a program is, by its owner `GNU`; 0 is Linux.
const NT_GNU_ABI_TAG: u32 = 1;

/// Whether `elf` is an x86-64 program for Linux.
pub fn is_for_linux(elf: &Elf) -> bool {
    let is_executable = elf.header.class == Class::Elf64
        && elf.header.e_machine == EM_X86_64
        && [ET_EXEC, ET_DYN].contains(&elf.header.e_type);
    is_executable && (has_linux_loader(elf) || has_abi_tag(elf) || begins_like_a_program(elf))
}

/// Whether a note says that it is for Linux: those of GNU's C library do.
pub fn has_abi_tag(elf: &Elf) -> bool {
    let names_linux =
        |note: &Note| note.kind == NT_GNU_ABI_TAG && note.name == b"GNU\0" && note.desc.starts_with(&[0; 4]);
    notes::find(elf, names_linux).is_ok_and(|note| note.is_some())
}

/// Whether it asks for one of Linux's loaders, such as /lib64/ld-linux-x86-64.so.2 or /lib/ld-musl-x86_64.so.1. Others
/// have an interpreter as well: FreeBSD's kernel names /red/herring.
fn has_linux_loader(elf: &Elf) -> bool {
    let Ok(Some(path)) = elf.interpreter() else { return false };
    let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    name.starts_with(b"ld-linux") || name.starts_with(b"ld-musl")
}

/// Whether its first instructions take their arguments from the stack, where Linux leaves them for a program.
fn begins_like_a_program(elf: &Elf) -> bool {
    let Some(code) = code_at(elf, elf.header.e_entry) else { return false };
    match code {
        // xor rbp, rbp; mov rdi, rsp; lea rsi, [rip + _DYNAMIC], or mov rsi, 0; and rsp, -16
        [0x48, 0x31, 0xed, 0x48, 0x89, 0xe7, 0x48, 0x8d, 0x35, _, _, _, _, 0x48, 0x83, 0xe4, 0xf0, ..]
        | [0x48, 0x31, 0xed, 0x48, 0x89, 0xe7, 0x48, 0xc7, 0xc6, _, _, _, _, 0x48, 0x83, 0xe4, 0xf0, ..] => {
            true
        }
        // jmp to: mov rdi, [rsp]; lea rsi, [rsp + 8]; jmp
        [0xe9, distance @ ..] => {
            let distance = distance.first_chunk().copied().map_or(0, i32::from_le_bytes);
            let to = elf.header.e_entry.wrapping_add(5).wrapping_add_signed(distance.into());
            let begin = [0x48, 0x8b, 0x3c, 0x24, 0x48, 0x8d, 0x74, 0x24, 0x08, 0xe9];
            code_at(elf, to).is_some_and(|code| code.starts_with(&begin))
        }
        _ => false,
    }
}

/// The bytes of the segment with virtual address `address`, from there on.
fn code_at<'a>(elf: &Elf<'a>, address: u64) -> Option<&'a [u8]> {
    let holds =
        |segment: &super::ProgramHeader| segment.memory_range().is_some_and(|range| range.contains(&address));
    let segment = elf.segments_of(PT_LOAD).find(holds)?;
    let offset = usize::try_from(address.checked_sub(segment.p_vaddr)?).ok()?;
    elf.bytes("a segment", &segment).ok()?.get(offset..)
}

#[cfg(test)]
mod tests {
    use super::super::images::{AT, Image, note};
    use super::*;

    fn is_program(image: &Image) -> bool {
        is_for_linux(&Elf::parse(&image.bytes()).unwrap())
    }

    /// An executable that begins with `code`.
    fn with(code: &[u8]) -> Image {
        Image { segments: Vec::new(), ..Image::elf64() }.load(AT, code, code.len() as u64)
    }

    #[test]
    fn programs_are_told_from_kernels_by_marks_that_no_kernel_has() {
        let linux = note(b"GNU\0", 1, &[0; 16], 4);
        let freebsd = note(b"GNU\0", 1, &[3; 16], 4);
        let musl = b"\x48\x31\xed\x48\x89\xe7\x48\x8d\x35\x01\x02\x03\x04\x48\x83\xe4\xf0\xe8";
        let go = b"\xe9\x02\0\0\0\x90\x90\x48\x8b\x3c\x24\x48\x8d\x74\x24\x08\xe9\0\0\0\0";
        for program in [
            Image::elf64().interpreter(b"/lib64/ld-linux-x86-64.so.2\0"),
            Image::elf64().interpreter(b"/lib/ld-musl-x86_64.so.1\0"),
            Image::elf64().notes(&linux, 4),
            with(musl),
            with(go),
        ] {
            assert!(is_program(&program), "{program:?}");
        }
        for kernel in [
            Image::elf64(),
            Image::elf64().interpreter(b"/red/herring\0"),
            Image::elf64().notes(&freebsd, 4),
            Image::elf64().notes(&note(b"Xen\0", 18, &[0; 4], 4), 4),
            Image::elf32().notes(&linux, 4),
            with(&musl[..16]),
            with(b"\xe9\xff\xff\xff\x7f"),
            with(b"\xe9\0"),
        ] {
            assert!(!is_program(&kernel), "{kernel:?}");
        }
    }

    #[test]
    fn this_very_test_and_a_shell_are_programs() {
        for path in ["/proc/self/exe", "/bin/sh"] {
            let file = std::fs::read(path).unwrap();
            assert!(is_for_linux(&Elf::parse(&file).unwrap()), "{path}");
        }
    }
}
