//! The system calls of Linux on x86-64, without a C library: a number in RAX, up to six arguments, SYSCALL.
//!
//! What comes back is a result, or a number from -4095 to -1 that stands for an error. (Numbers:
//! arch/x86/entry/syscalls/syscall_64.tbl; structures: syscalls(2) and the page of each call in section 2.)

use core::arch::{asm, global_asm};
use core::ffi::CStr;

pub const STDIN: i32 = 0;
pub const STDOUT: i32 = 1;
pub const STDERR: i32 = 2;

// A program begins with its arguments on the stack: their number, their addresses up to a zero, and the
// same for the environment. (System V ABI for AMD64, "Initial Stack and Register State".)
global_asm!(
    ".global start",
    "start:",
    "xor ebp, ebp",
    "mov rdi, rsp",
    "call main", // which does not return
);

/// An error's number, as errno(3) lists them.
#[derive(Clone, Copy, PartialEq)]
pub struct Errno(pub i32);

pub const EPERM: Errno = Errno(1);
pub const ENOENT: Errno = Errno(2);
pub const ENOSYS: Errno = Errno(38);

type Result<T> = core::result::Result<T, Errno>;

/// # Safety
/// As the call `number` has it: pointers among the arguments are good for what the kernel does with them.
unsafe fn call(number: usize, args: [usize; 6]) -> Result<usize> {
    let result: isize;
    // SAFETY: the caller's promise. The kernel keeps all registers but RAX, RCX and R11.
    unsafe {
        asm!("syscall", inout("rax") number => result,
            in("rdi") args[0], in("rsi") args[1], in("rdx") args[2],
            in("r10") args[3], in("r8") args[4], in("r9") args[5],
            out("rcx") _, out("r11") _);
    }
    if (-4095..0).contains(&result) { Err(Errno(-result as i32)) } else { Ok(result as usize) }
}

/// A system call: its number, then its arguments, each of which becomes a `usize`. The others are zero.
macro_rules! syscall {
    ($number:literal $(, $arg:expr)*) => { syscall!(@ $number [$($arg as usize,)*] 0 0 0 0 0 0) };
    // Until there are six, a zero joins them; then the zeroes that are left go.
    (@ $number:literal [$a:expr, $b:expr, $c:expr, $d:expr, $e:expr, $f:expr,] $($zero:literal)*) => {
        call($number, [$a, $b, $c, $d, $e, $f])
    };
    (@ $number:literal [$($arg:expr,)*] $zero:literal $($more:literal)*) => {
        syscall!(@ $number [$($arg,)* $zero,] $($more)*)
    };
}

// Safe, all of them: what is passed is a number, a string that ends in zero, or memory that Rust lends.
// SAFETY, for each block: the kernel stays within that.

pub fn read(fd: i32, bytes: &mut [u8]) -> Result<usize> {
    unsafe { syscall!(0, fd, bytes.as_mut_ptr(), bytes.len()) }
}

/// The same from a place of its own.
pub fn read_at(fd: i32, bytes: &mut [u8], offset: usize) -> Result<usize> {
    unsafe { syscall!(17, fd, bytes.as_mut_ptr(), bytes.len(), offset) }
}

/// Writes all of it, or as much as goes.
pub fn write(fd: i32, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match unsafe { syscall!(1, fd, bytes.as_ptr(), bytes.len()) } {
            Ok(count) => bytes = &bytes[count..],
            Err(_) => return,
        }
    }
}

pub fn open(path: &CStr) -> Result<i32> {
    unsafe { syscall!(2, path.as_ptr(), 0) }.map(|fd| fd as i32)
}

pub fn close(fd: i32) {
    let _ = unsafe { syscall!(3, fd) };
}

/// The length of an open file.
pub fn length(fd: i32) -> Result<usize> {
    const SEEK_END: i32 = 2;
    unsafe { syscall!(8, fd, 0, SEEK_END) }
}

/// Memory for good: the first `len` bytes of an open file, or zeroes without one.
pub fn map(fd: Option<i32>, len: usize) -> Result<&'static mut [u8]> {
    const READ_WRITE: i32 = 1 | 2;
    const PRIVATE: i32 = 2;
    const ANONYMOUS: i32 = 0x20;
    let kind = if fd.is_some() { PRIVATE } else { PRIVATE | ANONYMOUS };
    let memory = unsafe { syscall!(9, 0, len, READ_WRITE, kind, fd.unwrap_or(-1), 0) }?;
    Ok(unsafe { core::slice::from_raw_parts_mut(memory as *mut u8, len) })
}

/// What ioctl(2) does with `T` is `request`'s affair; it has to be the kernel's type for it.
pub fn ioctl<T>(fd: i32, request: u32, argument: &mut T) -> Result<usize> {
    unsafe { syscall!(16, fd, request, argument as *mut T) }
}

