//! A program file becomes the memory of a process: its segments, its interpreter, its first stack.
//!
//! Sources: System V gABI, chapter 5 "Program Header"; x86-64 psABI, section 3.4 "Process Initialization"; execve(2),
//! getauxval(3); for where things lie, Linux's fs/binfmt_elf.c.

use super::address_space::{ARENA, AddressSpace, FIRST_END, LOWEST};
use super::errno::Errno;
use crate::elf::program::has_abi_tag;
use crate::elf::{
    Class, EM_X86_64, ET_DYN, ET_EXEC, Elf, Header, PF_R, PF_W, PF_X, PT_INTERP, PT_LOAD, PT_PHDR,
    ProgramHeader,
};
use crate::sys;
use crate::sys::program::{Source, auxiliary};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

const PAGE: u64 = 4096;
/// What a larger program's stack ends at a multiple of.
const LARGE: u64 = 64 << 20;
/// The stack, as large as `ulimit -s` usually says.
pub const STACK: u64 = 8 << 20;
/// What stays free below the stack, so that who runs over its end finds nothing.
const STACK_GUARD: u64 = 1 << 20;
/// Where a position-independent program begins, at the earliest.
const BASE: u64 = 4 << 20;
/// A small program's image ends below this; a larger one has its stack behind it.
const IMAGE_END: u64 = 40 << 20;
/// The most bytes of arguments and environment: a quarter of the stack, as in Linux.
pub const STRINGS_MAX: usize = 2 << 20;
/// It does not fit the address space.
const NO_ROOM: Refusal = Refusal::System(libc::ENOMEM);
/// The most bytes of the headers that are read at once.
const HEAD: usize = 4096;

/// What is to be a program.
pub struct Executable {
    file: File,
    header: Header,
    segments: Vec<ProgramHeader>,
    /// The path of the one that loads it and its libraries.
    pub interpreter: Option<Vec<u8>>,
    /// Whether it has GNU's C library in it.
    has_gnu_libc: bool,
    /// What is to be said if its file ends too early. Linux begins such a program all the same.
    pub short: Option<Refusal>,
}

/// Why a file is no program that can be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It begins otherwise than programs do.
    #[error("it is neither an ELF program nor a script")]
    NotElf,
    /// It is for another machine, by ELF's number.
    #[error("it is for another processor (ELF machine {0})")]
    Machine(u16),
    /// It is for 32-bit processors.
    #[error("it is a 32-bit program")]
    Narrow,
    /// It is a library or an object file, or something of it does not hold together.
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
    /// It ends before the last of its segments does.
    #[error("it is cut off: of {wants} bytes it has {has}")]
    Short {
        /// Bytes of the file up to the end of its segments.
        wants: u64,
        /// Its size.
        has: u64,
    },
    /// It cannot be read or mapped, by the number of errno(3).
    #[error("{}", io::Error::from_raw_os_error(*.0))]
    System(i32),
}

