//! The few instructions to which SYSCALL leads: they have the VMM serve the call, or answer it themselves.
//!
//! What getpid(2) and its kin ask for changes rarely, and then this process knows: so the stub has the answers beside
//! it, and such a call does not leave the guest. Each vCPU has a stub of its own, since a thread's number and its user
//! are its own. A signal may stop a vCPU anywhere in here. Then [`stop`] tells where, and whoever has stopped it does what
//! is left.
//!
//! Sources: Intel SDM volume 2, "SYSCALL", "SYSRET", "OUT", "SAHF"; getpid(2), gettid(2), getuid(2), getgid(2).

/// The port of a system call.
pub const CALL: u16 = 0x80;

/// How a system call goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Return {
    /// With SYSRET, from ring 0. The processor is an ordinary one.
    Sysret,
    /// With a jump, as it has stayed in ring 3: kvm_pvm.
    Jump,
}

/// Where in its stub a vCPU has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Elsewhere: in the program.
    Program,
    /// Behind SYSCALL, and the VMM has not heard of the call yet.
    BeforeCall,
    /// The call has been served, and the program is about to go on.
    AfterCall,
    /// About to answer by itself: with the answer of that number.
    Answering(usize),
}

/// What the stub answers by itself, in the order of [`ANSWERED`].
pub type Answers = [u32; ANSWERED.len()];

/// The calls that are answered here.
pub const ANSWERED: [i64; 6] = [
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
];

/// Bytes of a stub.
pub const LEN: u64 = 512;
/// Where the call leaves the guest: behind a comparison and a jump for each number.
const OUT: u64 = ANSWERED.len() as u64 * (CMP + JE);
/// Where it comes back.
pub const AFTER: u64 = OUT + 2;
const ANSWERS: u64 = 0x80;
const ANSWER_LEN: u64 = 32;
const VALUES: u64 = 0x1c0;
/// Bytes of CMP with EAX, and of a far JE.
const CMP: u64 = 5;
const JE: u64 = 6;

const SYSRET: [u8; 3] = [0x48, 0x0f, 0x07];
/// `jmp *%rcx`, and INT3.
const JUMP: [u8; 3] = [0xff, 0xe1, 0xcc];
/// The flags as they were, from R11, by way of EAX: a jump does not bring them back, as SYSRET does. OF first, by an
/// addition that overflows or not; then the others.
#[rustfmt::skip]
const FLAGS: [u8; 16] = [
    0x44, 0x89, 0xd8, // mov %r11d, %eax
    0xc1, 0xe8, 0x0b, // shr $11, %eax
    0x24, 0x01,       // and $1, %al
    0x04, 0x7f,       // add $0x7f, %al
    0x44, 0x89, 0xd8, // mov %r11d, %eax
    0x86, 0xc4,       // xchg %al, %ah
    0x9e,             // sahf
];

/// OUT to a port, in two bytes.
pub const fn out(port: u16) -> [u8; 2] {
    [0xe6, port as u8]
}

/// The stub. Without answers, each call leaves the guest.
pub fn code(how: Return, answers: Option<&Answers>) -> [u8; LEN as usize] {
    let mut code = [0xcc; LEN as usize];
    let mut put = |at: u64, bytes: &[u8]| code[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
    let back = match how {
        Return::Sysret => SYSRET,
        Return::Jump => JUMP,
    };
    // jmp to the OUT.
    put(0, &[0xeb, OUT as u8 - 2]);
    put(OUT, &[&out(CALL)[..], &back].concat());
    for (n, (number, value)) in (0..).zip(ANSWERED.iter().zip(answers.into_iter().flatten())) {
        let (from, to, place) = (n * (CMP + JE), ANSWERS + n * ANSWER_LEN, VALUES + n * 4);
        let distance = |to: u64, from: u64| ((to - from) as u32).to_le_bytes();
        // cmp $number, %eax; je to the answer.
        put(from, &[&[0x3d][..], &(*number as u32).to_le_bytes()].concat());
        put(from + CMP, &[&[0x0f, 0x84][..], &distance(to, from + CMP + JE)].concat());
        let flags = if how == Return::Jump { &FLAGS[..] } else { &[] };
        // mov value, %eax.
        let load_end = to + flags.len() as u64 + 6;
        put(to, &[flags, &[0x8b, 0x05], &distance(place, load_end), &back].concat());
        put(place, &value.to_le_bytes());
    }
    code
}

/// Where a vCPU is whose RIP is so far behind its stub's beginning.
pub fn stop(offset: u64) -> Stop {
    match offset {
        0..=OUT => Stop::BeforeCall,
        AFTER..ANSWERS => Stop::AfterCall,
        ANSWERS..VALUES if (offset - ANSWERS) / ANSWER_LEN < ANSWERED.len() as u64 => {
            Stop::Answering(((offset - ANSWERS) / ANSWER_LEN) as usize)
        }
        _ => Stop::Program,
    }
}

/// Whether that is where an OUT of the stub is seen.
pub fn is_out(offset: u64) -> bool {
    (OUT..=AFTER).contains(&offset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind};

    /// Every instruction from `at` up to the first that leads out of the stub.
    fn instructions(code: &[u8], at: u64) -> Vec<Instruction> {
        let mut decoder = Decoder::with_ip(64, &code[at as usize..], at, DecoderOptions::NONE);
        let mut all = Vec::new();
        loop {
            let instruction = decoder.decode();
            all.push(instruction);
            let is_last = matches!(instruction.code(), Code::Sysretq | Code::Jmp_rm64);
            if is_last {
                return all;
            }
            assert!(!instruction.is_invalid() && instruction.mnemonic() != Mnemonic::Int3, "{instruction}");
        }
    }

    #[test]
    fn each_number_leads_to_its_answer_and_all_others_out() {
        for how in [Return::Sysret, Return::Jump] {
            let code = code(how, Some(&[10, 11, 12, 13, 14, 15]));
            let chain = instructions(&code, 0);
            let pairs = chain.chunks(2).take(ANSWERED.len());
            for (n, (pair, number)) in pairs.zip(ANSWERED).enumerate() {
                assert_eq!((pair[0].mnemonic(), pair[1].mnemonic()), (Mnemonic::Cmp, Mnemonic::Je));
                assert_eq!(pair[0].immediate(1) as i64, number);
                let to = pair[1].near_branch_target();
                let answer = instructions(&code, to);
                for instruction in &answer {
                    assert_eq!(stop(instruction.ip()), Stop::Answering(n), "{instruction}");
                }
                let load = &answer[answer.len() - 2];
                assert_eq!(load.op1_kind(), OpKind::Memory);
                let place = load.memory_displacement64() as usize;
                assert_eq!(code[place..place + 4], (10 + n as u32).to_le_bytes());
            }
            let rest = &chain[2 * ANSWERED.len()..];
            assert_eq!(rest.iter().map(Instruction::mnemonic).next(), Some(Mnemonic::Out));
            assert!(is_out(rest[0].ip()) && is_out(rest[1].ip()));
            assert_eq!((stop(rest[0].ip()), stop(rest[1].ip())), (Stop::BeforeCall, Stop::AfterCall));
        }
    }

    #[test]
    fn without_answers_each_call_leaves() {
        let code = code(Return::Jump, None);
        let first = Decoder::with_ip(64, &code, 0, DecoderOptions::NONE).decode();
        assert!(is_out(first.near_branch_target()) && stop(0) == Stop::BeforeCall);
        assert_eq!(code[AFTER as usize..AFTER as usize + 2], [0xff, 0xe1]);
    }
}
