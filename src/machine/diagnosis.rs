//! Likely causes of a crash, found in the registers, the page tables and the instruction at RIP.
//!
//! A triple fault gives no reason. But the registers are still those at which the first exception was raised. So each
//! thing that raises an exception is checked against them. What is found is a likely cause, and not a proof.
//! Source: Intel SDM volume 3A, sections 2.5 "Control Registers", 4.7 and 6.15 "Exception and Interrupt Reference".

use crate::kvm::Memory;
use crate::x86::mode::{
    CR0_EM, CR0_PE, CR0_PG, CR0_TS, CR4_OSFXSR, CR4_OSXSAVE, CR4_PAE, EFER_LMA, EFER_LME, EFER_SCE,
};
use crate::x86::page_table::{Paging, PagingMode, Step, Target};
use crate::x86::{Registers, disassembly};

/// The bits of CR4 that are defined for some processor (SDM 2.5); the others must be zero.
const CR4_KNOWN: u64 = 0x1_1bff_7fff;
/// The bits of EFER that are defined (APM volume 2, section 3.1.7).
const EFER_KNOWN: u64 = 0x0036_fd01;
/// The bits of CR3 above the widest physical address that must be zero; bits 61 to 63 are defined.
const CR3_RESERVED: u64 = 0x1ff0_0000_0000_0000;
/// The number of EFER, for WRMSR.
const MSR_EFER: u32 = 0xc000_0080;

/// Likely causes, the likeliest first, some followed by lines that show them.
pub(super) fn likely_causes(
    registers: &Registers,
    code: &[u8],
    memory: &Memory,
    triple: bool,
) -> Vec<String> {
    let mut causes = Vec::new();
    causes.extend(bad_control(registers, code));
    causes.extend(bad_vector_state(registers, code));
    causes.extend(system_call(registers, code));
    causes.extend(bad_address(registers, code));
    causes.extend(unmapped(registers, code, memory));
    if triple {
        causes.extend(bad_idt(registers, memory));
    }
    causes
}

/// An instruction's REX prefix (0 if it has none), and its bytes after all prefixes.
fn opcode<'a>(registers: &Registers, code: &'a [u8]) -> (u8, &'a [u8]) {
    let is_prefix = |byte: &&u8| {
        matches!(byte, 0x66 | 0x67 | 0xf0 | 0xf2 | 0xf3 | 0x26 | 0x2e | 0x36 | 0x3e | 0x64 | 0x65)
    };
    let rest = &code[code.iter().take_while(is_prefix).count()..];
    match rest {
        [rex @ 0x40..=0x4f, rest @ ..] if registers.bits() == 64 => (*rex, rest),
        rest => (0, rest),
    }
}

/// A write to a control register or to EFER that the processor refuses.
fn bad_control(registers: &Registers, code: &[u8]) -> Vec<String> {
    let s = &registers.system;
    let long = registers.bits() == 64;
    let mut found = Vec::new();
    match opcode(registers, code) {
        // MOV CRn, register
        (rex, [0x0f, 0x22, modrm, ..]) => {
            let value = disassembly::register(&registers.general, modrm & 7 | (rex & 1) << 3);
            let value = if long { value } else { value & 0xffff_ffff };
            let reserved = |name: &str, bits: u64| {
                (bits != 0).then(|| {
                    format!(
                        "it loads {name} with a reserved bit: {value:#x} has bit {}",
                        bits.trailing_zeros()
                    )
                })
            };
            match modrm >> 3 & 7 | (rex & 4) << 1 {
                0 => {
                    found.extend(reserved("CR0", value >> 32 << 32));
                    if value & CR0_PG != 0 && value & CR0_PE == 0 {
                        found.push("it switches paging on (CR0.PG) without protection (CR0.PE)".into());
                    }
                    if value & CR0_PG != 0 && s.efer & EFER_LME != 0 && s.cr4 & CR4_PAE == 0 {
                        found.push("it switches paging on for long mode (EFER.LME), but CR4.PAE is 0".into());
                    }
                }
                3 if s.efer & EFER_LMA != 0 => found.extend(reserved("CR3", value & CR3_RESERVED)),
                4 => {
                    found.extend(reserved("CR4", value & !CR4_KNOWN));
                    if s.efer & EFER_LMA != 0 && value & CR4_PAE == 0 {
                        found.push("it clears CR4.PAE in long mode".into());
                    }
                }
                _ => {}
            }
        }
        // WRMSR
        (_, [0x0f, 0x30, ..]) if registers.general.rcx as u32 == MSR_EFER => {
            let (low, high) = (registers.general.rax & 0xffff_ffff, registers.general.rdx << 32);
            let value = high | low;
            if value & !EFER_KNOWN != 0 {
                let bit = (value & !EFER_KNOWN).trailing_zeros();
                found.push(format!("it loads EFER with a reserved bit: {value:#x} has bit {bit}"));
            }
            if s.cr0 & CR0_PG != 0 && (value ^ s.efer) & EFER_LME != 0 {
                found.push("it changes EFER.LME while paging is on".into());
            }
        }
        _ => {}
    }
    found
}

