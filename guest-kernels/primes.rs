//! primes: counts the primes below N, which is work without exits
//!
//! `matchstick run primes -- 100000` counts below 100000. The loop never leaves the virtual machine, so
//! it runs as fast as it would on the host: this is what "the processor runs the guest" means. It works
//! in ring 3, as a program under an operating system would, for some hypervisors emulate ring 0.
//!
//! Before it gives the answer it says that it is ready, by the POST code 0xa5: a good moment for a golden image
//! (`matchstick snapshot primes -o golden.ms`), from which the answer comes without the work.
//!
//! args: N
//! expect: 2262 primes below 20000
#![no_std]
#![no_main]

#[macro_use]
mod rt;
#[macro_use]
mod trap;
mod ring3;

const DEFAULT: u32 = 20_000;

/// The port of milestones, and the code of this one.
const POST: u16 = 0x80;
const READY: u8 = 0xa5;

trap!(on_system_call, called);

/// The one system call: the answer.
extern "C" fn called(frame: &mut trap::Frame) {
    rt::out(POST, READY);
    println!("{} primes below {}", frame.rdi, frame.rsi);
    rt::exit(0);
}

extern "C" fn count(below: u64) -> ! {
    let primes = (2..below as u32).filter(|&n| is_prime(n)).count();
    ring3::system_call(0, primes as u64, below);
    loop {}
}

/// No divisor up to the square root.
fn is_prime(n: u32) -> bool {
    let mut divisor = 2;
    while divisor <= n / divisor {
        if n % divisor == 0 {
            return false;
        }
        divisor += 1;
    }
    true
}

#[unsafe(no_mangle)]
extern "C" fn main(boot: rt::Boot) -> u8 {
    // The last word, since a VMM may put words of its own before it.
    let below = boot.command_line().split_ascii_whitespace().last().and_then(|word| word.parse().ok());
    trap::handle_from_ring_3(ring3::SYSTEM_CALL, on_system_call);
    ring3::enter(count, below.unwrap_or(DEFAULT).into())
}
