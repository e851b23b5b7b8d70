//! A device that no PC has: the program of chapter 10.
//!
//! expect: rolled 6 times: 1 2 5 4 6 4
//! expect: the guest ended with status 0
use matchstick::boot::Protocol;
use matchstick::device::{Action, Device, Slot};
use matchstick::{Config, Image, Machine, Outcome};
use std::error::Error;
use std::time::Duration;

#[macro_use]
mod guest;

// ANCHOR: device
/// A die. Port 0: a read rolls it and gives 1 to 6; a write sets the seed, so that a game can be played again.
struct Die {
    state: u32,
}

impl Device for Die {
    fn read(&mut self, _offset: u64, data: &mut [u8]) {
        // Marsaglia, "Xorshift RNGs", 2003: good enough for a game, and for nothing that must stay secret.
        self.state ^= self.state << 13;
        self.state ^= self.state >> 17;
        self.state ^= self.state << 5;
        data.fill((self.state % 6) as u8 + 1);
    }

    fn write(&mut self, _offset: u64, data: &[u8]) -> Action {
        // Zero would stay zero for ever.
        self.state = data.iter().fold(1, |seed, &byte| seed << 8 | u32::from(byte));
        Action::Continue
    }
}
// ANCHOR_END: device

fn main() -> Result<(), Box<dyn Error>> {
    // ANCHOR: guest
    let guest = guest! {
        ".code16"
        "mov dx, 0x510" //        the die
        "mov al, 42"
        "out dx, al" //           a seed
        "mov cx, 6"
        "2: in al, dx" //         roll it
        "add al, 0x30" //         the digit
        "mov dx, 0x3f8"
        "out dx, al"
        "mov al, ' '"
        "cmp cx, 1"
        "jne 3f"
        "mov al, 10" //           the last one ends the line
        "3: out dx, al"
        "mov dx, 0x510"
        "loop 2b"
        "mov al, 0"
        "out 0xf4, al"
    };
    // ANCHOR_END: guest

    // ANCHOR: machine
    let config = Config {
        memory: 2 << 20,
        cpuid: false,
        acpi: false,
        protocol: Some(Protocol::Flat16),
        timeout: Some(Duration::from_secs(10)),
        ..Config::default()
    };
    print!("rolled 6 times: ");
    let mut machine =
        Machine::new(&config, Image { name: "the game", bytes: guest }, Box::new(std::io::stdout()))?;
    machine.add_device(Slot::ports(0x510, 1, Die { state: 1 }))?;
    match machine.run()? {
        Outcome::Exited(status) => println!("the guest ended with status {status}"),
        other => return Err(format!("it ended otherwise: {other:?}").into()),
    }
    // ANCHOR_END: machine
    Ok(())
}
