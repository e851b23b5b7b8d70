//! The post-mortem of a guest that crashed, in words.

use super::diagnosis::likely_causes;
use super::missing::Missing;
use crate::kvm::{Exit, Vcpu};
use crate::text::hex;
use crate::x86::{Registers, disassembly};
use std::fmt;

/// How many of the last exits are remembered.
const REMEMBERED: usize = 8;

/// How a guest crashed.
#[derive(Debug, Clone)]
pub struct Crash {
    /// What happened, in words: `triple fault`.
    pub what: String,
    /// The vCPU it happened to.
    pub vcpu: usize,
    /// RIP at the last entry into the guest. If the processor was reset, this is all that is known of where it was.
    pub entered_at: u64,
    /// Its registers, unless the processor was reset.
    pub registers: Registers,
    /// The bytes at RIP, as far as they are mapped.
    pub code: Vec<u8>,
    /// Likely causes, the likeliest first; some are followed by lines that show them.
    pub causes: Vec<String>,
    /// What it expected, and did not find here.
    pub missing: Option<Missing>,
    /// The last exits before the crash, oldest first.
    pub exits: Vec<Note>,
}

impl Crash {
    /// Looks at `vcpu` right after it stopped.
    pub(super) fn examine(what: String, index: usize, vcpu: &Vcpu, exits: &Log) -> Crash {
        let registers = vcpu.registers().unwrap_or_default();
        let mut code = Vec::new();
        // Byte by byte, as the page may end within the 15 bytes.
        for offset in 0..15 {
            let mut byte = [0];
            let linear = registers.linear_rip().wrapping_add(offset);
            if vcpu.read_linear(linear, &mut byte).is_none() {
                break;
            }
            code.extend(byte);
        }
        let mut crash = Crash {
            what,
            vcpu: index,
            entered_at: exits.entered_at,
            registers,
            code,
            causes: Vec::new(),
            missing: None,
            exits: exits.notes(),
        };
        let running_at = if crash.was_reset() { exits.entered_at } else { registers.linear_rip() };
        crash.missing = Missing::find(&registers, running_at, vcpu.memory());
        if !crash.was_reset() {
            crash.causes = likely_causes(&registers, &crash.code, vcpu.memory(), crash.is_triple());
        }
        crash
    }

    fn is_triple(&self) -> bool {
        self.what.starts_with("triple")
    }

    /// AMD processors lose the guest's registers in a shutdown, and KVM shows those of a reset instead
    /// (APM volume 2, section 15.14.3).
    fn was_reset(&self) -> bool {
        self.registers.general.rip == 0xfff0 && self.registers.system.cs.base == 0xffff_0000
    }