/// A vector instruction, while the control registers forbid such instructions.
fn bad_vector_state(registers: &Registers, code: &[u8]) -> Option<String> {
    let s = &registers.system;
    let is_long = registers.bits() == 64;
    let (name, missing) = match opcode(registers, code) {
        (_, [0x0f, 0x10..=0x17 | 0x28..=0x2f | 0x50..=0x7f | 0xc2 | 0xc4..=0xc6 | 0xd0..=0xfe, ..]) => (
            "an SSE (or MMX) instruction",
            [
                (s.cr0 & CR0_EM != 0, "CR0.EM is 1"),
                (s.cr4 & CR4_OSFXSR == 0, "CR4.OSFXSR is 0"),
                (s.cr0 & CR0_TS != 0, "CR0.TS is 1"),
            ],
        ),
        (_, [0xc4 | 0xc5 | 0x62, _, ..]) if is_long => (
            "an AVX instruction",
            [
                (s.cr4 & CR4_OSXSAVE == 0, "CR4.OSXSAVE is 0"),
                (s.cr4 & CR4_OSFXSR == 0, "CR4.OSFXSR is 0"),
                (s.cr0 & CR0_TS != 0, "CR0.TS is 1"),
            ],
        ),
        _ => return None,
    };
    let missing: Vec<&str> = missing.iter().filter(|(is, _)| *is).map(|&(_, what)| what).collect();
    (!missing.is_empty()).then(|| format!("{name}, but it is not switched on: {}", missing.join(", ")))
}

/// An instruction that asks a kernel for something, where there is no kernel.
fn system_call(registers: &Registers, code: &[u8]) -> Option<String> {
    match code {
        [0x0f, 0x05, ..] if registers.system.efer & EFER_SCE == 0 => {
            Some("SYSCALL, but it is not switched on: EFER.SCE is 0".into())
        }
        [0xcd, 0x80, ..] if registers.system.cr0 & CR0_PE != 0 => {
            Some("INT 0x80, by which programs of 32 bits call Linux".into())
        }
        _ => None,
    }
}

/// Addresses that are not canonical (SDM volume 1, section 3.3.7.1).
fn bad_address(registers: &Registers, code: &[u8]) -> Option<String> {
    if registers.bits() < 64 {
        return None;
    }
    let paging = Paging::of(&registers.system);
    let r = &registers.general;
    let used = disassembly::address(registers.bits(), r, code);
    let all = [("rip", Some(r.rip)), ("the instruction's address", used), ("the stack pointer", Some(r.rsp))];
    let (what, address) = all.into_iter().find_map(|(what, address)| {
        address.filter(|&address| !paging.is_canonical(address)).map(|address| (what, address))
    })?;
    Some(format!("{what} is not canonical: {address:#x}"))
}

