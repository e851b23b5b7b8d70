//! Compiles the sandbox's rules (`src/sandbox/rules.rs`) to seccomp filters, at build time: a start has no time
//! for it.
//!
//! The result is `$OUT_DIR/filters.rs`: for each role a function that makes its filter from the number of the process.
//! The kernel compiles them again, to machine code, at each start: that makes every
//! instruction cost a tenth of a microsecond, and is why this is not left to a library whose filters are four
//! times as long (docs/security.md has the figures). Sources: seccomp(2); Linux, networking/filter.rst.

#[path = "../src/sandbox/rules.rs"]
mod rules;

use rules::{ALL, COMMON, COMMON_CHECKED, Checked, Must, Rules};
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

/// The constant of an instruction, as Rust's source has it: a number, or the name of what is known when it is made.
type Constant = String;

struct Instruction {
    code: u16,
    yes: To,
    no: To,
    k: Constant,
}

fn load(k: u32) -> Instruction {
    Instruction { code: LOAD, yes: To::Next, no: To::Next, k: format!("{k:#x}") }
}

fn equal(k: u32, yes: To, no: To) -> Instruction {
    Instruction { code: EQUAL, yes, no, k: format!("{k:#x}") }
}

/// The text of `filters.rs`.
pub fn source() -> String {
    let mut text = String::new();
    for rules in &ALL {
        let (name, filter) = (rules.role.to_lowercase(), assemble(&filter(rules)));
        let _ = writeln!(text, "fn {name}(process: u32) -> [sock_filter; {}] {{\n    [", filter.len());
        for (code, jt, jf, k) in filter {
            let _ = writeln!(text, "        sock_filter {{ code: {code:#x}, jt: {jt}, jf: {jf}, k: {k} }},");
        }
        text += "    ]\n}\n";
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
    filter.extend(rules.checked.iter().flat_map(by_arguments));
    filter.extend(rules.calls.iter().chain(COMMON).map(|&call| equal(call as u32, To::Allow, To::Next)));
    filter.extend(COMMON_CHECKED.iter().flat_map(by_arguments));
    filter
}

/// Allows a call if its arguments are as they must be, traps it if they are not, and goes on behind with any other.
fn by_arguments(checked: &Checked) -> Vec<Instruction> {
    let mut block = Vec::new();
    for (index, (argument_index, must)) in checked.arguments.iter().enumerate() {
        let is_last = index + 1 == checked.arguments.len();
        let good = if is_last { To::Allow } else { To::Next };
        block.push(load(argument(*argument_index)));
        match must {
            Must::BeOurselves => {
                block.push(Instruction { code: EQUAL, yes: good, no: To::Trap, k: "process".into() })
            }
            Must::HaveNoneOf(bits) => {
                block.push(Instruction {
                    code: ANY_BIT,
                    yes: To::Trap,
                    no: good,
                    k: format!("{:#x}", *bits as u32),
                });
            }
            Must::BeOneOf(values) => {
                let Some((last, others)) = values.split_last() else {
                    panic!("call {} has no values", checked.call)
                };
                assert!(
                    is_last || others.is_empty(),
                    "call {}: several values, and then another argument",
                    checked.call
                );
                block.extend(others.iter().map(|&value| equal(value as u32, To::Allow, To::Next)));
                block.push(equal(*last as u32, good, To::Trap));
            }
        }
    }
    let skip = u8::try_from(block.len()).expect("a block is shorter than a jump");
    block.insert(0, equal(checked.call as u32, To::Next, To::Skip(skip)));
    block
}

/// Counts how far each jump goes, and adds the two ends.
fn assemble(filter: &[Instruction]) -> Vec<(u16, u8, u8, Constant)> {
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
        .map(|(at, Instruction { code, yes, no, k })| {
            (*code, distance(at, *yes), distance(at, *no), k.clone())
        })
        .collect();
    code.extend([SECCOMP_RET_TRAP, SECCOMP_RET_ALLOW].map(|k| (RETURN, 0, 0, format!("{k:#x}"))));
    code
}
