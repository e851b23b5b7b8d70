//! Calls about sockets: pairs for everybody, names and the network for whom the user has let have them.
//!
//! Addresses and control data are copied once, checked, and passed on as the copy: a message can carry descriptors
//! (SCM_RIGHTS), and none of ours may be among them. Sources: socket(7), unix(7), sendmsg(2), cmsg(3).

use super::answer::{Answer, Done, descriptor, errno, host};
use super::file::{pieces, two_descriptors};
use super::kinds::Checked;
use crate::program::errno::Errno;
use crate::program::files::{CWD, Handle};
use crate::program::process::Process;
use crate::program::thread::Thread;
use crate::sys::program::{Arena, Argument, Message, Part};
use Argument::{Bytes, Word};
use std::ops::RangeInclusive;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

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
    descriptor(answer, thread.process.files.limit())
}

pub(super) fn socketpair(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    let [domain, kind, protocol, at, ..] = call.words;
    if domain as i32 != libc::AF_UNIX {
        return errno(libc::EOPNOTSUPP);
    }
    let answer = host(call.number, [Word(domain), Word(kind), Word(protocol), call.memory(3)]);
    two_descriptors(thread, answer, at)
}

/// An address as the kernel gets it.
struct Address {
    bytes: Vec<u8>,
    /// What it leads to by its number, which is to stay until the call is made.
    _file: Option<Handle>,
}

/// The path in the address of a local socket, if it has a name that is one. One that begins with zero is abstract: it is
/// nobody's file, and only a kernel that has walls for them (landlock, Linux 6.12) keeps the program among its own, or a
/// container around it.
fn local_path<'a>(thread: &Thread, bytes: &'a [u8]) -> Result<Option<&'a [u8]>, Errno> {
    match bytes {
        [a, b, name @ ..] if i32::from(u16::from_le_bytes([*a, *b])) == libc::AF_UNIX => match name {
            [] => Ok(None),
            [0, ..] if thread.process.files.contained => Ok(None),
            [0, ..] if thread.process.keeps_signals.load(Ordering::Relaxed) => Ok(None),
            [0, ..] => Err(Errno(libc::EACCES)),
            name => Ok(name.split(|&byte| byte == 0).next()),
        },
        _ => Ok(None),
    }
}

/// An address of a local socket.
fn local(path: &[u8]) -> Vec<u8> {
    [&(libc::AF_UNIX as u16).to_le_bytes()[..], path, &[0]].concat()
}

/// A copy of an address.
fn copied(thread: &Thread, at: u64, len: u64) -> Result<Vec<u8>, Errno> {
    if len > ADDRESS_MAX {
        return Err(Errno(libc::EINVAL));
    }
    let mut bytes = vec![0; len as usize];
    thread.process.arena.read(at, &mut bytes)?;
    Ok(bytes)
}

/// An address that the program may reach. Of local sockets with a name these are those of its own, or of its container:
/// EACCES.
fn reachable(thread: &Thread, at: u64, len: u64) -> Result<Address, Errno> {
    let bytes = copied(thread, at, len)?;
    let Some(path) = local_path(thread, &bytes)? else { return Ok(Address { bytes, _file: None }) };
    let file = thread.process.files.find(CWD, path, true)?;
    if file.kind()?.mode & libc::S_IFMT != libc::S_IFSOCK {
        return Err(Errno(libc::ECONNREFUSED));
    }
    if !thread.process.files.contained && !thread.process.names.knows(&file) {
        return Err(Errno(libc::EACCES));
    }
    Ok(Address { bytes: local(file.link().as_bytes()), _file: Some(file) })
}

pub(super) fn connect(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    let address = reachable(thread, call.words[1], u64::from(call.words[2] as u32))?;
    host(call.number, [Word(call.words[0]), Bytes(&address.bytes), Word(address.bytes.len() as u64)])
}

/// bind(2). A path is that of a new file, in a directory that the program may change.
pub(super) fn bind(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    let fd = Word(call.words[0]);
    let bytes = copied(thread, call.words[1], u64::from(call.words[2] as u32))?;
    let Some(path) = local_path(thread, &bytes)? else {
        return host(call.number, [fd, Bytes(&bytes), Word(bytes.len() as u64)]);
    };
    let Process { files, names, .. } = &*thread.process;
    if files.find(CWD, path, false).is_ok() {
        return errno(libc::EADDRINUSE);
    }
    let (parent, name) = files.find_parent(CWD, path)?;
    files.check_change(&parent)?;
    let spelled = names.spelling(&parent, name.as_bytes()).ok_or(Errno(libc::ENAMETOOLONG))?;
    let (before, address) = (SystemTime::now(), local(&spelled));
    let answer = host(call.number, [fd, Bytes(&address), Word(address.len() as u64)])?;
    // Whoever has taken the file away meanwhile has a socket that nobody reaches.
    if let Ok(file) = Handle::find(parent.number() as i32, &name, false, false, files.lowest()) {
        names.add(&file, before, path, &spelled)?;
    }
    Ok(answer)
}

