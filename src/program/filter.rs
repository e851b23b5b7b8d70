//! The wall behind the table: what this process and its children can still ask of Linux once a program runs, whatever
//! fault the table of system calls, or this process, may have.
//!
//! That is what the table passes on ([`sys::is_passed_on`]) and what this process does for itself ([`OWN`]), by the
//! arguments where a number says what is asked for. Every other call ends the process with a line, as it does for
//! `run`. What a pointer leads to no filter sees: files are landlock's matter ([`sys::wall`]).
//!
//! Linux compiles a filter at each start, and pays for each instruction; so numbers are looked up in words of 32 bits,
//! and not compared one by one. Sources: seccomp(2); Linux, networking/filter.rst.

use super::syscall::{memory, network};
use crate::sys::program as sys;
use libc::*;
use seccompiler::sock_filter;
use std::io;

/// What this process asks for itself, beside what it passes on.
#[rustfmt::skip]
pub const OWN: &[i64] = &[
    // The loop: signals, the end.
    SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_sigaltstack, SYS_restart_syscall, SYS_exit, SYS_exit_group,
    // The program's memory and ours.
    SYS_munmap, SYS_mremap, SYS_brk,
    // A thread of ours begins so in the C library.
    SYS_set_robust_list, SYS_rseq,
    // Paths are looked up, and files of procfs that are about ourselves.
    SYS_openat2, SYS_getcwd, SYS_readlink, SYS_newfstatat,
    // What a child of vfork(2) has changed.
    SYS_process_vm_readv,
];

/// Calls that are allowed by their arguments.
#[rustfmt::skip]
pub const CHECKED: &[i64] = &[
    SYS_ioctl, SYS_mmap, SYS_mprotect, SYS_madvise, SYS_openat, SYS_fcntl, SYS_dup2, SYS_dup3, SYS_close_range,
    SYS_rt_sigaction, SYS_clone, SYS_clone3, SYS_prctl, SYS_prlimit64, SYS_mknodat, SYS_socket, SYS_socketpair,
    SYS_setsockopt, SYS_getsockopt,
];

/// KVM's requests that a program's VM needs, by the KVM API document; the first is by far the most frequent.
#[rustfmt::skip]
pub const KVM_REQUESTS: &[u32] = &[
    kvm(NONE, 0x80, 0),         // KVM_RUN
    kvm(READ, 0x83, 312),       // KVM_GET_SREGS
    kvm(READ, 0x9f, 64),        // KVM_GET_VCPU_EVENTS
    kvm(READ | WRITE, 0x88, 8), // KVM_GET_MSRS
    kvm(WRITE, 0x89, 8),        // KVM_SET_MSRS
    kvm(WRITE, 0x46, 32),       // KVM_SET_USER_MEMORY_REGION
    kvm(NONE, 0x01, 0),         // KVM_CREATE_VM
    kvm(NONE, 0x03, 0),         // KVM_CHECK_EXTENSION
    kvm(NONE, 0x04, 0),         // KVM_GET_VCPU_MMAP_SIZE
    kvm(NONE, 0x41, 0),         // KVM_CREATE_VCPU
    kvm(WRITE, 0xa3, 104),      // KVM_ENABLE_CAP
    kvm(READ | WRITE, 0x05, 8), // KVM_GET_SUPPORTED_CPUID
    kvm(WRITE, 0x90, 8),        // KVM_SET_CPUID2
    kvm(WRITE, 0xa7, 392),      // KVM_SET_XCRS
    kvm(READ, 0xa4, 4096),      // KVM_GET_XSAVE
    kvm(WRITE, 0xa5, 4096),     // KVM_SET_XSAVE
    kvm(WRITE, 0x99, 4),        // KVM_SET_MP_STATE
    kvm(WRITE, 0xe1, 24),       // KVM_SET_DEVICE_ATTR
];

const NONE: u32 = 0;
const WRITE: u32 = 1;
const READ: u32 = 2;

/// The number of a request whose argument has `size` bytes (asm-generic/ioctl.h).
const fn kvm(direction: u32, number: u32, size: u32) -> u32 {
    direction << 30 | size << 16 | 0xae << 8 | number
}

/// What clone(2) cannot be asked for: namespaces, and a child that is somebody else's.
const NOT_CLONED: i32 = CLONE_NEWNS
    | CLONE_NEWCGROUP
    | CLONE_NEWUTS
    | CLONE_NEWIPC
    | CLONE_NEWUSER
    | CLONE_NEWPID
    | CLONE_NEWNET
    | CLONE_PARENT
    | CLONE_PTRACE
    | CLONE_UNTRACED;

