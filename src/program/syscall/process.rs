//! Calls about processes and threads: each process is one of the host's, with a VM of its own.
//!
//! fork(2) is the host's: the child has a copy of the address space, and makes a VM for it. vfork(2) and
//! posix_spawn(3) are the same, but the parent waits; should the child end without having become another program, what
//! it has changed in memory, which it believed to share, is taken over ([`crate::program::lent`]).
//!
//! Sources: clone(2), vfork(2), exit(2), wait(2).

use super::answer::{Answer, Done, descriptor, errno, host, made, value};
use super::kinds::Checked;
use crate::error::Result;
use crate::program::lent::{Lent, take_over};
use crate::program::process::lock;
use crate::program::stub;
use crate::program::thread::{Copied, End, Thread};
use crate::sys::program as sys;
use crate::sys::program::Argument::Word;
use crate::sys::program::{Forked, Lending, limits};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread::Builder;

/// The stack of a thread that serves one of the program's.
const STACK: usize = 256 << 10;

/// What clone(2) is asked for.
struct Request {
    flags: u64,
    stack: u64,
    parent_number: u64,
    child_number: u64,
    tls: u64,
}

const fn flag(flag: i32) -> u64 {
    flag as u32 as u64
}

/// What every thread shares with the others.
const THREAD: u64 = flag(libc::CLONE_VM)
    | flag(libc::CLONE_FS)
    | flag(libc::CLONE_FILES)
    | flag(libc::CLONE_SIGHAND)
    | flag(libc::CLONE_THREAD);
/// What a child may be told and given.
const TOLD: u64 = flag(libc::CLONE_SETTLS)
    | flag(libc::CLONE_PARENT_SETTID)
    | flag(libc::CLONE_CHILD_SETTID)
    | flag(libc::CLONE_CHILD_CLEARTID)
    | flag(libc::CLONE_SYSVSEM)
    | flag(libc::CLONE_DETACHED)
    | flag(libc::CLONE_IO);
/// The signal that a parent gets.
const EXIT_SIGNAL: u64 = 0xff;

/// setuid(2) and its kin, which the kernel does for the calling thread alone.
pub(super) fn set_ids(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    let answer = made(sys::call(call.number, call.arguments()));
    thread.set_calls();
    answer
}

pub(super) fn fork(thread: &mut Thread, _: &Checked<'_>) -> Answer {
    let flags = libc::SIGCHLD as u64;
    make_process(thread, &Request { flags, stack: 0, parent_number: 0, child_number: 0, tls: 0 })
}

pub(super) fn vfork(thread: &mut Thread, _: &Checked<'_>) -> Answer {
    let flags = flag(libc::CLONE_VFORK) | flag(libc::CLONE_VM) | libc::SIGCHLD as u64;
    make_process(thread, &Request { flags, stack: 0, parent_number: 0, child_number: 0, tls: 0 })
}

pub(super) fn clone(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    let [flags, stack, parent_number, child_number, tls, _] = call.words;
    let request = Request { flags, stack, parent_number, child_number, tls };
    if flags & THREAD == THREAD {
        return match flags & !(THREAD | TOLD | EXIT_SIGNAL) {
            0 => make_thread(thread, &request),
            _ => errno(libc::EINVAL),
        };
    }
    let shared = flag(libc::CLONE_VM) | flag(libc::CLONE_VFORK);
    if flags & flag(libc::CLONE_VM) != 0 && flags & flag(libc::CLONE_VFORK) == 0 {
        // A process that shares memory and goes on beside its parent.
        return errno(libc::ENOSYS);
    }
    match (flags & !(shared | TOLD | EXIT_SIGNAL), flags & EXIT_SIGNAL) {
        (0, signal) if signal == libc::SIGCHLD as u64 => make_process(thread, &request),
        (0, _) => errno(libc::EINVAL),
        // Namespaces, and what is shared otherwise than everybody does.
        _ => errno(libc::EPERM),
    }
}

/// What a child begins with: what its parent has, and what was asked for.
fn copied(thread: &mut Thread, request: &Request) -> Result<Copied> {
    thread.complete()?;
    let mut copied = Copied::of(thread)?;
    copied.registers.rax = 0;
    if request.stack != 0 {
        copied.registers.rsp = request.stack;
    }
    if request.flags & flag(libc::CLONE_SETTLS) != 0 {
        copied.fs_base = request.tls;
    }
    Ok(copied)
}

/// A new thread: a vCPU of the same VM, and a thread of this process.
fn make_thread(thread: &mut Thread, request: &Request) -> Answer {
    let copied = copied(thread, request)?;
    let process = Arc::clone(&thread.process);
    let Ok((vcpu, page)) = process.vcpu() else { return errno(libc::EAGAIN) };
    let (mask, run_other) = (thread.mask, thread.run_other);
    let observer = thread.observer().map(|observer| observer.thread());
    let (flags, numbers) = (request.flags, (request.parent_number, request.child_number));
    let (started, number) = mpsc::channel();
    let body = move || {
        let mut new = Thread::on(process, vcpu, page, run_other);
        (new.mask, new.observer) = (mask, observer);
        new.set_calls();
        // Both are there before the thread runs.
        let bytes = new.number.to_le_bytes();
        if flags & flag(libc::CLONE_PARENT_SETTID) != 0 {
            let _ = new.process.arena.write(numbers.0, &bytes);
        }
        if flags & flag(libc::CLONE_CHILD_SETTID) != 0 {
            let _ = new.process.arena.write(numbers.1, &bytes);
        }
        if flags & flag(libc::CLONE_CHILD_CLEARTID) != 0 {
            new.clear_at_end = numbers.1;
        }
        lock(&new.process.threads).alive.insert(new.number);
        let put = copied.put(&mut new);
        let _ = started.send(put.map(|()| new.number));
        run_other(new);
    };
    // It begins with every signal blocked, as it has no inbox yet.
    sys::mask(sys::WHOLE_MASK);
    let spawned = Builder::new().stack_size(STACK).spawn(body);
    thread.apply_mask();
    if spawned.is_err() {
        return errno(libc::EAGAIN);
    }
    match number.recv() {
        Ok(number) => value(number? as u64),
        Err(_) => errno(libc::EAGAIN),
    }
}

