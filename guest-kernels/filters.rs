//! Compiles the sandbox's rules (`src/sandbox/rules.rs`) to seccomp filters, at build time: a start has no time
//! for it.
//!
//! The result is `$OUT_DIR/filters.rs`: for each role a constant, the instructions of its filter as
//! `(code, jt, jf, k)`. The kernel compiles them again, to machine code, at each start: that makes every
//! instruction cost a tenth of a microsecond, and is why this is not left to a library whose filters are four
//! times as long (docs/security.md has the figures). Sources: seccomp(2); Linux, networking/filter.rst.

#[path = "../src/sandbox/rules.rs"]
mod rules;

use rules::{ALL, COMMON, FCNTL, FORBIDDEN_PROTECTION, Rules, SIGNALS};
use std::fmt::Write;

/// `BPF_LD | BPF_W | BPF_ABS`: loads a word of `struct seccomp_data`.
const LOAD: u16 = 0x20;
/// `BPF_JMP | BPF_JEQ | BPF_K`: is it this number?
const EQUAL: u16 = 0x15;
/// `BPF_JMP | BPF_JSET | BPF_K`: has it one of these bits?
const ANY_BIT: u16 = 0x45;
/// `BPF_RET | BPF_K`.
const RETURN: u16 = 0x06;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const INSTRUCTION_POINTER: u32 = 8;

/// The low half of an argument, which is all that the kernel looks at for those that we check.
const fn argument(index: u32) -> u32 {
    16 + 8 * index
}

const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
const SECCOMP_RET_TRAP: u32 = 0x0003_0000;
const SECCOMP_RET_ALLOW: u32 = 0x7fff_0000;

/// Where a jump goes: to the next instruction, past the whole block, or to one of the two ends.
#[derive(Clone, Copy)]
enum To {
    Next,
    Skip(u8),
    Allow,
    Trap,
}

struct Instruction {
    code: u16,
    yes: To,
    no: To,
    k: u32,
}

fn load(k: u32) -> Instruction {
    Instruction { code: LOAD, yes: To::Next, no: To::Next, k }
}

fn equal(k: u32, yes: To, no: To) -> Instruction {
    Instruction { code: EQUAL, yes, no, k }
}

/// The text of `filters.rs`.
pub fn source() -> String {
    let mut text = String::new();
    for rules in &ALL {
        let filter = assemble(&filter(rules));
        let _ = writeln!(text, "const {}: [Instruction; {}] = [", rules.role, filter.len());
        for (code, jt, jf, k) in filter {
            let _ = writeln!(text, "    ({code:#x}, {jt}, {jf}, {k:#x}),");
        }
        text += "];\n";
    }
    text
}

fn filter(rules: &Rules) -> Vec<Instruction> {
    let mut filter = vec![
        // Linux tries each of its 450 system calls on a new filter, to remember which are always allowed. That
        // takes longer than all the rest, and is spared by looking at more than the call's number.
        load(INSTRUCTION_POINTER),
        load(ARCHITECTURE),
        equal(AUDIT_ARCH_X86_64, To::Next, To::Trap),
        load(NUMBER),
    ];
    one_of(&mut filter, libc::SYS_ioctl, 1, rules.requests);
    filter.extend(rules.calls.iter().chain(COMMON).map(|&call| equal(call as u32, To::Allow, To::Next)));
    one_of(&mut filter, libc::SYS_tgkill, 2, SIGNALS);
    one_of(&mut filter, libc::SYS_fcntl, 1, FCNTL);
    filter.extend([
        equal(libc::SYS_mmap as u32, To::Skip(1), To::Next),
        equal(libc::SYS_mprotect as u32, To::Next, To::Trap),
        load(argument(2)),
        Instruction { code: ANY_BIT, yes: To::Trap, no: To::Allow, k: FORBIDDEN_PROTECTION },
    ]);
    filter
}

/// Allows `call` if its argument number `index` is one of `values`.
fn one_of(filter: &mut Vec<Instruction>, call: i64, index: u32, values: &[u64]) {
    let (Some((last, others)), Ok(rest)) = (values.split_last(), u8::try_from(values.len() + 1)) else {
        panic!("system call {call} has no values, or too many");
    };
    filter.push(equal(call as u32, To::Next, To::Skip(rest)));
    filter.push(load(argument(index)));
    filter.extend(others.iter().map(|&value| equal(value as u32, To::Allow, To::Next)));
    filter.push(equal(*last as u32, To::Allow, To::Trap));
}

/// Counts how far each jump goes, and adds the two ends.
fn assemble(filter: &[Instruction]) -> Vec<(u16, u8, u8, u32)> {
    let end = filter.len();
    let distance = |at: usize, to| match to {
        To::Next => 0,
        To::Skip(count) => count,
        To::Trap => u8::try_from(end - at - 1).expect("a filter is shorter than a jump"),
        To::Allow => u8::try_from(end - at).expect("a filter is shorter than a jump"),
    };
    let mut code: Vec<_> = filter
        .iter()
        .enumerate()
        .map(|(at, &Instruction { code, yes, no, k })| (code, distance(at, yes), distance(at, no), k))
        .collect();
    code.extend([SECCOMP_RET_TRAP, SECCOMP_RET_ALLOW].map(|k| (RETURN, 0, 0, k)));
    code
}
