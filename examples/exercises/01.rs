//! Exercise 01: say any word.
//!
//! The guest of chapter 1 says `hi`. Write machine code that says any word you are given, and then halts.
//!
//! It is loaded to 0x7c00 and entered there in real mode. What it writes to port 0x3f8 is what it says.
//!
//! Check it with `cargo test --test exercises -- --ignored exercise_01`.

/// The machine code of a guest that says `word`.
pub fn guest(word: &str) -> Vec<u8> {
    todo!("some bytes that a processor takes for instructions, and that say {word:?}")
}
