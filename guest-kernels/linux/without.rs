//! without: runs a program that does not see a certain mount
//!
//! `without PATH PROGRAM ARGS...` becomes PROGRAM in a mount namespace of its own, from which whatever is mounted on
//! PATH is taken away. It is for programs that cannot live with a mount of the host, and adds some hundred
//! microseconds to their start, where a shell script around unshare(1) would add milliseconds.
#![no_std]
#![no_main]

#[allow(dead_code)]
mod calls;
#[path = "../mem.rs"]
mod mem;

use core::ffi::CStr;

#[unsafe(no_mangle)]
extern "C" fn main(stack: *const usize) -> ! {
    // SAFETY: this is how the kernel lays out the stack of a new program: argc, argv, zero, environment.
    let (argc, argv) = unsafe { (*stack, stack.add(1).cast::<*const u8>()) };
    if argc < 3 {
        leave(125);
    }
    // SAFETY: there are at least three arguments, strings that end with a zero; after the last comes a null pointer,
    // and then the environment.
    unsafe {
        let path = CStr::from_ptr((*argv.add(1)).cast());
        match calls::hide_mount(path) {
            Ok(()) => {
                calls::execve_list(argv.add(2), argv.add(argc + 1));
                leave(127)
            }
            Err(_) => leave(126),
        }
    }
}

fn leave(status: u8) -> ! {
    calls::exit(status)
}