/// An ioctl(2) whose argument is a number.
pub fn ioctl_number(fd: i32, request: u32, argument: usize) -> Result<usize> {
    unsafe { syscall!(16, fd, request, argument) }
}

pub fn getpid() -> usize {
    unsafe { syscall!(39) }.unwrap_or(0)
}

/// A pipe: where it is read, and where it is written. Neither stays open in another program.
pub fn pipe() -> Result<[i32; 2]> {
    let mut ends = [0; 2];
    unsafe { syscall!(293, ends.as_mut_ptr(), CLOSE_ON_EXEC) }?;
    Ok(ends)
}

/// Lets a pipe hold no more than `bytes`.
pub fn limit_pipe(fd: i32, bytes: usize) {
    const F_SETPIPE_SZ: i32 = 1031;
    let _ = unsafe { syscall!(72, fd, F_SETPIPE_SZ, bytes) };
}

/// How many bytes wait to be read.
pub fn readable(fd: i32) -> Result<usize> {
    const FIONREAD: u32 = 0x541b;
    let mut count = 0_i32;
    ioctl(fd, FIONREAD, &mut count)?;
    Ok(count as usize)
}

/// `number` means what `fd` means from now on, in other programs too.
pub fn duplicate(fd: i32, number: i32) {
    let _ = unsafe { syscall!(33, fd, number) };
}

/// Waits until one of two can be read, or will never be again: which of them. A negative one never can.
pub fn poll(fds: [i32; 2]) -> Result<[bool; 2]> {
    const POLLIN: u32 = 1;
    // struct pollfd: the number, what is asked (16 bits), what is told (16 bits).
    let mut polled = fds.map(|fd| [fd as u32, POLLIN]);
    unsafe { syscall!(7, polled.as_mut_ptr(), polled.len(), -1isize) }?;
    Ok(polled.map(|[_, events]| events >> 16 != 0))
}

/// From now on the end of a child is something to be read instead of a signal.
pub fn children() -> Result<i32> {
    block(CHILD)?;
    unsafe { syscall!(289, -1isize, &CHILD as *const u64, size_of_val(&CHILD), CLOSE_ON_EXEC) }
        .map(|fd| fd as i32)
        .inspect_err(|_| unblock())
}

/// All signals come, as they do to a program that does not care.
pub fn unblock() {
    let _ = block(0);
}

/// The one signal in the set: SIGCHLD, number 17.
const CHILD: u64 = 1 << (17 - 1);
const CLOSE_ON_EXEC: i32 = 0o2_000_000;

/// The signals in `set`, and no others, have to wait.
fn block(set: u64) -> Result<usize> {
    const SIG_SETMASK: i32 = 2;
    unsafe { syscall!(14, SIG_SETMASK, &raw const set, 0, size_of_val(&set)) }
}

/// Zero in the child.
pub fn fork() -> Result<usize> {
    unsafe { syscall!(57) }
}

/// What a symbolic link says.
pub fn readlink(path: &CStr, target: &mut [u8]) -> Result<usize> {
    unsafe { syscall!(89, path.as_ptr(), target.as_mut_ptr(), target.len()) }
}

/// Some entries of an open directory, as getdents64(2) has them.
pub fn entries(directory: i32, bytes: &mut [u8]) -> Result<usize> {
    unsafe { syscall!(217, directory, bytes.as_mut_ptr(), bytes.len()) }
}

/// Ends this process with SIGALRM in so many microseconds.
pub fn set_timer(micros: u64) {
    // struct itimerval: again after no time, that is never; first after `micros`.
    let timer = [0, 0, micros / 1_000_000, micros % 1_000_000];
    let _ = unsafe { syscall!(38, 0, timer.as_ptr(), 0) };
}

/// Any system call, all of whose arguments are `argument`. What it does to this process is not known: for one that
/// ends at once.
pub fn any(number: usize, argument: usize) -> Result<usize> {
    unsafe { call(number, [argument; 6]) }
}

/// Becomes another program. `words` are its arguments, each with a zero byte at its end; the first is also its
/// path. Comes back only with an error.
pub fn execve(words: &[u8], environment: *const *const u8) -> Errno {
    let count = words.iter().filter(|byte| **byte == 0).count();
    // The kernel wants their addresses, and a zero after the last.
    let addresses = match map(None, (count + 1) * size_of::<usize>()) {
        Ok(memory) => memory.as_mut_ptr().cast::<*const u8>(),
        Err(error) => return error,
    };
    let starts = words.split_inclusive(|byte| *byte == 0);
    for (i, word) in starts.take(count).enumerate() {
        unsafe { addresses.add(i).write(word.as_ptr()) };
    }
    match unsafe { syscall!(59, words.as_ptr(), addresses, environment) } {
        Err(error) => error,
        Ok(_) => unreachable!(),
    }
}

