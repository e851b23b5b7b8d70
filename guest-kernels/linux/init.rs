//! linux: the first process of a Linux guest, which runs a program for us or says where it is
//!
//! When Linux has started itself, it starts one program, /init, and leaves everything else to it. This one is
//! as small as that job can be, and not a kernel: it is an ordinary Linux program without a C library.
//!
//! If there is a file /.matchstick/args, its words are a program and its arguments. That program runs with the
//! console as its input and output, and its exit status becomes that of the machine: through port 0xf4, as
//! with every guest here, for Linux itself has no way to switch a machine off with a number.
//!
//! If there is a file /.matchstick/strings beside it, nobody sits at a terminal behind the serial port, and the
//! port takes a string as fast as it comes: then the program's output is a pipe, as it is to any program whose
//! output goes to a file, and this one carries what comes out of it to the port, a page at a time. Linux's own
//! driver would leave the guest for each byte.
//!
//! Before all that it loads the modules of the kernel that /.matchstick/modules lists, and goes on with the system that
//! /.matchstick/root names, on a disk or beside it.
//!
//! Otherwise it says what it finds. The word `echo` among its arguments (the kernel hands over what follows
//! `--` on its command line) makes it send back each line until Ctrl-D. In the end it switches the machine off.
#![no_std]
#![no_main]

mod calls;
#[path = "../mem.rs"]
mod mem;
mod root;

use calls::{Errno, Line, STDERR, STDIN, STDOUT};
use core::ffi::CStr;

/// The program to run and its arguments, each with a zero byte at its end.
const ARGS: &CStr = c"/.matchstick/args";
/// It is there if the serial port takes strings.
const STRINGS: &CStr = c"/.matchstick/strings";
/// Where it takes them: the transmitter of COM1.
const COM1: u16 = 0x3f8;
/// The byte written here ends the machine and is its status.
const EXIT: u16 = 0xf4;
/// The port of milestones; and ours, for which the input waits: the console is set up.
const POST: u16 = 0x80;
const READY_FOR_INPUT: u8 = 0xa5;

#[unsafe(no_mangle)]
extern "C" fn main(stack: *const usize) -> ! {
    // SAFETY: this is how the kernel lays out the stack of a new program: argc, argv, zero, environment.
    let (argc, argv) = unsafe { (*stack, stack.add(1).cast::<*const u8>()) };
    let environment = unsafe { argv.add(argc + 1) };

    if is_first() {
        for (kind, path) in [(c"proc", c"/proc"), (c"sysfs", c"/sys"), (c"devtmpfs", c"/dev")] {
            calls::mkdir(path);
            calls::mount(kind, path);
        }
        root::load_modules();
        if let Some(status) = root::change(environment) {
            leave(status);
        }
        set_terminal(has(environment, c"TERM=dumb"));
        calls::out(POST, READY_FOR_INPUT);
        reseed();
        if let Some(words) = contents(ARGS) {
            leave(run(words, environment));
        }
    }
    report();
    if has(argv, c"echo") {
        echo();
    }
    switch_off()
}

/// Whether this is process 1. As any other, on a Linux that was there before, it only reports.
fn is_first() -> bool {
    calls::getpid() == 1
}

/// Whether `word` is one of `strings`, which end with a zero.
fn has(mut strings: *const *const u8, word: &CStr) -> bool {
    // SAFETY: the kernel's own lists, see `main`.
    unsafe {
        while !(*strings).is_null() {
            if CStr::from_ptr((*strings).cast()) == word {
                return true;
            }
            strings = strings.add(1);
        }
    }
    false
}

/// What a file contains, if it is there and not empty.
fn contents(path: &CStr) -> Option<&'static [u8]> {
    let file = calls::open(path).ok()?;
    Some(calls::map(Some(file), calls::length(file).ok()?).ok()?)
}

fn report() {
    let names = calls::uname();
    Line::new().string(&names.system).text(" ").string(&names.release).print();
    let (cpus, memory) = (calls::cpus(), calls::memory() >> 20);
    let unit = if cpus == 1 { " CPU, " } else { " CPUs, " };
    Line::new().number(cpus.into(), 1).text(unit).number(memory, 1).text(" MiB of memory").print();
    let time = calls::since_boot();
    Line::new().text("up for ").number(time / 1000, 1).text(".").number(time % 1000, 3).text(" s").print();
}