/// What openat(2) cannot be asked for: only we open files with it, to read them. Those of a program go by openat2(2).
const NOT_OPENED: i32 = O_ACCMODE | O_CREAT | O_TRUNC | (O_TMPFILE & !O_DIRECTORY);

/// Operations of classic BPF (filter.rst): on a word of `struct seccomp_data`, and on constants.
const LOAD: u16 = 0x20;
const CONSTANT: u16 = 0x00;
const TO_X: u16 = 0x07;
const AND: u16 = 0x54;
const SHIFT_RIGHT_BY_X: u16 = 0x7c;
const JUMP: u16 = 0x05;
const IS_EQUAL: u16 = 0x15;
const IS_AT_LEAST: u16 = 0x35;
const HAS_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const INSTRUCTION_POINTER: u32 = 8;

/// The low half of an argument, which is all that the kernel looks at for those that are checked here.
const fn argument(index: u32) -> u32 {
    16 + 8 * index
}

const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
const SECCOMP_RET_ERRNO: u32 = 0x0005_0000;
const SECCOMP_RET_TRAP: u32 = 0x0003_0000;
const SECCOMP_RET_ALLOW: u32 = 0x7fff_0000;

/// Bits of a word.
const WORD: u32 = 32;
/// Words for all the numbers of x86-64.
const WORDS: usize = 16;

/// Calls with whatever arguments, a bit for each.
const FREE: [u32; WORDS] = {
    const fn has(list: &[i64], number: i64) -> bool {
        let mut at = 0;
        while at < list.len() && list[at] != number {
            at += 1;
        }
        at < list.len()
    }
    let mut free = [0; WORDS];
    let mut number = 0;
    while number < WORDS as u32 * WORD {
        let call = number as i64;
        if (has(OWN, call) || sys::is_passed_on(call)) && !has(CHECKED, call) {
            free[(number / WORD) as usize] |= 1 << (number % WORD);
        }
        number += 1;
    }
    free
};

/// Where a test goes on.
#[derive(Clone, Copy)]
enum To {
    Next,
    /// Past so many instructions.
    Past(u8),
    Allow,
    Trap,
}
use To::{Allow, Next, Past, Trap};

/// A filter in the making.
#[derive(Default)]
struct Filter(Vec<(u16, u32, To, To)>);

impl Filter {
    fn push(&mut self, code: u16, k: u32) {
        self.0.push((code, k, Next, Next));
    }

    fn load(&mut self, from: u32) {
        self.push(LOAD, from);
    }

    fn test(&mut self, code: u16, k: u32, yes: To, no: To) {
        self.0.push((code, k, yes, no));
    }

    /// What is done for the call `number`, and past which all others go on.
    fn on(&mut self, number: i64, then: impl FnOnce(&mut Filter)) {
        let mut block = Filter::default();
        then(&mut block);
        let past = Past(u8::try_from(block.0.len()).expect("a block is shorter than a jump"));
        self.test(IS_EQUAL, number as u32, Next, past);
        self.0.append(&mut block.0);
    }

    /// Allows what was loaded if it is one of these values, and traps it otherwise. Values of one word are looked up
    /// together where they are many.
    fn one_of(&mut self, values: impl Iterator<Item = u32>) {
        const MANY: u32 = 8;
        let mut words: Vec<(u32, u32)> = Vec::new();
        for value in values {
            let (word, bit) = (value / WORD, 1 << (value % WORD));
            match words.iter_mut().find(|(other, _)| *other == word) {
                Some((_, bits)) => *bits |= bit,
                None => words.push((word, bit)),
            }
        }
        for (word, bits) in words {
            let first = word * WORD;
            if bits.count_ones() < MANY {
                let values = (0..WORD).filter(|bit| bits >> bit & 1 == 1);
                values.for_each(|bit| self.test(IS_EQUAL, first + bit, Allow, Next));
                continue;
            }
            self.test(IS_AT_LEAST, first, Next, Past(6));
            self.test(IS_AT_LEAST, first + WORD, Past(5), Next);
            self.push(AND, WORD - 1);
            self.push(TO_X, 0);
            self.look_up(bits);
            self.test(HAS_BIT, 1, Allow, Trap);
        }
        self.push(RETURN, SECCOMP_RET_TRAP);
    }