impl Refusal {
    /// What execve(2) says.
    pub(super) fn errno(self) -> Errno {
        match self {
            Refusal::System(errno) => Errno(errno),
            Refusal::Short { .. } => Errno(libc::EIO),
            _ => Errno(libc::ENOEXEC),
        }
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Refusal {
        Refusal::System(error.raw_os_error().unwrap_or(libc::EIO))
    }
}

/// What an address space has refused.
fn refused(Errno(errno): Errno) -> Refusal {
    Refusal::System(errno)
}

impl Executable {
    /// Reads the headers of a program, in a file of `size` bytes.
    pub fn read(file: File, size: u64) -> Result<Executable, Refusal> {
        let mut head = [0; HEAD];
        let len = read_up_to(&file, &mut head, 0)?;
        let head = &head[..len];
        let header = Header::parse(head).map_err(|error| match error {
            crate::elf::ElfError::Magic => Refusal::NotElf,
            _ => Refusal::Damaged("its ELF header"),
        })?;
        match header {
            Header { class: Class::Elf32, .. } => return Err(Refusal::Narrow),
            Header { e_machine, .. } if e_machine != EM_X86_64 => return Err(Refusal::Machine(e_machine)),
            Header { e_type: ET_EXEC | ET_DYN, .. } => {}
            _ => return Err(Refusal::Damaged("its type: it is no executable")),
        }
        let at = header.program_headers().map_err(|_| Refusal::Damaged("its program headers"))?;
        let table_size = (at.end - at.start) as usize;
        let table = match head.get(at.start as usize..at.start as usize + table_size) {
            Some(table) => table.to_vec(),
            None => {
                let mut table = vec![0; table_size];
                file.read_exact_at(&mut table, at.start)
                    .map_err(|_| Refusal::Damaged("its program headers"))?;
                table
            }
        };
        let segments: Vec<ProgramHeader> = ProgramHeader::all(&table, Class::Elf64).collect();
        let is_sound = |segment: &ProgramHeader| segment.check().is_ok() && segment.p_align <= 1 << 30;
        let loads = || segments.iter().filter(|segment| segment.p_type == PT_LOAD);
        if loads().next().is_none() || !loads().all(is_sound) {
            return Err(Refusal::Damaged("its segments"));
        }
        let wants =
            loads().map(|segment| segment.p_offset.saturating_add(segment.p_filesz)).max().unwrap_or(0);
        let short = (wants > size).then_some(Refusal::Short { wants, has: size });
        let interpreter = segments.iter().find(|segment| segment.p_type == PT_INTERP);
        let interpreter = interpreter.map(|segment| {
            let mut path = vec![0; segment.p_filesz.min(4096) as usize];
            file.read_exact_at(&mut path, segment.p_offset).map_err(|error| short.unwrap_or(error.into()))?;
            path.truncate(path.iter().position(|&byte| byte == 0).unwrap_or(path.len()));
            Ok::<_, Refusal>(path)
        });
        // Its notes lie behind its headers.
        let has_gnu_libc = Elf::new(header, head).is_ok_and(|elf| has_abi_tag(&elf));
        Ok(Executable { interpreter: interpreter.transpose()?, file, header, segments, has_gnu_libc, short })
    }

    /// Whether it executes CPUID as soon as it starts, as far as can be told: loaders and GNU's C library do.
    pub fn asks_cpuid(&self) -> bool {
        self.interpreter.is_some() || self.has_gnu_libc
    }

    fn loads(&self) -> impl Iterator<Item = &ProgramHeader> {
        self.segments.iter().filter(|segment| segment.p_type == PT_LOAD && segment.p_memsz > 0)
    }

    /// From the first byte to the last, at the addresses of the file; whole pages.
    fn extent(&self) -> (u64, u64) {
        let start = self.loads().map(|segment| segment.p_vaddr).min().unwrap_or(0);
        let end = self.loads().map(|segment| segment.p_vaddr + segment.p_memsz).max().unwrap_or(0);
        (start & !(PAGE - 1), end.saturating_add(PAGE - 1) & !(PAGE - 1))
    }

    /// Maps the segments, `bias` away from the addresses of the file.
    fn map(&self, space: &mut AddressSpace, bias: u64) -> Result<(), Refusal> {
        for segment in self.loads() {
            let protection = [(PF_R, libc::PROT_READ), (PF_W, libc::PROT_WRITE), (PF_X, libc::PROT_EXEC)]
                .iter()
                .filter(|(flag, _)| segment.p_flags & flag != 0)
                .fold(libc::PROT_NONE, |all, (_, bit)| all | bit);
            let start = bias.checked_add(segment.p_vaddr).ok_or(NO_ROOM)?;
            let within = start % PAGE;
            let file_end = start.checked_add(segment.p_filesz).ok_or(NO_ROOM)?;
            let end = start.checked_add(segment.p_memsz).ok_or(NO_ROOM)?;
            if start < LOWEST || end > ARENA {
                return Err(NO_ROOM);
            }
            let mut reached = start - within;
            if segment.p_filesz > 0 {
                let offset = segment.p_offset.checked_sub(within).ok_or(Refusal::System(libc::ENOEXEC))?;
                let source = Source { flags: libc::MAP_PRIVATE, fd: self.file.as_raw_fd(), offset };
                space.map_at(reached, file_end - reached, protection, source).map_err(refused)?;
                reached = file_end.next_multiple_of(PAGE);
                // To the end of its last page, as loaders of libraries count on.
                if end > file_end && segment.p_flags & PF_W != 0 {
                    let rest = vec![0; (reached - file_end) as usize];
                    space.arena().write(file_end, &rest).map_err(|_| Refusal::System(libc::EFAULT))?;
                }
            }
            if end > reached {
                space.map_at(reached, end - reached, protection, Source::ANONYMOUS).map_err(refused)?;
            }
        }
        Ok(())
    }

