//! Calls about sockets: pairs for everybody, names and the network for whom the user has let have them.
//!
//! Addresses and control data are copied once, checked, and passed on as the copy: a message can carry descriptors
//! (SCM_RIGHTS), and none of ours may be among them. Sources: socket(7), unix(7), sendmsg(2), cmsg(3).

use super::answer::{Answer, Done, descriptor, errno, host};
use super::file::{pieces, two_descriptors};
use super::kinds::Checked;
use crate::program::errno::Errno;
use crate::program::thread::Thread;
use crate::sys::program::{Argument, Message, Part};
use Argument::{Bytes, Word};

/// The largest address (struct sockaddr_storage).
const ADDRESS_MAX: u64 = 128;
/// The most bytes of control data, as the kernel's net.core.optmem_max has it.
const CONTROL_MAX: u64 = 20480;

/// Families of sockets that a program may have, with or without the network.
pub fn families(network: bool) -> &'static [i32] {
    const ALL: &[i32] = &[libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];
    if network { ALL } else { &ALL[..1] }
}

pub(super) fn socket(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    let [domain, kind, protocol, ..] = call.words;
    if !families(thread.process.network).contains(&(domain as i32)) {
        return errno(libc::EACCES);
    }
    // Of netlink only what tells of routes and addresses.
    if domain as i32 == libc::AF_NETLINK && protocol as i32 != libc::NETLINK_ROUTE {
        return errno(libc::EACCES);
    }
    let answer = host(call.number, [Word(domain), Word(kind), Word(protocol)]);
    descriptor(answer, thread.process.files.lowest())
}

pub(super) fn socketpair(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    let [domain, kind, protocol, at, ..] = call.words;
    if domain as i32 != libc::AF_UNIX {
        return errno(libc::EOPNOTSUPP);
    }
    let answer = host(call.number, [Word(domain), Word(kind), Word(protocol), call.memory(3)]);
    two_descriptors(thread, answer, at)
}

/// A copy of an address that the program may use. Names of local sockets lead to other processes: EACCES, unless those
/// are all of one container.
fn address(thread: &Thread, at: u64, len: u64) -> Result<Vec<u8>, Errno> {
    if len > ADDRESS_MAX {
        return Err(Errno(libc::EINVAL));
    }
    let mut bytes = vec![0; len as usize];
    thread.process.arena.read(at, &mut bytes)?;
    let family = bytes.get(..2).map_or(0, |family| u16::from_le_bytes([family[0], family[1]]));
    match i32::from(family) {
        libc::AF_UNIX if len > 2 && !thread.process.files.contained => Err(Errno(libc::EACCES)),
        _ => Ok(bytes),
    }
}

pub(super) fn named(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    let len = u64::from(call.words[2] as u32);
    let address = address(thread, call.words[1], len)?;
    host(call.number, [Word(call.words[0]), Bytes(&address), Word(len)])
}

/// Options of all sockets that load code into the kernel.
pub const NOT_OF_SOCKETS: &[i32] = &[
    libc::SO_ATTACH_FILTER,
    libc::SO_ATTACH_BPF,
    libc::SO_ATTACH_REUSEPORT_CBPF,
    libc::SO_ATTACH_REUSEPORT_EBPF,
];
/// Options of TCP that hold addresses, or change what a socket is.
pub const NOT_OF_TCP: &[i32] = &[libc::TCP_ULP, libc::TCP_ZEROCOPY_RECEIVE];
/// Options of IP end here; what follows are netfilter's.
pub const IP_NAMES: u32 = 64;

/// Options that hold no addresses and load no code.
pub fn is_plain(level: i32, name: i32) -> bool {
    match level {
        libc::SOL_SOCKET => !NOT_OF_SOCKETS.contains(&name),
        libc::IPPROTO_IP | libc::IPPROTO_IPV6 => (name as u32) < IP_NAMES,
        libc::IPPROTO_TCP => !NOT_OF_TCP.contains(&name),
        libc::IPPROTO_UDP | libc::SOL_NETLINK => true,
        _ => false,
    }
}