/// Addresses of the instruction, its operand and the stack that the page tables do not map, each with the entries on
/// the way.
fn unmapped(registers: &Registers, code: &[u8], memory: &Memory) -> Vec<String> {
    let paging = Paging::of(&registers.system);
    if paging.mode == PagingMode::None {
        return Vec::new();
    }
    let r = &registers.general;
    let is_long = registers.bits() == 64;
    // It is computed without the segment's base.
    let operand =
        disassembly::address(registers.bits(), r, code).filter(|_| is_long || registers.system.ds.base == 0);
    let stack = match is_long {
        true => r.rsp.wrapping_sub(8),
        false => registers.system.ss.base.wrapping_add(r.rsp).wrapping_sub(4) & 0xffff_ffff,
    };
    let mut found = Vec::new();
    for (what, address, runs) in [
        ("rip", Some(registers.linear_rip()), true),
        ("the instruction's address", operand, false),
        ("the stack", Some(stack), false),
    ] {
        let Some(address) = address.filter(|&address| paging.is_canonical(address)) else { continue };
        let steps: Vec<Step> = paging.steps(memory, address).collect();
        let why = match steps.last().map(|last| last.leads_to) {
            Some(Target::Page(page)) if runs && !page.executable => {
                "is in a page whose code must not run".into()
            }
            Some(Target::NotPresent) => "is not mapped".into(),
            Some(Target::Reserved(bit)) => format!("has a page table entry with a reserved bit: {bit}"),
            Some(Target::NoTable) => "has a page table outside the guest's memory".into(),
            Some(Target::Page(_) | Target::Table(_)) | None => continue,
        };
        let after = if what == "the stack" { ", so no exception frame can be pushed" } else { "" };
        found.push(format!("{what} {address:#x} {why}{after}"));
        found.push(format!("  cr3 {:#x}", registers.system.cr3));
        found.extend(steps.iter().map(|step| format!("  {step}")));
    }
    found
}