    /// Loads a word so that its first bit is number X of `bits`.
    fn look_up(&mut self, bits: u32) {
        self.push(CONSTANT, bits);
        self.push(SHIFT_RIGHT_BY_X, 0);
    }

    /// Loads the word of [`FREE`] that the number belongs to: a tree of ranges, with a jump to what follows at each end.
    fn word_of_number(&mut self, first: usize, end: usize, jumps: &mut Vec<usize>) {
        if end - first == 1 {
            self.push(CONSTANT, FREE[first]);
            jumps.push(self.0.len());
            return self.push(JUMP, 0);
        }
        let middle = first.midpoint(end);
        let at = self.0.len();
        self.push(IS_AT_LEAST, middle as u32 * WORD);
        self.word_of_number(first, middle, jumps);
        self.0[at].2 = Past((self.0.len() - at - 1) as u8);
        self.word_of_number(middle, end, jumps);
    }

    /// As the kernel takes it.
    fn assembled(&self) -> Vec<sock_filter> {
        let end = self.0.len();
        let distance = |at: usize, to| match to {
            Next => 0,
            Past(count) => count,
            Trap => u8::try_from(end - at - 1).expect("a filter is shorter than a jump"),
            Allow => u8::try_from(end - at).expect("a filter is shorter than a jump"),
        };
        let instructions = self.0.iter().enumerate();
        let instructions = instructions.map(|(at, &(code, k, yes, no))| sock_filter {
            code,
            jt: distance(at, yes),
            jf: distance(at, no),
            k,
        });
        let verdict = |k| sock_filter { code: RETURN, jt: 0, jf: 0, k };
        instructions.chain([SECCOMP_RET_TRAP, SECCOMP_RET_ALLOW].map(verdict)).collect()
    }
}

/// The filter of a process whose own descriptors are `lowest` and more.
fn filter(lowest: i32, network: bool) -> Vec<sock_filter> {
    let lowest = lowest as u32;
    let mut filter = Filter::default();
    // Linux tries each of its 450 system calls on a new filter, to remember which are always allowed. That takes longer
    // than all the rest, and is spared by looking at more than the call's number.
    filter.load(INSTRUCTION_POINTER);
    filter.load(ARCHITECTURE);
    filter.test(IS_EQUAL, AUDIT_ARCH_X86_64, Next, Trap);
    filter.load(NUMBER);
    filter.on(SYS_ioctl, |filter| requests(filter, lowest));
    filter.test(IS_AT_LEAST, WORDS as u32 * WORD, Trap, Next);
    filter.push(AND, WORD - 1);
    filter.push(TO_X, 0);
    filter.load(NUMBER);
    let mut jumps = Vec::new();
    filter.word_of_number(0, WORDS, &mut jumps);
    let end = filter.0.len();
    jumps.into_iter().for_each(|at| filter.0[at].1 = (end - at - 1) as u32);
    filter.push(SHIFT_RIGHT_BY_X, 0);
    filter.test(HAS_BIT, 1, Allow, Next);
    filter.load(NUMBER);
    by_arguments(&mut filter, lowest, network);
    filter.assembled()
}

/// ioctl(2): of our descriptors KVM's requests, of the program's what can be passed on.
fn requests(filter: &mut Filter, lowest: u32) {
    filter.load(argument(0));
    // What is below 0 is nobody's descriptor, as the kernel will say.
    filter.test(HAS_BIT, 1 << 31, Past(KVM_REQUESTS.len() as u8 + 3), Next);
    filter.test(IS_AT_LEAST, lowest, Next, Past(KVM_REQUESTS.len() as u8 + 2));
    filter.load(argument(1));
    KVM_REQUESTS.iter().for_each(|&request| filter.test(IS_EQUAL, request, Allow, Next));
    filter.push(RETURN, SECCOMP_RET_TRAP);
    filter.load(argument(1));
    filter.one_of(sys::IOCTLS.into_iter().flatten().map(|&request| request as u32));
}

