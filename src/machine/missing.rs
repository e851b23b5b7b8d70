//! What a guest expects that no machine of ours has: a BIOS, a VGA screen, or a Linux under a program of its own.
//!
//! Such a guest waits for ever, halts after it has said its piece to nobody, or crashes at its first system call. Its
//! memory and its registers still show what it wanted. What is found is likely, not certain.
//! Sources: Intel SDM volume 3A, section 21.1.4 "Interrupt and Exception Handling" (in real mode); IBM's PC AT technical
//! reference for the numbers of BIOS interrupts and the text screen; the gABI and the Linux Standard Base for ELF.

use crate::elf::{Elf, PT_INTERP, program};
use crate::kvm::{Memory, Vcpu};
use crate::x86::Registers;
use crate::x86::mode::{CR0_PE, cpl};
use crate::x86::page_table::{Paging, TABLE_SIZE};
use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use vm_memory::{Bytes, GuestAddress};

/// Something that a guest needs, and does not find here.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Missing {
    /// A BIOS, or DOS: it has called one, through an interrupt vector that nobody has set.
    Bios {
        /// The interrupt's number.
        interrupt: u8,
        /// Linear address of the INT instruction.
        at: u64,
    },
    /// The text screen of a PC's graphics adapter: it has written to its memory.
    Screen {
        /// The first line with text on it, without the colours.
        text: String,
    },
    /// Linux: it is a program, and not a kernel.
    Linux,
}

/// `it calls a BIOS (int 0x10 at 0x7c05), and there is none`
impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Missing::Bios { interrupt: interrupt @ 0x20..=0x2f, at } => {
                write!(f, "it calls DOS (int {interrupt:#x} at {at:#x}), and there is none")
            }
            Missing::Bios { interrupt, at } => {
                write!(f, "it calls a BIOS (int {interrupt:#x} at {at:#x}), and there is none")
            }
            Missing::Screen { text } => {
                write!(f, "it writes to a VGA screen at {TEXT_SCREEN:#x}, and there is none: \"{text}\"")
            }
            Missing::Linux => f.write_str("it is a program for Linux, and there is no Linux under it"),
        }
    }
}

impl Missing {
    /// Looks for it in a guest whose first vCPU has these registers. `running_at` is where it was last known to run.
    pub(super) fn find(registers: &Registers, running_at: u64, memory: &Memory) -> Option<Missing> {
        // A Linux that is there has its programs in ring 3, at addresses of their own.
        let is_mapped = Paging::of(&registers.system).translate(memory, running_at) == Some(running_at);
        let is_alone = is_mapped && cpl(&registers.system, registers.general.rflags) == 0;
        let program = || (is_alone && is_linux_program(running_at, memory)).then_some(Missing::Linux);
        bios_call(registers, memory).or_else(program).or_else(|| screen(memory))
    }
}

/// How often a running guest is looked at: at the intervals of upkeep.rs, its first second.
const LOOKS: u32 = 20;

/// Looks for a call of a BIOS while the guest runs. Such a guest soon writes over what the call has left: what runs from
/// 0000:0000 comes to the guest's code again, which calls again, and each call pushes six bytes.
#[derive(Default)]
pub(super) struct BiosWatch {
    looks: AtomicU32,
    found: OnceLock<Missing>,
}

impl BiosWatch {
    /// Looks once more, unless that was done often enough.
    pub fn look(&self, vcpu: &mut Vcpu) {
        if self.found.get().is_some() || self.looks.fetch_add(1, Ordering::Relaxed) >= LOOKS {
            return;
        }
        let found = vcpu.registers_at_exit().ok().and_then(|now| bios_call(&now, vcpu.memory()));
        if let Some(found) = found {
            let _ = self.found.set(found);
        }
    }

    /// What was found.
    pub fn found(&self) -> Option<Missing> {
        self.found.get().cloned()
    }
}

/// Bytes of a vector in real mode: offset and segment.
const VECTOR_SIZE: u64 = 4;
/// The first interrupt that is no exception of the processor's.
const FIRST_SERVICE: u8 = 0x10;
/// How many words of the stack are searched for the address behind an INT.
const STACK_WORDS: usize = 8;