fn echo() {
    Line::new().text("echo: type, and end with Ctrl-D").print();
    let mut bytes = [0; 4096];
    // The terminal gives a line at a time, and nothing for Ctrl-D.
    while let Ok(count @ 1..) = calls::read(STDIN, &mut bytes) {
        calls::write(STDOUT, &bytes[..count]);
    }
}

/// Has the kernel begin its random numbers anew, with the machine's VMGENID among what they are made of. After the
/// milestone, as machines are kept there: those that go on from one image have an id each, and not all kernels know
/// of it by themselves.
fn reseed() {
    /// Where it is: src/x86/layout.rs. A machine that has none has zeroes there.
    const VMGENID: usize = 0xf_ffe0;
    const RNDADDENTROPY: u32 = 0x4008_5203;
    const RNDRESEEDCRNG: u32 = 0x5207;
    /// struct rand_pool_info: random(4)
    #[repr(C)]
    struct Entropy {
        /// In bits. None is claimed: it is added to what there is.
        count: i32,
        len: i32,
        id: [u8; 16],
    }
    let mut entropy = Entropy { count: 0, len: 16, id: [0; 16] };
    let (Ok(memory), Ok(random)) = (calls::open(c"/dev/mem"), calls::open(c"/dev/urandom")) else { return };
    if calls::read_at(memory, &mut entropy.id, VMGENID).is_ok() {
        let _ = calls::ioctl(random, RNDADDENTROPY, &mut entropy);
        let _ = calls::ioctl_number(random, RNDRESEEDCRNG, 0);
    }
    calls::close(memory);
    calls::close(random);
}

/// Runs the program that `words` are, and returns its status as a shell does.
fn run(words: &[u8], environment: *const *const u8) -> u8 {
    let carrier = Carrier::new();
    let child = match calls::fork() {
        Ok(0) => become_program(words, environment, carrier.as_ref()),
        Ok(child) => child,
        Err(error) => return cannot("start a process", error),
    };
    let status = match carrier {
        Some(carrier) => carrier.carry_until_the_end_of(child),
        None => wait_for(child),
    };
    match status {
        Ok(status) => exit_status(status),
        Err(error) => cannot("wait for the program", error),
    }
}

/// Processes that lose their parent become children of process 1. It hears of the end of each.
fn wait_for(child: usize) -> Result<i32, Errno> {
    loop {
        let (ended, status) = calls::wait()?;
        if ended == child {
            return Ok(status);
        }
    }
}

/// A session of its own with the console as its terminal, so that Ctrl-C reaches it; and off it goes.
fn become_program(words: &[u8], environment: *const *const u8, carrier: Option<&Carrier>) -> ! {
    const TIOCSCTTY: u32 = 0x540e;
    let _ = calls::setsid();
    let _ = calls::ioctl_number(STDIN, TIOCSCTTY, 0);
    if let Some(carrier) = carrier {
        calls::duplicate(carrier.to, STDOUT);
        calls::duplicate(carrier.to, STDERR);
        calls::unblock();
    }
    let error = calls::execve(words, environment);
    Line::new().text("init: cannot run ").string(words).text(": ").error(error).print();
    calls::exit(if error == calls::ENOENT { 127 } else { 126 })
}

/// Carries a program's output to the serial port.
struct Carrier {
    /// The pipe that is the program's output, where it is read and where it is written.
    from: i32,
    to: i32,
    /// What there is to read when a child has ended.
    children: i32,
    page: &'static mut [u8],
}

impl Carrier {
    const PAGE: usize = 4096;

    /// `None` where it is not wanted, or a system call of it is missing.
    fn new() -> Option<Carrier> {
        calls::close(calls::open(STRINGS).ok()?);
        let [from, to] = calls::pipe().ok()?;
        // What is in it is lost when the program itself switches the machine off, or the kernel panics.
        calls::limit_pipe(to, Carrier::PAGE);
        let page = calls::map(None, Carrier::PAGE).ok()?;
        Some(Carrier { from, to, children: calls::children().ok()?, page })
    }

