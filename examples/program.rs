//! A Linux program, as it is, in a VM without a Linux: the library's `Program`.
//!
//! expect: echo says "Hello from ring 3\n" and ends with status 0
//! expect: it sees NAME=value, and may not write: ended with status 2
//! expect: /nonexistent: there is no such program
use matchstick::program::{Config, Ended, Failure, Program};

fn run(config: Config, words: &[&str]) -> Result<(String, Ended), Failure> {
    let words = words.iter().map(|word| word.as_bytes().to_vec()).collect();
    let mut output = Vec::new();
    let ended = Program::capture(config, words, &mut output)?;
    Ok((String::from_utf8_lossy(&output).into_owned(), ended))
}

fn main() -> Result<(), Failure> {
    if let (said, Ended::Status(status)) = run(Config::default(), &["echo", "Hello from ring 3"])? {
        println!("echo says {said:?} and ends with status {status}");
    }
    let config = Config { environment: vec![b"NAME=value".to_vec()], ..Config::default() };
    let script = "printf NAME=$NAME; exec 2>/dev/null; echo kept >/etc/nobody-may || exit 2";
    if let (said, Ended::Status(status)) = run(config, &["/bin/sh", "-c", script])? {
        println!("it sees {said}, and may not write: ended with status {status}");
    }
    if let Err(failure) = run(Config::default(), &["/nonexistent"]) {
        println!("/nonexistent: {failure}");
    }
    Ok(())
}