/// A call of a BIOS by a guest in real mode: its INT has pushed FLAGS, CS and IP, and gone to 0000:0000, as the vector
/// is zero. What runs from there are zeroes, which do not push anything.
fn bios_call(registers: &Registers, memory: &Memory) -> Option<Missing> {
    let Registers { general, system } = registers;
    if system.cr0 & CR0_PE != 0 {
        return None;
    }
    let mut stack = [0; 2 * STACK_WORDS];
    memory.read_slice(&mut stack, GuestAddress(system.ss.base + (general.rsp & 0xffff))).ok()?;
    let words: Vec<u64> = stack.as_chunks().0.iter().map(|&word| u16::from_le_bytes(word).into()).collect();
    words.windows(2).find_map(|frame| {
        let at = (frame[1] << 4) + frame[0].checked_sub(2)?;
        let [0xcd, interrupt @ FIRST_SERVICE..=u8::MAX] =
            memory.read_obj::<[u8; 2]>(GuestAddress(at)).ok()?
        else {
            return None;
        };
        let vector = memory.read_obj::<u32>(GuestAddress(u64::from(interrupt) * VECTOR_SIZE)).ok()?;
        (vector == 0).then_some(Missing::Bios { interrupt, at })
    })
}

/// Where a colour screen has its text: a character and its colours for each place, row by row.
const TEXT_SCREEN: u64 = 0xb_8000;
const COLUMNS: usize = 80;
const ROWS: usize = 25;

/// Text on a screen that is not there. Memory is there, as nothing else is at these addresses.
fn screen(memory: &Memory) -> Option<Missing> {
    let mut bytes = [0; 2 * COLUMNS * ROWS];
    memory.read_slice(&mut bytes, GuestAddress(TEXT_SCREEN)).ok()?;
    let cells = bytes.as_chunks().0;
    let is_text = |&&[character, colours]: &&[u8; 2]| matches!(character, b' '..=b'~') && colours != 0;
    let used = cells.iter().filter(|&&cell| cell != [0, 0]).count();
    // Else it is something else that lies there.
    if cells.iter().filter(is_text).count() * 4 < used * 3 {
        return None;
    }
    let line = |row: &[[u8; 2]]| {
        let text: String = row.iter().map(|cell| if is_text(&cell) { cell[0].into() } else { ' ' }).collect();
        text.trim().to_owned()
    };
    let text = cells.chunks(COLUMNS).map(line).find(|line| !line.is_empty())?;
    Some(Missing::Screen { text })
}

/// `p_type` of what only programs have: variables of each thread, and data that is read-only after relocation.
const PT_TLS: u32 = 7;
const PT_GNU_RELRO: u32 = 0x6474_e552;
/// How far below the code the file's header is looked for.
const HEADER_WITHIN: u64 = 64 << 20;