/// The other calls of [`CHECKED`].
fn by_arguments(filter: &mut Filter, lowest: u32, network: bool) {
    let has_none = |filter: &mut Filter, at: u32, bits: i32| {
        filter.load(argument(at));
        filter.test(HAS_BIT, bits as u32, Trap, Allow);
    };
    let is_below = |filter: &mut Filter, at: u32, end: u32| {
        filter.load(argument(at));
        filter.test(IS_AT_LEAST, end, Trap, Allow);
    };
    let numbers = |lists: [&'static [i32]; 2]| lists.into_iter().flatten().map(|&number| number as u32);
    // No code is mapped or made here: what a program runs, it runs in the VM.
    filter.on(SYS_mmap, |filter| has_none(filter, 2, PROT_EXEC));
    filter.on(SYS_mprotect, |filter| has_none(filter, 2, PROT_EXEC));
    filter.on(SYS_madvise, |filter| {
        filter.load(argument(2));
        filter.one_of(memory::ADVICE.iter().map(|&advice| advice as u32));
    });
    filter.on(SYS_openat, |filter| has_none(filter, 2, NOT_OPENED));
    filter.on(SYS_fcntl, |filter| {
        filter.load(argument(1));
        filter.one_of(numbers(sys::FCNTLS));
    });
    // Nothing takes the place of what is ours.
    for call in [SYS_dup2, SYS_dup3] {
        filter.on(call, |filter| {
            filter.load(argument(1));
            filter.test(HAS_BIT, 1 << 31, Allow, Next);
            filter.test(IS_AT_LEAST, lowest, Trap, Allow);
        });
    }
    filter.on(SYS_close_range, |filter| is_below(filter, 1, lowest));
    // What ends the process here stays.
    filter.on(SYS_rt_sigaction, |filter| {
        filter.load(argument(0));
        filter.test(IS_EQUAL, SIGSYS as u32, Trap, Allow);
    });
    filter.on(SYS_clone, |filter| has_none(filter, 0, NOT_CLONED));
    // Its flags no filter sees. The C library then asks for clone.
    filter.on(SYS_clone3, |filter| filter.push(RETURN, SECCOMP_RET_ERRNO | ENOSYS as u32));
    filter.on(SYS_prctl, |filter| {
        filter.load(argument(0));
        filter.one_of(numbers(sys::PRCTLS));
    });
    filter.on(SYS_prlimit64, |filter| is_below(filter, 0, 1));
    filter.on(SYS_mknodat, |filter| {
        filter.load(argument(2));
        filter.push(AND, S_IFMT);
        filter.one_of([0, S_IFREG, S_IFIFO, S_IFSOCK].into_iter());
    });
    filter.on(SYS_socket, |filter| {
        filter.load(argument(0));
        filter.one_of(network::families(network).iter().map(|&family| family as u32));
    });
    filter.on(SYS_socketpair, |filter| {
        filter.load(argument(0));
        filter.test(IS_EQUAL, AF_UNIX as u32, Allow, Trap);
    });
    for call in [SYS_setsockopt, SYS_getsockopt] {
        filter.on(call, socket_options);
    }
}

/// setsockopt(2) and getsockopt(2): what [`network::is_plain`] says.
fn socket_options(filter: &mut Filter) {
    let all_but = |filter: &mut Filter, level: i32, names: &[i32]| {
        filter.on(level.into(), |filter| {
            filter.load(argument(2));
            names.iter().for_each(|&name| filter.test(IS_EQUAL, name as u32, Trap, Next));
            filter.push(RETURN, SECCOMP_RET_ALLOW);
        });
    };
    filter.load(argument(1));
    all_but(filter, SOL_SOCKET, network::NOT_OF_SOCKETS);
    all_but(filter, IPPROTO_TCP, network::NOT_OF_TCP);
    filter.test(IS_EQUAL, IPPROTO_UDP as u32, Allow, Next);
    filter.test(IS_EQUAL, SOL_NETLINK as u32, Allow, Next);
    filter.on(IPPROTO_IPV6.into(), |filter| {
        filter.load(argument(2));
        filter.test(IS_AT_LEAST, network::IP_NAMES, Next, Allow);
        filter.test(IS_AT_LEAST, *network::IPV6_NAMES.start(), Next, Trap);
        filter.test(IS_AT_LEAST, *network::IPV6_NAMES.end() + 1, Trap, Allow);
    });
    filter.test(IS_EQUAL, IPPROTO_IP as u32, Next, Trap);
    filter.load(argument(2));
    filter.test(IS_AT_LEAST, network::IP_NAMES, Trap, Allow);
}

/// Whether a process that serves a program can make the call `number` at all, with whatever arguments.
pub fn is_allowed(number: i64) -> bool {
    CHECKED.contains(&number) || OWN.contains(&number) || sys::is_passed_on(number)
}

/// Confines the calling thread, and all that it will start, for good. Descriptors from `lowest` on are ours.
pub fn confine(lowest: i32, network: bool) -> io::Result<()> {
    seccompiler::apply_filter(&filter(lowest, network)).map_err(io::Error::other)
}

#[cfg(test)]
mod tests;
