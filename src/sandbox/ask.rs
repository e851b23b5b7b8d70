//! What the kernel would say: filters asked about a system call, for tests. Source: Linux, networking/filter.rst.

use seccompiler::sock_filter;

/// AUDIT_ARCH_X86_64
pub const X86_64: u32 = 0xc000_003e;
/// SECCOMP_RET_ALLOW
pub const ALLOW: u32 = 0x7fff_0000;
/// SECCOMP_RET_TRAP
pub const TRAP: u32 = 0x0003_0000;

/// What a filter answers: the few instructions that ours are made of.
pub fn ask(filter: &[sock_filter], architecture: u32, number: u32, arguments: [u64; 6]) -> u32 {
    let (mut at, mut loaded, mut x) = (0, 0, 0);
    loop {
        let sock_filter { code, jt, jf, k } = filter[at];
        let jump = |taken| 1 + usize::from(if taken { jt } else { jf });
        at += match code {
            0x20 => {
                loaded = match k {
                    0 => number,
                    4 => architecture,
                    8 => 0x1234,
                    16.. if k % 8 == 0 => arguments[(k as usize - 16) / 8] as u32,
                    _ => panic!("nothing of interest is at {k}"),
                };
                1
            }
            0x00 => {
                loaded = k;
                1
            }
            0x07 => {
                x = loaded;
                1
            }
            0x54 => {
                loaded &= k;
                1
            }
            // By 32 or more is not defined for every machine that runs it.
            0x7c => {
                assert!(x < 32);
                loaded >>= x;
                1
            }
            0x05 => 1 + k as usize,
            0x15 => jump(loaded == k),
            0x35 => jump(loaded >= k),
            0x45 => jump(loaded & k != 0),
            0x06 => return k,
            _ => panic!("instruction {code:#x}"),
        };
    }
}