/// The same with lists that are there already. Comes back only with an error.
///
/// # Safety
/// Both are addresses of strings that end with a zero, and after the last comes a null pointer.
pub unsafe fn execve_list(words: *const *const u8, environment: *const *const u8) {
    let _ = unsafe { syscall!(59, *words, words, environment) };
}

/// In a mount namespace of its own, takes away what is mounted on `path`.
pub fn hide_mount(path: &CStr) -> Result<()> {
    const CLONE_NEWNS: usize = 0x0002_0000;
    const MS_REC_PRIVATE: usize = 0x4000 | 1 << 18;
    const MNT_DETACH: usize = 2;
    unsafe {
        syscall!(272, CLONE_NEWNS)?;
        syscall!(165, 0, c"/".as_ptr(), 0, MS_REC_PRIVATE, 0)?;
        syscall!(166, path.as_ptr(), MNT_DETACH)?;
    }
    Ok(())
}

/// Ends this process, and with process 1 the whole system.
pub fn exit(status: u8) -> ! {
    let _ = unsafe { syscall!(231, status) };
    unreachable!()
}

/// Waits until some child ends: its number, and how it ended.
pub fn wait() -> Result<(usize, i32)> {
    wait_for(0).map(|(child, status, _)| (child, status))
}

/// The same without waiting: no child, number 0, if none has ended.
pub fn ended() -> Result<(usize, i32)> {
    const WNOHANG: i32 = 1;
    wait_for(WNOHANG).map(|(child, status, _)| (child, status))
}

/// Like [`wait`], and the most memory in KiB that it, or one that it waited for, had resident.
pub fn wait_for_usage() -> Result<(usize, i32, u64)> {
    wait_for(0)
}

fn wait_for(options: i32) -> Result<(usize, i32, u64)> {
    let mut status = 0;
    // struct rusage: two times of two words each, then ru_maxrss.
    let mut usage = [0u64; 18];
    let child = unsafe { syscall!(61, -1isize, &raw mut status, options, &raw mut usage) }?;
    Ok((child, status, usage[4]))
}

/// Sleeps until a signal comes.
pub fn pause() {
    let _ = unsafe { syscall!(34) };
}

/// Becomes the leader of a session, which can have a terminal of its own.
pub fn setsid() -> Result<usize> {
    unsafe { syscall!(112) }
}

/// What uname(2) tells: six strings of 65 bytes, each with a zero at its end.
#[repr(C)]
pub struct Names {
    pub system: [u8; 65],
    pub node: [u8; 65],
    pub release: [u8; 65],
    rest: [u8; 3 * 65],
}

pub fn uname() -> Names {
    let mut names = Names { system: [0; 65], node: [0; 65], release: [0; 65], rest: [0; 195] };
    let _ = unsafe { syscall!(63, &raw mut names) };
    names
}

/// Makes a directory, unless something of that name is there.
pub fn mkdir(path: &CStr) {
    let _ = unsafe { syscall!(83, path.as_ptr(), 0o755) };
}

/// Mounts a file system that is made of nothing but the kernel's own data.
pub fn mount(kind: &CStr, path: &CStr) {
    let _ = unsafe { syscall!(165, kind.as_ptr(), path.as_ptr(), kind.as_ptr(), 0, 0) };
}

/// Mounts a file system that is on a device.
pub fn mount_device(device: &CStr, path: &CStr, kind: &CStr, is_read_only: bool) -> Result<()> {
    const MS_RDONLY: usize = 1;
    let flags = if is_read_only { MS_RDONLY } else { 0 };
    unsafe { syscall!(165, device.as_ptr(), path.as_ptr(), kind.as_ptr(), flags, 0) }.map(drop)
}

/// Mounts a file system that is made of others, as `told`.
pub fn mount_told(kind: &CStr, path: &CStr, told: &CStr) -> Result<()> {
    unsafe { syscall!(165, kind.as_ptr(), path.as_ptr(), kind.as_ptr(), 0, told.as_ptr()) }.map(drop)
}

/// What is mounted at one place is at another one instead.
pub fn move_mount(from: &CStr, to: &CStr) -> Result<()> {
    const MS_MOVE: usize = 8192;
    unsafe { syscall!(165, from.as_ptr(), to.as_ptr(), 0, MS_MOVE, 0) }.map(drop)
}

pub fn change_directory(path: &CStr) -> Result<()> {
    unsafe { syscall!(80, path.as_ptr()) }.map(drop)
}

