//! Starts a command and says after how many nanoseconds a word first stands in its output: `stopwatch WORD COMMAND…`.
//!
//! For `tests/rig/field`, which compiles it with rustc alone. The command is killed then.

use std::io::{Read, Write};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

fn main() -> ExitCode {
    let mut args = std::env::args();
    let (Some(word), Some(program)) = (args.nth(1), args.next()) else { return ExitCode::from(2) };
    let started = Instant::now();
    let mut command = Command::new(&program);
    let child = command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => {
            eprintln!("{program}: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut output = child.stdout.take().expect("a pipe");
    let (mut seen, mut bytes) = (Vec::new(), [0; 4096]);
    let found = loop {
        match output.read(&mut bytes) {
            Ok(0) | Err(_) => break false,
            Ok(count) => seen.extend(&bytes[..count]),
        }
        if seen.windows(word.len()).any(|window| window == word.as_bytes()) {
            println!("{}", started.elapsed().as_nanos());
            break true;
        }
    };
    let _ = child.kill();
    let _ = child.wait();
    if !found {
        let _ = std::io::stderr().write_all(&seen);
    }
    ExitCode::from(u8::from(!found))
}
