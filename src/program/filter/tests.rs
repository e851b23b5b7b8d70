//! The filter, asked about every system call, and held against the table.

use super::*;
use crate::sandbox::ask::{ALLOW, TRAP, X86_64, ask};

const LOWEST: i32 = 1024;
/// A number that no rule mentions.
const OTHER: u64 = 0x7fff_fff0;

fn verdict(network: bool, number: i64, arguments: [u64; 6]) -> u32 {
    ask(&filter(LOWEST, network), X86_64, number as u32, arguments)
}

/// What is passed on, a test beside the table holds against it.
#[test]
fn what_the_table_passes_on_and_what_we_need_is_allowed_and_nothing_else() {
    let filter = filter(LOWEST, false);
    for number in (0..2048).filter(|number| !CHECKED.contains(number)) {
        let expected = if OWN.contains(&number) || sys::is_passed_on(number) { ALLOW } else { TRAP };
        for arguments in [[0; 6], [OTHER; 6], [u64::MAX; 6]] {
            assert_eq!(ask(&filter, X86_64, number as u32, arguments), expected, "system call {number}");
        }
    }
}

/// What the table refuses to do, and what nobody needs, by its name.
#[test]
fn what_is_refused_to_a_program_is_refused_to_us() {
    use crate::program::syscall::table::{self, CALLS, Server};
    let is_refused = |call: &&table::Call| matches!(call.server, Server::Refused(_));
    for call in CALLS.iter().filter(is_refused).filter(|call| call.number != SYS_clone3) {
        assert_eq!(verdict(true, call.number, [0; 6]), TRAP, "{}", call.number);
    }
    for number in [
        SYS_execve,
        SYS_execveat,
        SYS_fork,
        SYS_vfork,
        SYS_open,
        SYS_creat,
        SYS_io_uring_setup,
        SYS_bpf,
        SYS_userfaultfd,
        SYS_perf_event_open,
        SYS_process_vm_writev,
        SYS_pidfd_getfd,
        SYS_open_by_handle_at,
        SYS_keyctl,
        SYS_add_key,
        SYS_seccomp,
        SYS_landlock_create_ruleset,
        SYS_kexec_load,
        SYS_chroot,
        SYS_fsopen,
        SYS_move_mount,
        SYS_open_tree,
        SYS_kcmp,
        SYS_memfd_secret,
        SYS_vmsplice,
        SYS_iopl,
        SYS_ioperm,
        SYS_modify_ldt,
        SYS_setxattr,
        SYS_personality,
        SYS_quotactl,
        SYS_acct,
        SYS_name_to_handle_at,
        SYS_mbind,
    ] {
        assert_eq!(verdict(true, number, [0; 6]), TRAP, "{number}");
    }
    // The C library asks for this one first; its error leads it to clone.
    assert_eq!(verdict(true, SYS_clone3, [0; 6]), SECCOMP_RET_ERRNO | ENOSYS as u32);
}

#[test]
fn another_architecture_is_allowed_nothing() {
    let filter = filter(LOWEST, true);
    for number in 0..2048 {
        assert_eq!(ask(&filter, 0x4000_0003, number, [0; 6]), TRAP);
        assert_eq!(ask(&filter, X86_64, number | 1 << 30, [0; 6]), TRAP);
    }
}