pub fn change_root(path: &CStr) -> Result<()> {
    unsafe { syscall!(161, path.as_ptr()) }.map(drop)
}

pub fn unlink(path: &CStr) {
    let _ = unsafe { syscall!(87, path.as_ptr()) };
}

/// Loads a module of the kernel; one whose name says that it is compressed is unpacked by the kernel (finit_module(2)).
pub fn load_module(path: &CStr) -> Result<()> {
    const MODULE_INIT_COMPRESSED_FILE: usize = 4;
    let flags = if path.to_bytes().ends_with(b".ko") { 0 } else { MODULE_INIT_COMPRESSED_FILE };
    let file = open(path)?;
    let loaded = unsafe { syscall!(313, file, c"".as_ptr(), flags) };
    close(file);
    loaded.map(drop)
}

pub fn sleep_a_millisecond() {
    let time = [0_u64, 1_000_000];
    let _ = unsafe { syscall!(35, time.as_ptr(), 0) };
}

/// The memory of this system in bytes.
pub fn memory() -> u64 {
    /// struct sysinfo, as far as it is looked at here
    #[repr(C)]
    struct Info {
        before: [u64; 4],
        total: u64,
        between: [u64; 8],
        unit: u32,
    }
    let mut info = Info { before: [0; 4], total: 0, between: [0; 8], unit: 0 };
    let _ = unsafe { syscall!(99, &raw mut info) };
    info.total * u64::from(info.unit)
}

/// The number of CPUs that this process may run on.
pub fn cpus() -> u32 {
    let mut mask = [0u64; 128];
    let _ = unsafe { syscall!(204, 0, size_of_val(&mask), &raw mut mask) };
    mask.iter().map(|word| word.count_ones()).sum()
}

/// Milliseconds since the kernel started its clock, as it booted.
pub fn since_boot() -> u64 {
    const CLOCK_BOOTTIME: i32 = 7;
    let mut time = [0u64; 2];
    let _ = unsafe { syscall!(228, CLOCK_BOOTTIME, &raw mut time) };
    time[0] * 1000 + time[1] / 1_000_000
}

/// Writes a byte to a port, which takes permission first.
pub fn out(port: u16, value: u8) {
    if permit(port).is_ok() {
        unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack)) };
    }
}

/// Writes a string to a port, byte after byte in one instruction. An error if that is not permitted.
pub fn outs(port: u16, bytes: &[u8]) -> Result<()> {
    permit(port)?;
    unsafe {
        asm!("rep outsb", in("dx") port, inout("rsi") bytes.as_ptr() => _, inout("rcx") bytes.len() => _,
            options(readonly, nostack));
    }
    Ok(())
}

fn permit(port: u16) -> Result<()> {
    unsafe { syscall!(173, port, 1, 1) }.map(drop)
}

/// Switches the machine off. Comes back if that cannot be done.
pub fn power_off() {
    let _ = unsafe { syscall!(169, 0xfee1_dead_u32, 0x2812_1969, 0x4321_fedc) };
}

/// A line being put together, without `core::fmt`, which would be most of the program. One system call writes
/// it; what is too long for it is cut.
pub struct Line {
    bytes: [u8; 512],
    len: usize,
}

impl Line {
    pub fn new() -> Line {
        Line { bytes: [0; 512], len: 0 }
    }

    pub fn text(&mut self, text: &str) -> &mut Line {
        self.bytes(text.as_bytes())
    }

    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Line {
        for (place, byte) in self.bytes.iter_mut().skip(self.len).zip(bytes) {
            *place = *byte;
            self.len += 1;
        }
        self
    }

    /// A string that ends at its first zero byte.
    pub fn string(&mut self, bytes: &[u8]) -> &mut Line {
        self.bytes(bytes.split(|byte| *byte == 0).next().unwrap_or_default())
    }

    /// In decimal, with zeroes in front up to `width` digits.
    pub fn number(&mut self, number: u64, width: usize) -> &mut Line {
        if number >= 10 || width > 1 {
            self.number(number / 10, width.saturating_sub(1));
        }
        self.bytes(&[b'0' + (number % 10) as u8])
    }

    pub fn error(&mut self, error: Errno) -> &mut Line {
        match error.0 {
            2 => self.text("no such file (or it needs a dynamic loader that is not there)"),
            7 => self.text("its arguments are too long"),
            8 => self.text("the kernel does not know this kind of program"),
            13 => self.text("permission denied"),
            number => self.text("error ").number(number as u64, 1),
        }
    }

    pub fn so_far(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    pub fn print(&mut self) {
        self.text("\n").write_to(STDOUT);
    }

    pub fn write_to(&self, fd: i32) {
        write(fd, &self.bytes[..self.len]);
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    Line::new().text("a panic").print();
    crate::leave(101)
}
