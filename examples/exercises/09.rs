//! Exercise 09: compare in pairs.
//!
//! Two programs were measured in turns: each round gives a time for the one and a time for the other. The machine was slow for
//! some rounds, and a few measurements went wrong altogether. How many times as long does the second one take?
//!
//! Take the quotient of each round, as both met the same machine there, and of these the median: the one in the middle, or of an
//! even number the mean of the two in the middle.
//!
//! Check it with `cargo test --test exercises -- --ignored exercise_09`.

/// How many times as long the second of each pair took; `None` without any round. No time is zero.
pub fn ratio(rounds: &[(f64, f64)]) -> Option<f64> {
    let (first, second) = rounds.iter().fold((0.0, 0.0), |sum, round| (sum.0 + round.0, sum.1 + round.1));
    Some(second / first) // todo: a quotient of means, in which the slowest round counts most
}