/// Whether the code at `rip` comes from a program for Linux. The first segment of one begins with the file's own header,
/// on a page of memory below its code.
fn is_linux_program(rip: u64, memory: &Memory) -> bool {
    let pages = (rip.saturating_sub(HEADER_WITHIN) / TABLE_SIZE..=rip / TABLE_SIZE).rev();
    for page in pages.map(|page| page * TABLE_SIZE) {
        let Ok(magic) = memory.read_obj::<[u8; 4]>(GuestAddress(page)) else { return false };
        if magic != *crate::elf::ELFMAG {
            continue;
        }
        let mut head = [0; TABLE_SIZE as usize];
        let _ = memory.read_slice(&mut head, GuestAddress(page));
        let Ok(elf) = Elf::parse(&head) else { return false };
        let is_programs_own = |p_type| matches!(p_type, PT_INTERP | PT_TLS | PT_GNU_RELRO);
        return elf.segments().any(|segment| is_programs_own(segment.p_type)) || program::has_abi_tag(&elf);
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::x86::{Entry, Mode};

    fn memory() -> Memory {
        Memory::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap()
    }

    fn registers(mode: Mode, rsp: u64) -> Registers {
        let entry = Entry { rsp, ..Entry::at(mode, 0x20) };
        Registers { general: entry.regs(), system: entry.sregs() }
    }

    #[test]
    fn a_call_of_the_bios_is_found_on_the_stack() {
        let memory = memory();
        memory.write_slice(&[0xb4, 0x0e, 0xcd, 0x10], GuestAddress(0x7c00)).unwrap();
        // A word that the guest pushed, then IP, CS and FLAGS.
        let stack = [0x1234_u16, 0x7c04, 0, 0x0202].map(u16::to_le_bytes).concat();
        memory.write_slice(&stack, GuestAddress(0x6ff0)).unwrap();
        let find = |mode| bios_call(&registers(mode, 0x6ff0), &memory);
        let found = Missing::Bios { interrupt: 0x10, at: 0x7c02 };
        assert_eq!(find(Mode::Real), Some(found.clone()));
        assert_eq!(found.to_string(), "it calls a BIOS (int 0x10 at 0x7c02), and there is none");
        assert_eq!(find(Mode::Protected), None);
        // The guest has a handler of its own.
        memory.write_obj(0x0000_7c00_u32, GuestAddress(0x10 * VECTOR_SIZE)).unwrap();
        assert_eq!(find(Mode::Real), None);
        memory.write_obj(0x21_u8, GuestAddress(0x7c03)).unwrap();
        assert!(find(Mode::Real).unwrap().to_string().contains("DOS (int 0x21"));
        memory.write_obj(0x0d_u8, GuestAddress(0x7c03)).unwrap();
        assert_eq!(find(Mode::Real), None, "an exception is none of the BIOS");
    }

    #[test]
    fn text_on_a_screen_is_read_as_its_viewer_would() {
        let memory = memory();
        assert_eq!(screen(&memory), None);
        let cells = |text: &str| text.bytes().flat_map(|byte| [byte, 0x07]).collect::<Vec<u8>>();
        memory.write_slice(&cells("  Hello, VGA!"), GuestAddress(TEXT_SCREEN + 160)).unwrap();
        let found = Missing::find(&registers(Mode::Protected, 0x8000), 0x20, &memory).unwrap();
        assert_eq!(found, Missing::Screen { text: "Hello, VGA!".into() });
        assert!(found.to_string().ends_with("and there is none: \"Hello, VGA!\""));
        memory.write_slice(&cells(&" ".repeat(2000)), GuestAddress(TEXT_SCREEN)).unwrap();
        assert_eq!(screen(&memory), None, "cleared");
        memory.write_slice(&[0xa5; 4000], GuestAddress(TEXT_SCREEN)).unwrap();
        assert_eq!(screen(&memory), None, "something else");
        let small = Memory::from_ranges(&[(GuestAddress(0), 0x1_0000)]).unwrap();
        assert_eq!(screen(&small), None);
    }

    #[test]
    fn a_program_for_linux_is_known_by_its_header_in_memory() {
        use crate::elf::images::Image;
        let is_one = |image: Image, rip| {
            let memory = memory();
            memory.write_slice(&image.bytes(), GuestAddress(0x2_0000)).unwrap();
            is_linux_program(rip, &memory)
        };
        let note = |name: &[u8; 4], system: u32| {
            let numbers = [4_u32, 16, 1].map(u32::to_le_bytes).concat();
            [&numbers[..], name, &[system, 3, 2, 0].map(u32::to_le_bytes).concat()].concat()
        };
        assert!(!is_one(Image::elf64(), 0x2_1000), "a kernel");
        assert!(is_one(Image::elf64().notes(&note(b"GNU\0", 0), 4), 0x2_1000));
        assert!(!is_one(Image::elf64().notes(&note(b"GNU\0", 1), 4), 0x2_1000), "for the Hurd");
        assert!(!is_one(Image::elf64().notes(&note(b"Xen\0", 0), 4), 0x2_1000));
        assert!(is_one(Image::elf64().interpreter(b"/lib64/ld-linux-x86-64.so.2\0"), 0x2_1000));
        assert!(!is_one(Image::elf64().interpreter(b"ld.so\0"), 0x1_f000), "the code lies before it");
        assert!(!is_one(Image::elf64().interpreter(b"ld.so\0"), 1 << 30), "no memory there");
        // In ring 3, or at another address than memory has, it is the program of a Linux that is there.
        let memory = memory();
        memory.write_slice(&Image::elf64().interpreter(b"ld.so\0").bytes(), GuestAddress(0x2_0000)).unwrap();
        let mut now = registers(Mode::Protected, 0x8000);
        assert_eq!(Missing::find(&now, 0x2_0100, &memory), Some(Missing::Linux));
        assert_eq!(Missing::find(&now, 0x1_0002_0100, &memory), None);
        now.system.ss.dpl = 3;
        assert_eq!(Missing::find(&now, 0x2_0100, &memory), None);
    }
}