/// A new process.
fn make_process(thread: &mut Thread, request: &Request) -> Answer {
    let copied = copied(thread, request)?;
    let process = Arc::clone(&thread.process);
    let waits = request.flags & flag(libc::CLONE_VFORK) != 0;
    let lending = if waits { Some(Lending::new(process.files.lowest())?) } else { None };
    process.names.table()?;
    sys::mask(sys::WHOLE_MASK);
    // The child finds no lock held by a thread that it does not have.
    let locks = (lock(&process.space), lock(&process.actions), lock(&process.threads), lock(&process.vfork));
    let is_alone = locks.2.alive.len() == 1;
    let room = match limits::Room::find() {
        Ok(room) => room,
        Err(error) => {
            drop(locks);
            thread.apply_mask();
            return Err(error.into());
        }
    };
    let maker = std::process::id() as i32;
    let forked = sys::fork();
    room.settle(&forked);
    drop(locks);
    match forked {
        Err(error) => {
            thread.apply_mask();
            Err(error.into())
        }
        Ok(Forked::Parent(child)) => {
            if request.flags & flag(libc::CLONE_PARENT_SETTID) != 0 {
                let _ = process.arena.write(request.parent_number, &child.to_le_bytes());
            }
            // It has become another program, or died, if it says nothing.
            if let Some(changed) = lending.and_then(Lending::wait) {
                take_over(&process.arena, lock(&process.space).regions(), child, &changed);
            }
            thread.apply_mask();
            value(child as u64)
        }
        Ok(Forked::Child) => {
            process.maker.store(maker, Ordering::Relaxed);
            if let Err(error) = become_child(thread, request, &copied, lending, is_alone) {
                eprintln!("error: {}", crate::error::in_words(&error));
                sys::end_process(125);
            }
            Ok(Done::Elsewhere)
        }
    }
}

/// What a child does first: it has a copy of everything but its parent's VM.
fn become_child(
    thread: &mut Thread,
    request: &Request,
    copied: &Copied,
    lending: Option<Lending>,
    was_alone: bool,
) -> Result<()> {
    let process = Arc::clone(&thread.process);
    // What has come for the parent is the parent's.
    let _ = sys::Inbox::take();
    thread.number = sys::thread_id();
    let stacks = [thread.state().rsp, copied.registers.rsp];
    *lock(&process.vfork) = lending.map(|lending| {
        let space = lock(&process.space);
        Lent::new(lending.into_lender(), &process.arena, space.regions(), was_alone, stacks)
    });
    {
        let mut threads = lock(&process.threads);
        threads.alive = BTreeSet::from([thread.number]);
        threads.idle.clear();
        threads.clearing = None;
    }
    // A child has none of its parent's.
    lock(&process.actions).timers.clear();
    {
        let mut space = lock(&process.space);
        space.move_to_new_vm(&process.kvm, process.files.lowest())?;
        thread.vcpu = space.create_vcpu_again()?;
        thread.page = stub::page_of(0);
    }
    if !was_alone {
        // The vCPUs of threads that are not here.
        let mut kept = process.files.ours();
        kept.extend(lock(&process.space).descriptors());
        kept.extend([process.kvm.descriptor(), thread.vcpu.descriptor()]);
        kept.extend(lock(&process.vfork).iter().flat_map(Lent::descriptors));
        kept.extend(thread.observer().map(|observer| observer.descriptors()).unwrap_or_default());
        kept.extend(limits::descriptor());
        sys::close_ours_but(&kept, process.files.lowest());
    }
    process.set_up(&mut thread.vcpu, thread.page)?;
    thread.renew();
    thread.set_calls();
    copied.put(thread)?;
    let bytes = thread.number.to_le_bytes();
    if request.flags & flag(libc::CLONE_CHILD_SETTID) != 0 {
        let _ = process.arena.write(request.child_number, &bytes);
    }
    let clears = request.flags & flag(libc::CLONE_CHILD_CLEARTID) != 0;
    thread.clear_at_end = if clears { request.child_number } else { 0 };
    thread.robust_list = 0;
    process.is_clearing.store(false, Ordering::Relaxed);
    if let Some(observer) = thread.observer() {
        observer.forked(&*process.arena);
    }
    thread.apply_mask();
    Ok(())
}

/// A descriptor that tells when a process has ended: of this one, or a child.
pub(super) fn pidfd_open(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    let [process, flags, ..] = call.words;
    if process as i32 <= 0 {
        return errno(libc::EINVAL);
    }
    if process as i32 != std::process::id() as i32 && !sys::is_child(process as i32) {
        return errno(libc::EPERM);
    }
    let answer = host(call.number, [Word(process as u32 as u64), Word(flags)]);
    descriptor(answer, thread.process.files.limit())
}

pub(super) fn exit(thread: &mut Thread, call: &Checked<'_>) -> Answer {
    let status = call.int(0) & 0xff;
    let is_last = lock(&thread.process.threads).alive.len() == 1;
    let is_first = thread.number == std::process::id() as i32;
    Ok(Done::End(if is_last && is_first { End::Process(status) } else { End::Alone(status) }))
}

pub(super) fn exit_group(_: &mut Thread, call: &Checked<'_>) -> Answer {
    Ok(Done::End(End::Process(call.int(0) & 0xff)))
}
