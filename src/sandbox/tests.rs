//! Each filter, asked about every system call.

use super::ask::{ALLOW, TRAP, X86_64, ask};
use super::rules::{self, COMMON, COMMON_CHECKED, Checked, Must, Rules};
use super::*;

/// The number of the process that the filters are for.
const PROCESS: u32 = 4321;
/// A number that no rule mentions, and that has no bit of one that must not be set.
const OTHER_NUMBER: u64 = 0x7fff_fff0;

fn filters() -> impl Iterator<Item = (Vec<sock_filter>, Rules)> {
    let filters = [
        first(PROCESS).to_vec(),
        traced(PROCESS).to_vec(),
        other(PROCESS).to_vec(),
        input(PROCESS).to_vec(),
        disk(PROCESS).to_vec(),
    ];
    filters.into_iter().zip(rules::ALL)
}

/// The rules for `number` that look at arguments.
fn checked(rules: &Rules, number: u32) -> Option<&Checked> {
    let mut all = rules.checked.iter().chain(COMMON_CHECKED);
    all.find(|checked| checked.call == i64::from(number))
}

/// Values of an argument that are as they must be, and one that is not.
fn examples(must: &Must) -> (Vec<u64>, u64) {
    match must {
        Must::BeOurselves => (vec![PROCESS.into()], u64::from(PROCESS) + 1),
        Must::BeOneOf(values) => (values.to_vec(), OTHER_NUMBER),
        Must::HaveNoneOf(bits) => (vec![0, !bits], *bits),
    }
}

#[test]
fn each_filter_allows_what_its_rules_say_and_nothing_else() {
    for (filter, rules) in filters() {
        for number in 0..2048 {
            let ask = |arguments| ask(&filter, X86_64, number, arguments);
            let is_free = [rules.calls, COMMON].concat().contains(&i64::from(number));
            match checked(&rules, number) {
                None => {
                    let expected = if is_free { ALLOW } else { TRAP };
                    assert_eq!(ask([OTHER_NUMBER; 6]), expected, "{}: {number}", rules.role);
                }
                Some(checked) => {
                    assert!(!is_free, "{}: {number} has two rules", rules.role);
                    judge(checked, ask, rules.role);
                }
            }
        }
    }
}

/// With every allowed value of each argument, and with one that is not allowed of each in turn.
fn judge(checked: &Checked, ask: impl Fn([u64; 6]) -> u32, role: &str) {
    let good = checked.arguments.iter().fold([OTHER_NUMBER; 6], |mut arguments, (index, must)| {
        arguments[*index as usize] = examples(must).0[0];
        arguments
    });
    for (index, must) in checked.arguments {
        let with = |value| {
            let mut arguments = good;
            arguments[*index as usize] = value;
            ask(arguments)
        };
        let (allowed, forbidden) = examples(must);
        for value in allowed {
            assert_eq!(with(value), ALLOW, "{role}: {} with {value:#x}", checked.call);
        }
        assert_eq!(with(forbidden), TRAP, "{role}: {} with {forbidden:#x}", checked.call);
    }
}

/// The same number means another call to a 32-bit program, and x32 has a bit of its own.
#[test]
fn another_architecture_is_allowed_nothing() {
    for (filter, rules) in filters() {
        for number in 0..2048 {
            for arguments in [[0; 6], [u64::from(PROCESS); 6]] {
                assert_eq!(ask(&filter, 0x4000_0003, number, arguments), TRAP, "{}", rules.role);
                assert_eq!(ask(&filter, X86_64, number | 1 << 30, arguments), TRAP, "{}", rules.role);
            }
        }
    }
}

/// What an attacker would ask for first, in words and not by the rules.
#[test]
fn what_an_attacker_would_ask_for_is_trapped() {
    let (us, them) = (u64::from(PROCESS), u64::from(PROCESS) - 1);
    let (read, exec) = (libc::PROT_READ as u64, libc::PROT_EXEC as u64);
    let fresh = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64;
    let sigabrt = libc::SIGABRT as u64;
    let attempts: [(&str, i64, [u64; 4]); 14] = [
        ("ends another process", libc::SYS_tgkill, [them, them, sigabrt, 0]),
        ("ends another process", libc::SYS_tkill, [them, sigabrt, 0, 0]),
        ("ends another process", libc::SYS_kill, [them, sigabrt, 0, 0]),
        ("stops this one", libc::SYS_tgkill, [us, us, libc::SIGSTOP as u64, 0]),
        ("outlives a forbidden call", libc::SYS_rt_sigaction, [libc::SIGSYS as u64, 1, 0, 8]),
        ("outlives a crash", libc::SYS_rt_sigaction, [libc::SIGSEGV as u64, 1, 0, 8]),
        ("maps code", libc::SYS_mmap, [0, 4096, read | exec, fresh]),
        ("makes code", libc::SYS_mprotect, [0, 4096, read | exec, 0]),
        ("maps a file", libc::SYS_mmap, [0, 4096, read, libc::MAP_PRIVATE as u64]),
        ("shares memory", libc::SYS_mmap, [0, 4096, read, libc::MAP_SHARED as u64]),
        ("maps over what is there", libc::SYS_mmap, [0, 4096, read, fresh | libc::MAP_FIXED as u64]),
        ("wakes another process", libc::SYS_futex, [0, libc::FUTEX_WAKE as u64, 1, 0]),
        ("opens a file", libc::SYS_openat, [0; 4]),
        ("becomes a program", libc::SYS_execve, [0; 4]),
    ];
    for (filter, rules) in filters() {
        for (what, call, [a, b, c, d]) in attempts {
            let answer = ask(&filter, X86_64, call as u32, [a, b, c, d, 0, 0]);
            assert_eq!(answer, TRAP, "{}: {what}", rules.role);
        }
        let reads_a_file = ask(&filter, X86_64, libc::SYS_read as u32, [3, 0, 0, 0, 0, 0]);
        // Where a story is told, the pipe of who writes it is read.
        assert_eq!(reads_a_file == TRAP, rules.role != "TRACED", "{}", rules.role);
    }
}