    /// Where a reader should look first, in one line.
    pub fn hint(&self) -> &'static str {
        if self.was_reset() {
            "this processor forgets a guest's registers in a triple fault; it happened some time after that rip"
        } else if self.registers.system.idt.limit == 0 && self.is_triple() {
            "no IDT is loaded, so the first exception is the last"
        } else if self.is_triple() {
            "an IDT is loaded, but its handler faulted twice: check the gate, its code segment and the stack"
        } else {
            "the bytes at rip are the instruction in question; host KVM modules differ in what they support"
        }
    }

    /// The whole post-mortem.
    pub fn report(&self) -> String {
        use std::fmt::Write;
        let Registers { general: r, system: s } = &self.registers;
        let mut text = String::new();
        let mut line = |what: fmt::Arguments<'_>| {
            let _ = text.write_fmt(what);
            text.push('\n');
        };
        if self.was_reset() {
            line(format_args!("registers   lost: the processor was reset after the fault"));
        } else {
            let idt = match s.idt.limit {
                0 => "none".into(),
                limit => {
                    let gates = (u32::from(limit) + 1) / self.registers.gate_size();
                    format!("{:#x}, {gates} {}", s.idt.base, if gates == 1 { "gate" } else { "gates" })
                }
            };
            line(format_args!("mode        {}", self.registers.mode()));
            line(format_args!("code        {}  at rip {:#x}", hex(&self.code), r.rip));
            if let Some((instruction, _)) = disassembly::text(self.registers.bits(), r.rip, &self.code) {
                line(format_args!("            {instruction}"));
            }
            let missing = self.missing.iter().map(ToString::to_string);
            for (n, cause) in missing.chain(self.causes.iter().cloned()).enumerate() {
                line(format_args!("{:<11} {cause}", if n == 0 { "likely" } else { "" }));
            }
            line(format_args!("idt         {idt}"));
            line(format_args!(
                "rax {:016x}  rbx {:016x}  rcx {:016x}  rdx {:016x}",
                r.rax, r.rbx, r.rcx, r.rdx
            ));
            line(format_args!(
                "rsi {:016x}  rdi {:016x}  rbp {:016x}  rsp {:016x}",
                r.rsi, r.rdi, r.rbp, r.rsp
            ));
            line(format_args!(
                "r8  {:016x}  r9  {:016x}  r10 {:016x}  r11 {:016x}",
                r.r8, r.r9, r.r10, r.r11
            ));
            line(format_args!(
                "r12 {:016x}  r13 {:016x}  r14 {:016x}  r15 {:016x}",
                r.r12, r.r13, r.r14, r.r15
            ));
            line(format_args!(
                "rip {:016x}  rflags {:#x}  cs {:#x}  ss {:#x}",
                r.rip, r.rflags, s.cs.selector, s.ss.selector
            ));
            line(format_args!(
                "cr0 {:#x}  cr2 {:#x}  cr3 {:#x}  cr4 {:#x}  efer {:#x}",
                s.cr0, s.cr2, s.cr3, s.cr4, s.efer
            ));
        }
        match self.exits.as_slice() {
            [] => line(format_args!("exits       none before this one")),
            exits => {
                for (n, exit) in exits.iter().enumerate() {
                    let title = if n == 0 { "last exits" } else { "" };
                    line(format_args!("{title:<11} {exit}"));
                }
            }
        }
        text
    }
}

/// `triple fault at rip 0x100a3c (0f 0b …)`
impl fmt::Display for Crash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.what)?;
        if self.vcpu > 0 {
            write!(f, " on vCPU {}", self.vcpu)?;
        }
        if self.was_reset() {
            return write!(f, ", last seen at rip {:#x}", self.entered_at);
        }
        write!(f, " at rip {:#x}", self.registers.general.rip)?;
        match self.code.as_slice() {
            [] => write!(f, " (not memory)"),
            [0x0f, 0x0b, ..] => write!(f, " (ud2)"),
            code => write!(f, " ({})", hex(&code[..code.len().min(4)])),
        }
    }
}

/// A short record of an exit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Note {
    /// `out`, `in`, `write`, `read`; empty for a slot not used yet.
    pub kind: &'static str,
    /// Port or guest-physical address.
    pub address: u64,
    /// Bytes that were moved.
    pub len: usize,
    /// The first of them, if the guest wrote them.
    pub data: [u8; 8],
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<5} {:#x}", self.kind, self.address)?;
        match self.kind {
            "out" | "write" => write!(f, "  {}", hex(&self.data[..self.len.min(8)]))?,
            _ => {}
        }
        if self.len > 8 { write!(f, " … ({} bytes)", self.len) } else { Ok(()) }
    }
}

/// The last exits, in a ring.
#[derive(Default)]
pub(super) struct Log {
    ring: [Note; REMEMBERED],
    next: usize,
    /// RIP when the vCPU last went into the guest.
    pub entered_at: u64,
}

impl Log {
    pub fn push(&mut self, exit: &Exit<'_>) {
        let (kind, address, bytes): (_, _, &[u8]) = match exit {
            Exit::Out { port, data, .. } => ("out", u64::from(*port), data),
            Exit::In { port, data, .. } => ("in", u64::from(*port), data),
            Exit::MmioWrite { address, data } => ("write", *address, data),
            Exit::MmioRead { address, data } => ("read", *address, data),
            _ => return,
        };
        let mut data = [0; 8];
        for (to, from) in data.iter_mut().zip(bytes) {
            *to = *from;
        }
        self.ring[self.next % REMEMBERED] = Note { kind, address, len: bytes.len(), data };
        self.next = self.next.wrapping_add(1);
    }

    fn notes(&self) -> Vec<Note> {
        let oldest_first = (0..REMEMBERED).map(|n| self.ring[(self.next + n) % REMEMBERED]);
        oldest_first.filter(|note| !note.kind.is_empty()).collect()
    }
}