/// An IDT that is missing, too short or not mapped.
fn bad_idt(registers: &Registers, memory: &Memory) -> Option<String> {
    let s = &registers.system;
    if s.cr0 & CR0_PE == 0 {
        return None;
    }
    // It must reach to the gate of the double fault, number 8.
    let needed = 9 * registers.gate_size() - 1;
    let limit = u32::from(s.idt.limit);
    if limit == 0 {
        return Some("no IDT is loaded, so the first exception is the last".into());
    }
    if limit < needed {
        return Some(format!("the IDT ends before the gate of the double fault: its limit is {limit:#x}"));
    }
    let is_mapped = Paging::of(s).translate(memory, s.idt.base).is_some();
    (!is_mapped).then(|| format!("the IDT at {:#x} is not mapped", s.idt.base))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::x86::mode::EFER_NXE;
    use crate::x86::{Entry, Mode, identity_map};

    /// A guest of 2 MiB in long mode as it is entered, with an IDT of 32 gates and a stack.
    fn guest() -> (Registers, Memory) {
        let memory = Memory::from_ranges(&[(vm_memory::GuestAddress(0), 2 << 20)]).unwrap();
        let cr3 = identity_map::write(&memory, 2 << 20).unwrap();
        let entry = Entry { rsp: 0x8000, ..Entry::at(Mode::Long { cr3, gdt: (0x7f00, 47) }, 0x10_0000) };
        let mut registers = Registers { general: entry.regs(), system: entry.sregs() };
        (registers.system.idt.base, registers.system.idt.limit) = (0x2000, 32 * 16 - 1);
        (registers, memory)
    }

    /// What is found in the guest after `change`, at an instruction.
    fn found(code: &[u8], change: impl FnOnce(&mut Registers)) -> String {
        let (mut registers, memory) = guest();
        change(&mut registers);
        likely_causes(&registers, code, &memory, true).join("\n")
    }

    const NOP: &[u8] = &[0x90];

    #[test]
    fn nothing_is_found_where_nothing_is_wrong() {
        assert_eq!(found(NOP, |_| {}), "");
        // movaps, and all that it needs
        assert_eq!(found(&[0x0f, 0x28, 0xc1], |r| r.system.cr4 |= CR4_OSFXSR), "");
        // mov cr4, rax with the value it has
        assert_eq!(found(&[0x0f, 0x22, 0xe0], |r| r.general.rax = CR4_PAE), "");
    }

    #[test]
    fn the_table_of_interrupts() {
        assert!(found(NOP, |r| r.system.idt.limit = 0).contains("no IDT is loaded"));
        assert!(found(NOP, |r| r.system.idt.limit = 15).contains("the IDT ends before the gate"));
        assert!(found(NOP, |r| r.system.idt.base = 1 << 30).contains("the IDT at 0x40000000 is not mapped"));
        // Real mode has its own, and its limit says nothing.
        let (_, memory) = guest();
        let entry = Entry::at(Mode::Real, 0x7c00);
        let registers = Registers { general: entry.regs(), system: entry.sregs() };
        assert!(likely_causes(&registers, NOP, &memory, true).is_empty());
    }

    #[test]
    fn control_registers() {
        let cr = |number: u8, value: u64, change: fn(&mut Registers)| {
            // REX.B, mov crN, r9
            let code = [0x41, 0x0f, 0x22, 0xc1 | number << 3];
            found(&code, |r| {
                r.general.r9 = value;
                change(r);
            })
        };
        assert!(
            cr(4, CR4_PAE | 1 << 40, |_| {}).contains("CR4 with a reserved bit: 0x10000000020 has bit 40")
        );
        assert!(cr(3, 1 << 52, |_| {}).contains("CR3 with a reserved bit"));
        assert!(cr(4, 0, |_| {}).contains("it clears CR4.PAE in long mode"));
        assert!(cr(0, CR0_PG, |_| {}).contains("without protection (CR0.PE)"));
        let no_pae = |r: &mut Registers| r.system.cr4 = 0;
        assert!(cr(0, CR0_PG | CR0_PE, no_pae).contains("but CR4.PAE is 0"));
        assert_eq!(cr(3, 0x9000, |_| {}), "");
    }

    #[test]
    fn efer() {
        let wrmsr = |value: u64| {
            found(&[0x0f, 0x30], |r| {
                r.general.rcx = MSR_EFER.into();
                (r.general.rax, r.general.rdx) = (value & 0xffff_ffff, value >> 32);
            })
        };
        assert!(wrmsr(EFER_LME | 2).contains("EFER with a reserved bit: 0x102 has bit 1"));
        assert!(wrmsr(0).contains("it changes EFER.LME while paging is on"));
        assert_eq!(wrmsr(EFER_LME | EFER_NXE), "");
    }

    #[test]
    fn vector_instructions() {
        // movaps xmm0, xmm1; with a prefix and REX, movdqa xmm8, xmm1; vaddps ymm0, ymm1, ymm2
        for code in [&[0x0f, 0x28, 0xc1][..], &[0x66, 0x44, 0x0f, 0x6f, 0xc1], &[0xc5, 0xf4, 0x58, 0xc2]] {
            assert!(found(code, |_| {}).contains("CR4.OSFXSR is 0"), "{code:02x?}");
        }
        let em = |r: &mut Registers| {
            (r.system.cr4, r.system.cr0) = (r.system.cr4 | CR4_OSFXSR, r.system.cr0 | CR0_EM)
        };
        assert!(found(&[0x0f, 0x28, 0xc1], em).contains("not switched on: CR0.EM is 1"));
        assert!(found(&[0xc5, 0xf4, 0x58, 0xc2], |_| {}).contains("CR4.OSXSAVE is 0"));
    }

    #[test]
    fn addresses_that_are_none() {
        assert!(found(NOP, |r| r.general.rip = 1 << 47).contains("rip is not canonical: 0x800000000000"));
        assert!(found(NOP, |r| r.general.rsp = 1 << 63).contains("the stack pointer is not canonical"));
        if cfg!(feature = "trace") {
            // mov [rax+rbx*8+0x10], cl; jmp rax
            let code = &[0x88, 0x4c, 0xd8, 0x10];
            let address = |r: &mut Registers| (r.general.rax, r.general.rbx) = (0x7fff_ffff_fff0, 0);
            assert!(found(code, address).contains("instruction's address is not canonical: 0x800000000000"));
            assert!(found(&[0xff, 0xe0], |r| r.general.rax = 1 << 50).contains("is not canonical"));
        }
    }

    #[test]
    fn addresses_that_are_not_mapped_are_walked() {
        let text = found(NOP, |r| r.general.rip = 1 << 30);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "rip 0x40000000 is not mapped");
        assert!(
            lines[1].contains("cr3 0x9000") && lines[2].contains("PML4[0]") && lines[3].contains("PDPT[1]")
        );
        assert!(lines[3].ends_with("not present"));
        assert!(
            found(NOP, |r| r.general.rsp = 0x20_0008).contains("the stack 0x200000 is not mapped, so no")
        );
        if cfg!(feature = "trace") {
            // mov al, [rbx]
            assert!(found(&[0x8a, 0x03], |r| r.general.rbx = 1 << 39).contains("PML4[1]"));
        }
    }
}
