//! primes: the work of the guest of that name, as an ordinary Linux program
//!
//! The same loop over the same numbers: what differs is what is around it.
#![no_std]
#![no_main]

#[allow(dead_code)]
mod calls;
#[path = "../mem.rs"]
mod mem;

/// As many as the guest looks at when it is not told otherwise.
const BELOW: u32 = 20_000;

#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    let primes = (2..BELOW).filter(|&n| is_prime(n)).count();
    calls::Line::new().number(primes as u64, 1).text(" primes below ").number(BELOW.into(), 1).print();
    leave(0)
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

fn leave(status: u8) -> ! {
    calls::exit(status)
}