pub(super) fn setsockopt(_: &mut Thread, call: &Checked<'_>) -> Answer {
    if !is_plain(call.int(1), call.int(2)) {
        return errno(libc::ENOPROTOOPT);
    }
    let [fd, level, name, _, len, _] = call.words;
    host(call.number, [Word(fd), Word(level), Word(name), call.memory(3), Word(len)])
}

pub(super) fn getsockopt(_: &mut Thread, call: &Checked<'_>) -> Answer {
    if !is_plain(call.int(1), call.int(2)) {
        return errno(libc::ENOPROTOOPT);
    }
    let [fd, level, name, ..] = call.words;
    host(call.number, [Word(fd), Word(level), Word(name), call.memory(3), call.memory(4)])
}

pub(super) fn sendto(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    let [fd, _, len, flags, at, address_len] = call.words;
    let data = call.memory(1);
    if at == 0 {
        return host(call.number, [Word(fd), data, Word(len), Word(flags)]);
    }
    let address = address(thread, at, address_len)?;
    host(call.number, [Word(fd), data, Word(len), Word(flags), Bytes(&address), Word(address_len)])
}

/// sendmsg(2) and recvmsg(2).
pub(super) fn message(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    let arena = &thread.process.arena;
    let at = call.words[1];
    let mut header = [0; 56];
    arena.read(at, &mut header)?;
    let word = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("eight bytes"));
    let (name, name_len, vector, count) = (word(0), word(8) as u32, word(16), word(24));
    let (control, control_len) = (word(32), word(40));
    if count > 1024 {
        return errno(libc::EMSGSIZE);
    }
    let pieces = pieces(arena, vector, count)?;
    let (fd, flags) = (Word(call.words[0]), Word(call.words[2]));
    if call.number == libc::SYS_sendmsg {
        let name = if name == 0 { Vec::new() } else { address(thread, name, name_len.into())? };
        let control = if control == 0 { Vec::new() } else { control_data(thread, control, control_len)? };
        let message = Message::new(Part::Bytes(&name), &pieces, Part::Bytes(&control));
        return host(call.number, [fd, Argument::Message(&message), flags]);
    }
    let part = |at: u64, len: u64| match at {
        0 => Ok(Part::Bytes(&[])),
        at => arena.place(at, len).map(|place| Part::Memory(place, len)),
    };
    let message = Message::new(part(name, name_len.into())?, &pieces, part(control, control_len)?);
    let answer = host(call.number, [fd, Argument::Message(&message), flags]);
    if let Ok(Done::Value(_)) = answer {
        let (name_len, control_len, flags) = message.received();
        if name != 0 {
            arena.write(at + 8, &name_len.to_le_bytes())?;
        }
        arena.write(at + 40, &control_len.to_le_bytes())?;
        arena.write(at + 48, &flags.to_le_bytes())?;
    }
    answer
}

/// A copy of control data in which no descriptor is ours.
fn control_data(thread: &Thread, at: u64, len: u64) -> Result<Vec<u8>, Errno> {
    if len > CONTROL_MAX {
        return Err(Errno(libc::ENOBUFS));
    }
    let mut bytes = vec![0; len as usize];
    thread.process.arena.read(at, &mut bytes)?;
    let lowest = thread.process.files.lowest();
    let mut rest = &bytes[..];
    // struct cmsghdr: length with itself, level, type; the next one at a multiple of eight.
    while rest.len() >= 16 {
        let len = u64::from_le_bytes(rest[..8].try_into().expect("eight bytes"));
        let int = |at: usize| i32::from_le_bytes(rest[at..at + 4].try_into().expect("four bytes"));
        let len = usize::try_from(len).ok().filter(|len| (16..=rest.len()).contains(len));
        let len = len.ok_or(Errno(libc::EINVAL))?;
        if (int(8), int(12)) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
            let is_ours = |fd: &[u8]| i32::from_le_bytes(fd.try_into().expect("four bytes")) >= lowest;
            if rest[16..len].chunks_exact(4).any(is_ours) {
                return Err(Errno(libc::EBADF));
            }
        }
        rest = &rest[len.next_multiple_of(8).min(rest.len())..];
    }
    Ok(bytes)
}