    /// The status of `child`. What was written before it ended is carried then; what others write after that is not.
    fn carry_until_the_end_of(mut self, child: usize) -> Result<i32, Errno> {
        let status = loop {
            let [is_output, is_end] = calls::poll([self.from, self.children])?;
            if is_output {
                self.carry(Carrier::PAGE)?;
            }
            if is_end && let Some(status) = self.end_of(child)? {
                break status;
            }
        };
        // The program may have made its pipe larger, and others may go on writing for ever.
        let mut left = calls::readable(self.from)?;
        while left > 0 {
            left -= self.carry(left)?;
        }
        Ok(status)
    }

    /// Carries some of what is there, and returns how much that was.
    fn carry(&mut self, most: usize) -> Result<usize, Errno> {
        let count = calls::read(self.from, &mut self.page[..most.min(Carrier::PAGE)])?;
        let bytes = &self.page[..count];
        if calls::outs(COM1, bytes).is_err() {
            calls::write(STDOUT, bytes);
        }
        Ok(count)
    }

    /// The status of `child`, if that is who has ended.
    fn end_of(&self, child: usize) -> Result<Option<i32>, Errno> {
        // One notice may stand for several ends.
        let _ = calls::read(self.children, &mut [0; 128]);
        loop {
            match calls::ended()? {
                (0, _) => return Ok(None),
                (ended, status) if ended == child => return Ok(Some(status)),
                _ => {}
            }
        }
    }
}

/// What wait(2) tells of an end: bits 0 to 6 the signal, else bits 8 to 15 the status.
fn exit_status(status: i32) -> u8 {
    match status & 0x7f {
        0 => (status >> 8) as u8,
        signal => 128 + signal as u8,
    }
}

fn cannot(what: &str, error: Errno) -> u8 {
    Line::new().text("init: cannot ").text(what).text(": ").error(error).print();
    126
}

/// struct termios of the kernel (asm-generic/termbits.h).
#[derive(Default)]
#[repr(C)]
struct Terminal {
    input: u32,
    output: u32,
    control: u32,
    local: u32,
    line: u8,
    keys: [u8; 19],
}

/// What the program writes shall arrive as it is: a terminal beyond the serial line, if there is one, has its own
/// ways with the end of a line. If the input comes from a pipe (`is_pipe`), its bytes arrive as they are, too, and
/// are not repeated on the output; only Ctrl-D is still the end.
fn set_terminal(is_pipe: bool) {
    const TCGETS: u32 = 0x5401;
    const TCSETS: u32 = 0x5402;
    // Input: CR to NL, XON and XOFF. Output: any processing. Local: signals, extensions, echo.
    const ICRNL_IXON: u32 = 0o400 | 0o2000;
    const OPOST: u32 = 1;
    const ISIG_IEXTEN_ECHO: u32 = 1 | 0o100000 | 0o10;
    /// Its place among the keys, of which zero means none.
    const VEOF: usize = 4;

    let mut terminal = Terminal::default();
    if calls::ioctl(STDIN, TCGETS, &mut terminal).is_err() {
        return;
    }
    terminal.output &= !OPOST;
    if is_pipe {
        terminal.input &= !ICRNL_IXON;
        terminal.local &= !ISIG_IEXTEN_ECHO;
        terminal.keys = [0; 19];
        terminal.keys[VEOF] = 4;
    }
    let _ = calls::ioctl(STDIN, TCSETS, &mut terminal);
}

/// Waits until the serial port has sent everything.
fn drain() {
    const TCSBRK: u32 = 0x5409;
    let _ = calls::ioctl_number(STDOUT, TCSBRK, 1);
}

/// Ends the machine with `status`.
fn leave(status: u8) -> ! {
    if !is_first() {
        calls::exit(status);
    }
    drain();
    calls::out(EXIT, status);
    // Still here: nobody listens at that port.
    switch_off()
}

fn switch_off() -> ! {
    if !is_first() {
        calls::exit(0);
    }
    drain();
    calls::power_off();
    // Process 1 must not end.
    loop {
        calls::pause();
    }
}