/// Calls that tell an address: getsockname(2), getpeername(2), accept(2) and recvfrom(2).
pub(super) fn told(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    let [fd, _, third, fourth, ..] = call.words;
    let at = if call.number == libc::SYS_recvfrom { 4 } else { 1 };
    let (address, len_at) = (call.words[at], call.words[at + 1]);
    let arena = &thread.process.arena;
    let room = if address == 0 || len_at == 0 { 0 } else { read_u32(arena, len_at)? };
    let pair = [call.memory(at), call.memory(at + 1)];
    let answer = match call.number {
        libc::SYS_recvfrom => {
            host(call.number, [Word(fd), call.memory(1), Word(third), Word(fourth), pair[0], pair[1]])
        }
        libc::SYS_accept4 => host(call.number, [Word(fd), pair[0], pair[1], Word(fourth)]),
        _ => host(call.number, [Word(fd), pair[0], pair[1]]),
    };
    let answer = match call.number {
        libc::SYS_accept | libc::SYS_accept4 => descriptor(answer, thread.process.files.limit()),
        _ => answer,
    };
    if room > 0 && matches!(answer, Ok(Done::Value(_))) {
        let len = read_u32(arena, len_at)?;
        if let Some(len) = tell_own_name(thread, address, len, room)? {
            arena.write(len_at, &len.to_le_bytes())?;
        }
    }
    answer
}

fn read_u32(arena: &Arena, at: u64) -> Result<u32, Errno> {
    let mut bytes = [0; 4];
    arena.read(at, &mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

/// Of a local socket's address at `at`, which the kernel has written, makes what the program has called it. Returns its
/// length, if it is another one; what does not fit into `room` bytes is left out.
fn tell_own_name(thread: &Thread, at: u64, len: u32, room: u32) -> Result<Option<u32>, Errno> {
    let len = len.min(room);
    if len <= 2 || u64::from(len) > ADDRESS_MAX {
        return Ok(None);
    }
    let bytes = copied(thread, at, len.into())?;
    let Some(path) = bytes.strip_prefix(&(libc::AF_UNIX as u16).to_le_bytes()) else { return Ok(None) };
    let path = path.split(|&byte| byte == 0).next().unwrap_or_default();
    let Some(given) = thread.process.names.given(path) else { return Ok(None) };
    let address = local(&given);
    thread.process.arena.write(at, &address[..address.len().min(room as usize)])?;
    Ok(Some(address.len() as u32))
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
/// Options of IPv6 between netfilter's numbers there: IPV6_RECVTCLASS and IPV6_TCLASS.
pub const IPV6_NAMES: RangeInclusive<u32> = 66..=67;

/// Options that hold no addresses and load no code.
pub fn is_plain(level: i32, name: i32) -> bool {
    match level {
        libc::SOL_SOCKET => !NOT_OF_SOCKETS.contains(&name),
        libc::IPPROTO_IP => (name as u32) < IP_NAMES,
        libc::IPPROTO_IPV6 => (name as u32) < IP_NAMES || IPV6_NAMES.contains(&(name as u32)),
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
    let Address { bytes, _file } = reachable(thread, at, u64::from(address_len as u32))?;
    host(call.number, [Word(fd), data, Word(len), Word(flags), Bytes(&bytes), Word(bytes.len() as u64)])
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
        let name = match (name, name_len) {
            (0, _) | (_, 0) => Address { bytes: Vec::new(), _file: None },
            (at, len) => reachable(thread, at, len.into())?,
        };
        let has_control = control != 0 && control_len != 0;
        let control = if has_control { control_data(thread, control, control_len)? } else { Vec::new() };
        let message = Message::new(Part::Bytes(&name.bytes), &pieces, Part::Bytes(&control));
        return host(call.number, [fd, Argument::Message(&message), flags]);
    }
    let part = |at: u64, len: u64| match at {
        0 => Ok(Part::Bytes(&[])),
        at => arena.place(at, len).map(|place| Part::Memory(place, len)),
    };
    let message = Message::new(part(name, name_len.into())?, &pieces, part(control, control_len)?);
    let answer = host(call.number, [fd, Argument::Message(&message), flags]);
    if let Ok(Done::Value(_)) = answer {
        let (received_len, control_len, flags) = message.received();
        if name != 0 {
            let name_len = tell_own_name(thread, name, received_len, name_len)?.unwrap_or(received_len);
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