    /// Where the program headers lie in memory.
    fn headers_at(&self, bias: u64) -> u64 {
        let own =
            self.segments.iter().find(|segment| segment.p_type == PT_PHDR).map(|segment| segment.p_vaddr);
        let in_load = || {
            let covers = |segment: &&ProgramHeader| {
                let offset = segment.p_offset;
                (offset..offset.saturating_add(segment.p_filesz)).contains(&self.header.e_phoff)
            };
            self.loads()
                .find(covers)
                .map(|segment| segment.p_vaddr + (self.header.e_phoff - segment.p_offset))
        };
        own.or_else(in_load).unwrap_or(0).wrapping_add(bias)
    }
}

/// Reads as much as there is.
fn read_up_to(file: &File, bytes: &mut [u8], at: u64) -> io::Result<usize> {
    let mut len = 0;
    while len < bytes.len() {
        match file.read_at(&mut bytes[len..], at + len as u64) {
            Ok(0) => break,
            Ok(count) => len += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

/// What a program is started with.
pub struct Start<'a> {
    /// Its path, as it was given.
    pub path: &'a [u8],
    /// Its arguments, its name first.
    pub arguments: &'a [Vec<u8>],
    /// NAME=value.
    pub environment: &'a [Vec<u8>],
    /// User and group: real and effective.
    pub ids: [u64; 4],
    /// The bytes of its frame in a signal's.
    pub signal_stack_min: u64,
}

/// Where a program begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begin {
    /// Its first instruction, or its interpreter's.
    pub rip: u64,
    /// Its stack pointer.
    pub rsp: u64,
}

/// Numbers that differ from start to start.
struct Random([u8; 32]);

impl Random {
    fn new() -> Result<Random, Refusal> {
        Ok(Random(sys::random()?))
    }

    /// A number of pages below `limit` bytes, a power of two; `index` is 0 to 7.
    fn pages(&self, index: usize, limit: u64) -> u64 {
        let bytes = [self.0[16 + 2 * index], self.0[17 + 2 * index]];
        (u64::from(u16::from_le_bytes(bytes)) * PAGE) & (limit - 1)
    }
}

/// Loads a program, and the interpreter that it wants, into an empty address space.
pub fn load(
    space: &mut AddressSpace,
    program: &Executable,
    interpreter: Option<&Executable>,
    start: &Start<'_>,
) -> Result<Begin, Refusal> {
    let random = Random::new()?;
    let (from, to) = program.extent();
    let bias = match program.header.e_type {
        ET_DYN => BASE.wrapping_add(random.pages(0, 2 << 20)).wrapping_sub(from),
        _ => 0,
    };
    let end = to.wrapping_add(bias);
    if end > ARENA || end < from.wrapping_add(bias) {
        return Err(NO_ROOM);
    }
    let is_small = end <= IMAGE_END;
    // All of a small program lies in the first slot. A large one has its stack and its mappings behind the slots that it
    // fills.
    let stack_end = if is_small { FIRST_END } else { end.next_multiple_of(LARGE) + FIRST_END };
    let stack = stack_end - STACK;
    if stack_end > ARENA {
        return Err(NO_ROOM);
    }
    let heap = end + random.pages(1, 1 << 20);
    space.set_layout(stack - STACK_GUARD - random.pages(2, 1 << 20), heap);
    program.map(space, bias)?;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    space.map_at(stack, STACK, protection, Source::ANONYMOUS).map_err(refused)?;
    let mut base = 0;
    let mut entry = bias.wrapping_add(program.header.e_entry);
    if let Some(interpreter) = interpreter {
        let (from, to) = interpreter.extent();
        // Taken as a whole first, then in pieces.
        let place = space.map(0, to - from, libc::PROT_NONE, Source::ANONYMOUS, ARENA);
        base = place.map_err(refused)?.wrapping_sub(from);
        interpreter.map(space, base)?;
        entry = base.wrapping_add(interpreter.header.e_entry);
    }
    let auxiliary = [
        (libc::AT_SYSINFO_EHDR, space.vdso().unwrap_or(0)),
        (libc::AT_HWCAP, auxiliary(libc::AT_HWCAP)),
        (libc::AT_PAGESZ, PAGE),
        (libc::AT_CLKTCK, 100),
        (libc::AT_PHDR, program.headers_at(bias)),
        (libc::AT_PHENT, 56),
        (libc::AT_PHNUM, program.header.e_phnum.into()),
        (libc::AT_BASE, base),
        (libc::AT_FLAGS, 0),
        (libc::AT_ENTRY, bias.wrapping_add(program.header.e_entry)),
        (libc::AT_UID, start.ids[0]),
        (libc::AT_EUID, start.ids[1]),
        (libc::AT_GID, start.ids[2]),
        (libc::AT_EGID, start.ids[3]),
        (libc::AT_SECURE, 0),
        (libc::AT_HWCAP2, auxiliary(libc::AT_HWCAP2)),
        (libc::AT_MINSIGSTKSZ, start.signal_stack_min),
    ];
    let below = random.pages(3, 64 << 10) + u64::from(random.0[31]) * 16;
    let rsp = push(space, stack_end - below, start, &auxiliary, &random.0[..16])?;
    space.touch_stack(rsp, stack_end).map_err(refused)?;
    Ok(Begin { rip: entry, rsp })
}

/// Writes the first stack, which ends at `top`, and returns where it begins: argc, argv, envp, the auxiliary vector,
/// then what they point to (psABI, figure 3.9).
fn push(
    space: &AddressSpace,
    top: u64,
    start: &Start<'_>,
    auxiliary: &[(u64, u64)],
    random: &[u8],
) -> Result<u64, Refusal> {
    let mut strings = Vec::new();
    let mut add = |bytes: &[u8]| {
        let at = strings.len() as u64;
        strings.extend_from_slice(bytes);
        at
    };
    let mut add_text = |text: &Vec<u8>| {
        let at = add(text);
        add(&[0]);
        at
    };
    let arguments: Vec<u64> = start.arguments.iter().map(&mut add_text).collect();
    let environment: Vec<u64> = start.environment.iter().map(&mut add_text).collect();
    let path = add_text(&start.path.to_vec());
    let platform = add_text(&b"x86_64".to_vec());
    let seed = add(random);
    if strings.len() > STRINGS_MAX {
        return Err(Refusal::System(libc::E2BIG));
    }
    let base = (top - 8 - strings.len() as u64) & !15;
    let mut words = vec![start.arguments.len() as u64];
    words.extend(arguments.iter().map(|at| base + at));
    words.push(0);
    words.extend(environment.iter().map(|at| base + at));
    words.push(0);
    let pointers = [
        (libc::AT_RANDOM, base + seed),
        (libc::AT_EXECFN, base + path),
        (libc::AT_PLATFORM, base + platform),
        (libc::AT_NULL, 0),
    ];
    // A vDSO at 0 is none.
    let auxiliary = auxiliary.iter().filter(|&&pair| pair != (libc::AT_SYSINFO_EHDR, 0));
    words.extend(auxiliary.chain(&pointers).flat_map(|&(kind, value)| [kind, value]));
    let rsp = (base - 8 * words.len() as u64) & !15;
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let written = space.arena().write(rsp, &bytes).and_then(|()| space.arena().write(base, &strings));
    written.map_err(|_| Refusal::System(libc::E2BIG))?;
    Ok(rsp)
}