/// Every call of [`CHECKED`], with what is allowed and what is not.
#[test]
fn arguments_decide_where_they_say_what_is_asked_for() {
    let all = |network: bool, number: i64, at: usize, value: u64, others: u64| {
        let mut arguments = [others; 6];
        arguments[at] = value;
        verdict(network, number, arguments)
    };
    let only = |number: i64, at: usize, allowed: &[u64], refused: &[u64]| {
        for &value in allowed {
            assert_eq!(all(false, number, at, value, OTHER), ALLOW, "{number}: {value:#x}");
        }
        for &value in refused {
            assert_eq!(all(false, number, at, value, OTHER), TRAP, "{number}: {value:#x}");
        }
    };
    let word = |flag: i32| u64::from(flag as u32);
    for number in [SYS_mmap, SYS_mprotect] {
        only(number, 2, &[0, word(PROT_READ | PROT_WRITE)], &[word(PROT_EXEC), 7]);
    }
    only(
        SYS_openat,
        2,
        &[word(O_CLOEXEC), word(O_PATH), word(O_DIRECTORY)],
        &[1, 2, word(O_CREAT), word(O_TRUNC), word(O_TMPFILE)],
    );
    let (ours, nobodys) = ([1024, 1025, OTHER], u64::from(u32::MAX));
    only(SYS_dup2, 1, &[0, 1023, nobodys], &ours);
    only(SYS_dup3, 1, &[0, 1023, nobodys], &ours);
    only(SYS_close_range, 1, &[0, 1023], &ours);
    only(SYS_rt_sigaction, 0, &[1, 11, 64], &[word(SIGSYS)]);
    only(
        SYS_clone,
        0,
        &[word(SIGCHLD), 0x3d_0f00, 0x120_0011],
        &[0x1000_0000, 0x2_0000, 0x4000_0011, word(CLONE_PARENT)],
    );
    only(SYS_prlimit64, 0, &[0], &[1, OTHER]);
    only(SYS_mknodat, 2, &[0o644, word(0o100_600), word(0o10_600)], &[word(0o20_666), word(0o60_666)]);
    only(SYS_socketpair, 0, &[word(AF_UNIX)], &[word(AF_INET), 0, OTHER]);
    for (network, families) in [(false, 1), (true, 4)] {
        let allowed = (0..64).filter(|&family| all(network, SYS_socket, 0, family, OTHER) == ALLOW);
        assert_eq!(allowed.count(), families);
    }
    assert_eq!(all(false, SYS_socket, 0, word(AF_UNIX), 0), ALLOW);
    for advice in 0..300 {
        let expected = if memory::ADVICE.contains(&advice) { ALLOW } else { TRAP };
        assert_eq!(all(false, SYS_madvise, 2, word(advice), 0), expected, "madvise {advice}");
    }
    for level in [0, 1, 6, 17, 41, 255, 270, 300, -1] {
        for name in (-2..300).chain([i32::MIN, i32::MAX]) {
            let expected = if network::is_plain(level, name) { ALLOW } else { TRAP };
            for number in [SYS_setsockopt, SYS_getsockopt] {
                assert_eq!(
                    verdict(true, number, [3, word(level), word(name), 0, 0, 0]),
                    expected,
                    "{level} {name}"
                );
            }
        }
    }
}

/// A request is for KVM's descriptors or for the program's: none for both.
#[test]
fn requests_are_those_of_the_table_and_for_our_descriptors_those_of_kvm() {
    let ask = |fd: u64, number: i64, request: u64| verdict(false, number, [fd, request, OTHER, 0, 0, 0]);
    let known: Vec<u64> = sys::IOCTLS.into_iter().flatten().copied().collect();
    let kvm: Vec<u64> = KVM_REQUESTS.iter().map(|&request| request.into()).collect();
    let others = [0x5412, 0xae60, 0x5480, 0x8912, 0x5400, 0x541f, 0x5440, 0, u64::from(u32::MAX)];
    let all = known.iter().chain(&kvm).chain(&others).copied().chain(0x5400..0x5480).chain(0xae00..0xb000);
    for request in all {
        let is_allowed = |list: &[u64]| if list.contains(&request) { ALLOW } else { TRAP };
        for fd in [0, 1, 1023, u64::from(u32::MAX), 1 << 31] {
            assert_eq!(ask(fd, SYS_ioctl, request), is_allowed(&known), "{fd}: {request:#x}");
        }
        for fd in [1024, 5000, OTHER] {
            assert_eq!(ask(fd, SYS_ioctl, request), is_allowed(&kvm), "{fd}: {request:#x}");
        }
    }
    for number in 0..2048_i32 {
        let is_known = sys::FCNTLS.into_iter().flatten().any(|&known| known == number);
        let expected = if is_known { ALLOW } else { TRAP };
        assert_eq!(ask(0, SYS_fcntl, number as u64), expected, "fcntl {number}");
        let is_known = sys::PRCTLS.into_iter().flatten().any(|&known| known == number);
        let expected = if is_known { ALLOW } else { TRAP };
        assert_eq!(verdict(false, SYS_prctl, [number as u64, 0, 0, 0, 0, 0]), expected, "prctl {number}");
    }
}

/// What it costs grows with its length: docs/security.md has the figures.
#[test]
fn it_is_short() {
    println!("{} instructions, with the network {}", filter(LOWEST, false).len(), filter(LOWEST, true).len());
    assert!(filter(LOWEST, true).len() < 256);
}
